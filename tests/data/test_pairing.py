"""Pairing by name in common folder layouts."""

import shutil
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mprnet_lit.data import pairing
from mprnet_lit.data.pairing import find_images, find_pairs
from mprnet_lit.images import reading as images
from mprnet_lit.utils.errors import UserError


def draw(path: Path, size: tuple[int, int] = (16, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "teal").save(path)


def names(pairs: Any) -> list[tuple[Any, Any]]:
    return [(p.degraded.name, p.target.name) for p in pairs]


def problems(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith("Skipped: ")]


def test_two_folders_are_paired_across_subfolders_and_suffixes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("in/a.jpg", "in/sub/a.png", "in/b.PNG", "gt/a.png", "gt/sub/a.tif", "gt/b.webp"):
        draw(tmp_path / name)
    found = find_pairs(tmp_path / "in", tmp_path / "gt")
    assert names(found) == [("a.jpg", "a.png"), ("b.PNG", "b.webp"), ("a.png", "a.tif")]
    assert [p.name for p in found] == ["a", "b", "sub/a"]
    assert {(p.height, p.width) for p in found} == {(12, 16)}
    assert not caplog.messages


def test_only_files_without_a_partner_are_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examined: list[str] = []

    def faults(self: Any, key: str, other: Any = None) -> list[str]:
        examined.append(key)
        return []

    monkeypatch.setattr(pairing._Matches, "faults", faults)
    for name in ("in/1", "in/2", "gt/1", "gt/2", "gt/3"):
        draw(tmp_path / f"{name}.png")
    assert len(find_pairs(tmp_path / "in", tmp_path / "gt")) == 2
    assert {key.strip("\0") for key in examined} == {"3"}


def test_gopro_layout_uses_blur_and_ignores_blur_gamma(tmp_path: Path) -> None:
    for scene in ("GOPR0372_07_00", "GOPR0384_11_01"):
        for kind in ("blur", "blur_gamma", "sharp"):
            draw(tmp_path / scene / kind / "000047.png")
    found = find_pairs(tmp_path, tmp_path, "*/blur/*", "*/sharp/*")
    degraded = [p.degraded for p in found if p.degraded is not None]
    assert [path.parent.name for path in degraded] == ["blur", "blur"]
    assert [path.parts[-3] for path in degraded] == [p.target.parts[-3] for p in found]


def test_sidd_layout_is_paired(tmp_path: Path) -> None:
    for scene in ("0001_001_S6_00100_00060_3200_L", "0002_001_S6_00100_00020_3200_N"):
        for shot in ("010", "011"):
            for kind in ("NOISY", "GT"):
                draw(tmp_path / "Data" / scene / f"{scene[:4]}_{kind}_SRGB_{shot}.PNG")
    found = find_pairs(tmp_path, tmp_path, "**/*NOISY*", "**/*GT*")
    assert len(found) == 4
    assert all(degraded.replace("NOISY", "GT") == target for degraded, target in names(found))


def test_patterns_with_prefixes_are_paired(tmp_path: Path) -> None:
    for name in ("rain-1.png", "rain-2.png", "norain-1.png", "norain-2.png"):
        draw(tmp_path / name)
    found = find_pairs(tmp_path, tmp_path, "rain-*", "norain-*")
    assert names(found) == [("rain-1.png", "norain-1.png"), ("rain-2.png", "norain-2.png")]


def test_double_star_matches_any_text(tmp_path: Path) -> None:
    for name in ("a.png", "sub/a.png", "sub/sub/b.png"):
        draw(tmp_path / "gt" / name)
        draw(tmp_path / "in" / name)
    found = find_pairs(tmp_path, tmp_path, "in/**", "gt/**")
    assert [p.name for p in found] == ["in/a", "in/sub/a", "in/sub/sub/b"]


def write_faulty_pairs(folder: Path) -> None:
    """Write one pair with each fault and one valid pair."""
    for side in ("in", "gt"):
        draw(folder / side / "good.png")
        draw(folder / side / "size.png", (16, 12) if side == "in" else (20, 12))
        draw(folder / side / "cut.png")
        draw(folder / side / "twice.png")
    draw(folder / "in" / "alone.png")
    draw(folder / "gt" / "lonely.png")
    draw(folder / "gt" / "twice.jpg")
    cut = folder / "gt" / "cut.png"
    cut.write_bytes(cut.read_bytes()[:-20])
    (folder / "gt" / "note.txt").write_text("neither an image nor named like one")


FAULTS = (
    r"in/alone\.png: no partner in .*gt",
    r"gt/lonely\.png: no partner in .*in",
    r"gt/cut\.png can't be read",
    r"in/size\.png: 16x12, but its target .*gt/size\.png is 20x12",
    r"gt/twice\.jpg, .*gt/twice\.png: ambiguous",
    r"in/twice\.png: more than one partner in .*gt",
)


def test_one_error_lists_all_faults_and_the_remedy(tmp_path: Path) -> None:
    write_faulty_pairs(tmp_path)
    with pytest.raises(UserError) as caught:
        find_pairs(tmp_path / "in", tmp_path / "gt")
    for fault in (*FAULTS, r"set on_error='skip'"):
        assert caught.match(fault)


def test_skip_ignores_faulty_files_and_lists_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_faulty_pairs(tmp_path)
    found = find_pairs(tmp_path / "in", tmp_path / "gt", on_error="skip")
    assert [p.name for p in found] == ["good"]
    assert len(problems(caplog)) == len(FAULTS)
    clean = find_images(tmp_path / "gt", on_error="skip")
    assert [i.name for i in clean] == ["good", "lonely", "size"]
    with pytest.raises(UserError, match="cut"):
        find_images(tmp_path / "gt")


def test_no_remaining_pair_is_an_error_even_with_skip(tmp_path: Path) -> None:
    draw(tmp_path / "in" / "a.png")
    draw(tmp_path / "gt" / "b.png")
    with pytest.raises(UserError, match=r"2 problems .*: fix them, because no pair remains"):
        find_pairs(tmp_path / "in", tmp_path / "gt", on_error="skip")


def test_image_cannot_be_its_own_target(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    with pytest.raises(
        UserError, match=r"a\.png: both patterns match this file, which would be its own target"
    ):
        find_pairs(tmp_path, tmp_path)


def test_probing_keeps_the_warnings_filter_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = threading.Barrier(4, timeout=10)

    def check(path: Path, _: Any, full: bool) -> None:
        barrier.wait()
        time.sleep(0 if path.stem == "0" else 0.05)  # the first thread to start ends first

    monkeypatch.setattr(images, "check_complete", check)
    for k in range(4):
        draw(tmp_path / f"{k}.png")
    before = list(warnings.filters)
    find_images(tmp_path)
    assert warnings.filters == before


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("*/blur/*", "*/sharp/*"), r"no image in .* matches the pattern '\*/blur/\*'"),
        (("*.png", "*.png"), r"'\*\.png': use a pattern that matches names without .* 'a'"),
        (("**/*", "*"), "must have the same number of wildcards"),
    ],
)
def test_invalid_patterns_raise(tmp_path: Path, patterns: tuple[str, str], message: str) -> None:
    draw(tmp_path / "a.png")
    with pytest.raises(UserError, match=message):
        find_pairs(tmp_path, tmp_path, *patterns)


