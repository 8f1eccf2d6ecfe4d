"""The weights inside the package, by name: so that a photo can be restored with no download.

How they were trained, on what, and what they reach: docs/weights.md and docs/quality.md.
"""

from pathlib import Path

SHIPPED = ("denoise", "deblur", "derain")
"""The names, which are the tasks'; MPRNet ``tiny`` each."""
_FOLDER = Path(__file__).parent / "shipped"


def shipped(name: str) -> Path:
    """Return the file of the shipped weights of that name.

    Raises:
        KeyError: there are none.
    """
    if name not in SHIPPED:
        raise KeyError(name)
    return _FOLDER / f"{name}.safetensors"
