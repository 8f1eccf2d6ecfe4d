"""The first page: its length, and its statements that are not commands."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_readme_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_badges_are_local_and_true() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    badges = re.findall(r"!\[([^\]]+)\]\(([^)]+\.svg)\)", README)
    assert dict(text.split(": ") for text, _ in badges) == {
        "license": project["project"]["license"],
        "python": project["project"]["requires-python"].removeprefix(">=") + "+",
        "typed": "mypy --strict" if project["tool"]["mypy"]["strict"] else "",
    }
    for text, path in badges:
        assert f"<title>{text}</title>" in (ROOT / path).read_text()


def test_results_of_the_readme_were_measured() -> None:
    """The rows of our weights repeat those of docs/quality.md, which a benchmark writes."""
    measured = (ROOT / "docs" / "quality.md").read_text()
    names = {"Kodak": "kodak24, sigma 25", "Rain100H": "rain100h", "GoPro": "gopro6"}
    rows = re.findall(r"^\| (\w+), .* \| ([\d.]+) dB \| ([\d.]+) dB \|$", README, re.M)
    assert [row[0] for row in rows] == list(names)
    for name, degraded, restored in rows:
        row = re.search(rf"^\| {names[name]} \|.*$", measured, re.M)
        assert row and degraded in row[0] and restored in row[0]
