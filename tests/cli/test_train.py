"""Training from the command line, end to end on the embedded photographs."""

import csv
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from tests.conftest import PHOTOS, Cli, ForkedCommand, Golden, Outcome, start_cli
from tests.halting import halting_step

from mprnet_lit.training.module import RestorationModule
from mprnet_lit.weights import read as read_weights


def weights(outcome: Outcome, name: str = "last.ckpt") -> Any:
    return torch.load(outcome.file(name), weights_only=True)["state_dict"]


def test_run_folder_contains_all_documented_files(cli: Cli) -> None:
    outcome = cli(
        "model=tiny", "task=derain", "trainer.max_epochs=2", "data.crops_per_image=1",
        "logger=many", "callbacks=ema",
    )  # fmt: skip
    assert "Training MPRNet to derain: 427,033 parameters" in outcome.output
    assert "5 training and 3 validation images" in outcome.output
    for row in ("degraded input", "stage 1", "stage 2", "stage 3"):
        assert row in outcome.output

    best = outcome.json("summary.json")
    assert best["parameters"] == 427_033
    with outcome.file("metrics.csv").open() as file:
        curve = [float(row["val/psnr"]) for row in csv.DictReader(file) if row["val/psnr"]]
    assert len(curve) == 2
    assert best["psnr"] == pytest.approx(max(curve), abs=1e-3) == best["psnr_stage3"]
    assert best["psnr_gain"] == pytest.approx(best["psnr"] - best["psnr_degraded"], abs=1e-4)

    config = yaml.safe_load(outcome.file("summary.json").with_name("config.yaml").read_text())
    assert config["data"]["patch_size"] == 16 and config["model"]["width"] == 16
    environment = outcome.json("environment.json")
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["machine"]["cpu_cores"] and len(environment["code"]["source"]) == 64
    assert len(environment["code"]["revision"]) == 40

    panel = Image.open(outcome.file("latest.png"))
    assert panel.size == (5 * 150 + 6 * 6, 3 * (32 + 24 + 6) + 6)
    offline = outcome.file("*.wandb").parent
    assert list(offline.glob("**/media/images/val/panel*.png"))
    assert outcome.file("events.out.tfevents*")


@pytest.mark.parametrize("task", ["deblur", "denoise", "derain"])
def test_two_devices_train_as_one_and_share_a_folder(shell: Cli, task: str) -> None:
    warm = task != "deblur"  # one pair of new interpreters, as a user starts them
    two = shell(
        f"task={task}", "trainer.devices=2", "trainer.max_steps=2", "paths.runs=runs/two", warm=warm
    )
    assert "on 2 x cpu" in two.output
    assert two.json("summary.json")["step"] == 2
    assert len(list(two.folder.glob("runs/two/*/*"))) == 1
    if task == "denoise":  # the same items on any number of devices
        one = shell(f"task={task}", "trainer.max_steps=2", "paths.runs=runs/one")
        first, second = (
            torch.load(next(one.folder.glob(f"runs/{k}/**/last.ckpt")), weights_only=True)
            for k in ("one", "two")
        )
        for name, expected in first["state_dict"].items():
            torch.testing.assert_close(second["state_dict"][name], expected, rtol=0, atol=2e-5)
        scores = [
            json.loads(next(one.folder.glob(f"runs/{k}/**/summary.json")).read_text())
            for k in ("one", "two")
        ]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_multirun_trains_sizes_and_tasks(cli: Cli) -> None:
    smaller = ("model.unet_step=4", "model.orsnet_step=4", "model.cabs_per_orb=1")
    outcome = cli(
        "-m", "model=tiny,small", *smaller, "task=denoise,derain", "trainer.max_steps=1",
        "trainer.limit_val_batches=1", "logger=none",
    )  # fmt: skip
    assert len(list(outcome.folder.glob("runs/multirun/*"))) == 1
    paths = outcome.folder.glob("runs/multirun/*/*/config.yaml")
    configs = [yaml.safe_load(path.read_text()) for path in paths]
    found = {(config["model"]["width"], config["task"]["name"]) for config in configs}
    assert found == {(width, task) for width in (16, 40) for task in ("denoise", "derain")}
    assert len(list(outcome.folder.glob("runs/multirun/*/*/summary.json"))) == 4


def test_multirun_on_two_devices_runs_each_job_once(shell: Cli) -> None:
    outcome = shell(
        "-m", "seed=1,2", "trainer.devices=2", "trainer.max_steps=1", "logger=csv",
        "trainer.limit_val_batches=1",
    )  # fmt: skip
    runs = sorted(outcome.folder.glob("runs/**/summary.json"))
    assert [path.parent.name for path in runs] == ["0", "1"]
    (sweep,) = outcome.folder.glob("runs/multirun/*")
    settings = [yaml.safe_load(path.read_text()) for path in sweep.glob("*/csv/*/hparams.yaml")]
    assert [s["run.group"] for s in settings] == [sweep.name, sweep.name]
    assert outcome.output.count("on 2 x cpu") == 2


