"""Reading, rotation and writing of HEIC and AVIF."""

import io
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tests.conftest import PHOTOS
from tests.images.test_photo import ORIENTATION, exif_block, exif_tags, icc_profile

from mprnet_lit.images import formats
from mprnet_lit.images.formats import IMAGE_SUFFIXES, supported_formats
from mprnet_lit.images.listing import list_images
from mprnet_lit.images.photo import Photo, read_photo, write_photo
from mprnet_lit.images.reading import probe_image, read_image
from mprnet_lit.utils.errors import UserError

heif = pytest.importorskip("pillow_heif")
SUFFIXES = (".heic", ".heif", ".avif")


@pytest.fixture(scope="module")
def cat() -> Any:
    return np.asarray(Image.open(PHOTOS / "chelsea.png").convert("RGB"))[60:120, 80:160]


def psnr_from_mse(found: Any, expected: Any, peak: int = 255) -> Any:
    return 10 * np.log10(peak**2 / np.square(found.astype(float) - expected).mean())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("clear", [False, True])
def test_pixels_alpha_exif_and_profile_round_trip(
    tmp_path: Path, cat: NDArray[Any], suffix: str, gray: bool, clear: bool
) -> None:
    path = tmp_path / f"photo{suffix}"
    pixels = cat[..., [0, 0, 0]] if gray else cat
    alpha = np.linspace(0, 255, 60 * 80).reshape(60, 80).astype(np.uint8) if clear else None
    written = Photo(pixels, alpha, exif=exif_block(), icc=icc_profile(), gray=gray)
    write_photo(path, written)
    photo = read_photo(path)
    assert photo.lossy and photo.pixels.dtype == np.uint8
    assert photo.gray is (gray and not clear)
    assert psnr_from_mse(photo.pixels, pixels) > 42
    assert (photo.alpha is None) is not clear
    assert not clear or psnr_from_mse(photo.alpha, alpha) > 42
    assert photo.icc == icc_profile()
    assert exif_tags(photo.exif)[0][271] == "Maker"
    assert probe_image(path) == (60, 80)
    np.testing.assert_array_equal(read_image(path), photo.pixels)


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("clear", [False, True])
def test_heic_with_10_bits_is_read_as_16_bits_and_round_trips(
    tmp_path: Path, cat: NDArray[Any], gray: bool, clear: bool
) -> None:
    path = tmp_path / "deep.heic"
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels = np.stack((ramp, ramp if gray else ramp.T, ramp if gray else ramp[::-1]), -1)
    alpha = np.full((64, 64), 65535, np.uint16) if clear else None
    write_photo(path, Photo(pixels, alpha, gray=gray))
    assert heif.open_heif(path).info["bit_depth"] == 10
    photo = read_photo(path)
    assert photo.pixels.dtype == np.uint16
    assert photo.gray is (gray and not clear)
    assert photo.pixels.max() == 65535  # not 1023 << 6
    assert psnr_from_mse(photo.pixels, pixels, 65535) > 48
    assert not clear or (photo.alpha is not None and photo.alpha.min() == 65535)
    np.testing.assert_array_equal(read_image(path), photo.pixels)
    write_photo(path, photo)
    assert psnr_from_mse(read_photo(path).pixels, photo.pixels, 65535) > 48


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("deep", [False, True])
def test_orientation_is_applied_once(
    tmp_path: Path, cat: NDArray[Any], suffix: str, deep: bool
) -> None:
    """The container rotates the pixels; EXIF and XMP may contain the same orientation."""
    path = tmp_path / f"turned{suffix}"
    supported_formats()
    for orientation in (1, 3, 5, 6, 8):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        xmp = f'<x tiff:Orientation="{orientation}"/>'.encode()
        picture = Image.fromarray(cat)
        if deep and suffix == ".heic":
            picture = heif.from_bytes("RGB;16", (80, 60), (cat.astype(np.uint16) * 257).tobytes())
            picture.info["exif"] = exif.tobytes()
            picture.save(path, quality=95, exif=exif.tobytes())
        else:
            picture.save(path, quality=95, exif=exif, xmp=xmp)
        reference = Image.fromarray(cat)
        reference.getexif()[ORIENTATION] = orientation
        upright = np.asarray(ImageOps.exif_transpose(reference))
        photo = read_photo(path)
        scale = 257 if photo.pixels.dtype == np.uint16 else 1
        assert probe_image(path) == upright.shape[:2]
        assert photo.pixels.shape == upright.shape
        assert psnr_from_mse(photo.pixels / scale, upright) > 30
        assert psnr_from_mse(read_image(path) / scale, upright) > 30
        out = tmp_path / f"out{suffix}"
        write_photo(out, photo)
        assert psnr_from_mse(read_image(out) / scale, upright) > 30


