"""Exceptions for invalid input, whose message is shown to the user without a traceback."""

from pathlib import Path


class UserError(ValueError):
    """Invalid input. The message is one sentence: the problem, its place and a remedy.

    The command line prints the message without a traceback and exits with status 1.
    """


class RefusedError(UserError):
    """A command that was rejected before it changed any file; its run does not count as failed."""


def install_hint(extra: str) -> str:
    """Return the pip command that installs an optional group of dependencies.

    The command names the checkout if the package runs from one, else the installed package.

    Args:
        extra: name of the group under ``[project.optional-dependencies]`` in pyproject.toml.
    """
    checkout = Path(__file__).resolve().parents[3]
    if not (checkout / "pyproject.toml").is_file():
        return f"pip install 'mprnet_lit[{extra}]'"
    place = "." if checkout == Path.cwd() else str(checkout)
    return f"pip install -e '{place}[{extra}]'"
