"""Commands and Python code of the documentation, run from top to bottom.

The commands run with few small images, one step and one device. Commands in ELSEWHERE start several
processes or a server, or export slowly: other tests run them, and these tests only compose their
configuration. For make, pip and the benchmarks, the tests only check targets, extras and options.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from mprnet_lit import weights
from mprnet_lit.cli.command_line import translate
from mprnet_lit.config.groups import CONFIG_DIR, modes
from tests.config.test_config import compose
from tests.conftest import PHOTOS, Cli, smallest_network
from tests.evaluation.test_test_sets import MAKERS, put
from tests.pages import INLINE, PAGES, ROOT, Step, new_steps, words

# Replacements for placeholders and for slow settings.
SMALLER = (
    (r"^weights=FILE$", "weights=runs/denoise"),
    (r"^weights=runs/\w+/TIME/.*$", "weights=runs/least"),
    (r"^output=FILE$", "output=copy.pth"),
    (r"^input=FOLDER$", "input=noisy"),
    (r"^target=FOLDER$", "evaluate.target=clean"),
    (r"^input=PHOTO$", "input=photo.jpg"),
    (r"^benchmark=NAME$", "benchmark=gopro"),
    (r"^benchmark.root=FOLDER$", "benchmark.root=data/GOPRO_Large"),
    (r"=/data/", "=data/"),
    (r"^model=(large|base|small)$", "model=tiny"),
    (r"^(model=tiny),small$", r"\1"),
    (r"^module.compile=true$", "module.compile=false"),  # see tests/models/test_mprnet.py
    (r"^trainer=ddp$", "trainer=cpu"),
    (r"^trainer.devices=4$", "trainer.devices=1"),
    (r"^(trainer.accumulate_grad_batches)=8$", r"\1=2"),
    (r"^trainer.max_epochs=\d+$", "trainer.max_epochs=1"),
    (r"^(data.patch_size)=\d+$", r"\1=32"),
)
SMALLEST = {
    "train": ("trainer.max_steps=1", "trainer.limit_val_batches=1", "data.num_workers=0",
              "trainer.check_val_every_n_epoch=1"),
    "profile": ("profile.largest_batch=1", "profile.steps=1"),
}  # fmt: skip
PYTHONS = {"weights_only"}
"""Arguments of Python functions, which are not configuration keys."""
ELSEWHERE = (
    ("trainer=torchrun", "tests/training/test_peers.py"),
    ("trainer=slurm", "tests/training/test_peers.py"),
    ("launch=", "tests/sweeps/test_launchers.py"),
    ("logger=all", "tests/training/test_loggers.py"),
    ("docker ", "tests/test_containers.py"),
    ("mode=serve", "tests/cli/test_serve.py"),
    ("api/restore", "tests/serving/test_api.py"),
    ("export.int8=true", "tests/cli/test_export.py"),
    (".pt2", "tests/cli/test_export.py"),
    ("hf://", "tests/hub/test_download.py"),
    ("https://example.com", "tests/hub/test_download.py"),
    ("torch.hub.load", "tests/hub/test_upload.py"),
    ("faded", "tests/test_contributing.py"),
    ("Faded", "tests/test_contributing.py"),
)


@pytest.fixture(scope="module")
def page_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with all files that the pages mention."""
    folder = tmp_path_factory.mktemp("workshop")
    coffee = Image.open(PHOTOS / "coffee.png").convert("RGB")
    crops = [coffee.crop((n, 100, n + 80, 164)) for n in (0, 100, 200, 300)]
    crops[0].save(folder / "photo.jpg")
    for number, crop in enumerate(crops):
        for name in ("clean", "noisy", "blurred", "sharp", "rainy", "dry", "photos", "my_photos"):
            (folder / name).mkdir(exist_ok=True)
            crop.save(folder / name / f"{number}.png")
        for kind in ("noisy", "clean"):
            (folder / "shots").mkdir(exist_ok=True)
            crop.save(folder / "shots" / f"{number}_{kind}.png")
        for split in ("train", "train/sharp", "held_out"):
            (folder / "build" / "photographs" / split).mkdir(parents=True, exist_ok=True)
            crop.save(folder / "build" / "photographs" / split / f"{number}.png")
    crops[0].save(folder / "build" / "photographs" / "held_out" / "Garden.png")
    data = folder / "data"
    for name in ("GOPRO_Large", "GoPro"):
        MAKERS["gopro"](data / name)
    MAKERS["sidd"](data / "SIDD")
    pair = "Data/0001_001/0001_{0}_SRGB_010.PNG".format
    put(data / "SIDD_Medium_Srgb", *[(pair(f"NOISY_{n}"), pair(f"GT_{n}")) for n in range(2)])
    for name in ("Rain13K", "Rain100L", "rain/Rain100L", "rain/Rain100H", "rain/Test100",
                 "rain/Test1200", "rain/Test2800"):  # fmt: skip
        MAKERS["rain100l"](data / name)
    least = smallest_network()
    weights.save(least, folder / "runs" / "least" / "checkpoints" / "best.ckpt")
    for task, name in (("deblur", "deblurring"), ("denoise", "denoising"), ("derain", "deraining")):
        weights.save(least, folder / f"model_{name}.pth")
        weights.save(least, folder / "runs" / task / "one" / "checkpoints" / "best.ckpt",
                     weights.Info(task=task, crop=32))  # fmt: skip
    return folder


