"""Shared fixtures: golden data, photographs and the command line."""

import faulthandler
import gc
import hashlib
import importlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ["OMP_NUM_THREADS"] = "1"  # tests run in parallel; set before importing torch

import absl.logging
import numpy as np
import pytest
import safetensors.torch
import skimage
import torch
from filelock import FileLock
from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from numpy.typing import NDArray

from mprnet_lit.__main__ import main
from mprnet_lit.cli.command_line import chosen_mode, translate
from mprnet_lit.config.groups import mode_keys
from mprnet_lit.models import MPRNet
from mprnet_lit.utils.atomic import write_atomic
from mprnet_lit.utils.errors import UserError
from tests import composition
from tests.order import slow_files_first
from tests.warm import import_tests, warm_python

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

if hasattr(signal, "SIGHUP"):  # nohup ignores the signal, which child processes would inherit
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# OpenVINO imports absl, whose log handler would close pytest's stream when Hydra sets up logging.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

DATA = Path(__file__).parent / "fixtures"
PHOTOS = Path(skimage.__file__).parent / "data"


@dataclass(frozen=True)
class Golden:
    """Outputs of the reference implementation (see tests/fixtures/README.md)."""

    arrays: dict[str, NDArray[Any]]

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays[name])

    def group(self, prefix: str) -> dict[str, NDArray[Any]]:
        return {
            name.removeprefix(prefix): array
            for name, array in self.arrays.items()
            if name.startswith(prefix)
        }

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(a) for name, a in self.group("weight/").items()}


composition.cache_compositions()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = slow_files_first(items)


def pytest_collection_finish() -> None:
    """Collect garbage less often, and not among the modules, which takes an eighth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


@pytest.hookimpl(wrapper=True)
def pytest_sessionstart(session: pytest.Session) -> Iterator[None]:
    """Import the tests once, and fork the workers of pytest-xdist from this process."""
    workers = session.config.getoption("numprocesses", None)  # None in the workers
    if not workers or sys.platform != "linux":
        yield
        return
    import_tests(session.config.args)
    with warm_python():
        yield


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_testnodedown(node: Any, error: Any) -> None:
    """Print the exit status of a worker of pytest-xdist that crashed; -9 means SIGKILL."""
    if error:
        status = node.gateway._io.popen.wait(10)
        print(f"\n{node.gateway.id} crashed with exit status {status}", file=sys.stderr)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["MPRNET_LIT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def same_state() -> Iterator[None]:
    """Restore the state of a new process: the environment and the configuration of Hydra.

    A training leaves its seed and its process number in the environment.
    """
    before = os.environ.copy()
    yield
    HydraConfig.instance().cfg = None
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before.items() - os.environ.items())


@pytest.fixture(scope="session")
def golden() -> Golden:
    with np.load(DATA / "parity_small.npz") as file:
        return Golden(dict(file))


@pytest.fixture(scope="session")
def published_shapes() -> dict[str, dict[str, Any]]:
    return {
        size: json.loads((DATA / f"official_state_dict_{size}.json").read_text())
        for size in ("small", "base", "large")
    }


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[], bytes]], bytes]:
    """Return the content of a file, which the first pytest-xdist worker to request it creates."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # shared by all workers

    def get(name: str, make: Callable[[], bytes]) -> bytes:
        path = folder / f"shared-{name}"
        with FileLock(f"{path}.lock"):
            if not path.exists():
                write_atomic(path, make())  # a test may kill the process that writes
            return path.read_bytes()

    return get


@pytest.fixture(scope="session", autouse=True)
def shared_compositions(shared: Callable[[str, Callable[[], bytes]], bytes]) -> None:
    composition.shared = shared


