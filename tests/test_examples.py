"""The example scripts run and improve the images that they work on."""

import csv
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from PIL import Image

from mprnet_lit import Restorer

EXAMPLES = Path(__file__).parents[1] / "examples"


def psnr(image: Any, target: Any) -> float:
    image, target = (np.asarray(x, dtype=np.float64) / 255 for x in (image, target))
    return float(-10 * np.log10(np.mean((image - target) ** 2)))


@pytest.fixture
def example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a script with its arguments in an empty directory and return its output."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def written() -> set[Any]:
    return {path.as_posix() for path in Path().rglob("*") if path.is_file()}


def test_restore_photo_removes_noise(example: Callable[..., str]) -> None:
    example("restore_photo.py")
    assert written() == {"noisy.png", "restored.png"}
    noisy, restored = (Image.open(name) for name in ("noisy.png", "restored.png"))
    clean = skimage.data.chelsea()
    assert psnr(restored, clean) > psnr(noisy, clean) + 10


def test_restore_photo_takes_a_photo(example: Callable[..., str]) -> None:
    Image.fromarray(skimage.data.coffee()[:40, :48]).save("photo.jpg")
    example("restore_photo.py", "photo.jpg")
    assert written() == {"photo.jpg", "restored.png"}
    assert Image.open("restored.png").size == (48, 40)


@pytest.mark.parametrize("own_pairs", [False, True])
def test_train_on_own_pairs_learns_and_saves_weights(
    example: Callable[..., str], own_pairs: bool
) -> None:
    arguments: tuple[str, ...] = ()
    if own_pairs:
        arguments = ("shots", "clean")
        rng = np.random.default_rng(1)
        for name in ("astronaut", "coffee"):
            photo = getattr(skimage.data, name)()[200:328, 200:328]
            noisy = np.clip(photo + rng.normal(0, 25, photo.shape), 0, 255)
            for directory, image in zip(arguments, (noisy, photo), strict=True):
                Path(directory).mkdir(exist_ok=True)
                Image.fromarray(image.astype(np.uint8)).save(f"{directory}/{name}.png")
    output = example("train_on_own_pairs.py", *arguments)
    degraded, restored = psnr_from_mse(output, "degraded", "restored")
    assert restored > degraded + 0.3
    assert "trained.safetensors" in written()
    check_weights("trained.safetensors")


def test_finetune_shipped_improves_the_shipped_weights(example: Callable[..., str]) -> None:
    output = example("finetune_shipped.py")
    degraded, shipped, finetuned = psnr_from_mse(output, "degraded", "shipped", "fine-tuned")
    assert finetuned > shipped + 1 and shipped > degraded
    assert written() == {"finetuned.safetensors"}
    check_weights("finetuned.safetensors")


def test_custom_degradation_is_removed(example: Callable[..., str]) -> None:
    example("custom_degradation.py")
    assert written() == {"banding.png"}
    row = np.asarray(Image.open("banding.png"))
    clean, degraded, restored = np.split(row, 3, axis=1)
    assert psnr(restored, clean) > psnr(degraded, clean) + 3


def test_evaluate_and_compare_writes_the_printed_scores(example: Callable[..., str]) -> None:
    output = example("evaluate_and_compare.py")
    with Path("scores.csv").open() as file:
        scores = {row["method"]: row for row in csv.DictReader(file)}
    assert list(scores) == ["degraded", "plain", "TLC", "self-ensemble"]
    for method, row in scores.items():
        assert f"| {method} | {float(row['psnr']):.2f} dB | {float(row['ssim']):.4f} |" in output
    level = {method: float(row["psnr"]) for method, row in scores.items()}
    assert level["plain"] > level["degraded"] + 10
    assert level["self-ensemble"] > level["plain"]
    assert abs(level["TLC"] - level["plain"]) < 0.5


def test_readme_lists_every_example() -> None:
    text = (EXAMPLES / "README.md").read_text()
    assert sorted(set(re.findall(r"\]\((\w+\.py)\)", text))) == sorted(
        path.name for path in EXAMPLES.glob("*.py")
    )


def psnr_from_mse(output: Any, *names: Any) -> list[float]:
    """Return the last PSNR in the output for each name."""
    return [float(re.findall(rf"{name} ([\d.]+) dB", output)[-1]) for name in names]


def check_weights(path: str) -> None:
    """Check that the file holds a network that restores an image of any size."""
    image = np.zeros((17, 19, 3), np.uint8)
    assert Restorer(path, device="cpu")(image).shape == image.shape
