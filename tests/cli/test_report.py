"""``mode=report``: pages of a run and a grid in a browser, damaged files, user errors."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait
from tests.conftest import SMALLEST, Cli, ForkedCommand
from tests.reports.page_reading import embedded_data

HOSTILE = "<img src=x onerror=alert(1)>{{data}}"
SCRIPT = "</script><script>document.title='hacked'</script>"
TINY = (*SMALLEST, "trainer.max_epochs=2", "trainer.log_every_n_steps=1", "logger=csv")


@pytest.fixture(scope="session")
def sample_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with one run and a grid of four jobs, two of which fail."""
    folder = tmp_path_factory.mktemp("runs")
    grid = ForkedCommand(
        folder, "-m", *TINY, "data.patch_size=32,33", "optimizer.lr=1e-5,1e-3",
        "hydra.sweep.dir=runs/grid"
    )  # fmt: skip
    one = ForkedCommand(folder, *TINY, "hydra.run.dir=runs/one")
    for process, status in ((one, 0), (grid, 1)):
        output, errors = process.communicate(timeout=300)
        assert process.returncode == status, f"{output}\n{errors}"
    return folder / "runs"


@pytest.fixture
def runs(sample_runs: Path, tmp_path: Path) -> Path:
    """Copy of the folder that tests may damage."""
    shutil.copytree(sample_runs, tmp_path / "runs")
    return tmp_path / "runs"


def embedded(path: Path) -> Any:
    return embedded_data(path.read_text())


@pytest.fixture
def report(cli: Cli, driver: Chrome, tmp_path: Path) -> Iterator[Callable[[Path], Any]]:
    """Write and open the page of a folder. The browser console must be empty after the test."""
    opened = []

    def write(folder: Path, *arguments: str) -> Any:
        path = tmp_path / "report.html"
        outcome = cli("mode=report", f"input={folder}", f"output={path}", "overwrite=true",
                      *arguments)  # fmt: skip
        assert "Warning" not in outcome.errors, outcome.errors
        driver.get(path.as_uri())
        opened.append(path)
        return embedded(path)

    yield write
    assert opened and driver.get_log("browser") == []
    requests = driver.execute_script("return performance.getEntriesByType('resource')")
    assert not [r["name"] for r in requests if not r["name"].startswith("data:")]
    page = opened[-1].read_text()
    assert "default-src 'none'" in page and not re.search(r"<link[^>]+stylesheet|<script src", page)


def find(driver: Chrome, selector: str) -> Any:
    return driver.find_element(By.CSS_SELECTOR, selector)


def find_all(driver: Chrome, selector: str) -> Any:
    return driver.find_elements(By.CSS_SELECTOR, selector)


def column(driver: Chrome, title: str) -> list[Any]:
    titles = [th.text.split(" ")[0].replace("\n", "") for th in find_all(driver, "#trials th")]
    rows = find_all(driver, "#trials tbody tr")
    return [row.find_elements(By.TAG_NAME, "td")[titles.index(title)].text for row in rows]


def test_report_of_a_grid_shows_all_jobs(
    report: Callable[[Path], Any], driver: Chrome, sample_runs: Path
) -> None:
    data = report(sample_runs / "grid")
    assert driver.title == find(driver, "h1").text == "grid: 4 runs"
    assert "4: 2 complete, 2 failed" in find(driver, "#headline").text
    assert data["keys"] == ["data.patch_size", "optimizer.lr"]
    best = json.loads((sample_runs / "grid" / "1" / "summary.json").read_text())
    other = json.loads((sample_runs / "grid" / "0" / "summary.json").read_text())
    highest = max(best["psnr"], other["psnr"])
    assert f"{highest:.2f} dB" in find(driver, "#headline").text
    # The table lists the best runs first and the failed runs, with errors, last.
    assert column(driver, "PSNR")[0] == f"{highest:.2f}"
    assert column(driver, "PSNR")[2:] == ["\u2013", "\u2013"]
    failed = find_all(driver, "#trials .error")
    assert [p.text for p in failed] == ["data.patch_size=33 must be a positive multiple of 8"] * 2
    assert column(driver, "state").count("failed") == 2
    assert len(find_all(driver, "#trials tr.bad")) == 2 == len(failed)
    assert all(int(p.replace(",", "")) > 10_000 for p in column(driver, "parameters")[:2])
    find(driver, "#trials th:first-child button").click()
    assert [name.split("\n")[0] for name in column(driver, "run")] == ["0", "1", "2", "3"]
    find(driver, "#trials th:first-child button").send_keys(Keys.ENTER)
    assert [name.split("\n")[0] for name in column(driver, "run")] == ["3", "2", "1", "0"]
    assert find(driver, "#trials th").get_attribute("aria-sort") == "descending"
    assert "2 of at least 4" in find(driver, "#why").text
    assert "optimizer.lr" in find(driver, "#config table").text
    assert "same machine" in find(driver, "#environment").text


