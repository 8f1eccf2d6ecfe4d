"""Measure weights on folders of published or real images.

python -m benchmarks.real FOLDER                          the shipped weights
python -m benchmarks.real FOLDER --weights derain=FILE    other weights, on the sets of their task
python -m benchmarks.real FOLDER --only gopro kodak24 --output real.json

Each subfolder of FOLDER is a set. A set with the folders ``input`` and ``target`` contains pairs.
Its name begins with its task (``derain_mine``) or with the name of a published set
(:data:`TASKS`). A set with images only contains clean photographs. They are restored as they are by
the weights for rain and blur, which should not change them, and by the weights for noise after the
addition of Gaussian noise of sigma 25, which is not clipped. The evaluation is that of
``mode=evaluate``, in RGB at the bit depth of the targets.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.report import put_section
from lightning import Trainer
from torch import Tensor

from mprnet_lit.data.crops import to_tensor
from mprnet_lit.data.degradations import GaussianNoise
from mprnet_lit.data.sources import CleanFolder, PairedFolders
from mprnet_lit.evaluation.evaluator import Evaluation, TestSet
from mprnet_lit.evaluation.test_sets import ImageFiles, find_image_files
from mprnet_lit.inference import Restorer
from mprnet_lit.metrics import mean_scores
from mprnet_lit.metrics.protocols import RgbProtocol
from mprnet_lit.utils.console import silence_lightning
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.hardware import free_bytes
from mprnet_lit.weights import SHIPPED

TASKS = {
    "deblur": ("deblur", "gopro", "hide", "realblur"),
    "denoise": ("denoise", "sidd", "dnd", "cc15", "nam", "polyu"),
    "derain": ("derain", "rain", "sirr", "test100", "test1200", "test2800"),
}
"""Beginnings of the names of the sets of each task, in lower case."""
SIGMA = 25
"""Standard deviation of the noise that is added to clean photographs, in 8-bit levels."""
CLEAN = "derain", "deblur"
"""Tasks whose weights restore clean photographs without a degradation."""
_MEMORY_SHARE = 0.9
"""Fraction of the free memory for an image, as in mode=evaluate."""


@dataclass(frozen=True)
class Case:
    """One set restored with the weights of one task.

    Attributes:
        title: name of the set, and the degradation if it is not that of the set.
        task: task of the weights.
        images: image pairs.
        sigma: standard deviation of the added noise in 8-bit levels.
        clean: whether the degraded images are the targets.
    """

    title: str
    task: str
    images: Sequence[ImageFiles]
    sigma: float = 0
    clean: bool = False


class _NoisyEvaluation(Evaluation):
    """Evaluation that adds the same Gaussian noise in every run."""

    sigma = 0.0

    def test_step(self, batch: tuple[int, Tensor, Tensor], number: int) -> None:
        """Add the noise to one image, then restore and score the image."""
        index, clean, target = batch
        image = clean[0].permute(1, 2, 0).numpy()
        noisy = GaussianNoise(self.sigma)(image, np.random.default_rng(0))
        super().test_step((index, to_tensor(noisy)[None], target), number)


def find_cases(folder: Path) -> Iterator[Case]:
    """Yield the cases of the subfolders of a folder.

    Raises:
        UserError: the folder does not exist, a set has neither pairs nor images, or the name of a
            set with pairs does not begin with its task.
    """
    if not folder.is_dir():
        raise UserError(f"the folder {folder} does not exist: check the path")
    for path in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if (path / "input").is_dir():
            pairs = find_image_files(PairedFolders(path / "input", path / "target"), "raise")
            yield Case(path.name, _task(path), [p for p in pairs if isinstance(p, ImageFiles)])
        else:
            samples = CleanFolder(path).samples("raise")
            images = [ImageFiles(s.name, s.target, s.target) for s in samples]
            for task in CLEAN:
                yield Case(f"{path.name}, clean", task, images, clean=True)
            yield Case(f"{path.name}, sigma {SIGMA}", "denoise", images, sigma=SIGMA)


def _task(path: Path) -> str:
    for task, names in TASKS.items():
        if path.name.lower().startswith(names):
            return task
    raise UserError(
        f"the name of {path} does not begin with a task or a known set: rename it to "
        f"derain_{path.name}, deblur_{path.name} or denoise_{path.name}"
    )


def measure(case: Case, weights: str) -> dict[str, Any]:
    """Return the mean scores of the degraded and the restored images, and the worst PSNR."""
    restorer = Restorer(weights, tile="auto")
    restorer.memory_gb = _MEMORY_SHARE * free_bytes(restorer.device) / 1e9
    evaluation = _NoisyEvaluation if case.sigma else Evaluation
    module = evaluation(restorer, [TestSet(case.title, case.images)], [RgbProtocol])
    if isinstance(module, _NoisyEvaluation):
        module.sigma = case.sigma
    trainer = Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.test(module, verbose=False)
    means = mean_scores(row.scores for row in module.rows)
    worst = min(module.rows, key=lambda row: row.scores["psnr"])
    lowered = sum(row.scores["psnr"] < row.scores["psnr_degraded"] for row in module.rows)
    return {
        "title": case.title,
        "task": case.task,
        "images": len(module.rows),
        "in_tiles": sum(row.tiles > 1 for row in module.rows),
        "clean": case.clean,
        "degraded": {k: round(means[f"{k}_degraded"], 4) for k in ("psnr", "ssim")},
        "restored": {k: round(means[k], 4) for k in ("psnr", "ssim")},
        "worst": {"image": worst.image.name, "psnr": round(worst.scores["psnr"], 4)},
        "lowered": lowered,
    }


def measure_all(
    folder: Path, weights: Mapping[str, str], only: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Measure all sets in a folder whose task has weights.

    Args:
        folder: folder of the sets.
        weights: weights files, or names of shipped weights, by task.
        only: beginnings of the titles of the cases to measure; all cases if empty.

    Raises:
        UserError: a set or a weights file can't be read, or there is no set to measure.
    """
    silence_lightning()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    cases = [
        case
        for case in find_cases(folder)
        if case.task in weights and (not only or case.title.startswith(tuple(only)))
    ]
    if not cases:
        raise UserError(f"{folder} has no set for {', '.join(weights)}: check the path")
    records = []
    for case in cases:
        records.append(measure(case, weights[case.task]))
        print(_row(records[-1]), flush=True)
    return records


