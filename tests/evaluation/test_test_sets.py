"""Tiny test sets in all published layouts: discovery of the images and error messages."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import yaml
from skimage import data

from mprnet_lit.config.groups import CONFIG_DIR
from mprnet_lit.evaluation.dnd import find_dnd_images, write_submission
from mprnet_lit.evaluation.test_sets import find_test_images, read_mat
from mprnet_lit.images.reading import write_png
from mprnet_lit.utils.errors import UserError

PHOTO = data.astronaut()


def pair(number: int, height: int = 48, width: int = 64) -> tuple[Any, Any]:
    """Return a noisy and a clean crop of the photograph."""
    clean = PHOTO[16 * number : 16 * number + height, 100 : 100 + width]
    noise = np.random.default_rng(number).normal(0, 12, clean.shape)
    return np.clip(clean + noise, 0, 255).astype(np.uint8), clean


def put(root: Path, *names: Any) -> None:
    """Write one image pair per pair of file names (degraded, target)."""
    for number, (degraded, target) in enumerate(names):
        for name, image in zip((degraded, target), pair(number), strict=True):
            write_png(root / name, image)


def make_gopro(root: Path) -> None:
    put(
        root,
        ("test/GOPR0384_11_00/blur/000001.png", "test/GOPR0384_11_00/sharp/000001.png"),
        ("test/GOPR0384_11_05/blur/000001.png", "test/GOPR0384_11_05/sharp/000001.png"),
        ("train/GOPR0372_07_00/blur/000047.png", "train/GOPR0372_07_00/sharp/000047.png"),
        ("test/GOPR0384_11_05/blur_gamma/000001.png", "unused.png"),
    )


def make_repackaged(root: Path) -> None:
    put(root, ("input/a.png", "target/a.png"), ("input/b.png", "target/b.png"))


def make_hide(root: Path) -> None:
    put(
        root,
        ("test/test-close-ups/10fromGOPR0977.png", "GT/10fromGOPR0977.png"),
        ("test/test-long-shot/1fromGOPR1089.png", "GT/1fromGOPR1089.png"),
        ("train/2fromGOPR1096.png", "GT/2fromGOPR1096.png"),
    )


def make_realblur(root: Path, kind: str = "J") -> None:
    folder = f"RealBlur-{kind}_ECC_IMCORR_centroid_itensity_ref"
    names = [f"{folder}/scene{scene}/{{0}}/{{0}}_{n}.png" for scene, n in ((3, 1), (3, 2), (9, 1))]
    put(root, *((name.format("blur"), name.format("gt")) for name in names))
    lines = [f"{name.format('gt')} {name.format('blur')}" for name in names[1:]]
    (root / f"RealBlur_{kind}_test_list.txt").write_text("\n".join(lines) + "\n")


def make_realblur_r(root: Path) -> None:
    make_realblur(root, "R")


def make_rain(root: Path) -> None:
    put(root, ("rain-001.png", "norain-001.png"), ("rain-002.png", "norain-002.png"))


def make_sidd(root: Path, side: int = 32) -> None:
    root.mkdir(parents=True)
    blocks = [[pair(2 * i + k, side, side) for k in range(2)] for i in range(2)]
    for place, name in enumerate(("ValidationNoisyBlocksSrgb", "ValidationGtBlocksSrgb")):
        array = np.array([[block[place] for block in row] for row in blocks])
        scipy.io.savemat(root / f"{name}.mat", {name: array}, do_compression=True)


def make_dnd(root: Path, images: int = 2) -> None:
    """Write DND in the format of MATLAB 7.3: reversed axes, and boxes as references."""
    (root / "images_srgb").mkdir(parents=True)
    boxes = np.array([[1, 1, 32, 40], [17, 9, 48, 48]], np.float64)
    with h5py.File(root / "info.mat", "w") as file:
        for number in range(images):
            file[f"#refs#/{number}"] = boxes.T
        references = [file[f"#refs#/{n}"].ref for n in range(images)]
        file["info/boundingboxes"] = np.array(references, h5py.ref_dtype).reshape(-1, 1)
    for number in range(images):
        noisy = pair(number)[0].astype(np.float32) / 255
        with h5py.File(root / f"images_srgb/{number + 1:04d}.mat", "w") as file:
            file["InoisySRGB"] = noisy.T


MAKERS = {
    "gopro": make_gopro,
    "hide": make_hide,
    "realblur_j": make_realblur,
    "realblur_r": make_realblur_r,
    "rain100h": make_rain,
    "rain100l": make_repackaged,
    "test100": make_repackaged,
    "test1200": make_repackaged,
    "test2800": make_repackaged,
    "sidd": make_sidd,
}


def layouts(name: str) -> Any:
    text = (CONFIG_DIR / "benchmark" / f"{name}.yaml").read_text()
    node = yaml.safe_load(text)
    if "layouts" not in node:
        node |= yaml.safe_load((CONFIG_DIR / "benchmark" / "_rain.yaml").read_text())
    return node["layouts"]


def find(name: str, root: Path) -> Any:
    return find_test_images(name, root, layouts(name))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gopro", ["test/GOPR0384_11_00/blur/000001", "test/GOPR0384_11_05/blur/000001"]),
        ("hide", ["test/test-close-ups/10fromGOPR0977", "test/test-long-shot/1fromGOPR1089"]),
        (
            "realblur_j",
            [
                "RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene3/blur/blur_2",
                "RealBlur-J_ECC_IMCORR_centroid_itensity_ref/scene9/blur/blur_1",
            ],
        ),
        ("rain100h", ["rain-001", "rain-002"]),
        ("sidd", ["01_01", "01_02", "02_01", "02_02"]),
    ],
)
def test_images_of_published_layouts(tmp_path: Path, name: str, found: list[str]) -> None:
    root = tmp_path / name
    MAKERS[name](root)
    images = find(name, root)
    assert [image.name for image in images] == found
    for image in images:
        degraded, target = image.read()
        assert degraded.shape == target.shape and degraded.dtype == np.uint8
        # The images of a pair differ only in their noise.
        difference = degraded.astype(float) - target
        assert 8 < difference.std() < 16 and abs(difference.mean()) < 2


@pytest.mark.parametrize("name", ["gopro", "hide", "realblur_j", "realblur_r", "test2800"])
def test_images_of_repackaged_layouts(tmp_path: Path, name: str) -> None:
    make_repackaged(tmp_path)
    assert [Path(image.name).name for image in find(name, tmp_path)] == ["a", "b"]


def test_sidd_blocks_have_the_order_of_the_arrays(tmp_path: Path) -> None:
    make_sidd(tmp_path / "sidd")
    blocks = find("sidd", tmp_path / "sidd")
    assert np.array_equal(blocks[3].read()[0], pair(3, 32, 32)[0])


def test_dnd_boxes_count_from_one_and_axes_are_reversed(tmp_path: Path) -> None:
    make_dnd(tmp_path)
    images = find_dnd_images(tmp_path / "info.mat", tmp_path / "images_srgb")
    assert [image.name for image in images] == ["0001", "0002"]
    noisy = pair(1)[0].astype(np.float32) / 255
    first, second = images[1].read()
    assert np.array_equal(first, noisy[:32, :40])
    assert np.array_equal(second, noisy[16:48, 8:48])


def test_dnd_submission_has_the_format_of_the_server(tmp_path: Path) -> None:
    crops = [pair(0)[0].astype(np.float32) / 255, pair(1, 32, 32)[1].astype(np.float32) / 255]
    write_submission(tmp_path / "bundled" / "0001.mat", crops)
    content = scipy.io.loadmat(tmp_path / "bundled" / "0001.mat")
    assert content["Idenoised"].shape == (1, 2)
    for cell, crop in zip(content["Idenoised"][0], crops, strict=True):
        assert cell.dtype == np.float32 and np.array_equal(cell, crop)
    assert content["israw"].item() == 0 and content["eval_version"].item() == "1.0"
    assert scipy.io.whosmat(tmp_path / "bundled" / "0001.mat")[0][2] == "cell"


def test_published_rain_score_is_the_mean_of_its_sets() -> None:
    def published(name: str) -> Any:
        node = yaml.safe_load((CONFIG_DIR / "benchmark" / f"{name}.yaml").read_text())
        return node["published"][0]

    five = [published(n) for n in MAKERS if n.startswith(("rain", "test"))]
    for key, digits in (("psnr", 2), ("ssim", 3)):
        mean = round(np.mean([scores[key] for scores in five]), digits)
        assert published("rain")[key] == pytest.approx(mean)


@pytest.mark.parametrize("name", MAKERS)
def test_message_of_a_missing_set_lists_its_layouts(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        UserError, match=rf"does not contain the test set {name} \(.+\): set benchmark.root"
    ):
        find(name, tmp_path)


def test_damaged_sets_raise(tmp_path: Path) -> None:
    root = tmp_path / "realblur"
    make_realblur(root)
    next(root.glob("*/scene9/gt/*")).unlink()
    with pytest.raises(UserError, match=r"line 2: there is no image .+gt_1\.png"):
        find("realblur_j", root)

    root = tmp_path / "hide"
    make_hide(root)
    (root / "GT/1fromGOPR1089.png").unlink()
    with pytest.raises(UserError, match="has no target"):
        find("hide", root)
    write_png(root / "GT/1fromGOPR1089.png", PHOTO)
    with pytest.raises(UserError, match=r"is 64x48, but its target .+ is 512x512"):
        find("hide", root)[1].read()

    root = tmp_path / "sidd"
    make_sidd(root)
    file = root / "ValidationGtBlocksSrgb.mat"
    with pytest.raises(UserError, match="has no variable"):
        read_mat(file, "Other")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match="can't be read"):
        find("sidd", root)
    scipy.io.savemat(file, {"ValidationGtBlocksSrgb": np.zeros((2, 2, 8, 8, 3))})
    with pytest.raises(UserError, match="float64 of shape"):
        find("sidd", root)

    root = tmp_path / "dnd"
    make_dnd(root)
    (root / "images_srgb/0002.mat").unlink()
    with pytest.raises(UserError, match=r"there is no file .+0002\.mat"):
        find_dnd_images(root / "info.mat", root / "images_srgb")
    (root / "info.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(UserError, match=r"MATLAB 7\.3"):
        find_dnd_images(root / "info.mat", root / "images_srgb")