def test_long_list_of_problems_is_truncated(tmp_path: Path) -> None:
    draw(tmp_path / "gt" / "x.png")
    for k in range(30):
        draw(tmp_path / "in" / f"{k}.png")
    with pytest.raises(UserError, match="and 21 more"):
        find_pairs(tmp_path / "in", tmp_path / "gt")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["*", "**", "**/", "?", "a", "b/", "."]), max_size=6).map("".join),
    st.text("ab/.\n", max_size=8),
)
def test_regular_expressions_match_as_the_patterns_with_many_wildcards(
    pattern: str, name: str
) -> None:
    parts = pairing._split_pattern(pattern)
    expected = pairing._match(parts, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "_FEW_WILDCARDS", 10)
        assert pairing._matcher(parts)(name) == expected


NAMES = st.sets(st.text("ab1.-_ ", min_size=1, max_size=4).map(lambda s: f"{s}x"), max_size=6)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(NAMES, NAMES, st.randoms(use_true_random=False))
def test_pairs_are_the_intersection_of_names_in_any_file_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, left: Any, right: Any, random: Any
) -> None:
    # Hidden files are ignored by design.
    left, right = ({n for n in s if not n.startswith(".")} for s in (left, right))
    shutil.rmtree(tmp_path, ignore_errors=True)
    files = [("in", n) for n in left | {"both"}] + [("gt", n) for n in right | {"both"}]
    random.shuffle(files)
    for side, name in files:
        draw(tmp_path / side / f"{name}{random.choice(['.png', '.bmp', '.JPG'])}", (8, 8))
    caplog.clear()
    found = find_pairs(tmp_path / "in", tmp_path / "gt", on_error="skip")
    assert [p.name for p in found] == sorted((left & right) | {"both"})
    alone = {Path(line.split(": no partner")[0]).stem for line in problems(caplog)}
    assert alone == (left ^ right) - {"both"} and len(problems(caplog)) == len(alone)
    if alone:
        with pytest.raises(UserError, match=f"^{len(alone)} problem"):
            find_pairs(tmp_path / "in", tmp_path / "gt")
