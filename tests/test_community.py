"""Community files: workflows, citation metadata, model cards."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mprnet_lit import __version__
from mprnet_lit.weights import SHIPPED
from mprnet_lit.weights.shipped import shipped

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
CASES = {
    "deblur": ("blur",),
    "denoise": ("sigma15", "sigma25", "sigma50", "camera"),
    "derain": ("rain",),
}
"""Keys of docs/quality.json for each task."""


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_has_least_permissions_and_runs_what_exists(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"].startswith(f"{path.stem}-")
    makefile = (ROOT / "Makefile").read_text()
    for job in workflow["jobs"].values():
        assert "uses" in job or job["timeout-minutes"]
        for step in job.get("steps", ()):
            assert re.search(r"@(v\d+|release/v\d+)$", step.get("uses", "@v1"))
            for target in re.findall(r"\bmake ([\w-]+)", step.get("run", "")):
                assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
            for test in re.findall(r"\btests/[\w./]+", step.get("run", "")):
                assert (ROOT / test).exists(), test


def test_every_yaml_file_in_github_folder_loads() -> None:
    paths = [*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml"]
    assert len(paths) >= 9
    for path in paths:
        assert isinstance(yaml.safe_load(path.read_text()), dict), path


def test_citation_names_this_version_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["preferred-citation"]["url"].endswith("2102.02808")


@pytest.mark.parametrize("task", SHIPPED)
def test_model_card_states_the_measured_results(task: Any) -> None:
    _, front, body = shipped(task).with_suffix(".md").read_text().split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["license"] == "apache-2.0" and card["library_name"] == "mprnet_lit"
    measured = json.loads((ROOT / "docs" / "quality.json").read_text())
    results = card["model-index"][0]["results"]
    rows = [line for line in body.splitlines() if " dB | " in line]
    for case, result, row in zip(CASES[task], results, rows, strict=True):
        before = measured[case]["rows"]["degraded"]
        after = measured[case]["rows"]["MPRNet tiny, shipped"]
        values = {metric["type"]: metric["value"] for metric in result["metrics"]}
        assert values["psnr"] == pytest.approx(after["psnr"], abs=0.006)
        assert values["ssim"] == pytest.approx(after["ssim"], abs=0.0006)
        figures = [float(x) for x in re.findall(r"\d+\.\d+", row.partition("|")[2])]
        wanted = (before["psnr"], after["psnr"], before["ssim"], after["ssim"])
        assert figures == pytest.approx(wanted, abs=0.006)


@pytest.mark.parametrize("task", SHIPPED)
def test_model_card_lists_what_a_reader_needs(task: Any) -> None:
    body = shipped(task).with_suffix(".md").read_text()
    headings = re.findall(r"^## (.+)$", body, re.MULTILINE)
    assert headings == [
        "How to load",
        "Intended use",
        "Training data",
        "Training",
        "Results",
        "Limits",
        "License",
    ]
    assert f'MPRNet.from_pretrained("{task}")' in body
    assert f"mprnet_lit restore photo.jpg task={task}" in body
