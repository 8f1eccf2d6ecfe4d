"""Valid inputs of every kind, malicious pickles, and random mutations."""

import io
import json
import os
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import h5py
import numpy as np
import safetensors.torch
import scipy.io
import tifffile
import torch
from fuzz.contract import RAN
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mprnet_lit import weights
from mprnet_lit.inference.onnx_runtime import INPUT, OUTPUT
from mprnet_lit.models import MPRNet

PNG = b"\x89PNG\r\n\x1a\n"
_NUMBERS = (0, 1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)


def chunks_to_png(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Assemble a PNG with valid checksums."""
    parts = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d))
             for n, d in chunks)  # fmt: skip
    return PNG + b"".join(parts)


def fix_png_checksums(data: bytes) -> bytes:
    """Correct the checksums of a mutated PNG, so that the reader does not stop at their check."""
    if not data.startswith(PNG):
        return data
    chunks, at = [], len(PNG)
    while at + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return chunks_to_png(chunks)


def png_header(width: int, height: int, bits: int = 8, colors: int = 2) -> tuple[bytes, bytes]:
    """Return the header chunk of a PNG."""
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colors, 0, 0, 0)


@cache
def images() -> tuple[bytes, ...]:
    """Return small images of every format, with all kinds of metadata."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[270] = 6, "title"
    exif.get_ifd(0x8769)[0xA002] = 12
    exif.get_ifd(0x8825)[1] = "N"
    text = PngInfo()
    text.add_text("Comment", "words " * 20, zip=True)
    profile = b"\0" * 128
    found = []
    for mode, form in (
        ("RGB", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("1", "PNG"), ("RGB", "JPEG"),
        ("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "WEBP"), ("RGBA", "WEBP"), ("RGB", "TIFF"),
        ("CMYK", "TIFF"), ("RGB", "BMP"), ("P", "BMP"),
    ):  # fmt: skip
        file = io.BytesIO()
        extra = {"pnginfo": text} if form == "PNG" else {}
        image = Image.fromarray(pixels).convert(mode)
        image.save(file, form, exif=exif, dpi=(72, 72), icc_profile=profile, **extra)
        found.append(file.getvalue())
    for form, options in (("JPEG", {"progressive": True}), ("TIFF", {"compression": "jpeg"})):
        file = io.BytesIO()
        Image.fromarray(pixels[..., :3]).save(file, form, **options)
        found.append(file.getvalue())
    file = io.BytesIO()
    frames = [Image.fromarray(pixels[..., :3] + np.uint8(k)) for k in (0, 9)]
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    found.append(file.getvalue())
    deep = pixels.astype(np.uint16) * 257
    for suffix, channels in ((".png", 3), (".png", 4), (".tiff", 3), (".tiff", 4)):
        found.append(cv2.imencode(suffix, deep[..., :channels])[1].tobytes())
    file = io.BytesIO()
    tags = [(0x0112, "H", 1, 6, True)]
    tifffile.imwrite(file, deep, photometric="rgb", extrasamples=["assocalpha"], extratags=tags)
    found.append(file.getvalue())
    return tuple(found)


class Trap:
    """Pickle that creates a directory when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (RAN,)


@cache
def network() -> MPRNet:
    """Return the smallest network."""
    torch.manual_seed(0)
    return MPRNet(4, 2, 2, 1, 4)


@cache
def weights_files() -> tuple[tuple[str, bytes], ...]:
    """Return pairs of file suffix and content: weights and malicious pickles."""
    model = network()
    found: list[tuple[str, bytes]] = []
    with TemporaryDirectory() as name:
        for suffix in weights.io.SUFFIXES:
            path = Path(name, f"w{suffix}")
            weights.save(model, path, weights.Info("deblur", metrics={"val/psnr": 30.0}))
            found.append((suffix, path.read_bytes()))
    file = io.BytesIO()
    torch.save(model.state_dict(), file, _use_new_zipfile_serialization=False)
    small = safetensors.torch.save({"a": torch.ones(2)}, {"crop": "128"})
    found += [(".pth", file.getvalue()), (".safetensors", small)]
    for content in (Trap(), {"state_dict": {"a": Trap()}}):
        file = io.BytesIO()
        torch.save(content, file)
        found += [(".pth", pickle.dumps(content)), (".ckpt", file.getvalue())]
    return tuple(found)


def pickle_of(archive: bytes) -> bytes:
    """Return the pickle of a torch archive."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return file.read(next(n for n in file.namelist() if n.endswith("data.pkl")))


def with_pickle(archive: bytes, content: bytes) -> bytes:
    """Replace the pickle of a torch archive and update its checksum."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for item in old.infolist():
            is_pickle = item.filename.endswith("data.pkl")
            new.writestr(item.filename, content if is_pickle else old.read(item))
    return out.getvalue()


@cache
def onnx_files() -> tuple[bytes, ...]:
    """Return a model like an exported network, and one with its weights in an external file."""
    from onnx import TensorProto, helper, numpy_helper

    sides = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 3, "h", "w"])
             for n in (INPUT, OUTPUT)]  # fmt: skip
    weight = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "weight")
    away = TensorProto(name="weight", dims=[3, 3, 1, 1], data_type=TensorProto.FLOAT)
    away.data_location = TensorProto.EXTERNAL
    away.external_data.add(key="location", value="/etc/passwd")
    found = []
    for tensor in (weight, away):
        node = helper.make_node("Conv", [INPUT, "weight"], [OUTPUT])
        graph = helper.make_graph([node], "g", sides[:1], sides[1:], [tensor])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        record = weights.Info().record(network().size)
        model.metadata_props.add(key=weights.RECORD, value=json.dumps(record))
        found.append(model.SerializeToString())
    return tuple(found)


@cache
def mat_files() -> tuple[bytes, ...]:
    """Return MATLAB files of versions 4 to 7 with a variable ``blocks`` of several types."""
    blocks = np.zeros((1, 2, 4, 4, 3), np.uint8)
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = blocks, "text"
    found = []
    for value in (blocks, cells, {"a": blocks, "b": "text"}, np.eye(3) > 0, 1j):
        for compressed in (True, False):
            file = io.BytesIO()
            scipy.io.savemat(file, {"blocks": value}, do_compression=compressed)
            found.append(file.getvalue())
    file = io.BytesIO()
    scipy.io.savemat(file, {"blocks": np.zeros((2, 3))}, format="4")
    return (*found, file.getvalue())


@cache
def dnd_files() -> tuple[bytes, bytes]:
    """Return an ``info.mat`` and an image of DND, both HDF5."""
    with TemporaryDirectory() as name:
        info, image = Path(name, "info.mat"), Path(name, "0001.mat")
        with h5py.File(info, "w") as file:
            file["boxes"] = np.array([[1.0], [1.0], [4.0], [4.0]])
            references = np.array([[file["boxes"].ref]], h5py.ref_dtype)
            file.create_group("info").create_dataset("boundingboxes", data=references)
        with h5py.File(image, "w") as file:
            file["InoisySRGB"] = np.zeros((3, 6, 6), np.float32)
        return info.read_bytes(), image.read_bytes()


@cache
def store_files() -> tuple[bytes, bytes]:
    """Return the index and an image of a prepared store."""
    file = f"train/{'0' * 24}.npy"
    stored = {"file": file, "size": 176, "sha256": "0" * 64, "source": "a.png",
              "source_size": 9, "source_mtime": 1}  # fmt: skip
    entry = {"name": "a", "height": 4, "width": 4, "target": stored, "degraded": None}
    pixels = io.BytesIO()
    np.save(pixels, np.zeros((4, 4, 3), np.uint8))
    index = {"format": 1, "train": [entry], "val": [{**entry, "degraded": stored}]}
    return json.dumps(index).encode(), pixels.getvalue()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return the input with a few bytes changed, removed, inserted or copied."""
    changed = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 2, 4, 8))):
        size = len(changed)
        at = rng.randrange(size + 1)
        match rng.randrange(6):
            case 0 if at < size:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                width, order = rng.choice((1, 2, 4, 8)), rng.choice(("big", "little"))
                number = rng.choice(_NUMBERS) % 256**width
                changed[at : at + width] = number.to_bytes(width, order)
            case 2:
                del changed[at : at + rng.randrange(1, 64)]
            case 3:
                changed[at:at] = changed[: rng.randrange(1, 64)]
            case 4:
                changed[at:at] = rng.randbytes(rng.randrange(1, 16))
            case _ if rng.random() < 0.3:
                del changed[at:]
    return bytes(changed)
