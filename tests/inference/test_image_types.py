"""Every supported image type is returned unchanged; others raise an error with a remedy."""

import io
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mprnet_lit import Restorer
from mprnet_lit.images.photo import Photo, write_photo
from mprnet_lit.inference.image_types import to_batch, to_network_input
from mprnet_lit.models import MPRNet
from mprnet_lit.utils.errors import UserError


@pytest.fixture(scope="module")
def identity() -> Restorer:
    network = MPRNet(8, 4, 4, 1)
    network.start_from_identity()
    return Restorer(network, device="cpu")


@pytest.fixture(scope="module")
def darker() -> Restorer:
    """Restorer that subtracts 0.2 from every pixel."""
    network = MPRNet(8, 4, 4, 1)
    network.start_from_identity()
    restorer = Restorer(network, device="cpu")
    inner = restorer.network
    restorer.network = lambda x: tuple(stage - 0.2 for stage in inner(x))
    return restorer


def pixels(shape: Any, dtype: Any, seed: int = 0) -> Any:
    values = np.random.default_rng(seed).random(shape)
    peak = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    return (values * peak).astype(dtype)


SHAPES = ((9, 13), (9, 13, 1), (9, 13, 2), (9, 13, 3), (9, 13, 4), (2, 9, 13, 1), (2, 9, 13, 3),
          (2, 9, 13, 4), (1, 1), (1, 1, 1, 3))  # fmt: skip


@pytest.mark.parametrize(("shape", "dtype"), product(SHAPES, ("u1", "u2", ">u2", "f2", "f4", "f8")))
def test_arrays_are_returned_unchanged(identity: Restorer, shape: Any, dtype: Any) -> None:
    image = pixels(shape, np.dtype(dtype))
    for given in (image, image[::-1]):
        given.flags.writeable = False
        found = identity(given)
        assert (found.shape, found.dtype) == (given.shape, given.dtype)
        atol = {"f2": 1e-3}.get(dtype, 1e-6 if "f" in dtype else 0)
        np.testing.assert_allclose(found, given, rtol=0, atol=atol)


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.bfloat16, torch.float64])
def test_tensors_are_returned_unchanged(
    identity: Restorer, channels: int | None, dtype: Any
) -> None:
    image = torch.from_numpy(pixels((2, channels or 1, 9, 13), np.float32))
    peak = {torch.uint8: 255, torch.uint16: 65535}.get(dtype)
    image = (image * peak).round().to(dtype) if peak else image.to(dtype)
    for given in (image, image[0]) if channels else (image[0, 0],):
        found = identity(given)
        assert (found.shape, found.dtype) == (given.shape, given.dtype)
        torch.testing.assert_close(found.double(), given.double(), rtol=0, atol=0.004)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "F"])
def test_pil_images_are_returned_unchanged(identity: Restorer, mode: str) -> None:
    shape = {"LA": (9, 13, 2), "RGB": (9, 13, 3), "RGBA": (9, 13, 4)}.get(mode, (9, 13))
    array = pixels(shape, {"I;16": np.uint16, "F": np.float32}.get(mode, np.uint8))
    image = Image.fromarray(array)
    assert image.mode == mode
    image.info["icc_profile"] = b"a profile"
    found = identity(image)
    assert (found.mode, found.size) == (image.mode, image.size)
    np.testing.assert_allclose(np.asarray(found), array, rtol=0, atol=1e-6)
    assert found.info == {"icc_profile": b"a profile"}


def test_pil_modes_that_are_converted(identity: Restorer) -> None:
    color = Image.fromarray(pixels((9, 13, 3), np.uint8))
    palette = color.quantize(16)
    file = io.BytesIO()
    palette.save(file, "PNG", transparency=3)
    keyed = Image.open(file)
    for image, mode in (
        (color.convert("1"), "L"),
        (palette, "RGB"),
        (keyed, "RGBA"),
        (color.convert("YCbCr"), "RGB"),
    ):
        found = identity(image)
        assert found.mode == mode
        np.testing.assert_array_equal(np.asarray(found), np.asarray(image.convert(mode)))
        assert "transparency" not in found.info


