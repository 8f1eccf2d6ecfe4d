"""Commands and code of the documentation, page by page, from top to bottom."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = tuple(
    path.relative_to(ROOT).as_posix()
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        *sorted(ROOT.glob("docs/**/*.md")),
        *sorted(ROOT.glob("conf/*/*.yaml")),
    )
)
BLOCK = re.compile(
    r"(?:`(?P<file>[\w/]+\.(?:py|yaml))`:\n\n)?^```(?P<kind>sh|python|yaml)\n(?P<text>.*?)^```$",
    re.M | re.S,
)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`")


@dataclass(frozen=True)
class Step:
    """Command line, Python code, or file to write."""

    kind: str
    text: str
    file: str = ""


def steps(page: str) -> list[Step]:
    """Return the steps of a page: first the code blocks, then the inline commands."""
    text = (ROOT / page).read_text()
    if page.endswith(".yaml"):
        return [Step("sh", line) for line in re.findall(r"^# (python -m .+)$", text, re.M)]
    found = [step for match in BLOCK.finditer(text) for step in _block(**match.groupdict())]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    inline = (code for code in INLINE.findall(prose) if re.match(r"(make [a-z]|python -m )", code))
    return [*found, *(Step("sh", code) for code in inline)]


def _block(file: str | None, kind: str, text: str) -> Iterator[Step]:
    if file:
        yield Step("file", text, file)
    elif kind == "sh":
        yield from (Step("sh", line) for line in _lines(text))
    elif kind == "python":
        yield Step("python", text)


def _lines(text: str) -> list[str]:
    """Return the command lines of a block, with continuation lines joined."""
    text = text.replace("\\\n", " ")
    whole = r"^[^\n]*<<'EOF'\n.*?^EOF$|^[^#\n][^\n]*$"
    return [match.group() for match in re.finditer(whole, text, re.M | re.S)]


def words(line: str) -> list[str]:
    """Split a command line like the shell."""
    return shlex.split(line, comments=True)


@cache
def new_steps() -> dict[str, tuple[Step, ...]]:
    """Return the steps of each page that are not on an earlier page.

    ``mode=prepare`` is always repeated, because the following steps of a page need the store.
    """
    seen: set[tuple[str, ...]] = set()
    found: dict[str, tuple[Step, ...]] = {}
    for page in PAGES:
        new = []
        for step in steps(page):
            key = (step.kind, *(words(step.text) if step.kind == "sh" else (step.text,)))
            if key not in seen or "mode=prepare" in step.text:
                new.append(step)
            seen.add(key)
        if new:
            found[page] = tuple(new)
    return found
