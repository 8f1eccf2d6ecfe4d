"""Web page with Gradio and the REST endpoint, behind a request filter."""

import html
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mprnet_lit.images.formats import IMAGE_SUFFIXES
from mprnet_lit.serving.allowed_hosts import AllowedHosts
from mprnet_lit.serving.comparison import EMPTY, comparison, script, stylesheet
from mprnet_lit.serving.limits import Limits
from mprnet_lit.serving.photo_restorer import Options, PhotoRestorer
from mprnet_lit.serving.uploads import Uploads
from mprnet_lit.utils.errors import UserError, install_hint

if TYPE_CHECKING:
    from mprnet_lit.serving.request_filter import RequestFilter


def build_app(
    restorer: PhotoRestorer,
    limits: Limits,
    uploads: Uploads,
    host: str,
    allowed_hosts: Iterable[str] = (),
    *,
    tlc: bool = False,
    self_ensemble: bool = False,
    strength: float = 1.0,
) -> "RequestFilter":
    """Build the page and the REST endpoint as an ASGI application.

    Args:
        restorer: restorer with the weights that the page offers.
        limits: limits of one photo.
        uploads: folder of uploads and results.
        host: host name or IP address that the server listens on.
        allowed_hosts: further host names of the page, without ports.
        tlc: initial state of the checkbox "TLC".
        self_ensemble: initial state of the checkbox "Self-ensemble".
        strength: initial position of the slider "Strength", 0 to 1.

    Raises:
        UserError: gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(uploads.folder)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        import gradio as gr
        from fastapi import FastAPI

        from mprnet_lit.serving.api import Api
        from mprnet_lit.serving.request_filter import RequestFilter
    except ImportError as error:
        raise UserError(f"mode=serve needs gradio: {install_hint('serve')}") from error

    blocks, function = _page(restorer, limits, uploads, tlc, self_ensemble, strength)
    blocks.has_launched = True  # otherwise Gradio does not check file paths
    defaults = Options(next(iter(restorer.labels)), tlc, self_ensemble, strength)
    app = gr.mount_gradio_app(
        FastAPI(openapi_url=None, routes=Api(restorer, limits, uploads, defaults).routes),
        blocks,
        path="/",
        show_error=False,
        max_file_size=int(limits.megabytes * 1e6),
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        footer_links=[],
        theme=_theme(),
        css=stylesheet(),
        js=script(),
    )
    hosts = AllowedHosts(host, allowed_hosts)
    return RequestFilter(app, uploads, hosts, limits.megabytes * 1e6, function)


def _theme() -> Any:
    """Return Gradio's theme with legible hints and buttons."""
    import gradio as gr

    theme = gr.themes.Default(
        primary_hue="blue",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    return theme.set(  # contrast of at least 4.5 to 1, on light and on dark pages
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_info_text_size="*text_md",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_label_text_size="*text_md",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


def _page(
    restorer: PhotoRestorer,
    limits: Limits,
    uploads: Uploads,
    tlc: bool,
    self_ensemble: bool,
    strength: float,
) -> tuple[Any, int]:
    """Return the Gradio blocks and the index of the function that the button calls."""
    import gradio as gr

    def restore(
        file: str | None, name: str, tlc: bool, self_ensemble: bool, strength: float
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the comparison, the download and the status line; first the place in the line."""
        try:
            if not file:
                raise UserError("no photo is selected: drop a photo, or click to choose one")
            options = Options(name, tlc, self_ensemble, strength)
            with restorer.turn(Path(file), options, limits) as turn:
                place = turn.ticket.place
                while place:
                    yield gr.skip(), gr.skip(), f"Place {place} in the queue."
                    place = turn.ticket.wait(place)
                result = restorer.restore(turn, uploads)
        except UserError as error:
            line = f"<b>Not restored:</b> {html.escape(str(error))}"
            yield EMPTY, gr.DownloadButton("Download", value=None, interactive=False), line
            return
        assert result.before is not None and result.after is not None
        name = f"Download {result.file.name} ({result.size})"
        yield (
            comparison(Path(file).name, result.before, result.after),
            gr.DownloadButton(name, value=str(result.file), interactive=True),
            html.escape(result.line),
        )

    with gr.Blocks(
        title="Restore a photo - mprnet_lit", fill_width=True, analytics_enabled=False
    ) as blocks:
        gr.Markdown("# Restore a photo")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                photo = gr.File(
                    label=f"Photo, up to {limits.megabytes:g} MB and "
                    f"{limits.megapixels:g} megapixels",
                    file_types=sorted(IMAGE_SUFFIXES),
                    elem_id="photo",
                )
                names = [(label, name) for name, label in restorer.labels.items()]
                weights = gr.Dropdown(names, value=names[0][1], label="Task and weights")
                local = gr.Checkbox(tlc, label="TLC", info="Local averages, for large photos")
                mean = gr.Checkbox(
                    self_ensemble,
                    label="Self-ensemble",
                    info="Mean over 8 orientations, takes 8 times as long",
                )
                share = gr.Slider(
                    0,
                    1,
                    strength,
                    step=0.05,
                    label="Strength",
                    info="0: the photo itself, 1: the full restoration",
                    elem_id="strength",
                )
                button = gr.Button("Restore", variant="primary", elem_id="restore")
            with gr.Column(scale=2, min_width=280):
                shown = gr.HTML(EMPTY, elem_id="compare")
                line = gr.HTML(elem_id="line")
                download = gr.DownloadButton("Download", interactive=False, elem_id="download")
        button.click(
            restore,
            [photo, weights, local, mean, share],
            [shown, download, line],
            show_progress_on=shown,  # not on the line, where it would cover the button
            concurrency_limit=None,  # the line limits the number of photos
            api_visibility="private",
        )
    blocks.queue(api_open=False)
    function = next(number for number, fn in blocks.fns.items() if fn.name == restore.__name__)
    return blocks, function
