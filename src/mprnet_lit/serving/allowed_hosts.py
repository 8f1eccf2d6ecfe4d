"""Check of the host and the origin of a request."""

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from http import HTTPStatus

CROSS_SITE = "requests from other web pages are rejected: open this page directly"
_ADDRESS = re.compile(r"(?:\[([\da-f:.]+)\]|([\w.-]+))(?::\d*)?", re.ASCII | re.IGNORECASE)


class RequestError(Exception):
    """Rejection of a request.

    Args:
        status: HTTP status of the response.
        message: text of the response.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class AllowedHosts:
    """Allowed host names of the page, as a protection against DNS rebinding.

    In DNS rebinding, the host name of another site resolves to this machine. Such a name is neither
    ``localhost`` nor an IP address.

    Args:
        host: host name or IP address that the server listens on.
        allowed: further host names, without ports.
    """

    def __init__(self, host: str, allowed: Iterable[str] = ()) -> None:
        self.allowed = {name.lower() for name in allowed}
        self._only_loopback = is_loopback(host)
        self._known = self.allowed | {host.lower()}
        if not self._only_loopback:
            self._known.add(socket.gethostname().lower())

    def check(self, headers: Mapping[str, list[str]]) -> None:
        """Check the headers ``Host`` and ``Origin`` of a request.

        Raises:
            RequestError: ``Host`` is not a name of this server, or ``Origin`` is another site.
        """
        (host, *more) = headers.get("host", [""])
        name = _name_of(host)
        if more or name is None or not self._is_own(name):
            raise RequestError(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"the host name {name or host!r} is not allowed: open the address that the server "
                "printed, or start the server with serve.allowed_hosts=[NAME]",
            )
        for origin in headers.get("origin", []):
            scheme, _, address = origin.lower().partition("://")
            known = address == host.lower() or _name_of(address) in self.allowed
            if scheme not in ("http", "https") or not known:
                raise RequestError(HTTPStatus.FORBIDDEN, CROSS_SITE)

    def _is_own(self, name: str) -> bool:
        is_address = not self._only_loopback and _ip_address(name) is not None
        return name in self._known or is_loopback(name) or is_address


def is_loopback(host: str) -> bool:
    """Return whether an address to listen on is reachable only from this machine."""
    address = _ip_address(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _name_of(address: str) -> str | None:
    """Return the name in a ``Host`` header: lower case, without port and brackets."""
    found = _ADDRESS.fullmatch(address)
    return (found[1] or found[2]).lower() if found else None
