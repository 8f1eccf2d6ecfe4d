"""MkDocs hooks: the configuration reference, and links to files outside the docs."""

import posixpath
import re
from pathlib import Path

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from mprnet_lit.config.groups import about, file_settings, package
from mprnet_lit.config.schema import KEYS
from mprnet_lit.config.values import section_rules

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
REFERENCE = "reference/configuration.md"
INTRODUCTION = """# Configuration reference

All files of `conf/`, by group. `GROUP=OPTION` selects an option of a group, and `KEY=VALUE` sets a
key. `mprnet_lit MODE --help` lists the keys of a mode. The flag `--cfg job` prints the composed
configuration of a command.

A key without a type belongs to a class of another library. A default `${...}` refers to another key
or calls a resolver. A key with the default `???` must be set, by another option or on the command
line. A value of the wrong type, or outside the listed values, is refused before the mode starts.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the configuration reference."""
    files.append(File.generated(config, REFERENCE, content=configuration()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace each link to a file outside the docs, which would be broken, with its text.

    A link to the folder of the configuration becomes a link to the configuration reference.
    """
    folder = posixpath.dirname(page.file.src_uri)

    def shown(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[2]))
        if target == "../conf":
            return f"[{link[1]}]({posixpath.relpath(REFERENCE, folder or '.')})"
        return f"`{link[1]}`" if target.startswith("../") else link[0]

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
    """Return the reference of one file: its description, its base files and its keys."""
    content = [f"### {title}", ""]
    for line in about(path):
        content += [f"```sh\n{line}\n```" if line.startswith("python -m") else line]
    values = {row.key: row.value for row in file_settings(path)}
    bases = yaml.safe_load(values.pop("defaults", "[]"))
    if bases := [base for base in bases if not str(base).startswith(("/schema/", "_self_"))]:
        flow = yaml.safe_dump(bases, default_flow_style=True, width=10_000, sort_keys=False)
        content += ["", f"Builds on `{flow.strip()}`."]
    if values:
        content += ["", "| key | type | default | values | description |", "|---|---|---|---|---|"]
    for row in file_settings(path):
        if row.key != "defaults":
            parent = row.key.rpartition(".")[0]
            target = values.get(f"{parent}._target_".lstrip("."), "")
            cells = [f"`{package(path)}{row.key}`", *_type(package(path) + row.key, target)]
            cells[2:2] = [f"`{row.value}`"]
            content += [f"| {' | '.join(map(_cell, [*cells, row.comment]))} |"]
    return "\n".join([*content, ""])


def _type(key: str, target: str) -> tuple[str, str]:
    """Return the type of a key and a description of the values that it accepts.

    Args:
        key: dotted key.
        target: value of ``_target_`` in the same section.
    """
    section, _, name = key.rpartition(".")
    rule = section_rules(section, target).get(name)
    words = rule.words if rule else ""
    if key not in KEYS:
        return "", words
    hint = KEYS[key].type
    shown = hint.__name__ if isinstance(hint, type) else str(hint)
    shown = shown.replace("None", "null").replace("typing.", "").replace("Any", "any")
    return f"`{shown}`", KEYS[key].rule.words if KEYS[key].rule else words


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
