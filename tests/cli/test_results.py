"""Skipping of photos with a valid result, and protection of files that are not results."""

import hashlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from tests.cli.test_bad_input import error_message
from tests.config.test_config import compose
from tests.conftest import PHOTOS, Cli, Outcome

from mprnet_lit import Restorer, weights
from mprnet_lit.cli import restore as mode
from mprnet_lit.cli.restore_record import RECORD
from mprnet_lit.config.resolvers import register_resolvers
from mprnet_lit.config.values import check_values
from mprnet_lit.models import MPRNet
from mprnet_lit.utils.errors import UserError
from mprnet_lit.weights import Info

RUN = ("weights=w.safetensors", "input=in", "output=out")
DONE = "1 of 1 are already restored"


def photo(path: Path, left: int = 100) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.open(PHOTOS / "chelsea.png").crop((left, 50, left + 40, 82)).save(path)


def pixels(path: Path) -> Any:
    return np.array(Image.open(path))


@pytest.fixture(scope="module")
def models() -> list[MPRNet]:
    torch.manual_seed(0)
    return [MPRNet(8, 4, 4, 1) for _ in range(2)]


@pytest.fixture
def folder(tmp_path: Path, models: list[MPRNet]) -> Path:
    """Folder with a photo and two weights files."""
    for name, model in zip(("w", "other"), models, strict=True):
        weights.save(model, tmp_path / f"{name}.safetensors", Info("denoise", 64))
    photo(tmp_path / "in" / "cat.png")
    return tmp_path


@pytest.fixture(scope="module")
def composed() -> DictConfig:
    register_resolvers()
    return compose("mode=restore")


