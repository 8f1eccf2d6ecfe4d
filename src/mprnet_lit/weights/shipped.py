"""The weights inside the package, by name: so that a photo can be restored with no download.

How they were trained, on what, and what they reach: docs/weights.md and docs/quality.md.
"""

from pathlib import Path

from mprnet_lit.utils.errors import UserError

_FOLDER = Path(__file__).parent / "shipped"
SHIPPED = tuple(sorted(path.stem for path in _FOLDER.glob("*.safetensors")))
"""The names, which are the tasks'; each is an MPRNet ``tiny``."""


def shipped(name: str) -> Path:
    """Return the file of the shipped weights of that name.

    Raises:
        UserError: no weights in the package have that name.
    """
    if name not in SHIPPED:
        raise UserError(f"no weights in the package are called {name}: choose {', '.join(SHIPPED)}")
    return _FOLDER / f"{name}.safetensors"
