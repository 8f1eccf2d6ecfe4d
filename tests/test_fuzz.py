"""Random and handcrafted bad input: accepted or rejected with a one-sentence error."""

import io
import os
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from fuzz import seeds
from fuzz.contract import Finding, attempt
from fuzz.targets import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mprnet_lit import weights
from mprnet_lit.cli.restore_inputs import find_jobs
from mprnet_lit.data.pairing import find_images, find_pairs
from mprnet_lit.evaluation.dnd import find_dnd_images
from mprnet_lit.evaluation.test_sets import find_test_images, read_mat
from mprnet_lit.images.photo import read_photo
from mprnet_lit.images.reading import probe_image, read_image
from mprnet_lit.inference.onnx_runtime import OnnxNetwork
from mprnet_lit.training.checkpoints import read_checkpoint
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.errors import UserError
from tests import composition
from tests.conftest import Cli


@pytest.fixture(autouse=True, scope="module")
def compositions_are_not_shared() -> Iterator[None]:
    """Write no compositions: the contract refuses files outside the folder of the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composition, "shared", composition.not_shared)
        yield


EXAMPLES = {"images": 30, "pairing": 25, "config": 6, "weights": 15, "mat": 60, "store": 60}


@pytest.mark.parametrize("name", EXAMPLES)
def test_damaged_input_is_accepted_or_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    target = TARGETS[name]
    valid = target.seeds()

    @settings(max_examples=EXAMPLES[name], deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.sampled_from(valid), st.integers(0, 2**32))
    def check(seed: bytes, chance: int) -> None:
        attempt(target.action, seeds.damaged(seed, random.Random(chance)), tmp_path)

    check()


def test_contract_detects_forbidden_behavior(tmp_path: Path) -> None:
    def raises(*_: Any) -> None:
        raise KeyError

    for action in (raises, lambda *_: os.system("true"), lambda *_: os.open("/etc/passwd", 0)):
        with pytest.raises(Finding):
            attempt(action, b"", tmp_path)
    with pytest.raises(Finding, match="code in the input ran"):
        attempt(lambda _, folder: (folder / "ran").touch(), b"", tmp_path)


# Names and links


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(seeds.images()[0])
    return path


def test_results_stay_inside_the_output_folder(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "sub" / "a.png")
    picture(tmp_path / "b.png")
    output = str(tmp_path / "out")
    for glob in ("in/*/../../*.png", "in/**/../*.png"):
        with pytest.raises(UserError, match=r"'\.\.' after a wildcard: use '\.\.' only before"):
            find_jobs(f"{tmp_path}/{glob}", output)
    jobs = find_jobs(f"{tmp_path}/in/sub/../**/*.png", output)
    assert [str(job.destination) for job in jobs] == [f"{output}/sub/a.png"]


def test_links_to_outside_and_cyclic_links_are_handled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Links to files are followed, as in many data sets. Each real folder is listed once."""
    secret = picture(tmp_path / "elsewhere" / "secret.png")
    folder = tmp_path / "in"
    picture(folder / "a.png")
    (folder / "linked.png").symlink_to(secret)
    (folder / "folder").symlink_to(secret.parent)
    for name in ("x", "y"):  # two links make 2^40 paths to each file
        (folder / name).symlink_to(folder)
    for source in (str(folder), f"{folder}/**/*.png"):
        jobs = find_jobs(source, str(tmp_path / "out"))
        assert [job.name for job in jobs] == ["a.png", "folder/secret.png", "linked.png"]
        assert all(job.destination == tmp_path / "out" / job.name for job in jobs)
    (folder / "self.png").symlink_to("self.png")
    assert find_jobs(str(folder), str(tmp_path / "out"))
    found = find_images(folder, on_error="skip")
    assert sorted(image.name for image in found) == ["a", "folder/secret", "linked"]
    assert "self.png" in caplog.messages[0]


