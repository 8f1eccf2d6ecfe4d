"""Texts of files, such as names and messages, made safe to be printed."""

import re

# Control characters, those that reorder a line or are not seen, and halves of characters. The
# joiners of Indic and Persian scripts and of emoji are kept.
_UNPRINTABLE = re.compile(
    "[\0-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_LINES = re.compile(r"\n(?=  \S)")


def printable(text: str) -> str:
    r"""Return a text in one line, with what a terminal would obey written out as ``\x1b``."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def printable_lines(text: str) -> str:
    """Return a message with its list, of which each item begins with two spaces, made printable."""
    return "\n".join(map(printable, _LINES.split(text)))
