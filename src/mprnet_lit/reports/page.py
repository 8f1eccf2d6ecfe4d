"""Self-contained HTML pages: templates, embedded data and embedded images."""

import base64
import html
import json
import re
from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from io import BytesIO
from typing import Any

from PIL import Image

from mprnet_lit.utils.masking import mask_home_folders
from mprnet_lit.utils.text import printable

_IMAGE = "data:image/webp;base64,"
_HASHES = "SHA-256 OF EACH SCRIPT"
"""Placeholder in the content security policy of head.html."""


def fill(template: str, title: str, data: Any, scripts: Mapping[str, str] | None = None) -> bytes:
    """Return a page from a template with ``{{title}}``, ``{{data}}`` and ``{{FILE}}``.

    The content security policy allows only the scripts of the page. Control characters in
    texts are escaped, and home directories are masked.

    Args:
        template: name of an HTML file in the folder ``web``.
        title: title of the page.
        data: plain values to embed as JSON.
        scripts: JavaScript by file name; other files are read from the folder ``web``.
    """
    folder = files("mprnet_lit.reports") / "web"
    # Only "<" can end a script element, so escaping it is sufficient.
    parts = {
        **(scripts or {}),
        "title": html.escape(printable_text(title)),
        "data": json.dumps(_printable(data), allow_nan=False).replace("<", "\\u003c"),
    }

    def part(match: re.Match[str]) -> str:
        name = match[1]
        return parts[name] if name in parts else (folder / name).read_text(encoding="utf-8").strip()

    page = (folder / template).read_text(encoding="utf-8")
    # In one pass, because inserted texts may contain "{{data}}".
    page = re.sub(r"\{\{(title|data|\w+\.(?:css|js|html))\}\}", part, page)
    hashes = (
        f"'sha256-{base64.b64encode(sha256(script.encode()).digest()).decode()}'"
        for script in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    )
    return page.replace(_HASHES, " ".join(hashes), 1).encode()


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
