"""Photos keep their pixels and metadata when they are written in the same format."""

import io
import re
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile
from tests.conftest import PHOTOS

from mprnet_lit.images import encoding
from mprnet_lit.images.photo import Photo, read_photo, write_photo
from mprnet_lit.images.reading import read_image
from mprnet_lit.utils.errors import UserError

ORIENTATION, EXIF, GPS = 0x0112, 0x8769, 0x8825


@cache  # the profile contains its creation time
def icc_profile(space: str = "RGB ") -> Any:
    """Return an sRGB profile with another color space signature."""
    whole = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return whole[:16] + space.encode() + whole[20:]


def exif_block(orientation: int = 1, size: bool = True) -> Any:
    exif = Image.Exif()
    exif[271], exif[306], exif[ORIENTATION] = "Maker", "2020:01:01 10:00:00", orientation
    exif[EXIF] = {0x9003: "2020:01:01 10:00:00", 0x927C: b"a maker's note"}
    if size:
        exif[EXIF] |= {0xA002: 7, 0xA003: 5}
    exif[GPS] = {1: "N", 2: (51.0, 30.0, 26.0)}
    return exif.tobytes().removeprefix(b"Exif\0\0")


def exif_tags(exif: Any) -> tuple[dict[Any, Any], dict[Any, Any], dict[Any, Any]]:
    """Return the EXIF tags except the orientation."""
    tags = Image.Exif()
    tags.load(exif)
    first = {tag: value for tag, value in tags.items() if tag not in (EXIF, GPS, ORIENTATION)}
    return first, dict(tags.get_ifd(EXIF)), dict(tags.get_ifd(GPS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("photos")


@pytest.fixture(scope="module")
def cat() -> Any:
    return np.asarray(Image.open(PHOTOS / "chelsea.png").convert("RGB"))[60:120, 80:160]


@st.composite
def photos(draw: Any) -> Photo:
    kind = draw(st.sampled_from([np.uint8, np.uint16]))
    height, width = draw(st.integers(1, 17)), draw(st.integers(1, 33))
    values = np.random.default_rng(draw(st.integers(0, 99)))
    pixels, alpha = (
        values.integers(0, np.iinfo(kind).max + 1, (height, width, channels), kind)
        for channels in (3, 1)
    )
    gray = draw(st.booleans())
    return Photo(
        pixels[..., [0, 0, 0]] if gray else pixels,
        alpha[..., 0] if draw(st.booleans()) else None,
        exif=draw(st.sampled_from([None, exif_block(size=False)])),
        icc=draw(st.sampled_from([None, icc_profile("GRAY" if gray else "RGB ")])),
        dpi=draw(st.sampled_from([None, (300.0, 150.0)])),
        gray=gray,
    )


@settings(max_examples=150, deadline=None)
@given(photos(), st.sampled_from([".png", ".tif", ".TIFF", ".webp", ".bmp"]))
def test_lossless_formats_round_trip_exactly(folder: Path, photo: Any, suffix: str) -> None:
    path = folder / f"photo{suffix}"
    deep, bmp = photo.pixels.dtype == np.uint16, suffix == ".bmp"
    if deep and suffix in (".bmp", ".webp"):
        return
    write_photo(path, photo)
    out = read_photo(path)
    np.testing.assert_array_equal(out.pixels, photo.pixels)
    np.testing.assert_array_equal(out.alpha, photo.alpha)
    assert out.pixels.dtype == photo.pixels.dtype
    assert out.lossy is False
    with_alpha = ("tif" in suffix.lower() and deep) or bmp
    loses_gray = suffix == ".webp" or (with_alpha and out.alpha is not None)
    assert out.gray is (photo.gray and not loses_gray)
    if not bmp:
        assert (out.exif and exif_tags(out.exif)) == (photo.exif and exif_tags(photo.exif))
        assert out.icc == (None if photo.gray and loses_gray else photo.icc)
    if suffix != ".webp" and (photo.dpi or not bmp):  # a BMP always has a resolution
        assert out.dpi == (photo.dpi and pytest.approx(photo.dpi, abs=0.02))
    np.testing.assert_array_equal(read_image(path), photo.pixels)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_exif_and_profile_keep_their_bytes(tmp_path: Path, cat: NDArray[Any], suffix: str) -> None:
    """Maker notes are copied unchanged."""
    path = tmp_path / f"photo{suffix}"
    write_photo(path, Photo(cat, exif=exif_block(), icc=icc_profile()))
    out = read_photo(path)
    assert out.exif is not None
    assert (out.icc, len(out.exif)) == (icc_profile(), len(exif_block()))
    assert exif_tags(out.exif)[1] == exif_tags(exif_block())[1] | {0xA002: 80, 0xA003: 60}
    changed = sum(a != b for a, b in zip(out.exif, exif_block(), strict=True))
    assert changed == 2  # two sizes of one byte each


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_rotated_photo_is_written_upright_without_its_thumbnail(
    tmp_path: Path, cat: NDArray[Any], suffix: str, orientation: int
) -> None:
    path, out = tmp_path / f"photo{suffix}", tmp_path / f"out{suffix}"
    exif = Image.Exif()
    exif.load(exif_block(orientation))
    thumbnail = {0x0201: 8, 0x0202: 4}
    with_thumbnail = bytearray(exif.tobytes().removeprefix(b"Exif\0\0"))
    order = "<" if with_thumbnail[:2] == b"II" else ">"
    (count,) = struct.unpack_from(order + "H", with_thumbnail, 8)
    struct.pack_into(order + "I", with_thumbnail, 10 + 12 * count, len(with_thumbnail))
    with_thumbnail += struct.pack(order + "H", 2)
    for tag, value in thumbnail.items():
        with_thumbnail += struct.pack(order + "HHII", tag, 4, 1, value)
    whole = b"Exif\0\0" + bytes(with_thumbnail) + bytes(4)
    Image.fromarray(cat).save(path, exif=exif if suffix == ".tif" else whole)
    photo = read_photo(path)
    np.testing.assert_array_equal(photo.pixels, read_image(path))
    write_photo(out, photo)
    with Image.open(out) as written:
        assert written.getexif().get(ORIENTATION, 1) == 1
        assert written.getexif()[271] == "Maker"
        assert written.getexif().get_ifd(1) == {}  # directory of the thumbnail
        assert written.size == photo.pixels.shape[1::-1]
        assert written.size == ((60, 80) if orientation == 6 else (80, 60))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_16_bit_tiff_with_alpha_is_read(tmp_path: Path, orientation: int) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (5, 7, 4), np.uint16)
    orders: list[tuple[str, Literal["<", ">"]]] = [("a.tif", "<"), ("b.tif", ">")]
    for name, order in orders:
        tifffile.imwrite(
            tmp_path / name,
            deep,
            byteorder=order,
            photometric="rgb",
            extrasamples=["unassalpha"],
            extratags=[(ORIENTATION, "H", 1, orientation, True)],
        )
        photo = read_photo(tmp_path / name)
        assert photo.alpha is not None
        both = np.concatenate((photo.pixels, photo.alpha[..., None]), 2)
        expected = {
            1: deep, 2: deep[:, ::-1], 3: deep[::-1, ::-1], 4: deep[::-1],
            5: deep.swapaxes(0, 1), 6: np.rot90(deep, -1), 7: np.rot90(deep, 2).swapaxes(0, 1),
            8: np.rot90(deep),
        }[orientation]  # fmt: skip
        np.testing.assert_array_equal(both, expected)
        np.testing.assert_array_equal(read_image(tmp_path / name), expected[..., :3])


def test_transparency_of_palette_color_key_and_premultiplied_images(
    tmp_path: Path, cat: NDArray[Any]
) -> None:
    image = Image.fromarray(cat).quantize(16)
    image.save(tmp_path / "palette.png", transparency=3)
    photo = read_photo(tmp_path / "palette.png")
    np.testing.assert_array_equal(photo.alpha, np.where(np.asarray(image) == 3, 0, 255))
    gray = Image.fromarray(cat[..., 0])
    gray.save(tmp_path / "key.png", transparency=int(cat[0, 0, 0]))
    photo = read_photo(tmp_path / "key.png")
    assert photo.gray
    np.testing.assert_array_equal(photo.alpha, np.where(cat[..., 0] == cat[0, 0, 0], 0, 255))

    values = np.array([[[0, 20000, 40000]]], np.uint16)
    half = np.concatenate((values // 2, [[[32768]]]), 2).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "half.tif", half[[0, 0]], photometric="rgb", extrasamples=["assocalpha"]
    )
    assert np.abs(read_photo(tmp_path / "half.tif").pixels[:1].astype(int) - values).max() <= 2


@pytest.mark.parametrize("levels", [255, 65535])
def test_png_files_are_hardly_larger_than_with_the_slow_search(
    tmp_path: Path, cat: NDArray[Any], monkeypatch: pytest.MonkeyPatch, levels: int
) -> None:
    noise = np.random.default_rng(0).normal(0, levels / 99, (96, 128, 3))
    photo = (np.resize(cat, (96, 128, 3)) / 255 * levels + noise).clip(0, levels)
    letters = np.random.default_rng(1).integers(0, 2, (9, 5, 8, 3)) * levels
    text = letters[np.arange(12 * 16).reshape(12, 16) ** 2 % 9].transpose(0, 2, 1, 3, 4)
    choose, chosen = encoding._strategy, list[int]()

    def recorded(encode: Any) -> int:
        chosen.append(choose(encode))
        return chosen[-1]

    for image in (photo, text.reshape(60, 128, 3)):
        sizes = []
        for strategy in (recorded, lambda encode: zlib.Z_DEFAULT_STRATEGY):
            monkeypatch.setattr(encoding, "_strategy", strategy)
            write_photo(tmp_path / "a.png", Photo(image.astype(f"uint{levels.bit_length()}")))
            assert np.array_equal(read_photo(tmp_path / "a.png").pixels, image.astype(int))
            sizes.append((tmp_path / "a.png").stat().st_size)
        assert sizes[0] <= 1.05 * sizes[1]
    assert chosen == [zlib.Z_RLE, zlib.Z_DEFAULT_STRATEGY], "only run lengths are fast"


def test_jpeg_is_written_with_little_loss(tmp_path: Path, cat: NDArray[Any]) -> None:
    deep = cat.astype(np.uint16) * 257
    for name, pixels in (("eight.jpg", cat), ("deep.jpg", deep)):
        write_photo(tmp_path / name, Photo(pixels))
        out = read_photo(tmp_path / name)
        error = np.square(out.pixels.astype(float) - cat).mean()
        assert 10 * np.log10(255**2 / error) > 38
        assert out.lossy
    assert (tmp_path / "eight.jpg").read_bytes() == (tmp_path / "deep.jpg").read_bytes()
    with Image.open(tmp_path / "eight.jpg") as image:
        assert isinstance(image, JpegImageFile)
        assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3  # full color resolution
    write_photo(tmp_path / "gray.jpg", Photo(cat[..., [0, 0, 0]], gray=True))
    assert Image.open(tmp_path / "gray.jpg").mode == "L"
    assert read_photo(tmp_path / "gray.jpg").gray

    write_photo(tmp_path / "lossy.webp", Photo(cat, lossy=True))
    assert read_photo(tmp_path / "lossy.webp").lossy
    assert Image.open(tmp_path / "lossy.webp").format == "WEBP"


def test_sixteen_bits_are_rounded_to_eight(tmp_path: Path) -> None:
    levels = np.arange(0, 65536, 13, dtype=np.uint16)[None, :, None].repeat(3, 2)
    write_photo(tmp_path / "rounded.bmp", Photo(levels))
    out = read_photo(tmp_path / "rounded.bmp").pixels
    assert np.abs(out * 257.0 - levels).max() <= 128.5


def test_cmyk_is_converted_to_srgb_without_its_profile(tmp_path: Path, cat: NDArray[Any]) -> None:
    Image.fromarray(cat).convert("CMYK").save(tmp_path / "a.jpg", icc_profile=icc_profile("CMYK"))
    photo = read_photo(tmp_path / "a.jpg")  # the profile is invalid
    assert photo.icc is None
    assert photo.pixels.shape == cat.shape
    assert np.abs(photo.pixels.astype(int) - cat).mean() < 6


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_files_with_several_frames_are_refused(
    tmp_path: Path, cat: NDArray[Any], suffix: str
) -> None:
    path = tmp_path / f"film{suffix}"
    first, second = Image.fromarray(cat), Image.fromarray(cat[::-1])
    first.save(path, save_all=True, append_images=[second])
    with pytest.raises(UserError, match=rf"film{re.escape(suffix)} has 2 frames or pages"):
        read_photo(path)


def test_photo_that_the_format_cannot_store_is_refused(tmp_path: Path, cat: NDArray[Any]) -> None:
    clear = Photo(cat, alpha=np.zeros(cat.shape[:2], np.uint8))
    for suffix in (".jpg", ".jfif"):
        with pytest.raises(UserError, match=rf"out\{suffix} .*not support transparency.*\.png"):
            write_photo(tmp_path / f"out{suffix}", clear)
        write_photo(tmp_path / f"ok{suffix}", Photo(cat, alpha=np.full_like(cat[..., 0], 255)))
    long = Photo(np.zeros((1, 70_000, 3), np.uint8))
    for suffix in (".jpg", ".webp"):
        with pytest.raises(UserError, match=rf"out\{suffix} .*\.png"):
            write_photo(tmp_path / f"out{suffix}", long)
    with pytest.raises(UserError, match=r"out\.gif.*use one of \.avif \.bmp"):
        write_photo(tmp_path / "out.gif", Photo(cat))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ok.jfif", "ok.jpg"]


def test_photo_with_damaged_exif_is_read(tmp_path: Path, cat: NDArray[Any]) -> None:
    for exif in (b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0II*\0"):
        Image.fromarray(cat).save(tmp_path / "photo.jpg", exif=exif)
        assert read_photo(tmp_path / "photo.jpg").exif is None


def test_extreme_sizes_are_refused_and_large_photos_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    for width, message in ((60_000, r"bomb\.png.*megapixels"), (14_000, "can't be read")):
        head = struct.pack(">IIBBBBB", width, 15_000, 8, 2, 0, 0, 0)
        body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        with pytest.raises(UserError, match=message):
            read_photo(tmp_path / "bomb.png")
    assert (Image.MAX_IMAGE_PIXELS or 0) >= 200_000_000


def test_second_picture_of_an_mpo_is_dropped(tmp_path: Path, cat: NDArray[Any]) -> None:
    file = io.BytesIO()
    Image.fromarray(cat).save(file, "MPO", save_all=True, append_images=[Image.fromarray(cat)])
    (tmp_path / "camera.jpg").write_bytes(file.getvalue())
    assert read_photo(tmp_path / "camera.jpg").pixels.shape == cat.shape
