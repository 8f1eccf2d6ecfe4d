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
from mprnet_lit.cli.restore_inputs import find_jobs
from mprnet_lit.cli.restore_processes import Process, device_count, this_process
from mprnet_lit.cli.restore_record import RECORD
from mprnet_lit.cli.restore_sharing import SharedJobs
from mprnet_lit.utils import claims
from mprnet_lit.utils.claims import Claims
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


def start(folder: Path, *arguments: str, rank: int | None = None, **options: Any) -> ForkedCommand:
    """Start a command; with a rank, as one of four processes of torchrun."""
    before = options.get("before", lambda: None)

    def prepare() -> None:
        if rank is not None:
            os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "4"}
        before()

    return ForkedCommand(folder, *RUN, *arguments, before=prepare)


def start_blocked(folder: Path, *arguments: str, rank: int | None = None) -> ForkedCommand:
    """Start a command, and wait until it has claimed two or more photos, which it never writes."""

    def block() -> None:
        vars(restore_outputs)["write_photo"] = wait_forever
        vars(restore)["core_share"] = lambda count: (2, "")  # so that photos are left for others

    command = start(folder, *arguments, rank=rank, before=block)
    while not (folder / "blocked").exists():
        assert command.poll() is None, command.printed()
        time.sleep(0.02)
    return command


@pytest.mark.parametrize("launched", [False, True])
def test_four_processes_restore_each_photo_once_also_after_a_kill(
    cli: Cli, folder: Path, launched: bool
) -> None:
    cli(*RUN[:3], "input=[in/00.png,in/05.png,in/15.png]", "output=alone", RUN[-1])
    killed = start_blocked(folder, rank=3 if launched else None)
    others = [start(folder, rank=rank if launched else None) for rank in range(3)]
    while len(list((folder / "out").glob("*.png"))) < PHOTOS // 2:
        time.sleep(0.02)
    assert not [o for o in others if o.poll() is not None], "they wait for the claimed photos"
    killed.kill()
    printed = [other.communicate() for other in others]
    photos = [f"{number:02}.png" for number in range(PHOTOS)]
    assert recorded(folder) == photos
    # torchrun stops the other processes after the first error: the first process has all errors.
    assert [other.returncode for other in others] == ([1, 0, 0] if launched else [1, 1, 1])
    for (_, errors), other in zip(printed, others, strict=True):
        # The number of files is smaller if some were restored before the command started.
        listed = re.search(r"1 of \d+ files could not be restored:\n  in/damaged\.png", errors)
        assert bool(listed) == bool(other.returncode)
    told = "".join(output for output, _ in printed)
    assert all(told.count(f"{photo}: changed by") == 1 for photo in photos)
    assert told.count("Failed: in/damaged.png") == 1
    found = sorted(p.name for p in (folder / "out").iterdir() if p.suffix != ".parts")
    assert found == [RECORD, *photos]
    for result in (folder / "alone").glob("*.png"):
        assert result.read_bytes() == (folder / "out" / result.name).read_bytes()


def test_command_with_other_options_is_refused_while_its_file_is_restored(
    cli: Cli, folder: Path
) -> None:
    first = start_blocked(folder)
    message = cli(*RUN, "inference.strength=0.5", status=1).errors
    assert re.search(
        r"another command restores out/\d+\.png with other weights or options: wait until it ends, "
        "or choose another output",
        message,
    )
    first.kill()
    first.communicate()
    cli(*RUN, "inference.strength=0.5", status=1)
    assert len(recorded(folder)) == PHOTOS


def test_videos_are_claimed_one_at_a_time(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed = []

    def count_claims(*_: Any) -> None:
        claimed.append(len(list((folder / "out" / claims.FOLDER).glob("*.0"))))
        raise UserError("not a video")

    monkeypatch.setattr(restore, "restore_and_write", count_claims)
    (folder / "videos").mkdir()
    for name in ("a.mp4", "b.mp4", "c.mkv"):
        (folder / "videos" / name).touch()
    cli(*RUN[:2], "input=videos", *RUN[3:], status=1)
    # The claim of a failed job remains until the last process ends.
    assert claimed == [1, 2, 3]


def test_large_photos_are_in_memory_one_at_a_time(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, events = vars(restore)["read_photo"], list[str]()
    write = vars(restore_outputs)["write_photo"]

    def read_photo(path: Path) -> Any:
        events.append(f"read {path.name}")
        return read(path)

    def write_photo(path: Path, photo: Any) -> None:
        time.sleep(0.02)
        write(path, photo)
        events.append(f"wrote {path.name}")

    large = 200
    Image.new("RGB", (large, large), (9, 9, 9)).save(folder / "in" / "05.png")
    monkeypatch.setattr(restore, "read_photo", read_photo)
    monkeypatch.setattr(restore_outputs, "write_photo", write_photo)
    monkeypatch.setattr(restore, "free_bytes", lambda device: 32 * 3 * large * large - 1)
    monkeypatch.setattr(restore, "core_share", lambda count: (4, ""))
    cli(*RUN, status=1)
    at = events.index("read 05.png")
    written = {event for event in events[:at] if event.startswith("wrote")}
    assert written == {f"wrote {number:02}.png" for number in range(5)}
    assert events.index("read 06.png") < at, "the small photos are read ahead"


def test_job_of_others_is_restored_when_its_claim_is_released(cli: Cli, folder: Path) -> None:
    cli(*RUN[:2], "input=in/00.png", *RUN[3:])
    jobs = find_jobs(str(folder / "in" / "00.png"), str(folder / "out"))
    record = json.loads((folder / "out" / RECORD).read_text())
    outputs = restore_outputs.Outputs(False, False, False, record["recipe"], None, print)
    with (
        Claims(folder / "out", outputs.recipe) as other,
        SharedJobs(folder / "out", jobs, outputs, None) as shared,
    ):
        other.take("00.png")  # it still removes its temporary files
        assert not list(shared.take(videos=False)) and shared.left == jobs
        other.release("00.png")
        assert not list(shared.take(videos=False)) and not shared.left
    assert shared.others == jobs


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
        ({"SLURM_LOCALID": "2", "SLURM_NTASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "1,3"}, (2, 3)),
        ({"SLURM_LOCALID": "0", "SLURM_NTASKS": "1", "SLURM_ARRAY_TASK_ID": "7"}, (0, 1)),
        # A batch script that calls the command without srun.
        ({"SLURM_LOCALID": "0", "SLURM_NTASKS": "4"}, (0, 1)),
    ):
        with monkeypatch.context() as patch:
            for name in [n for n in os.environ if n.startswith(("SLURM_", "LOCAL_"))]:
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            process = this_process()
        assert (process.rank, process.count) == expected
        assert (process.started == launch) == (process.count > 1)