def test_alpha_is_unchanged_and_gray_is_the_mean(darker: Restorer) -> None:
    image = np.full((8, 8, 4), 0.5)
    image[..., 3] = np.linspace(-1, 2, 64).reshape(8, 8)
    found = darker(image)
    np.testing.assert_allclose(found[..., :3], 0.3, atol=1e-6)
    np.testing.assert_array_equal(found[..., 3], image[..., 3])
    np.testing.assert_allclose(darker(image[..., 0]), 0.3, atol=1e-6)
    array = np.full((8, 8, 2), 100, np.uint8)
    np.testing.assert_array_equal(darker(array)[0, 0], [49, 100])
    assert len(darker.stages(array)) == 3


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_image_files_are_returned_unchanged(identity: Restorer, tmp_path: Path, kind: Any) -> None:
    rotated = Image.Exif()
    rotated[0x0112] = 6  # orientation
    array = pixels((9, 13, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "photo.png", exif=rotated)
    np.testing.assert_array_equal(identity(kind(tmp_path / "photo.png")), np.rot90(array, -1))
    write_photo(tmp_path / "deep.tif", Photo(array.astype(np.uint16) * 257))
    assert identity(kind(tmp_path / "deep.tif")).dtype == np.uint16
    with pytest.raises(UserError, match=r"there is no image .*gone\.png"):
        identity(kind(tmp_path / "gone.png"))


def test_noise_outside_of_0_to_1_is_accepted(identity: Restorer) -> None:
    image = np.array([[[-1.5, 0.5, 2.5]]], np.float32)
    np.testing.assert_allclose(identity(image), [[[0, 0.5, 1]]])


def closed() -> Any:
    image = Image.new("RGB", (4, 4))
    image.close()
    return image


def truncated() -> Any:
    file = io.BytesIO()
    Image.fromarray(pixels((64, 64, 3), np.uint8)).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:-2000]))


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "nothing": (lambda: None, "not NoneType"),
    "list": (lambda: [np.zeros((4, 4, 3))], "not list: pass one image at a time"),
    "bytes": (lambda: b"photo.png", "not bytes"),
    "channels first": (lambda: np.zeros((3, 9, 9)), r"moveaxis\(image, -3, -1\)"),
    "channels last": (lambda: torch.zeros(9, 9, 3), r"movedim\(-1, -3\)"),
    "five channels": (lambda: np.zeros((9, 9, 5)), r"not \(9, 9, 5\)"),
    "five dimensions": (lambda: np.zeros((1, 1, 9, 9, 3)), "an array must be"),
    "one dimension": (lambda: torch.zeros(9), r"not \(9,\)"),
    "no dimension": (lambda: np.zeros(()), r"not \(\)"),
    "empty": (lambda: np.zeros((0, 9, 3)), r"not \(0, 9, 3\)"),
    "no images": (lambda: torch.zeros(0, 3, 9, 9), r"not \(0, 3, 9, 9\)"),
    "0 to 255": (lambda: np.full((4, 4, 3), 200.0), "values from 200 to 200: divide it by 255"),
    "large": (lambda: np.full((4, 4, 3), 1e6), "rescale it"),
    "NaN": (lambda: np.full((4, 4, 3), np.nan), "must be finite"),
    "infinite": (lambda: torch.full((3, 4, 4), -torch.inf), "must be finite"),
    "int32": (lambda: np.zeros((4, 4, 3), np.int32), "not torch.int32"),
    "bool": (lambda: np.zeros((4, 4), bool), "not torch.bool"),
    "complex": (lambda: torch.zeros(3, 4, 4, dtype=torch.complex64), "not torch.complex64"),
    "long double": (lambda: np.zeros((4, 4), np.longdouble), "must be uint8, uint16 or floating"),
    "text": (lambda: np.full((4, 4), "a"), "must be uint8, uint16 or floating"),
    "objects": (lambda: np.full((4, 4), None), "must be uint8, uint16 or floating"),
    "sparse": (lambda: torch.zeros(3, 4, 4).to_sparse(), "must be dense"),
    "meta": (lambda: torch.zeros(3, 4, 4, device="meta"), "must be dense"),
    "CMYK": (lambda: Image.new("CMYK", (4, 4)), r"PIL mode CMYK.*image.convert\('RGB'\)"),
    "I": (lambda: Image.new("I", (4, 4)), r"PIL mode I .*astype\('uint16'\)"),
    "closed": (closed, "can't be decoded"),
    "truncated": (truncated, "can't be decoded"),
    "empty picture": (lambda: Image.new("RGB", (0, 4)), "an array must be"),
}


@pytest.mark.parametrize("name", WRONG)
def test_unsupported_types_raise(identity: Restorer, name: str) -> None:
    make, sentence = WRONG[name]
    with pytest.raises(UserError, match=sentence):
        identity(make())
    with pytest.raises(UserError, match=sentence):
        identity.stages(make())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("add_axis", [True, False])
def test_the_batch_is_a_copy_with_the_channels_last(dtype: Any, add_axis: bool) -> None:
    """A batch axis that NumPy adds has the stride 0, with which torch moves the channels first."""
    image = np.ones((16, 24, 3), dtype)
    pixels = to_network_input(image[None] if add_axis else image).pixels
    batch = to_batch(pixels, torch.device("cpu"))
    assert batch.stride() == (16 * 24 * 3, 1, 24 * 3, 3)
    batch.zero_()
    assert (image == 1).all()
