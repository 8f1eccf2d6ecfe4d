"""Compare the shipped weights with classical methods on photographs not used in training.

python -m benchmarks.shipped build/photographs/held_out          (make quality; an hour)
python -m benchmarks.shipped build/photographs/held_out --ours   (new weights: minutes)
python -m benchmarks.shipped build/photographs/held_out --real FOLDER   (also the sets in FOLDER)

Writes docs/quality.json, the tables of docs/quality.md, the plot and the pictures. Each classical
method is scored with the strength that is best on these photographs.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import real
from benchmarks.classical import METHODS, Image, Known, Method
from benchmarks.report import machine, put_section
from numpy.typing import NDArray
from PIL import Image as Picture
from skimage.restoration import estimate_sigma

from mprnet_lit.data.degradations import CameraNoise, GaussianNoise, MotionBlur, RainStreaks
from mprnet_lit.data.degradations.motion import motion_kernel
from mprnet_lit.inference import Restorer
from mprnet_lit.metrics import psnr, ssim
from mprnet_lit.weights import SHIPPED

OURS = "MPRNet tiny, shipped"
PICTURED = 3
"""Number of photographs in each picture."""


@dataclass(frozen=True)
class Case:
    """One degradation.

    Attributes:
        title: title of the table.
        task: task of the shipped weights.
        methods: key of :data:`METHODS`.
        draws: number of random degradations of each photograph.
    """

    title: str
    task: str
    methods: str
    draws: int = 1


CASES = {
    "sigma15": Case("Gaussian noise, sigma 15", "denoise", "denoise"),
    "sigma25": Case("Gaussian noise, sigma 25", "denoise", "denoise"),
    "sigma50": Case("Gaussian noise, sigma 50", "denoise", "denoise"),
    "camera": Case("Camera noise", "denoise", "camera", 2),
    "blur": Case("Camera shake of 5 to 20 pixels", "deblur", "deblur", 4),
    "rain": Case("Rain in one to three layers", "derain", "derain", 4),
}


def degrade(key: str, photo: Image, rng: np.random.Generator) -> tuple[Image, Known]:
    """Degrade a photograph. All degradations except Gaussian noise are rounded to 8 bits."""
    image = photo.astype(np.float32)
    if key.startswith("sigma"):
        sigma = float(key.removeprefix("sigma"))
        return GaussianNoise(sigma)(image, rng).astype(float), Known(sigma / 255)
    if key == "camera":
        noisy = _to_file(CameraNoise()(image, rng))
        return noisy, Known(float(np.mean(estimate_sigma(noisy, channel_axis=-1))))
    if key == "blur":
        blur, state = MotionBlur(), rng.bit_generator.state
        kernel = motion_kernel(rng, rng.uniform(*blur.length), rng.uniform(*blur.shake))
        rng.bit_generator.state = state  # so that blur() draws the same kernel
        return _to_file(blur(image, rng)), Known(kernel=kernel)
    return _to_file(RainStreaks()(image, rng)), Known()


def examples(key: str, photos: dict[str, Image]) -> Iterator[tuple[Image, Image, Known]]:
    """Yield (target, degraded, known), identical in every run."""
    for number, photo in enumerate(photos.values()):
        for draw in range(CASES[key].draws):
            rng = np.random.default_rng([list(CASES).index(key), number, draw])
            yield photo, *degrade(key, photo, rng)


def measure(
    key: str, photos: dict[str, Image], earlier: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Score every method on one degradation and create the pictures.

    With an earlier record, only the shipped weights are scored, and the scores of the classical
    methods are copied. The best classical method then runs only on the photographs in the pictures.
    """
    case = CASES[key]
    cases = list(examples(key, photos))
    targets = [target for target, _, _ in cases]
    pictured = range(0, len(cases), case.draws)[:PICTURED]
    print(case.title, flush=True)
    degraded = _scored([image for _, image, _ in cases], targets)
    if earlier:
        rows, rival = earlier["rows"], earlier["rival"]
        if abs(rows["degraded"]["psnr"] - degraded["psnr"]) > 0.01:
            sys.exit("--ours: the scores in --output are from other photographs or degradations")
        run, strength = METHODS[case.methods][rival].run, rows[rival]["strength"]
        rivals = [run(cases[n][1], strength, cases[n][2]) for n in pictured]
    else:
        rows, images = {"degraded": degraded}, {}
        for name, method in METHODS[case.methods].items():
            images[name], rows[name] = _best(method, cases, targets)
            print(f"  {name}: {rows[name]}", flush=True)
        rival = max(images, key=lambda name: rows[name]["psnr"])
        rivals = [images[rival][n] for n in pictured]
    restorer = Restorer(case.task)
    ours = [restorer(image) for _, image, _ in cases]
    rows[OURS] = _scored(ours, targets)
    print(f"  {OURS}: {rows[OURS]}", flush=True)
    panels = [
        np.concatenate([_window(i) for i in (cases[n][1], best, ours[n], targets[n])], axis=1)
        for n, best in zip(pictured, rivals, strict=True)
    ]
    return {"title": case.title, "rows": rows, "rival": rival, "panels": panels}


