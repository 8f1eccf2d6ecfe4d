"""``mode=report``: the page of a run and of a grid, in a browser; damaged files; bad input."""

import json
import re
import shutil
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select
from tests.conftest import Forked

HOSTILE = "<img src=x onerror=alert(1)>{{data}}"
SCRIPT = "</script><script>document.title='hacked'</script>"
TINY = ("model.width=8", "trainer.max_epochs=2", "trainer.log_every_n_steps=1",
        "logger=csv")  # fmt: skip


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The folder of one run and of a grid, of which one job fails."""
    folder = tmp_path_factory.mktemp("runs")
    grid = Forked(
        folder, "-m", *TINY, "data.patch_size=32,33", "optimizer.lr=1e-5,1e-3",
        "hydra.sweep.dir=runs/grid"
    )  # fmt: skip
    one = Forked(folder, *TINY, "hydra.run.dir=runs/one")
    for process, status in ((one, 0), (grid, 1)):
        output, errors = process.communicate(timeout=300)
        assert process.returncode == status, f"{output}\n{errors}"
    return folder / "runs"


@pytest.fixture
def runs(made, tmp_path):
    """A copy, to be damaged."""
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def embedded(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text())[1])


@pytest.fixture
def report(cli, driver, tmp_path):
    """Write the page of a folder and open it; when the test ends its console must be empty."""
    opened = []

    def write(folder, *arguments):
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


def at(driver, selector):
    return driver.find_element(By.CSS_SELECTOR, selector)


def every(driver, selector):
    return driver.find_elements(By.CSS_SELECTOR, selector)


def column(driver, title):
    titles = [th.text.split(" ")[0].replace("\n", "") for th in every(driver, "#trials th")]
    rows = every(driver, "#trials tbody tr")
    return [row.find_elements(By.TAG_NAME, "td")[titles.index(title)].text for row in rows]


def test_a_grid(report, driver, made):
    data = report(made / "grid")
    assert driver.title == at(driver, "h1").text == "grid: 4 runs"
    assert "4: 2 complete, 2 failed" in at(driver, "#headline").text
    assert [key["name"] for key in data["keys"]] == ["data.patch_size", "optimizer.lr"]
    best = json.loads((made / "grid" / "1" / "summary.json").read_text())
    other = json.loads((made / "grid" / "0" / "summary.json").read_text())
    highest = max(best["psnr"], other["psnr"])
    assert f"{highest:.2f} dB" in at(driver, "#headline").text
    # The table: best first, the failed last with what they failed of
    assert column(driver, "PSNR")[0] == f"{highest:.2f}"
    assert column(driver, "PSNR")[2:] == ["\u2013", "\u2013"]
    failed = every(driver, "#trials .error")
    assert [p.text for p in failed] == ["data.patch_size=33 must be a positive multiple of 8"] * 2
    assert column(driver, "state").count("failed") == 2
    assert all(int(p.replace(",", "")) > 10_000 for p in column(driver, "parameters")[:2])
    at(driver, "#trials th:first-child button").click()
    assert [name.split("\n")[0] for name in column(driver, "run")] == ["0", "1", "2", "3"]
    at(driver, "#trials th:first-child button").send_keys(Keys.ENTER)
    assert [name.split("\n")[0] for name in column(driver, "run")] == ["3", "2", "1", "0"]
    assert at(driver, "#trials th").get_attribute("aria-sort") == "descending"
    assert "2 of at least 4" in at(driver, "#why").text
    assert "optimizer.lr" in at(driver, "#config table").text
    assert "same machine" in at(driver, "#environment").text


def test_curves_show_what_is_chosen_and_say_what_is_under_the_pointer(report, driver, made):
    data = report(made / "grid")
    lines = "#plot path.line"
    metric = Select(at(driver, "#metric"))
    assert metric.first_selected_option.text == "val/psnr"
    names = {option.text for option in metric.options}
    assert {"train/loss", "train/lr", "val/ssim", "val/psnr_stage1"} <= names
    before = [line.get_attribute("d") for line in every(driver, lines)]
    assert len(before) == 2
    metric.select_by_visible_text("train/loss")
    loss = [line.get_attribute("d") for line in every(driver, lines)]
    assert len(loss) == 2 and loss != before
    Select(at(driver, "#over")).select_by_visible_text("step")
    points = len(data["trials"][0]["curves"]["train/loss"][0])
    assert points == 10  # of each step
    assert every(driver, lines)[0].get_attribute("d").count("L") == points - 1
    at(driver, "#log").click()
    assert every(driver, lines)[0].get_attribute("d").count("L") == points - 1
    # The legend
    at(driver, "#legend button").click()
    assert len(every(driver, lines)) == 1
    at(driver, "#shown button:last-child").click()
    assert "nothing is chosen" in at(driver, "#plot").text
    at(driver, "#shown button").send_keys(Keys.ENTER)
    assert len(every(driver, lines)) == 2
    # Pointer and keys
    metric.select_by_visible_text("val/psnr")
    ActionChains(driver).move_to_element(at(driver, "#plot")).perform()
    plot = at(driver, "#plot")
    plot.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    epochs = data["trials"][0]["curves"]["val/psnr"]
    said = at(driver, ".tip").text
    assert said == at(driver, "#point").get_attribute("textContent")
    assert "at epoch 2, step 10" in said and float(said.split()[1]) == pytest.approx(
        epochs[2][1], rel=1e-3
    )
    plot.send_keys(Keys.ARROW_DOWN)
    assert at(driver, ".tip").text.startswith("1: ")


def test_picking_a_run_and_brushing_an_axis_reach_plots_and_table(report, driver, made):
    report(made / "grid")
    assert len(every(driver, "#axes path.line")) == 4
    assert len(every(driver, "#axes path.none")) == 2  # the failed
    at(driver, "#trials tbody tr button").send_keys(Keys.ENTER)
    assert len(every(driver, "#axes path.on")) == len(every(driver, "#plot path.on")) == 1
    assert at(driver, "#trials tbody tr").get_attribute("class") == "on"
    at(driver, "#trials tbody tr button").click()
    assert not every(driver, "#axes path.on")
    axis = every(driver, "#axes .hit")[-1]  # PSNR
    driver.execute_script("arguments[0].scrollIntoView({ block: 'center' })", axis)
    drag = ActionChains(driver).move_to_element_with_offset(axis, 0, -130).click_and_hold()
    drag.move_by_offset(0, 60).release().perform()
    assert len(every(driver, "#trials tr.dim")) == 3
    assert len(every(driver, "#plot path.line")) == 1
    at(driver, "#clear").click()
    assert not every(driver, "#trials tr.dim") and len(every(driver, "#plot path.line")) == 2


def test_one_run_its_stages_panels_and_configuration(report, driver, made):
    data = report(made / "one")
    assert driver.title == "one"
    assert "complete" in at(driver, "#headline").text
    names = [button.text for button in every(driver, "#legend button")]
    assert names == ["val/psnr", *(f"val/psnr_{n}" for n in ("degraded", "stage1", "stage2",
                                                             "stage3"))]  # fmt: skip
    assert [epoch for epoch, _ in data["panels"][0]["panels"]] == [1, 2]
    caption, source = at(driver, "#caption").text, at(driver, "#panel").get_attribute("src")
    assert "epoch 2, val/psnr" in caption and source.startswith("data:image/webp")
    at(driver, "#epoch").send_keys(Keys.ARROW_LEFT)
    assert "epoch 1, val/psnr" in at(driver, "#caption").text
    assert at(driver, "#panel").get_attribute("src") != source
    assert driver.execute_script("return document.getElementById('panel').naturalWidth") > 500
    assert not at(driver, "#parallel").is_displayed()
    at(driver, "#config summary").click()
    assert "optimizer.lr" in at(driver, "#config dl").text
    at(driver, "#environment summary").click()
    assert "packages.torch" in at(driver, "#environment dl").text


def test_damaged_files_are_noted_and_hostile_names_are_text(report, driver, runs):
    one = runs / "one"
    (runs / "grid" / "0").rename(runs / "grid" / HOSTILE)
    (runs / "grid" / "2" / "error.txt").write_text(SCRIPT)
    killed = runs / "grid" / "1"  # in mid-write
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
    shown = at(driver, "#trials").text
    for text in (HOSTILE, SCRIPT, "1 damaged line", "running, or killed"):
        assert text in shown
    assert column(driver, "state").count("unfinished") == 1
    killed = next(trial for trial in data["trials"] if trial["name"] == "grid/1")
    assert killed["psnr"] > 0 and killed["epoch"]  # from its curves
    assert HOSTILE in at(driver, "#legend").text
    assert not every(driver, "body img:not(#panel)")


def test_a_phone(report, driver, made):
    phone = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        report(made)
        assert driver.execute_script("return document.documentElement.scrollWidth") == 390
        assert at(driver, "#plot svg").size["width"] <= 366
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_mistakes_get_a_sentence_and_nothing_is_written(cli, tmp_path, made):
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.html").write_text("mine")
    (tmp_path / "file").write_text("")
    for arguments, sentence in (
        ((), "input is not set: add input="),
        (("input=nowhere",), "there is no nowhere: set input"),
        (("input=file",), "file is no folder: set input"),
        (("input=empty",), "no training has left anything in empty"),
        ((f"input={made}", "output=there.html"), "there.html is there already"),
        ((f"input={made}", "output=file/r.html"), "can't write file/r.html"),
    ):
        outcome = cli("mode=report", *arguments, status=1)
        assert sentence in outcome.errors and "Traceback" not in outcome.errors
        assert len(outcome.errors.strip().splitlines()) == 1
    assert (tmp_path / "there.html").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "there.html"]
    outcome = cli("mode=report", f"input={made / 'one'}", "output=there.html", "overwrite=true")
    assert "best PSNR" in outcome.output and "there.html" in outcome.output
    assert Path(tmp_path / "there.html").read_text().startswith("<!doctype html>")
