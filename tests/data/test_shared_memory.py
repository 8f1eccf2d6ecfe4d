"""The way in which data workers pass batches, on machines with and without shared memory."""

import errno

import pytest
import torch

from mprnet_lit.data import shared_memory as handover
from mprnet_lit.data.shared_memory import Handover, as_arrays, as_tensors, choose


class NoSemaphores:
    def Lock(self):  # noqa: N802
        raise OSError(errno.EROFS, "Read-only file system")


def test_the_usual_way(tmp_path):
    assert choose(1000, 2, tmp_path) == (Handover.SHARED, None)
    assert choose(1000, 2, tmp_path / "none") == (Handover.SHARED, None)  # not Linux


def test_a_small_shared_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(handover, "_free", lambda folder: 64_000_000)
    assert choose(40_000_000, 8, tmp_path).way is Handover.SHARED
    way, reason = choose(400_000_000, 8, tmp_path)
    assert way is Handover.PIPE
    assert f"{tmp_path} has 64 MB free" in reason and "may take 400 MB" in reason
    assert "docker run --shm-size" in reason and "data.num_workers" in reason


@pytest.mark.parametrize("case", ["full", "read-only or absent"])
def test_no_shared_memory(tmp_path, monkeypatch, case):
    if case == "full":
        monkeypatch.setattr(handover, "_free", lambda folder: 65_536)
    else:
        monkeypatch.setattr(handover.multiprocessing, "get_context", NoSemaphores)
    way, reason = choose(1000, 2, tmp_path)
    assert way is Handover.NONE
    said = "(0.0655 MB free)" if case == "full" else "(Read-only file system)"
    assert said in reason and "--shm-size" in reason and "data.num_workers=0" in reason


def test_no_folder_for_sockets(tmp_path, monkeypatch):
    monkeypatch.setattr(handover.tempfile, "tempdir", "/" + "x" * 90)  # a socket's name is longer
    way, reason = choose(1000, 2, tmp_path)
    assert way is Handover.PIPE and "set TMPDIR" in reason


def test_a_batch_through_a_pipe_is_the_same():
    items = [{"x": torch.rand(3, 4, 4), "w": torch.tensor(k / 2), "name": f"{k}"} for k in (0, 1)]
    batch, usual = as_tensors(as_arrays(items)), torch.utils.data.default_collate(items)
    assert batch["name"] == usual["name"]
    for name in ("x", "w"):
        assert batch[name].dtype == usual[name].dtype and torch.equal(batch[name], usual[name])
