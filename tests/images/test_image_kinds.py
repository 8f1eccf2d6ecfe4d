"""Reading and writing of all pixel formats; errors for unsupported ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.images.image_kinds import (
    ALPHA,
    GRAY,
    MASKS,
    RED,
    RGB,
    RGBA,
    YCBCR,
    bgr,
    bmp,
    deep,
    pages,
    saved,
    subsampled_ycbcr,
    tiff,
)

from mprnet_lit.images.photo import read_photo, write_photo
from mprnet_lit.images.reading import probe_image, read_image
from mprnet_lit.utils.errors import UserError

LOSSLESS = {"lossless": True, "exact": True}
BEST = {"quality": 100, "subsampling": "4:4:4"}
TINY = RGB[::4, ::4]
THUMBNAIL = {"subfiletype": 1}
PALETTE = Image.fromarray(RGB).quantize(64)
INDICES = np.asarray(PALETTE)
COLORS = np.asarray(PALETTE.convert("RGB"))
BITS = np.asarray(Image.fromarray(RED).convert("1"))[..., None].repeat(3, 2) * np.uint8(255)
CMYK = Image.fromarray(RGBA, "CMYK")
INK = np.asarray(CMYK.convert("RGB"))
KEYED = np.where(RED[0, 3] == RED, 0, 255)
SEEN = np.where(INDICES == 3, 0, 255)
RAMP = np.arange(256, dtype=np.uint16) * 257
FADED = np.stack((RED, 255 - RED, RED), -1)


def image(pixels: NDArray[Any], mode: Any = None) -> Any:
    picture = Image.fromarray(pixels)
    return picture if mode is None else picture.convert(mode)


# File name: writer, expected pixels, expected alpha, whether gray, maximum coding error.
READ = {
    "1.png": (saved(image(RED, "1")), BITS, None, True, 0),
    "L.png": (saved(image(RED)), GRAY, None, True, 0),
    "L-key.png": (saved(image(RED), transparency=int(RED[0, 3])), GRAY, KEYED, True, 0),
    "LA.png": (saved(image(RGBA[..., [0, 3]])), GRAY, ALPHA, True, 0),
    "P.png": (saved(PALETTE), COLORS, None, False, 0),
    "P-alpha.png": (saved(PALETTE, transparency=3), COLORS, SEEN, False, 0),
    "RGB.png": (saved(image(RGB)), RGB, None, False, 0),
    "RGBA.png": (saved(image(RGBA)), RGB, ALPHA, False, 0),
    "I16.png": (saved(image(deep(RED))), deep(GRAY), None, True, 0),
    "1.tif": (saved(image(RED, "1")), BITS, None, True, 0),
    "white8.tif": (tiff(255 - RED, photometric="miniswhite"), GRAY, None, True, 0),
    "P.tif": (tiff(RED, photometric="palette", colormap=[RAMP, RAMP[::-1], RAMP]),
              FADED, None, False, 0),
    "LA8.tif": (tiff(RGBA[..., [0, 3]], photometric="minisblack", planarconfig="contig",
                     extrasamples=["unassalpha"]), GRAY, ALPHA, True, 0),
    "RGBX.tif": (tiff(RGBA, photometric="rgb", extrasamples=["unspecified"]), RGB, None, False, 0),
    "RGBX16.tif": (tiff(deep(RGBA), photometric="rgb", extrasamples=["unspecified"]),
                   deep(RGB), None, False, 0),
    "planar.tif": (tiff(RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
                   RGB, None, False, 0),
    "planar-alpha.tif": (tiff(RGBA.transpose(2, 0, 1), photometric="rgb", planarconfig="separate",
                              extrasamples=["unassalpha"]), RGB, ALPHA, False, 0),
    "tiles16.tif": (tiff(deep(RGB), photometric="rgb", tile=(16, 16)), deep(RGB), None, False, 0),
    "big-endian.tif": (tiff(deep(RGB), photometric="rgb", byteorder=">"),
                       deep(RGB), None, False, 0),
    "bigtiff.tif": (tiff(deep(RGB), photometric="rgb", bigtiff=True), deep(RGB), None, False, 0),
    "CMYK.tif": (saved(CMYK), INK, None, False, 0),
    "YCbCr.tif": (tiff(YCBCR, photometric="ycbcr", subsampling=(1, 1)), RGB, None, False, 3),
    "YCbCr-deflated.tif": (tiff(YCBCR, photometric="ycbcr", subsampling=(1, 1),
                                compression="adobe_deflate"), RGB, None, False, 3),
    "YCbCr-planar.tif": (tiff(YCBCR.transpose(2, 0, 1), photometric="ycbcr",
                              planarconfig="separate", subsampling=(1, 1)), RGB, None, False, 3),
    "YCbCr-422.tif": (subsampled_ycbcr(2, 1), RGB, None, False, 10),
    "YCbCr-420.tif": (subsampled_ycbcr(2, 2), RGB, None, False, 10),
    "thumbnail.tif": (pages((RGB, {}), (TINY, THUMBNAIL)), RGB, None, False, 0),
    "thumbnail16.tif": (pages((deep(RGB), {}), (TINY, THUMBNAIL)), deep(RGB), None, False, 0),
    "pyramid.tif": (pages((RGB, {"subifds": 1}), (TINY, THUMBNAIL)), RGB, None, False, 0),
    "1.bmp": (saved(image(RED, "1")), BITS, None, True, 0),
    "L.bmp": (saved(image(RED)), GRAY, None, True, 0),
    "P.bmp": (saved(PALETTE), COLORS, None, False, 0),
    "RGB.bmp": (saved(image(RGB)), RGB, None, False, 0),
    "BGRX-zero.bmp": (bmp(bgr(np.zeros_like(RED))), RGB, None, False, 0),
    "BGRX-any.bmp": (bmp(bgr(ALPHA)), RGB, None, False, 0),
    "V3-alpha.bmp": (bmp(bgr(ALPHA), 3, MASKS, 56), RGB, ALPHA, False, 0),
    "V4-alpha.bmp": (bmp(bgr(ALPHA), 3, MASKS, 108), RGB, ALPHA, False, 0),
    "V4-clear.bmp": (bmp(bgr(ALPHA * 0), 3, MASKS, 108), RGB, ALPHA * 0, False, 0),
    "V4-opaque.bmp": (bmp(bgr(ALPHA), 3, (*MASKS[:3], 0), 108), RGB, None, False, 0),
    "L.jpg": (saved(image(RED), quality=100), GRAY, None, True, 2),
    "RGB.jfif": (saved(image(RGB), format="JPEG", **BEST), RGB, None, False, 4),
    "RGB.jpe": (saved(image(RGB), format="JPEG", **BEST), RGB, None, False, 4),
    "CMYK.jpg": (saved(CMYK, **BEST), INK, None, False, 4),
    "RGB.webp": (saved(image(RGB), **LOSSLESS), RGB, None, False, 0),
    "RGBA.webp": (saved(image(RGBA), **LOSSLESS), RGB, ALPHA, False, 0),
    "L.avif": (saved(image(RED), quality=100), GRAY, None, True, 2),
    "RGB.avif": (saved(image(RGB), **BEST), RGB, None, False, 4),
    "RGBA.avif": (saved(image(RGBA), **BEST), RGB, ALPHA, False, 4),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_pixel_format_round_trips(tmp_path: Path, name: str) -> None:
    write, pixels, alpha, gray, tolerance = READ[name]
    path = tmp_path / name
    write(path)
    photo = read_photo(path)
    assert photo.pixels.dtype == pixels.dtype
    assert np.abs(photo.pixels.astype(int) - pixels).max() <= tolerance
    assert np.abs(read_image(path).astype(int) - pixels).max() <= tolerance
    assert probe_image(path) == pixels.shape[:2]
    assert (photo.alpha is None) is (alpha is None)
    if photo.alpha is not None:
        assert np.abs(photo.alpha.astype(int) - alpha).max() <= tolerance
    assert photo.gray is gray

    again = path.with_name(f"again{path.suffix}")
    write_photo(again, photo)
    back = read_photo(again)
    lossy = 12 if photo.lossy else 0
    assert back.pixels.dtype == photo.pixels.dtype
    assert np.abs(back.pixels.astype(int) - photo.pixels).max() <= lossy
    assert (back.alpha is None) is (alpha is None)
    if back.alpha is not None:
        assert np.abs(back.alpha.astype(int) - photo.alpha).max() <= lossy


REFUSED = {
    "float.tif": tiff(RGB.astype(np.float32), photometric="rgb"),
    "planar16.tif": tiff(
        deep(RGB).transpose(2, 0, 1), photometric="rgb", planarconfig="separate"
    ),
    "white16.tif": tiff(deep(RED), photometric="miniswhite"),
    "CMYK16.tif": tiff(deep(RGBA), photometric="separated"),
    "lab.tif": tiff(RGB, photometric="cielab"),
    "LA16.tif": tiff(deep(RGBA[..., [0, 3]]), photometric="minisblack", planarconfig="contig"),
    "I.tif": tiff(RED.astype(np.int32)),
    "thumbnail first.tif": pages((TINY, THUMBNAIL | {"subifds": 1}), (RGB, {})),
    "still.gif": saved(PALETTE),
    "jpeg2000.jp2": saved(image(RGB)),
    "gif.png": saved(PALETTE, format="GIF"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_pixel_format_is_refused_with_a_conversion_command(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    REFUSED[name](path)
    command = f"magick '{name}' 'thumbnail first.png'" if " " in name else f"magick {name} "
    for look in (read_photo, read_image, probe_image):
        with pytest.raises(UserError, match=f"save it as plain RGB .* {command}") as raised:
            look(path)
        assert str(path) in str(raised.value)


def test_extra_pages_other_than_thumbnails_are_refused(tmp_path: Path) -> None:
    pages((RGB, {}), (TINY, THUMBNAIL), (RGB, {}))(tmp_path / "scan.tif")
    with pytest.raises(UserError, match=r"scan\.tif has 2 frames or pages.*in its own file"):
        read_photo(tmp_path / "scan.tif")


def test_rotated_ycbcr_tiff_is_read(tmp_path: Path) -> None:
    turned = [(274, "H", 1, 6, True)]
    write = tiff(YCBCR, photometric="ycbcr", subsampling=(1, 1), extratags=turned)
    write(tmp_path / "turned.tif")
    for pixels in (read_image(tmp_path / "turned.tif"), read_photo(tmp_path / "turned.tif").pixels):
        assert np.abs(pixels.astype(int) - np.rot90(RGB, -1)).max() <= 3
    assert probe_image(tmp_path / "turned.tif") == (32, 16)
