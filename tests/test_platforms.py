"""Windows and macOS, simulated: missing functions, paths, spawned workers, encodings."""

import ast
import inspect
import multiprocessing
import ntpath
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import default_collate, default_convert

from mprnet_lit import Restorer
from mprnet_lit.cli import restore_record
from mprnet_lit.cli.restore_inputs import find_jobs
from mprnet_lit.cli.restore_record import Record
from mprnet_lit.config.overrides import quote_files
from mprnet_lit.data import Photos, RestorationDataModule, degradations
from mprnet_lit.data.degradations import Degradation, GaussianNoise
from mprnet_lit.serving.server import _listening
from mprnet_lit.training.callbacks.out_of_memory import is_out_of_memory
from mprnet_lit.utils import file_state, hardware, signals
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.file_state import RealPathCache
from tests.conftest import SMALLEST, quick, smallest_network
from tests.other_systems import become, modules

SOURCES = sorted((Path(__file__).parents[1] / "src").rglob("*.py"))
TRAIN = (*SMALLEST, "debug=fast", "data.num_workers=0")


def with_root(function: Callable[..., str]) -> Callable[..., str]:
    """Refuse a drive without a root: on Windows, ``C:`` is the current folder of the drive."""

    def checked(path: str, *rest: str) -> str:
        assert path not in ("C:", "D:")
        return function(path, *rest)

    return checked


PATHS = {name: with_root(getattr(ntpath, name)) for name in ("realpath", "relpath")}
WINDOWS = SimpleNamespace(path=SimpleNamespace(**(vars(ntpath) | PATHS)), sep="\\")
"""The functions of paths of the module os on Windows."""


class Doubles(TorchDispatchMode):
    """Collects the operations whose result Apple GPUs do not support: float64 and complex128."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        if any(tensor.dtype in (torch.float64, torch.complex128) for tensor in tensors):
            self.found.add(str(func))
        return result


def run_on(system: str, folder: Path, *commands: tuple[str, ...]) -> str:
    """Run commands in one process that simulates a system, and return the printed text.

    The standard output has the 256 characters of code page 1252, as on Windows.
    """
    printed = folder / "printed.txt"

    def run() -> None:
        output = os.open(printed, os.O_WRONLY | os.O_CREAT)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        sys.stdout = os.fdopen(1, "w", 1, encoding="cp1252")
        sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace")
        os.chdir(folder)
        become(system)
        from mprnet_lit.__main__ import main

        with Doubles() if system == "darwin" else nullcontext() as doubles:
            for command in commands:
                sys.argv = ["mprnet_lit", *quick(command)]
                main()
        if doubles is not None:
            print(f"float64: {sorted(doubles.found)}")

    modules()  # once for all simulations
    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(120)
    text = printed.read_text(encoding="cp1252")
    assert process.exitcode == 0, text
    return text


def test_training_and_restoring_on_windows(tmp_path: Path) -> None:
    Image.new("RGB", (24, 16), "teal").save(tmp_path / "写真.PNG")
    restore = ("mode=restore", "input=写真.PNG", "weights=runs", "output=out", "task=denoise")
    text = run_on("win32", tmp_path, ("mode=train", *TRAIN), restore)
    assert "1 restored" in text and r"\u5199\u771f.PNG: changed by" in text
    assert Image.open(tmp_path / "out" / "写真.PNG").size == (24, 16)
    assert b"\r" not in (tmp_path / "out" / ".mprnet_lit.jsonl").read_bytes()


def test_training_on_an_apple_gpu_needs_no_float64(tmp_path: Path) -> None:
    """Apple GPUs degrade the patches too, in the training process."""
    kinds = ("CameraNoise", "RawNoise")
    choices = ",".join(f"{{_target_: mprnet_lit.data.degradations.{kind}}}" for kind in kinds)
    degrade = (f"task.degradation.choices=[{choices}]", "task.degradation.weights=[1,1]")
    options = ("data.degrade_on=device", "logger=none")
    text = run_on("darwin", tmp_path, ("mode=train", *TRAIN, *degrade, *options))
    assert "float64: []" in text and "last checkpoint" in text


def degradation_classes() -> list[type[Degradation]]:
    found: list[Any] = [getattr(degradations, name) for name in degradations.__all__]
    classes: list[Any] = [c for c in found if inspect.isclass(c) and not inspect.isabstract(c)]
    return [c for c in classes if c.__name__ not in ("Compose", "RandomChoice")]


@pytest.mark.parametrize("kind", degradation_classes())
def test_degradation_pickles_and_is_free_of_float64(kind: type[Degradation]) -> None:
    degradation = pickle.loads(pickle.dumps(kind()))  # for workers that are spawned
    if degradation.cpu_only():
        return
    side = 32 + 2 * degradation.margin
    draws = [degradation.draw((side, side), np.random.default_rng(n)) for n in range(2)]
    batch = default_collate([default_convert(draw) for draw in draws])
    dtypes = {leaf.dtype for leaf in tree_leaves(batch)}
    assert torch.float64 not in dtypes
    with Doubles() as doubles:
        degradation.degrade_batch(torch.rand(2, 3, side, side), batch)
    assert doubles.found == set()


@pytest.mark.parametrize("pipes", [False, True])
def test_spawned_workers_get_a_dataset_that_pickles(
    pipes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pipes:
        monkeypatch.setattr("mprnet_lit.data.shared_memory._free", lambda folder: 300_000)
    data = RestorationDataModule(
        Photos("train"), Photos("val"), GaussianNoise(), patch_size=32, num_workers=1
    )
    data.setup()
    loader = data.train_dataloader()
    sent = (loader.dataset, loader.collate_fn, loader.worker_init_fn)
    dataset, collate, start = pickle.loads(pickle.dumps(sent))
    start(0)
    keys = [key for key, _ in zip(loader.sampler, range(2), strict=False)]
    ours, theirs = ([d[key] for key in keys] for d in (loader.dataset, dataset))
    batches = [default_convert(collate(items)) for items in (ours, theirs)]
    assert torch.equal(batches[0]["degraded"], batches[1]["degraded"])


def test_every_text_file_has_an_encoding() -> None:
    """On Windows, the default is the code page of the user."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            modes = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
            opens = node.func.attr == "open" and set(modes) & {"r", "w", "a", "x"}
            reads = node.func.attr in ("read_text", "write_text")
            is_ours = ast.unparse(node.func.value) == "reading"  # utils.untrusted
            given = {keyword.arg for keyword in node.keywords}
            assert is_ours or not (opens or reads) or "encoding" in given, f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    ("path", "real"),
    [
        (r"C:\photo.jpg", r"C:\photo.jpg"),
        (r"C:\in\..\photo.jpg", r"C:\photo.jpg"),
        (r"\\server\share\photo.jpg", r"\\server\share\photo.jpg"),
    ],
)
def test_real_path_at_the_root_of_a_drive(
    path: str, real: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_state, "os", WINDOWS)
    monkeypatch.setattr(PureWindowsPath, "is_symlink", lambda self: False, raising=False)
    windows: Any = PureWindowsPath(path)
    assert RealPathCache()(windows) == real


