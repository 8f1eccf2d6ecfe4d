"""Record of results: format, concurrent writers, damage, and colliding jobs."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mprnet_lit.cli import restore_record as results
from mprnet_lit.cli.restore_inputs import find_jobs
from mprnet_lit.cli.restore_plan import check_report, make_plan
from mprnet_lit.cli.restore_record import RECORD, Record, Records, Result
from mprnet_lit.utils import file_state
from mprnet_lit.utils.errors import UserError
from mprnet_lit.utils.file_state import FileState


def write_file(path: Path, content: bytes = b"photo") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def result(folder: Path, name: str, source: str = "../in/a.png", recipe: str = "recipe") -> Result:
    file = FileState.of(write_file(folder / name))
    return Result(source, file, recipe, {name: file})


def test_unchanged_files_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unchanged files are recognized by size and time, which is fast for 100,000 photos."""
    write_file(tmp_path / "in" / "a.png")
    write_file(tmp_path / "in" / "b" / "c.png")
    jobs = find_jobs(str(tmp_path / "in"), str(tmp_path / "out"))
    for job in jobs:
        write_file(job.destination)
        record = Record(job.destination.parent)
        photo = FileState.of(job.source, with_changed=True)
        files = {job.destination.name: FileState.of(job.destination)}
        record.append([Result(record.relative(str(job.source)), photo, "recipe", files)])
    monkeypatch.setattr(file_state, "file_digest", lambda path: pytest.fail(f"{path} was read"))
    assert len(make_plan(jobs, "recipe", Records(), overwrite=False).done) == 2


def test_concurrent_writers_and_compaction_lose_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_SPARE", 5)
    made = [result(tmp_path, f"{n}.png") for n in range(8)]

    def write(number: int) -> None:
        record = Record(tmp_path)  # compacts the file occasionally
        for _ in range(20):
            record.append([made[number]])
            record = Record(tmp_path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    record = Record(tmp_path)
    assert [record.find(f"{n}.png") for n in range(8)] == made
    assert len((tmp_path / RECORD).read_bytes().split(b"\n")) < 60, (
        "compaction removes most of the 160 lines"
    )


def test_damaged_record_is_ignored(tmp_path: Path) -> None:
    whole = result(tmp_path, "a.png")
    lines = [b"\xff", b"[]", b"{}", b"null", b'{"source": 1}', b"[" * 9999, whole.line()[:-9]]
    write_file(tmp_path / RECORD, b"\n".join(lines))
    record = Record(tmp_path)
    assert record.find("a.png") is None
    record.append([whole])  # after a truncated line
    assert Record(tmp_path).find("a.png") == whole

    kept = write_file(tmp_path / "kept")
    for kind in ("link", "pipe"):
        (tmp_path / RECORD).unlink()
        if kind == "link":
            (tmp_path / RECORD).symlink_to(kept)
        else:
            os.mkfifo(tmp_path / RECORD)
        with pytest.raises(UserError, match=rf"{RECORD} is not a regular file: remove it"):
            Record(tmp_path)
    assert kept.read_bytes() == b"photo"


def test_results_with_the_same_destination_are_refused(tmp_path: Path) -> None:
    for name in ("in/a.png", "in/b/a.png", "in/b/A.PNG", "c/a.png", "c/a.png.compare.png"):
        write_file(tmp_path / name)
    (tmp_path / "link").symlink_to("in")
    output = str(tmp_path / "out")

    def found(*sources: Any, **options: Any) -> Any:
        return find_jobs([str(tmp_path / source) for source in sources], output, **options)

    for sources, first, second in (
        (("in/a.png", "c/a.png"), "in/a.png", "c/a.png"),
        (("in/a.png", "c"), "in/a.png", "c/a.png"),
        (("in",), "in/b/A.PNG", "in/b/a.png"),
    ):
        with pytest.raises(UserError, match=f"{first} and .*{second} would both be restored to"):
            found(*sources)
    with pytest.raises(UserError, match=r"c/a\.png and .*compare\.png would both be restored to"):
        found("c", beside=("compare",))
    assert [job.name for job in found("in/a.png", "link/a.png", "in/*.png")] == ["a.png"]
    with pytest.raises(UserError, match="input is empty"):
        find_jobs([], output)
    with pytest.raises(UserError, match=r"c/a\.png\.compare\.png would be overwritten, but is"):
        output = str(tmp_path / "c")
        found("in/a.png", "c/a.png.compare.png", beside=("compare",))


def test_result_is_skipped_only_for_its_own_source(tmp_path: Path) -> None:
    photo = write_file(tmp_path / "in" / "a.png")
    folder = tmp_path / "in" / "out"
    restored = result(folder, "a.png", "../a.png")
    Record(folder).append([restored])
    names = [job.name for job in find_jobs(str(tmp_path / "in"), str(tmp_path / "other"))]
    assert names == ["a.png"]
    photo.unlink()
    names = [job.name for job in find_jobs(str(tmp_path / "in"), str(tmp_path / "other"))]
    assert names == ["out/a.png"]


def test_results_without_a_record_are_not_overwritten(tmp_path: Path) -> None:
    write_file(tmp_path / "in" / "a.png")
    write_file(tmp_path / "out" / "a.png")
    write_file(tmp_path / "out" / "report.html")
    jobs = find_jobs(str(tmp_path / "in"), str(tmp_path / "out"))
    sentence = r"a\.png is in a folder without a record of results \(earlier versions wrote none\)"
    with pytest.raises(UserError, match=rf"{sentence}, and the result of .*in/a\.png would"):
        make_plan(jobs, "recipe", Records(), overwrite=False)
    with pytest.raises(UserError, match=r"report\.html is in a folder without a record"):
        check_report(tmp_path / "out" / "report.html", Records(), overwrite=False)