def markdown(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of all cases."""
    return [
        "| set | weights | images | degraded | restored | gain | lowest PSNR | images lowered |",
        "|---|---|---|---|---|---|---|---|",
        *map(_row, records),
    ]


def _row(record: Mapping[str, Any]) -> str:
    before, after = record["degraded"], record["restored"]
    degraded = "the target" if record["clean"] else f"{before['psnr']:.2f} / {before['ssim']:.3f}"
    gain = "" if record["clean"] else f"{after['psnr'] - before['psnr']:+.2f}"
    return (
        f"| {record['title']} | {record['task']} | {record['images']} | {degraded} | "
        f"{after['psnr']:.2f} / {after['ssim']:.3f} | {gain} | {record['worst']['psnr']:.2f} | "
        f"{record['lowered']} |"
    )


def update(output: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write the records into a JSON file, and the table into the document beside it."""
    whole = json.loads(output.read_text()) if output.exists() else {}
    whole["real"] = records
    output.write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n")
    put_section(output.with_suffix(".md"), "real", markdown(records))


def _pair(text: str) -> tuple[str, str]:
    task, found, file = text.partition("=")
    if not found or task not in TASKS:
        raise argparse.ArgumentTypeError(f"{text} must be TASK=FILE with {', '.join(TASKS)}")
    return task, file


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of the sets")
    parser.add_argument("--weights", nargs="+", type=_pair, metavar="TASK=FILE")
    parser.add_argument("--only", nargs="+", default=[], metavar="SET")
    parser.add_argument("--output", type=Path, help="JSON file for the records")
    options = parser.parse_args()
    weights = dict(options.weights or ((task, task) for task in SHIPPED))
    try:
        records = measure_all(options.folder, weights, options.only)
    except UserError as error:
        sys.exit(str(error))
    if options.output:
        update(options.output, records)


if __name__ == "__main__":
    main()
