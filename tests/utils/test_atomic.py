"""Atomic file writes: concurrent writers, killed processes, permissions and file names."""

import fcntl
import multiprocessing
import os
import signal
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mprnet_lit.utils.atomic import atomic_writer, write_atomic
from mprnet_lit.utils.errors import UserError

SIZE = 300_000
FORK = multiprocessing.get_context("fork")


def names(folder: Path) -> list[Any]:
    return sorted(path.name for path in folder.iterdir())


def write_often(path: Path, letters: Any) -> None:
    def write(letter: bytes) -> None:
        for _ in range(40):
            write_atomic(path, letter * SIZE)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, letters))


def test_reader_sees_complete_files_during_concurrent_writes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"a" * SIZE)
    writers = [FORK.Process(target=write_often, args=(path, two)) for two in ([b"a", b"b"], [b"c"])]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        content = path.read_bytes()
        assert len(content) == SIZE and content == content[:1] * SIZE
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert names(tmp_path) == ["file"]


def killed_while_writing(path: Path) -> None:
    with atomic_writer(path) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def test_temporary_file_of_killed_process_is_hidden_and_deleted_by_the_next(tmp_path: Path) -> None:
    write_atomic(tmp_path / "kept.png", b"kept")
    folder = tmp_path / "folder"
    writer = FORK.Process(target=killed_while_writing, args=(folder / "a.png",))
    writer.start()
    writer.join()
    (left,) = folder.iterdir()
    assert left.name.startswith(".") and left.read_bytes() == b"half"
    in_use = left.with_name(f".mprnet_lit-{'0' * 16}.part")
    link = left.with_name(f".mprnet_lit-{'1' * 16}.part")
    link.symlink_to(tmp_path / "kept.png")
    with in_use.open("xb") as file:  # locked as by a running process
        fcntl.flock(file, fcntl.LOCK_EX)
        write_atomic(folder / "a.png", b"new")
    assert set(folder.iterdir()) == {folder / "a.png", in_use, link}
    assert (tmp_path / "kept.png").read_bytes() == b"kept"


def test_error_keeps_the_previous_file_and_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"previous")
    with pytest.raises(ZeroDivisionError), atomic_writer(path) as file:
        file.write(b"half")
        1 / 0  # noqa: B018
    assert path.read_bytes() == b"previous" and names(tmp_path) == ["file"]


def test_names_of_255_bytes_are_written_and_longer_names_rejected(tmp_path: Path) -> None:
    path = tmp_path / f"{'ä' * 125}a.png"
    write_atomic(path, b"content")
    assert path.read_bytes() == b"content"
    reached = False
    with (
        pytest.raises(UserError, match="File name too long"),
        atomic_writer(tmp_path / ("a" * 256)),
    ):
        reached = True
    assert not reached


def test_permissions_are_the_default_or_those_of_the_previous_file(tmp_path: Path) -> None:
    def permissions(name: str) -> Any:
        return stat.S_IMODE((tmp_path / name).stat().st_mode)

    (tmp_path / "plain").touch()
    write_atomic(tmp_path / "new", b"")
    assert permissions("new") == permissions("plain")
    for mode in (0o600, 0o444):
        (tmp_path / "plain").chmod(mode)
        write_atomic(tmp_path / "plain", b"secret")
        assert permissions("plain") == mode


def test_folders_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("folder", "Is a directory"), ("pipe", "is a pipe or a device")):
        with pytest.raises(UserError, match=why):
            write_atomic(tmp_path / name, b"content")
    assert names(tmp_path) == ["folder", "pipe"]
