"""Trials of a sweep, read from its record and its folders."""

import json
from pathlib import Path

from mprnet_lit.reports.trials import find_trials


def test_sweep_record_adds_states_and_settings_to_its_folders(tmp_path: Path) -> None:
    sweep = tmp_path / "lr"
    for number, psnr in ((0, 30.0), (1, 20.0)):
        folder = sweep / str(number)
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
        (folder / "summary.json").write_text(json.dumps({"psnr": psnr}))
    columns = ("number", "state", "params", "values", "folder", "error")
    rows = [
        (0, "complete", {"optimizer.lr": 1e-3}, {"psnr": 30.0}, str(sweep / "0"), None),
        (1, "pruned", {"optimizer.lr": 1e-5}, {}, str(sweep / "1"), None),
        (2, "killed", {"optimizer.lr": 1e-4}, {}, None, None),
        (3, "complete", {"optimizer.lr": 1e-4}, {"psnr": 30.0}, str(sweep / "0"), None),
        (4, "failed", {"optimizer.lr": -1}, {}, str(sweep / "4"), "no such rate"),
    ]
    entries = [dict(zip(columns, row, strict=True)) for row in rows]
    (sweep / "sweep.json").write_text(json.dumps({"objectives": ["psnr"], "trials": entries}))
    root, trials = find_trials(tmp_path)
    assert root == sweep
    found = [(t.name, t.state, t.psnr, t.overrides["optimizer.lr"], t.error) for t in trials]
    assert found == [
        ("0", "complete", 30.0, 1e-3, None),
        ("1", "pruned", 20.0, 1e-5, None),
        ("2", "killed", None, 1e-4, None),
        ("3 (in 0)", "complete", 30.0, 1e-4, None),
        ("4", "failed", None, -1, "no such rate"),
    ]
