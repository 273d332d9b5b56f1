"""What the checks of the tracking table have in common: a database, rows in any state, and the list of the checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from aogconsole.reingestion.item import TRANSITIONS, Change, Found, Item, Kind, State
from aogconsole.reingestion.messages import Work
from backends.reingestion_ports import Limits, Metadata, Tracking

NOW = datetime(2026, 11, 22, 12, 30, 15, 123456, tzinfo=UTC)
LEASE = timedelta(seconds=60)
MANY = Limits(1000)


class Site(Protocol):
    """A database with our tables."""

    def open(self) -> Metadata:
        """Another program's adapter on it; closed by the site."""
        ...

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement from outside."""
        ...


Check = Callable[[Site], Awaitable[None]]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Keep it by its name."""
    CHECKS[function.__name__] = function
    return function


def block(number: int, version: str = "1", state: State = State.WAITING, project: str | None = None) -> Found:
    """An execution block."""
    at = NOW - timedelta(hours=100 - number)
    return Found(Kind.EXECUTION_BLOCK, f"uid://A002/X1/X{number:x}", version, project, at, state)


def work(item: Item) -> Work:
    """Its message."""
    return Work(item.id, item.attempt, item.kind, item.uid)


async def everything(items: Sequence[Item]) -> list[int]:
    """A broker that confirms all."""
    return [one.id for one in items]


async def one(tracking: Tracking, number: int) -> Item:
    """A row by its id."""
    [found] = await tracking.get([number])
    return found


async def set_to(tracking: Tracking, item: Item, **values: object) -> Item:
    """Bring a row to another state, whatever it takes."""
    [moved] = await tracking.move([Change(item, dataclasses.replace(item, **values), "t", "test")], NOW)  # type: ignore[arg-type]
    return moved


async def queued(tracking: Tracking, *found: Found) -> list[Item]:
    """Rows whose messages are sent."""
    await tracking.add(found, "loader", NOW)
    taken, sent = await tracking.send(everything, "loader", NOW, 1000, MANY)
    assert taken == sent == len(found)
    return sorted(await tracking.items([State.QUEUED]), key=lambda row: row.id)


async def in_state(tracking: Tracking, state: State, found: Found) -> Item:
    """A new row brought into a state by the way that leads there."""
    before = {row.id for row in await tracking.items()}
    await tracking.add([found], "t", NOW)
    [row] = [row for row in await tracking.items() if row.id not in before]
    for step in _way(row.state, state):
        row = await set_to(tracking, row, state=step)
    return row


def _way(origin: State, target: State) -> list[State]:
    ways: list[list[State]] = [[]]
    while True:
        for way in ways:
            if (way[-1] if way else origin) is target:
                return way
        ways = [[*way, step] for way in ways for step in TRANSITIONS[way[-1] if way else origin] if step not in way]
