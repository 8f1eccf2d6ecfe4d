"""Several processes of ``mode=restore`` that share one output folder."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import lightning.fabric.utilities.rank_zero  # noqa: F401  # else each fork imports it
import pytest
import torch
from PIL import Image
from tests.config.test_config import compose
from tests.conftest import Cli, ForkedCommand, smallest_network

from mprnet_lit import weights
from mprnet_lit.cli import restore, restore_outputs, restore_processes
from mprnet_lit.cli.restore_processes import Process, device_count, this_process
from mprnet_lit.cli.restore_record import RECORD
from mprnet_lit.utils.errors import UserError

PHOTOS = 16
RUN = ("mode=restore", "weights=w.safetensors", "input=in", "output=out", "inference.device=cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder with weights, small photos and a damaged photo."""
    weights.save(smallest_network(), tmp_path / "w.safetensors")
    (tmp_path / "in").mkdir()
    for number in range(PHOTOS):
        Image.new("RGB", (16, 8), (number, 9, 9)).save(tmp_path / "in" / f"{number:02}.png")
    (tmp_path / "in" / "damaged.png").write_bytes(b"nothing")
    return tmp_path


def recorded(folder: Path) -> list[str]:
    """Return the sorted names of the photos in the lines of the record."""
    lines = (folder / "out" / RECORD).read_text().split()
    sources = [json.loads(line)["source"] for line in lines]
    return sorted(Path(source).name for source in sources if source)  # the report has no source


def wait_forever(*_: Any) -> None:
    Path("blocked").touch()
    time.sleep(600)


def test_four_commands_restore_each_photo_once_also_after_a_kill(folder: Path) -> None:
    def block() -> None:
        vars(restore_outputs)["write_photo"] = wait_forever
        vars(restore)["cores"] = lambda: 2  # so that photos are left for the others

    killed = ForkedCommand(folder, *RUN, before=block)
    while not (folder / "blocked").exists():
        assert killed.poll() is None, killed.printed()
        time.sleep(0.02)
    others = [ForkedCommand(folder, *RUN) for _ in range(3)]
    while len(list((folder / "out").glob("*.png"))) < PHOTOS // 2:
        time.sleep(0.02)
    assert not [o for o in others if o.poll() is not None], "they wait for the claimed photos"
    killed.kill()
    printed = [other.communicate() for other in others]
    photos = [f"{number:02}.png" for number in range(PHOTOS)]
    assert recorded(folder) == photos
    for (_, errors), other in zip(printed, others, strict=True):
        assert other.returncode == 1
        # The number of files is smaller if some were restored before the command started.
        assert re.search(r"1 of \d+ files could not be restored:\n  in/damaged\.png", errors)
    told = "".join(output for output, _ in printed)
    assert all(told.count(f"{photo}: changed by") == 1 for photo in photos)
    found = sorted(p.name for p in (folder / "out").iterdir() if p.suffix != ".parts")
    assert found == [RECORD, *photos]


def test_devices_share_the_photos_and_the_first_reports(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = vars(restore_outputs)["write_photo"]

    def write_slowly(*arguments: Any) -> None:  # so that the second process can start
        time.sleep(0.1)
        write(*arguments)

    monkeypatch.setattr(restore_outputs, "write_photo", write_slowly)
    outcome = cli(*RUN, "restore.devices=2", "restore.report=true", status=1)
    assert outcome.output.count("16 restored in") == outcome.output.count("device") == 1
    assert outcome.errors.count("1 of 17 files could not be restored") == 1
    assert outcome.output.count(": changed by") == PHOTOS
    assert "of them by other processes" in outcome.output
    photos = [f"{number:02}.png" for number in range(PHOTOS)]
    assert recorded(folder) == photos
    page = (folder / "out" / "report.html").read_text()
    assert all(f'"name":"{photo}"' in page for photo in photos)
    cli(*RUN, "restore.devices=2", "overwrite=true", status=1)
    assert recorded(folder) == sorted(2 * photos)


def test_launcher_processes_use_the_devices_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    assert [Process(rank, 6).device("cuda") for rank in (1, 5)] == ["cuda:1", "cuda:1"]
    assert Process(3, 4).device("cpu") == "cpu"
    assert Process(0, 1).device("cuda:2") == "cuda:2"
    with pytest.raises(UserError, match=r"inference\.device=cuda:2 is one device, but 2 processes"):
        Process(0, 2).device("cuda:2")

    config = compose("mode=restore", "input=in", "restore.devices=auto", "inference.device=cuda")
    assert device_count(config, Process()) == 4
    assert device_count(config, Process(1, 4)) == 1
    config.restore.devices = 8
    with pytest.raises(UserError, match=r"restore\.devices=8, but this machine has 4 of cuda"):
        device_count(config, Process())
    with pytest.raises(UserError, match="the launcher started 4 processes"):
        device_count(config, Process(1, 4))


def test_launchers_are_recognized_by_their_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = restore_processes._launch_time()
    assert launch < time.time()
    for environment, expected in (
        ({"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"}, (3, 4)),
        ({"SLURM_LOCALID": "1", "SLURM_NTASKS": "8", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, (1, 4)),
        ({"SLURM_LOCALID": "0", "SLURM_NTASKS": "1", "SLURM_ARRAY_TASK_ID": "7"}, (0, 1)),
    ):
        with monkeypatch.context() as patch:
            for name in [n for n in os.environ if n.startswith(("SLURM_", "LOCAL_"))]:
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            process = this_process()
        assert (process.rank, process.count) == expected
        assert (process.started == launch) == (process.count > 1)
