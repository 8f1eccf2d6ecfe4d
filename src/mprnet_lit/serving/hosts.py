"""Check of the address that a request was sent to and of the page that sent it."""

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from http import HTTPStatus

ELSEWHERE = "requests from other web pages are refused: open this page itself"
_ADDRESS = re.compile(r"(?:\[([\da-f:.]+)\]|([\w.-]+))(?::\d*)?", re.ASCII | re.IGNORECASE)


class RequestError(Exception):
    """Refusal of a request, with a status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Hosts:
    """Names under which the page is served.

    Another site can point its own name to this machine (DNS rebinding), but it can't be named
    ``localhost`` or an address.

    Args:
        host: name or address that the server listens on.
        allowed: further names, without ports.
    """

    def __init__(self, host: str, allowed: Iterable[str] = ()) -> None:
        self.allowed = {name.lower() for name in allowed}
        self._only_loopback = is_loopback(host)
        self._own = {"localhost", host.lower()}
        if not self._only_loopback:
            self._own.add(socket.gethostname().lower())

    def check(self, headers: Mapping[str, list[str]]) -> None:
        """Check where a request was sent to and which page sent it.

        Raises:
            RequestError: ``Host`` does not name this server, or a page of another origin sent the
            request.
        """
        (host, *more) = headers.get("host", [""])
        name = _name_of(host)
        if more or name is None or not self._is_own(name):
            raise RequestError(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"this page is not served under the name {name or host!r}: open it by the address "
                "that was printed at its start, or start it with serve.allowed_hosts=[NAME]",
            )
        for origin in headers.get("origin", []):
            scheme, _, address = origin.lower().partition("://")
            known = address == host.lower() or _name_of(address) in self.allowed
            if scheme not in ("http", "https") or not known:
                raise RequestError(HTTPStatus.FORBIDDEN, ELSEWHERE)

    def _is_own(self, name: str) -> bool:
        if name in self._own | self.allowed:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._only_loopback


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address to listen on."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name_of(address: str) -> str | None:
    """Return the name in a ``Host`` header, in lower case, without port and brackets."""
    found = _ADDRESS.fullmatch(address)
    return (found[1] or found[2]).lower() if found else None
