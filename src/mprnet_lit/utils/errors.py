"""The one error type meant for people rather than programmers."""

from pathlib import Path


class UserError(ValueError):
    """Bad input: one clear sentence saying what is wrong, where, and what to do.

    The command line prints the message without a traceback and exits with status 1.
    """


class RefusedError(UserError):
    """A command that was refused before it changed anything; it is not a failure of its run."""


def install_hint(extra: str) -> str:
    """Return the command that installs an optional group of dependencies.

    In a checkout, it names the checkout. From a wheel, pip takes the extra of the package that is
    installed.

    Args:
        extra: name under ``[project.optional-dependencies]`` in pyproject.toml.
    """
    checkout = Path(__file__).resolve().parents[3]
    if not (checkout / "pyproject.toml").is_file():
        return f"pip install 'mprnet_lit[{extra}]'"
    place = "." if checkout == Path.cwd() else str(checkout)
    return f"pip install -e '{place}[{extra}]'"
