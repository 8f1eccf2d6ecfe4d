"""Reading and writing image files of every kind that the issue of one's own data brings."""

import os

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from tests.conftest import PHOTOS

from mprnet_lit.data.images import (
    list_images,
    probe_image,
    read_image,
    to_float,
    to_uint8,
    write_png,
)
from mprnet_lit.errors import UserError

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def photo():
    return np.asarray(Image.open(PHOTOS / "chelsea.png").convert("RGB"))[40:140, 60:220]


@pytest.fixture(scope="module")
def deep(photo):
    """A 16-bit photograph whose low bytes matter."""
    low = np.random.default_rng(0).integers(0, 256, photo.shape)
    return (photo.astype(np.uint16) << 8) + low.astype(np.uint16)


def bgr(image):
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)


def with_alpha(image):
    alpha = np.full_like(image[..., :1], np.iinfo(image.dtype).max // 3)
    return np.concatenate((bgr(image), alpha), 2)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp", ".bmp", ".PNG"])
def test_eight_bits_without_loss(tmp_path, photo, suffix):
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(photo).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    np.testing.assert_array_equal(read_image(path), photo)
    assert probe_image(path) == photo.shape[:2]


def test_jpeg(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "photo.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "photo.jpg").astype(int) - photo).mean() < 4


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("kind", ["rgb", "alpha", "grey"])
def test_sixteen_bits_without_loss(tmp_path, deep, suffix, kind):
    path = tmp_path / f"deep{suffix}"
    image = {"rgb": bgr(deep), "alpha": with_alpha(deep), "grey": deep[..., 1]}[kind]
    assert cv2.imwrite(str(path), image)
    expected = deep[..., [1, 1, 1]] if kind == "grey" else deep
    out = read_image(path)
    assert out.dtype == np.uint16
    np.testing.assert_array_equal(out, expected)
    assert probe_image(path) == deep.shape[:2]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_other_kinds_of_pixels_become_rgb(tmp_path, photo, mode):
    path = tmp_path / ("photo.tiff" if mode == "CMYK" else "photo.png")
    image = Image.fromarray(photo).convert(mode)
    image.save(path)
    np.testing.assert_array_equal(read_image(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, photo, deep, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for suffix in (".jpg", ".png", ".tiff"):
        path = tmp_path / f"photo{suffix}"
        Image.fromarray(photo).save(path, exif=exif)
        upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
        np.testing.assert_array_equal(read_image(path), upright)
        assert probe_image(path) == upright.shape[:2]

    path = tmp_path / "deep.tiff"
    tifffile.imwrite(path, deep, extratags=[(ORIENTATION, "H", 1, orientation, True)])
    expected = {
        1: deep, 2: deep[:, ::-1], 3: deep[::-1, ::-1], 4: deep[::-1], 5: deep.swapaxes(0, 1),
        6: np.rot90(deep, -1), 7: np.rot90(deep, 2).swapaxes(0, 1), 8: np.rot90(deep),
    }[orientation]  # fmt: skip
    np.testing.assert_array_equal(read_image(path), expected)
    assert probe_image(path) == expected.shape[:2]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.98])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff"])
def test_files_cut_short_are_noticed_without_decoding_and_when_read(tmp_path, photo, suffix, share):
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(photo).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    for look in (read_image, probe_image):
        with pytest.raises(UserError, match=f"cut{suffix}.*replace or remove it"):
            look(path)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "text.png"
    path.write_bytes(content)
    for look in (read_image, probe_image):
        with pytest.raises(UserError, match=r"text\.png"):
            look(path)
    with pytest.raises(UserError, match=r"there is no image .*gone\.png"):
        read_image(tmp_path / "gone.png")


def test_floating_point_tiff_says_what_to_do(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(UserError, match=r"float\.tiff.*8 or 16 bits"):
        read_image(tmp_path / "float.tiff")


def test_listing(tmp_path, photo):
    for name in ("b.png", "sub/a.JPG", ".hidden.png", ".cache/c.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert list_images(tmp_path) == [tmp_path / "b.png", tmp_path / "sub/a.JPG"]
    for path, message in (
        (tmp_path / "gone", "does not exist"),
        (tmp_path / "b.png", "not a folder"),
    ):
        with pytest.raises(UserError, match=message):
            list_images(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no image.*\.png"):
        list_images(tmp_path / "empty")


def test_conversions_are_exact(photo):
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(to_float(every)), every)
    assert to_float(np.array([65535, 0], np.uint16)).tolist() == [1, 0]
    np.testing.assert_array_equal(to_uint8(np.array([-1.0, 2.0])), [0, 255])


def test_writing_is_whole_or_not_at_all(tmp_path, photo, deep, monkeypatch):
    path = tmp_path / "new" / "out.png"
    for image in (photo, deep):
        write_png(path, image)
        np.testing.assert_array_equal(read_image(path), image)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(UserError, match=r"out\.png: No space left on device"):
        write_png(path, photo)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
