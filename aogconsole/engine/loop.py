"""The engine: supervised loops over the steps, one for each thing that is waited for.

A step reads the journal, acts and records; a loop runs its step when the journal changed (by anybody) or its time
has come, and waits longer after each failure of something outside. Nothing is kept in memory that a killed engine
would miss: `recover` and the journal bring it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from aogconsole.engine.bench import LONGEST_WAIT, Bench
from aogconsole.engine.checking import Checking
from aogconsole.engine.reading import Reading
from aogconsole.engine.retention import Retention
from aogconsole.engine.sending import Sending
from aogconsole.engine.staging import OwnedElsewhere, Staging
from aogconsole.errors import ConfigError, MailLoginRefused, OutsideError, StorageError
from aogconsole.mailparser import MailParser

log = logging.getLogger("aogconsole")
WATCH = 0.2
"""Seconds between looks at whether the journal changed."""
MOST = 60.0
"""Seconds between looks, at the most, at a mailbox or host that does not answer: the operator waits for it."""
PROGRESSING = """
    select (select count(*) from request
            where state <> 'closed' and state in ('received', 'checking', 'queued', 'staging'))
         + (select count(*) from letter join request on request.id = letter.request
            where letter.state in ('draft', 'approved', 'sending') and letter.state <> 'draft'
            and (letter.state = 'sending' or request.state in ('refused', 'staged', 'failed')))
         + (select count(*) from run where keep_wanted is not null)
"""


class Engine:
    """Takes the steps, in the process that holds the engine lock."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._alarms: list[asyncio.Event] = []
        self._checking = Checking(bench)
        self._sending = Sending(bench)
        self._staging = Staging(bench, self._checking)
        self._retention = Retention(bench)
        self._read_once = asyncio.Event()

    def recover(self) -> None:
        """Put right what a killed engine left half done; before `run`."""
        self._checking.recover()
        self._sending.recover()

    async def run(self, *, until_idle: bool = False) -> None:
        """Run until cancelled, or (`until_idle`) until nothing is left that the engine could do."""
        try:
            async with MailParser() as parser, asyncio.TaskGroup() as group:
                tasks = self._start(group, Reading(self._bench, parser))
                if until_idle:
                    await self._idle()
                    for task in tasks:
                        task.cancel()
        finally:
            await self._staging.let_go()

    def _start(self, group: asyncio.TaskGroup, reading: Reading) -> list[asyncio.Task[None]]:
        async def read() -> None:
            await reading.step()
            self._read_once.set()

        async def send() -> None:
            # an engine whose mailbox is another journal's is refused before it has sent anything
            await self._staging.claim_tried.wait()
            await self._sending.step()

        # what an earlier engine told; of the other connections the steps themselves tell when they are fine
        left = self._bench.broken("retention")
        return [
            group.create_task(self._loop("mail", read, self._bench.settings.mail.poll, woken=False)),
            group.create_task(self._loop("archive", self._checking.step, 1.0)),
            group.create_task(self._loop("staging", self._staging.step, 2.0)),
            group.create_task(self._loop("outgoing", send, 1.0)),
            group.create_task(self._loop("retention", self._retention.step, 30.0, told=left)),
            group.create_task(self._watch()),
        ]

    async def _loop(
        self, name: str, step: Callable[[], Awaitable[None]], every: float, *, woken: bool = True, told: str = ""
    ) -> None:
        """Take the steps of one connection. `told`: why it is known to be broken."""
        alarm = asyncio.Event()
        if woken:
            self._alarms.append(alarm)
        failures, least = 0, min(every, 1.0)
        while True:
            alarm.clear()
            try:
                await step()
                if told and not self._bench.paused:  # who pauses has it ask nobody
                    self._bench.recovered(name, told)
                    told = ""
                failures = 0
            except OwnedElsewhere:
                raise
            except (OutsideError, ConfigError) as error:
                failures, told = failures + 1, str(error)
                least = LONGEST_WAIT if isinstance(error, MailLoginRefused) else min(every, 1.0)
                self._trouble(name, told, error.hint)
            except Exception as error:
                failures, told = failures + 1, f"unexpected: {error!r}"
                log.exception("the engine's step %s went wrong", name)
                self._trouble(name, told, "")
            if failures:
                await asyncio.sleep(max(self._bench.wait(failures - 1, 1.0, MOST), least))
            else:
                await _either(alarm, every)

    def _trouble(self, name: str, message: str, hint: str) -> None:
        log.warning("%s: %s%s", name, message, f" ({hint})" if hint else "")
        try:
            self._bench.seen(name, False, message)
        except OutsideError as error:
            log.warning("journal: %s", error)

    async def _watch(self) -> None:
        """Wake the loops when anybody, this process too, has changed the journal. Raises StorageError: it is gone."""
        journal, last = self._bench.journal, (-1, -1)
        while True:
            if journal.moved():  # a step would read mails and send letters of a past that nobody sees
                raise StorageError(f"{journal.path} is another file now, or gone", "the engine starts again with it")
            with contextlib.suppress(StorageError):  # the steps meet it too, and tell
                now = (journal.data_version(), journal.connection.total_changes)
                if now != last:
                    last = now
                    for alarm in self._alarms:
                        alarm.set()
            await asyncio.sleep(WATCH)

    async def _idle(self) -> None:
        if self._bench.inbox is not None:
            await self._read_once.wait()
        while self._bench.journal.all(PROGRESSING)[0][0] and not self._bench.paused:
            await asyncio.sleep(WATCH)


async def _either(alarm: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await alarm.wait()
    except TimeoutError:
        return
