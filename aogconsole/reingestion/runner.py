"""QueueRunner (second seed): waits for a free place, takes the next message, claims its row, launches the workflow,
records it, acknowledges; a listener on `archive.events` frees the places of those that ended.

Any number of runners work on the same table and queues, on any number of machines. Each may be killed at any moment:
what it leaves behind stands in the table, with a lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta

from aogconsole.errors import NoQueue, OutsideError
from aogconsole.reingestion.feeding import Feeding
from aogconsole.reingestion.item import Queue, State
from aogconsole.reingestion.launching import Launching
from aogconsole.reingestion.listening import Listening
from aogconsole.reingestion.messages import OUR_EVENTS
from aogconsole.reingestion.reconciling import Reconciling
from aogconsole.reingestion.sending import Sending
from aogconsole.reingestion.station import PAUSED, Station, now, said
from aogconsole.tasks import cancelled, unless
from backends.reingestion_ports import Limits

log = logging.getLogger("aogconsole")
HEARTBEAT = 5.0
"""Seconds between two notes of how this runner is, at the most."""
BRIEFLY = 0.5
"""Seconds for each good-bye."""
BETWEEN_SENDS = 0.2
"""Seconds between two looks at what is due, at the least."""
REBUILD = 20.0
"""Seconds between two looks for messages that the broker lost."""
BUSY = (State.QUEUED, State.LAUNCHING, State.RUNNING)
"""Who waits for the runner to be idle waits for these. A launch that nobody can prove may wait for a person."""
NAMED = 10
"""Items named in a line of the log, at the most."""
MANY = 10_000
"""Rows looked at to see whether any may be sent."""
SOON = timedelta(seconds=30)
"""An attempt that is due within this time is waited for, too; a later one is for the runner that is there then."""


class Runner:
    """One runner, until it is stopped."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._launching = {one: Launching(station, one) for one in station.queues}
        self._feeding = {one: Feeding(station, one, self._launching[one]) for one in station.queues}
        self._reconciling = {one: Reconciling(station, one, self._launching[one]) for one in station.queues}
        self._listening = Listening(station)
        self._sending = Sending(station.outside.metadata, station.outside.broker, station.owner)
        self._rebuilt = 0.0
        self._stuck: list[Queue] = []
        """At the last look: what waits there waits for a person to free a place."""
        self._alarm = station.alarm()
        self._beat: tuple[float, object] = (0.0, None)

    def stop(self) -> None:
        """Take no more; `run` ends when what is under way is recorded, within a few seconds."""
        self._station.stop()

    async def run(self, *, until_idle: bool = False) -> None:
        """Work until `stop`, or (`until_idle`) until nothing is left to do now or soon.

        Raises OutsideError when the database, or the broker or its queues, are not there at the start and nobody waits
        for them (`until_idle`)."""
        await self._prepare(patient=not until_idle)
        station, ended = self._station, asyncio.Event()
        feeders = [self._start(f"queue {queue}", one.step) for queue, one in self._feeding.items()]
        recorders = [self._start(f"record of {queue}", one.record, ended) for queue, one in self._launching.items()]
        others = [self._start(f"looks after {queue}", one.step) for queue, one in self._reconciling.items()]
        others += [
            self._start("queues", self._have_queues),
            self._start("notes", self._keep),
            self._start("events", self._listening.step),
            self._start("changes", self._watch),
            self._start("sending", self._send),
        ]
        if until_idle:
            others.append(self._start("idle", self._stop_when_idle))
        tasks = [*feeders, *recorders, *others]
        try:
            await station.stopping.wait()
            await self._finish(feeders)
        finally:
            self.stop()
            await cancelled(tasks)

    async def _prepare(self, *, patient: bool) -> None:
        """Have the tables; and, where nobody is patient, a broker that lets us in and has its queues."""
        station, failures = self._station, 0
        while not station.stopping.is_set():
            try:
                await unless(station.stopping, station.outside.metadata.migrate())
                if not patient:
                    await unless(station.stopping, station.outside.broker.ping())
                    await unless(station.stopping, self._make_queues())
            except OutsideError as error:
                if not patient:
                    raise
                failures += 1
                station.trouble("metadata", said(error))
                await station.sleep(station.wait(failures))
            else:
                station.well("metadata")
                return

    def _start(
        self, name: str, step: Callable[[], Awaitable[None]], until: asyncio.Event | None = None
    ) -> asyncio.Task[None]:
        return asyncio.create_task(self._station.supervise(name, step, until))

    # ── how it ends ──────────────────────────────────────────────────────────────────────────────────────────

    async def _finish(self, feeders: Iterable[asyncio.Task[None]]) -> None:
        """Let claims be made and launches be recorded, but not for long; give the reservation back."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._station.pace.grace):
                await asyncio.wait(feeders)
                for one in self._launching.values():
                    await one.ended()
        for one in self._launching.values():
            one.abandon()
        goodbyes = [one.give_back() for one in self._feeding.values()]
        goodbyes += [self._note_event(), self._note(now(), "stopped")]
        await asyncio.gather(*(self._briefly(one) for one in goodbyes))

    async def _briefly(self, call: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(BRIEFLY):
                await call
        except (TimeoutError, OutsideError) as error:
            log.info("at the end: %s", error)

    # ── what else it does ────────────────────────────────────────────────────────────────────────────────────

    async def _have_queues(self) -> None:
        """Make them, and again when the broker has lost them: without ours no event is kept."""
        await self._make_queues()
        await self._station.sleep(self._station.pace.reconcile)

    async def _make_queues(self) -> None:
        """Make the queues that are not there; where we may not, the administrator does (`broker declare`)."""
        try:
            for queue in (OUR_EVENTS, *(one.messages for one in self._station.queues)):
                await self._station.outside.broker.depth(queue)
        except NoQueue:
            if not await self._sending.made_queues():
                raise

    async def _keep(self) -> None:
        """Hear whether we are paused, keep the leases of what is launched, tell how we are."""
        station, metadata = self._station, self._station.outside.metadata
        await station.refresh()
        notes = await metadata.notes()
        paused = notes.get(PAUSED)
        station.pause(on=bool(paused and paused.value.get("paused")))
        lease = station.rules.lease
        for queue in station.queues:
            ids = [one for of, one in station.launching if of is queue]
            if ids:
                await station.tracking[queue].renew(station.owner, ids, now() + lease)
        await self._note_event()
        clock, told = asyncio.get_running_loop().time(), self._told()
        if told != self._beat[1] or clock - self._beat[0] > HEARTBEAT:
            await self._note(now(), "paused" if station.paused else "running")
            self._beat = clock, told  # noted: until then each round tries, and fails as the one before
        await station.sleep(min(station.pace.poll, lease.total_seconds() / 3))

    def _told(self) -> Mapping[str, object]:
        """What the console shows of this runner and may change at any time."""
        station = self._station
        return {
            "queues": [one.value for one in station.queues],
            "places": {queue.value: one.places for queue, one in self._feeding.items()},
            "launching": len(station.launching),
            "broker": station.outside.broker.state.word,
            "troubles": dict(station.troubles),
        }

    async def _note(self, at: datetime, state: str) -> None:
        station = self._station
        key = f"runner:{station.owner.rpartition(':')[0]}"
        document = {"state": state, "owner": station.owner, **self._told(), "counted": dict(station.counted)}
        await station.outside.metadata.note(key, document, at)

    async def _note_event(self) -> None:
        station = self._station
        heard, station.last_event = station.last_event, None
        if heard is not None:
            await station.outside.metadata.note("last_event", heard, now())

    async def _watch(self) -> None:
        """Be woken when rows changed, by whomever."""
        async for what in self._station.outside.metadata.changes():
            if what == "queue":
                self._station.ring()
        await self._station.sleep(self._station.pace.poll)

    async def _send(self) -> None:
        """Send what has become due: failed ones again, and the next of a VLBA project; and what the broker lost."""
        station = self._station
        wait, clock = station.pace.poll, asyncio.get_running_loop().time()
        for queue in station.queues if not station.paused else ():
            at = now()
            due = await station.tracking[queue].due(at)
            if due is not None and due <= at:
                await self._sending.send(queue, station.rules.limits[queue])
            elif due is not None:
                wait = min(wait, (due - at).total_seconds())
        if clock - self._rebuilt > REBUILD and not station.paused:
            for queue in station.queues:
                await self._sending.rebuild(queue)
            self._rebuilt = clock
        await asyncio.sleep(BETWEEN_SENDS)
        await station.sleep(wait, self._alarm)

    # ── nothing left ─────────────────────────────────────────────────────────────────────────────────────────

    async def _stop_when_idle(self) -> None:
        if await self._idle():
            await self._say_stuck()
            self.stop()
        else:
            await self._station.sleep(self._station.pace.poll / 5)

    async def _idle(self) -> bool:
        """Whether nothing is left to do now or soon; paused, only what runs is waited for. Raises OutsideError."""
        station = self._station
        before = await self._counts()
        self._stuck = [queue for queue, of in before.items() if _stuck(of, station.rules.limits[queue])]
        for queue, of in before.items():
            takes_none = station.paused or queue in self._stuck
            if any(of[state] for state in BUSY if not (takes_none and state is State.QUEUED)):
                return False
        if not station.paused and await self._due():
            return False
        if await station.outside.broker.depth(OUR_EVENTS):
            return False
        # what was waiting at the first look may have been sent, taken and launched behind the others
        if before != await self._counts():
            return False
        held = self._listening.holding
        held += sum(one.holding for queue, one in self._feeding.items() if queue not in self._stuck)
        return not held and not any(one.busy for one in self._launching.values())

    async def _due(self) -> bool:
        """Whether something is to be sent now or soon, or to be taken."""
        for queue in self._station.queues:
            due = await self._station.tracking[queue].due(now())
            if due is not None and due <= now() + SOON and not await self._projects_stuck(queue):
                return True
            if queue not in self._stuck and await self._station.outside.broker.depth(queue.messages):
                return True
        return False

    async def _projects_stuck(self, queue: Queue) -> bool:
        """Whether no place of a project that has something due becomes free by itself."""
        limits, table, soon = self._station.rules.limits[queue], self._station.tracking[queue], now() + SOON
        if limits.per_project is None:
            return False
        active = await table.active()
        due = await table.items([State.WAITING, State.FAILED], most=MANY)
        held = Counter(row.project or "" for row in active)
        if (
            len(due) == MANY
            or any(row.state is not State.LAUNCH_UNKNOWN for row in active)
            or any(
                held[row.project or ""] < limits.per_project
                for row in due if row.not_before is None or row.not_before <= soon
            )
        ):  # fmt: skip
            return False
        self._stuck = [*{*self._stuck, queue}]
        return True

    async def _counts(self) -> dict[Queue, Counter[State]]:
        """Rows by state."""
        found: dict[Queue, Counter[State]] = {}
        for queue in self._station.queues:
            kinds = (await self._station.tracking[queue].counts()).values()
            found[queue] = sum((Counter(of_kind) for of_kind in kinds), Counter())
        return found

    async def _say_stuck(self) -> None:
        """Say what keeps the queued from being launched, where only a person, or a late event, can end it."""
        for queue in self._stuck:
            holders = [row.id for row in await self._station.tracking[queue].active()]
            shown = ", ".join(map(str, holders[:NAMED])) + (" ..." if len(holders) > NAMED else "")
            log.warning(
                "%s: what waits gets no place: launches that nobody can prove hold them (items %s);"
                " `aogconsole reingestion requeue` or `drop` decides on these", queue.messages, shown
            )  # fmt: skip


def _stuck(of: Counter[State], limits: Limits) -> bool:
    """Whether no place becomes free by itself, though rows are queued for one."""
    moves = of[State.LAUNCHING] + of[State.RUNNING]
    return bool(of[State.QUEUED]) and not moves and of[State.LAUNCH_UNKNOWN] >= limits.total
