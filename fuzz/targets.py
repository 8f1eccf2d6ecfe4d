"""Fuzz targets, one for each kind of input, that convert bytes to an input and process it."""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from fuzz import seeds
from fuzz.contract import Action, Finding
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mprnet_lit import weights
from mprnet_lit.cli.restore_inputs import find_jobs
from mprnet_lit.config.groups import CONFIG_DIR
from mprnet_lit.config.messages import explain
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.data.pairing import find_images, find_pairs
from mprnet_lit.data.store import Prepared, completed_images, open_pixels
from mprnet_lit.evaluation.dnd import find_dnd_images
from mprnet_lit.evaluation.test_sets import find_test_images
from mprnet_lit.images.photo import read_photo, write_photo
from mprnet_lit.images.reading import probe_image, read_image
from mprnet_lit.inference.onnx_runtime import OnnxNetwork
from mprnet_lit.training.build import build_model, build_module
from mprnet_lit.training.checkpoints import read_checkpoint
from mprnet_lit.utils.errors import UserError

_FORMATS = (".png", ".jpg", ".webp", ".tif", ".bmp")


@dataclass(frozen=True)
class Target:
    """Action that reads a kind of input, and its seeds."""

    action: Action
    seeds: Callable[[], Sequence[bytes]]


def refuses(action: Callable[[], object]) -> bool:
    """Return whether the action raises UserError."""
    try:
        action()
    except UserError:
        return True
    return False


def image(data: bytes, folder: Path) -> None:
    """Probe and read an image, and write it with its metadata in each format."""
    kind, content = data[:1] or b"\0", data[1:]
    path = folder / "in" / f"a{_FORMATS[kind[0] % 5]}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(seeds.fix_png_checksums(content) if kind[0] < 128 else content)
    size = probe_image(path)
    if read_image(path).shape[:2] != size:
        raise Finding("probe_image and read_image return different sizes")
    photo = read_photo(path)
    if photo.pixels.shape[:2] != size:
        raise Finding("probe_image and read_photo return different sizes")
    refused = 0
    for suffix in _FORMATS:
        out = folder / "out" / f"a{suffix}"
        kept = photo if suffix not in (".jpg", ".bmp") else replace(photo, alpha=None)
        refused += refuses(partial(write_photo, out, kept))
    if refused:
        raise UserError("the photo can't be written in every format")


