"""Prepare photographs for the training and the evaluation of the shipped weights.

    python -m tools.photographs build/photographs

The photographs are from the scikit-image wheel and from packages of Debian 12, which are downloaded
with apt-get and unpacked without installation. docs/weights.md lists the authors and licenses.
"""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from mprnet_lit.data.sources import Photos

PACKAGES = (
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
    "lxqt-themes",
    "mate-backgrounds",
    "plasma-workspace-wallpapers",
)
# Folders of the images in usr/share.
FOLDERS = ("backgrounds/**", "lxqt/wallpapers", "wallpapers/*/contents/images")
# Photographs of the packages by folder. Only those in train are used in training, at any size.
PHOTOGRAPHS = {
    "train/sharp": (
        "Bridge_by_Sander_Klootwijk",
        "Picture_0B_by_freespace",
        "Picture_1A_by_freespace",
        "Wine_by_Jakkub_Mede",
        "aitzgorri_by_Aitzol_Berasategi",
        "free_by_Peter_Nerlich",
        "life_by_Aitzol_Berasategi",
        "sunset_by_Aitzol_Berasategi",
        "Valendas",
        "beam",
        "ColdRipple",
        "ColorfulCups",
        "EveningGlow",
        "OneStandsOut",
        "summer_1am",
    ),
    # Large parts are out of focus or without edges: less suitable as targets of deblurring.
    "train/soft": (
        "Dragonfly_by_Bolly",
        "seeding_by_Clements_Engelhardt",
        "Blinds",
        "FreshFlower",
        "GreenMeadow",
        "LadyBird",
        "RainDrops",
        "TwoWings",
        "YellowFlower",
        "appleflower",
        "cloud",
        "drop",
        "flowers",
        "DarkestHour",
        "FallenLeaf",
    ),
    # Monitored during training; the photographs of docs/quality.md.
    "held_out": (
        "picosdeeuropa_by_Aitzol_Berasategi",
        "friends_by_Aitzol_Berasategi",
        "Dune",
        "Garden",
    ),
    # Neither used in training nor for the selection of any setting.
    "test": (
        "Kleiber_by_Lukas_Baubkus",
        "after-the-rain",
        "butterfly",
        "Grey",
        "Kite",
        "Path",
    ),
}


def fetch(folder: Path) -> dict[str, Path]:
    """Download and unpack the packages, and return the paths of their images by name.

    The images of Plasma have the name of their folder; their own names are sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if not list(folder.glob(f"{package}_*.deb")):
            subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
        (archive,) = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, folder / "unpacked"], check=True)
    paths = [
        path
        for place in FOLDERS
        for path in sorted(folder.glob(f"unpacked/usr/share/{place}/*"))
        if path.suffix in (".jpg", ".png") and not path.is_symlink()
    ]
    return {path.parents[2].name if "contents" in path.parts else path.stem: path for path in paths}


def reduce(path: Path, longest: int) -> Image.Image:
    """Downscale a photograph to ``longest`` pixels, by at least 2 to remove JPEG artifacts."""
    photo = Image.open(path).convert("RGB")
    scale = min(0.5, longest / max(photo.size))
    width, height = (round(side * scale) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.BOX)


def prepare(folder: Path) -> None:
    """Write the PNG files of ``train/sharp``, ``train/soft``, ``held_out`` and ``test``."""
    photographs = fetch(folder / "packages")
    if missing := [n for names in PHOTOGRAPHS.values() for n in names if n not in photographs]:
        sys.exit(f"no photograph {', '.join(missing)}: the packages must be those of Debian 12")
    for place, names in PHOTOGRAPHS.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        for name in names:
            if not place.startswith("train"):
                reduce(photographs[name], 640).save(folder / place / f"{name}.png")
                continue
            for longest in (1280, 640):
                reduce(photographs[name], longest).save(folder / place / f"{name}_{longest}.png")
    for sample in Photos("train").samples("raise"):
        path = sample.target
        photo = Image.open(path).convert("RGB") if path.suffix == ".png" else reduce(path, 1280)
        photo.save(folder / "train" / "sharp" / f"{sample.name}.png")
    for sample in Photos("val").samples("raise"):
        Image.open(sample.target).convert("RGB").save(folder / "held_out" / f"{sample.name}.png")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
