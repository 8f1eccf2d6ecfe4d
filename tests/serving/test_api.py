"""REST endpoint: result, metadata, options, refused requests and deleted files."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.conftest import PHOTOS, smallest_network

from mprnet_lit import Restorer
from mprnet_lit.images.photo import read_photo
from mprnet_lit.serving.limits import Limits
from mprnet_lit.serving.photo_restorer import PhotoRestorer
from mprnet_lit.serving.uploads import Uploads

HERE = "http://127.0.0.1:7860"
PATH = "/api/restore"


@pytest.fixture(scope="module")
def network() -> Restorer:
    return Restorer(smallest_network(), device="cpu", tile="auto")


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Uploads:
    return Uploads(tmp_path_factory.mktemp("api").resolve(), megabytes=50, minutes=60)


@pytest.fixture(scope="module")
def client(network: Restorer, uploads: Uploads) -> Iterator[TestClient]:
    from mprnet_lit.serving.page import build_app

    restorer = PhotoRestorer({"denoise": "/secret/a.pth"}, lambda file, tlc: network)
    app = build_app(restorer, Limits(1, 0.1), uploads, "127.0.0.1", strength=0.5)
    with TestClient(app, base_url=HERE) as client:
        yield client


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "caf\u00e9 cat.png"
    Image.open(PHOTOS / "chelsea.png").crop((100, 50, 148, 90)).save(path, dpi=(300, 300))
    return path


def post(client: TestClient, photo: Path, name: str = "", **fields: Any) -> Any:
    files = {"photo": (name or photo.name, photo.read_bytes())}
    return client.post(PATH, files=files, data=fields)


def test_photo_comes_back_restored_in_its_format(
    client: TestClient, photo: Path, network: Restorer, uploads: Uploads
) -> None:
    pixels = read_photo(photo).pixels.astype(float)
    made = {}
    for strength in (None, 0.5, 0, 1):
        fields: dict[str, Any] = {} if strength is None else {"strength": strength}
        answer = post(client, photo, **fields)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        image = Image.open(io.BytesIO(answer.content))
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        made[strength] = np.asarray(image).astype(float)
        change = np.abs(made[strength] - pixels).mean()
        assert float(answer.headers["x-restore-change"]) == pytest.approx(change, abs=0.001)
    network.strength = 1.0
    expected = network(read_photo(photo).pixels).astype(float)
    assert np.array_equal(made[0], pixels) and np.abs(made[1] - expected).max() <= 1
    assert np.abs(made[0.5] - (pixels + expected) / 2).max() <= 1
    assert np.array_equal(made[None], made[0.5])  # the default of this server
    assert "caf%C3%A9%20cat.restored.png" in answer.headers["content-disposition"]
    assert answer.headers["x-restore-summary"].startswith("48 x 40 pixels, 8 bits, ")
    assert 0 < float(answer.headers["x-restore-seconds"]) < 60
    assert answer.headers["cache-control"] == "no-store"
    left = list(uploads.folder.rglob("*.png"))
    assert not left, "uploads and results are deleted after the answer"


def test_description_lists_weights_defaults_and_limits(client: TestClient) -> None:
    known = client.get(PATH).json()
    assert known["weights"] == {"denoise": "unknown task \u2013 denoise"}
    assert known["defaults"] == {
        "weights": "denoise", "tlc": False, "self_ensemble": False, "strength": 0.5
    }  # fmt: skip
    assert (known["waiting"], known["place"]) == (0, None)
    assert known["max_megabytes"] == 1 and ".png" in known["formats"]


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("a.txt", {}, "a.txt is not a supported image file"),
        ("../../etc/a.gif", {}, "a.gif is not a supported image file"),
        ("", {"strength": "2"}, "strength=2 must be a number from 0 to 1"),
        ("", {"strength": "nan"}, "strength=nan must be a number from 0 to 1"),
        ("", {"tlc": "maybe"}, "tlc=maybe must be true or false"),
        ("", {"weights": "/etc/passwd"}, "weights=/etc/passwd are not available: choose one of"),
        ("", {"ticket": "../a"}, "ticket must have 1 to 64 letters"),
        (
            "",
            {"task": "denoise"},
            "the form has an unknown field, task: use photo, ticket, weights",
        ),
    ],
)
def test_invalid_requests_get_one_sentence(
    client: TestClient, photo: Path, uploads: Uploads, name: str, fields: Any, message: str
) -> None:
    answer = post(client, photo, name, **fields)
    assert answer.status_code == 400 and answer.text.startswith(message), answer.text
    assert answer.text.count("\n") == 1 and str(uploads.folder) not in answer.text
    assert not list(uploads.folder.rglob("*.*"))


def test_missing_photo_large_upload_and_other_sites_are_refused(
    client: TestClient, photo: Path, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "add a file with the field name photo" in client.post(PATH, data={"strength": 1}).text
    large = client.post(PATH, files={"photo": ("a.png", bytes(1_100_000))})
    assert large.status_code == 413 and "the limit of this page is 1 MB" in large.text
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        files = {"photo": ("a.png", photo.read_bytes())}
        assert client.post(PATH, files=files, headers=headers).status_code == 403
    monkeypatch.setattr("mprnet_lit.serving.api.WAITING", 0)
    busy = post(client, photo)
    assert busy.status_code == 503 and "try again later" in busy.text
    monkeypatch.setattr("mprnet_lit.serving.api.WAITING", 1)
    monkeypatch.setattr(uploads, "_bytes", 0)
    assert post(client, photo).status_code == 507
    monkeypatch.undo()
    assert post(client, photo).status_code == 200


def test_documented_python_example_runs(
    client: TestClient, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
    (code,) = (block for block in page.split("```python\n")[1:])
    (tmp_path / "photo.png").write_bytes(photo.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "httpx.post", lambda url, **options: client.post(url, **options_of(options))
    )
    exec(code.partition("```")[0].replace("photo.jpg", "photo.png"), {})
    assert Image.open(tmp_path / "photo.restored.jpg").size == (48, 40)


def options_of(options: Any) -> Any:
    assert options.pop("timeout") is None  # the test client has no such option
    return options
