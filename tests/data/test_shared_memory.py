"""Transfer of batches from DataLoader workers, with and without shared memory."""

import errno
from pathlib import Path

import pytest
import torch
from torch.utils.data import default_collate, default_convert

from mprnet_lit.data import shared_memory
from mprnet_lit.data.shared_memory import Transfer, as_arrays, choose_transfer


class NoSemaphores:
    def Lock(self) -> None:  # noqa: N802
        raise OSError(errno.EROFS, "Read-only file system")


def test_shared_memory_is_the_default(tmp_path: Path) -> None:
    assert choose_transfer(1000, 2, tmp_path) == (Transfer.SHARED, None)
    assert choose_transfer(1000, 2, tmp_path / "none") == (Transfer.SHARED, None)  # not Linux


def test_small_shared_memory_selects_pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "_free", lambda folder: 64_000_000)
    assert choose_transfer(40_000_000, 8, tmp_path)[0] is Transfer.SHARED
    transfer, reason = choose_transfer(400_000_000, 8, tmp_path)
    assert transfer is Transfer.PIPE
    assert (
        reason is not None
        and f"{tmp_path} has 64 MB free" in reason
        and "may take 400 MB" in reason
    )
    assert "docker run --shm-size" in reason and "smaller num_workers" in reason


@pytest.mark.parametrize("case", ["full", "read-only or absent"])
def test_unusable_shared_memory_disables_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    if case == "full":
        monkeypatch.setattr(shared_memory, "_free", lambda folder: 65_536)
    else:
        monkeypatch.setattr(
            "mprnet_lit.data.shared_memory.multiprocessing.get_context", NoSemaphores
        )
    transfer, reason = choose_transfer(1000, 2, tmp_path)
    assert transfer is Transfer.NONE
    expected = "(0.0655 MB free)" if case == "full" else "(Read-only file system)"
    assert (
        reason is not None
        and expected in reason
        and "--shm-size" in reason
        and " num_workers=0" in reason
    )


def test_long_temporary_path_selects_pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    too_long = "/" + "x" * 90  # for the path of a socket
    monkeypatch.setattr("mprnet_lit.data.shared_memory.tempfile.tempdir", too_long)
    transfer, reason = choose_transfer(1000, 2, tmp_path)
    assert transfer is Transfer.PIPE and reason is not None and "set TMPDIR" in reason


def test_arrays_round_trip_the_default_batch() -> None:
    items = [{"x": torch.rand(3, 4, 4), "w": torch.tensor(k / 2), "name": f"{k}"} for k in (0, 1)]
    batch, usual = default_convert(as_arrays(items)), default_collate(items)
    assert batch["name"] == usual["name"]
    for name in ("x", "w"):
        assert batch[name].dtype == usual[name].dtype and torch.equal(batch[name], usual[name])
