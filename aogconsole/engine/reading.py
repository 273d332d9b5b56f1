"""Reading the mailbox: every mail that was not seen before goes to the mail room."""

from __future__ import annotations

from aogconsole import mailroom
from aogconsole.engine.bench import Bench
from aogconsole.errors import OutsideError
from aogconsole.mailparser import MailParser

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
        try:
            async for mail in bench.inbox.unseen(self._known, bench.journal.meta(key)):
                if mailroom.before(bench.settings.mail.since, mail.received_at):
                    self._known.add(mail.source)
                    continue
                parsed = await self._parser.parse(mail.raw, mail.size)
                with bench.journal.transaction():
                    bench.room.take(mail.source, mail.received_at, mail.raw, parsed)
                    bench.journal.set_meta(key, mail.source)
                self._known.add(mail.source)
        except OutsideError as error:
            bench.seen("mail", False, str(error))
            raise
        bench.seen("mail", True, "")
