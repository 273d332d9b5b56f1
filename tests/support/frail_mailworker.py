"""A mail worker that is broken on purpose: it dies of any mail that holds the word "deadly"."""

from __future__ import annotations

import os
import signal

from aogconsole import mailworker
from aogconsole.requests.mail import MailLimits, ParsedMail, parse_mail


def parse(raw: bytes, limits: MailLimits, size: int) -> ParsedMail:
    """Read a mail, or die of it."""
    if b"deadly" in raw:
        os.kill(os.getpid(), signal.SIGKILL)
    return parse_mail(raw, limits, size)


if __name__ == "__main__":
    mailworker.main(parse)
