"""Addresses of weights files on the Hugging Face Hub and on web servers."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.url import file_name, shown

HUB_FILE = "model.safetensors"
"""Name of the weights file in a repository of the Hugging Face Hub, by default."""
SCHEMES = ("hf://", "https://", "http://")
"""Schemes of the addresses that :func:`parse_address` accepts."""
_HUB = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:/([^@]+))?(?:@(.+))?")
_CHECKSUM = re.compile(r"sha256=([0-9a-fA-F]{64})")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class HubAddress:
    """File in a model repository of the Hugging Face Hub.

    Attributes:
        repo: name of the repository, ``OWNER/REPO``.
        file: path of the file in the repository.
        revision: branch, tag or commit; ``None`` for the default branch.
        sha256: expected SHA-256 of the file, 64 hexadecimal digits; ``None`` if unknown.
    """

    repo: str
    file: str = HUB_FILE
    revision: str | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repo}/{self.file}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class WebAddress:
    """File on a web server.

    Attributes:
        url: address without fragment.
        sha256: expected SHA-256 of the file, 64 hexadecimal digits; ``None`` if unknown.
    """

    url: str
    sha256: str | None = None

    def __str__(self) -> str:
        return shown(self.url)

    @property
    def file(self) -> str:
        """File name in the address, with letters, digits, dots, hyphens and underscores only."""
        name = file_name(urlsplit(self.url).path, default="weights")
        return re.sub(r"[^\w.-]", "_", name)[-100:]


def parse_address(text: str) -> HubAddress | WebAddress:
    """Parse the address of a weights file.

    Args:
        text: ``hf://OWNER/REPO[/FILE][@REVISION]`` or ``https://HOST/PATH``, and optionally
            ``#sha256=`` with 64 hexadecimal digits.

    Raises:
        UserError: the scheme is unknown, the address is incomplete or contains a password, the
            checksum is not a SHA-256, or an ``http://`` address has no checksum.
    """
    address, _, fragment = text.partition("#")
    checksum = _CHECKSUM.fullmatch(fragment)
    if fragment and checksum is None:
        raise UserError(f"the checksum in {text} must be #sha256= and 64 hexadecimal digits")
    sha256 = checksum[1].lower() if checksum else None
    if address.startswith("hf://"):
        parts = _HUB.fullmatch(address)
        if parts is None or ".." in address.split("/"):
            raise UserError(f"{address} must have the form hf://OWNER/REPO[/FILE][@REVISION]")
        return HubAddress(parts[1], parts[2] or HUB_FILE, parts[3], sha256)
    try:
        url = urlsplit(address)
        host, has_password = url.hostname, url.password is not None or url.username is not None
    except ValueError:  # invalid host
        host, has_password = None, False
    if not address.startswith(("https://", "http://")) or not host:
        raise UserError(f"{address} must be a path, or start with hf://OWNER/REPO or https://HOST/")
    if has_password:
        raise UserError(f"the address of a file on {host} must not contain a user or a password")
    if address.startswith("http://") and sha256 is None and host not in _LOOPBACK:
        raise UserError(
            f"{address} is not encrypted, so the file can be replaced on the way: use https://, or "
            "add #sha256= and the checksum of the file"
        )
    return WebAddress(address, sha256)
