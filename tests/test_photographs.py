"""Preparation of the photographs for the shipped weights."""

import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from tools import photographs

from mprnet_lit.data.sources import CleanFolder, Photos

DOCUMENT = Path(__file__).parents[1] / "docs" / "weights.md"


def listed(*headings: str) -> list[str]:
    """Return the photographs in the tables of docs/weights.md with these headings."""
    rows = []
    for heading in headings:
        table = DOCUMENT.read_text().partition(f"| {heading} | author | license |\n")[2]
        rows += table.partition("\n\n")[0].splitlines()[1:]
    names = [name for row in rows for name in row.split("|")[1].strip().split(", ")]
    return sorted(name for name in names if name not in ("left and right", "motorcycle"))


@pytest.mark.parametrize(
    ("folders", "split", "headings"),
    [
        (("train/sharp", "train/soft"), "train", ("training", "more for training")),
        (("held_out",), "val", ("held out",)),
        (("test",), None, ("test",)),
    ],
)
def test_documentation_lists_the_author_and_license_of_each_photograph(
    folders: tuple[str, ...], split: str | None, headings: tuple[str, ...]
) -> None:
    names = [name for folder in folders for name in photographs.PHOTOGRAPHS[folder]]
    if split:
        names += [sample.name for sample in Photos(split).samples("raise")]  # type: ignore[arg-type]
    short = [re.sub("_by_.*", "", name) for name in names]
    assert listed(*headings) == sorted(n for n in short if not n.startswith("motorcycle"))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder for which apt-get, dpkg-deb and scikit-image provide small images."""

    def run(command: list[str | Path], cwd: Path | None = None, check: bool = False) -> None:
        if command[0] == "apt-get":
            assert cwd is not None
            (cwd / f"{command[2]}_1_all.deb").touch()
            return
        share = Path(command[-1]) / "usr" / "share"
        for name, size in (
            ("wallpapers/Dune/contents/images/96x40.jpg", (96, 40)),
            ("wallpapers/Dune/contents/screenshot.jpg", (8, 8)),
            ("lxqt/wallpapers/Tree.png", (96, 40)),
            ("backgrounds/mate/nature/Garden_by_Ann.png", (1920, 960)),
        ):
            (share / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, "blue").save(share / name)

    for name in ("train/eye.jpg", "train/space.png", "val/cup.png"):
        (tmp_path / "embedded" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24), "green").save(tmp_path / "embedded" / name)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(photographs, "Photos", lambda s: CleanFolder(tmp_path / "embedded" / s))
    return tmp_path


def test_photographs_are_reduced_and_sorted_into_folders(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each training photograph has two sizes, at most half of the original size."""
    chosen = {"train/sharp": ("Garden_by_Ann",), "held_out": ("Tree",), "test": ("Dune",)}
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", chosen)
    photographs.prepare(packages)
    sizes = {}
    for place in ("train", "held_out", "test"):
        for path in (packages / place).glob("**/*.png"):
            with Image.open(path) as image:
                sizes[path.relative_to(packages).as_posix()] = (image.mode, image.size)
    assert sizes == {
        "train/sharp/Garden_by_Ann_1280.png": ("RGB", (960, 480)),
        "train/sharp/Garden_by_Ann_640.png": ("RGB", (640, 320)),
        "train/sharp/eye.png": ("RGB", (16, 12)),
        "train/sharp/space.png": ("RGB", (32, 24)),
        "held_out/Tree.png": ("RGB", (48, 20)),
        "held_out/cup.png": ("RGB", (32, 24)),
        "test/Dune.png": ("RGB", (48, 20)),
    }


def test_missing_photograph_is_reported(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", {"test": ("Dune", "Moon")})
    with pytest.raises(SystemExit, match="no photograph Moon"):
        photographs.prepare(packages)