def _best(
    method: Method, cases: list[tuple[Image, Image, Known]], targets: list[Image]
) -> tuple[list[Image], dict[str, float]]:
    """Return the images and scores of a method with its best strength."""
    best: tuple[list[Image], dict[str, float]] = [], {"psnr": -np.inf}
    for strength in method.strengths:
        images = [method.run(degraded, strength, known) for _, degraded, known in cases]
        scores = _scored(images, targets)
        if scores["psnr"] > best[1]["psnr"]:
            best = images, scores | {"strength": strength}
    return best


def _scored(images: list[Image], targets: list[Image]) -> dict[str, float]:
    """Return the mean scores of the images, clipped to [0, 1]."""
    pairs = [(_tensor(i.clip(0, 1)), _tensor(t)) for i, t in zip(images, targets, strict=True)]
    return {
        "psnr": round(float(np.mean([psnr(i, t).item() for i, t in pairs])), 3),
        "ssim": round(float(np.mean([ssim(i, t).item() for i, t in pairs])), 4),
    }


def _tensor(image: Image) -> torch.Tensor:
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]


def _to_file(image: NDArray[np.floating]) -> Image:
    return np.round(image.clip(0, 1).astype(float) * 255) / 255


def _window(image: Image, side: int = 240) -> Image:
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return image[top : top + side, left : left + side].clip(0, 1)


def markdown(case: dict[str, Any]) -> list[str]:
    """Return the table of a case."""
    rows = case["rows"]
    gain = {name: row["psnr"] - rows["degraded"]["psnr"] for name, row in rows.items()}
    return [
        f"**{case['title']}**",
        "",
        "| | PSNR | gain | SSIM |",
        "|---|---|---|---|",
        *(f"| {name} | {row['psnr']:.2f} dB | {gain[name]:+.2f} | {row['ssim']:.3f} |"
          for name, row in rows.items()),
    ]  # fmt: skip


def plot(record: dict[str, Any], path: Path) -> None:
    """Plot the PSNR gain of each method and case as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    cases = [record[key] for key in CASES if key in record]
    figure, axes = plt.subplots(2, 3, figsize=(14, 5.6))
    for axis, case in zip(axes.flat, cases, strict=False):
        names = [name for name in case["rows"] if name != "degraded"]
        gains = [case["rows"][n]["psnr"] - case["rows"]["degraded"]["psnr"] for n in names]
        colors = ["#2b6cb0" if name == OURS else "#999999" for name in names]
        axis.bar_label(axis.barh(names, gains, color=colors), fmt="%+.2f", padding=3, fontsize=8)
        axis.set_xlim(min(0, *gains) * 1.3, max(gains) * 1.2)
        axis.invert_yaxis()
        axis.set_title(case["title"], fontsize=9)
        axis.set_xlabel("dB over the degraded photographs", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photographs", type=Path, help="folder of clean photographs")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument(
        "--ours",
        action="store_true",
        help="score only the shipped weights, and keep the recorded scores of the other methods",
    )
    parser.add_argument(
        "--real", type=Path, metavar="FOLDER", help="folder of sets; see benchmarks/real.py"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/quality.json"))
    options = parser.parse_args()
    sets = real.measure_all(options.real, {t: t for t in SHIPPED}) if options.real else []
    photos = {
        path.stem: np.asarray(Picture.open(path).convert("RGB")) / 255
        for path in sorted(options.photographs.glob("*.png"))
    }
    record = json.loads(options.output.read_text()) if options.output.exists() else {}
    for key in options.only:
        record[key] = measure(key, photos, record.get(key) if options.ours else None)
        panels = record[key].pop("panels")
        whole = Picture.fromarray((np.concatenate(panels) * 255).round().astype(np.uint8))
        whole.save(options.output.with_name(f"quality_{key}.jpg"), quality=88)
        put_section(options.output.with_suffix(".md"), key, markdown(record[key]))
    record |= {"photographs": list(photos), "machine": machine(torch.device("cpu"))}
    options.output.write_text(json.dumps(record, indent=1) + "\n")
    plot(record, options.output.with_suffix(".png"))
    if options.real:
        real.update(options.output, sets)


if __name__ == "__main__":
    main()
