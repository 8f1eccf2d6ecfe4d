"""The documentation site builds without a warning, and its reference has all of conf/."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).parents[1]


def test_the_site_builds_and_asks_no_other_server(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text()
        assert not re.search(r'<(script|link|img)[^>]*\s(src|href)="(https?:)?//', text), page
    photo = (tmp_path / "tutorials" / "photo.html").read_text()
    assert 'href="../restore.html"' in photo
    reference = (tmp_path / "reference" / "api.html").read_text()
    assert "the network, or a weights file" in reference, "from Restorer's docstring"


def test_the_configuration_reference_has_every_file_and_key():
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    text = hooks.configuration()
    for path in (ROOT / "conf").rglob("*.yaml"):
        name = path.relative_to(ROOT / "conf").with_suffix("").as_posix()
        group, _, option = name.rpartition("/")
        group = group or "mode"
        title = f"Shared: {option[1:]}" if option.startswith("_") else f"### {group}={option}"
        section = text.partition(f"\n## {group}\n")[2].partition("\n## ")[0]
        section = section.partition(f"{title}\n")[2].partition("\n### ")[0]
        assert section, path
        for key in OmegaConf.load(path):
            assert key == "defaults" or re.search(rf"\| `{key}[.`]", section), (path, key)
    assert "| `trainer.gradient_clip_val` | `1.0` |" in text
    assert "| `holdout` | `0.1` | Share of the training images held out" in text
