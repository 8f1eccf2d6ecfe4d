"""Reading and writing of image files in all supported formats."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tests.conftest import PHOTOS

from mprnet_lit.images.reading import (
    probe_image,
    read_image,
    to_float,
    to_uint8,
    write_png,
)
from mprnet_lit.utils.errors import UserError

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def photo() -> Any:
    return np.asarray(Image.open(PHOTOS / "chelsea.png").convert("RGB"))[40:140, 60:220]


@pytest.fixture(scope="module")
def deep(photo: NDArray[Any]) -> Any:
    """Return a 16-bit photo with nonzero low bytes."""
    low = np.random.default_rng(0).integers(0, 256, photo.shape)
    return (photo.astype(np.uint16) << 8) + low.astype(np.uint16)


def bgr(image: NDArray[Any]) -> Any:
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)


def with_alpha(image: NDArray[Any]) -> Any:
    alpha = np.full_like(image[..., :1], np.iinfo(image.dtype).max // 3)
    return np.concatenate((bgr(image), alpha), 2)


def write_chunks(path: Path, image: NDArray[Any], before: Any = (), after: Any = ()) -> None:
    """Write a 16-bit PNG with chunks before and after the pixels."""
    height, width = image.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
    chunks = (
        (
            b"IHDR",
            struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2}[image.shape[2]], 0, 0, 0),
        ),
        *before,
        (b"IDAT", zlib.compress(rows)),
        *after,
        (b"IEND", b""),
    )
    body = (
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp", ".bmp", ".PNG"])
def test_eight_bits_round_trip_without_loss(
    tmp_path: Path, photo: NDArray[Any], suffix: str
) -> None:
    path = tmp_path / f"photo{suffix}"
    options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(photo).save(path, **options)
    np.testing.assert_array_equal(read_image(path), photo)
    assert probe_image(path) == photo.shape[:2]


def test_jpeg_round_trip_is_close(tmp_path: Path, photo: NDArray[Any]) -> None:
    Image.fromarray(photo).save(tmp_path / "photo.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "photo.jpg").astype(int) - photo).mean() < 4


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("kind", ["rgb", "alpha", "gray"])
def test_sixteen_bits_round_trip_without_loss(
    tmp_path: Path, deep: NDArray[Any], suffix: str, kind: str
) -> None:
    path = tmp_path / f"deep{suffix}"
    image = {"rgb": bgr(deep), "alpha": with_alpha(deep), "gray": deep[..., 1]}[kind]
    assert cv2.imwrite(str(path), image)
    expected = deep[..., [1, 1, 1]] if kind == "gray" else deep
    out = read_image(path)
    assert out.dtype == np.uint16
    np.testing.assert_array_equal(out, expected)
    assert probe_image(path) == deep.shape[:2]


def test_sixteen_bit_gray_with_alpha_is_read(tmp_path: Path, deep: NDArray[Any]) -> None:
    write_chunks(tmp_path / "deep.png", deep[..., :2])
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), deep[..., [0, 0, 0]])


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_other_pixel_formats_are_converted_to_rgb(
    tmp_path: Path, photo: NDArray[Any], mode: str
) -> None:
    path = tmp_path / ("photo.tiff" if mode == "CMYK" else "photo.png")
    image = Image.fromarray(photo).convert(mode)
    image.save(path)
    np.testing.assert_array_equal(read_image(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(
    tmp_path: Path, photo: NDArray[Any], deep: NDArray[Any], orientation: int
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for suffix in (".jpg", ".png", ".tiff", ".webp"):
        path = tmp_path / f"photo{suffix}"
        Image.fromarray(photo).save(path, exif=exif)
        upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
        np.testing.assert_array_equal(read_image(path), upright)
        assert probe_image(path) == upright.shape[:2]

    extra = [(ORIENTATION, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "deep.tiff", deep, photometric="rgb", extratags=extra)
    tag = (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    xmp = f'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="{orientation}"/>'
    write_chunks(tmp_path / "first.png", deep, before=[tag])
    write_chunks(tmp_path / "last.png", deep, after=[tag])
    write_chunks(tmp_path / "xmp.png", deep, before=[(b"iTXt", xmp.encode())])
    expected = {
        1: deep, 2: deep[:, ::-1], 3: deep[::-1, ::-1], 4: deep[::-1], 5: deep.swapaxes(0, 1),
        6: np.rot90(deep, -1), 7: np.rot90(deep, 2).swapaxes(0, 1), 8: np.rot90(deep),
    }[orientation]  # fmt: skip
    for name in ("deep.tiff", "first.png", "last.png", "xmp.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name), expected, name)
        assert probe_image(tmp_path / name) == expected.shape[:2]


@pytest.mark.parametrize("kind", ["a.png", "a.jpg", "a.webp", "a.tiff", "deep.png", "deep.tiff"])
def test_truncated_files_are_detected_by_probing_and_reading(
    tmp_path: Path, photo: NDArray[Any], deep: NDArray[Any], kind: str
) -> None:
    path = tmp_path / kind
    if kind.startswith("deep"):
        cv2.imwrite(str(path), bgr(deep))
    else:
        Image.fromarray(photo).save(path)
    whole = path.read_bytes()
    shares = (int(share * len(whole)) for share in (0.01, 0.1, 0.5, 0.9, 0.98))
    for length in (*shares, *range(len(whole) - 16, len(whole))):
        path.write_bytes(whole[:length])
        for look in (read_image, probe_image):
            with pytest.raises(UserError, match=f"{kind}.*replace or remove it"):
                look(path)


@pytest.mark.parametrize("format", ["jpeg", "mpo"])
def test_camera_jpegs_with_trailing_data_are_read(
    tmp_path: Path, photo: NDArray[Any], format: str
) -> None:
    """A thumbnail contains an end marker, and a video may follow the end marker of the photo."""
    small, large = io.BytesIO(), io.BytesIO()
    Image.fromarray(photo[:24, :24]).save(small, "jpeg")
    Image.fromarray(photo).save(large, format)
    thumbnail = b"Exif\0\0" + small.getvalue()
    head = struct.pack(">HHH", 0xFFD8, 0xFFE1, len(thumbnail) + 2) + thumbnail
    whole = head + large.getvalue()[2:]
    path = tmp_path / "photo.jpg"
    for appended in (b"", bytes(10_000)):
        path.write_bytes(whole + appended)
        assert read_image(path).shape == photo.shape
        assert probe_image(path) == photo.shape[:2]
    path.write_bytes(whole[:-100])
    for look in (read_image, probe_image):
        with pytest.raises(UserError, match=r"photo\.jpg.*truncated"):
            look(path)


NO_IMAGES = (b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"GIF89a")


@pytest.mark.parametrize("content", NO_IMAGES)
def test_files_that_are_not_images_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.png"
    path.write_bytes(content)
    for look in (read_image, probe_image):
        with pytest.raises(UserError, match=r"text\.png"):
            look(path)
        with pytest.raises(UserError, match=r"there is no image .*gone\.png"):
            look(tmp_path / "gone.png")
        with pytest.raises(UserError, match="can't be read"):
            look(tmp_path)


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.uint32, np.int16, np.int8])
def test_tiffs_with_unsupported_bit_depth_are_refused(tmp_path: Path, kind: Any) -> None:
    tifffile.imwrite(tmp_path / "odd.tiff", np.zeros((4, 4), kind))
    for look in (read_image, probe_image):
        with pytest.raises(UserError, match=r"odd\.tiff.*8 or 16 bits"):
            look(tmp_path / "odd.tiff")


def test_tiffs_with_unsupported_layout_are_refused(tmp_path: Path, deep: NDArray[Any]) -> None:
    path = tmp_path / "odd.tiff"
    cases: list[tuple[Any, dict[str, Any]]] = [
        (deep.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}),
        (deep[..., 0], {"photometric": "miniswhite"}),
        ((deep >> 8).astype(np.uint8), {"photometric": "cielab"}),
    ]
    for image, options in cases:
        tifffile.imwrite(path, image, **options)
        for look in (read_image, probe_image):
            with pytest.raises(UserError, match=r"odd\.tiff.*save it as plain RGB"):
                look(path)


def test_conversions_are_exact(photo: NDArray[Any]) -> None:
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(to_float(every)), every)
    assert to_float(np.array([65535, 0], np.uint16)).tolist() == [1, 0]
    np.testing.assert_array_equal(to_uint8(np.array([-1.0, 2.0])), [0, 255])


def test_image_is_written_atomically(
    tmp_path: Path, photo: NDArray[Any], deep: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "out.png"
    for image in (photo, deep):
        write_png(path, image)
        np.testing.assert_array_equal(read_image(path), image)
    before = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"can't write .*out\.png/below\.png"):
        write_png(path / "below.png", photo)
    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(UserError, match=r"out\.png: No space left on device"):
        write_png(path, photo)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
