"""What the page takes from other web pages and from hand-made requests: in the process."""

import html
import io
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mprnet_lit import Restorer
from mprnet_lit.models import MPRNet
from mprnet_lit.serving import restoring
from mprnet_lit.serving.hosts import Hosts, RequestError
from mprnet_lit.serving.limits import Limits, check
from mprnet_lit.serving.restoring import Choices
from mprnet_lit.serving.uploads import Uploads
from mprnet_lit.utils.errors import UserError

pytest.importorskip("gradio")

HERE = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    return Uploads(tmp_path_factory.mktemp("uploads").resolve(), megabytes=50, minutes=60)


@pytest.fixture(scope="module")
def choices():
    model = MPRNet(width=8, unet_step=4, orsnet_step=4, cabs_per_orb=2, reduction=4)
    restorer = Restorer(model, device="cpu", tile="auto")
    return Choices({"cat": "/secret/net.pth"}, lambda file, tlc: restorer)


@pytest.fixture(scope="module")
def page(choices, uploads):
    """The page, asked as its own script asks it."""
    from starlette.testclient import TestClient

    from mprnet_lit.serving.page import application

    app = application(choices, Limits(1, 0.1), uploads, "127.0.0.1")
    with TestClient(app, base_url=HERE) as client:
        yield client


