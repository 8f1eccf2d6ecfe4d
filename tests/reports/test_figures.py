"""Plotly figures of the runs report: literal labels, colors, importance, security policy."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from tests.reports.test_untrusted_runs import make_run

from mprnet_lit.reports.figures import (
    hover_name,
    label,
    parallel_coordinates,
    psnr_colors,
    run_looks,
)
from mprnet_lit.reports.importance import importance
from mprnet_lit.reports.names import short_names
from mprnet_lit.reports.runs_report import write_runs_report
from mprnet_lit.reports.trials import Trial

HOSTILE = "<a href=javascript:alert(1)>&lt;b>%{y}"
IMAGE = "<img src=x onerror=alert(1)>"


def trials(count: Any) -> list[Trial]:
    """Complete runs whose PSNR depends on the learning rate, hardly on the seed."""
    return [
        Trial(
            str(k),
            state="complete",
            overrides={"optimizer.lr": 10.0 ** -(1 + k % 6), "seed": k * 7 % count},
            best={"psnr": 30.0 - k % 6 + 0.01 * (k * 7 % count)},
        )
        for k in range(count)
    ]


@pytest.fixture
def hostile(driver: Chrome, tmp_path: Path) -> Iterator[Chrome]:
    """Page of a sweep whose runs, settings, values and metrics have hostile names."""
    entries = []
    for k in range(6):
        run = make_run(tmp_path / "sweep" / f"{HOSTILE}{k}", number=20.0 + k)
        (run / "csv/version_0/metrics.csv").write_text(
            f"step,epoch,val/psnr,{HOSTILE}\n0,0,1,2\n9,1,{20 + k},3\n"
        )
        values = {HOSTILE: f"{IMAGE}{k % 3}", f"{IMAGE}%{{x}}": k}
        entries.append({"number": k, "state": "complete", "params": values, "folder": run.name})
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps({"trials": entries}))
    write_runs_report(tmp_path / "sweep", tmp_path / "report.html")
    driver.get((tmp_path / "report.html").as_uri())
    yield driver
    driver.get_log("browser")


def texts(driver: Chrome, selector: str) -> Any:
    return driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector
    )


def test_hostile_names_are_literal_text_in_every_figure(hostile: Any) -> None:
    assert "0 (in <a href=\u2026>&lt;b>%{y}0)" in texts(hostile, "#plot .legendtext")
    assert f"0 (in {HOSTILE}0)" in texts(hostile, "#plot .legend title")
    axes = texts(hostile, "#axes text")
    assert "<a href=\u2026t(1)>&lt;b>%{y}" in axes and "<img src\u2026r=alert(1)>%{x}" in axes
    assert "<img src\u2026rror=alert(1)>2" in axes
    for figure in ("importance0", "importance1"):
        shown = " ".join(texts(hostile, f"#{figure} text"))
        assert HOSTILE in shown and f"{IMAGE}%{{x}}" in shown
    for figure in ("axes", "plot"):
        hostile.execute_script(
            "Plotly.Fx.hover(arguments[0], [{ curveNumber: 0, pointNumber: 1 }])", figure
        )
        assert HOSTILE in "".join(texts(hostile, f"#{figure} .hoverlayer"))
    assert not hostile.execute_script(
        "document.querySelector('#axes').parentNode.style.width = '50px';"
        "return document.querySelector('#parallel .scroll').checkVisibility()"
    )
    WebDriverWait(hostile, 10).until(
        lambda page: page.find_element(By.CSS_SELECTOR, "#parallel .scroll").is_displayed()
    )
    assert not hostile.find_elements(By.CSS_SELECTOR, "main a, main img:not(#panel), svg script")
    assert hostile.get_log("browser") == []


def test_policy_blocks_injected_scripts_handlers_and_eval(hostile: Any) -> None:
    inject = "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"bad = 1\">');"
    hostile.execute_script(
        inject + "const s = document.createElement('script'); s.textContent = 'bad = 2';"
        "document.body.append(s)"
    )
    assert hostile.execute_script("return typeof bad") == "undefined"
    refused = [entry["message"] for entry in hostile.get_log("browser")]
    assert sum("Content Security Policy" in message for message in refused) >= 2
    policy = hostile.find_element(By.CSS_SELECTOR, "meta[http-equiv]").get_attribute("content")
    scripts = next(part for part in policy.split(";") if "script-src" in part)
    assert "unsafe" not in scripts and "https:" not in policy
    assert "default-src 'none'" in policy


def test_label_is_short_and_escaped_for_plotly() -> None:
    assert label(None) == "\u2013" and label(0.000123456) == "0.0001235" and label(8) == "8"
    assert label("a<b>&%{x}\nc") == "a&#60;b&#62;&#38;&#37;{x} c"
    long = label("first" + "x" * 100 + "last")
    assert len(long) == 48 and long.startswith("first") and long.endswith("last")


def test_30_best_runs_have_distinct_lines_and_the_others_are_gray() -> None:
    runs = [Trial("failed", state="failed"), *trials(40)]
    looks = run_looks(runs)
    order = sorted(range(41), key=lambda k: runs[k].psnr or 0, reverse=True)
    assert len({looks[k] for k in order[:30]}) == 30
    assert [looks[k][1] for k in order[:10]] == ["solid"] * 10
    assert {looks[k] for k in order[30:]} == {("#8a8f9c", "solid")} == {looks[0]}


def test_parallel_coordinates_are_colored_by_psnr() -> None:
    many = [*trials(12), Trial("failed")]
    colors = dict(zip((t.psnr for t in many), psnr_colors(many), strict=True))
    assert colors[max(t.psnr or 0 for t in many)] == "rgb(236, 152, 20)"
    assert colors[min(t.psnr or 99 for t in many)] == "rgb(122, 92, 214)"
    assert colors[None] == "#8a8f9c"
    assert psnr_colors([Trial("failed")]) == ["#8a8f9c"]


def test_short_names_are_distinct() -> None:
    long = [f"2026-11-26_10-{k:02d}-00,model.width=32,optimizer.lr=1e-4" for k in range(3)]
    names = ["0", *long, long[0], *(f"{'a' * 50}{k}{'b' * 50}" for k in (1, 2))]
    short = short_names(names)
    assert short[0] == "0" and short[1] == short[4] and len(set(short)) == 6
    assert short[5:] == [f"{'a' * 30}\u2026{'b' * 29} ({k})" for k in (1, 2)]
    alone = short_names(long)
    assert alone[1] == f"{long[1][:20]}\u2026{long[1][-19:]}"


def test_full_name_is_wrapped_and_shows_the_state_of_a_failed_run() -> None:
    name = hover_name(Trial("x" * 70 + "<b>", state="failed"))
    assert name == f"{'x' * 40}<br>{'x' * 30}&#60;b&#62; (failed)"
    assert hover_name(Trial("0", state="complete")) == "0"


def test_parallel_coordinates_use_log_linear_and_category_axes() -> None:
    runs = trials(6)
    for run, size in zip(runs, ("tiny", "small", "tiny", None, "tiny", "tiny"), strict=True):
        run.overrides["model"] = size
    figure = parallel_coordinates(runs, ["optimizer.lr", "model", "seed"])
    assert figure is not None
    layout = figure["layout"]
    assert [layout[f"yaxis{k}"]["type"] for k in (2, 3, 4, 5)] == ["log", *["linear"] * 3]
    assert layout["yaxis3"]["ticktext"] == ["small", "tiny", "\u2013"]
    lines = {trace["meta"]: trace for trace in figure["data"] if "meta" in trace}
    assert lines[0]["y"] == [1.0, 0.5, 0.0, 1.0]
    assert lines[5]["y"] == pytest.approx([0.0, 0.5, 1.0, 0.0])
    assert lines[3]["y"][1] == 1.0
    assert [trace["meta"] for trace in figure["data"][:6]] == [5, 4, 3, 2, 1, 0]  # best on top
    assert parallel_coordinates(runs[:1], ["seed"]) is None
    assert parallel_coordinates(runs, []) is None


def test_figures_are_limited_to_12_settings_and_the_300_best_runs() -> None:
    runs = trials(400)
    for run in runs:
        run.overrides |= {f"key{k}": run.overrides["seed"] + k for k in range(20)}
    figure = parallel_coordinates(runs, sorted(runs[0].overrides))
    assert figure is not None
    lines = {trace["meta"] for trace in figure["data"] if "meta" in trace}
    worst = sorted(range(400), key=lambda k: runs[k].best["psnr"])[:100]
    assert len(lines) == 300 and not lines & set(worst)
    assert len(figure["layout"]["xaxis"]["tickvals"]) == 13


def test_decisive_setting_is_most_important() -> None:
    runs = trials(48)
    runs.insert(3, Trial("failed", state="failed"))
    (bars, slices), note = importance(runs, ["optimizer.lr", "seed"])
    (shares,) = bars["data"]
    assert shares["y"][-1] == "optimizer.lr" and shares["x"][-1] > 0.8
    assert "best 25% from all 48 complete runs" in note
    assert len(slices["data"]) == 2
    assert max(slices["data"][0]["marker"]["color"]) == 48  # the number of the last run


def test_missing_importance_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, keys = trials(8), ["optimizer.lr", "seed"]
    assert importance(runs, []) == ([], "No setting differs between the runs.")
    assert importance(runs[:3], keys) == ([], "Too few runs are complete: 3 of at least 4.")
    alike = [Trial(t.name, "complete", overrides=t.overrides, best={"psnr": 1.0}) for t in runs]
    assert importance(alike, keys) == ([], "All complete runs have the same PSNR.")
    monkeypatch.setitem(sys.modules, "optuna", None)
    figures, note = importance(runs, keys)
    assert figures == [] and "needs Optuna, which is not installed: pip install" in note
