"""`workflow serve`: a site's start commands, each run once as a process of its own, within a limit.

A command is recorded before it is acknowledged, and a workflow begins by putting its name under the record: what is
sent twice, delivered again or taken by two servers runs once. What a killed server leaves is found by the record:
never begun, running still, ended without its event, or killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aogconsole import times
from aogconsole.errors import AogError, BrokerError, InvalidId, OutsideError
from aogconsole.ids import MousUid
from aogconsole.reingestion import messages
from aogconsole.reingestion.ingested import Command
from aogconsole.reingestion.messages import Ended, Malformed
from aogconsole.reingestion.workflows.running import ended, lives
from aogconsole.reingestion.workflows.telling import Teller
from aogconsole.tasks import unless
from aogconsole.text import clean
from backends.broker_ports import Broker, Delivery
from backends.ingest_ports import Ingest

_TAKE: Final = 5.0
"""Seconds of one wait for commands."""
_LOOK: Final = 10.0
"""Seconds between looks at what is recorded and not over."""
_PLACES: Final = 1.0
"""Seconds between looks whether what a server before this one left has ended, while it takes places."""
_LONGEST_WAIT: Final = 15.0
"""Seconds between tries while the broker or the database is away, at the most."""
_TRIES: Final = 3
"""Processes that may end without having begun their command, before it fails."""
_ID: Final = re.compile(r"[!-~]{1,200}", re.ASCII)
_GRACE: Final = 5.0
"""Seconds for what runs, after a SIGTERM; what runs on tells its end itself."""
log = logging.getLogger("aogconsole.workflow")


@dataclass(frozen=True)
class Serving:
    """What a server is to do."""

    site: str
    limit: int
    """Workflows at once."""
    workflows: Mapping[str, str]
    """A workflow's name (eventName) to the verb that runs it: `execution-block`, `calibration`."""
    program: Callable[[Command], Sequence[str]]
    """The words of the process that runs a command."""


