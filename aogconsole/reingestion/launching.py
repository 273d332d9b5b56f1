"""Launching what is claimed, side by side; recording what came of it; then acknowledging the messages.

What is recorded is taken as it comes: all results that wait go into one transaction, so a slow launch holds up
nobody else's record, and many quick ones cost few commits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from aogconsole.errors import BrokerError, ConfigError, OutsideError
from aogconsole.reingestion.item import Change, Item, Queue, State, failed, given_back, running, unproved
from aogconsole.reingestion.station import Station, now, sentence
from aogconsole.text import clean
from backends.broker_ports import Delivery
from backends.reingestion_ports import Launch

log = logging.getLogger("aogconsole")
SIDE_BY_SIDE = 32
"""Launches under way at once, at the most."""
UNSERVED = timedelta(minutes=1)
"""Before an item of a site that takes no commands is tried again, at the least."""
RECORDED = 500
"""Results in one transaction, at the most."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a launch, to be recorded; then its messages are spent."""

    change: Change
    spent: tuple[Delivery, ...]


class Launching:
    """Launches one queue's claimed items."""

    def __init__(self, station: Station, queue: Queue) -> None:
        self._station = station
        self._queue = queue
        self._table = station.tracking[queue]
        self._places = asyncio.Semaphore(SIDE_BY_SIDE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._results: asyncio.Queue[Result] = asyncio.Queue()
        self._unrecorded: list[Result] = []
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.busy = 0
        """Items that are launched, or whose launch is not recorded yet."""

    def begin(
        self, items: Sequence[Item], messages: Mapping[int, tuple[Delivery, ...]], misread: Mapping[int, str]
    ) -> None:
        """Launch items that this runner has claimed; `messages`: what is spent then, by item; `misread`: what is wrong
        with the message of one that must not be launched."""
        for item in items:
            self._station.launching[self._queue, item.id] = item
            self._quiet.clear()
            self.busy += 1
            task = asyncio.create_task(self._launch(item, messages.get(item.id, ()), misread.get(item.id, "")))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def ended(self) -> None:
        """Wait until all that was begun is recorded."""
        await self._quiet.wait()

    def abandon(self) -> None:
        """End what is still under way; whoever finds its lease run out looks what became of it."""
        for task in self._tasks:
            task.cancel()

    async def _launch(self, item: Item, spent: tuple[Delivery, ...], misread: str) -> None:
        async with self._places:
            change = self._failed(item, misread) if misread else await self._change(item)
        self._results.put_nowait(Result(change, spent))

    async def _change(self, item: Item) -> Change:
        """Launch it, and say what that means for its row."""
        station, by = self._station, self._station.owner
        why, after = "launched", running(item)
        try:
            start, site = station.outside.start_of(item, self._queue)
            async with asyncio.timeout(station.pace.launching):
                answer = await station.outside.launcher.launch(start, site)
        except OutsideError as error:  # by the port's contract it did not start, and the item is not to blame
            return self._back(item, error)
        except ConfigError as error:
            answer = Launch("refused", f"{error}")
        except TimeoutError:
            answer = Launch("unknown", "the launcher did not answer")
        except Exception as error:
            log.exception("launching item %s went wrong", item.id)
            answer = Launch("unknown", f"unexpected: {error!r}")
        if answer.outcome == "refused" and station.blind and station.outside.broker.state.word != "connected":
            return self._back(item, BrokerError(answer.why))
        if answer.outcome == "started":
            station.launcher_works()
            station.well(f"commands for {clean(site)}")
        elif answer.blameless:
            station.launcher_refused()
            why = sentence(answer.why, "its site does not take it")
            station.trouble(f"commands for {clean(site)}", why)
            return Change(item, given_back(item, why, now() + max(station.rules.retry_delay, UNSERVED)), by, why)
        elif answer.outcome == "refused":
            station.launcher_refused()
            return self._failed(item, sentence(answer.why, "the launcher refused it"))
        else:
            why = sentence(answer.why, "it may or may not have been launched")
            after = unproved(item, why)
        return Change(item, after, by, why)

    def _failed(self, item: Item, why: str) -> Change:
        rules, by = self._station.rules, self._station.owner
        return Change(item, failed(item, why, now(), rules.attempts, rules.retry_delay), by, why)

    def _back(self, item: Item, error: OutsideError) -> Change:
        """It was not launched because of what is no item's fault: the attempt does not count."""
        self._station.launcher_failed(error)
        why = sentence(str(error), "the launcher does not work")
        back = given_back(item, why, now() + self._station.rules.retry_delay)
        return Change(item, back, self._station.owner, why)

    # ── the record ───────────────────────────────────────────────────────────────────────────────────────────

    async def record(self) -> None:
        """Record the next results, once there are any; spend their messages. Raises OutsideError: they are kept."""
        if not self._unrecorded:
            self._unrecorded.append(await self._results.get())
        while len(self._unrecorded) < RECORDED and not self._results.empty():
            self._unrecorded.append(self._results.get_nowait())
        results = self._unrecorded[:]
        made = await self._move([one.change for one in results])
        self._unrecorded = []
        self.busy -= len(results)
        for one in results:
            self._station.launching.pop((self._queue, one.change.before.id), None)
        self._station.counted.update(f"{one.state} at launch" for one in made)
        try:
            await self._station.outside.broker.ack([message for one in results for message in one.spent])
        finally:
            if not self.busy:
                self._quiet.set()
            if any(one.state is not State.RUNNING for one in made):
                self._station.ring()

    async def _move(self, changes: Sequence[Change]) -> list[Item]:
        """Record; a row that is not as it was has been ended by its event meanwhile, or was given up by another."""
        made = await self._table.move(changes, now())
        if len(made) == len(changes):
            return made
        recorded = {one.id for one in made}
        missed = {one.before.id: one for one in changes if one.before.id not in recorded}
        again = []
        for row in await self._table.get(list(missed)):
            change = missed[row.id]
            if _doubted(row, change):
                again.append(replace(change, before=row, after=running(row), why="launched after all"))
            elif row.state is State.LAUNCHING:
                log.warning("item %s of %s: another runner launches it too", row.id, self._queue)
        return made + (await self._table.move(again, now()) if again else [])


def _doubted(row: Item, change: Change) -> bool:
    """Whether a row says that its launch is not proved, where we know that it was launched."""
    same = row.attempt == change.before.attempt and row.workflow_id == change.before.workflow_id
    return same and row.state is State.LAUNCH_UNKNOWN and change.after.state is State.RUNNING
