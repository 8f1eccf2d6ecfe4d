"""What MkDocs does besides: the configuration reference, and links that lead out of the docs."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from mprnet_lit.config.groups import about, file_settings

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
REFERENCE = "reference/configuration.md"
INTRODUCTION = """# Configuration reference

Every file of `conf/`, as it is: `GROUP=OPTION` takes one, `KEY=VALUE` changes a key (quoted for the
shell where it holds brackets or spaces). `mprnet_lit MODE --help` lists a mode's settings; with
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
    parts = [INTRODUCTION]
    for folder in sorted({path.parent for path in CONF.rglob("*.yaml")}):
        name = "mode" if folder == CONF else folder.relative_to(CONF).as_posix()
        parts.append(f"\n## {name}\n")
        for path in sorted(folder.glob("*.yaml"), key=lambda path: (path.stem[0] == "_", path)):
            shared = path.stem.startswith("_")
            title = f"Shared: {path.stem[1:]}" if shared else f"{name}={path.stem}"
            parts.append(_section(path, title))
    return "\n".join(parts)


def _section(path: Path, title: str) -> str:
    """Return one file: what it says of itself, what it builds on, its keys."""
    text = [f"### {title}", ""]
    for line in about(path):
        text += [f"```sh\n{line}\n```" if line.startswith("python -m") else line]
    rows = file_settings(path)
    builds = [row.value for row in rows if row.key == "defaults"]
    if builds:
        text += ["", f"Builds on `{builds[0]}`."]
    rows = [row for row in rows if row.key != "defaults"]
    if rows:
        text += ["", "| key | value | |", "|---|---|---|"]
        text += [f"| `{r.key}` | `{_cell(r.value)}` | {_cell(r.comment)} |" for r in rows]
    return "\n".join([*text, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
