"""Conversion of images in bands, and the check of the memory before decoding."""

import io
from contextlib import nullcontext
from errno import ENOSPC
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.images.image_kinds import ALPHA, RGB, RGBA, deep

from mprnet_lit.images import bands, memory, photo
from mprnet_lit.images.photo import Photo, read_photo, write_photo
from mprnet_lit.images.reading import read_image, round_to_8_bits
from mprnet_lit.utils.errors import UserError

ORIENTATION = 0x0112


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("gray", [False, True])
def test_bands_of_a_few_rows_give_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, gray: bool
) -> None:
    monkeypatch.setattr(bands, "_PIXELS", 3 * RGB.shape[1])
    assert RGB.shape[0] % 3, "the last band is shorter"
    pixels = RGB[..., [0, 0, 0]] if gray else RGB
    for alpha in None, ALPHA:
        for kind in (np.asarray, deep) if suffix in (".png", ".tif") else (np.asarray,):
            written = Photo(kind(pixels), None if alpha is None else kind(alpha), gray=gray)
            write_photo(tmp_path / f"photo{suffix}", written)
            found = read_photo(tmp_path / f"photo{suffix}")
            np.testing.assert_array_equal(found.pixels, written.pixels)
            np.testing.assert_array_equal(found.alpha, written.alpha)
    np.testing.assert_array_equal(round_to_8_bits(RGB * np.uint16(257)), RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bands_are_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: int
) -> None:
    monkeypatch.setattr(bands, "_PIXELS", 3 * RGB.shape[1])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(RGBA).save(tmp_path / "photo.png", exif=exif)
    turned = {2: RGBA[:, ::-1], 3: RGBA[::-1, ::-1], 4: RGBA[::-1]}
    transposed = RGBA.swapaxes(0, 1)
    turned |= {
        5: transposed,
        6: transposed[:, ::-1],
        7: transposed[::-1, ::-1],
        8: transposed[::-1],
    }
    expected = turned.get(orientation, RGBA)
    found = read_photo(tmp_path / "photo.png")
    np.testing.assert_array_equal(found.pixels, expected[..., :3])
    np.testing.assert_array_equal(found.alpha, expected[..., 3])
    np.testing.assert_array_equal(read_image(tmp_path / "photo.png"), expected[..., :3])


def test_photo_that_exceeds_the_free_memory_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, free = tmp_path / "large.png", 12 * 5000 - 1

    def decode(*arguments: Any) -> Any:
        raise AssertionError("decoded")

    write_photo(path, Photo(np.zeros((50, 100, 3), np.uint8)))
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    with monkeypatch.context() as patch:
        patch.setattr(photo, "decode", decode)
        with pytest.raises(
            UserError,
            match=r"large\.png has 0 megapixels and needs 0\.000060000 GB of memory, but "
            r"0\.000059999 GB are free",
        ):
            read_photo(path)
    free += 1
    assert read_photo(path).pixels.shape == (50, 100, 3)
    write_photo(path, Photo(np.zeros((50, 100, 3), np.uint16)))
    with pytest.raises(UserError, match="split the image"):
        read_photo(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_memory_is_trimmed_before_a_large_photo_is_encoded_and_after_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    trimmed: list[bool] = []
    monkeypatch.setattr(photo, "trim_memory", lambda: trimmed.append(True))
    for large, expected in ((RGB.nbytes + 1, []), (RGB.nbytes, [True])):
        monkeypatch.setattr(photo, "_LARGE", large)
        write_photo(tmp_path / f"photo{suffix}", Photo(RGB))
        assert trimmed == expected
        read_photo(tmp_path / f"photo{suffix}")
        assert trimmed == 2 * expected


class FullDisk(io.BytesIO):
    def write(self, content: Any) -> int:
        raise OSError(ENOSPC, "No space left on device")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".webp"])
def test_full_disk_is_reported_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(photo, "atomic_writer", lambda path: nullcontext(FullDisk()))
    path = tmp_path / f"photo{suffix}"
    for pixels in RGB, deep(RGB):
        with pytest.raises(UserError, match=rf"photo\{suffix}: No space left on device; free disk"):
            write_photo(path, Photo(pixels, alpha=None if suffix == ".jpg" else 0 * pixels[..., 0]))
