"""The report page, in a browser."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select
from tests.conftest import PHOTOS

from mprnet_lit.errors import UserError
from mprnet_lit.tracking.report import Entry, write_report

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng = np.random.default_rng(0)
    cat = np.array(Image.open(PHOTOS / "chelsea.png"))[50:150, 100:300]
    noisy = (cat + rng.normal(0, 25, cat.shape)).clip(0, 255).astype(np.uint8)
    stages = (np.rot90(cat, 2), np.ascontiguousarray(cat[:, ::-1]))
    entries = [
        Entry("cat.png", noisy, cat, cat, stages, {"PSNR": 31.5, "SSIM": 0.9}),
        Entry(HOSTILE, noisy, cat, scores={"PSNR": 9.25, "SSIM": float("nan")}),
        Entry("third.png", scores={"PSNR": 100.0, "SSIM": 0.95}),
    ]
    path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    summary = [["", "PSNR (dB)"], ["restored", "31.50"], ["<b>published</b>", "32.66"]]
    write_report(path, "A <report>", {"TLC": "off", "tiling": "auto"}, summary, entries, omitted=7)
    return path


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=1200,1000",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(driver, path):
    """The page, freshly opened; when the test ends its console must be empty."""
    driver.get(path.as_uri())
    yield driver
    assert driver.get_log("browser") == []
    requests = driver.execute_script("return performance.getEntriesByType('resource')")
    assert not [r["name"] for r in requests if not r["name"].startswith("data:")]


def at(page, selector):
    return page.find_element(By.CSS_SELECTOR, selector)


def column(page, number):
    rows = page.find_elements(By.CSS_SELECTOR, "#images tbody tr")
    return [row.find_elements(By.TAG_NAME, "td")[number].text for row in rows]


def clip(page):
    return float(re.search(r"inset\(0px ([\d.]+)%", at(page, "#before").get_attribute("style"))[1])


def test_what_it_says(page):
    assert page.title == "A <report>" == at(page, "h1").text
    assert at(page, "#settings").text.split("\n") == ["TLC", "off", "tiling", "auto"]
    assert "<b>published</b>" in at(page, "#summary").text
    assert at(page, "#omitted").text.startswith("7 more")
    for image in ("before", "after"):
        assert page.execute_script(f"return document.getElementById('{image}').naturalWidth") == 200


def test_the_slider_moves_by_key_and_by_mouse(page):
    assert clip(page) == 50
    at(page, "#slider").send_keys(*[Keys.ARROW_RIGHT] * 50)
    assert clip(page) == pytest.approx(45)
    line = at(page, "#line")
    width = at(page, "#stage").size["width"]
    ActionChains(page).click_and_hold(line).move_by_offset(-width // 4, 0).release().perform()
    assert clip(page) == pytest.approx(70, abs=1)


def test_either_side_shows_what_is_chosen(page, path):
    left = Select(at(page, "#left"))
    names = ["degraded", "stage 1", "stage 2", "restored", "target"]
    assert [option.text for option in left.options] == names
    before = at(page, "#before").get_attribute("src")
    left.select_by_visible_text("target")
    Select(at(page, "#right")).select_by_visible_text("stage 1")
    shown = {i: at(page, f"#{i}").get_attribute("src") for i in ("before", "after")}
    assert len({before, *shown.values()}) == 3


def test_zooming_shows_true_pixels(page):
    buttons = page.find_elements(By.CSS_SELECTOR, "#zooms button")
    widths = []
    for button in buttons[1:]:
        button.click()
        widths.append(at(page, "#stage").size["width"])
    assert widths == [200, 400, 800, 1600]
    assert at(page, "#after").value_of_css_property("image-rendering") == "pixelated"


def test_the_table_sorts_both_ways_with_missing_values_last(page):
    headers = page.find_elements(By.CSS_SELECTOR, "#images th button")
    headers[1].click()
    assert column(page, 1) == ["9.25", "31.50", "100.00"]
    headers[1].click()
    assert column(page, 1) == ["100.00", "31.50", "9.25"]
    assert at(page, "#images th:nth-child(2)").get_attribute("aria-sort") == "descending"
    for _ in range(2):
        headers[2].click()
        assert column(page, 2)[-1] == "\u2013"


def test_a_hostile_name_is_text_and_choosing_its_row_shows_it(page):
    assert HOSTILE in column(page, 0)
    page.find_elements(By.CSS_SELECTOR, "#images tbody tr")[1].click()
    assert at(page, "#name").text == HOSTILE
    assert page.title == "A <report>"
    at(page, "#next").click()
    assert at(page, "#name").text == "cat.png"


def test_a_phone_and_a_large_picture(driver, tmp_path):
    wide = np.zeros((10, 3000, 3), np.uint8)
    write_report(tmp_path / "r.html", "Wide", {}, [], [Entry("wide.png", wide, wide)])
    driver.set_window_size(500, 800)
    driver.get((tmp_path / "r.html").as_uri())
    assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert at(driver, "#note").text == "The central 2048 x 10 pixels of 3000 x 10."
    driver.set_window_size(1200, 1000)


def test_it_holds_all_it_needs_and_its_pictures_exactly(path):
    page = path.read_text()
    assert not re.search(r"https?://|<link[^>]+stylesheet|src=[\"']?[^\"'x ]", page)
    assert len(page) < 600_000
    assert not list(path.parent.glob("*.part"))


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"can't write .*report\.html"):
        write_report(tmp_path / "file" / "report.html", "", {}, [], [])
