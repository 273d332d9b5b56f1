"""Several mails in one stream, as Unix has it: each begins with a line `From SENDER DATE` (mboxrd)."""

from __future__ import annotations

import re
from collections.abc import Sequence

_BEGIN = re.compile(
    rb"(?:\A|\n\r?\n)From \S+ +[A-Z][a-z]{2} [A-Z][a-z]{2} +[0-9]{1,2} [0-9:]{5,8}(?: \S+)? [0-9]{4}[^\n]*\n"
)
_QUOTED = re.compile(rb"^>(?=>*From )", re.MULTILINE)
_UNQUOTED = re.compile(rb"^(?=>*From )", re.MULTILINE)


def join(mails: Sequence[bytes]) -> bytes:
    """The mails in one stream that `split` takes apart."""
    begin = b"From MAILER-DAEMON Thu Jan  1 00:00:00 1970\n"
    return b"".join(begin + _UNQUOTED.sub(b">", mail) + b"\n" for mail in mails)


def split(stream: bytes) -> list[bytes]:
    """The mails of a stream; one that does not begin like a mailbox is one mail, as it is."""
    begins = list(_BEGIN.finditer(stream))
    if not begins or begins[0].start() != 0:
        return [stream]
    ends = [begin.start() + 1 for begin in begins[1:]] + [len(stream) - stream.endswith(b"\n\n")]
    return [_QUOTED.sub(b"", stream[begin.end() : end]) for begin, end in zip(begins, ends, strict=True)]
