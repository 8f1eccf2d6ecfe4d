"""HTML pages with everything in them: templates, embedded data and pictures."""

import base64
import html
import json
import re
from importlib.resources import files
from io import BytesIO
from typing import Any

from PIL import Image

from mprnet_lit.utils.masking import hide_homes
from mprnet_lit.utils.text import printable

_PICTURE = "data:image/webp;base64,"


def fill(template: str, title: str, data: Any) -> bytes:
    """Return a page: ``{{title}}``, ``{{data}}`` and the names of files beside it filled in.

    Texts are shown without control characters and home folders.
    """
    folder = files("mprnet_lit.reports") / "web"
    # Inside a script element only "<" could end it, whatever a file's name holds.
    parts = {
        "title": html.escape(_shown(title)),
        "data": json.dumps(_shown(data), allow_nan=False).replace("<", "\\u003c"),
    }

    def part(match: re.Match[str]) -> str:
        name = match[1]
        return parts[name] if name in parts else (folder / name).read_text(encoding="utf-8").strip()

    page = (folder / template).read_text(encoding="utf-8")
    # In one pass: what is put in may itself hold "{{data}}".
    return re.sub(r"\{\{(title|data|\w+\.(?:css|js|html))\}\}", part, page).encode()


def _shown(data: Any) -> Any:
    if isinstance(data, dict):
        return {_shown(key): _shown(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_shown(value) for value in data]
    if isinstance(data, str) and not data.startswith(_PICTURE):
        return "\n".join(map(printable, hide_homes(data).splitlines()))
    return data


def embed(image: Image.Image, **options: Any) -> str:
    """Return a picture as a URL that holds it."""
    buffer = BytesIO()
    image.save(buffer, "WEBP", **options)
    return f"{_PICTURE}{base64.b64encode(buffer.getvalue()).decode()}"