@pytest.mark.parametrize(
    ("source", "relative"),
    [
        (r"C:\in\photo.jpg", "../in/photo.jpg"),
        (r"C:\photo.jpg", "../photo.jpg"),
        (r"D:\photo.jpg", "D:/photo.jpg"),
        (r"D:\in\photo.jpg", "D:/in/photo.jpg"),
    ],
)
def test_record_of_another_drive(
    source: str, relative: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record(tmp_path)
    record.folder = PureWindowsPath(r"C:\out")  # type: ignore[assignment]
    monkeypatch.setattr(restore_record, "os", WINDOWS)
    assert record.relative(source) == relative
    assert ntpath.normpath(ntpath.join(r"C:\out", relative)) == source


@pytest.mark.parametrize(
    "path", [r"\\server\share\new", r"C:\new folder\a", r"C:\new\a.png", r"C:\new" + "\\"]
)
def test_windows_path_in_an_override(path: str) -> None:
    override = quote_files(f"output={path}", sweep=False)
    assert OverridesParser.create().parse_override(override).value() == path


def test_result_is_refused_if_its_name_differs_only_in_case_from_an_input(tmp_path: Path) -> None:
    """A hard link stands for a file system that ignores case."""
    photo, other = tmp_path / "photo.JPG", tmp_path / "photo.jpg"
    photo.write_bytes(b"")
    assert len(find_jobs(str(photo), str(other))) == 1
    other.write_bytes(b"")  # another file
    assert len(find_jobs(str(photo), str(other))) == 1
    other.unlink()
    other.hardlink_to(photo)
    with pytest.raises(UserError, match="would be overwritten, but is an input file"):
        find_jobs(str(photo), str(other))


def test_break_of_the_windows_console_counts_as_hangup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGHUP")
    assert signals.hangup_signals() == []
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR2, raising=False)
    assert signals.hangup_signals() == [signal.SIGUSR2]


def test_signal_that_windows_cannot_send_to_children(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(number: int) -> None:
        raise ValueError("only SIGTERM, CTRL_C_EVENT and CTRL_BREAK_EVENT signals are supported")

    child = SimpleNamespace(send_signal=send)
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: [child])
    monkeypatch.setattr(signals, "_received", [])
    monkeypatch.setattr(signals, "_in_sweep", lambda: True)
    signals._receive(signal.SIGINT, None)
    assert signals.received_signal() == signal.SIGINT


def test_peak_memory_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(hardware, "Path", lambda name: Path("/none"))  # no /proc
    monkeypatch.setattr(
        psutil.Process, "memory_info", lambda self: SimpleNamespace(peak_wset=3_000_000)
    )
    assert hardware.peak_resident() == 3e6


def test_port_is_exclusive_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    option = socket.SO_KEEPALIVE  # any option of this system
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", option, raising=False)
    with _listening("127.0.0.1", 0) as listener:
        assert listener.getsockopt(socket.SOL_SOCKET, option)
        assert not listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_apple_gpu_out_of_memory() -> None:
    message = "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB)"
    assert is_out_of_memory(RuntimeError(message))
    restorer = Restorer(smallest_network(), device="cpu")
    for text, kind in ((message, UserError), ("another error", RuntimeError)):

        def fail(x: torch.Tensor, text: str = text) -> Any:
            raise RuntimeError(text)

        restorer.network = fail
        with pytest.raises(kind, match="smaller tile" if kind is UserError else text):
            restorer.restore(torch.zeros(1, 3, 8, 8))
