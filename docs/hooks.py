"""What MkDocs does besides: the configuration reference, and links that lead out of the docs."""

import posixpath
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
REFERENCE = "reference/configuration.md"
INTRODUCTION = """# Configuration reference

Every file of `conf/`, as it is: `GROUP=OPTION` takes one, `KEY=VALUE` changes a key (quoted for the
shell where it holds brackets or spaces). `python -m mprnet_lit --help` lists the groups; with
`--cfg job` a command shows what it comes to and runs nothing. A value of `${...}` is another key's,
or that of a function which looks at the machine; `???` has to be given.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the configuration reference."""
    files.append(File.generated(config, REFERENCE, content=configuration()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show the names of files outside of the docs instead of links that would lead nowhere."""
    folder = posixpath.dirname(page.file.src_uri)

    def shown(link: re.Match[str]) -> str:
        outside = posixpath.normpath(posixpath.join(folder, link[2])).startswith("../")
        return f"`{link[1]}`" if outside else link[0]

    return re.sub(r"\[([^\]]+)\]\((\.\./[^)]*)\)", shown, markdown)


def configuration() -> str:
    """Return the reference of all configuration files, in Markdown."""
    parts = [INTRODUCTION, _section(CONF / "config.yaml", "The base: `conf/config.yaml`")]
    for group in sorted({path.parent for path in CONF.rglob("*.yaml")} - {CONF}):
        name = group.relative_to(CONF).as_posix()
        parts.append(f"\n## {name}\n")
        for path in sorted(group.glob("*.yaml")):
            shared = path.stem.startswith("_")
            title = f"### Shared: {path.stem[1:]}" if shared else f"### {name}={path.stem}"
            parts.append(_section(path, title))
    return "\n".join(parts)


def _section(path: Path, title: str) -> str:
    """Return one file: what it says of itself, what it builds on, its keys."""
    lines = path.read_text().splitlines()
    top = [line for line in _leading(lines) if not line.startswith("@package")]
    root = yaml.compose(path.read_text())
    text = [title if title.startswith("#") else f"## {title}", ""]
    for line in top:
        text += [f"```sh\n{line}\n```" if line.startswith("python -m") else line]
    rows = [] if root is None else list(_rows(root, lines, ()))
    builds = [row[1] for row in rows if row[0] == "defaults"]
    if builds:
        text += ["", f"Builds on `{builds[0]}`."]
    rows = [row for row in rows if row[0] != "defaults"]
    if rows:
        text += ["", "| key | value | |", "|---|---|---|"]
        text += [f"| `{key}` | `{_cell(value)}` | {_cell(what)} |" for key, value, what in rows]
    return "\n".join([*text, ""])


def _leading(lines: list[str]) -> list[str]:
    """Return the comments at the top: they are about the whole file."""
    return [line.strip("# ") for line in takewhile(lambda line: line.startswith("#"), lines)]


def _rows(
    node: yaml.Node, lines: list[str], path: tuple[str, ...]
) -> Iterator[tuple[str, str, str]]:
    """Yield each key, its value and the comment above or beside it."""
    assert isinstance(node, yaml.MappingNode)
    for key, value in node.value:
        name, line = (*path, str(key.value)), key.start_mark.line
        if isinstance(value, yaml.MappingNode) and not value.flow_style and value.value:
            yield from _rows(value, lines, name)
            continue
        source = yaml.serialize(value)
        shown = yaml.safe_load(source)
        flow = yaml.safe_dump(shown, default_flow_style=True, width=10_000, sort_keys=False)
        text = str(value.value) if isinstance(value, yaml.ScalarNode) else flow.strip()
        yield ".".join(name), " ".join(text.split()), _comment(lines, line)


def _comment(lines: list[str], line: int) -> str:
    """Return the comment above a line, unless it is the file's own, and that beside it."""
    above = list(takewhile(lambda text: text.lstrip().startswith("#"), reversed(lines[:line])))
    if len(above) == line:
        above = []
    beside = re.search(r"\s#\s(.*)$", lines[line])
    return " ".join(
        [*(text.strip(" #") for text in reversed(above)), *(beside.groups() if beside else ())]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
