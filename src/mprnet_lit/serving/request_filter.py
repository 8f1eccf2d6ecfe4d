"""ASGI middleware that forwards only the requests that the page and the REST endpoint need.

Other web pages in the same browser, and all clients that reach the address, can send requests.
Gradio answers many requests that this page does not need.
"""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mprnet_lit.serving import api
from mprnet_lit.serving.allowed_hosts import CROSS_SITE, AllowedHosts, RequestError
from mprnet_lit.serving.uploads import Uploads
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.text import exceeding

_API = "/gradio_api/"
_FILE, _JOIN, _UPLOAD = f"{_API}file=", f"{_API}queue/join", f"{_API}upload"
_PAGES = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"} | {
    _API + name for name in ("startup-events", "info", "queue/data", "upload_progress", "theme.css")
}
_PREFIXES = ("/assets/", "/static/", "/svelte/", f"{_API}heartbeat/")
_FOLDER = re.compile(r"[0-9a-f]{64}")
"""Name of a folder with one file: SHA-256 digest of an upload, or random digits for a result."""
_SESSION = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""Session hash of Gradio's script. An empty session hash would stop Gradio's queue."""
_MAX_CALL = 16384
"""Maximum size of a call in bytes."""
_MAX_FORM = 16384
"""Maximum size of an upload form without the file in bytes."""
_HEADERS = {
    # With this policy, the browser blocks requests to other servers.
    "content-security-policy": (
        "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_FILE_HEADERS = {
    "content-security-policy": "default-src 'none'; sandbox",
    "cache-control": "no-store",
}


class RequestFilter:
    """ASGI middleware in front of the REST endpoint and of Gradio.

    Args:
        app: ASGI application of the endpoint and of Gradio.
        uploads: folder of uploads and results.
        hosts: host names of the server.
        max_bytes: maximum size of a photo in bytes.
        function: index of the only function that the page calls.
    """

    def __init__(
        self, app: ASGIApp, uploads: Uploads, hosts: AllowedHosts, max_bytes: float, function: int
    ) -> None:
        self.app, self.uploads, self.hosts = app, uploads, hosts
        self.max_bytes, self.function = max_bytes, function

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request, or answer it with an error message."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        method, path = scope["method"], scope["path"]
        send = _with_headers(send, is_file=path.startswith((_FILE, api.PATH)))
        received = Headers(scope=scope)
        headers = {name: received.getlist(name) for name in received}
        try:
            self.hosts.check(headers)
            _check_site(path, headers)
            if method == "POST" and path in (_UPLOAD, api.PATH):
                with self.uploads.reserved(self._upload_length(headers)):
                    await self.app(scope, receive, send)
            elif method == "POST" and path == _JOIN:
                await self._join(scope, receive, send, headers)
            elif method in ("GET", "HEAD") and self._is_page(path):
                await self.app(scope, receive, send)
            else:
                raise RequestError(HTTPStatus.NOT_FOUND, "not found: this page has no such address")
        except RequestError as error:
            await PlainTextResponse(f"{error}\n", error.status)(scope, receive, send)
        except UserError as error:
            full = HTTPStatus.INSUFFICIENT_STORAGE
            await PlainTextResponse(f"{error}\n", full)(scope, receive, send)

    def _is_page(self, path: str) -> bool:
        if path.startswith(_FILE):
            return self._is_stored(path.removeprefix(_FILE))
        return path in (*_PAGES, api.PATH) or path.startswith(_PREFIXES)

    def _is_stored(self, path: Any) -> bool:
        """Return whether a path is that of an upload or a result."""
        if not isinstance(path, str) or "\0" in path:
            return False
        try:
            folder, name = Path(path).relative_to(self.uploads.folder).parts
        except ValueError:
            return False
        return bool(_FOLDER.fullmatch(folder)) and name != ".."

    def _upload_length(self, headers: Mapping[str, list[str]]) -> int:
        """Return the length of an upload; raise a ``RequestError`` if it is too large."""
        length = _length(headers)
        if length > self.max_bytes + _MAX_FORM:
            size, limit = exceeding(length / 1e6, self.max_bytes / 1e6)
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the photo has {size} MB, but the limit of this page is {limit} MB",
            )
        return length

    async def _join(
        self, scope: Scope, receive: Receive, send: Send, headers: Mapping[str, list[str]]
    ) -> None:
        """Forward a call of the function with a body that has only the expected entries."""
        if _length(headers) > _MAX_CALL:
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the call is too large")
        try:
            body = json.dumps(self._call(await Request(scope, receive).body())).encode()
        except ClientDisconnect:
            return
        scope = dict(scope)
        MutableHeaders(scope=scope)["content-length"] = str(len(body))
        pending = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self.app(scope, replay, send)

    def _call(self, body: bytes) -> dict[str, Any]:
        """Parse a call and return it with only the entries that the page sends.

        Raises:
            RequestError: the call is malformed, or its file was not uploaded to this page.
        """
        malformed = RequestError(HTTPStatus.BAD_REQUEST, "the call is malformed")
        try:
            call = json.loads(body)
            file, name, tlc, self_ensemble, strength = call["data"]
            session, trigger = call["session_hash"], call.get("trigger_id")
            path = None if file is None else file["path"]
            valid_session = _SESSION.fullmatch(session)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise malformed from None
        if path is not None and not self._is_stored(path):
            raise RequestError(
                HTTPStatus.BAD_REQUEST,
                "the photo must be uploaded to this page: upload it first",
            )
        types = (
            *((name, str), (tlc, bool), (self_ensemble, bool)),
            *((strength, int | float), (trigger, int | None)),
        )
        if not (
            valid_session
            and all(isinstance(value, kind) for value, kind in types)
            and 0 <= strength <= 1
        ):
            raise malformed
        photo = None if path is None else {"path": path, "meta": {"_type": "gradio.FileData"}}
        return {
            "data": [photo, name, tlc, self_ensemble, float(strength)],
            "fn_index": self.function,
            "session_hash": session,
            "trigger_id": trigger,
        }


def _check_site(path: str, headers: Mapping[str, list[str]]) -> None:
    """Reject requests that a browser marks as cross-site, except links to the page.

    Raises:
        RequestError: the request is cross-site and does not follow a link to the page.
    """
    link = path == "/" and headers.get("sec-fetch-mode") == ["navigate"]
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
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            for name in set(headers):
                if name.startswith("access-control-"):
                    del headers[name]
            headers.update(added)
            message = {**message, "headers": headers.raw}
        await send(message)

    return guarded