def lines(driver: Chrome, figure: str) -> Any:
    """Return the opacity of each line of a figure."""
    return driver.execute_script(
        "return document.getElementById(arguments[0]).data.filter(t => t.meta !== undefined)"
        ".map(t => t.opacity ?? 1)", figure
    )  # fmt: skip


def paths(driver: Chrome) -> list[Any]:
    return [
        line.get_attribute("d") for line in find_all(driver, "#plot .scatterlayer path.js-line")
    ]


def test_curves_follow_the_chosen_metric_axis_and_runs(
    report: Callable[[Path], Any], driver: Chrome, sample_runs: Path
) -> None:
    data = report(sample_runs / "grid")
    metric = Select(find(driver, "#metric"))
    assert metric.first_selected_option.text == "val/psnr"
    names = {option.text for option in metric.options}
    assert {"train/loss", "train/lr", "val/ssim", "val/psnr_stage1"} <= names
    before = paths(driver)
    assert len(before) == 2
    metric.select_by_visible_text("train/loss")
    loss = paths(driver)
    assert len(loss) == 2 and loss != before
    Select(find(driver, "#over")).select_by_visible_text("step")
    points = len(data["trials"][0]["curves"]["train/loss"][0])
    assert points == 10  # one point per step
    x, y = driver.execute_script(
        "const [t] = document.getElementById('plot').data; return [t.x, t.y]"
    )
    assert [x, y] in [t["curves"]["train/loss"][::2] for t in data["trials"] if t["curves"]]
    by_step = paths(driver)
    find(driver, "#log").click()
    assert len(paths(driver)) == 2 and paths(driver) != by_step


def test_hover_shows_a_value_and_legend_hides_a_run(
    report: Callable[[Path], Any], driver: Chrome, sample_runs: Path
) -> None:
    data = report(sample_runs / "grid")
    toggles = find_all(driver, "#plot .legendtoggle")
    toggles[1].click()
    WebDriverWait(driver, 5).until(lambda _: len(paths(driver)) == 1)
    box = find(driver, "#plot path.js-line").rect  # its right end is at the last epoch
    point = ActionBuilder(driver)
    point.pointer_action.move_to_location(int(box["x"] + box["width"]), int(box["y"]))
    point.perform()
    shown = WebDriverWait(driver, 5).until(lambda _: find(driver, "#plot .hoverlayer").text)
    best = max((t for t in data["trials"] if t["psnr"]), key=lambda t: t["psnr"])
    assert f"epoch 2, step {best['curves']['val/psnr'][0][1]}" in shown
    assert f"{best['name']}: {best['curves']['val/psnr'][2][1]:.5g}" in shown


def test_picked_run_and_selected_range_mark_figures_and_table(
    report: Callable[[Path], Any], driver: Chrome, sample_runs: Path
) -> None:
    report(sample_runs / "grid")
    assert lines(driver, "axes") == [1] * 4
    find(driver, "#trials tbody tr button").send_keys(Keys.ENTER)
    assert sorted(lines(driver, "axes")) == [0.12] * 3 + [1]
    assert sorted(lines(driver, "plot")) == [0.12, 1]
    assert find(driver, "#trials tbody tr").get_attribute("class") == "on"
    find(driver, "#trials tbody tr button").click()
    assert lines(driver, "axes") == [1] * 4
    # Select the upper end of the PSNR axis.
    plot = find(driver, "#axes .nsewdrag")
    driver.execute_script("arguments[0].scrollIntoView({ block: 'center' })", plot)
    right, top = plot.size["width"] // 2, -plot.size["height"] // 2
    drag = ActionChains(driver).move_to_element_with_offset(plot, right - 90, top + 2)
    drag.click_and_hold().move_by_offset(40, 10).move_by_offset(40, 10).release().perform()
    WebDriverWait(driver, 5).until(lambda _: len(find_all(driver, "#trials tbody tr")) == 1)
    assert sorted(lines(driver, "axes")) == [0.12] * 3 + [1]
    assert sorted(lines(driver, "plot")) == [0.12, 1]
    ActionChains(driver).move_to_element(plot).double_click().perform()
    WebDriverWait(driver, 5).until(lambda _: len(find_all(driver, "#trials tbody tr")) == 4)
    assert lines(driver, "axes") == [1] * 4 and lines(driver, "plot") == [1, 1]