def test_exif_orientation_alone_does_not_rotate_a_heic(tmp_path: Path, cat: NDArray[Any]) -> None:
    """Only the property of the container rotates the pixels (ISO 23008-12, A.2.4)."""
    path = tmp_path / "camera.heic"
    exif = Image.Exif()
    exif[ORIENTATION] = 1
    exif[271] = "Maker"
    supported_formats()
    Image.fromarray(cat).save(path, quality=95, exif=exif)
    content, tag = path.read_bytes(), exif.tobytes().removeprefix(b"Exif\0\0")[8:22]
    assert content.count(tag) == 1
    path.write_bytes(content.replace(tag, tag.replace(b"\1\0\0\0\1", b"\1\0\0\0\6")))
    assert read_photo(path).pixels.shape == cat.shape


def test_colors_without_a_profile_are_kept(tmp_path: Path, cat: NDArray[Any]) -> None:
    display_p3 = (12, 13)
    write_photo(tmp_path / "p3.heic", Photo(cat, cicp=display_p3))
    photo = read_photo(tmp_path / "p3.heic")
    assert (photo.icc, photo.cicp) == (None, display_p3)
    assert psnr_from_mse(photo.pixels, cat) > 42


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_files_are_refused(tmp_path: Path, cat: NDArray[Any], suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    write_photo(path, Photo(cat))
    whole = path.read_bytes()
    lengths = [int(share * len(whole)) for share in (0.01, 0.1, 0.5, 0.9, 0.98)]
    for length in (*lengths, *range(len(whole) - 8, len(whole))):
        path.write_bytes(whole[:length])
        for look in (read_image, probe_image, read_photo):
            with pytest.raises(UserError, match=rf"photo\{suffix}.*replace or remove it"):
                look(path)


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
def test_files_with_several_pictures_are_refused(
    tmp_path: Path, cat: NDArray[Any], suffix: str
) -> None:
    path = tmp_path / f"burst{suffix}"
    supported_formats()
    first, second = Image.fromarray(cat), Image.fromarray(cat[::-1].copy())
    first.save(path, save_all=True, append_images=[second], quality=95)
    with pytest.raises(UserError, match=rf"burst\{suffix} has 2 frames or pages"):
        read_photo(path)
    assert psnr_from_mse(read_image(path), cat) > 30


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
def test_extreme_sizes_are_refused_before_decoding(
    tmp_path: Path, cat: NDArray[Any], suffix: str
) -> None:
    """The size is checked even if the container crops a huge image to a small one."""
    path = tmp_path / f"bomb{suffix}"
    write_photo(path, Photo(cat))
    content = path.read_bytes()
    assert content.count(b"ispe\0\0\0\0") == 1
    path.write_bytes(
        re.sub(rb"(ispe\0\0\0\0).{8}", rb"\1" + b"\0\0\x7f\xff" * 2, content, flags=re.S)
    )
    message = (
        "limit of 537 megapixels" if suffix == ".heic" else "not an image of a supported format"
    )
    for look in (read_image, probe_image, read_photo):
        with pytest.raises(UserError, match=rf"bomb\{suffix} .*{message}"):
            look(path)


def test_missing_heic_extra_is_named(
    tmp_path: Path, cat: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photo(tmp_path / "photo.heic", Photo(cat))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    formats.supported_formats.cache_clear()
    try:
        with pytest.raises(UserError, match=r"photo\.heic.*pip install .*\[heic\]'"):
            read_photo(tmp_path / "photo.heic")
        with pytest.raises(UserError, match=r"new\.heic.*pip install .*\[heic\]'"):
            write_photo(tmp_path / "new.heic", Photo(cat))
        write_photo(tmp_path / "photo.avif", Photo(cat))  # part of Pillow
        assert read_photo(tmp_path / "photo.avif").pixels.shape == cat.shape
    finally:
        formats.supported_formats.cache_clear()


def test_every_suffix_is_listed_read_and_written(tmp_path: Path, cat: NDArray[Any]) -> None:
    for suffix in IMAGE_SUFFIXES:
        for name in (f"a{suffix}", f"b{suffix.upper()}"):
            write_photo(tmp_path / name, Photo(cat))
            assert read_photo(tmp_path / name).pixels.shape == cat.shape
    assert len(list_images(tmp_path).files) == 2 * len(IMAGE_SUFFIXES)
    kinds = {".jfif": "JPEG", ".jpe": "JPEG", ".heif": "HEIF", ".hif": "HEIF"}
    for suffix, kind in kinds.items():
        with Image.open(io.BytesIO((tmp_path / f"a{suffix}").read_bytes())) as image:
            assert image.format == kind
