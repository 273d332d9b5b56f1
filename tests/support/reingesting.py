"""A metadata database with something of everything in it, for what shows it; times are told by the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TypeVar

from aogconsole.reingestion.item import Change, Found, Item, Kind, Queue, State, dropped, failed, running
from aogconsole.reingestion.messages import Work
from backends.metadata import open_metadata
from backends.reingestion_ports import Limits, Metadata, Tracking

T = TypeVar("T")
LEASE = timedelta(seconds=60)
FOUR = Limits(4)
BY = "runner@aog1"


def done_with(dsn: str, work: Callable[[Metadata], Awaitable[T]], password: str = "") -> T:
    """Do something with the database as another program does, whatever loop runs here."""

    async def opened() -> T:
        metadata = open_metadata(dsn, password)
        try:
            await metadata.migrate()
            return await work(metadata)
        finally:
            await metadata.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(opened())).result()


async def fill(metadata: Metadata, now: datetime, reason: str = "the ASDM is truncated") -> None:
    """Twelve execution blocks and some calibrations: 2 run, 1 is dead, 1 failed, the others wait or are over."""
    table = metadata.tracking(Queue.ALMA)
    for hour in range(6, 0, -1):
        at = now - timedelta(hours=hour)
        blocks = [block(10 * hour + number, at) for number in range(hour)]
        await table.add(blocks, "loader@aog1", at)
        await table.send(_confirmed, "loader@aog1", at + timedelta(minutes=5), hour - 1, FOUR)
    mous = [Found(Kind.CALIBRATION, f"uid://A001/X133d/X{one:x}", "1", "2018.1.00526.S", now, State.DEFERRED,
                  "no science products yet") for one in range(3)]  # fmt: skip
    await table.add(mous, "loader@aog1", now - timedelta(minutes=50))
    queued = (await table.items([State.QUEUED], most=100))[::-1]
    for place, state in enumerate([State.DEAD, State.FAILED, State.RUNNING, State.RUNNING]):
        await bring(table, queued[place], state, now - timedelta(minutes=45 - 10 * place), reason)
    last, following = _text(now - timedelta(minutes=32)), _text(now + timedelta(minutes=28))
    await metadata.note("loader", {"last_cycle": last, "next_cycle": following, "error": None}, now)
    await metadata.note("runner:one@aog1", {"state": "running", "troubles": {}}, now)
    await metadata.note("last_event", {"queue": "alma", "uid": queued[0].uid, "complete": False}, now)


def block(number: int, at: datetime) -> Found:
    """An execution block."""
    return Found(Kind.EXECUTION_BLOCK, f"uid://A002/Xf{number:x}/X{number:x}", "1", "2019.1.01234.S", at)


async def bring(table: Tracking, item: Item, state: State, at: datetime, reason: str = "") -> Item:
    """Have a queued item run, and fail if it is to."""
    work = Work(item.id, item.attempt, item.kind, item.uid)
    [claimed] = (await table.claim([work], f"{BY}:7", FOUR, at, LEASE)).launching
    [now] = await table.move([Change(claimed, running(claimed), BY, "launched")], at)
    if state in (State.DEAD, State.FAILED):
        after = failed(now, reason, at, 1 if state is State.DEAD else 3, timedelta(minutes=30))
        [now] = await table.move([Change(now, after, BY, reason)], at)
    return now


async def drop(metadata: Metadata, number: int, why: str, by: str, now: datetime) -> None:
    """As an operator elsewhere does."""
    table = metadata.tracking(Queue.ALMA)
    [item] = await table.get([number])
    await table.move([Change(item, dropped(item, why, now), by, why)], now)
    await metadata.wake("queue")


async def _confirmed(items: Sequence[Item]) -> list[int]:
    return [one.id for one in items]


def _text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
