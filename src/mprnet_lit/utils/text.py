"""Text for people: escaped file names and messages for the terminal, and numbers over limits."""

import io
import math
import re
import sys

# Control characters, bidirectional formatting characters, invisible characters and surrogates. The
# joiners of Indic and Persian scripts and of emoji are allowed.
_UNPRINTABLE = re.compile(
    "[\0-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_LINES = re.compile(r"\n(?=  \S)")


def printable(text: str) -> str:
    r"""Return a text in one line, with its control characters escaped (such as ``\x1b``)."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def printable_lines(text: str) -> str:
    """Escape a message, but keep the line breaks of its list (items are indented by two spaces)."""
    return "\n".join(map(printable, _LINES.split(text)))


def exceeding(number: float, limit: float) -> tuple[str, str]:
    """Return a number and a smaller limit as text, with enough decimals to tell them apart.

    There are at most nine decimals. The limit is accurate to 0.1%.
    """
    for decimals in range(1, 10):
        shown, bound = f"{number:.{decimals}f}", f"{limit:.{decimals}f}"
        if shown != bound and math.isclose(float(bound), limit, rel_tol=1e-3, abs_tol=1e-6):
            break
    return shown, bound.rstrip("0").rstrip(".")


def escape_unencodable() -> None:
    """Escape characters that the encoding of the standard output lacks, instead of failing.

    On Windows, an output that is redirected to a file or a pipe often has 256 characters.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
