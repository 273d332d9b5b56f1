"""A runner that is quicker than the loader: its message is there before the loader's transaction has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from aogconsole.reingestion.item import Found, Item, Kind, Queue, State
from aogconsole.reingestion.messages import Work
from backends.reingestion_ports import Claims, Limits
from tests.support.postgres import Database

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)
PLACES = Limits(4)


async def test_a_message_before_its_senders_commit_is_not_stale(postgres: Database) -> None:
    """The claim waits for the row, and gets it."""
    loader, runner = postgres.open(), postgres.open()
    try:
        sending, claiming = loader.tracking(Queue.ALMA), runner.tracking(Queue.ALMA)
        uid = "uid://A002/X1/X1"
        await sending.add([Found(Kind.EXECUTION_BLOCK, uid, "", None, None)], "loader", NOW)
        await claiming.counts()  # connected
        claims: list[asyncio.Task[Claims]] = []

        async def publish(items: Sequence[Item]) -> Collection[int]:
            work = [Work(one.id, one.attempt, one.kind, one.uid) for one in items]
            claims.append(asyncio.create_task(claiming.claim(work, "r@h:1", PLACES, NOW, timedelta(seconds=60))))
            while not postgres.ask("select 1 from pg_locks where not granted"):  # it waits for us, or
                if claims[0].done():  # has not waited
                    break
                await asyncio.sleep(0.01)
            return [one.id for one in items]

        assert await sending.send(publish, "loader", NOW, 10, PLACES) == (1, 1)
        claimed = await claims[0]
        assert [one.state for one in claimed.launching] == [State.LAUNCHING]
        assert claimed.stale == ()
    finally:
        await loader.close()
        await runner.close()
