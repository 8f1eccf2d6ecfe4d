"""``mode=serve``: the page in a browser."""

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
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from tests.cli.test_bad_input import error_message
from tests.conftest import PHOTOS, Cli, start_chromium
from tests.warm import warm_python

from mprnet_lit import Restorer
from mprnet_lit.images.photo import read_photo
from mprnet_lit.models import MPRNet
from mprnet_lit.weights import Info, save

pytest.importorskip("gradio")


def free_port() -> Any:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(*arguments: str) -> list[Any]:
    return [sys.executable, "-m", "mprnet_lit", "mode=serve", "inference.device=cpu", *arguments]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    assert line.startswith("160 x 100 pixels, 8 bits, restored in")
    assert "on cpu, torch, changed by" in line
    assert len(browser.find_elements(By.CSS_SELECTOR, "#slider img")) >= 2
    slider = browser.find_element(By.CSS_SELECTOR, "#strength input[type=range]")
    bounds = [slider.get_attribute(name) for name in ("min", "max", "value")]
    assert bounds == ["0", "1", "1"]
    label = browser.find_element(By.ID, "strength").text
    assert "Strength" in label and "1: the full restoration, 0: the photo itself" in label
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
