"""QueueLoader (second seed): finds what is new in the archive, keeps the tracking table, sends what is due, waits.

One loader works, any others stand by and take over within seconds. What it must not do twice is guarded by the
table, not by the lock: two that both think they are the one do no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from aogconsole import times
from aogconsole.errors import ArchiveLoginRefused, Conflict, MetadataError, OutsideError
from aogconsole.reingestion.finding import Finding
from aogconsole.reingestion.item import Kind, Queue, State
from aogconsole.reingestion.sending import Sending
from aogconsole.reingestion.station import said
from aogconsole.reingestion.steering import LOADER, PAUSED, paused
from aogconsole.tasks import cancelled, obey
from aogconsole.text import clean
from backends.broker_ports import Broker
from backends.reingestion_ports import Alone, ArchiveNews, Limits, Metadata

log = logging.getLogger("aogconsole")


@dataclass(frozen=True)
class Outside:
    """What a loader works with."""

    metadata: Metadata
    broker: Broker
    news: ArchiveNews


@dataclass(frozen=True)
class LoaderRules:
    """What the configuration says now; asked for anew each round. Times in seconds."""

    interval: float
    overlaps: Mapping[Kind, timedelta]
    limits: Mapping[Queue, Limits]
    vlba_query: Path | None = None
    """File of a query on the metadata database that finds the VLBA's items."""


@dataclass(frozen=True)
class Pace:
    """Seconds; tests go faster."""

    stand_by: float = 1.0
    """Between tries to take over."""
    poll: float = 2.0
    """Between looks at what is due, at `paused` and at our lock, at the most."""
    between: float = 0.5
    """Between two such looks, at the least, however much the table changes."""
    rebuild: float = 30.0
    """Between looks for messages that were lost."""
    backoff: float = 10.0
    """Before the next cycle after one that failed; doubled for each, up to the interval."""
    once: float = 5.0
    """For the lock, when only one cycle is asked for."""


@dataclass
class Summary:
    """What one cycle came to."""

    found: Counter[Kind] = field(default_factory=Counter)
    judged: Counter[State] = field(default_factory=Counter)
    sent: int = 0
    waiting: int | None = None
    """Rows still to be sent; None when the table could not be asked."""
    paused: bool = False
    errors: list[str] = field(default_factory=list)
    login_refused: bool = False
    """The archive's account: each further try brings its lock nearer."""

    def document(self) -> dict[str, Any]:
        """As `loader --once --json` prints it."""
        return {
            "found": {kind.value: self.found[kind] for kind in Kind},
            "judged": {state.value: number for state, number in sorted(self.judged.items()) if number},
            "sent": self.sent, "waiting": self.waiting, "paused": self.paused, "errors": self.errors,
        }  # fmt: skip

    def sentence(self) -> str:
        """As the log has it."""
        found = ", ".join(f"{self.found[kind]} {kind.value.replace('_', ' ')}s" for kind in Kind)
        return f"found {found}; sent {self.sent}" + (f"; errors: {len(self.errors)}" if self.errors else "")


class LockLost(Exception):
    """Another loader may have taken over."""