def test_report_of_one_run(
    report: Callable[[Path], Any], driver: Chrome, sample_runs: Path
) -> None:
    data = report(sample_runs / "one")
    assert driver.title == "one"
    assert "complete" in find(driver, "#headline").text
    names = [name.text for name in find_all(driver, "#plot .legendtext")]
    assert names == ["val/psnr", *(f"val/psnr_{n}" for n in ("degraded", "stage1", "stage2",
                                                             "stage3"))]  # fmt: skip
    assert [epoch for epoch, _ in data["panels"][0]["panels"]] == [1, 2]
    caption, source = find(driver, "#caption").text, find(driver, "#panel").get_attribute("src")
    assert "epoch 2, val/psnr" in caption and source.startswith("data:image/webp")
    find(driver, "#epoch").send_keys(Keys.ARROW_LEFT)
    assert "epoch 1, val/psnr" in find(driver, "#caption").text
    assert find(driver, "#panel").get_attribute("src") != source
    assert driver.execute_script("return document.getElementById('panel').naturalWidth") > 500
    assert not find(driver, "#parallel").is_displayed()
    find(driver, "#config summary").click()
    assert "optimizer.lr" in find(driver, "#config dl").text
    find(driver, "#environment summary").click()
    assert "packages.torch" in find(driver, "#environment dl").text


def test_damaged_files_are_listed_and_hostile_names_are_text(
    report: Callable[[Path], Any], driver: Chrome, runs: Path
) -> None:
    one = runs / "one"
    (runs / "grid" / "0").rename(runs / "grid" / HOSTILE)
    (runs / "grid" / "2" / "error.txt").write_text(SCRIPT)
    killed = runs / "grid" / "1"  # killed during a write
    (killed / "summary.json").unlink()
    for name in ("environment.json", "config.yaml"):
        (killed / name).write_text((killed / name).read_text()[:90] + "\n  - [")
    table = killed / "csv" / "version_0" / "metrics.csv"
    table.write_text(table.read_text() + "2,11,0.5,\0")
    (one / "summary.json").write_text('{"psnr": 2')
    (one / ".hydra" / "overrides.yaml").write_text(f'- model.width="{SCRIPT}"\n')
    (one / "panels" / "epoch_0002.png").write_bytes(b"\x89PNG no more")
    (one / "csv" / "version_0" / "metrics.csv").write_bytes(b"\xff\xfe\0")
    data = report(runs)
    assert driver.title == "runs: 5 runs"
    notes = {trial["name"]: trial["notes"] for trial in data["trials"]}
    assert notes["grid/1"] == [
        "csv/version_0/metrics.csv: 1 damaged line skipped",
        "environment.json is damaged",
        "config.yaml is damaged",
    ]
    assert "summary.json is damaged" in notes["one"]
    assert "panels/epoch_0002.png is damaged" in notes["one"]
    assert notes[f"grid/{HOSTILE}"] == []
    shown = find(driver, "#trials").text
    for text in (SCRIPT, "1 damaged line", "running or killed"):
        assert text in shown
    full = [button.get_attribute("title") for button in find_all(driver, "#trials td button")]
    assert f"grid/{HOSTILE}" in full  # its short name is shown
    assert column(driver, "state").count("unfinished") == 1
    killed = next(trial for trial in data["trials"] if trial["name"] == "grid/1")
    assert killed["psnr"] > 0 and killed["epoch"]  # from the curves
    assert driver.title == "runs: 5 runs" and not find_all(driver, "svg img")
    assert not find_all(driver, "body img:not(#panel)")


def test_report_fits_a_phone(
    report: Callable[[Path], Any], driver: Chrome, sample_runs: Path
) -> None:
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        report(sample_runs)
        assert driver.execute_script("return document.documentElement.scrollWidth") == 390
        assert 300 < find(driver, "#plot svg").size["width"] <= 366
        table = find(driver, "#list")
        assert table.get_property("scrollWidth") <= table.get_property("clientWidth")
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_user_errors_are_one_sentence_and_write_nothing(
    cli: Cli, tmp_path: Path, sample_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.html").write_text("mine")
    (tmp_path / "file").write_text("")
    for arguments, sentence in (
        ((), "input is not set: add input="),
        (("input=nowhere",), "nowhere does not exist: set input"),
        (("input=file",), "file is not a folder: set input"),
        (("input=empty",), "empty contains no training run"),
        ((f"input={sample_runs}", "output=there.html"), "there.html already exists"),
        ((f"input={sample_runs}", "output=file/r.html"), "can't write file/r.html"),
    ):
        outcome = cli("mode=report", *arguments, status=1)
        assert sentence in outcome.errors and "Traceback" not in outcome.errors
        assert len(outcome.errors.strip().splitlines()) == 1
    assert (tmp_path / "there.html").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "there.html"]
    with monkeypatch.context() as missing:
        for name in ("plotly", "plotly.offline"):
            missing.setitem(sys.modules, name, None)
        outcome = cli("mode=report", f"input={sample_runs / 'one'}", "output=page.html", status=1)
    assert "needs plotly, which is not installed: pip install" in outcome.errors
    assert not (tmp_path / "page.html").exists()
    outcome = cli(
        "mode=report", f"input={sample_runs / 'one'}", "output=there.html", "overwrite=true"
    )
    assert "best PSNR" in outcome.output and "there.html" in outcome.output
    assert Path(tmp_path / "there.html").read_text().startswith("<!doctype html>")
