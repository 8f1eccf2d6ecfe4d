"""``mode=profile``: search for the largest batch without running out of memory."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import Cli

from mprnet_lit.cli.profile import search
from mprnet_lit.training.step_probe import Trial


@given(
    fixed=st.floats(0, 1e9),
    each=st.floats(1e6, 1e9),
    limit=st.floats(1e6, 2e10),
    largest=st.integers(1, 300),
)
def test_search_finds_the_largest_batch_within_an_eighth(
    fixed: int, each: int, limit: int, largest: int
) -> None:
    attempts = []

    def attempt(batch: int) -> Trial | None:
        attempts.append(batch)
        peak = fixed + each * batch
        return Trial(batch, False, [1.0], peak) if peak <= limit else None

    found = search(attempt, largest, limit)
    fits = [b for b in range(1, largest + 1) if fixed + each * b <= limit]
    assert [t.batch for t in found] == sorted({t.batch for t in found} & set(fits))
    best, possible = max((t.batch for t in found), default=0), max(fits, default=0)
    assert possible - best <= best // 8
    # After two batches, the search predicts the memory of the next one.
    assert sum(fixed + each * b > limit for b in attempts) <= 2
    assert len(set(attempts)) == len(attempts)


def test_batches_of_growing_size_are_measured(cli: Cli, tmp_path: Path) -> None:
    options = ("profile.largest_batch=2", "profile.steps=1", "output=figures.json")
    outcome = cli("mode=benchmark", *options)  # the name of the mode in release 0.1
    record = json.loads((tmp_path / "figures.json").read_text())
    assert [(t["batch"], t["checkpointing"]) for t in record["trials"]] == [
        (1, False), (2, False), (1, True), (2, True),
    ]  # fmt: skip
    assert all(t["seconds"][0] > 0 and t["peak"] > 1e6 for t in record["trials"])
    assert "largest batch per device: 2 (profile.largest_batch)" in outcome.output
    assert not (tmp_path / "runs").exists()


def test_insufficient_memory_for_one_patch_is_reported(cli: Cli) -> None:
    outcome = cli("mode=profile", "profile.memory_gb=0.001", "profile.steps=1", status=1)
    assert "Error: not even one patch fits into 0.001 GB: choose a smaller" in outcome.errors


def test_invalid_options_are_reported(cli: Cli) -> None:
    outcome = cli("mode=profile", "profile.steps=0", status=1)
    assert "Error: profile.steps=0 must be a whole number, 1 or more" in outcome.errors


def test_error_in_the_trial_is_reported(cli: Cli) -> None:
    for wrong, sentence in (
        ("trainer.precision=bf16-true", "Error: trainer.precision=bf16-true can't be measured"),
        ("optimizer._target_=torch.optim.SGD", "unexpected keyword argument 'betas'"),
    ):
        outcome = cli("mode=profile", "profile.steps=1", wrong, status=1)
        assert sentence in outcome.errors and "Traceback" not in outcome.errors
