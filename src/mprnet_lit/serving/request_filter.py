"""ASGI middleware before Gradio that forwards only the requests that the page needs.

Other web pages in the same browser, and all clients that reach the address, can send requests.
Gradio answers many requests that this page does not need.
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from mprnet_lit.serving.allowed_hosts import CROSS_SITE, AllowedHosts, RequestError
from mprnet_lit.serving.uploads import Uploads
from mprnet_lit.utils.errors import UserError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_API = "/gradio_api/"
_FILE, _JOIN, _UPLOAD = f"{_API}file=", f"{_API}queue/join", f"{_API}upload"
_PAGES = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"} | {
    _API + name for name in ("startup-events", "info", "queue/data", "upload_progress", "theme.css")
}
_PREFIXES = ("/assets/", "/static/", "/svelte/", f"{_API}heartbeat/", _FILE)
_FOLDER = re.compile(r"[0-9a-f]{64}")
"""Folder of one file: SHA-256 digest of an upload, or random digits for a result."""
_SESSION = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""Session hash of Gradio's script. An empty session hash would stop Gradio's queue."""
_MOST_JSON = 16384
"""Maximum bytes of a call."""
_FORM = 16384
"""Maximum bytes of an upload form besides the file."""
# The content security policy blocks requests to other servers in the browser.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"same-origin",
    b"x-content-type-options": b"nosniff",
}
_FILE_HEADERS = {
    b"content-security-policy": b"default-src 'none'; sandbox",
    b"cache-control": b"no-store",
}


class RequestFilter:
    """ASGI middleware before Gradio.

    Args:
        app: ASGI application of Gradio.
        uploads: folder of uploads and results.
        hosts: host names of the server.
        most_bytes: maximum size of a photo in bytes.
        function: index of the only function that the page calls.
    """

    def __init__(
        self, app: App, uploads: Uploads, hosts: AllowedHosts, most_bytes: float, function: int
    ) -> None:
        self.app, self.uploads, self.hosts = app, uploads, hosts
        self.most_bytes, self.function = most_bytes, function

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Forward a request, or answer it with an error message."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        send = _with_headers(send, scope["path"].startswith(_FILE))
        try:
            headers = _headers(scope)
            self.hosts.check(headers)
            _check_site(scope, headers)
            if scope["method"] == "POST" and scope["path"] == _UPLOAD:
                await self._upload(scope, receive, send, headers)
            elif scope["method"] == "POST" and scope["path"] == _JOIN:
                await self._join(scope, receive, send, headers)
            elif scope["method"] in ("GET", "HEAD") and self._is_page(scope["path"]):
                await self.app(scope, receive, send)
            else:
                raise RequestError(HTTPStatus.NOT_FOUND, "not found: this page has no such address")
        except RequestError as error:
            await _answer(send, error.status, str(error))
        except UserError as error:
            await _answer(send, HTTPStatus.INSUFFICIENT_STORAGE, str(error))

    def _is_page(self, path: str) -> bool:
        if path.startswith(_FILE):
            return self._is_stored(path.removeprefix(_FILE))
        return path in _PAGES or path.startswith(_PREFIXES)

    def _is_stored(self, path: Any) -> bool:
        """Return whether a path is that of an upload or a result."""
        if not isinstance(path, str) or "\0" in path:
            return False
        try:
            parts = Path(path).relative_to(self.uploads.folder).parts
        except ValueError:
            return False
        return len(parts) == 2 and bool(_FOLDER.fullmatch(parts[0])) and parts[1] != ".."

    async def _upload(
        self, scope: Message, receive: Receive, send: Send, headers: Mapping[str, list[str]]
    ) -> None:
        size = _length(headers)
        if size > self.most_bytes + _FORM:
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the photo has {size / 1e6:.1f} MB, but the limit of this page is "
                f"{self.most_bytes / 1e6:g} MB",
            )
        with self.uploads.reserved(size):
            await self.app(scope, receive, send)

    async def _join(
        self, scope: Message, receive: Receive, send: Send, headers: Mapping[str, list[str]]
    ) -> None:
        size = _length(headers)
        if size > _MOST_JSON:
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the call is too large")
        body = b""
        while len(body) < size:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        call = json.dumps(self._call(body)).encode()
        headers_out = [(n, v) for n, v in scope["headers"] if n.lower() != b"content-length"]
        headers_out.append((b"content-length", str(len(call)).encode()))
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": call, "more_body": False}

        await self.app({**scope, "headers": headers_out}, replay, send)

    def _call(self, body: bytes) -> dict[str, Any]:
        """Parse a call and return it with only the entries that the page sends.

        Raises:
            RequestError: the call is malformed, or its file was not uploaded to this page.
        """
        try:
            call = json.loads(body)
            file, name, tlc, self_ensemble = call["data"]
            session, trigger = call["session_hash"], call.get("trigger_id")
            path = None if file is None else file["path"]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise RequestError(HTTPStatus.BAD_REQUEST, "the call is malformed") from None
        if path is not None and not self._is_stored(path):
            raise RequestError(
                HTTPStatus.BAD_REQUEST,
                "the photo must be uploaded to this page: upload it first",
            )
        named = isinstance(name, str) and isinstance(session, str)
        plain = named and _SESSION.fullmatch(session)
        numbered = trigger is None or isinstance(trigger, int)
        if not (plain and numbered and isinstance(tlc, bool) and isinstance(self_ensemble, bool)):
            raise RequestError(HTTPStatus.BAD_REQUEST, "the call is malformed")
        photo = None if path is None else {"path": path, "meta": {"_type": "gradio.FileData"}}
        return {
            "data": [photo, name, tlc, self_ensemble],
            "fn_index": self.function,
            "session_hash": session,
            "trigger_id": trigger,
        }


def _headers(scope: Message) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _check_site(scope: Message, headers: Mapping[str, list[str]]) -> None:
    """Reject requests that a browser marks as cross-site, except links to the page.

    Raises:
        RequestError: the request is cross-site and does not follow a link to the page.
    """
    link = scope["path"] == "/" and headers.get("sec-fetch-mode") == ["navigate"]
    if not link and set(headers.get("sec-fetch-site", ())) & {"cross-site", "same-site"}:
        raise RequestError(HTTPStatus.FORBIDDEN, CROSS_SITE)


def _length(headers: Mapping[str, list[str]]) -> int:
    """Return the length of the body of a request in bytes.

    Raises:
        RequestError: the request has no valid ``Content-Length``.
    """
    values = headers.get("content-length", [])
    if len(values) != 1 or not values[0].isdecimal() or "transfer-encoding" in headers:
        raise RequestError(HTTPStatus.LENGTH_REQUIRED, "the request needs a Content-Length")
    return int(values[0])


def _with_headers(send: Send, is_file: bool) -> Send:
    """Add the security headers to all responses, and drop the headers of cross-origin access."""
    added = _HEADERS | _FILE_HEADERS if is_file else _HEADERS

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [
                (name, value)
                for name, value in message.get("headers", ())
                if name.lower() not in added and not name.lower().startswith(b"access-control-")
            ]
            message = {**message, "headers": [*kept, *added.items()]}
        await send(message)

    return guarded


async def _answer(send: Send, status: int, message: str) -> None:
    content = f"{message}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(content)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