@pytest.fixture
def restore(
    folder: Path,
    composed: DictConfig,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Cli:
    """Run ``mode=restore`` like ``cli``, but with a cached configuration."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*overrides: str, status: int = 0) -> Outcome:
        config = OmegaConf.merge(composed, OmegaConf.from_dotlist(list(overrides)))
        assert isinstance(config, DictConfig)
        capfd.readouterr()
        ended = 0
        try:
            check_values(config)
            mode.run(config)
        except UserError as error:
            ended = 1
            print(f"Error: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            ended = 130
        outcome = Outcome(*capfd.readouterr(), folder)
        assert ended == status, f"{outcome.output}\n{outcome.errors}"
        return outcome

    return run


def test_result_is_skipped_only_for_equal_photo_weights_and_options(
    restore: Cli, folder: Path, models: list[MPRNet]
) -> None:
    result = folder / "out" / "cat.png"

    def again(*changed: Any) -> Any:
        there = result.exists()
        outcome = restore(*RUN, *changed).output
        assert "1 restored" in outcome and DONE not in outcome
        assert ("Replacing 1 of 1 results" in outcome) == there
        return pixels(result)

    before = pixels(folder / "in" / "cat.png")
    first, second = (Restorer(model, device="cpu")(before) for model in models)
    assert np.array_equal(again(), first)
    assert DONE in restore(*RUN).output
    assert np.array_equal(again("weights=other.safetensors"), second)
    ensemble = Restorer(models[0], self_ensemble=True, device="cpu")(before)
    assert np.array_equal(again("inference.self_ensemble=true"), ensemble)
    again("inference.tile=null", "inference.tlc=true")

    photo(folder / "in" / "cat.png", left=150)
    changed = Restorer(models[0], device="cpu")(pixels(folder / "in" / "cat.png"))
    assert np.array_equal(again(), changed)
    result.unlink()
    assert np.array_equal(again(), changed)

    for path in (folder / "in" / "cat.png", result):  # copying changes the times
        os.utime(path, (1, 1))
    assert DONE in restore(*RUN, "inference.device=cpu").output, "the device does not matter"
    (folder / "w.safetensors").rename(folder / "moved.safetensors")
    assert DONE in restore(*RUN, "weights=moved.safetensors").output, (
        "the name of the weights file does not matter"
    )


def test_changed_strength_restores_again_and_full_strength_keeps_earlier_results(
    restore: Cli, folder: Path, models: list[MPRNet]
) -> None:
    result = folder / "out" / "cat.png"
    restore(*RUN)
    (line,) = (folder / "out" / RECORD).read_bytes().split()
    options = {  # of release 0.2, which had no strength
        "weights": hashlib.sha256((folder / "w.safetensors").read_bytes()).hexdigest()[:32],
        "tile": "auto",
        "overlap": 32,
        "memory_gb": None,
        "tlc_crop": None,
        "self_ensemble": False,
        "precision": "torch.float32",
    }
    recipe = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:32]
    assert json.loads(line)["recipe"] == recipe
    full = pixels(result)
    half = restore(*RUN, "inference.strength=0.5").output
    assert "Replacing 1 of 1 results" in half and "strength  0.5" in half
    before = pixels(folder / "in" / "cat.png")
    assert np.array_equal(pixels(result), Restorer(models[0], device="cpu", strength=0.5)(before))
    assert np.abs(pixels(result) - (before + full.astype(float)) / 2).max() <= 1
    assert DONE in restore(*RUN, "inference.strength=0.5").output
    restore(*RUN, "inference.strength=0")
    assert np.array_equal(pixels(result), before)
    restore(*RUN, "inference.strength=1")
    assert np.array_equal(pixels(result), full)
    assert DONE in restore(*RUN).output


def test_change_is_printed_and_compared_with_the_training(
    restore: Cli, folder: Path, models: list[MPRNet]
) -> None:
    before = pixels(folder / "in" / "cat.png").astype(float)
    change = np.abs(Restorer(models[0], device="cpu")(before / 255) * 255 - before).mean()
    line = f"changed by {change:.1f} of 255 levels on average"
    assert f"\ncat.png: {line}\n" in restore(*RUN, "restore.report=true").output
    page = (folder / "out" / "report.html").read_text()
    found = re.search(r'"change \(of 255 levels\)":([\d.]+)', page)
    assert found and float(found[1]) == pytest.approx(change, abs=0.5)
    assert "change in training" not in page
    for limit, warns in ((change + 1, False), (change - 1, True)):
        weights.save(models[0], folder / "w.safetensors", Info("denoise", 64, change=limit))
        output = restore(*RUN, "overwrite=true", "restore.report=true").output
        sentence = f"Warning: cat.png {line}, more than 99% of the training patches needed ("
        assert (f"{sentence}{limit:.1f}): compare it with the original" in output) == warns
        assert (f"\ncat.png: {line}\n" in output) != warns
        assert f"at most {limit:.1f} of 255" in (folder / "out" / "report.html").read_text()


def test_arguments_are_checked_before_results_are_skipped(
    cli: Cli, restore: Cli, folder: Path
) -> None:
    restore(*RUN)
    before = (folder / "out" / "cat.png").read_bytes()
    for argument, sentence in (
        ("weights=none.pth", "the weights file none.pth does not exist"),
        ("inference.tile=100", "inference.tile=100 must be"),
        ("inference.overlap=-1", "inference.overlap=-1 must be"),
        ("inference.device=cuda:99", "inference.device=cuda:99 can't be used here"),
        ("inference.precision=64", "inference.precision=64 must be one of 32, bf16, 16"),
        ("inference.strength=2", "inference.strength=2 must be a number"),
    ):
        assert sentence in error_message(restore(*RUN, argument, status=1))
    for key in ("overwrite", "inference.tlc"):
        message = error_message(cli("mode=restore", *RUN, f"{key}=maybe", status=1))
        assert f"{key}=maybe must be true or false" in message
    assert (folder / "out" / "cat.png").read_bytes() == before


def test_result_of_another_photo_is_not_overwritten(cli: Cli, restore: Cli, folder: Path) -> None:
    restore(*RUN)
    before = (folder / "out" / "cat.png").read_bytes()
    photo(folder / "in2" / "cat.png", left=200)
    sentence = (
        "out/cat.png is the result of in/cat.png, and the result of in2/cat.png would overwrite it"
    )
    assert sentence in error_message(cli("mode=restore", *RUN, "input=in2", status=1))
    (folder / "in").rename(folder / "gone")
    assert sentence in error_message(restore(*RUN, "input=in2/cat.png", status=1))
    assert (folder / "out" / "cat.png").read_bytes() == before
    assert DONE in restore(*RUN, "input=gone").output, "the photo was only moved"

    for number in range(12):
        photo(folder / "in2" / f"{number:02d}.png")
        (folder / "out" / f"{number:02d}.png").write_bytes(b"mine")
    message = error_message(restore(*RUN, "input=in2", status=1))
    assert message.startswith("Error: 13 files would be overwritten: set another output, or add")
    assert "out/00.png is not a result" in message and "in2/00.png" in message
    assert message.endswith("  and 3 more\n")
    assert "13 restored" in restore(*RUN, "input=in2", "overwrite=true").output
    assert "13 of 13 are already restored" in restore(*RUN, "input=in2").output


def test_stages_comparison_and_report_are_checked_with_the_result(
    restore: Cli, folder: Path
) -> None:
    restore(*RUN)
    (folder / "out" / "cat.png.compare.png").write_bytes(b"mine")
    message = error_message(restore(*RUN, "restore.compare=true", status=1))
    assert "out/cat.png.compare.png is not a result of mprnet_lit" in message
    (folder / "out" / "cat.png.compare.png").unlink()
    both = (*RUN, "restore.compare=true", "restore.stages=true")
    assert "1 restored" in restore(*both).output
    assert DONE in restore(*both).output and DONE in restore(*RUN).output
    (folder / "out" / "cat.png.stage1.png").unlink()
    assert "1 restored" in restore(*both).output
    assert (folder / "out" / "cat.png.stage1.png").is_file()

    (folder / "out" / "report.html").write_bytes(b"mine")
    message = error_message(restore(*both, "restore.report=true", status=1))
    assert "out/report.html is not a report of mprnet_lit" in message
    (folder / "out" / "report.html").unlink()
    for _ in range(2):  # a report of this package is replaced
        assert DONE in restore(*both, "restore.report=true").output
        assert '"name":"cat.png"' in (folder / "out" / "report.html").read_text()


def test_results_inside_the_input_are_not_restored_again(restore: Cli, folder: Path) -> None:
    run = ("weights=w.safetensors",)
    beside = ("restore.compare=true", "restore.stages=true")
    restore(*run, "input=in/cat.png", "output=single.png", *beside)
    restore(*run, "input=in", "output=first")
    for source in (".", "'**/*.png'"):
        output = "all" if source == "." else "globbed"
        outcome = restore(*run, f"input={source}", f"output={output}").output
        assert "Skipped" in outcome and "results of earlier calls" in outcome
        assert "1 restored" in outcome
        found = [p.relative_to(folder / output) for p in (folder / output).rglob("*.png")]
        assert [path.as_posix() for path in found] == ["in/cat.png"]
    # An input that is itself a folder of results is restored, for example with other weights.
    assert "1 restored" in restore(*run, "input=first", "output=second").output
    photo(folder / "first" / "cat.png", left=0)  # the file is not a result anymore
    assert "2 restored" in restore(*run, "input=.", "output=third").output


def test_killed_run_can_be_repeated(
    restore: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    restore(*RUN)
    photo(folder / "in" / "dog.png", left=200)
    replace = Path.replace

    def killed(path: Path, target: Any) -> Any:
        if Path(target).parent.name == "out":
            raise KeyboardInterrupt
        return replace(path, target)

    for changed in ((), ("inference.tile=null",)):  # with and without an earlier result
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed)
            restore(*RUN, *changed, status=130)
        assert not list(folder.glob("**/.mprnet_lit-*"))
    record = folder / "out" / RECORD
    # Both killed results are recorded. One record is lost, and the other one is cut off.
    record.write_bytes(record.read_bytes().rpartition(b"\n")[0][:-20])
    assert "2 restored" in restore(*RUN, "inference.tile=null").output
    assert "2 of 2 are already restored" in restore(*RUN, "inference.tile=null").output
    lines = [json.loads(line) for line in record.read_bytes().split(b"\n")[1:] if b"}}" in line]
    assert lines[-1]["source"] in ("../in/cat.png", "../in/dog.png"), "no absolute path is recorded"
