"""Writing files: atomic among several writers, after a kill, and whatever the name."""

import fcntl
import multiprocessing
import os
import signal
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from mprnet_lit.utils.atomic import replacing, write_whole
from mprnet_lit.utils.errors import UserError

SIZE = 300_000
FORK = multiprocessing.get_context("fork")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_often(path, letters):
    def write(letter):
        for _ in range(40):
            write_whole(path, letter * SIZE)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, letters))


def test_a_reader_sees_whole_files_while_processes_and_threads_write_one(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"a" * SIZE)
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


def killed_while_writing(path):
    with replacing(path) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_kill_leaves_is_hidden_and_removed_by_the_next_process(tmp_path):
    write_whole(tmp_path / "kept.png", b"kept")
    folder = tmp_path / "folder"
    writer = FORK.Process(target=killed_while_writing, args=(folder / "a.png",))
    writer.start()
    writer.join()
    (left,) = folder.iterdir()
    assert left.name.startswith(".") and left.read_bytes() == b"half"
    at_work = left.with_name(f".mprnet_lit-{'0' * 16}.part")
    link = left.with_name(f".mprnet_lit-{'1' * 16}.part")
    link.symlink_to(tmp_path / "kept.png")
    with at_work.open("xb") as file:  # as another process does that has not ended
        fcntl.flock(file, fcntl.LOCK_EX)
        write_whole(folder / "a.png", b"new")
    assert set(folder.iterdir()) == {folder / "a.png", at_work, link}
    assert (tmp_path / "kept.png").read_bytes() == b"kept"


def test_an_error_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"earlier")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"half")
        1 / 0  # noqa: B018
    assert path.read_bytes() == b"earlier" and names(tmp_path) == ["file"]


def test_names_of_255_bytes_are_written_and_longer_ones_refused_at_once(tmp_path):
    path = tmp_path / f"{'ä' * 125}a.png"
    write_whole(path, b"content")
    assert path.read_bytes() == b"content"
    reached = False
    with pytest.raises(UserError, match="File name too long"), replacing(tmp_path / ("a" * 256)):
        reached = True
    assert not reached


def test_permissions_are_those_of_any_new_file_or_of_the_one_replaced(tmp_path):
    def permissions(name):
        return stat.S_IMODE((tmp_path / name).stat().st_mode)

    (tmp_path / "plain").touch()
    write_whole(tmp_path / "new", b"")
    assert permissions("new") == permissions("plain")
    for mode in (0o600, 0o444):
        (tmp_path / "plain").chmod(mode)
        write_whole(tmp_path / "plain", b"secret")
        assert permissions("plain") == mode


def test_folders_and_pipes_are_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("folder", "Is a directory"), ("pipe", "is a pipe or a device")):
        with pytest.raises(UserError, match=why):
            write_whole(tmp_path / name, b"content")
    assert names(tmp_path) == ["folder", "pipe"]
