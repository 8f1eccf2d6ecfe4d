"""Revision of the code: read without running git, and only from a checkout of this project."""

import os
import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from mprnet_lit.runs.provenance import environment
from mprnet_lit.runs.revision import git_revision, source_digest


def git(folder: Path, *arguments: str) -> Any:
    """Run git with an author and without the programs that the repository configures."""
    options = ("user.name=a", "user.email=a", "core.fsmonitor=false", "core.hooksPath=/dev/null")
    command = ["git", "-C", str(folder), *chain(*(("-c", o) for o in options)), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Checkout of a project of this name whose repository configures programs to run."""
    for name in [n for n in os.environ if n.startswith("GIT_")]:
        monkeypatch.delenv(name)
    package = tmp_path / "top" / "src" / "mprnet_lit"
    package.mkdir(parents=True)
    (package / "code.py").write_text("1")
    top = tmp_path / "top"
    (top / "pyproject.toml").write_text('[project]\nname = "mprnet_lit"\n')
    git(top, "init", "-q", "-b", "topic/branch")
    git(top, "add", ".")
    git(top, "commit", "-qm", "first")
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    program.chmod(0o755)
    for key in ("core.fsmonitor", "filter.x.clean", "core.sshCommand", "diff.external"):
        git(top, "config", key, str(program))
    (top / ".gitattributes").write_text("* filter=x\n")
    (package / "code.py").write_text("2")  # changed, so that git would run the filter
    yield top
    assert not (tmp_path / "was-run").exists()


def test_revision_of_branch_packed_ref_detached_head_and_worktree(
    checkout: Path, tmp_path: Path
) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    package = checkout / "src" / "mprnet_lit"
    assert git_revision(package) == commit and len(commit) == 40
    git(checkout, "pack-refs", "--all")
    assert not (checkout / ".git/refs/heads/topic/branch").exists()
    assert git_revision(package) == commit
    # --no-checkout, because a filter would run the program.
    git(checkout, "worktree", "add", "-q", "--no-checkout", "-b", "other", str(tmp_path / "tree"))
    inside = tmp_path / "tree" / "src" / "mprnet_lit"
    inside.mkdir(parents=True)
    (tmp_path / "tree" / "pyproject.toml").write_bytes((checkout / "pyproject.toml").read_bytes())
    assert git_revision(inside) == commit
    (checkout / ".git/HEAD").write_text(f"{commit}\n")
    assert git_revision(package) == commit


def test_repository_of_another_project_is_ignored(checkout: Path) -> None:
    package = checkout / "src" / "mprnet_lit"
    (checkout / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert git_revision(package) is None
    (checkout / "pyproject.toml").write_text("[project")
    assert git_revision(package) is None
    installed = checkout / "lib" / "mprnet_lit"  # in a virtual environment inside a repository
    installed.mkdir(parents=True)
    assert git_revision(installed) is None


@pytest.mark.parametrize(
    "head", ["ref: ../../secret", "ref: refs/heads/none", "ref: /etc/passwd", "f" * 39, "", "pipe"]
)
def test_repository_can_only_provide_a_commit_name(
    checkout: Path, tmp_path: Path, head: str
) -> None:
    (tmp_path / "secret").write_text("not a commit")
    path = checkout / ".git" / "HEAD"
    path.unlink()
    if head == "pipe":
        os.mkfifo(path)
    else:
        path.write_text(head)
    assert git_revision(checkout / "src" / "mprnet_lit") is None


def test_git_is_not_executed_for_the_environment_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = []
    real = subprocess.Popen.__init__

    def note(self: Any, command: Any, *arguments: Any, **options: Any) -> None:
        started.append(str(command))
        real(self, command, *arguments, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", note)
    assert len(environment()["code"]["source"]) == 64
    assert not any("git" in command for command in started)


def test_code_digest_changes_with_the_code(checkout: Path) -> None:
    package = checkout / "src" / "mprnet_lit"
    before = source_digest(package)
    assert before == source_digest(Path(package))
    (package / "code.py").write_text("3")
    assert source_digest(package) != before