def test_writing_does_not_follow_a_link(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(b"kept")
    for name in ("a.png", "a.png.part"):
        (tmp_path / name).symlink_to(kept)
    write_atomic(tmp_path / "a.png", b"new")
    assert kept.read_bytes() == b"kept"
    assert (tmp_path / "a.png").read_bytes() == b"new" and not (tmp_path / "a.png").is_symlink()


def test_list_cannot_name_files_outside_the_test_set(tmp_path: Path) -> None:
    picture(tmp_path / "secret.png")
    picture(tmp_path / "set" / "a.png")
    for word in ("../secret.png", str(tmp_path / "secret.png")):
        (tmp_path / "set" / "list.txt").write_text(f"a.png a.png\na.png {word}\n")
        with pytest.raises(UserError, match=r"list\.txt, line 2: .* is outside of"):
            find_test_images("set", tmp_path / "set", [{"list": "list.txt"}])
    (tmp_path / "set" / "list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"list\.txt can't be read"):
        find_test_images("set", tmp_path / "set", [{"list": "list.txt"}])


def test_patterns_with_exponential_time_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "in" / f"{'a' * 200}.png")
    with pytest.raises(UserError, match="matches the pattern"):
        find_images(tmp_path / "in", "*a" * 20 + "b")
    with pytest.raises(UserError, match="more than 50 wildcards"):
        find_pairs(tmp_path / "in", tmp_path / "in", "*" * 500, "*" * 500)


def test_readers_do_not_block_on_pipes(tmp_path: Path) -> None:
    for name in ("p.png", "p.pth", "p.safetensors", "p.mat"):
        os.mkfifo(tmp_path / name)
    readers = (read_image, probe_image, read_photo), (weights.read, read_checkpoint)
    calls: list[tuple[Callable[[Path], object], str]]
    calls = [(read, "p.png") for read in readers[0]] + [(read, "p.pth") for read in readers[1]]
    calls += [(weights.read, "p.safetensors"), (lambda path: read_mat(path, "x"), "p.mat")]
    calls += [(lambda path: find_dnd_images(path, path.parent), "p.mat")]
    for read, name in calls:
        with pytest.raises(UserError, match="is a pipe or a device: remove it"):
            read(tmp_path / name)


# Excessive sizes


def test_files_of_extreme_size_are_refused(tmp_path: Path) -> None:
    with picture(tmp_path / "a.png").open("ab") as file:
        file.truncate(2**40)  # a sparse file
    with pytest.raises(UserError, match=r"a\.png is larger than the limit of 4\.4 GB"):
        probe_image(tmp_path / "a.png")


BOMB = zlib.compress(bytes(20_000_000))
CHUNKS = {
    "iCCP": b"p\0\0" + BOMB,
    "zTXt": b"k\0\0" + BOMB,
    "iTXt": b"k\0\1\0\0\0" + BOMB,
}


@pytest.mark.parametrize("name", CHUNKS)
def test_png_with_decompression_bomb_in_a_chunk_is_refused(tmp_path: Path, name: str) -> None:
    pixels = b"IDAT", zlib.compress(b"\0\0\0\0")
    chunks = [seeds.png_header(1, 1), (name.encode(), CHUNKS[name]), pixels, (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(seeds.chunks_to_png(chunks))
    with pytest.raises(UserError, match=r"a\.png can't be read"):
        read_photo(tmp_path / "a.png")


def test_tiff_of_extreme_size_is_refused(tmp_path: Path) -> None:
    entries = [(256, 4, 2**31 - 1), (257, 4, 2**31 - 1), (258, 3, 8), (262, 3, 1)]
    entries += [(273, 4, 8), (277, 3, 1), (278, 4, 2**31 - 1), (279, 4, 4)]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    head = struct.pack("<2sHIIH", b"II", 42, 12, 0, len(entries))
    (tmp_path / "a.tif").write_bytes(head + directory + bytes(4))
    for read in (read_image, probe_image, read_photo):
        with pytest.raises(UserError, match="megapixels"):
            read(tmp_path / "a.tif")


def test_jpeg_with_thousands_of_scans_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = content.rindex(b"\xff\xda")
    comment = b"\xff\xfe\x00\x04\xff\xd9"  # looks like the end of the image
    for times, good, between in ((10, True, b""), (200, False, b""), (200, False, comment)):
        scans = content[last:-2] * times
        (tmp_path / "a.jpg").write_bytes(content[:-2] + between + scans + b"\xff\xd9")
        if good:
            assert read_image(tmp_path / "a.jpg").shape == (64, 64, 3)
        else:
            with pytest.raises(UserError, match="over 100 scans"):
                read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK"])
def test_uncompressed_tiffs_are_rotated(tmp_path: Path, mode: str) -> None:
    """Pillow's memory map swaps width and height of some TIFF files (found by fuzzing)."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (12, 10, 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    image.save(tmp_path / "a.tif", exif=exif)
    expected = np.rot90(np.asarray(image.convert("RGB")), -1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


def test_weights_that_would_exhaust_memory_are_refused(tmp_path: Path) -> None:
    few = torch.zeros(1)
    expanded = {n: few.expand(t.shape) for n, t in seeds.network().state_dict().items()}
    file = io.BytesIO()
    torch.save({"a": torch.zeros(4)}, file)
    bomb = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            zeros = item.filename.endswith("data/0")
            new.writestr(item.filename, bytes(10_000_000) if zeros else old.read(item))
    torch.save(expanded, tmp_path / "expanded.pth")
    torch.save({"a": few.expand(10**6, 10**6)}, tmp_path / "huge.pth")
    (tmp_path / "bomb.pth").write_bytes(bomb.getvalue())
    (tmp_path / "long.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    for path in tmp_path.iterdir():
        with pytest.raises(UserError, match=f"{path.name} is not a weights file, is damaged"):
            weights.read(path)


def test_matlab_files_of_extreme_size_or_with_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": np.zeros((2, 3, 4, 4, 3), np.uint8)})
    content = path.read_bytes()
    dimensions = struct.pack("<5i", 2, 3, 4, 4, 3)
    assert dimensions in content
    path.write_bytes(content.replace(dimensions, struct.pack("<5i", 99999, 99999, 4, 4, 3)))
    with pytest.raises(
        UserError, match="uint8 of 99999x99999x4x4x3, which can't be a set of images"
    ):
        read_mat(path, "a")
    scipy.io.savemat(path, {"a": np.array([[1, "b"]], object)})
    with pytest.raises(UserError, match="as cell of 1x2"):
        read_mat(path, "a")


# Other files and code


def test_hdf5_cannot_name_another_file(tmp_path: Path) -> None:
    info, image = seeds.dnd_files()
    (tmp_path / "info.mat").write_bytes(info)
    (tmp_path / "secret.mat").write_bytes(image)
    (tmp_path / "raw").write_bytes(bytes(432))
    path = tmp_path / "0001.mat"
    layout = h5py.VirtualLayout((3, 6, 6), np.float32)
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.mat"), "InoisySRGB", (3, 6, 6))
    raw = [(str(tmp_path / "raw"), 0, 432)]
    makers: tuple[Callable[[Any], object], ...] = (
        lambda f: f.__setitem__("InoisySRGB", h5py.ExternalLink("secret.mat", "InoisySRGB")),
        lambda f: f.create_virtual_dataset("InoisySRGB", layout),
        lambda f: f.create_dataset("InoisySRGB", (3, 6, 6), np.float32, external=raw),
    )
    for make in makers:
        with h5py.File(path, "w") as file:
            make(file)
        with pytest.raises(UserError, match=r"0001\.mat stores InoisySRGB in another file"):
            find_dnd_images(tmp_path / "info.mat", tmp_path)[0].read()
    path.write_bytes(image)
    assert find_dnd_images(tmp_path / "info.mat", tmp_path)[0].read()[0].shape == (4, 4, 3)


def test_exported_network_cannot_name_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    good, away = seeds.onnx_files()
    (tmp_path / "w.onnx").write_bytes(good)
    assert OnnxNetwork(tmp_path / "w.onnx")(torch.ones(1, 3, 8, 8))[0].shape == (1, 3, 8, 8)
    np.ones(9, np.float32).tofile("passw")
    (tmp_path / "w.onnx").write_bytes(away.replace(b"/etc/passwd", b"./././passw"))
    with pytest.raises(UserError, match="is not an export of this package"):
        OnnxNetwork(tmp_path / "w.onnx")


def test_exploits_among_the_seeds_are_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The readers do not unpickle the traps, but pickle.loads() does."""
    monkeypatch.chdir(tmp_path)
    for name, target in TARGETS.items():
        for seed in target.seeds() if name in ("weights", "mat", "store") else ():
            attempt(target.action, seed, tmp_path)
    pickle.loads(pickle.dumps(seeds.Trap()))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (f"+a={'[' * 300}{']' * 300}", "nested too deeply"),
        (f"seed={'9' * 5000}", "thousands of digits"),
    ],
)
def test_overrides_that_break_the_parser_are_refused(
    cli: Cli, override: str, sentence: str
) -> None:
    assert sentence in cli(override, status=1).errors
