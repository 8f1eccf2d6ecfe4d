"""Comparison of a photo before and after its restoration, as HTML."""

import html
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from PIL import Image

EMPTY = '<p class="empty">Choose a photo and press Restore to compare before and after.</p>'
"""Text in place of the comparison before the first restoration."""


def stylesheet() -> str:
    """Return the CSS of the page."""
    return (files("mprnet_lit.serving") / "web" / "page.css").read_text(encoding="utf-8")


def script() -> str:
    """Return the JavaScript function that runs once when the page is loaded."""
    return (files("mprnet_lit.serving") / "web" / "page.js").read_text(encoding="utf-8")


def comparison(name: str, before: Path, after: Path) -> str:
    """Return the comparison of two images of equal size.

    A range input lies over both images, so that mouse, finger and arrow keys move the line, and
    screen readers announce its position.

    Args:
        name: file name of the photo.
        before: preview of the photo, in the folder of uploads and results.
        after: preview of the restored photo, in the same folder.
    """
    with Image.open(before) as image:
        width, height = image.size
    name = html.escape(name)
    pictures = "".join(
        f'<img class="{side}" src="gradio_api/file={quote(str(path))}" alt="{name} {side} the '
        f'restoration" width="{width}" height="{height}" draggable="false">'
        for side, path in (("after", after), ("before", before))
    )
    return (
        f'<figure class="compare" style="--width: {width}; --height: {height}">'
        f'<div class="view"><div class="stage">{pictures}'
        '<input type="range" min="0" max="100" step="1" value="50" '
        'aria-label="Line between before (left) and after (right), in percent" '
        "oninput=\"this.parentNode.style.setProperty('--at', this.value + '%')\">"
        '<span class="line" aria-hidden="true"></span></div></div>'
        '<figcaption><span>\u2190 before</span><button type="button" aria-pressed="false" '
        "onclick=\"const on = this.closest('figure').classList.toggle('zoomed'); "
        "this.setAttribute('aria-pressed', on)\">Zoom in</button><span>after \u2192</span>"
        "</figcaption></figure>"
    )
