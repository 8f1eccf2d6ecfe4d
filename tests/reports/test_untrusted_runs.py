"""Untrusted folders of runs: reading stays inside the folder and within limits."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.reports.page_reading import embedded_data

from mprnet_lit.reports.curves import read_curves
from mprnet_lit.reports.runs_report import write_runs_report
from mprnet_lit.runs.files import is_number
from mprnet_lit.utils import untrusted as reading
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.untrusted import NotReadableError

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n0 0 9 9 rectfill\nshowpage\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghi", "bcdefghij", strict=True)
)


def make_run(folder: Path, number: float = 1.0) -> Path:
    """Write the minimal files of a run."""
    for name in ("panels", ".hydra", "csv/version_0"):
        (folder / name).mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "summary.json").write_text(json.dumps({"psnr": number, "epoch": 2}))
    (folder / "environment.json").write_text('{"python": "3.11"}')
    (folder / "config.yaml").write_text("optimizer: {lr: 1.0e-3}\nmode: {name: train}\n")
    (folder / ".hydra" / "overrides.yaml").write_text("- optimizer.lr=1e-3\n")
    (folder / "csv/version_0/metrics.csv").write_text("step,epoch,val/psnr\n0,0,1\n1,1,2\n")
    for epoch in (1, 2):
        Image.new("RGB", (30, 20), (9, 99, 200)).save(folder / f"panels/epoch_{epoch:04d}.png")
    return folder


def report(folder: Path) -> Any:
    """Return the data on the page of a folder."""
    page = folder.with_name("report.html")
    write_runs_report(folder, page)
    return embedded_data(page.read_text())


def test_minimal_run_is_shown(tmp_path: Path) -> None:
    data = report(make_run(tmp_path / "run"))
    (trial,) = data["trials"]
    assert (trial["psnr"], trial["notes"]) == (1.0, [])
    assert trial["curves"]["val/psnr"] == [[1, 2], [1, 2], [1.0, 2.0]]
    assert [epoch for epoch, _ in data["panels"][0]["panels"]] == [1, 2]
    assert ["optimizer.lr", 1e-3] in data["config"]["whole"]


EVERY = (
    "summary.json", "environment.json", "config.yaml", "csv/version_0/metrics.csv",
    "panels/epoch_0002.png", ".hydra/overrides.yaml", "error.txt", "sweep.json",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "outside"])
def test_only_regular_files_inside_the_folder_are_read(tmp_path: Path, kind: str) -> None:
    run = make_run(tmp_path / "run")
    secret = make_run(tmp_path / "elsewhere", number=77.0)
    (secret / "error.txt").write_text("seventy-seven")
    (secret / "sweep.json").write_text('{"trials": [{"number": 77, "state": "complete"}]}')
    (secret / "config.yaml").write_text("secret: seventy-seven\n")
    if kind == "outside":  # links to folders with regular files
        for name in ("csv", "panels", ".hydra"):
            shutil.rmtree(run / name)
            (run / name).symlink_to(secret / name)
    else:
        for name in EVERY:
            (run / name).unlink(missing_ok=True)
            if kind == "pipe":
                os.mkfifo(run / name)
            elif kind == "link":
                (run / name).symlink_to(secret / name)
            else:
                (run / name).mkdir()
    data = report(run)
    text = json.dumps(data)
    assert "77" not in text and "seventy" not in text
    notes = [note for trial in data["trials"] for note in trial["notes"]]
    if kind == "outside":
        assert data["trials"][0]["psnr"] == 1.0 and data["panels"] == []
        assert sum("is a symbolic link or outside the folder" in note for note in notes) == 3
    else:
        for name in ("summary.json", "environment.json", "config.yaml", "panels/epoch_0002.png"):
            assert any(note.startswith(name) and "not read" in note for note in notes), notes


def test_absolute_and_parent_paths_are_not_opened(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (tmp_path / "secret.json").write_text('{"a": 1}')
    for name in (tmp_path / "secret.json", "../secret.json", "panels/../../secret.json"):
        with pytest.raises(NotReadableError, match="outside the folder"):
            reading.read_json(run, name)


@pytest.mark.parametrize("folder", ["/absolute", "../other", "inner/../../other", "..", ".", ""])
def test_folders_of_a_sweep_record_are_inside_the_sweep(tmp_path: Path, folder: str) -> None:
    other = make_run(tmp_path / "other", number=77.0)
    sweep = tmp_path / "sweep"
    make_run(sweep / "0")
    (sweep / "linked").symlink_to(other)
    recorded = folder.replace("/absolute", str(other))
    entries = [
        {"number": 0, "state": "complete", "folder": "/gone/since/0"},
        {"number": 1, "state": "complete", "folder": recorded},
        {"number": recorded, "state": "complete", "folder": None},
        {"number": 2, "state": "complete", "folder": str(sweep / "linked")},
        {"number": "linked", "state": "complete"},
    ]
    (sweep / "sweep.json").write_text(json.dumps({"trials": entries}))
    data = report(sweep)
    assert [trial["psnr"] for trial in data["trials"]] == [1.0, None, None, None, None]
    assert "77" not in json.dumps([trial["curves"] for trial in data["trials"]])


def test_folder_of_many_trials_is_read_at_most_three_times(tmp_path: Path) -> None:
    make_run(tmp_path / "sweep" / "0")
    entries = [{"number": k, "state": "complete", "folder": "0"} for k in range(9)]
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps({"trials": entries}))
    assert [t["psnr"] for t in report(tmp_path / "sweep")["trials"]] == [1.0] * 3 + [None] * 6


@pytest.mark.parametrize(
    "content",
    [
        BOMB,
        "a: &a {b: *a}\n",
        "a: " + "[" * 5000,
        "a: " + "[" * 200 + "]" * 200,
        "{a: " * 3000,
        "- a\n" * 11_000,
        "a: !!python/object/apply:os.system [exit]\n",
        "a: !!binary aGVsbG8=\n",
        "a: " + "x" * 2**18,
        'a: !!int ""',
        'a: !!float ""',
        "a: !!bool maybe",
    ],
    ids=[
        "bomb",
        "circle",
        "deep",
        "closed",
        "maps",
        "many",
        "python",
        "binary",
        "large",
        "int",
        "float",
        "bool",
    ],
)
def test_malicious_yaml_is_reported_as_damaged(tmp_path: Path, content: Any) -> None:
    run = make_run(tmp_path / "run")
    (run / "config.yaml").write_text(content)
    (run / ".hydra" / "overrides.yaml").write_text(content)
    (trial,) = report(run)["trials"]
    assert [note for note in trial["notes"] if note.startswith("config.yaml")]
    assert trial["psnr"] == 1.0


def test_yaml_types_match_omegaconf(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "a: 1.0e-05\nb: 1e-3\nc: 2026-01-02\nd: '1e-3'\ne: [true, null, -7]\nf: ${oc.env:A}\n"
        f"g: {10**400}\nh: .inf\n"
    )
    read = reading.read_yaml(tmp_path, "a.yaml")
    assert read["a"] == 1e-5 and read["b"] == 1e-3 and read["c"] == "2026-01-02"
    assert read["d"] == "1e-3" and read["e"] == [True, None, -7] and read["f"] == "${oc.env:A}"
    assert read["g"] == str(10**400) and read["h"] == float("inf")


NUMBERS = ["1" + "0" * 400, "1e999", "-Infinity", "NaN", "1" * 5000, "1.7976931348623157e308"]


@pytest.mark.parametrize("number", NUMBERS)
def test_invalid_numbers_are_not_on_the_page(tmp_path: Path, number: str) -> None:
    sweep = tmp_path / "sweep"
    for name in ("0", "1"):
        run = make_run(sweep / name)
        text = f'{{"psnr": {number}, "ssim": {number}, "epoch": {number}, "latency": {number}}}'
        (run / "summary.json").write_text(text)
        (run / "environment.json").write_text(f'{{"python": {number}}}')
        (run / "config.yaml").write_text(
            f"optimizer: {{lr: {number}, hex: 0x{'f' * 5000}}}\nmodel: {{width: {number}}}\n"
        )
        (run / ".hydra" / "overrides.yaml").write_text(f"- optimizer.lr={number}{name}\n")
        (run / "csv/version_0/metrics.csv").write_text(
            f"step,epoch,val/psnr\n{number},0,1\n0,{number},1\n0,0,{number}\n1,1,3\n"
        )
    entry = f'{{"number": {number}, "values": {{"psnr": {number}, "parameters": {number}}}}}'
    (sweep / "sweep.json").write_text(f'{{"trials": [{entry}]}}')
    data = report(sweep)  # fails if the JSON contained NaN
    assert {t["psnr"] for t in data["trials"]} == {3.0, None}  # from the curves


def test_is_number_requires_finite_values_in_range() -> None:
    assert is_number(0) and is_number(-1.5) and is_number(10**300)
    for value in (True, None, "1", float("nan"), float("inf"), 10**400, -(10**5000), 1.5e308):
        assert not is_number(value)


def test_json_size_and_depth_are_bounded(tmp_path: Path) -> None:
    for content in ("[" * 10**5, '{"a":' * 40 + "1" + "}" * 40, "[1]", "{", '{"a": "\\ud8'):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(NotReadableError):
            reading.read_json(tmp_path, "a.json")
    (tmp_path / "a.json").write_text('{"a": "' + "x" * 10**6 + '"}')
    with pytest.raises(NotReadableError, match=r"is larger than 0\.2621 MB, and"):
        reading.read_json(tmp_path, "a.json")


@pytest.mark.parametrize("picture", ["postscript", "gif", "pixels", "bytes"])
def test_panels_are_opened_only_by_the_image_reader(tmp_path: Path, picture: str) -> None:
    run = make_run(tmp_path / "run")
    for path in (run / "panels" / "epoch_0002.png", run / "panels" / "latest.png"):
        if picture == "postscript":
            path.write_bytes(POSTSCRIPT)
        elif picture == "gif":
            Image.new("L", (9, 9)).save(path, "GIF")
        elif picture == "pixels":
            Image.new("1", (9000, 9000)).save(path)
        else:
            with path.open("ab") as file:
                file.truncate(2**27)
    data = report(run)
    assert [epoch for epoch, _ in data["panels"][0]["panels"]] == [1]
    (note,) = data["trials"][0]["notes"]
    assert note.startswith("panels/epoch_0002.png ")


def test_curve_bytes_and_columns_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mprnet_lit.reports.curves._MAX_BYTES", 2000)
    table = make_run(tmp_path / "run") / "csv/version_0/metrics.csv"
    header = "step,epoch,val/psnr\n"
    table.write_text(header + "".join(f"{k},0,1\n" for k in range(1000)))
    curves, notes = read_curves(tmp_path / "run")
    assert 200 < curves["val/psnr"].size < 500
    assert "only the first 0 MB were read" in notes[0]
    table.write_text(",".join(["step", "epoch", *map(str, range(400))]) * 2 + "\n")
    assert read_curves(tmp_path / "run") == (
        {},
        ["csv/version_0/metrics.csv: more than 500 columns"],
    )


def test_walk_depth_and_entries_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path
    for _ in range(40):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (tmp_path / "d" / "loop").symlink_to(tmp_path)
    found = list(reading.walk(tmp_path))
    assert len(found) == 33 and found[1][2] == ["loop"]
    monkeypatch.setattr(reading, "MAX_ENTRIES", 20)
    with pytest.raises(UserError, match="more than 20 files and folders: choose a subfolder"):
        list(reading.walk(tmp_path))


def test_too_large_network_is_not_built(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    sizes = {"width": 16, "unet_step": 8, "orsnet_step": 8, "cabs_per_orb": 4096, "reduction": 4}
    (run / "config.yaml").write_text(json.dumps({"model": sizes}))
    assert report(run)["trials"][0]["parameters"] is None
