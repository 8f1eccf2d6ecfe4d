"""Claims of several processes: each name once, killed processes, and failures."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mprnet_lit.utils import claims as module
from mprnet_lit.utils.claims import FOLDER, Claims, State


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TRUSTED", 0)


def test_each_name_is_claimed_once_and_nothing_remains(tmp_path: Path) -> None:
    names = [f"folder/{n}.png" for n in range(30)]

    def work(_: int) -> list[str]:
        with Claims(tmp_path / "new" / "out") as claims:
            both.wait()
            done = [name for name in names if claims.take(name)[0] == State.MINE]
            both.wait()
        return done

    both = threading.Barrier(4, timeout=20)
    with ThreadPoolExecutor(4) as pool:
        taken = [name for part in pool.map(work, range(4)) for name in part]
    assert sorted(taken) == sorted(names)
    assert not list((tmp_path / "new").rglob("*.*")), "the hidden folder is removed"


def take_and_die(folder: Path) -> None:
    Claims(folder).__enter__().take("photo")
    os.kill(os.getpid(), signal.SIGKILL)


def kill_owner(folder: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=take_and_die, args=(folder,))
    process.start()
    process.join(20)
    assert process.exitcode == -signal.SIGKILL


def test_claim_of_a_killed_process_is_replaced_at_once(tmp_path: Path) -> None:
    kill_owner(tmp_path)
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert first.take("photo") == (State.MINE, "")
        assert second.take("photo") == (State.BUSY, "")
        first.release("photo")
        assert second.take("photo") == (State.MINE, "")
    assert not list(tmp_path.iterdir())


def test_process_on_another_machine_is_killed_if_its_file_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Claims(tmp_path) as running:
        running.take("other")
        kill_owner(tmp_path)
        killed = next(
            file
            for file in (tmp_path / FOLDER).glob("*.worker")
            if file != running._file_of(running._token)
        )
        monkeypatch.setattr(module, "_machine", lambda: "another machine")
        with Claims(tmp_path) as first, Claims(tmp_path) as second:
            assert first.take("photo") == (State.BUSY, "")
            time = killed.stat().st_mtime - 61
            os.utime(killed, (time, time))
            assert first.take("photo") == (State.MINE, "")
            assert second.take("photo") == (State.BUSY, "")
            assert second.take("other") == (State.BUSY, "")
        assert running.take("photo") == (State.MINE, ""), "its owner has released it"


def test_failures_are_shown_to_the_others_but_not_to_later_processes(tmp_path: Path) -> None:
    with Claims(tmp_path) as other:
        with Claims(tmp_path) as failed:
            assert failed.take("photo")[0] == State.MINE
            failed.fail("photo", "the photo\nis damaged")
            assert other.take("photo") == (State.FAILED, "the photo\nis damaged")
        assert other.take("photo") == (State.FAILED, "the photo\nis damaged")
        folder = tmp_path / FOLDER
        for path in folder.glob("*.0"):
            os.utime(path, (0, 0))  # before the start of the next process
        with Claims(tmp_path) as later:
            assert later.take("photo") == (State.MINE, "")
    assert not list(tmp_path.iterdir())


def test_claims_for_another_purpose_are_conflicts(tmp_path: Path) -> None:
    with Claims(tmp_path, "a") as first, Claims(tmp_path, "a") as same, Claims(tmp_path, "b") as b:
        assert first.take("photo")[0] == State.MINE and not b.is_free("photo")
        assert same.take("photo")[0] == State.BUSY
        assert b.take("photo")[0] == State.CONFLICT
        first.fail("photo", "damaged")
        assert same.take("photo") == (State.FAILED, "damaged")
        assert b.take("photo")[0] == State.MINE, "the failure is not of this purpose"
        assert same.take("photo") == (State.FAILED, "damaged")
        b.release("photo")
        assert b.is_free("photo")
    kill_owner(tmp_path)
    with Claims(tmp_path, "b") as other:
        assert other.take("photo")[0] == State.MINE, "the process with the other purpose has ended"


def test_failure_that_cannot_be_written_releases_the_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("the file is open in another process")

    with Claims(tmp_path) as failed, Claims(tmp_path) as other:
        failed.take("photo")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", refuse)
            failed.fail("photo", "damaged")
        assert other.take("photo")[0] == State.MINE


def test_claim_is_released_although_another_process_reads_it_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink, refusals = Path.unlink, [PermissionError(), PermissionError()]

    def unlink_later(path: Path, missing_ok: bool = False) -> None:
        if refusals:
            raise refusals.pop()
        unlink(path, missing_ok)

    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        first.take("photo")
        monkeypatch.setattr(Path, "unlink", unlink_later)
        first.release("photo")
        assert second.take("photo")[0] == State.MINE


def test_files_of_others_in_the_hidden_folder_are_not_removed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("text")
    (tmp_path / FOLDER).symlink_to("mine")
    with Claims(tmp_path) as claims:
        assert claims.take("photo")[0] == State.MINE
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]