RESUMABLE = (
    "callbacks=ema",
    "module.mixup_after_epoch=0",
    "schedule.per_step=true",
    "trainer.max_epochs=3",
    "trainer.limit_val_batches=1",
    "logger=csv",
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Checkpoint of an uninterrupted run of three epochs of five steps."""
    folder = tmp_path_factory.mktemp("whole")
    process = ForkedCommand(folder, *RESUMABLE)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, output + errors
    return torch.load(next(folder.glob("runs/**/last.ckpt")), weights_only=True)


def wait_for(process: Any, when: Any) -> None:
    deadline = time.monotonic() + 200
    while not when():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)


def start_and_stop(folder: Path, stop: Any, *arguments: str) -> tuple[Any, Any]:
    """Start the run, send the signal in its eighth step, and return status and output."""

    def halt() -> None:
        RestorationModule.training_step = halting_step(7, folder)  # type: ignore[method-assign]

    process = ForkedCommand(folder, *RESUMABLE, *arguments, before=halt)
    wait_for(process, (folder / "halted0").exists)
    process.send_signal(stop)
    output, errors = process.communicate(timeout=120)
    return process.returncode, output + errors


def assert_same_state(first: Any, second: Any) -> None:
    """Check that weights, averaged weights, optimizer and schedule are equal bit for bit."""
    for part in ("state_dict", "current_model_state"):
        assert first[part].keys() == second[part].keys()
        assert all(torch.equal(first[part][name], second[part][name]) for name in first[part])
    for ours, theirs in zip(first["optimizer_states"], second["optimizer_states"], strict=True):
        for key, state in ours["state"].items():
            assert all(torch.equal(state[k], theirs["state"][key][k]) for k in state)
    assert first["lr_schedulers"] == second["lr_schedulers"]
    assert first["global_step"] == second["global_step"]


def resumed(folder: Path, *arguments: str) -> Any:
    process = ForkedCommand(folder, *RESUMABLE, "resume=auto", *arguments)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, output + errors
    assert len(list(folder.glob("runs/*/*"))) == 1, "resumed in another folder"
    assert "resuming after step" in output
    return torch.load(next(folder.glob("runs/**/last.ckpt")), weights_only=True)


def test_run_killed_after_an_epoch_resumes_bit_for_bit(tmp_path: Path, uninterrupted: Path) -> None:
    status, _ = start_and_stop(tmp_path, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert_same_state(resumed(tmp_path), uninterrupted)
    # The killed and the resumed process have both written metrics.
    assert len(list(tmp_path.glob("runs/**/metrics.csv"))) == 2


def test_two_devices_stop_together_and_resume(tmp_path: Path) -> None:
    def validated() -> int:
        return len(list(tmp_path.glob("runs/**/epoch_*.png")))

    options = ("trainer.devices=2", "trainer.max_epochs=40", "trainer.limit_val_batches=1",
               "logger=csv", "resume=auto")  # fmt: skip
    expected = "on 2 x cpu"
    for kill, stop in (
        (os.kill, signal.SIGTERM),  # the first process only
        (os.killpg, signal.SIGTERM),
        (os.killpg, signal.SIGINT),
    ):
        before = validated()
        process = start_cli(tmp_path, *options, start_new_session=True)
        wait_for(process, lambda before=before: validated() > before)
        kill(process.pid, stop)
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 128 + stop, output + errors
        assert expected in output
        assert output.count(f"Stopped by {stop.name} and saved") == 1
        assert "Traceback" not in output + errors
        saved = torch.load(next(tmp_path.glob("runs/**/last.ckpt")), weights_only=True)
        expected = f"resuming after step {saved['global_step']}"


@pytest.mark.parametrize("workers", [0, 2])
def test_run_stopped_by_sigterm_in_mid_epoch_resumes_bit_for_bit(
    tmp_path: Path, uninterrupted: Path, workers: int
) -> None:
    often = ("trainer.log_every_n_steps=1", f"data.num_workers={workers}")
    status, output = start_and_stop(tmp_path, signal.SIGTERM, *often)
    assert status == 143, output
    assert "Stopped by SIGTERM and saved" in output and "resume=auto" in output
    saved = torch.load(next(tmp_path.glob("runs/**/last.ckpt")), weights_only=True)
    assert saved["global_step"] == 8
    assert_same_state(resumed(tmp_path, *often), uninterrupted)


def test_resuming_a_finished_run_changes_nothing(cli: Cli) -> None:
    arguments = ("trainer.max_epochs=1", "data.crops_per_image=1", "logger=none")
    first = cli(*arguments)
    before, summary = weights(first), first.json("summary.json")
    again = cli(*arguments, "resume=auto")
    assert all(torch.equal(before[name], value) for name, value in weights(again).items())
    assert again.json("summary.json") == summary


def test_changed_configuration_starts_a_new_run(cli: Cli) -> None:
    arguments = ("trainer.max_steps=1", "trainer.limit_val_batches=0", "logger=none")
    cli(*arguments)
    outcome = cli(*arguments, "resume=auto", "seed=7")
    assert "resuming after" not in outcome.output
    assert len(list(outcome.folder.glob("runs/**/run.json"))) == 2


def test_finetuning_on_own_pairs_starts_from_the_given_weights(
    cli: Cli, tmp_path: Path, golden: Golden
) -> None:
    photo = Image.open(PHOTOS / "coffee.png").convert("RGB")
    for side in ("in", "gt"):
        for k in range(4):
            path = tmp_path / side / f"{k}.png"
            path.parent.mkdir(exist_ok=True)
            photo.crop((100 * k, 100, 100 * k + 80, 180)).save(path)
    torch.save({"state_dict": golden.weights}, tmp_path / "published.pth")
    outcome = cli(
        "experiment=finetune", "weights=published.pth", "data.train.degraded=in",
        "data.train.target=gt", "model.cabs_per_orb=2",
        "trainer.max_epochs=1", "optimizer.lr=1e-12", "data.holdout=0.25",
    )  # fmt: skip
    assert "3 training and 1 validation images" in outcome.output
    found = weights(outcome)["model.tail.weight"]
    torch.testing.assert_close(found, golden.tensor("weight/tail.weight"), rtol=0, atol=1e-6)
    info = read_weights(outcome.file("best.ckpt")).info
    assert "non-commercial" in info.license and info.crop == 16


LAYOUTS = {
    "deblur": (
        "gopro",
        ["train/GOPR0372_07_00/{}/000047.png", "train/GOPR0372_07_00/{}/000048.png",
         "test/GOPR0384_11_00/{}/000001.png"],
        ("blur", "sharp"),
    ),
    "denoise": (
        "sidd",
        ["Data/0001_001_S6_00100_00060_3200_L/0001_{}_SRGB_010.PNG",
         "Data/0002_001_S6_00100_00020_3200_N/0002_{}_SRGB_010.PNG",
         "Data/0002_001_S6_00100_00020_3200_N/0002_{}_SRGB_011.PNG"],
        ("NOISY", "GT"),
    ),
    "derain": (
        "rain13k",
        ["{}/1.jpg", "{}/2.jpg", "val/{}/norain-1.png"],
        ("input", "target"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("task", LAYOUTS)
def test_paper_recipes_train_on_the_published_layouts(cli: Cli, tmp_path: Path, task: str) -> None:
    name, files, sides = LAYOUTS[task]
    photo = Image.open(PHOTOS / "coffee.png").convert("RGB")
    for k, file in enumerate(files):
        for side in sides:
            path = tmp_path / "set" / file.format(side)
            path.parent.mkdir(parents=True, exist_ok=True)
            photo.crop((100 * k, 100, 100 * k + 80, 180)).save(path)
    outcome = cli(
        f"experiment=paper_{task}", f"paths.{name}=set", "paths.rain100l=set/val",
        "trainer.max_epochs=1", "data.crops_per_image=2",
    )  # fmt: skip
    assert "2 training and 1 validation images" in outcome.output
    best = outcome.json("summary.json")
    assert best["psnr_degraded"] > 40  # the images of each pair are identical here


@pytest.mark.parametrize(
    "option",
    [
        "trainer.precision=bf16-mixed",
        # The quickstart clips gradients.
        "experiment=quickstart trainer.precision=bf16-mixed trainer.check_val_every_n_epoch=1",
        "module.gradient_checkpointing=true",
        "module.channels_last=false",
        "trainer.gradient_clip_val=0.5",
        "trainer.deterministic=true",
        "data.num_workers=2",
    ],
)
def test_every_option_trains(cli: Cli, option: str) -> None:
    outcome = cli(*option.split(), "trainer.max_steps=2", "logger=none")
    assert outcome.json("summary.json")["step"] == 2


def test_number_of_steps_is_enough_as_the_length_of_a_training(cli: Cli) -> None:
    outcome = cli("trainer.max_epochs=-1", "trainer.max_steps=2", "logger=none")
    assert outcome.json("summary.json")["step"] == 2


def test_weights_depend_on_the_seed(cli: Cli, tmp_path: Path) -> None:
    found = []
    for k, seed in enumerate((1, 1, 2)):
        cli(
            f"seed={seed}", "trainer.max_steps=2", "trainer.limit_val_batches=0", "logger=none",
            f"paths.runs=runs/{k}",
        )  # fmt: skip
        path = next(tmp_path.glob(f"runs/{k}/**/last.ckpt"))
        found.append(torch.load(path, weights_only=True)["state_dict"]["model.tail.weight"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_quickstart_learns(tmp_path: Path) -> None:
    """A tenth of the steps of ``make demo`` improves the PSNR of held-out photographs."""
    process = start_cli(
        tmp_path, "experiment=quickstart", "trainer.max_epochs=1", "data.patch_size=24",
        "data.batch_size=4", "data.crops_per_image=64", "data.val_crop_size=96",
    )  # fmt: skip
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, output + errors
    best = json.loads(next(tmp_path.glob("runs/**/summary.json")).read_text())
    assert best["psnr_degraded"] == pytest.approx(20.3, abs=0.5)  # sigma 25
    assert best["psnr_gain"] > 2