class Server:
    """Serves one site until it is told to stop."""

    def __init__(
        self, serving: Serving, ready: Callable[[], Awaitable[None]], broker: Broker, store: Ingest, teller: Teller
    ) -> None:
        """`ready` brings the database up to date."""
        self._serving, self._ready = serving, ready
        self._broker, self._store, self._teller = broker, store, teller
        self._declared = False
        self._held: deque[Delivery] = deque()
        """Taken, and not dealt with yet."""
        self._tries: Counter[str] = Counter()
        """Processes that were started for a command and did not begin it."""
        self._running: dict[str, asyncio.Task[None]] = {}
        self._waiting: set[str] = set()
        """Recorded, and to be begun when there is a place."""
        self._left = 0
        """Workflows of this host that run and are not ours."""
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take no more."""
        self._stopping.set()
        self._changed.set()

    async def run(self) -> None:
        """Serve. Ends after `stop`, when what runs has ended or its grace is over; or with what no waiting mends."""
        await self._keep_on("the database", self._ready, 0.0, once=True)
        looking = asyncio.create_task(self._keep_on("the records", self._look, _LOOK))
        taking = asyncio.create_task(self._keep_on("the commands", self._take, 0.0))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({taking, looking, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (taking, looking, stopping):
                task.cancel()
        ends = await asyncio.gather(taking, looking, return_exceptions=True)
        if self._running:
            log.info("stopping; %d workflows run", len(self._running))
            await asyncio.wait(self._running.values(), timeout=_GRACE)
        for running in self._running.values():
            running.cancel()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _keep_on(
        self, what: str, step: Callable[[], Awaitable[None]], pause: float, *, once: bool = False
    ) -> None:
        """Repeat a step (`once`: until it succeeds); while something outside is away with growing waits, said once."""
        failures, said = 0, ""
        while not self._stopping.is_set():
            try:
                await unless(self._stopping, step())
                if self._stopping.is_set():
                    return
                if failures:
                    log.info("%s: works again", what)
                if once:
                    return
                failures, said, wait = 0, "", pause
            except OutsideError as error:
                failures += 1
                wait = min(_LONGEST_WAIT, 0.2 * 2 ** min(failures, 10))
                if str(error) != said:
                    log.warning("%s: %s", what, clean(str(error)))
                said = str(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    # ── commands ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _take(self) -> None:
        self._changed.clear()
        for command in await self._recorded():
            if command.workflow_id in self._waiting and command.owner is None and command.complete is None:
                self._start(command)
        if self._free <= 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PLACES if self._left else None):
                    await self._changed.wait()
            return
        if not self._held:
            self._held.extend(await self._asked(self._free))
        while self._held:  # one that meets an outage stays the first
            await self._handle(self._held[0])
            self._held.popleft()

    async def _asked(self, most: int) -> Sequence[Delivery]:
        site = self._serving.site
        try:
            if not self._declared:
                for line in await self._broker.declare_site(site):
                    log.info("%s", clean(line))
                self._declared = True
            return await self._broker.take(messages.command_queue(site), most, _TAKE)
        except BrokerError:
            self._declared = False  # it may have lost its queues
            raise

    async def _handle(self, delivery: Delivery) -> None:
        """Record a command, acknowledge it, run it. One that is none goes to the dead letters, and its sender hears."""
        try:
            command = self._read(delivery.body)
        except AogError as error:
            log.warning("a command is refused: %s", clean(str(error)))
            if identity := _identity(delivery.body):
                await self._teller.tell(Ended(identity, False, str(error), {}))
            await self._broker.reject(delivery)
            return
        recorded = await self._store.take(command, times.now())
        await self._broker.ack([delivery])
        if recorded.complete is not None:
            await self._tell(recorded)  # asked for again: said again
        elif recorded.owner is None:
            self._start(recorded)

    def _read(self, body: bytes) -> Command:
        start = messages.start(body)
        if start is None:
            raise Malformed("a command is of a type that this site does not have")
        if not _ID.fullmatch(start.workflow_id):
            raise Malformed(f"'{clean(start.workflow_id[:80])}' is no workflow's id")
        verb = self._serving.workflows.get(start.workflow)
        if verb is None:
            raise Malformed(f"there is no workflow {clean(start.workflow[:80])} at {self._serving.site}")
        try:
            uid = MousUid.parse(start.metadata.get("uid", ""))
        except InvalidId as error:
            raise Malformed(f"a command's metadata name no uid: {error}") from None
        return Command(start.workflow_id, self._serving.site, verb, uid.mail, start.metadata)

    # ── records ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _free(self) -> int:
        """Places for more workflows, as of the last look at the records."""
        return self._serving.limit - len(self._running) - self._left

    async def _recorded(self) -> list[Command]:
        """What is recorded and not over, the oldest first. What lives on this host and is not ours takes places too:
        a server before this one began it, and was killed."""
        commands = await self._store.open(self._serving.site)
        self._left = sum(1 for one in commands if one.workflow_id not in self._running and lives(one.owner or ""))
        return commands

    # ── workflows ────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, command: Command) -> None:
        if command.workflow_id in self._running:
            return
        if self._free <= 0:
            self._waiting.add(command.workflow_id)
            return
        self._waiting.discard(command.workflow_id)
        task = asyncio.create_task(self._run(command))
        self._running[command.workflow_id] = task
        task.add_done_callback(lambda ended: self._over(command.workflow_id, ended))

    def _over(self, workflow_id: str, ended: asyncio.Task[None]) -> None:
        self._running.pop(workflow_id, None)
        self._changed.set()
        if not ended.cancelled() and (error := ended.exception()):
            log.error("running workflow %s went wrong: %s", workflow_id, clean(repr(error)))

    async def _run(self, command: Command) -> None:
        shown = f"{command.workflow} {command.uid} ({clean(command.workflow_id)})"
        log.info("starting %s", shown)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._serving.program(command), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            log.warning("%s could not be started: %s", shown, clean(str(error)))
            return  # recorded, never begun: the next look tries again
        status = await process.wait()
        log.info("%s ended with %d", shown, status)
        self._tries[command.workflow_id] += 1
        with contextlib.suppress(OutsideError):  # the next look finds it
            recorded = await self._store.take(command, times.now())
            if recorded.owner is not None:
                await self._settle(recorded)

    async def _look(self) -> None:
        """What is recorded and not over: begun by nobody, or by a process that is no more, or ended and not told."""
        for command in await self._recorded():
            if command.workflow_id not in self._running:
                await self._settle(command)

    async def _settle(self, command: Command) -> None:
        if command.told:
            self._tries.pop(command.workflow_id, None)
        elif command.complete is not None:
            await self._tell(command)
        elif command.owner is not None:
            if lives(command.owner) is False:
                await self._lost(command, f"the workflow of {command.uid} was killed")
        elif self._tries[command.workflow_id] >= _TRIES:
            await self._lost(command, f"the workflow of {command.uid} could not be begun; its site's log says why")
        else:
            self._start(command)

    async def _lost(self, command: Command, why: str) -> None:
        """It will not say anything more: say it for it, unless it just has."""
        await self._store.end(command.workflow_id, False, why, times.now())
        await self._tell(await self._store.take(command, times.now()))

    async def _tell(self, command: Command) -> None:
        end = Ended(command.workflow_id, bool(command.complete), command.reason, command.metadata)
        await ended(end, self._store, self._teller)


def _identity(body: bytes) -> str | None:
    """The workflow id of a command that is not what it should be, where it can be read."""
    try:
        found = json.loads(body[: messages.LARGEST])
    except (ValueError, RecursionError):
        return None
    identity = found.get("workflowId") if isinstance(found, dict) else None
    return identity if isinstance(identity, str) and _ID.fullmatch(identity) else None