class Loader:
    """One loader. `by`: how the history names it; `since`: its first cycle looks back that far at least (back-fill)."""

    def __init__(
        self, outside: Outside, fresh: Callable[[], LoaderRules], by: str, *, since: datetime | None = None,
        pace: Pace | None = None,
    ) -> None:  # fmt: skip
        self._outside = outside
        self._fresh = fresh
        self._by = by
        self._since = since
        self._pace = pace or Pace()
        self._sending = Sending(outside.metadata, outside.broker, by)
        self._lock: Alone | None = None
        self._changed = asyncio.Event()
        self._run_now = False
        self._last: float | None = None
        """When our last cycle ended; a lock that was lost and is taken again makes no new one."""
        self._failures = 0
        self._rest = 0.0
        self._rebuild_at = self._send_at = self._send_rest = 0.0
        self._troubles: dict[str, str] = {}

    # ── alone ────────────────────────────────────────────────────────────────────────────────────────────────

    async def once(self) -> Summary:
        """One cycle. Raises Conflict while another loader works, MetadataError when nothing can be begun."""
        metadata = self._outside.metadata
        await metadata.migrate()
        async with metadata.alone(LOADER) as lock:
            try:
                async with asyncio.timeout(self._pace.once):
                    while not await lock.take():
                        await asyncio.sleep(0.1)
            except TimeoutError:
                raise Conflict(
                    "another loader works just now", "`aogconsole reingestion run` tells it to begin a cycle"
                ) from None
            self._lock = lock
            try:
                return await self._told_cycle(self._fresh(), goes_on=False)
            except LockLost:
                raise MetadataError("The line to the metadata database broke.", "try again") from None

    async def run(self) -> None:
        """Work, or stand by, until cancelled."""
        watching = asyncio.create_task(self._watch())
        try:
            while True:
                try:
                    await self._outside.metadata.migrate()
                    async with self._outside.metadata.alone(LOADER) as lock:
                        await self._stand_by(lock)
                        await self._work()
                except LockLost:
                    log.warning("the loader's lock is lost: standing by")
                except OutsideError as error:
                    self._say("the metadata database", said(error))
                except Exception:
                    log.exception("the loader went wrong")
                obey()
                await asyncio.sleep(self._pace.stand_by)
        finally:
            await cancelled([watching])

    async def _stand_by(self, lock: Alone) -> None:
        if not await lock.take():
            log.info("standing by: another loader works")
            while not await lock.take():
                await asyncio.sleep(self._pace.stand_by)
        self._lock = lock
        self._say("the metadata database", "")
        log.info("%s works", self._by)

    async def _ours(self) -> None:
        """Asked before each step that writes. Raises LockLost."""
        if self._lock is None or not await self._lock.held():
            raise LockLost

    # ── the days ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _work(self) -> None:
        """Cycles, and between them what becomes due, while the lock is ours."""
        clock = asyncio.get_running_loop().time
        while True:
            obey()
            rules = await asyncio.to_thread(self._fresh)
            await self._ours()
            self._changed.clear()
            pause = self._pace.poll
            if await self._paused():
                pass
            elif self._last is None or self._run_now or clock() >= self._last + self._wait(rules):
                self._run_now = False
                await self._told_cycle(rules, goes_on=True)
                self._last = clock()
            else:
                await self._tend(rules)
                pause = max(0.0, min(pause, self._last + self._wait(rules) - clock()))
            await asyncio.sleep(min(self._pace.between, pause))
            await self._until_changed(pause - self._pace.between)

    async def _until_changed(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._changed.wait()

    def _wait(self, rules: LoaderRules) -> float:
        """Seconds from one cycle to the next."""
        return min(rules.interval, self._rest) if self._rest else rules.interval

    async def _paused(self) -> bool:
        return paused((await self._outside.metadata.notes()).get(PAUSED))

    async def _watch(self) -> None:
        """Hear what is woken: `loader` (run now), `queue` (rows changed). What is missed is polled for."""
        while True:
            try:
                async for what in self._outside.metadata.changes():
                    self._run_now = self._run_now or what == LOADER
                    self._changed.set()
            except OutsideError as error:
                log.debug("changes: %s", error)
            except Exception:
                log.exception("listening for changes went wrong")
            await asyncio.sleep(self._pace.stand_by)

    async def _tend(self, rules: LoaderRules) -> None:
        """Between cycles: send what has become due, and what was lost at the broker."""
        clock = asyncio.get_running_loop().time
        if clock() < self._send_at:
            return
        try:
            for queue in Queue:
                now = datetime.now(UTC)
                due = await self._outside.metadata.tracking(queue).due(now)
                if due is not None and due <= now:
                    await self._sending.send(queue, rules.limits[queue], self._ours)
            if clock() >= self._rebuild_at:
                for queue in Queue:
                    await self._sending.rebuild(queue, self._ours)
                self._rebuild_at = clock() + self._pace.rebuild
        except OutsideError as error:
            self._say("sending", said(error))
            self._send_rest = min(self._pace.rebuild, 2 * self._send_rest or self._pace.stand_by)
            self._send_at = clock() + self._send_rest
        else:
            self._say("sending", "")
            self._send_rest = 0.0

    def _say(self, what: str, trouble: str) -> None:
        """Say once what does not work, and that it works again."""
        before = self._troubles.pop(what, "")
        if trouble:
            self._troubles[what] = clean(trouble)
            if before != self._troubles[what]:
                log.warning("%s: %s", what, self._troubles[what])
        elif before:
            log.info("%s: works again", what)

    # ── a cycle ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _told_cycle(self, rules: LoaderRules, *, goes_on: bool) -> Summary:
        """A cycle, its line in the log, and its note. `goes_on`: there will be another one."""
        begun = times.now()
        summary = await self._cycle(rules)
        self._failures = self._failures + 1 if summary.errors else 0
        self._rest = self._pace.backoff * 2 ** min(self._failures - 1, 10) if self._failures else 0.0
        if summary.login_refused:
            self._rest = rules.interval
        if summary.paused:
            return summary
        self._say("the cycle", "; ".join(summary.errors))
        log.info("%s", summary.sentence())
        if not summary.errors:
            self._rebuild_at = asyncio.get_running_loop().time() + self._pace.rebuild
        following = times.text(times.now() + timedelta(seconds=self._wait(rules))) if goes_on else None
        note = {
            **summary.document(), "last_cycle": times.text(begun), "next_cycle": following,
            "error": "; ".join(summary.errors) or None, "by": self._by,
        }  # fmt: skip
        try:
            await self._outside.metadata.note(LOADER, note, times.now())
        except MetadataError as error:
            if not summary.errors:
                summary.errors.append(said(error))
        return summary

    async def _cycle(self, rules: LoaderRules) -> Summary:
        """Find, judge, send. What fails stops neither the other kind nor the sending; a lost database stops all."""
        summary = Summary()
        metadata = self._outside.metadata
        finding = Finding(metadata, self._outside.news, self._by, self._ours)
        summary.found, summary.judged = finding.found, finding.judged
        since, sent_before = self._since, self._sending.sent

        async def look(kind: Kind, find: Callable[[datetime | None], Awaitable[None]]) -> None:
            usual = await finding.since(kind, rules.overlaps[kind])
            # never later than usual: what lay between would stay behind the newest row, and never be looked at
            await find(min(since or usual, usual) if usual else since)

        async def send(queue: Queue) -> None:
            await self._sending.send(queue, rules.limits[queue], self._ours)
            await self._sending.rebuild(queue, self._ours)

        try:
            if await self._paused():
                summary.paused = True
                return summary
            await self._part(summary, finding.end_deferrals)
            await self._part(summary, lambda: look(Kind.EXECUTION_BLOCK, finding.execution_blocks))
            if not summary.login_refused:  # before there are new ones, which are judged when they are found
                await self._part(summary, finding.judge_again)
            if not summary.login_refused:
                await self._part(summary, lambda: look(Kind.CALIBRATION, finding.calibrations))
            if rules.vlba_query is not None:
                await self._vlba(summary, finding, rules.vlba_query)
            if not summary.errors:
                self._since = None  # the back-fill is done; what failed of it is tried again
            for queue in Queue:
                await self._part(summary, partial(send, queue))
            summary.waiting = await self._waiting()
        except MetadataError as error:
            summary.errors.append(clean(said(error)))
        finally:
            summary.sent = self._sending.sent - sent_before
        return summary

    async def _vlba(self, summary: Summary, finding: Finding, file: Path) -> None:
        """A site's own query: what is wrong with it concerns nothing else."""
        try:
            await finding.vlba(await asyncio.to_thread(file.read_text, "utf-8"))
        except OSError as error:
            summary.errors.append(clean(f"reingestion.vlba_query: {file} cannot be read: {error.strerror}"))
        except UnicodeError:
            summary.errors.append(clean(f"reingestion.vlba_query: {file} is not UTF-8"))
        except MetadataError as error:
            summary.errors.append(clean(f"reingestion.vlba_query: {error}"))

    async def _part(self, summary: Summary, part: Callable[[], Awaitable[None]]) -> None:
        """One part of the cycle; its failure is kept, but a failure of the database is the whole cycle's."""
        try:
            await part()
        except (MetadataError, LockLost):
            raise
        except OutsideError as error:
            summary.login_refused = summary.login_refused or isinstance(error, ArchiveLoginRefused)
            sentence = clean(said(error))
            if sentence not in summary.errors:
                summary.errors.append(sentence)
        except Exception as error:
            log.exception("a part of the loader's cycle went wrong")
            summary.errors.append(clean(f"unexpected: {error!r}")[:200])

    async def _waiting(self) -> int:
        """Rows that are still to be sent."""
        counts = [await self._outside.metadata.tracking(queue).counts() for queue in Queue]
        return sum(states.get(State.WAITING, 0) for kinds in counts for states in kinds.values())
