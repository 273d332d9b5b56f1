"""The broker is killed under who publishes and waits, under a loader that sends, and under runners that consume.

One kill and one start serve all three: each says when it is amid its work, and looks afterwards at what is its own.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from aogconsole.errors import BrokerError
from aogconsole.reingestion.item import Kind, Queue, State, message_id
from backends.broker_ports import Message
from backends.rabbitmq_publish import WINDOW
from tests.support import broking
from tests.support.broking import OTHER, WORK, line, work
from tests.support.loaders import BEGAN, Sky, archive_of, station
from tests.support.postgres import Database
from tests.support.rabbitmq import Node, Vhost
from tests.support.runners import Runners


class Outage:
    """The broker's end and its new start, when all who take part have come to it."""

    def __init__(self, node: Node, parties: int) -> None:
        self._node = node
        self._amid, self._seen = asyncio.Barrier(parties), asyncio.Barrier(parties)
        self._killed, self._back = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def amid(self) -> AsyncIterator[None]:
        """It is killed as soon as all are here; inside it is away; afterwards it is back."""
        if await self._amid.wait() == 0:
            self._node.signal(signal.SIGKILL)
            self._killed.set()
        await self._killed.wait()
        yield
        if await self._seen.wait() == 0:
            await asyncio.to_thread(self._node.start)
            self._back.set()
        await self._back.wait()


async def publisher(vhost: Vhost, outage: Outage, go: asyncio.Event) -> None:
    """Amid 20,000 messages: each that was confirmed is there afterwards, and a waiting reader goes on."""
    async with line(vhost) as broker, line(vhost, timeout=60.0) as reader:
        await broker.declare()
        early = await broker.publish(work(100))
        assert len(early.confirmed) == 100
        waiting = asyncio.create_task(reader.take(OTHER, 5, 60.0))
        asked = work(20_000, first=100)
        await go.wait()
        publishing = asyncio.create_task(broker.publish(asked))
        async with line(vhost) as looker:
            while await looker.depth(WORK) < 3_000:
                pass
            async with outage.amid():
                published = await publishing
                assert published.unknown
                assert len(published.unknown) <= WINDOW
                assert published.returned, "what was not sent is known not to be there"
                await broking.until(lambda: broker.state.word == reader.state.word == "connecting")
                assert broker.state.why
                with pytest.raises(BrokerError):
                    async with line(vhost, timeout=broking.TIMEOUT) as hasty:
                        await hasty.publish(work(1))
        await broking.until(lambda: broker.state.word == reader.state.word == "connected")
        there = await broking.all_of(broker, WORK)
        assert early.confirmed <= set(there)
        broking.honest(published, asked, there)
        assert (await broker.publish([Message("after", b"", OTHER)])).confirmed == {"after"}
        assert [one.id for one in await waiting] == ["after"]


async def loader(vhost: Vhost, database: Database, folder: Path, outage: Outage, go: asyncio.Event) -> None:
    """Whatever was confirmed is in the queue when the broker is back, and the next cycle sends all the rest."""
    sky = Sky()
    for number in range(3000):
        sky.block(f"uid://A002/X{number + 1:x}/X1", BEGAN + timedelta(seconds=number))
    with archive_of(sky) as archive:
        async with station(
            folder, archive, database.dsn, vhost.url, database_password=database.password,
            broker_password=vhost.password,
        ) as site:  # fmt: skip
            cycle = asyncio.create_task(site.once())

            async def sending() -> bool:
                counts = await site.metadata.tracking(Queue.ALMA).counts()
                return counts.get(Kind.EXECUTION_BLOCK, {}).get(State.QUEUED, 0) > 0

            while not await sending():
                await asyncio.sleep(0.01)
            go.set()
            async with outage.amid():
                queued = {message_id(row) for row in await site.rows() if row.state is State.QUEUED}
                assert queued
            summary = await cycle
            assert summary.errors or summary.waiting == 0
            await site.once()
            rows = await site.rows()
            assert {row.state for row in rows} == {State.QUEUED}
            taken = set(await site.messages(len(rows)))
            assert queued <= taken
            assert {message_id(row) for row in rows} <= taken


async def runners(vhost: Vhost, database: Database, folder: Path, outage: Outage) -> None:
    """Nothing is lost, nothing is launched twice."""
    async with Runners(folder, database.dsn, vhost.url, vhost.password, database.password) as site:
        site.write(limit=4)
        site.workflow_does(f"sleep 0.05; while [ -e {folder}/hold ]; do sleep 0.02; done")
        await site.add(40)
        site.start("a")
        site.start("b")

        async def begun() -> bool:
            return len(site.starts()) >= 6

        await site.until(begun)
        (folder / "hold").touch()
        async with outage.amid():
            (folder / "hold").unlink()
        await site.ended()
        assert await site.states() == {State.DONE: 40}
        assert set(site.starts().values()) == {1}
        assert site.most_at_once()[""] <= 4


async def test_the_broker_is_killed_amid_work(
    postgres: Database, empty_postgres: Database, frail_rabbitmq: Vhost, tmp_path: Path
) -> None:
    """SIGKILL, and a new start a while later."""
    outage, go = Outage(frail_rabbitmq.node, 3), asyncio.Event()
    for name in ("loader", "runners"):
        (tmp_path / name).mkdir()
    async with asyncio.TaskGroup() as group:
        group.create_task(runners(frail_rabbitmq, postgres, tmp_path / "runners", outage))
        group.create_task(loader(frail_rabbitmq.node.vhost(), empty_postgres, tmp_path / "loader", outage, go))
        group.create_task(publisher(frail_rabbitmq.node.vhost(), outage, go))
