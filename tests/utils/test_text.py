"""File names and messages are printed literally, with escaped control characters."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from tests.conftest import PHOTOS, Cli

from mprnet_lit.utils.console import print_line, print_table
from mprnet_lit.utils.text import exceeding, printable, printable_lines


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("photo \u00fc \u6771\u4eac \U0001f600 \u202f.jpg", None),
        ("\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", None),  # joiner of Persian
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x1b]0;title\x07", r"a\x1b]0;title\x07"),
        ("a\nError: b\r\tc", r"a\nError: b\r\tc"),
        ("evil\u202egpj.exe", r"evil\u202egpj.exe"),
        ("\x9b31m\u2028\u2066\ufeff\udc80", r"\x9b31m\u2028\u2066\ufeff\udc80"),
    ],
)
def test_control_characters_are_escaped(text: str, printed: str | None) -> None:
    assert printable(text) == (text if printed is None else printed)


def test_lines_of_a_list_are_kept() -> None:
    assert printable_lines("2 bad:\n  a\x1bb\n  c") == "2 bad:\n  a\\x1bb\n  c"
    assert printable_lines("a\nError: b") == r"a\nError: b"


def test_lines_are_printed_literally() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=20)
    print_line(console, "[red]:smile:[/red] \x1b[31m " + "x" * 30)
    print_table(console, {"task": "de\x1bblur[bold]"})
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert printed == (
        r"[red]:smile:[/red] \x1b[31m " + "x" * 30 + "\n" + r"task  de\x1bblur[bold]" + "\n"
    )


def test_file_names_are_escaped_in_the_terminal(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    bad = tmp_path / "in" / "a\x1b[31m\nError: done\u202e.png"
    bad.write_bytes(b"not an image")
    (tmp_path / "in" / "[red]b[bold].png").write_bytes(b"nor this")
    outcome = cli("mode=restore", "input=in", "output=out", status=1)
    for said in (outcome.output, outcome.errors):
        assert r"a\x1b[31m\nError: done\u202e.png" in said and "[red]b[bold].png" in said
        assert not {"\x1b", "\u202e"} & set(said)
    outcome = cli("mode=evaluate", "task=denoise", f"input={bad}", "evaluate.target=in", status=1)
    assert r"a\x1b[31m\nError: done\u202e.png" in outcome.errors
    assert len(outcome.errors.strip().splitlines()) == 1


def test_file_names_are_escaped_in_scores_and_pages(tmp_path: Path) -> None:
    from mprnet_lit.evaluation.results import _cell
    from mprnet_lit.reports.page import fill

    assert _cell("=HYPERLINK(1)") == "'=HYPERLINK(1)" and _cell("-1.png") == "'-1.png"
    assert _cell("a\x1b\n") == r"a\x1b\n" and _cell("photo-1") == "photo-1"
    page = fill("image_report", "t\x1b", {"entries": [{"name": "\u202egpj"}], "n": "a\nb\x07"})
    text = page.decode()
    assert not {"\x1b", "\u202e", "\x07"} & set(text) and r"a\nb\\x07" in text
    assert PHOTOS.is_dir()


@pytest.mark.parametrize(
    ("number", "limit", "shown"),
    [
        (62.34, 50, ("62.3", "50")),
        (50.02, 50, ("50.02", "50")),
        (0.125, 0.12, ("0.125", "0.12")),
        (1.0400001, 1.04, ("1.0400001", "1.04")),
        (100.4, 100, ("100.4", "100")),
        (0.3, 0, ("0.3", "0")),
        (5, 0.05, ("5.00", "0.05")),
        (62.3, 12.25, ("62.30", "12.25")),
    ],
)
def test_number_over_a_limit_is_shown_larger(
    number: float, limit: float, shown: tuple[str, str]
) -> None:
    assert exceeding(number, limit) == shown
