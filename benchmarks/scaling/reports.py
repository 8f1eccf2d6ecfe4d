"""Time and size of ``mode=report`` for the runs of a random search."""

import json
import random
import tempfile
from pathlib import Path

from benchmarks.scaling.processes import Used, counted, in_new_process
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from mprnet_lit.config.groups import CONFIG_DIR
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.reports.runs_report import write_runs_report
from mprnet_lit.runs.files import flatten

TITLE = "`mode=report`, by number of runs whose networks all differ"
SIZES, BEFORE = (50, 500, 5_000), (50, 500)
_EPOCHS, _LOGGED = 50, 4
"""Number of epochs of a run, and of logged training steps per epoch."""
_METRICS = [
    f"{name}{stage}"
    for name in ("psnr", "ssim")
    for stage in ("", "_degraded", "_stage1", "_stage2", "_stage3")
]


def measure(count: int) -> dict[str, float]:
    """Report runs whose summaries have the number of parameters, in a new process."""
    with tempfile.TemporaryDirectory() as name:
        folder, page = Path(name) / "runs", Path(name) / "report.html"
        make_runs(folder, count)
        used = in_new_process(_report, folder, page)
        size = page.stat().st_size
    return {"s": used.seconds, "page, MB": size / 1e6, "memory, MB": used.growth / 1e6}


def make_runs(folder: Path, count: int, *, with_parameters: bool = True) -> None:
    """Write the folders of complete runs whose networks all differ.

    Args:
        folder: directory of the runs.
        count: number of runs.
        with_parameters: whether ``summary.json`` has the number of parameters of the network.
    """
    register_resolvers()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("train", ["task=denoise", "paths.run=/runs/NAME", "logger=csv"])
    template = OmegaConf.to_yaml(config, resolve=True)
    leaves = flatten(OmegaConf.to_container(config, resolve=True))
    environment = {
        "command": "python -m mprnet_lit task=denoise",
        "packages": dict.fromkeys(("torch", "lightning", "hydra-core", "numpy"), "1.2.3"),
        "machine": {"system": "Linux", "cpu_cores": 2, "memory_gb": 25.3, "gpus": []},
    }
    picture = Image.effect_noise((384, 128), 60).convert("RGB")
    rng = random.Random(0)
    for number in range(count):
        run = folder / f"{number:05d}"
        for name in (".hydra", "csv/version_0", "panels"):
            (run / name).mkdir(parents=True)
        lr, width = 10 ** rng.uniform(-5, -2), 16 + 8 * (number % 10)
        cabs, step = 1 + number // 10 % 12, 4 + number // 120
        values = {
            "optimizer.lr": f"{lr:.6g}",
            "model.width": width,
            "model.cabs_per_orb": cabs,
            "model.unet_step": step,
            "seed": number,
        }
        text = template.replace("/runs/NAME", str(run))
        for key, value in values.items():
            name = key.rpartition(".")[2]
            text = text.replace(f"{name}: {leaves[key]}\n", f"{name}: {value}\n")
        psnr = 30 - abs(3 + lr**0.1) + 0.02 * width + rng.random()
        (run / "run.json").write_text(json.dumps({"format": 2, "order": number}))
        (run / "config.yaml").write_text(text)
        (run / ".hydra" / "overrides.yaml").write_text(
            "".join(f"- {key}={value}\n" for key, value in values.items())
        )
        (run / "environment.json").write_text(json.dumps(environment))
        (run / "csv/version_0/metrics.csv").write_text(_metrics(psnr, rng))
        summary = {"psnr": psnr, "ssim": 0.9, "epoch": _EPOCHS, "step": 100 * _EPOCHS}
        if with_parameters:
            summary["parameters"] = 1000 * width * cabs
        (run / "summary.json").write_text(json.dumps(summary))
        picture.save(run / "panels" / f"epoch_{_EPOCHS:04d}.png")


def _metrics(psnr: float, rng: random.Random) -> str:
    """Return the CSV of a run: rows of training steps, and a row of metrics per epoch."""
    lines = [",".join(("epoch", "step", "train/loss", "train/lr", *(f"val/{m}" for m in _METRICS)))]
    for epoch in range(_EPOCHS):
        for k in range(_LOGGED):
            loss = 0.1 / (1 + epoch) * (1 + 0.1 * rng.random())
            lines.append(f"{epoch},{100 * epoch + 25 * k},{loss!r},0.0002{',' * len(_METRICS)}")
        values = (psnr - 5 / (1 + epoch) + 0.3 * rng.random() for _ in _METRICS)
        lines.append(f"{epoch},{100 * epoch + 99},,,{','.join(map(repr, values))}")
    return "\n".join(lines) + "\n"


def _report(folder: Path, page: Path) -> Used:
    with counted() as used:
        write_runs_report(folder, page)
    return used
