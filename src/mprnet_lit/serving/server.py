"""HTTP server of the page with a clean shutdown."""

import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mprnet_lit.serving.uploads import Uploads
from mprnet_lit.utils.console import print_line
from mprnet_lit.utils.errors import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_CONNECTIONS = 200
"""Maximum number of connections."""
_EXPIRY_INTERVAL = 60.0
"""Seconds between two deletions of expired files."""
_WAIT = 0.5 if sys.platform == "win32" else _EXPIRY_INTERVAL
"""Seconds of one wait for a signal. On Windows, a handler runs only after the wait."""


def serve(
    build: Callable[[Uploads], "ASGIApp"],
    host: str,
    port: int,
    max_total_mb: float,
    max_age_minutes: float,
    console: Console,
) -> None:
    """Serve a page until Ctrl-C or SIGTERM, then delete uploads and results and exit.

    Args:
        build: function that returns the ASGI application of the page.
        host: host name or IP address to listen on.
        port: port to listen on.
        max_total_mb: maximum disk space of uploads and results in MB.
        max_age_minutes: age in minutes at which uploads and results are deleted.
        console: console for the address of the page.

    Raises:
        UserError: the address or the port can't be used, or ``build`` raises it.
    """
    stop = threading.Event()
    received: list[int] = []

    def end(number: int, _: object) -> None:
        received.append(number)
        stop.set()

    with _listening(host, port) as listener:
        folder = Path(tempfile.mkdtemp(prefix="mprnet_lit-serve-")).resolve()
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, end)
            uploads = Uploads(folder, max_total_mb, max_age_minutes)
            _start(build(uploads), listener)
            shown = f"[{host}]" if ":" in host else host
            print_line(console, f"Open http://{shown}:{port} in a browser; Ctrl-C stops the server")
            expiry = time.monotonic() + _EXPIRY_INTERVAL
            while not stop.wait(_WAIT):
                if time.monotonic() >= expiry:
                    uploads.expire()
                    expiry = time.monotonic() + _EXPIRY_INTERVAL
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    name = signal.Signals(received[0]).name
    print_line(console, f"Stopped by {name}; uploads and results were deleted")
    console.file.flush()
    os._exit(0)  # a running restoration would block the exit


def _listening(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        UserError: the address can't be used, or the port is in use.
    """
    with ExitStack() as stack:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            # On Windows, SO_REUSEADDR would share the port with another server.
            exclusive = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
            option = socket.SO_REUSEADDR if exclusive is None else exclusive
            listener.setsockopt(socket.SOL_SOCKET, option, 1)
            listener.bind(address)
            listener.listen()
        except OSError as error:
            raise UserError(
                f"can't listen on {host} port {port} ({error.strerror}): set serve.port to another "
                "port"
            ) from error
        stack.pop_all()
        return listener


def _start(app: "ASGIApp", listener: socket.socket) -> None:
    """Run the server in a thread that ends with the process."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", limit_concurrency=_CONNECTIONS, server_header=False, ws="none"
    )
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()
