"""Requests from other web pages and manual requests to the page, in this process."""

import html
import io
import json
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from starlette.routing import Mount
from starlette.testclient import TestClient
from tests.conftest import PHOTOS
from tests.serving.test_waiting_line import wait_until

from mprnet_lit import Restorer
from mprnet_lit.models import MPRNet
from mprnet_lit.serving import photo_restorer
from mprnet_lit.serving.allowed_hosts import AllowedHosts, RequestError
from mprnet_lit.serving.limits import Limits, check_memory, check_photo
from mprnet_lit.serving.photo_restorer import Options, PhotoRestorer
from mprnet_lit.serving.uploads import Uploads
from mprnet_lit.utils.errors import UserError
from mprnet_lit.weights import Info

HERE = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Uploads:
    return Uploads(tmp_path_factory.mktemp("uploads").resolve(), megabytes=50, minutes=60)


@pytest.fixture(scope="module")
def restorer() -> PhotoRestorer:
    model = MPRNet(width=8, unet_step=4, orsnet_step=4, cabs_per_orb=2, reduction=4)
    inner = Restorer(model, device="cpu", tile="auto")
    return PhotoRestorer({"cat": "/secret/net.pth"}, lambda file, tlc: inner)


@pytest.fixture(scope="module")
def page(restorer: PhotoRestorer, uploads: Uploads) -> Iterator[Any]:
    """Client that sends the same requests as the script of the page."""
    from starlette.testclient import TestClient

    from mprnet_lit.serving.page import build_app

    app = build_app(restorer, Limits(1, 0.1), uploads, "127.0.0.1")
    with TestClient(app, base_url=HERE) as client:
        yield client


def png(size: tuple[int, int] = (48, 40), mode: str = "RGB") -> Any:
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG")
    return file.getvalue()


def upload(page: TestClient, name: str, content: Any) -> Any:
    (path,) = page.post("/gradio_api/upload", files={"files": (name, content)}).json()
    return path


def join(page: TestClient, photo: Any, session: str = "session", strength: Any = 1) -> Any:
    data = [photo, "cat", False, False, strength]
    call = {"data": data, "fn_index": 0, "session_hash": session}
    return page.post("/gradio_api/queue/join", json=call)


def restore(page: TestClient, photo: Any, strength: Any = 1) -> tuple[Any, Any, Any]:
    """Press the button and return its results: comparison, download, status line."""
    assert join(page, photo, strength=strength).status_code == 200
    events = page.get("/gradio_api/queue/data", params={"session_hash": "session"}).text
    messages = [json.loads(line[5:]) for line in events.splitlines() if line.startswith("data:")]
    (done,) = [m for m in messages if m["msg"] == "process_completed"]
    shown, download, line = done["output"]["data"]
    return shown, download, html.unescape(line)


def test_photo_is_uploaded_restored_and_downloaded(page: TestClient) -> None:
    path = upload(page, "my cat.png", png())
    shown, download, line = restore(page, {"path": path})
    assert line.startswith("48 x 40 pixels, 8 bits, 0 kB, restored in")
    file = download["value"]
    answer = page.get(f"/gradio_api/file={file['path']}")
    assert file["orig_name"] == "my cat.restored.png"
    assert Image.open(io.BytesIO(answer.content)).size == (48, 40)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["cache-control"] == "no-store"
    assert "my cat.png before the restoration" in shown and "my cat.png after" in shown
    for source in re.findall(r'src="([^"]+)"', shown):
        preview = page.get(f"/{source}")
        assert Image.open(io.BytesIO(preview.content)).size == (48, 40)


