"""Masking of credentials and home folders in settings, commands and messages."""

import os
import re
from collections.abc import Iterator
from typing import Any

from mprnet_lit.utils.short_texts import cache_short

HIDDEN = "***"
_WORDS = {"auth", "bearer", "cookie", "cookies", "key", "pass", "pwd", "sig", "signature"}
_ENDINGS = (
    *("password", "passwords", "passwd", "passphrase", "secret", "secrets", "token", "apikey"),
    *("accesskey", "authorization", "authorisation", "credential", "credentials"),
)
_PARTS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
# _URI and _NAME have bounded repeats and start at a word boundary, so that a search is linear.
_URI = re.compile(r"""(?<![\w+.-])([A-Za-z][\w+.-]{0,30}://)(?:[^\s/'"]{1,2000}|[^\s/:@'"]{1,100}:
    (?!\d{1,5}(?:/|$))[^\s'"]{1,2000})@""", re.VERBOSE)  # fmt: skip
_NAME = re.compile(r"""(?<![\w.-])([\w.-]{1,200})(["']?)\s?([=:])\s?""")
# Interpolations and the placeholder "VALUE" of error messages are not masked. An unterminated
# quoted value extends to the end of the text, a list or mapping to the last bracket.
_VALUE = re.compile(
    r"""(?!\$\{[^{}]{0,100}\}(?:["'\s,]|$))(?!VALUE[]"')}]*[.,:;]?(?:\s|\Z))"""
    r"""(?:(?i:Bearer|Basic|Digest|Token)\s)?"""
    r"""(?:"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)|'[^'\\]*(?:\\.[^'\\]*)*(?:'|\Z)"""
    r"""|[\[{].*[\]}]|[\[{].*|[^\s,;&}\])"']+)""",
    re.DOTALL,
)
_OVERRIDE = re.compile(r"([+~]{0,2}[\w./@-]{1,200}=)(.+)", re.DOTALL)
_ENVIRONMENT = re.compile(r"\$\{oc\.env:\w+(,null)?\}")
_HOMES = re.compile(
    r"""(?<![\w.~-])(?:/(?:home|Users)/[^/\s'":,;]+|/root(?![\w.-])|[A-Za-z]:\\{1,2}Users\\{1,2}[^\\\s'":,;]+)"""
)


@cache_short
def is_secret(key: str) -> bool:
    """Return whether a dotted key looks like a credential, such as ``logger.api_key``."""
    words = [word.lower() for word in _PARTS.findall(key)]
    return any(word in _WORDS or word.endswith(_ENDINGS) for word in words)


@cache_short
def mask_text(text: str) -> str:
    """Mask the credentials in an override, command or message.

    Credentials are passwords in URIs and values of secret keys, as in ``+api_key=1234``.
    """
    override = _OVERRIDE.fullmatch(text)
    if override and is_secret(override[1]):
        return text if _ENVIRONMENT.fullmatch(override[2]) else f"{override[1]}{HIDDEN}"
    return _mask_values(_URI.sub(rf"\1{HIDDEN}@", text))


def mask(value: Any, key: str = "") -> Any:
    """Return a copy of the settings under a dotted key, with masked credentials."""
    if isinstance(value, dict):
        return {k: mask(child, f"{key}.{k}") for k, child in value.items()}
    if isinstance(value, list):
        return [mask(child, key) for child in value]
    if value is None or isinstance(value, bool):
        return value
    if is_secret(key) and not _ENVIRONMENT.fullmatch(str(value)):
        return HIDDEN
    return mask_text(value) if isinstance(value, str) else value


def find_secrets(value: Any, key: str = "") -> Iterator[str]:
    """Yield the string values of secret keys, to mask copies of them under other keys."""
    if isinstance(value, dict | list):
        for name, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from find_secrets(child, f"{key}.{name}")
    elif isinstance(value, str) and len(value) > 3 and is_secret(key):
        yield value


def mask_home_folders(text: str) -> str:
    """Replace the home folders of all users with ``~``."""
    if "/" not in text and "\\" not in text:
        return text
    own = os.path.expanduser("~")  # noqa: PTH111  # Path.home() raises for a user without a home folder
    if len(own) > 1:
        text = re.sub(rf"{re.escape(own)}(?![\w.-])", "~", text)
    return _HOMES.sub("~", text)


def may_contain_secrets(text: str) -> bool:
    """Return whether a settings file may need masking, in a fast check with false positives."""
    words = set(re.findall(r"[\w.-]{1,200}", text))
    return bool(_URI.search(text)) or any(map(is_secret, words))


def _mask_values(text: str) -> str:
    """Mask the values of secret keys, as in ``token=1234`` or ``password: 1234``."""
    parts, end = [], 0
    for found in _NAME.finditer(text):
        name, quote, sign = found.groups()
        before = set(text[max(found.start() - 2, 0) : found.start()])
        # "there is no key: ..." is a sentence, {key: ...} is a setting.
        is_sentence = sign == ":" and name.lower() in _WORDS and not (quote or before & set("{,"))
        if found.start() < end or is_sentence or not is_secret(name):
            continue
        if value := _VALUE.match(text, found.end()):
            parts += [text[end : found.end()], HIDDEN]
            end = value.end()
    return "".join((*parts, text[end:]))
