"""The sanitizer: everything from outside passes here before it is shown, printed or copied.

Control, format and separator characters reach a terminal from every widget and every `print` (reliability
trap 4); here they become visible text. `clean` is for one line, `clean_lines` keeps line ends and tabs.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

# Unicode's Cc, Cf, Zl, Zp and Cs, written out: scanning the whole range at start-up costs 0.1 s. A test compares.
_UNSAFE = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f\ud800-\udfff"
)
_IN_LINES = _UNSAFE.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f")  # all but \t and \n


@functools.cache
def _one_of(signs: str) -> re.Pattern[str]:
    """Compiled when it is needed: most starts meet nothing unsafe."""
    return re.compile(f"[{signs}]")


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def clean(text: str) -> str:
    """One line, safe for a terminal: an escape character is shown as `\\x1b`, a line end as `\\x0a`."""
    return text if text.isprintable() else _one_of(_UNSAFE).sub(_escape, text)


def ascii_only(text: str) -> str:
    """A word in ASCII: a letter of another script that looks the same is seen to be another."""
    return clean(text).encode("ascii", "backslashreplace").decode()


def clean_lines(text: str) -> str:
    """Text of many lines, safe for a terminal: line ends (CR LF too) and tabs stay."""
    return _one_of(_IN_LINES).sub(_escape, text.replace("\r\n", "\n"))


def pasted(text: str) -> str:
    """Pasted text with line ends that are LF, and safe.

    A terminal pastes a line end as CR. tmux makes one of each LF, so that CR LF comes as CR CR: told by there being no
    other runs of CR, and one for the empty line that ends a mail's headers.
    """
    text = text.replace("\r\n", "\n")
    runs = [] if "\n" in text else re.findall("\r+", text)
    double = any(len(run) >= 4 for run in runs) and not any(len(run) % 2 for run in runs)
    return clean_lines(text.replace("\r\r" if double else "\r", "\n"))


def decode(output: bytes) -> str:
    """Bytes of a program's output as text: UTF-8, and what is not is shown as `\\xff`. Not yet clean."""
    return output.decode("utf-8", "backslashreplace")


def columns(heads: Sequence[str], rows: Sequence[Sequence[str | None]]) -> list[str]:
    """A table as lines, made safe; the last column is not padded."""
    shown = [[clean(cell or "") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *shown, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in [heads, *shown]]
