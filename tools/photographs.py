"""Prepare the photographs on which the shipped weights are trained and evaluated.

    python -m tools.photographs build/photographs

The photographs are from the scikit-image wheel and from two Debian packages, which are downloaded
with apt-get and unpacked without installation. docs/weights.md lists the authors and licenses.
"""

import subprocess
import sys
from pathlib import Path

import skimage
from PIL import Image

from mprnet_lit.data.sources import Photos

PACKAGES = ("lomiri-wallpapers-16.04", "mate-backgrounds")
# Not used in training at any size.
HELD_OUT = ("picosdeeuropa_by_Aitzol_Berasategi", "friends_by_Aitzol_Berasategi", "Dune", "Garden")
TRAINING = (
    "Bridge_by_Sander_Klootwijk",
    "Dragonfly_by_Bolly",
    "Picture_0B_by_freespace",
    "Picture_1A_by_freespace",
    "Wine_by_Jakkub_Mede",
    "aitzgorri_by_Aitzol_Berasategi",
    "free_by_Peter_Nerlich",
    "life_by_Aitzol_Berasategi",
    "seeding_by_Clements_Engelhardt",
    "sunset_by_Aitzol_Berasategi",
    "Blinds",
    "FreshFlower",
    "GreenMeadow",
    "LadyBird",
    "RainDrops",
    "TwoWings",
    "YellowFlower",
)


def fetch(folder: Path) -> dict[str, Path]:
    """Download and unpack the packages, and return the paths of their JPEG photographs by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not list(folder.glob(f"{package}_*.deb")):
            subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
        (archive,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, folder / "unpacked"], check=True)
    return {path.stem: path for path in sorted(folder.glob("unpacked/**/*.jpg"))}


def reduce(path: Path, longest: int) -> Image.Image:
    """Downscale a photograph to ``longest`` pixels, by at least 2 to remove JPEG artifacts."""
    photo = Image.open(path).convert("RGB")
    scale = min(0.5, longest / max(photo.size))
    width, height = (round(side * scale) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.BOX)


def prepare(folder: Path) -> None:
    """Write the PNG files of ``train`` and ``held_out`` in a folder."""
    photographs = fetch(folder / "packages")
    embedded = Path(skimage.__file__).parent / "data"
    train, held_out = folder / "train", folder / "held_out"
    for place in (train, held_out):
        place.mkdir(parents=True, exist_ok=True)
    for name in TRAINING:
        for longest in (1280, 640):
            reduce(photographs[name], longest).save(train / f"{name}_{longest}.png")
    for name in HELD_OUT:
        reduce(photographs[name], 640).save(held_out / f"{name}.png")
    for sample in Photos("train").samples("raise"):
        path = embedded / sample.target.name
        photo = Image.open(path).convert("RGB") if path.suffix == ".png" else reduce(path, 1280)
        photo.save(train / f"{sample.name}.png")
    for sample in Photos("val").samples("raise"):
        Image.open(sample.target).convert("RGB").save(held_out / f"{sample.name}.png")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
