"""Self-contained HTML pages: templates, embedded data and embedded images."""

import base64
import html
import json
import re
from hashlib import sha256
from importlib.resources import files
from io import BytesIO
from typing import Any

from PIL import Image

from mprnet_lit.utils.masking import mask_home_folders
from mprnet_lit.utils.text import printable

_IMAGE = "data:image/webp;base64,"


def fill(report: str, title: str, data: Any, library: str = "") -> bytes:
    """Return the page of a report: its HTML, CSS and JavaScript in ``web``, filled into page.html.

    The content security policy allows only the scripts of the page. Control characters in
    texts are escaped, and home directories are masked.

    Args:
        report: name of the files in the folder ``web``, without suffix.
        title: title of the page.
        data: plain values to embed as JSON.
        library: JavaScript that runs before the script of the report.
    """

    def read(*names: str) -> str:
        folder = files("mprnet_lit.reports") / "web"
        return "\n".join((folder / name).read_text(encoding="utf-8").strip() for name in names)

    scripts = [script for script in (library, read("page.js", f"{report}.js")) if script]
    parts = {
        "title": html.escape(printable_text(title)),
        "style": read("page.css", f"{report}.css"),
        "body": read(f"{report}.html"),
        # Only "<" can end a script element, so escaping it is sufficient.
        "data": json.dumps(_printable(data), allow_nan=False, separators=(",", ":")).replace(
            "<", "\\u003c"
        ),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
        "hashes": " ".join(f"'sha256-{_digest(script)}'" for script in scripts),
    }
    # In one pass, because inserted texts may contain "{{data}}".
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], read("page.html"))
    return f"{page}\n".encode()


def _digest(script: str) -> str:
    return base64.b64encode(sha256(script.encode()).digest()).decode()


def printable_text(text: str) -> str:
    """Escape the control characters in a text, except line breaks, and mask home directories."""
    return "\n".join(map(printable, mask_home_folders(text).splitlines()))


def _printable(data: Any) -> Any:
    if isinstance(data, dict):
        return {_printable(key): _printable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_printable(value) for value in data]
    if isinstance(data, str) and not data.startswith(_IMAGE):
        return printable_text(data)
    return data


def embed(image: Image.Image, **options: Any) -> str:
    """Return an image as a WebP data URL.

    Args:
        image: image to encode.
        options: options of Pillow's WebP encoder.
    """
    buffer = BytesIO()
    image.save(buffer, "WEBP", **options)
    return f"{_IMAGE}{base64.b64encode(buffer.getvalue()).decode()}"