def png(size=(48, 40), mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG")
    return file.getvalue()


def upload(page, name, content):
    (path,) = page.post("/gradio_api/upload", files={"files": (name, content)}).json()
    return path


def join(page, photo, session="session"):
    call = {"data": [photo, "cat", False, False], "fn_index": 0, "session_hash": session}
    return page.post("/gradio_api/queue/join", json=call)


def restore(page, photo):
    """Return what the button's function answers: slider, download, line."""
    assert join(page, photo).status_code == 200
    said = page.get("/gradio_api/queue/data", params={"session_hash": "session"}).text
    messages = [json.loads(line[5:]) for line in said.splitlines() if line.startswith("data:")]
    (done,) = [m for m in messages if m["msg"] == "process_completed"]
    slider, download, line = done["output"]["data"]
    return slider, download, html.unescape(line)


def test_a_photo_is_uploaded_restored_and_downloaded(page):
    path = upload(page, "my cat.png", png())
    _, download, line = restore(page, {"path": path})
    assert line.startswith("48 x 40 pixels, 8 bits, restored in")
    file = download["value"]
    answer = page.get(f"/gradio_api/file={file['path']}")
    assert file["orig_name"] == "my cat.restored.png"
    assert Image.open(io.BytesIO(answer.content)).size == (48, 40)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["cache-control"] == "no-store"


def test_bad_files_get_a_sentence_without_a_path(page, uploads):
    for name, content, why in (
        ("large.png", png((400, 300)), "large.png has 0.1 megapixels, more than the 0.1"),
        ("damaged.png", png()[:60], "damaged.png can't be read"),
        ("<b>.png", b"nothing", "b.png is not an image"),
    ):
        slider, _, line = restore(page, {"path": upload(page, name, content)})
        assert slider is None and why in line and str(uploads.folder) not in line
    gone = upload(page, "gone.png", png((9, 9)))
    Path(gone).unlink()
    assert (
        "gone.png is not here any more: choose the photo again" in restore(page, {"path": gone})[2]
    )
    assert "there is no photo yet" in restore(page, None)[2]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:7860"}, 200),
        ({"Host": "[::1]:7860"}, 200),
        ({"Host": "localhost:9000"}, 200),  # a port that ssh or a container hands on
        ({"Host": "evil.example:7860"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "192.168.1.7:7860"}, 421),
        ({"Host": "user@127.0.0.1"}, 421),
        ({"Host": "localhost?evil.example"}, 421),
        ({"Host": "[::1]evil.example"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": HERE}, 200),
        ({"Origin": "https://127.0.0.1:7860"}, 200),  # a proxy with a certificate
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
def test_requests_of_other_pages_and_under_other_names_are_refused(page, headers, status):
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


def test_names_of_a_server_that_others_reach():
    hosts = Hosts("0.0.0.0", ["Photos.example.org"])
    for host in ("192.168.1.7:7860", "[fe80::1]:80", "localhost", "photos.example.org"):
        hosts.check({"host": [host]})
    hosts.check({"host": ["127.0.0.1:7860"], "origin": ["https://photos.example.org"]})  # a proxy
    for host in ("evil.example", "example.org", "photos.example.org.evil.example"):
        with pytest.raises(RequestError, match="not served under the name"):
            hosts.check({"host": [host]})
    with pytest.raises(RequestError, match="not served"):
        hosts.check({"host": ["localhost", "evil.example"]})
    for origin in ("null", "photos.example.org", "ftp://photos.example.org", "https://example.org"):
        with pytest.raises(RequestError, match="other web pages"):
            hosts.check({"host": ["localhost"], "origin": [origin]})


def test_what_the_page_does_not_ask_for_is_closed(page, uploads):
    body = {"data": [None, "cat", False, False]}
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


def test_only_an_upload_is_restored(page, uploads, monkeypatch):
    def fetch(*_, **__):
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
    nested = {"data": [None, {"path": "/etc/passwd"}, False, False], "session_hash": "a"}
    plain = {"data": [None, "cat", False, False]}
    sessions = [json.dumps(plain | {"session_hash": text}) for text in ("", "\ud800", "a" * 65)]
    for call in (b"", b"[]", b'{"data": [null]}', b"[" * 9999, json.dumps(nested), *sessions):
        answer = page.post("/gradio_api/queue/join", content=call)
        assert (answer.status_code, answer.text) == (400, "the call is malformed\n")
    assert page.post("/gradio_api/queue/join", content=bytes(20_000)).status_code == 413


def test_uploads_are_bounded_each_and_in_sum_and_in_age(page, uploads, monkeypatch):
    assert page.post("/gradio_api/upload", files={"files": ("a.png", bytes(1_100_000))}).text == (
        "the photo has 1.1 MB, more than the 1 MB allowed here\n"
    )
    many = [("files", (f"{k}.png", bytes(200_000))) for k in range(9)]
    assert page.post("/gradio_api/upload", files=many).status_code == 413
    chunks = page.post("/gradio_api/upload", content=iter([b"a", b"b"]))
    assert chunks.status_code == 411 and "Content-Length" in chunks.text
    old = upload(page, "old.png", png((7, 7)))
    os.utime(old, (time.time() - 3601,) * 2)
    monkeypatch.setattr(uploads, "_bytes", 0)
    full = page.post("/gradio_api/upload", files={"files": ("a.png", png())})
    assert full.status_code == 507 and "no room for another photo" in full.text
    assert not Path(old).parent.exists()


def test_room_that_is_reserved_counts(tmp_path):
    uploads = Uploads(tmp_path, megabytes=1, minutes=60)
    (tmp_path / "a").write_bytes(bytes(500_000))
    with (
        uploads.reserved(400_000),
        pytest.raises(UserError, match="no room"),
        uploads.reserved(2e5),
    ):
        pass
    with uploads.reserved(400_000):
        pass
    for number in range(9):  # small files count for more than they hold
        (tmp_path / f"small{number}").touch()
    with pytest.raises(UserError, match="no room"), uploads.reserved(1):
        pass


def test_one_photo_at_a_time_is_decoded(choices, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(png())
    read, busy, most = restoring.read_photo, threading.Semaphore(1), []

    def counted(path):
        most.append(busy.acquire(blocking=False))
        try:
            return read(path)
        finally:
            busy.release()

    monkeypatch.setattr(restoring, "read_photo", counted)
    uploads = Uploads(tmp_path / "made", 50, 60)
    with ThreadPoolExecutor(4) as pool:
        done = [
            pool.submit(choices.restore, path, "cat", False, False, Limits(1, 1), uploads)
            for _ in range(8)
        ]
    assert all(each.result().file.is_file() for each in done) and most == [True] * 8


def header(path, size, bits):
    """Write a PNG that has a header and no pixels yet."""
    import struct
    import zlib

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    ihdr = struct.pack(">IIBBBBB", *size, bits, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", b""))
    return path


def test_memory_is_reckoned_from_the_header_by_bits(tmp_path, choices, monkeypatch):
    path = header(tmp_path / "a.png", (7000, 7000), 16)
    with pytest.raises(UserError, match=r"a\.png would take 3\.3 GB of memory, more than the 3\.0"):
        check(path, Limits(50, 50, gigabytes=3))
    assert check(path, Limits(50, 50, gigabytes=4)) == 7000 * 7000 * 8
    with pytest.raises(UserError, match=r"7\.8 GB .* without self-ensemble, or a smaller photo"):
        check(path, Limits(50, 50, gigabytes=4), self_ensemble=True)
    path = header(path, (7000, 7000), 8)
    assert check(path, Limits(50, 50, gigabytes=3)) == 7000 * 7000 * 4
    monkeypatch.setattr("mprnet_lit.serving.limits.free_bytes", lambda device: 5e9)
    with pytest.raises(UserError, match=r"2\.5 GB of memory, more than the 2\.5 GB"):
        check(path, Limits(50, 50))
    decoded = []
    monkeypatch.setattr(restoring, "read_photo", decoded.append)
    with pytest.raises(UserError, match="would take"):
        choices.restore(path, "cat", False, False, Limits(50, 50), Uploads(tmp_path, 999, 60))
    assert not decoded


def test_deep_tiffs_are_told_by_their_header(tmp_path):
    for name, pixels, expected in (
        ("a.tif", np.zeros((10, 10, 3), np.uint8), 400),
        ("b.tif", np.zeros((10, 10), np.uint16), 800),
    ):
        Image.fromarray(pixels).save(tmp_path / name)
        assert check(tmp_path / name, Limits(1, 1)) == expected


def test_limits(tmp_path):
    (tmp_path / "a.png").write_bytes(bytes(2_000_000))
    with pytest.raises(UserError, match=r"a\.png has 2\.0 MB, more than the 1 MB"):
        check(tmp_path / "a.png", Limits(1, 1))
    with pytest.raises(UserError, match="not a photo of a known kind"):
        check(tmp_path / "a.exe", Limits(1, 1))
