"""Loggers: all record the same scalars, images, settings and weights without network access."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import SingleDeviceStrategy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tests.conftest import Cli
from tests.reports.page_reading import history, read_csv, read_wandb
from torch.utils.data import DataLoader
from wandb.errors import UsageError

from mprnet_lit.training.callbacks.log_run import run_settings
from mprnet_lit.training.callbacks.monitor import Monitor, gradient_norm
from mprnet_lit.training.callbacks.panels import COLUMNS
from mprnet_lit.training.loggers import QUIET
from mprnet_lit.utils.errors import install_hint

NAMES = {
    *("epoch", "train/loss", "train/loss_stage1", "train/loss_stage2", "train/loss_stage3"),
    *("train/psnr", "train/lr", "train/skipped_steps", "train/grad_norm"),
    *("perf/patches_per_second", "perf/data_wait", "perf/cpu_percent", "perf/memory_gb"),
    *("val/psnr", "val/psnr_gain", "val/psnr_degraded"),
    *("val/psnr_stage1", "val/psnr_stage2", "val/psnr_stage3"),
    *("val/saturated_stage1", "val/saturated_stage2", "val/saturated_stage3"),
    *("val/ssim", "val/ssim_degraded", "val/ssim_stage1", "val/ssim_stage2", "val/ssim_stage3"),
}
"""Scalars on a CPU, as documented in docs/tracking.md."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Network requests of child processes, which go to a proxy that closes each connection."""
    found: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                client, _ = proxy.accept()
            except OSError:  # closed
                return
            found.append(client.recv(200))
            client.close()

    with socket.create_server(("127.0.0.1", 0)) as proxy:
        threading.Thread(target=serve, daemon=True).start()
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
            monkeypatch.setenv(name, url)
            monkeypatch.setenv(name.upper(), url)
        yield found
        proxy.shutdown(socket.SHUT_RDWR)


