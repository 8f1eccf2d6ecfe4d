"""Local HTTP server with the parts of the Hugging Face Hub that its client uses."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer(ThreadingHTTPServer):
    """Server of files in memory on the loopback interface.

    Attributes:
        files: content by path, such as ``/me/net/resolve/main/model.safetensors``.
        types: content type by path.
        redirects: target by path.
        cut: paths whose answers without a range end after half of the bytes.
        without_ranges: paths whose answers ignore a requested range.
        errors: HTTP status and error code of the Hub by path.
        requests: method, path and range of each request.
        uploaded: files of the last commit, by name.
        refuses_uploads: whether uploads are answered with status 401.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.cut: set[str] = set()
        self.without_ranges: set[str] = set()
        self.errors: dict[str, tuple[int, str]] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.uploaded: dict[str, bytes] = {}
        self.refuses_uploads = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def paths(self, method: str) -> list[str]:
        return [path for name, path, _ in self.requests if name == method]


class Handler(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def note(self) -> str:
        path = unquote(self.path.partition("?")[0])
        self.server.requests.append((self.command, path, self.headers.get("Range", "")))
        return path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.note()
        if path in self.server.redirects:
            return self.answer(302, b"", {"Location": self.server.redirects[path]})
        if path not in self.server.files:
            status, code = self.server.errors.get(path, (404, "EntryNotFound"))
            return self.answer(status, b"", {"X-Error-Code": code})
        content = self.server.files[path]
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
            "Content-Type": self.server.types.get(path, "application/octet-stream"),
        }
        wanted = self.headers.get("Range")
        if wanted and path not in self.server.without_ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last or len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            return self.answer(206, content[start : end + 1], headers)
        cut = path in self.server.cut and self.command == "GET"
        return self.answer(200, content, headers, len(content) // 2 if cut else None)

    def do_POST(self) -> None:
        path = self.note()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        address = f"{self.server.url}/me/net"
        if self.server.refuses_uploads:
            return self.answer(401, b"")
        if path == "/api/repos/create":
            name = json.loads(body)["name"]
            return self.json({"url": address, "id": f"me/{name}"})
        if path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            return self.json({"files": [{"path": file["path"], **mode} for file in files]})
        if path.endswith("/commit/main"):
            lines = [json.loads(line)["value"] for line in body.splitlines()]
            self.server.uploaded = {
                line["path"]: base64.b64decode(line["content"]) for line in lines if "path" in line
            }
            commit = {"commitUrl": f"{address}/commit/{COMMIT}", "commitOid": COMMIT}
            return self.json(commit)
        return self.json({}) if path == "/api/validate-yaml" else self.answer(404, b"")

    def json(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def answer(
        self,
        status: int,
        content: bytes,
        headers: Mapping[str, str] | None = None,
        sent: int | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):  # the client needs only the headers
                self.wfile.write(content[:sent])


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """Run a server until the end of the block."""
    with HubServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