def test_visitor_who_left_does_not_hold_up_the_line(
    page: TestClient, restorer: PhotoRestorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts: Any = [r.app for r in cast(Any, page.app).app.routes if isinstance(r, Mount)]
    monkeypatch.setattr(restorer, "restore", None)  # not called
    path, line = upload(page, "left.png", png()), restorer.line
    with ExitStack() as earlier:
        for _ in range(2):
            earlier.enter_context(line.joined(1, lambda: 10.0))
        assert join(page, {"path": path}, "leaver").status_code == 200
        wait_until(lambda: line.length == 1)
        assert page.portal is not None
        queue = mounts[-1].get_blocks()._queue
        page.portal.call(partial(queue.clean_events, session_hash="leaver"))
    wait_until(lambda: not line.length and not line._served)


def test_strength_blends_the_photo_and_its_restoration(
    page: TestClient, restorer: PhotoRestorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cat = Image.open(PHOTOS / "chelsea.png").crop((100, 50, 148, 90))
    file = io.BytesIO()
    cat.save(file, "PNG")
    path = upload(page, "blend.png", file.getvalue())
    made, lines = {}, {}
    for strength in (0, 0.5, 1):
        _, download, lines[strength] = restore(page, {"path": path}, strength)
        answer = page.get(f"/gradio_api/file={download['value']['path']}")
        made[strength] = np.array(Image.open(io.BytesIO(answer.content)), dtype=float)
    photo = np.array(cat, dtype=float)
    assert np.array_equal(made[0], photo)
    assert np.abs(made[0.5] - (photo + made[1]) / 2).max() <= 1
    for strength, result in made.items():
        change = np.abs(result - photo).mean()
        assert f", changed by {change:.1f} of 255 levels on average" in lines[strength]
    assert "Warning" not in lines[1], "the limit of these weights is unknown"
    inner = restorer._restorer("cat", False)
    monkeypatch.setattr(inner, "info", Info(change=1.5))
    warning = "Warning: this is more than 99% of the training patches needed (1.5): compare"
    assert warning in restore(page, {"path": path}, 1)[2]
    assert "Warning" not in restore(page, {"path": path}, 0)[2]
    for invalid in (1.01, -0.5, "1", None, float("nan"), [1]):
        data = json.dumps({"data": [None, "cat", False, False, invalid], "session_hash": "a"})
        assert page.post("/gradio_api/queue/join", content=data).status_code == 400


def test_visitors_are_told_their_place_in_the_queue(
    page: TestClient, restorer: PhotoRestorer
) -> None:
    path, line = upload(page, "cat.png", png()), restorer.line
    with ThreadPoolExecutor(2) as pool, ExitStack() as others:
        for _ in range(2):
            others.enter_context(line.joined(1, lambda: 1e9))
        assert join(page, {"path": path}, "queue").status_code == 200
        while line.length < 1:
            time.sleep(0.01)
        files, fields = {"photo": ("a.png", png())}, {"ticket": "my-photo"}
        answer = pool.submit(page.post, "/api/restore", files=files, data=fields)
        while line.length < 2:
            time.sleep(0.01)
        found = page.get("/api/restore", params={"ticket": "my-photo"}).json()
        assert (found["place"], found["waiting"]) == (2, 2)
        assert page.get("/api/restore", params={"ticket": "other"}).json()["place"] is None
        others.close()
        assert answer.result().status_code == 200
    events = page.get("/gradio_api/queue/data", params={"session_hash": "queue"}).text
    messages = [json.loads(line[5:]) for line in events.splitlines() if line.startswith("data:")]
    told = [m["output"]["data"][2] for m in messages if m["msg"] == "process_generating"]
    assert told[0] == "Place 1 in the queue."
    assert "restored in" in json.dumps(messages)


def test_messages_about_invalid_files_omit_the_folder(page: TestClient, uploads: Uploads) -> None:
    for name, content, why in (
        (
            "large.png",
            png((400, 300)),
            "large.png has 0.12 megapixels, but the limit of this page is 0.1 megapixels",
        ),
        ("damaged.png", png()[:60], "damaged.png can't be read"),
        ("<b>.png", b"nothing", "b.png is not an image"),
    ):
        shown, _, line = restore(page, {"path": upload(page, name, content)})
        assert "<img" not in shown and why in line and str(uploads.folder) not in line
    gone = upload(page, "gone.png", png((9, 9)))
    Path(gone).unlink()
    assert "gone.png has expired: choose the photo again" in restore(page, {"path": gone})[2]
    assert "no photo is selected" in restore(page, None)[2]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:7860"}, 200),
        ({"Host": "[::1]:7860"}, 200),
        ({"Host": "localhost:9000"}, 200),  # port forwarding by ssh or a container
        ({"Host": "evil.example:7860"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "192.168.1.7:7860"}, 421),
        ({"Host": "user@127.0.0.1"}, 421),
        ({"Host": "localhost?evil.example"}, 421),
        ({"Host": "[::1]evil.example"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": HERE}, 200),
        ({"Origin": "https://127.0.0.1:7860"}, 200),  # TLS proxy
        ({"Origin": "http://127.0.0.1:3000"}, 403),
        ({"Origin": "http://localhost:7860"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),  # a link
    ],
    ids=str,
)
def test_cross_site_requests_and_other_host_names_are_rejected(
    page: TestClient, headers: dict[str, Any], status: int
) -> None:
    answer = page.get("/", headers=headers)
    assert answer.status_code == status
    assert not [name for name in answer.headers if name.startswith("access-control")]
    if status != 200:
        assert answer.text.count("\n") == 1 and ":" in answer.text
    posted = 403 if headers.get("Sec-Fetch-Mode") == "navigate" else status
    asked = page.post("/gradio_api/upload", headers=headers, files={"files": ("a.png", png())})
    assert asked.status_code == posted
    preflight = {"Access-Control-Request-Method": "POST", **headers}
    assert page.options("/gradio_api/upload", headers=preflight).status_code in (404, posted)


def test_public_server_accepts_its_configured_host_names() -> None:
    hosts = AllowedHosts("0.0.0.0", ["Photos.example.org"])
    for host in ("192.168.1.7:7860", "[fe80::1]:80", "localhost", "photos.example.org"):
        hosts.check({"host": [host]})
    hosts.check({"host": ["127.0.0.1:7860"], "origin": ["https://photos.example.org"]})  # a proxy
    for host in ("evil.example", "example.org", "photos.example.org.evil.example"):
        with pytest.raises(RequestError, match=r"host name .* is not allowed"):
            hosts.check({"host": [host]})
    with pytest.raises(RequestError, match="is not allowed"):
        hosts.check({"host": ["localhost", "evil.example"]})
    for origin in ("null", "photos.example.org", "ftp://photos.example.org", "https://example.org"):
        with pytest.raises(RequestError, match="other web pages"):
            hosts.check({"host": ["localhost"], "origin": [origin]})


def test_all_other_routes_are_closed(page: TestClient, uploads: Uploads) -> None:
    body = {"data": [None, "cat", False, False, 1]}
    for path in (
        "run/restore", "run/predict", "api/restore", "call/restore", "call/v2/restore", "cancel",
        "component_server", "vibe-code", "process_recording", "reset", "queue/join/",
    ):  # fmt: skip
        assert page.post(f"/gradio_api/{path}", json=body).status_code == 404, path
    secret = uploads.folder.parent / "secret.png"
    secret.write_bytes(png())
    for path in (
        f"file={secret}", f"file={uploads.folder}/../secret.png", "file=/etc/passwd",
        f"file={uploads.folder}/{'0' * 64}/..", "file=http://127.0.0.1:1/a.png",
        "proxy=http://127.0.0.1:1/", "deep_link?session_hash=a", "queue/status", "openapi.json",
        "runs", "run-history/buckets", "dev/reload", "token",
    ):  # fmt: skip
        assert page.get(f"/gradio_api/{path}").status_code == 404, path
    for path in ("/docs", "/openapi.json", "/monitoring", "/login", "/logout"):
        assert page.get(path).status_code == 404, path
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect) as closed, page.websocket_connect("/"):
        pass
    assert closed.value.code == 1008


def test_only_uploads_are_restored(
    page: TestClient, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: Any, **__: Any) -> None:
        raise AssertionError("a URL was fetched")

    monkeypatch.setattr("socket.create_connection", fetch)
    monkeypatch.setattr("gradio.processing_utils.ssrf_protected_download", fetch)
    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", fetch)
    secret = uploads.folder.parent / "other.png"
    secret.write_bytes(png())
    meta = {"_type": "gradio.FileData"}
    for path in ("http://127.0.0.1:1/a.png", "https://example.org/a.png", str(secret), "a.png",
                 f"{uploads.folder}/{'0' * 64}/../../other.png", 7):  # fmt: skip
        answer = join(page, {"path": path, "url": path, "meta": meta})
        assert answer.status_code == 400 and "upload it first" in answer.text
    mine = upload(page, "mine.png", png())
    extra = {"path": mine, "url": "http://127.0.0.1:1/a.png", "is_stream": True, "meta": meta}
    assert "restored in" in restore(page, extra)[2]
    nested = {"data": [None, {"path": "/etc/passwd"}, False, False, 1], "session_hash": "a"}
    plain = {"data": [None, "cat", False, False, 1]}
    sessions = [json.dumps(plain | {"session_hash": text}) for text in ("", "\ud800", "a" * 65)]
    malformed: list[str | bytes] = [b"", b"[]", b'{"data": [null]}', b"[" * 9999]
    for call in (*malformed, json.dumps(nested), *sessions):
        answer = page.post("/gradio_api/queue/join", content=call)
        assert (answer.status_code, answer.text) == (400, "the call is malformed\n")
    assert page.post("/gradio_api/queue/join", content=bytes(20_000)).status_code == 413


def test_uploads_are_limited_in_size_sum_and_age(
    page: TestClient, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert page.post("/gradio_api/upload", files={"files": ("a.png", bytes(1_100_000))}).text == (
        "the photo has 1.1 MB, but the limit of this page is 1 MB\n"
    )
    many = [("files", (f"{k}.png", bytes(200_000))) for k in range(9)]
    assert page.post("/gradio_api/upload", files=many).status_code == 413
    chunks = page.post("/gradio_api/upload", content=iter([b"a", b"b"]))
    assert chunks.status_code == 411 and "Content-Length" in chunks.text
    old = upload(page, "old.png", png((7, 7)))
    os.utime(old, (time.time() - 3601,) * 2)
    monkeypatch.setattr(uploads, "_bytes", 0)
    full = page.post("/gradio_api/upload", files={"files": ("a.png", png())})
    assert full.status_code == 507 and "disk space of this page is full" in full.text
    assert not Path(old).parent.exists()


def test_reserved_space_counts_towards_the_limit(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, megabytes=1, minutes=60)
    (tmp_path / "a").write_bytes(bytes(500_000))
    with (
        uploads.reserved(400_000),
        pytest.raises(UserError, match="disk space"),
        uploads.reserved(2e5),
    ):
        pass
    with uploads.reserved(400_000):
        pass
    for number in range(9):  # small files count as a minimum size
        (tmp_path / f"small{number}").touch()
    with pytest.raises(UserError, match="disk space"), uploads.reserved(1):
        pass


def header(path: Path, size: tuple[int, int], bits: Any) -> Path:
    """Write a PNG with a header and without pixels."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    ihdr = struct.pack(">IIBBBBB", *size, bits, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", b""))
    return path


def test_memory_is_estimated_from_the_header(
    tmp_path: Path, restorer: PhotoRestorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(gigabytes: float | None) -> int:
        limits = Limits(50, 50, gigabytes)
        demand = check_photo(path, limits)
        check_memory(path, demand, limits)
        return demand.pixels

    path = header(tmp_path / "a.png", (7000, 7000), 16)
    with pytest.raises(
        UserError,
        match=r"a\.png needs 1\.2 GB of memory, but 1 GB are available: choose a smaller photo",
    ):
        check(1)
    assert check(2) == 7000 * 7000 * 8
    path = header(path, (7000, 7000), 8)
    assert check(1) == 7000 * 7000 * 4
    monkeypatch.setattr("mprnet_lit.serving.limits.free_bytes", lambda device: 1e9)
    with pytest.raises(UserError, match=r"0\.6 GB of memory, but 0\.5 GB are available"):
        check(None)
    decoded: list[Path] = []
    monkeypatch.setattr(photo_restorer, "read_photo", decoded.append)
    with (
        pytest.raises(UserError, match="needs"),
        restorer.turn(path, Options("cat"), Limits(50, 50)) as turn,
    ):
        restorer.restore(turn, Uploads(tmp_path, 999, 60))
    assert not decoded and not restorer.line.length


def test_16_bit_tiffs_are_detected_by_their_header(tmp_path: Path) -> None:
    for name, pixels, expected in (
        ("a.tif", np.zeros((10, 10, 3), np.uint8), 400),
        ("b.tif", np.zeros((10, 10), np.uint16), 800),
    ):
        Image.fromarray(pixels).save(tmp_path / name)
        assert check_photo(tmp_path / name, Limits(1, 1)).pixels == expected


def test_limits_of_file_size_and_type(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bytes(2_000_000))
    with pytest.raises(UserError, match=r"a\.png has 2\.0 MB, but the limit of this page is 1 MB"):
        check_photo(tmp_path / "a.png", Limits(1, 1))
    with pytest.raises(UserError, match="not a supported image file"):
        check_photo(tmp_path / "a.exe", Limits(1, 1))