def test_all_loggers_record_the_same(
    shell: Cli, calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Users do not set these variables, which disable network access in tests.
    for name in (*QUIET, "PYTEST_CURRENT_TEST", "CI", "DO_NOT_TRACK", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    git = tmp_path / "bin" / "git"  # git would run programs that the repository configures
    git.parent.mkdir()
    git.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/git-was-run\nexit 1\n")
    git.chmod(0o755)
    monkeypatch.setenv("PATH", f"{git.parent}:{os.environ['PATH']}")
    (tmp_path / ".git").mkdir()
    outcome = shell(
        "logger=all", "trainer.max_epochs=2", "trainer.log_every_n_steps=2",
        "trainer.gradient_clip_val=0.01", 'tracking.tags=[baseline,"two words"]',
    )  # fmt: skip
    assert calls == []
    assert not (tmp_path / "git-was-run").exists()
    assert "Warning" not in outcome.errors and "not found" not in outcome.output

    # Scalars.
    expected = read_csv(outcome.file("metrics.csv"))
    assert expected.keys() == NAMES
    assert list(expected["train/loss"]) == [1, 3, 5, 7, 9] == list(expected["train/grad_norm"])
    assert list(expected["val/psnr"]) == [4, 9]
    assert all(norm > 0.01 for norm in expected["train/grad_norm"].values())  # before clipping
    assert all(0 < share < 1 for share in expected["perf/data_wait"].values())
    for step, loss in expected["train/loss"].items():
        stages = [expected[f"train/loss_stage{k}"][step] for k in (1, 2, 3)]
        assert sum(stages) == pytest.approx(loss, rel=1e-5)

    events = EventAccumulator(str(outcome.file("events.out.tfevents*").parent)).Reload()
    from mlflow import MlflowClient  # imported in two seconds, so not in each worker

    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("denoise")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    records = read_wandb(outcome.file("*.wandb"))
    scalars, panels = history(records)
    found = {
        "TensorBoard": {
            name: {event.step: event.value for event in events.Scalars(name)}
            for name in events.Tags()["scalars"]
        },
        "MLflow": {
            name: {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
            for name in run.data.metrics
        },
        "wandb": scalars,
    }
    for logger, curves in found.items():
        assert curves.keys() == NAMES, logger
        for name, curve in curves.items():
            assert curve == pytest.approx(expected[name], rel=1e-5), (logger, name)

    # Images have the same steps as the scalars of their validation.
    folder = outcome.file("*.wandb").parent / "files"
    assert list(panels) == [4, 9]
    assert all((folder / file).stat().st_size for files in panels.values() for file in files)
    tables = [json.loads(path.read_text()) for path in folder.glob("**/val/images_*.table.json")]
    assert len(tables) == 2
    for table in tables:
        assert table["columns"] == list(COLUMNS) and len(table["data"]) == 3
        degraded = [row[1] for row in table["data"]]  # the same in both, in dB
        assert sum(degraded) / 3 == pytest.approx(expected["val/psnr_degraded"][4], abs=1e-3)
    assert events.Tags()["images"] == ["val/panel"]
    assert [image.step for image in events.Images("val/panel")] == [4, 9]
    images = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    assert sorted({int(i.split("+step+")[1].split("+")[0]) for i in images}) == [4, 9]
    assert len(list(outcome.folder.glob("runs/**/epoch_000?.png"))) == 2

    # Settings, code version and packages.
    best = outcome.file("checkpoints/best.ckpt")
    settings = yaml.safe_load((outcome.file("metrics.csv").parent / "hparams.yaml").read_text())
    environment = outcome.json("environment.json")
    assert settings["optimizer.lr"] == 2e-4 and settings["data.patch_size"] == 16
    assert settings["code.revision"] == (environment["code"]["revision"] or "null")
    assert settings["code.source"] == environment["code"]["source"]
    assert settings["packages.torch"] == torch.__version__
    plugin = HParamsPluginData.FromString(
        events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    )
    held = {
        "TensorBoard": dict(plugin.session_start_info.hparams),
        "MLflow": run.data.params,
        "wandb": {u.key: u.value_json for r in records for u in r.config.update},
    }
    for logger, values in held.items():
        assert values.keys() - {"_wandb"} == settings.keys(), logger
        assert settings["code.revision"] in str(values["code.revision"]), logger
    assert run.data.params["data.patch_size"] == "16"
    assert held["wandb"]["optimizer.lr"] == "0.0002"

    # Weights, group and tags.
    copy = client.download_artifacts(run.info.run_id, "weights/best.ckpt", str(tmp_path))
    assert Path(copy).read_bytes() == best.read_bytes()
    artifacts = [r.artifact for r in records if r.HasField("artifact")]
    (artifact,) = [each for each in artifacts if each.type == "model"]
    tables = [each for each in artifacts if each.type == "run_table"]
    assert len(tables) == 2
    for each in tables:  # the pictures of five columns and three rows
        pictures = [c for c in each.manifest.contents if c.path.endswith(".png")]
        assert len(pictures) == 15 and all(c.size for c in pictures), each.manifest
    assert set(artifact.aliases) == {"best", "latest"}
    assert [c.local_path for c in artifact.manifest.contents] == [str(best)]
    (header,) = [r.run for r in records if r.HasField("run")]
    assert header.run_group == "denoise" == run.data.tags["group"] == settings["run.group"]
    assert list(header.tags[:2]) == ["baseline", "two words"] and "model=tiny" in header.tags
    assert run.data.tags["tags"] == ", ".join(header.tags) == settings["run.tags"]
    assert run.info.status == "FINISHED"
    assert header.display_name == run.info.run_name == f"denoise/{best.parents[1].name}"


def test_jobs_of_a_sweep_are_runs_in_one_group(cli: Cli, tmp_path: Path) -> None:
    cli("-m", "seed=1,2", "logger=wandb", "trainer.max_steps=1", "trainer.limit_val_batches=1",
        "data.num_workers=0", "~callbacks.panels", "tracking.log_weights=false")  # fmt: skip
    (sweep,) = tmp_path.glob("runs/multirun/*")
    for job in (0, 1):
        (path,) = sweep.glob(f"{job}/wandb/offline-run-*/*.wandb")
        records = read_wandb(path)
        (header,) = [r.run for r in records if r.HasField("run")]
        assert header.run_group == sweep.name and f"seed={job + 1}" in header.tags
        assert not any(r.artifact.type == "model" for r in records)
        assert history(records)[0].keys() == NAMES


def test_two_devices_log_the_same_as_one(shell: Cli, tmp_path: Path) -> None:
    for devices in (1, 2):
        shell("logger=csv", f"trainer.devices={devices}", f"paths.runs=runs/{devices}",
              "trainer.max_steps=3", "trainer.log_every_n_steps=1", "trainer.limit_val_batches=1",
              "module.mixup_alpha=0", "data.num_workers=0", "~callbacks.panels")  # fmt: skip
    (first,), (second,) = (tmp_path.glob(f"runs/{k}/**/metrics.csv") for k in (1, 2))
    one, two = read_csv(first), read_csv(second)
    assert one.keys() == NAMES == two.keys()
    for name in (n for n in NAMES if n.startswith("train/")):
        assert list(two[name]) == [0, 1, 2]
        assert two[name] == pytest.approx(one[name], rel=2e-3), name


class Slope(lightning.LightningModule):
    """Module whose gradient is always (3, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def training_step(self, batch: Any) -> Any:
        return (self.weight * torch.tensor([3.0, 4.0])).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_gradient_norm_and_throughput_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, callbacks = iter(range(10**6)), "mprnet_lit.training.callbacks"
    monkeypatch.setattr(f"{callbacks}.monitor.time.perf_counter", lambda: next(clock))
    trainer = lightning.Trainer(
        max_steps=5, log_every_n_steps=2, accumulate_grad_batches=2, gradient_clip_val=1.0,
        accelerator="cpu", logger=CSVLogger(tmp_path, name=None, version=""), callbacks=[Monitor()],
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    items: Any = [{"target": torch.zeros(3, 1)}] * 100
    trainer.fit(Slope(), DataLoader(items, batch_size=None))
    curves = read_csv(tmp_path / "metrics.csv")
    assert curves["train/grad_norm"] == pytest.approx({1: 5.0, 3: 5.0, 4: 5.0})
    # The clock advances by 1 per reading: at the start and at the end of a batch.
    assert curves["perf/patches_per_second"] == pytest.approx({1: 1.5, 3: 1.5, 4: 1.5})
    assert curves["perf/data_wait"] == pytest.approx({1: 0.5, 3: 0.5, 4: 0.5})


@pytest.mark.parametrize("fused", [True, False])
def test_gradient_norm_is_of_unscaled_gradients(fused: bool) -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([weight], fused=fused)
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))
    assert plugin.scaler is not None
    plugin.scaler.scale((weight * torch.tensor([3.0, 4.0])).sum()).backward()
    if not fused:  # Lightning unscales before the callbacks
        plugin.scaler.unscale_(optimizer)
    trainer: Any = SimpleNamespace(
        precision_plugin=plugin, strategy=SingleDeviceStrategy(torch.device("cpu"))
    )
    assert gradient_norm(trainer, optimizer).item() == pytest.approx(5.0)


def test_gpu_utilization_is_logged_if_available(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(_: Any) -> None:
        raise ModuleNotFoundError("pynvml")

    monkeypatch.setattr("torch.cuda.memory_reserved", lambda _: 3e9)
    monkeypatch.setattr("torch.cuda.utilization", lambda _: 87)
    monitor, device = Monitor(), torch.device("cuda", 0)
    values = monitor._machine(device)
    assert (values["perf/gpu_memory_gb"], values["perf/gpu_percent"]) == (3.0, 87.0)
    monkeypatch.setattr("torch.cuda.utilization", lacking)
    assert "perf/gpu_percent" not in monitor._machine(device)
    assert monitor._machine(device)["perf/gpu_memory_gb"] == 3.0


def test_failing_logger_is_disabled_with_one_warning(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lightning.pytorch.loggers.csv_logs.CSVLogger.save", full)
    outcome = cli("trainer.max_steps=2", "trainer.limit_val_batches=1",
                  "trainer.log_every_n_steps=1", "data.num_workers=0")  # fmt: skip
    assert outcome.json("summary.json")["step"] == 2
    assert outcome.errors.count("Warning: CSV failed and is disabled") == 1
    assert "No space left on device" in outcome.errors
    assert outcome.file("events.out.tfevents*")


def test_logger_that_cannot_be_opened_ends_the_command_before_the_training(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise UsageError("No API key configured. Use `wandb login` to log in.")

    monkeypatch.setattr("wandb.init", refuse)
    outcome = cli("logger=wandb", "logger.wandb.offline=false", status=1)
    assert "Error: Wandb can't be opened (No API key configured." in outcome.errors
    assert "Traceback" not in outcome.errors and "Training MPRNet" not in outcome.output
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", False)
    outcome = cli("logger=wandb", status=1)
    assert install_hint("wandb") in outcome.errors
    assert "Traceback" not in outcome.errors


def test_weights_above_the_size_limit_are_not_logged(cli: Cli) -> None:
    outcome = cli("logger=wandb", "trainer.max_steps=1", "trainer.limit_val_batches=1",
                  "data.num_workers=0", "~callbacks.panels",
                  "tracking.max_weights_mb=1")  # fmt: skip
    assert "exceeds tracking.max_weights_mb=1" in outcome.output
    assert not any(r.artifact.type == "model" for r in read_wandb(outcome.file("*.wandb")))


def test_home_folders_in_lists_are_masked(tmp_path: Path) -> None:
    config = {
        "data": {"roots": ["/home/ann/a", {"path": "/home/ann/b"}]},
        "seed": 1,
        "resume": None,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {"code": {"revision": "1"}, "python": "3.11", "packages": {}, "machine": {}}
    (tmp_path / "environment.json").write_text(json.dumps(environment))
    (tmp_path / "run.json").write_text(json.dumps({"group": "g", "tags": ["a"]}))
    found = run_settings(tmp_path)
    assert found["data.roots.0"] == "~/a" and found["data.roots.1.path"] == "~/b"
    assert found["seed"] == 1 and found["resume"] == "null"
