"""The image report in a browser."""

import base64
import html
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait
from tests.conftest import PHOTOS
from tests.reports.page_reading import embedded_data

from mprnet_lit.reports.image_report import Entry, write_report
from mprnet_lit.utils.errors import UserError

HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=alert(1)>.png"
WEBP = "data:image/webp;base64,"
TITLE = "A <report> of {{data}}"


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    rng = np.random.default_rng(0)

    def noisy(image: Any) -> Any:
        return (image + rng.normal(0, 25, image.shape)).clip(0, 255).astype(np.uint8)

    cat = np.array(Image.open(PHOTOS / "chelsea.png"))[50:150, 100:300]
    cup = np.array(Image.open(PHOTOS / "coffee.png"))[50:290, 200:320]
    stages = (np.rot90(cat, 2), np.ascontiguousarray(cat[:, ::-1]))
    return [
        Entry("cat 10.png", noisy(cat), cat, cat, stages, {"PSNR": 31.5, "SSIM": 0.9}),
        Entry(HOSTILE, noisy(cup), cup, scores={"PSNR": 9.25, "SSIM": float("nan")}),
        Entry("cat 9.png", scores={"PSNR": 100.0, "SSIM": 0.95}),
    ]


@pytest.fixture(scope="module")
def path(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    summary = [["", "PSNR (dB)"], ["restored", "31.50"], ["<b>published</b>", "32.66"]]
    write_report(path, TITLE, {"TLC": "off", "tiling": "auto"}, summary, entries, omitted=7)
    return path


@pytest.fixture
def page(driver: Chrome, path: Path) -> Iterator[Any]:
    """Newly opened page. The browser console must be empty after the test."""
    driver.get(path.as_uri())
    yield driver
    assert driver.get_log("browser") == []
    requests = driver.execute_script("return performance.getEntriesByType('resource')")
    assert not [r["name"] for r in requests if not r["name"].startswith("data:")]


def at(page: Chrome, selector: str) -> Any:
    return page.find_element(By.CSS_SELECTOR, selector)


def column(page: Chrome, number: Any) -> list[Any]:
    rows = page.find_elements(By.CSS_SELECTOR, "#images tbody tr")
    return [row.find_elements(By.TAG_NAME, "td")[number].text for row in rows]


def clip(page: Chrome) -> float:
    found = re.search(r"inset\(0px ([\d.]+)%", at(page, "#before").get_attribute("style"))
    assert found is not None
    return float(found[1])


def zoom(page: Chrome, label: Any) -> None:
    at(page, f"#zooms button:nth-child({['fit', 1, 2, 4, 8].index(label) + 1})").click()


def center(page: Chrome) -> Any:
    """Return the center of the view, relative to the width and height of the image."""
    return page.execute_script(
        "const [s, v] = ['stage', 'view'].map(i => document.getElementById(i));"
        "const [p, q] = [s, v].map(e => e.getBoundingClientRect());"
        "return [(q.left + v.clientWidth / 2 - p.left) / p.width,"
        "        (q.top + v.clientHeight / 2 - p.top) / p.height]"
    )


def test_page_shows_title_settings_summary_and_omitted_count(page: Chrome) -> None:
    assert page.title == TITLE == at(page, "h1").text
    assert at(page, "#settings").text.split("\n") == ["TLC", "off", "tiling", "auto"]
    assert "<b>published</b>" in at(page, "#summary").text
    assert at(page, "#omitted").text.startswith("7 more images")
    for image in ("before", "after"):
        assert page.execute_script(f"return document.getElementById('{image}').naturalWidth") == 200


def test_slider_moves_with_keys_mouse_and_touch(page: Chrome) -> None:
    assert clip(page) == 50
    at(page, "#slider").send_keys(*[Keys.ARROW_RIGHT] * 50)
    assert clip(page) == pytest.approx(45)
    line = at(page, "#line")
    width = at(page, "#stage").size["width"]
    ActionChains(page).click_and_hold(line).move_by_offset(-width // 4, 0).release().perform()
    assert clip(page) == pytest.approx(70, abs=1)
    finger = ActionBuilder(page, mouse=PointerInput("touch", "finger"))
    finger.pointer_action.move_to(line).pointer_down().move_to(line, width // 2).pointer_up()
    finger.perform()
    assert clip(page) == pytest.approx(20, abs=1)


def test_each_side_shows_the_selected_image(page: Chrome, path: Path) -> None:
    left = Select(at(page, "#left"))
    names = ["degraded", "stage 1", "stage 2", "restored", "target"]
    assert [option.text for option in left.options] == names
    before = at(page, "#before").get_attribute("src")
    left.select_by_visible_text("target")
    Select(at(page, "#right")).select_by_visible_text("stage 1")
    shown = {i: at(page, f"#{i}").get_attribute("src") for i in ("before", "after")}
    assert len({before, *shown.values()}) == 3


def test_zoom_shows_true_pixels(page: Chrome) -> None:
    widths = []
    for label in (1, 2, 4, 8):
        zoom(page, label)
        widths.append(at(page, "#stage").size["width"])
    assert widths == [200, 400, 800, 1600]
    assert at(page, "#after").value_of_css_property("image-rendering") == "pixelated"


def test_zoom_keeps_center_and_line_visible_and_drag_pans_both_sides(page: Chrome) -> None:
    at(page, "#next").click()  # narrower than the view
    zoom(page, 8)
    assert center(page) == pytest.approx([0.5, 0.5], abs=0.01)
    view, line = at(page, "#view").rect, at(page, "#line").rect
    assert line["x"] + line["width"] / 2 == pytest.approx(view["x"] + view["width"] / 2, abs=10)
    drag = ActionChains(page).move_to_element_with_offset(at(page, "#view"), 100, 0)
    drag.click_and_hold().move_by_offset(0, -48).release().perform()
    assert center(page)[1] == pytest.approx(0.5 + 48 / 8 / 240, abs=0.002)
    # The line stays in place while the images move under it.
    at(page, "#previous").click()
    assert at(page, "#stage").size["width"] == 1600
    before, line = clip(page), at(page, "#line").rect
    page.execute_script("document.getElementById('view').scrollLeft = 0")
    WebDriverWait(page, 5).until(lambda _: clip(page) > before + 5)
    assert at(page, "#line").rect["x"] == pytest.approx(line["x"], abs=1)


def test_wheel_zooms_at_pointer_after_click(page: Chrome) -> None:
    view = at(page, "#view")
    wheel = ScrollOrigin.from_element(view, 100, -150)
    width = at(page, "#stage").size["width"]
    ActionChains(page).scroll_from_origin(wheel, 0, 100).perform()
    assert at(page, "#stage").size["width"] == width  # the page has scrolled
    ActionChains(page).move_to_element_with_offset(view, 100, -150).click().perform()
    under = "const s = document.getElementById('stage').getBoundingClientRect();" + (
        "return [(arguments[0] - s.left) / s.width, (arguments[1] - s.top) / s.height]"
    )
    box = page.execute_script("return arguments[0].getBoundingClientRect()", view)
    point = (box["x"] + box["width"] // 2 + 100, box["y"] + box["height"] // 2 - 150)
    before = page.execute_script(under, *point)
    ActionChains(page).scroll_from_origin(wheel, 0, -100).perform()
    assert at(page, "#stage").size["width"] == 1600
    assert page.execute_script(under, *point) == pytest.approx(before, abs=0.01)
    ActionChains(page).scroll_from_origin(wheel, 0, 100).perform()
    assert at(page, "#stage").size["width"] == width


def test_keys_change_image_and_zoom_but_not_browser_shortcuts(page: Chrome) -> None:
    body = at(page, "body")
    body.send_keys(Keys.ARROW_RIGHT)
    assert at(page, "#name").text == HOSTILE
    body.send_keys(Keys.ARROW_LEFT)
    assert at(page, "#name").text == "cat 10.png"
    assert "PSNR 31.50" in at(page, "#scores").text and "SSIM 0.9000" in at(page, "#scores").text
    body.send_keys("+")
    assert at(page, "#stage").size["width"] == 1600
    body.send_keys("0")
    assert at(page, "#zooms button").get_attribute("aria-pressed") == "true"
    taken = page.execute_script(
        "return !document.body.dispatchEvent(new KeyboardEvent('keydown', "
        "{ key: 'ArrowRight', altKey: true, bubbles: true, cancelable: true }))"
    )
    assert not taken and at(page, "#name").text == "cat 10.png"


def test_table_sorts_both_ways_with_missing_values_last(page: Chrome) -> None:
    headers = page.find_elements(By.CSS_SELECTOR, "#images th button")
    headers[1].click()
    assert column(page, 1) == ["9.25", "31.50", "100.00"]
    headers[1].click()
    assert column(page, 1) == ["100.00", "31.50", "9.25"]
    assert at(page, "#images th:nth-child(2)").get_attribute("aria-sort") == "descending"
    for _ in range(2):
        headers[2].click()
        assert column(page, 2)[-1] == "\u2013"
    headers[0].click()
    names = column(page, 0)
    assert names.index("cat 9.png") + 1 == names.index("cat 10.png")


def test_hostile_name_is_text_and_its_row_selects_it(page: Chrome) -> None:
    assert HOSTILE in column(page, 0)
    page.find_elements(By.CSS_SELECTOR, "#images tbody tr")[1].click()
    assert at(page, "#name").text == HOSTILE
    assert page.title == TITLE
    at(page, "#images tbody tr button").send_keys(Keys.ENTER)
    assert at(page, "#name").text == "cat 10.png"


def test_large_image_is_cropped_and_page_fits_a_phone(driver: Chrome, tmp_path: Path) -> None:
    wide = np.zeros((10, 3000, 3), np.uint8)
    write_report(tmp_path / "r.html", "Wide", {}, [], [Entry("wide.png", wide, wide)])
    phone = {"width": 420, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    driver.get((tmp_path / "r.html").as_uri())
    assert driver.execute_script("return document.documentElement.scrollWidth") == 420
    assert at(driver, "#note").text == "The central 2048 x 10 pixels of 3000 x 10."
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_page_is_self_contained_and_its_images_are_lossless(
    path: Path, entries: list[Entry]
) -> None:
    page = path.read_text()
    assert not re.search(r"https?://|<link[^>]+stylesheet|src=[\"']?[^\"'x ]", page)
    assert "default-src 'none'" in page  # the browser blocks it too
    assert len(page) < 600_000
    assert not list(path.parent.glob("*.part"))
    data = embedded_data(page)
    for entry, written in zip(entries[:2], data["entries"], strict=False):
        for name in ("degraded", "restored"):
            content = base64.b64decode(written["pictures"][name].removeprefix(WEBP))
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), getattr(entry, name))
    assert f"<h1>{html.escape(TITLE)}</h1>" in page


def test_unwritable_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"can't write .*report\.html"):
        write_report(tmp_path / "file" / "report.html", "", {}, [], [])
