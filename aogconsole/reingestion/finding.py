"""The first steps of a loader's cycle: what is new in the archive becomes rows, and what was deferred is judged again.

Everything is repeatable at any point: rows are keyed by (kind, uid, version), a mark by its version, and the window
looks back beyond the newest row. So a loader killed anywhere leaves nothing that the next cycle does not put right.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast

from aogconsole.reingestion import item
from aogconsole.reingestion.ingested import DO_NOT_CALIBRATE
from aogconsole.reingestion.item import Change, Found, Item, Kind, Queue, State
from aogconsole.reingestion.rules import Judgement, judged
from aogconsole.text import clean
from backends.reingestion_ports import ArchiveNews, Metadata, ProductFacts, Tracking

BATCH = 500
"""MOUSs whose facts are asked for at once."""
SKEW = timedelta(days=1)
"""A time of the archive further in the future than this is no time to go on from: our clock may be wrong too."""
LONGEST_REASON = 500
"""Characters: names of files come from outside."""
LONGEST_NAME = 200
READY = "judged again: ready"
TIME_HAS_COME = "its time has come"
log = logging.getLogger("aogconsole")
T = TypeVar("T")
Key = tuple[Kind, str, str]


class Finding:
    """Finds and judges. `ours` is asked before each write, and raises when another loader may have taken over."""

    def __init__(self, metadata: Metadata, news: ArchiveNews, by: str, ours: Callable[[], Awaitable[None]]) -> None:
        self._metadata = metadata
        self._news = news
        self._tracking = metadata.tracking(Queue.ALMA)
        self._by = by
        self._ours = ours
        self.found: Counter[Kind] = Counter()
        """New rows."""
        self.judged: Counter[State] = Counter()
        """What became of the calibrations that were judged, new and deferred ones."""

    async def since(self, kind: Kind, overlap: timedelta) -> datetime | None:
        """From when on to look: the newest row less the overlap; None, everything, with an empty table.

        A time to come in the archive must not hide all that comes before it."""
        newest = await self._tracking.newest(kind, _now() + SKEW)
        return None if newest is None else newest - overlap

    async def execution_blocks(self, since: datetime | None) -> None:
        """Enter the execution blocks that ended at or after a time."""
        async with _closing(self._news.execution_blocks(since)) as batches:
            async for batch in batches:
                rows = [
                    Found(Kind.EXECUTION_BLOCK, new.uid, item.version_of(new.ended), new.project, new.ended)
                    for new in batch
                ]
                await self._add(Kind.EXECUTION_BLOCK, await self._unknown(rows))

    async def calibrations(self, since: datetime | None) -> None:
        """Judge and enter the MOUSs with product files created at or after a time."""
        async with _closing(self._news.products(since)) as batches:
            async for batch in batches:
                rows = [
                    Found(Kind.CALIBRATION, new.mous, item.version_of(new.newest), None, new.newest) for new in batch
                ]
                unknown = await self._unknown(rows)
                for start in range(0, len(unknown), BATCH):
                    await self._enter(unknown[start : start + BATCH])

    async def judge_again(self) -> None:
        """Judge every deferred calibration whose time has come."""
        after = 0
        while items := await self._tracking.to_judge(Kind.CALIBRATION, _now(), after, BATCH):
            after = items[-1].id
            judgements = await self._judge({one.uid for one in items})
            await self._mark([(one.uid, one.version) for one in items], judgements)
            changes = [_change(one, *judgements[one.uid], self._by) for one in items]
            await self._move(self._tracking, [change for change in changes if change is not None])
            self.judged.update(judgements[one.uid][0].state for one in items)

    async def end_deferrals(self) -> None:
        """Let go on what a person had put aside until now, and what nothing else is judged for."""
        vlba = self._metadata.tracking(Queue.VLBA)
        for tracking, kind in ((self._tracking, Kind.EXECUTION_BLOCK), *((vlba, kind) for kind in Kind)):
            after = 0
            while items := await tracking.to_judge(kind, _now(), after, BATCH):
                after = items[-1].id
                changes = [Change(one, item.requeued(one, ""), self._by, TIME_HAS_COME) for one in items]
                await self._move(tracking, changes)

    async def vlba(self, query: str) -> None:
        """Enter what a site's own query on the metadata database finds."""
        rows: dict[Key, Found] = {}
        for uid, project, at in await self._metadata.vlba_news(query):
            found = Found(Kind.EXECUTION_BLOCK, uid.strip(), item.version_of(at), project, at)
            if 0 < len(found.uid) <= LONGEST_NAME and found.uid.isprintable():
                rows[found.kind, found.uid, found.version] = found
            else:
                log.warning("reingestion.vlba_query gives '%s', which is no name: left out", clean(uid[:LONGEST_NAME]))
        tracking, keys, entered = self._metadata.tracking(Queue.VLBA), list(rows), 0
        for start in range(0, len(keys), BATCH):
            new = [rows[key] for key in await tracking.unknown(keys[start : start + BATCH])]
            if new:
                await self._ours()
                entered += await tracking.add(new, self._by, _now())
        if entered:
            log.info("found %d items for the VLBA's queue", entered)

    # ── new calibrations ─────────────────────────────────────────────────────────────────────────────────────

    async def _enter(self, rows: Sequence[Found]) -> None:
        judgements = await self._judge({one.uid for one in rows})
        # the mark first: a row without its mark would never be looked at again
        await self._mark([(one.uid, one.version) for one in rows], judgements)
        entered = []
        for one in rows:
            judgement, project = judgements[one.uid]
            entered.append(Found(one.kind, one.uid, one.version, project, one.source_time, judgement.state,
                                 judgement.reason))  # fmt: skip
            self.judged[judgement.state] += 1
        await self._add(Kind.CALIBRATION, entered)

    async def _judge(self, mous: set[str]) -> Mapping[str, tuple[Judgement, str | None]]:
        """The judgement on each, and its project."""
        asked = sorted(mous)
        facts = await self._news.facts(asked)
        known = await self._metadata.marks(asked)
        return {one: (_judgement(facts[one], in_structure=one in known), facts[one].project) for one in asked}

    async def _mark(
        self, versions: Sequence[tuple[str, str]], judgements: Mapping[str, tuple[Judgement, str | None]]
    ) -> None:
        for mous, version in versions:
            if judgements[mous][0].state is State.DO_NOT_CALIBRATE:
                await self._ours()
                await self._metadata.mark(mous, DO_NOT_CALIBRATE, version, _now())

    # ── the table ────────────────────────────────────────────────────────────────────────────────────────────

    async def _unknown(self, rows: Sequence[Found]) -> list[Found]:
        """Those that have no row yet: what follows costs as much as there is new."""
        by_key: dict[Key, Found] = {(one.kind, one.uid, one.version): one for one in rows}
        unknown = set(await self._tracking.unknown(list(by_key))) if by_key else set()
        return [one for key, one in by_key.items() if key in unknown]

    async def _add(self, kind: Kind, rows: Sequence[Found]) -> None:
        if rows:
            await self._ours()
            self.found[kind] += await self._tracking.add(rows, self._by, _now())

    async def _move(self, tracking: Tracking, changes: Sequence[Change]) -> None:
        if changes:
            await self._ours()
            await tracking.move(changes, _now())


def _judgement(facts: ProductFacts, *, in_structure: bool) -> Judgement:
    found = judged(facts.science, in_structure=in_structure, scripts=facts.scripts)
    return Judgement(found.state, clean(found.reason)[:LONGEST_REASON])


def _change(one: Item, judgement: Judgement, project: str | None, by: str) -> Change | None:
    """What a new judgement makes of a deferred row; None when it says the same again."""
    why, known = judgement.reason, replace(one, project=project or one.project)
    if judgement.state is State.WAITING:
        return Change(one, item.requeued(known, ""), by, READY)
    if judgement.state is State.DO_NOT_CALIBRATE:
        return Change(one, item.not_calibratable(known, why, _now()), by, why)
    if why == one.reason and one.not_before is None:
        return None
    return Change(one, item.deferred(known, why, None), by, why)


def _closing(news: AsyncIterator[Sequence[T]]) -> aclosing[AsyncGenerator[Sequence[T], None]]:
    """Closes the line to the archive when nobody reads on."""
    return aclosing(cast("AsyncGenerator[Sequence[T], None]", news))


def _now() -> datetime:
    return datetime.now(UTC)