@pytest.mark.parametrize("page", new_steps())
def test_page_runs_from_top_to_bottom(
    page: Any,
    page_files: Path,
    tmp_path: Path,
    cli: Cli,
    convert_once: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(page_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names = {
        "photo": np.asarray(Image.open("photo.jpg")),
        "tensor": torch.rand(1, 3, 24, 32),
        "index": torch.arange(2),
        "restored": torch.rand(2, 3, 24, 32),
        "target": torch.zeros(2, 3, 24, 32, dtype=torch.uint8),
    }
    for step in new_steps()[page]:
        print(step.text)  # pytest shows the failing step last
        if any(sign in step.text for sign, _ in ELSEWHERE):
            read(step)
        elif step.kind == "file":
            Path(step.file).parent.mkdir(parents=True, exist_ok=True)
            Path(step.file).write_text(step.text)
        elif step.kind == "python":
            exec(step.text, names)  # the code of the page
        else:
            run(words(step.text.partition("<<'EOF'")[0]), step.text, cli)


def run(command: list[str], text: str, cli: Cli) -> None:
    """Run a command line, or check that its program or target exists."""
    match command:
        case ["python", "-m", "mprnet_lit", *arguments] | ["mprnet_lit", *arguments]:
            cli(*shrink_command(arguments))
        case ["python", "-"]:
            exec(text.partition("\n")[2].removesuffix("EOF"), {})
        case ["python", "-m", module, *options]:
            place = ROOT / module.replace(".", "/")
            source = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
            for option in options:
                assert not option.startswith("--") or f'"{option}"' in source.read_text(), option
        case ["make", target, *variables]:
            done = subprocess.run(
                ["make", "-n", target, *variables], cwd=ROOT, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
        case ["pip", "install", what]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            for extra in re.findall(r"\[(\w+)\]", what):
                assert extra in extras["optional-dependencies"], extra
        case ["tensorboard", "--logdir", "runs"]:
            assert (Path(sys.executable).parent / "tensorboard").exists()
        case [".ci/run"]:
            assert (ROOT / ".ci" / "run").stat().st_mode & 0o100
        case _:
            raise AssertionError(f"no test knows how to run {text}")


def shrink_command(arguments: list[str]) -> list[str]:
    for pattern, replacement in SMALLER:
        arguments = [re.sub(pattern, replacement, argument) for argument in arguments]
    translated = translate(arguments)
    modes = [a.removeprefix("mode=") for a in translated if a.startswith("mode=")]
    mode = modes[0] if modes else "train"
    if mode == "export":  # the same network on all pages, converted once
        arguments = [re.sub(r"^weights=.*", "weights=runs/least", a) for a in arguments]
    trials = ["sweep.trials=1"] if "sweep=optuna" in arguments else []
    return [*arguments, *trials, *SMALLEST.get(mode, ())]


def read(step: Step) -> None:
    """Compose the configuration of a command that another test runs."""
    command = words(step.text) if step.kind == "sh" else []
    if "mprnet_lit" not in command or any(sign in step.text for sign in ("faded", "docker ")):
        return
    arguments = [a for a in command[command.index("mprnet_lit") + 1 :] if "=" in a]
    sweeps = "-m" in command or "sweep=optuna" in arguments
    compose(*(re.sub(r"=([^,\[{(]+),.*", r"=\1", a) if sweeps else a for a in arguments))


@pytest.mark.parametrize(("sign", "file"), ELSEWHERE)
def test_commands_tested_elsewhere_are_tested(sign: str, file: str) -> None:
    assert sign in (ROOT / file).read_text()


def test_every_key_in_the_documentation_exists() -> None:
    options: list[tuple[str, ...]] = [(f"mode={mode}",) for mode in modes()]
    options += [("data=paired",), ("data=clean", "callbacks=ema", "logger=all", "loss=l1")]
    configs = [compose(*option) for option in options]
    launchers = (("launch=joblib", "sweep=optuna"), ("launch=ray",), ("launch=slurm",))
    configs += [compose(*launcher, return_hydra_config=True) for launcher in launchers]
    groups = {path.name for path in CONFIG_DIR.iterdir()}
    for page in PAGES:
        for code in INLINE.findall((ROOT / page).read_text()):
            for key in re.findall(r"(?:^|\s)\+{0,2}([a-z_]+(?:\.[a-z_]+)*)=[^=\s]", code):
                known = key in groups | PYTHONS or any(has_key(config, key) for config in configs)
                assert known, f"{page}: {key} of `{code}`"


def has_key(config: Any, key: str) -> bool:
    for part in key.split("."):
        if not OmegaConf.is_dict(config) or part not in config.keys():  # noqa: SIM118, may be ???
            return False
        config = None if OmegaConf.is_missing(config, part) else config[part]
    return True


def test_every_link_has_a_target_in_the_repository() -> None:
    pages = (
        path for part in (".", "docs", "tests/fixtures") for path in (ROOT / part).glob("*.md")
    )
    for page in (*pages, *(ROOT / "docs" / "tutorials").glob("*.md")):
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not re.match(r"https?:", link):
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_source_or_test_that_a_page_names_exists() -> None:
    for page in PAGES:
        for code in INLINE.findall((ROOT / page).read_text()):
            for path in re.findall(r"^(?:src|tests|benchmarks|fuzz|tools)/[\w./]*", code):
                assert (ROOT / path).exists(), f"{page}: {path}"
