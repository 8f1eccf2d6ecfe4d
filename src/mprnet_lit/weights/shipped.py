"""Pretrained weights that are part of the package and need no download.

docs/weights.md describes their training, docs/quality.md their quality.
"""

from pathlib import Path

from mprnet_lit.utils.errors import UserError

_FOLDER = Path(__file__).parent / "shipped"
SHIPPED = tuple(sorted(path.stem for path in _FOLDER.glob("*.safetensors")))
"""Names of the shipped weights: one MPRNet of size ``tiny`` per task."""


def shipped(name: str) -> Path:
    """Return the path of shipped weights.

    Args:
        name: name of a task in ``SHIPPED``.

    Raises:
        UserError: ``name`` is not in ``SHIPPED``.
    """
    if name not in SHIPPED:
        raise UserError(f"name={name} must be one of the shipped weights: {', '.join(SHIPPED)}")
    return _FOLDER / f"{name}.safetensors"
