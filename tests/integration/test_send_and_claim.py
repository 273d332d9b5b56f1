"""Messages that are there before their sender's transaction has ended, and claims whose answer is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aogconsole.errors import MetadataError
from aogconsole.reingestion.feeding import Feeding
from aogconsole.reingestion.item import Found, Item, Kind, Queue, State
from aogconsole.reingestion.launching import Launching
from aogconsole.reingestion.messages import Sender, Start, Work
from aogconsole.reingestion.sending import Sending
from aogconsole.reingestion.station import Outside, Rules, Station
from backends.launch_amqp import AmqpLauncher
from backends.memory_broker import MemoryBroker
from backends.metadata_sqlite import SqliteMetadata
from backends.reingestion_ports import Claims, Limits
from tests.support.postgres import Database

NOW = datetime(2026, 11, 22, 3, tzinfo=UTC)
PLACES = Limits(4)


async def test_a_message_before_its_senders_commit_is_not_stale(postgres: Database) -> None:
    """The claim waits for the row, and gets it; meanwhile another runner gets its places."""
    loader, runner, another = postgres.open(), postgres.open(), postgres.open(timeout=5)
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
            assert await another.tracking(Queue.ALMA).reserve("r@h:2", 1, PLACES, NOW, timedelta(seconds=60)) == 1
            return [one.id for one in items]

        assert await sending.send(publish, "loader", NOW, 10, PLACES) == (1, 1)
        claimed = await claims[0]
        assert [one.state for one in claimed.launching] == [State.LAUNCHING]
        assert claimed.stale == ()
    finally:
        await loader.close()
        await runner.close()
        await another.close()


async def test_what_is_claimed_is_launched_though_the_table_is_away_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim whose answer was lost is looked for after the others are launched: an outage then leaves nothing."""
    metadata, broker = SqliteMetadata(tmp_path / "meta.db"), MemoryBroker()
    await metadata.migrate()
    await broker.declare()
    launcher = AmqpLauncher(broker, Sender("aog", "here"))

    def start_of(row: Item, _queue: Queue) -> tuple[Start, str]:
        return Start(row.workflow_id or "", "ingest", {}), "NAASC"

    rules = Rules(dict.fromkeys(Queue, PLACES), 3, timedelta(1), timedelta(seconds=60), ("complete", "failed"))
    station = Station(Outside(metadata, broker, launcher, start_of), lambda: rules, "r@h:1", (Queue.ALMA,))
    launching = Launching(station, Queue.ALMA)
    feeding, table = Feeding(station, Queue.ALMA, launching), station.tracking[Queue.ALMA]
    try:
        for number in (1, 2):
            await table.add([Found(Kind.EXECUTION_BLOCK, f"uid://A002/X1/X{number}", "", None, None)], "loader", NOW)
        assert await Sending(metadata, broker, "loader").send(Queue.ALMA, PLACES) == 2
        claim, fault = table.claim, MetadataError("away")

        async def half(wanted: Sequence[Work], *rest: Any) -> Claims:
            await claim(wanted[:1], *rest)
            raise fault

        async def away(_ids: Collection[int]) -> list[Item]:
            raise fault

        with monkeypatch.context() as broken:
            broken.setattr(type(table), "claim", lambda _table, *words: half(*words))
            with pytest.raises(MetadataError):
                await feeding.step()
        with monkeypatch.context() as broken:
            broken.setattr(type(table), "get", lambda _table, ids: away(ids))
            with pytest.raises(MetadataError):
                await feeding.step()
        assert [row.id for _, row in station.launching.items()] == [2]
        await feeding.step()
        assert sorted(row.id for row in station.launching.values()) == [1, 2]
        assert feeding.holding == 0
    finally:
        launching.abandon()
        await metadata.close()
