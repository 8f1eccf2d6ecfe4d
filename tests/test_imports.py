"""Layers of the package: each folder imports only from lower layers."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mprnet_lit

PACKAGE = Path(mprnet_lit.__file__).parent
LAYERS = (
    {"utils"},
    {"models", "images", "video", "metrics", "runs"},
    {"weights", "data", "config"},
    {"inference"},
    {"export", "reports"},
    {"training", "evaluation", "sweeps", "serving"},
    {"cli"},
)
LEVEL = {folder: level for level, layer in enumerate(LAYERS) for folder in layer}
WITHOUT_HYDRA = {"models", "images", "video", "data", "metrics", "weights", "inference"}
# Methods of MPRNet import the weights reader and writer when called; Info is an annotation.
DEFERRED = {("models/mprnet.py", f"mprnet_lit.weights.{name}") for name in ("hub", "info", "io")}


def imports(path: Path) -> Iterator[Any]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "mprnet_lit":
                yield from (f"mprnet_lit.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_imports_point_downwards() -> None:
    upward = []
    for path in PACKAGE.glob("*/**/*.py"):
        name = path.relative_to(PACKAGE)
        own = name.parts[0]
        for module in imports(path):
            package, _, rest = module.partition(".")
            folder = rest.partition(".")[0]
            if package != "mprnet_lit" or folder in ("", "__version__", own):
                continue
            if LEVEL[folder] >= LEVEL[own] and (name.as_posix(), module) not in DEFERRED:
                upward.append(f"{name.as_posix()} imports {module}")
    assert upward == []


def test_library_folders_import_neither_hydra_nor_omegaconf() -> None:
    found = [
        f"{path.relative_to(PACKAGE).as_posix()} imports {module}"
        for folder in WITHOUT_HYDRA
        for path in (PACKAGE / folder).rglob("*.py")
        for module in imports(path)
        if module.partition(".")[0] in ("hydra", "omegaconf")
    ]
    assert found == []


def test_every_folder_has_a_layer_and_the_root_has_no_modules() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(LEVEL)
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}
