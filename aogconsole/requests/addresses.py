"""Mail addresses: which texts are one, and which are on a list.

An address is checked once, strictly, before it goes into a header or an envelope: what passes holds no control
character, comma, bracket, quote or blank, so that it can never become two, nor a header of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from aogconsole.errors import InvalidId
from aogconsole.text import clean

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_LONGEST = 254


def is_address(text: str) -> bool:
    """Whether the text is one bare ASCII address, `local@domain`, of at most 254 characters."""
    return len(text) <= _LONGEST and _ADDRESS.fullmatch(text) is not None and "=?" not in text


def checked_address(text: str) -> str:
    """The text, when it is an address; raises InvalidId."""
    if is_address(text):
        return text
    shown = "'" + clean(text[:80]) + "'"
    if not text.isascii():
        raise InvalidId(
            f"{shown} is an internationalised mail address, which letters cannot go to",
            "use an address of ASCII characters only",
        )
    raise InvalidId(f"{shown} is not a mail address", "a mail address looks like name@example.org, without a name")


def matches(address: str, patterns: Iterable[str]) -> bool:
    """Whether the whole address is on a list of patterns such as `*@eso.org`; upper and lower case are the same."""
    return is_address(address) and any(fnmatchcase(address.lower(), pattern.lower()) for pattern in patterns)


def distinct(addresses: Iterable[str], without: Iterable[str] = ()) -> tuple[str, ...]:
    """The addresses in order, each once whatever its case, and none of `without`."""
    seen = {address.lower() for address in without}
    kept = []
    for address in addresses:
        if address.lower() not in seen:
            seen.add(address.lower())
            kept.append(address)
    return tuple(kept)
