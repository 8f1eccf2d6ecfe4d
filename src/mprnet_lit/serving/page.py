"""The Gradio page, and the server that stops cleanly."""

import html
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

from rich.console import Console

from mprnet_lit.data.formats import IMAGE_SUFFIXES
from mprnet_lit.errors import UserError, install_hint
from mprnet_lit.serving.restoring import Choices, Limits
from mprnet_lit.tracking.terminal import say

_CSS = (
    ".gradio-container { max-width: 1100px !important; margin: auto } #line { min-height: 1.5em }"
)
# The browser itself refuses whatever would leave this server.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; "
    "frame-ancestors 'none'"
)


class _Policy:
    """Adds the policy to each answer."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", _POLICY.encode())
                message = {**message, "headers": [*message.get("headers", ()), policy]}
            await send(message)

        await self.app(scope, receive, with_policy)


def serve(
    choices: Choices,
    limits: Limits,
    host: str,
    port: int,
    tlc: bool,
    self_ensemble: bool,
    console: Console,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM; what was uploaded and made is then removed.

    Raises:
        UserError: gradio is not installed, or the port can't be used.
    """
    _check_port(host, port)
    stop = threading.Event()
    received: list[int] = []

    def end(number: int, _: Any) -> None:
        received.append(number)
        stop.set()

    folder = Path(tempfile.mkdtemp(prefix="mprnet_lit-serve-"))
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        blocks = _page(choices, limits, folder, tlc, self_ensemble)
        from starlette.middleware import Middleware

        blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=int(limits.megabytes * 1e6),
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            footer_links=[],
            app_kwargs={"middleware": [Middleware(_Policy)]},
            theme=_theme(),
            css=_CSS,
        )
        say(console, f"Open http://{host}:{port} in a browser; Ctrl-C ends it")
        stop.wait()
        blocks.close(verbose=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    name = signal.Signals(received[0]).name
    say(console, f"Stopped by {name}; what was uploaded and restored is removed")
    console.file.flush()
    os._exit(0)  # a restoration that is under way would hold the process


def _page(choices: Choices, limits: Limits, folder: Path, tlc: bool, self_ensemble: bool) -> Any:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    for key in ("NO_PROXY", "no_proxy"):  # gradio asks its own server whether it is up
        os.environ[key] = ",".join(filter(None, (os.environ.get(key), "127.0.0.1,localhost")))
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        import gradio as gr
    except ImportError as error:
        raise UserError(f"mode=serve needs gradio: {install_hint('serve')}") from error

    def restore(file: str | None, name: str, tlc: bool, self_ensemble: bool) -> tuple[Any, ...]:
        try:
            if not file:
                raise UserError("there is no photo yet: drop one, or click to choose it")
            result = choices.restore(Path(file), name, tlc, self_ensemble, limits, folder)
        except UserError as error:
            line = f"<b>Not restored:</b> {html.escape(str(error))}"
            return None, gr.DownloadButton(value=None, interactive=False), line
        button = gr.DownloadButton(value=str(result.file), interactive=True)
        return (result.before, result.after), button, html.escape(result.line)

    with gr.Blocks(
        title="mprnet_lit", analytics_enabled=False, delete_cache=(3600, 3600)
    ) as blocks:
        gr.Markdown("## Restore a photo")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                photo = gr.File(
                    label=f"Photo, up to {limits.megabytes:g} MB and "
                    f"{limits.megapixels:g} megapixels",
                    file_types=sorted(IMAGE_SUFFIXES),
                    elem_id="photo",
                )
                names = [(label, name) for name, label in choices.labels.items()]
                weights = gr.Dropdown(names, value=names[0][1], label="Task and weights")
                local = gr.Checkbox(tlc, label="TLC", info="Local averages: for large photos")
                mean = gr.Checkbox(
                    self_ensemble, label="Self-ensemble", info="Mean of 8 views: 8 times the work"
                )
                button = gr.Button("Restore", variant="primary", elem_id="restore")
            with gr.Column(scale=2, min_width=280):
                slider = gr.ImageSlider(
                    label="Before and after",
                    format="png",
                    buttons=["fullscreen"],
                    elem_id="slider",
                    interactive=False,
                )
                line = gr.HTML(elem_id="line")
                download = gr.DownloadButton("Download", interactive=False, elem_id="download")
        button.click(
            restore,
            [photo, weights, local, mean],
            [slider, download, line],
            concurrency_limit=1,
            concurrency_id="restore",
        )
    blocks.queue(default_concurrency_limit=1, max_size=20)
    return blocks


def _theme() -> Any:
    import gradio as gr

    return gr.themes.Default(
        font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )


def _check_port(host: str, port: int) -> None:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise UserError(
            f"can't listen on {host} port {port} ({error.strerror}): choose another port=NUMBER"
        ) from error
