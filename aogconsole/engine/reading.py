"""Reading the mailbox: every mail that was not seen before goes to the mail room."""

from __future__ import annotations

import logging

from aogconsole import mailroom
from aogconsole.engine.bench import Bench
from aogconsole.errors import OutsideError
from aogconsole.mailparser import MailParser
from aogconsole.requests.mail import salvage
from backends.ports import RawMail

log = logging.getLogger("aogconsole")
KNOWN = "select source from mail where source glob ?"


class Reading:
    """The intake step. Keeps the parser's worker process between looks."""

    def __init__(self, bench: Bench, parser: MailParser) -> None:
        self._bench = bench
        self._parser = parser
        self._known: set[str] | None = None

    async def step(self) -> None:
        """Look into the mailbox once and take everything new."""
        bench = self._bench
        if bench.inbox is None or bench.paused:
            return
        kind = bench.inbox.name.partition(":")[0].removesuffix("s") + ":"
        if self._known is None:
            rows = bench.journal.all(KNOWN, kind + "*")
            self._known = {row["source"] for row in rows}
        key = f"cursor {bench.inbox.name}"
        last = cursor = bench.journal.meta(key)
        try:
            async for mail in bench.inbox.unseen(self._known, cursor):
                if not mailroom.before(bench.settings.mail.since, mail.received_at):
                    await self._take(mail)
                self._known.add(mail.source)
                last = mail.source
        except OutsideError as error:
            bench.seen("mail", False, str(error))
            raise
        if last != cursor:  # only now: what could not be read lies behind it, and is tried again
            with bench.journal.transaction():
                bench.journal.set_meta(key, last)
        bench.seen("mail", True, "")

    async def _take(self, mail: RawMail) -> None:
        """Take one mail; where its text trips us up, a person gets what its headers say."""
        room, parsed = self._bench.room, await self._parser.parse(mail.raw, mail.size)
        try:
            room.take(mail.source, mail.received_at, mail.raw, parsed)
        except OutsideError:
            raise
        except Exception as error:
            log.exception("taking the mail %s went wrong", mail.source)
            parsed = salvage(mail.raw, mail.size, f"taking it went wrong: {error!r}")
            room.take(mail.source, mail.received_at, mail.raw, parsed)
