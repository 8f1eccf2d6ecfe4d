"""``mode=serve``: the page in a browser."""

import importlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from tests.cli.test_bad_input import error_message
from tests.conftest import PHOTOS, Cli, start_chromium
from tests.warm import warm_python

from mprnet_lit import Restorer
from mprnet_lit.images.photo import read_photo
from mprnet_lit.models import MPRNet
from mprnet_lit.weights import Info, save


def free_port() -> Any:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(*arguments: str) -> list[Any]:
    return [sys.executable, "-m", "mprnet_lit", "mode=serve", "inference.device=cpu", *arguments]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    importlib.import_module("gradio")  # forked commands then have it
    folder = tmp_path_factory.mktemp("serve")
    torch.manual_seed(0)
    model = MPRNet(width=8, unet_step=4, orsnet_step=4, cabs_per_orb=2, reduction=4)
    save(model, folder / "net.safetensors", Info(task="denoise"))
    (folder / "tmp").mkdir()
    return folder


@pytest.fixture(scope="module")
def photo(folder: Path) -> Path:
    cat = np.array(Image.open(PHOTOS / "chelsea.png"))[50:150, 100:260]
    alpha = np.full((*cat.shape[:2], 1), 128, np.uint8)
    path = folder / "my cat.png"
    Image.fromarray(np.concatenate((cat, alpha), 2)).save(path, dpi=(300, 300))
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[tuple[Any, str]]:
    port = free_port()
    with warm_python():
        process = subprocess.Popen(
            command(
                *("weights={cat: net.safetensors}", f"serve.port={port}"),
                *("serve.max_mb=1", "serve.max_megapixels=0.1"),
            ),
            cwd=folder,
            env=os.environ | {"TMPDIR": str(folder / "tmp"), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if line.startswith("Open http"):
            break
    assert said and f"Open http://127.0.0.1:{port}" in said[-1], said
    yield process, f"http://127.0.0.1:{port}/"
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Chrome]:
    downloads = {"download.default_directory": str(folder / "downloads")}
    driver = start_chromium(folder / "chromium", "performance", **downloads)
    driver.get("about:blank")
    driver.get_log("performance")  # discards requests of the start page of the browser
    yield driver
    driver.quit()


def restore(page: Chrome, url: str, path: Path) -> Any:
    """Open the page, upload a photo, press the button, and return the status line."""
    page.get(url)
    field = WebDriverWait(page, 20).until(
        lambda p: p.find_elements(By.CSS_SELECTOR, "#photo input[type=file]")
    )[0]
    field.send_keys(str(path))
    WebDriverWait(page, 20).until(lambda p: path.stem in p.find_element(By.ID, "photo").text)
    time.sleep(1)  # the page does not show the end of the upload
    page.find_element(By.ID, "restore").click()
    found: Any = WebDriverWait(page, 30).until(
        lambda p: re.search(r".*restored.*", p.find_element(By.ID, "line").text, re.I)
    )
    return found[0]


def test_photo_is_restored_and_downloaded_in_its_format(
    server: tuple[Any, str], browser: Chrome, photo: Path, folder: Path
) -> None:
    line = restore(browser, server[1], photo)
    assert re.match(r"160 x 100 pixels, 8 bits, \d+ kB, restored in \d", line)
    assert "on cpu, changed by" in line
    images = browser.find_elements(By.CSS_SELECTOR, "#compare img")
    names = [image.accessible_name for image in images]
    assert names == [f"my cat.png {side} the restoration" for side in ("after", "before")]
    assert [image.get_property("naturalWidth") for image in images] == [160, 160]
    slider = browser.find_element(By.CSS_SELECTOR, "#strength input[type=range]")
    bounds = [slider.get_attribute(name) for name in ("min", "max", "value")]
    assert bounds == ["0", "1", "1"]
    label = browser.find_element(By.ID, "strength").text
    progress = """const { components, dependencies } = window.gradio_config;
        return components.filter((c) => dependencies[0].show_progress_on.includes(c.id))
            .map((c) => c.props.elem_id);"""
    assert browser.execute_script(progress) == ["compare"]
    assert "Strength" in label and "0: the photo itself, 1: the full restoration" in label
    choice = browser.find_element(By.CSS_SELECTOR, "input[aria-label='Task and weights']")
    assert choice.get_attribute("value") == "denoise \N{EN DASH} cat"
    WebDriverWait(browser, 10).until(lambda p: p.find_element(By.ID, "download").is_enabled())
    browser.find_element(By.ID, "download").click()
    made = folder / "downloads" / "my cat.restored.png"
    WebDriverWait(browser, 20).until(lambda _: made.exists())
    ours = Restorer(folder / "net.safetensors", device="cpu", tile="auto")
    before, after = read_photo(photo), read_photo(made)
    expected = ours(before.pixels)
    assert np.abs(after.pixels.astype(int) - expected).max() <= 1
    assert after.alpha is not None and (after.alpha == 128).all()
    assert after.dpi == pytest.approx((300, 300), abs=0.1)
    log = str(browser.get_log("performance"))
    asked = re.findall(r'"url":"(\w+://[^/"]+)', log)
    assert asked and {u for u in asked if u.startswith("http")} == {server[1].rstrip("/")}
    assert set(re.findall(r'"status":(\d+)', log)) <= {"200", "304"}  # the filter accepts all


def test_comparison_is_usable_by_keyboard_and_named_for_screen_readers(
    server: tuple[Any, str], browser: Chrome, photo: Path
) -> None:
    restore(browser, server[1], photo)
    line = WebDriverWait(browser, 20).until(
        lambda p: p.find_elements(By.CSS_SELECTOR, "#compare input")
    )[0]
    assert line.accessible_name.startswith("Line between before (left) and after (right)")
    before = browser.find_element(By.CSS_SELECTOR, "#compare img.before")

    def share() -> float:  # percentage of the photo that is covered by the result
        found = re.search(r"([\d.]+)%", before.value_of_css_property("clip-path"))
        assert found is not None
        return float(found[1])

    assert share() == 50
    line.send_keys(*[Keys.ARROW_RIGHT] * 20)
    assert share() == 30
    browser.find_element(By.CSS_SELECTOR, "#compare button").send_keys(Keys.ENTER)
    stage, view = (
        browser.find_element(By.CSS_SELECTOR, f"#compare .{n}") for n in ("stage", "view")
    )
    assert stage.size["width"] == pytest.approx(2 * view.size["width"], abs=40)  # scroll bars
    assert browser.find_element(By.ID, "line").get_attribute("role") == "status"
    controls = browser.find_elements(By.CSS_SELECTOR, "main :is(button, input):not([type=file])")
    assert all(c.accessible_name for c in controls if c.is_displayed())
    for size in ((500, 900), (1400, 900)):
        browser.set_window_size(*size)
        page = browser.execute_script("return document.documentElement")
        assert int(page.get_property("scrollWidth")) <= int(page.get_property("clientWidth"))


def test_page_uses_its_width_before_a_photo_is_chosen_and_its_hints_are_legible(
    server: tuple[Any, str], browser: Chrome
) -> None:
    browser.set_window_size(1400, 900)
    browser.get(server[1])
    empty = WebDriverWait(browser, 20).until(
        lambda p: p.find_elements(By.CSS_SELECTOR, "#compare .empty")
    )[0]
    photo = browser.find_element(By.ID, "photo")
    assert empty.rect["x"] > photo.rect["x"] + photo.rect["width"]
    assert empty.rect["x"] + empty.rect["width"] > 0.9 * browser.get_window_size()["width"]
    hint = browser.find_element(By.XPATH, "//*[text()='Local averages, for large photos']")
    color = [int(n) for n in re.findall(r"\d+", hint.value_of_css_property("color"))[:3]]
    linear = [(c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert 1.05 / (luminance + 0.05) >= 4.5  # WCAG 2.2, 1.4.3, on white
    assert float(hint.value_of_css_property("font-size").removesuffix("px")) >= 13


def test_sigterm_stops_the_server_and_removes_its_files(
    server: tuple[Any, str], folder: Path
) -> None:
    process, _ = server
    assert list((folder / "tmp").glob("mprnet_lit-serve-*"))
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0 and "Stopped by SIGTERM" in rest
    assert not list((folder / "tmp").glob("mprnet_lit-serve-*"))


def test_port_in_use_is_reported(cli: Cli, folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        weights = f"weights={folder / 'net.safetensors'}"
        arguments = ("mode=serve", "inference.device=cpu", weights, f"serve.port={port}")
        message = error_message(cli(*arguments, status=1))
    assert f"can't listen on 127.0.0.1 port {port}" in message


def test_invalid_host_names_are_refused(cli: Cli) -> None:
    message = error_message(cli("mode=serve", "serve.allowed_hosts=[a.org:80]", status=1))
    assert "must be a list of names without ports" in message
