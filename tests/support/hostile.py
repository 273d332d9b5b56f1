"""A text that would act on a terminal in every way, and the search for what of it has reached one."""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Iterator

NUMBER = "1337"
"""In each of its sequences, and in none of ours: no screen is as wide, no colour as high."""
HOSTILE = (
    f"EVIL\x1b[{NUMBER}m\x1b]0;{NUMBER}\x07\x1b]52;c;MTMzNw==\x07\x1b[{NUMBER}J\x1bP{NUMBER}\x1b\\\x9b{NUMBER}m\x9d0;{NUMBER}\x9c"
    "\x00\x08\x0b\x0c\x0e\x7f\u202e\u200b\u2066\ufeff[bold red][@click=app.quit]quit[/] LIVE"
)
"""Without line ends: those end a line."""
SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]P^_X](?:[^\x07\x1b]|\x1b(?!\\))*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]|\x1b"
)
TITLE = re.compile(r"\x1b\]0;(! )?AOG console: \d+ need you, \d+ open\x07")
COPY = re.compile(r"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07")
POINTER = re.compile(r"\x1b\]22;[a-z-]+\x07")
PLAIN = re.compile(r"\x1b(\[[<=>?]?[\d;:]*\$?[ABCDHJKLMPXdhlmnpqrtu@]|[78=>M]|\([0B])")
"""What a screen is painted with."""


def sequences(raw: bytes) -> Iterator[str]:
    """Every escape sequence that a terminal received."""
    for found in SEQUENCE.finditer(raw.decode("utf-8", "replace")):
        yield found[0]


def acting(raw: bytes) -> list[str]:
    """What of a terminal's bytes is not ours to send: another's sequences, control and format characters."""
    text = raw.decode("utf-8", "replace")
    wrong = [one for one in sequences(raw) if NUMBER in one or not any(
        form.fullmatch(one) for form in (PLAIN, TITLE, COPY, POINTER)
    )]  # fmt: skip
    rest = SEQUENCE.sub("", text)
    allowed = {"\r", "\n", "\a"}
    return wrong + sorted({one for one in rest if unicodedata.category(one) in ("Cc", "Cf") and one not in allowed})


def copied(raw: bytes) -> list[str]:
    """What was given to the terminal's clipboard, decoded."""
    return [base64.b64decode(one[1]).decode() for one in COPY.finditer(raw.decode("utf-8", "replace"))]


def unsafe_text(text: str) -> list[str]:
    """The characters of a text file that would act on a terminal; line ends and tabs do not."""
    return sorted({one for one in text if unicodedata.category(one) in ("Cc", "Cf") and one not in "\n\t"})