def pairing(data: bytes, folder: Path) -> None:
    """Pair files and plan a restoration with arbitrary patterns, globs, lists, names and links."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    first, second, glob, listed, *names = (lines + [""] * 4)[:24]
    root = folder / "set"
    shutil.rmtree(root, ignore_errors=True)
    (root / "in").mkdir(parents=True)
    (root / "gt").mkdir()
    for name in names:
        name, _, link = name.partition("->")
        path = root / name
        if ".." in Path(name).parts or "\0" in name or Path(name).is_absolute() or not name:
            continue
        with suppress(OSError, ValueError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if link and not Path(link).is_absolute() and ".." not in Path(link).parts:
                path.symlink_to(link)
            elif not path.exists():
                path.write_bytes(seeds.images()[0])
    with suppress(OSError):
        (root / "list.txt").write_bytes(
            listed.replace(";", "\n").encode("utf-8", "surrogateescape")
        )
    refused = refuses(lambda: find_images(root, first, "skip"))
    for one, two in (("in", "gt"), (".", ".")):
        pair = partial(find_pairs, root / one, root / two, first, second, "skip")
        refused &= refuses(pair)
    for layout in ({"list": "list.txt"}, {"input": first, "target": second}):
        refused &= refuses(partial(find_test_images, "set", root, [layout]))
    output = folder / "out"
    for source in (str(root), f"{root}/{glob}"):
        try:
            jobs = find_jobs(source, str(output))
        except UserError:
            continue
        refused = False
        for job in jobs:
            inside = Path(os.path.normpath(job.destination)).is_relative_to(output)
            if job.destination != output and not inside:
                raise Finding(f"a result outside the output folder: {job.destination}")
    if refused:
        raise UserError("no files can be paired or restored")


def config(data: bytes, folder: Path) -> None:
    """Compose overrides, one per line, and build the network and the training module."""
    overrides = [o for o in data.decode("utf-8", "replace").split("\n") if o]
    register_resolvers()
    try:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            composed = compose("train", overrides=["model=tiny", "paths.run=here", *overrides])
        sizes = (composed.model.width, composed.model.cabs_per_orb)
        if any(isinstance(size, int) and size > 64 for size in sizes):
            raise UserError("the network is too large to be built for each input")
        OmegaConf.to_container(composed, resolve=True)
        build_module(composed, build_model(composed).model)
    except (HydraException, OmegaConfBaseException, RecursionError, ValueError) as error:
        message = explain(error)
        if not message and isinstance(error, HydraException | OmegaConfBaseException):
            message = str(error).strip()  # the command line prints this message unchanged
        if isinstance(error, UserError) or not message:
            raise
        raise UserError(message) from error


def weights_file(data: bytes, folder: Path) -> None:
    """Read a weights file of each format, and archives in which only the pickle is mutated."""
    kind, content = data[:1] or b"\0", data[1:]
    suffix = weights.io.SUFFIXES[kind[0] % 3]
    if kind[0] & 4 and suffix != ".safetensors":
        whole = next(c for s, c in seeds.weights_files() if s == suffix)
        content = seeds.with_pickle(whole, content)
    path = folder / f"w{suffix}"
    path.write_bytes(content)
    refused = refuses(lambda: weights.read(path))
    if suffix == ".ckpt":
        refused &= refuses(lambda: read_checkpoint(path))
    if refused:
        raise UserError("the file is not a weights file")


def onnx(data: bytes, folder: Path) -> None:
    """Load an exported network."""
    path = folder / "w.onnx"
    path.write_bytes(data)
    OnnxNetwork(path)


def mat(data: bytes, folder: Path) -> None:
    """Read arrays from the MATLAB files of SIDD and the HDF5 files of DND."""
    kind, content = data[:1] or b"\0", data[1:]
    if kind[0] % 3 == 0:
        (folder / "blocks.mat").write_bytes(content)
        layout = {"noisy": "blocks.mat", "clean": "blocks.mat"}
        for block in find_test_images("sidd", folder, [layout]):
            block.read()
        return
    files = list(seeds.dnd_files())
    files[kind[0] % 3 - 1] = content
    for name, file in zip(("info.mat", "0001.mat"), files, strict=True):
        (folder / name).write_bytes(file)
    for number in range(2, 9):
        (folder / f"{number:04d}.mat").unlink(missing_ok=True)
    for one in find_dnd_images(folder / "info.mat", folder):
        one.read()


def store(data: bytes, folder: Path) -> None:
    """Read a prepared store with an arbitrary index or image."""
    kind, content = data[:1] or b"\0", data[1:]
    index, pixels = seeds.store_files()
    index, pixels = (index, content) if kind[0] % 2 else (content, pixels)
    (folder / "index.json").write_bytes(index)
    (folder / "progress.jsonl").write_bytes(content)
    (folder / "train").mkdir(exist_ok=True)
    (folder / f"train/{'0' * 24}.npy").write_bytes(pixels)
    completed_images(folder)
    for split in ("train", "val"):
        for sample in Prepared(folder, split).samples("raise"):
            np.asarray(open_pixels(sample.target)[:1]).sum()


def _image_seeds() -> list[bytes]:
    return [bytes([k % 5]) + content for k, content in enumerate(seeds.images())]


def _weights_seeds() -> list[bytes]:
    kinds = {suffix: k for k, suffix in enumerate(weights.io.SUFFIXES)}
    found = [bytes([kinds[suffix]]) + content for suffix, content in seeds.weights_files()]
    for suffix, content in seeds.weights_files()[:3]:
        if suffix != ".safetensors":
            found.append(bytes([kinds[suffix] | 4 | (8 if kinds[suffix] == 1 else 0)])
                         + seeds.pickle_of(content))  # fmt: skip
    return found


def _mat_seeds() -> list[bytes]:
    info, picture = seeds.dnd_files()
    return [*(b"\0" + content for content in seeds.mat_files()), b"\1" + info, b"\2" + picture]


def _onnx_seeds() -> list[bytes]:
    found = list(seeds.onnx_files())
    OnnxNetwork(found[0])  # OpenVINO starts a process on first use
    return found


def _store_seeds() -> list[bytes]:
    index, pixels = seeds.store_files()
    return [b"\0" + index, b"\1" + pixels]


def _text_seeds(*texts: str) -> Callable[[], list[bytes]]:
    return lambda: [text.encode() for text in texts]


TARGETS = {
    "images": Target(image, _image_seeds),
    "pairing": Target(
        pairing,
        _text_seeds(
            "**/*\n**/*\n**/*.png\ngt/a.png in/a.png\nin/a.png\ngt/a.png\nin/s/b.png\ngt/s/b.tif",
            "in/*\ngt/*\nin/*/../*.png\n../a.png /etc/passwd\nin/a.png\ngt/a.png->a.png\nin/x->.",
            "*_in\n*_gt\n*\n;\na_in.png\na_gt.jpg\nb_in.PNG\n.hidden.png\nloop->.\nloop2->loop",
            "???[ab]\n*a*a*a*b\n[a-z].png\na b;c d e\n{a}.png\n*.png\n\\.png\n%s.png",
        ),
    ),
    "config": Target(
        config,
        _text_seeds(
            "task=deblur\noptimizer.lr=1e-4",
            "model.width=8\nmodel.reduction=4\n+extra.key=[1,2,{a: b}]\n~seed",
            "optimizer._target_=torch.os.system\ntask.loss._target_=builtins.eval",
            "data=paired\ndata.train.degraded='a b'\nmodel.size=${oc.env:HOME}",
            "task=../../etc/passwd\nhydra.searchpath=[file://x]\nseed=${mprnet.size:a,b}",
            "trainer=ddp\nmodule.mixup_alpha=0.5\noptimizer.betas=[0.9,nan]\nseed=range(1,9)",
        ),
    ),
    "weights": Target(weights_file, _weights_seeds),
    "onnx": Target(onnx, _onnx_seeds),
    "mat": Target(mat, _mat_seeds),
    "store": Target(store, _store_seeds),
}
