"""Revision of the running code, read without git, whose settings can start other programs."""

import hashlib
import re
import tomllib
from contextlib import suppress
from pathlib import Path

from mprnet_lit.utils.untrusted import NotReadableError, read_bytes

_PACKAGE = Path(__file__).resolve().parents[1]
_PROJECT = "mprnet_lit"
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MAX_BYTES = 2**24
"""Maximum size of the packed references of a repository."""


def git_revision(package: Path = _PACKAGE) -> str | None:
    """Return the commit of the checkout that contains the package; ``None`` outside a checkout.

    No program is started. Only ``pyproject.toml``, references and commit hashes are read.

    Args:
        package: directory of the package.
    """
    top = package.parents[1]
    try:
        if package.relative_to(top).parts != ("src", _PROJECT) or not _is_project(top):
            return None
        folder = _git_folder(top)
        common = folder
        if (folder / "commondir").exists():  # a worktree shares the branches of the main repository
            common = (folder / _text(folder, "commondir")).resolve()
        commit = _commit(folder, common, _text(folder, "HEAD"))
    except (NotReadableError, OSError, ValueError, KeyError, TypeError):
        return None
    return commit if _HASH.fullmatch(commit) else None


def source_digest(package: Path = _PACKAGE) -> str:
    """Return a digest of the Python files of the package, which identifies the code."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _is_project(top: Path) -> bool:
    name = tomllib.loads(read_bytes(top, "pyproject.toml").decode())["project"]["name"]
    return str(name).replace("-", "_") == _PROJECT


def _git_folder(top: Path) -> Path:
    """Return the git directory; in worktrees and submodules, ``.git`` is a file with its path."""
    place = top / ".git"
    if place.is_dir():
        return place
    kind, _, folder = _text(top, ".git").partition(":")
    if kind != "gitdir":
        raise ValueError("not a repository")
    return (top / folder.strip()).resolve()


def _commit(folder: Path, common: Path, head: str) -> str:
    """Return the content of the reference in ``HEAD``, or the commit of a detached ``HEAD``."""
    kind, _, name = head.partition(":")
    if kind != "ref":
        return head
    name = name.strip()
    for place in (folder, common):
        with suppress(NotReadableError):
            return _text(place, name)
    lines = read_bytes(common, "packed-refs", _MAX_BYTES).decode().splitlines()
    return next((line.split(" ")[0] for line in lines if line.partition(" ")[2] == name), "")


def _text(folder: Path, name: str) -> str:
    return read_bytes(folder, name, 4096).decode().strip()
