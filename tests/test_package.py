"""The wheel (reproducible, complete, runs from any folder) and its dependencies."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from mprnet_lit.config.messages import _EXTRAS
from mprnet_lit.utils import errors
from mprnet_lit.utils.errors import install_hint

ROOT = Path(__file__).parents[1]


def build(source: Any, output: Any, epoch: str = "1700000000") -> Any:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", output]
    environment = os.environ | {"SOURCE_DATE_EPOCH": epoch}
    subprocess.run([*command, source], check=True, capture_output=True, env=environment)
    (wheel,) = output.glob("*.whl")
    return wheel


def test_wheel_is_reproducible_and_runs_from_any_folder(
    tmp_path: Path,
) -> None:
    wheel = build(ROOT, tmp_path)
    # A copy with other times, modes and surrounding files.
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "elsewhere")
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, tmp_path / "elsewhere" / name, copy_function=shutil.copyfile)
    for path in (tmp_path / "elsewhere").glob("**/*.yaml"):
        path.chmod(0o600)
        os.utime(path, (1, 1))
    assert build(tmp_path / "elsewhere", tmp_path / "again").read_bytes() == wheel.read_bytes()

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        packed = {n for n in names if n.startswith("mprnet_lit/conf/")}
        archive.extractall(tmp_path / "installed")
    assert packed == {
        f"mprnet_lit/{path.relative_to(ROOT).as_posix()}" for path in ROOT.glob("conf/**/*.yaml")
    }
    for task in ("deblur", "denoise", "derain"):
        assert f"mprnet_lit/weights/shipped/{task}.safetensors" in names

    # Custom configuration files are found through --config-dir.
    mine = tmp_path / "mine" / "experiment" / "gentle.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# @package _global_\noptimizer:\n  lr: 1.0e-5\n")
    done = subprocess.run(
        [sys.executable, "-m", "mprnet_lit", "--config-dir", "mine", "--cfg", "job",
         "experiment=gentle"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["optimizer"]["lr"] == 1e-5


def test_every_dependency_is_bounded_and_its_lowest_version_is_tested() -> None:
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lower = {}
    for line in lines:
        found = re.fullmatch(r"([\w-]+)[>=]=([\d.]+)(,<[\d.]+)?", line)
        assert found is not None, line
        name, low, high = found.groups()
        assert high or line.startswith("albumentations=="), line
        lower[name] = low
    pins = [p for p in (ROOT / "requirements/lowest.txt").read_text().splitlines() if p[0] != "#"]
    assert dict(pin.split("==") for pin in pins) == lower
    if Path(sys.prefix).name.endswith("-lowest"):  # `make test-lowest` uses the lowest versions
        assert {name: version(name).partition("+")[0] for name in lower} == lower


def texts(*patterns: Any) -> dict[Any, str]:
    """Return the text of the files that match the patterns, by relative path."""
    paths = [path for pattern in patterns for path in ROOT.glob(pattern)]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}


def test_extras_in_install_hints_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(extras["optional-dependencies"])
    package = texts("src/**/*.py", "conf/**/*.yaml")
    named = {name for name, text in package.items() if "pip install" in text}
    assert named == {"src/mprnet_lit/utils/errors.py"}
    used = set()
    for name, text in package.items():
        used |= set(re.findall(r"install_hint\(\W(\w+)\W\)", text))
        used |= set(re.findall(r"extra `(\w+)`", text)) if name.startswith("conf/") else set()
    assert {"onnx", "video", "heic", "ray"} <= used <= extras
    assert set(_EXTRAS.values()) <= extras
    documents = texts("README.md", "SECURITY.md", "docs/**/*.md", "notebooks/*.ipynb")
    for name, text in documents.items():
        assert "pip install mprnet_lit" not in text and "pip install 'mprnet_lit" not in text, name
        assert set(re.findall(r"pip install .*?'?\.\[(\w+)\]", text)) <= extras, name


def test_install_hint_works_from_checkout_and_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert install_hint("onnx") == f"pip install -e '{ROOT}[onnx]'"
    monkeypatch.chdir(ROOT)
    assert install_hint("onnx") == "pip install -e '.[onnx]'"
    installed = tmp_path / "site-packages" / "mprnet_lit" / "errors.py"
    monkeypatch.setattr(errors, "__file__", str(installed))
    assert install_hint("onnx") == "pip install 'mprnet_lit[onnx]'"


def test_telemetry_of_libraries_is_disabled_on_import() -> None:
    # Checked with a proxy for a minute: onnxruntime 1.32 makes requests only without its variable.
    told = {
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    code = f"import mprnet_lit, os; print(*(os.environ[name] for name in {list(told)}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={k: v for k, v in os.environ.items() if k not in told},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == list(told.values()), done.stderr


def test_shipped_files_name_no_developer_machine() -> None:
    words = ("/root/", "/home/", "/tmp/")
    for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("conf/**/*.yaml"), ROOT / "README.md"]:
        assert not any(word in path.read_text() for word in words), path
