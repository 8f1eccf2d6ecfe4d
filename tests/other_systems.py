"""Simulation of Windows and macOS in a process of its own.

The modules of the package are imported again without the modules, the functions and the signals
that the system lacks, after their dependencies have been imported.
"""

import importlib
import multiprocessing
import os
import pkgutil
import signal
import sys
from types import SimpleNamespace

from lightning.pytorch.trainer.connectors import signal_connector

_MODULES = ("fcntl", "grp", "pwd", "resource", "termios")
_FUNCTIONS = {
    "win32": "O_NOFOLLOW fork forkpty getpgid geteuid getuid killpg mkfifo nice "
    "sched_getaffinity setsid statvfs sysconf uname getloadavg",
    "darwin": "sched_getaffinity",
}
_SIGNALS = ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "SIGUSR2")


def modules() -> list[str]:
    """Import all modules of the package and the plugins, and return their names."""
    found = []
    for top in ("mprnet_lit", "hydra_plugins"):
        package = importlib.import_module(top)
        for module in pkgutil.walk_packages(package.__path__, f"{top}."):
            if "mprnet_lit" in module.name and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
                found.append(module.name)
    return found


def become(system: str) -> list[str]:
    """Change this process to a system, ``win32`` or ``darwin``; return the imported modules."""
    before = modules()
    for name in [name for name in sys.modules if "mprnet_lit" in name]:
        del sys.modules[name]
    sys.platform = system
    for function in _FUNCTIONS[system].split():
        if hasattr(os, function):
            delattr(os, function)
    if system == "win32":
        for name in _MODULES:
            sys.modules[name] = None  # type: ignore[assignment]  # an import raises ImportError
        # Lightning saves and restores the handlers of all signals that this machine has.
        vars(signal_connector)["signal"] = SimpleNamespace(**vars(signal))
        for name in _SIGNALS:
            delattr(signal, name)
    multiprocessing.set_start_method("spawn", force=True)
    after = modules()
    assert after == before
    return after
