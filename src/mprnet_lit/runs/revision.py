"""Revision of the running code, read without git: its settings can start other programs."""

import hashlib
import re
import tomllib
from pathlib import Path

from mprnet_lit.utils.untrusted import NotReadableError, read_bytes

_PACKAGE = Path(__file__).resolve().parents[1]
_PROJECT = "mprnet_lit"
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MOST = 2**24
"""Largest size in bytes of the packed references of a repository."""


def git_revision(package: Path = _PACKAGE) -> str | None:
    """Return the commit of the checkout that contains the package; ``None`` outside a checkout.

    Starts no program, and reads only references and commit hashes from the repository.

    Args:
        package: directory of the package.
    """
    top = package.parents[1]
    if package.relative_to(top).parts != ("src", _PROJECT) or not _is_project(top):
        return None
    try:
        folder = _git_folder(top)
        head = _text(folder, "HEAD")
        common = folder
        if (folder / "commondir").exists():  # a worktree shares the branches of the main repository
            common = (folder / _text(folder, "commondir")).resolve()
        return _commit(folder, common, head)
    except (NotReadableError, OSError, ValueError):
        return None


def source_digest(package: Path = _PACKAGE) -> str:
    """Return a digest of the Python files of the package, which identifies the code."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _is_project(top: Path) -> bool:
    try:
        project = tomllib.loads(read_bytes(top, "pyproject.toml").decode())["project"]["name"]
    except (NotReadableError, ValueError, KeyError, TypeError):
        return False
    return str(project).replace("-", "_") == _PROJECT


def _git_folder(top: Path) -> Path:
    """Return the git directory; in worktrees and submodules, ``.git`` is a file with its path."""
    place = top / ".git"
    if place.is_dir():
        return place
    kind, _, folder = _text(top, ".git").partition(":")
    if kind != "gitdir":
        raise ValueError("not a repository")
    return (top / folder.strip()).resolve()


def _commit(folder: Path, common: Path, head: str) -> str | None:
    kind, _, name = head.partition(":")
    if kind != "ref":
        return head if _HASH.fullmatch(head) else None
    name = name.strip()
    for place in (folder, common):
        try:
            found = _text(place, name)
        except NotReadableError:
            continue
        return found if _HASH.fullmatch(found) else None
    for line in read_bytes(common, "packed-refs", _MOST).decode().splitlines():
        commit, _, packed = line.partition(" ")
        if packed == name and _HASH.fullmatch(commit):
            return commit
    return None


def _text(folder: Path, name: str) -> str:
    return read_bytes(folder, name, 4096).decode().strip()