@pytest.fixture(scope="session")
def convert_once(shared: Callable[[str, Callable[[], bytes]], bytes]) -> Iterator[None]:
    """Trace and convert each network once, which takes 10 seconds each."""
    module = importlib.import_module("mprnet_lit.export.to_onnx")
    trace, convert = module.trace, module._convert

    def name(model: MPRNet) -> str:
        state = safetensors.torch.save({k: v.clone() for k, v in model.state_dict().items()})
        return hashlib.sha256(state + repr(model.size).encode()).hexdigest()

    programs: dict[str, Any] = {}

    def save(model: MPRNet) -> bytes:
        programs[name(model)] = trace(model)
        torch.export.save(programs[name(model)], file := io.BytesIO())
        return file.getvalue()

    def saved(model: MPRNet) -> bytes:
        return shared(f"{name(model)}.pt2", lambda: save(model))

    def original(model: MPRNet) -> Any:  # a program that was saved and loaded can't be converted
        saved(model)
        return programs.get(name(model)) or trace(model)

    def converted(model: MPRNet) -> Any:
        content = shared(f"{name(model)}.onnx", lambda: convert(model).SerializeToString())
        return importlib.import_module("onnx").load_from_string(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_convert", converted)
        patch.setattr(module, "trace", original)
        patch.setattr(importlib.import_module("mprnet_lit.cli.export"), "_program", saved)
        yield


def smallest_network() -> MPRNet:
    """Return the smallest network with fixed weights and an output close to its input."""
    torch.manual_seed(0)
    model = MPRNet(8, 4, 4, 1)
    tail = model.tail.weight.detach() / 100
    model.start_from_identity()
    with torch.no_grad():
        model.tail.weight.copy_(tail)
    return model.eval()


@dataclass(frozen=True)
class Outcome:
    """Output and folder of a command."""

    output: str
    errors: str
    folder: Path

    def file(self, pattern: str) -> Path:
        """Return the only file of the run folders that matches the pattern."""
        found = sorted(self.folder.glob(f"runs/**/{pattern}"))
        assert len(found) == 1, f"{pattern}: {found}\n{self.output}\n{self.errors}"
        return found[0]

    def json(self, pattern: str) -> Any:
        return json.loads(self.file(pattern).read_text())


# The smallest network, unless a test selects a size.
SMALLEST = ("model.width=8", "model.unet_step=4", "model.orsnet_step=4", "model.cabs_per_orb=1")

# Minimal settings of a training: small patches of the embedded photographs.
QUICK = (
    "model=tiny",
    *SMALLEST,
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",  # the same on every machine
    "data.patch_size=16",
    "data.batch_size=2",
    "data.crops_per_image=2",
    "data.val_crop_size=32",
)

Cli = Callable[..., Outcome]


def quick(arguments: Sequence[str]) -> list[str]:
    """Prepend the quick settings of the mode, which the arguments override.

    An argument such as ``model=small`` replaces all settings of the network.
    """
    try:
        keys = mode_keys(chosen_mode(translate(arguments)))
    except UserError:  # the command will fail with this error
        keys = mode_keys("train")
    settings = [s for s in QUICK if s.partition("=")[0] in keys]
    if any(argument.startswith("model=") for argument in arguments):
        settings = [s for s in settings if not s.startswith("model")]
    return [*settings, *arguments]


def start_cli(
    folder: Path, *arguments: str, warm: bool = True, **popen: Any
) -> subprocess.Popen[str]:
    """Start ``python -m mprnet_lit`` with the quick settings in ``folder``.

    Args:
        folder: working directory of the command.
        arguments: arguments of the command, after the quick settings.
        warm: whether to fork the test process instead of starting a new interpreter.
        popen: further options of ``Popen``.
    """
    with warm_python(warm):
        return subprocess.Popen(
            [sys.executable, "-m", "mprnet_lit", *quick(arguments)],
            cwd=folder,
            env=os.environ | {"COLUMNS": "200"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **popen,
        )


class ForkedCommand:
    """Command in a fork of the test process, which saves the time of the imports.

    The class is for commands that tests kill or signal. It has a subset of the methods of Popen.
    """

    def __init__(
        self, folder: Path, *arguments: str, before: Callable[[], Any] = lambda: None
    ) -> None:
        self._printed = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115

        def run() -> None:
            for descriptor, file in enumerate(self._printed, start=1):
                os.dup2(file.fileno(), descriptor)
            sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
            faulthandler.enable(sys.stderr)  # pytest enabled it for its own stream
            os.chdir(folder)
            os.environ["COLUMNS"] = "200"
            sys.argv = ["mprnet_lit", *quick(arguments)]
            before()
            main()

        self._process = multiprocessing.get_context("fork").Process(target=run)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid or 0, number)

    def kill(self) -> None:
        self._process.kill()

    def printed(self) -> tuple[str, str]:
        """Return the standard output and standard error so far."""
        read = []
        for file in self._printed:
            size = os.fstat(file.fileno()).st_size
            read.append(os.pread(file.fileno(), size, 0).decode())
        return read[0], read[1]

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        self._process.join(timeout)
        assert self.returncode is not None, self.printed()
        return self.printed()


@pytest.fixture
def shell(tmp_path: Path) -> Cli:
    """Run the command in a separate process, in the folder of the test."""

    def run(*arguments: str, status: int = 0, **options: Any) -> Outcome:
        process = start_cli(tmp_path, *arguments, **options)
        output, errors = process.communicate(timeout=300)
        assert process.returncode == status, f"{output}\n{errors}"
        return Outcome(output, errors, tmp_path)

    return run


_get_mode = Hydra.get_mode


def _mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """Return ``hydra.mode``; skip the slow composition if no override can set it."""
    if any(override.lstrip("+").startswith(("hydra", "sweep")) for override in overrides):
        return _get_mode(hydra, config_name, overrides)
    return None


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run the command in the test process, which saves the time of the imports.

    Processes that the command starts are forks of the test process.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(Hydra, "get_mode", _mode)

    def run(*arguments: str, status: int = 0) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["mprnet_lit", *quick(arguments)])
        capfd.readouterr()
        ended = 0
        try:
            with warm_python():
                main()
        except SystemExit as exit:
            ended = int(exit.code or 0)
        outcome = Outcome(*capfd.readouterr(), tmp_path)
        assert ended == status, f"{outcome.output}\n{outcome.errors}"
        return outcome

    return run


def start_chromium(folder: Path, log: str, **preferences: str) -> "Chrome":
    """Start headless Chromium and record the given kind of log."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=1200,1000",
        f"--user-data-dir={folder}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {log: "ALL"})
    options.add_experimental_option("prefs", preferences)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Chrome"]:
    """Browser that records its console."""
    driver = start_chromium(tmp_path_factory.mktemp("chromium"), "browser")
    yield driver
    driver.quit()
