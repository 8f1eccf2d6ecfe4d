"""Reports of many runs: bounded size and memory, recorded counts, pages and filter of the table."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from tests.reports.test_untrusted_runs import make_run

from mprnet_lit.models import MPRNet
from mprnet_lit.reports import parameter_counts
from mprnet_lit.reports.curves import Curve
from mprnet_lit.reports.differences import config_differences
from mprnet_lit.reports.page import fill
from mprnet_lit.reports.runs_report import _rows, describe
from mprnet_lit.reports.trials import Trial, find_trials, ranked
from mprnet_lit.utils.untrusted import read_yaml

COUNT = 250


def many(curve_length: int = 3) -> list[Trial]:
    """Runs without settings; the PSNR of run k is (20 + k / 10) dB, every tenth run failed."""
    rng = random.Random(0)
    runs = []
    for k in range(COUNT):
        run = Trial(f"{k:03d}", state="complete")
        if k % 10:
            run.best = {"psnr": 20 + k / 10, "epoch": k % 4}
            steps = list(range(1, curve_length + 1))
            points = Curve(steps, steps, [rng.random() for _ in steps])
            run.curves = {"val/psnr": points, "val/ssim": points}
        else:
            run.state, run.error = "failed", f"out of memory in layer {k}"
        runs.append(run)
    return runs


def test_only_the_best_runs_keep_their_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mprnet_lit.reports.trials.MAX_CURVES", 2)
    for name, psnr in (("a", 3.0), ("b", 1.0), ("c", 4.0), ("d", 2.0), ("e", 5.0)):
        make_run(tmp_path / name, psnr)
    _, trials = find_trials(tmp_path)
    assert [t.name for t in ranked(trials)] == ["e", "c", "a", "d", "b"]
    assert {t.name for t in trials if t.curves} == {"e", "c"}


def test_recorded_number_of_parameters_is_not_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"width": 8, "unet_step": 4, "orsnet_step": 4, "cabs_per_orb": 1, "reduction": 4}
    built: list[Any] = []

    def build(**size: int) -> MPRNet:
        built.append(size)
        return MPRNet(**size)

    monkeypatch.setattr("mprnet_lit.models.MPRNet", build)
    parameter_counts._count.cache_clear()
    for name, summary in (("old", {}), ("older", {}), ("new", {"parameters": 7})):
        run = make_run(tmp_path / name)
        (run / "config.yaml").write_text(json.dumps({"model": sizes}))
        (run / "summary.json").write_text(json.dumps({"psnr": 1.0} | summary))
    trials = {trial.name: trial for trial in find_trials(tmp_path)[1]}
    expected = sum(p.numel() for p in MPRNet(**sizes).parameters())
    assert [trials[name].parameters for name in ("old", "older", "new")] == [expected, expected, 7]
    assert built == [sizes]  # once for both old runs


def test_every_kind_of_difference_is_found() -> None:
    shared = {"same": "x", "equal": [1, 2], "zero": 0}
    first = Trial("first", resolved=True, config=shared | {"kind": 1, "removed": 2})
    second = Trial("second", resolved=True, config=shared | {"kind": True, "added": 3})
    second.config["equal"] = [1, 2]  # another list with the same values
    assert config_differences([first, second]) == {
        "kind": [("1", ["first"]), ("true", ["second"])],
        "removed": [("2", ["first"]), ("not set", ["second"])],
        "added": [("not set", ["first"]), ("3", ["second"])],
    }


def test_size_of_the_page_is_bounded() -> None:
    runs = many(curve_length=500)
    for run in runs[::10]:
        run.error = "x" * 100_000
    runs[1].curves["short"] = runs[1].curves["val/psnr"].at(range(5))
    data = describe(runs)
    curves = [curve for trial in data["trials"] for curve in trial["curves"].values()]
    assert sum(len(curve[0]) for curve in curves) <= 100_000
    assert data["thinned"] == max(len(curve[0]) for curve in curves) == 99_995 // 450
    assert len(data["trials"][1]["curves"]["short"][0]) == 5
    assert sum(len(trial["error"] or "") for trial in data["trials"]) <= 1_000_000


def test_differences_list_eight_values_and_their_number() -> None:
    runs = [
        Trial(f"{k}", config={"seed": k % 100, "same": [1, 2]}, resolved=True) for k in range(300)
    ]
    ((key, shown, count),) = _rows(config_differences(runs), {t.name: t.name for t in runs})
    assert (key, count, [value for value, _ in shown]) == ("seed", 100, list("01234567"))
    assert shown[0][1] == "0, 100, 200"


def test_table_of_many_runs_has_pages_and_a_filter(driver: Chrome, tmp_path: Path) -> None:
    from plotly.offline import get_plotlyjs

    page = tmp_path / "report.html"
    page.write_bytes(fill("runs_report", "many", describe(many()), library=get_plotlyjs()))
    driver.get(page.as_uri())

    def find(selector: str) -> Any:
        return driver.find_element(By.CSS_SELECTOR, selector)

    def names() -> Any:
        cells = driver.find_elements(By.CSS_SELECTOR, "#trials tbody td button")
        return [cell.text for cell in cells]

    def keep(text: str) -> str:
        field = find(".pages input")
        field.clear()
        field.send_keys(text)
        return str(find(".pages [role=status]").text)

    assert names() == [f"{k:03d}" for k in range(249, 0, -1) if k % 10][:100]
    assert find(".pages [role=status]").text == "1\u2013100 of 250"
    following, previous = (find(f"[aria-label='{name} page']") for name in ("next", "previous"))
    assert not previous.is_enabled()
    following.click()
    following.click()
    assert find(".pages [role=status]").text == "201\u2013250 of 250" and len(names()) == 50
    assert not following.is_enabled()
    assert keep("PSNR>=44.7") == "1\u20133 of 3" and names() == ["249", "248", "247"]
    assert keep("psnr<44.9 epoch=3 psnr>43.2") == "1\u20134 of 4"
    assert names() == ["247", "243", "239", "235"]
    assert keep("failed layer 240") == "1\u20131 of 1" and names() == ["240"]
    assert keep("no such run") == "no rows" and names() == []
    keep(" ")  # Selenium clears a field without an event
    driver.execute_script("pick(1)")  # as a click on its line
    assert find("#trials tr.on button").text == "001"
    driver.execute_script("select([{ data: { meta: 5 } }, { data: { meta: 7 } }])")
    assert names() == ["007", "005"]
    assert "Only the curves of the 100 best runs" in find("#thinned").text
    options = driver.find_elements(By.CSS_SELECTOR, "#shown option")
    assert [option.text for option in options] == ["best 5", "best 20", "best 100"]
    assert driver.get_log("browser") == []


def test_yaml_subset_is_read_as_by_pyyaml(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "a: 010\nb: 0x1f\nc: '5'\nd: !!str 5\ne: |\n  x\n  y\nf: ~\ng:\n- - 1\n  - {h: no}\n"
        "i: 1:30\na: 9\n"
    )
    assert read_yaml(tmp_path, "a.yaml") == {
        "a": 9, "b": 31, "c": "5", "d": "5", "e": "x\ny\n", "f": None, "g": [[1, {"h": False}]],
        "i": 90,
    }  # fmt: skip
    (tmp_path / "a.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path, "a.yaml") is None
