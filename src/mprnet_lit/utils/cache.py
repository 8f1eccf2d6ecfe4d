"""Cache folder: copies of files at URLs, and manifests of data folders."""

import os
from pathlib import Path

CACHE = "MPRNET_LIT_CACHE"
"""Environment variable with the path of the folder."""


def cache_folder() -> Path:
    """Return ``MPRNET_LIT_CACHE``, by default ``mprnet_lit`` in the cache folder of the user."""
    if own := os.environ.get(CACHE):
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return Path(base, "mprnet_lit").absolute()
