"""The process in which mails are parsed: it imports little, holds no secret, and may die of a mail.

Started by aogconsole.mailparser as `python -m aogconsole.mailworker LIMITS`. On standard input it gets frames
(length of 8 bytes, the mail's full size of 8 bytes, the mail), on standard output it answers each with a frame
(length of 8 bytes, JSON); the first, empty answer says that it is ready. It ends when standard input ends, so
when its parent does.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from typing import BinaryIO

from aogconsole.requests.mail import MailLimits, ParsedMail, parse_mail

MEMORY = 1 << 30
"""Bytes of address space."""


def main(parse: Callable[[bytes, MailLimits, int], ParsedMail] = parse_mail) -> None:
    """Parse mails until standard input ends."""
    settings = json.loads(sys.argv[1])
    limits = MailLimits(**settings["limits"])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    try:
        _answer(answers, b"")
        while head := requests.read(16):
            length, size = int.from_bytes(head[:8]), int.from_bytes(head[8:])
            raw = requests.read(length)
            if len(raw) < length:
                return
            _bound_time(settings["seconds"])
            _answer(answers, json.dumps(parse(raw, limits, size).to_json()).encode("ascii"))
    except (BrokenPipeError, KeyboardInterrupt):
        return


def _bound_time(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds + 1, hard))


def _answer(answers: BinaryIO, data: bytes) -> None:
    answers.write(len(data).to_bytes(8) + data)
    answers.flush()


if __name__ == "__main__":
    main()
