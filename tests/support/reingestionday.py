"""An hour of re-ingestion: every one of its commands that prints JSON is called once on the way, as in `sampleday`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from aogconsole import config, reingestionsite, times
from aogconsole.journal.history import Actor
from aogconsole.reingestion import item as rows
from aogconsole.reingestion.item import Change, Item, Kind, Queue, State
from backends.broker_ports import Message
from backends.rabbitmq import RabbitBroker
from backends.reingestion_ports import Metadata
from backends.topology import dead
from tests.support.asdm import EXECUTION_BLOCK, MOUS, asdm
from tests.support.desk import Desk
from tests.support.ngas import Ngas
from tests.support.rabbitmq import Vhost
from tests.support.sampleday import SampleDay

CONFIG = """
[metadata]
dsn = "sqlite:metadata.db"
[broker]
url = "{broker}"
password = "env:AOG_TEST_BROKER"
[ngas]
url = "{ngas}"
"""
OUR_WORK = Queue.ALMA.messages


class ReingestionDay(SampleDay):
    """The commands on a site with a metadata database, a broker and an NGAS."""

    def __init__(self, desk: Desk, broker: Vhost, ngas: Ngas) -> None:
        super().__init__(desk)
        self._broker, self._ngas = broker, ngas
        self.environment = {**desk.environment, "AOG_TEST_BROKER": broker.password}

    def run(self) -> dict[str, Any]:
        """All of it; the documents by command."""
        call = self.call
        self.desk.configure()
        with self.desk.config.open("a") as file:
            file.write(CONFIG.format(broker=self._broker.url, ngas=self._ngas.url))
        self._ngas.put(asdm())
        call("broker", "declare", "--site", "NAASC")
        self._malformed()
        call("broker", "dead", "--site", "NAASC")
        call("workflow", "execution-block", EXECUTION_BLOCK)
        call("loader", "--once")
        running, other = self._launched()
        call("workflow", "calibration", MOUS)
        call("reingestion", "requeue", str(other.id), "--why", "NGAS is back")
        call("reingestion", "defer", str(other.id), "--until", "2999-01-01", "--why", "the data come later")
        added = call("reingestion", "add", "--kind", "calibration", "--uid", "uid___A001_X1590_X30aa")
        call("reingestion", "drop", added["id"], "--why", "a test observation")
        call("reingestion", "run")
        call("reingestion", "pause", "--why", "the database moves")
        call("reingestion")
        call("reingestion", "items")
        call("reingestion", "show", str(running.id))
        call("reingestion", "resume")
        return self.documents

    def _malformed(self) -> None:
        """A message that no runner can read: it is rejected."""

        async def send() -> None:
            broker = RabbitBroker(self._broker.url, self._broker.password)
            try:
                await broker.publish([Message("4711:1", b'{"kind": "observation", "item": 4711}', OUR_WORK)])
                for one in await broker.take(OUR_WORK, 1, 10.0):
                    await broker.reject(one)
                async with asyncio.timeout(10.0):
                    while not await broker.depth(dead(OUR_WORK)):
                        await asyncio.sleep(0.01)
            finally:
                await broker.close()

        asyncio.run(send())

    def _launched(self) -> tuple[Item, Item]:
        """What was sent, as a runner leaves it: one runs, the workflow of the other failed for the last time."""

        async def launch(metadata: Metadata) -> list[Item]:
            host = Actor.current("").who.partition("@")[2]
            table, now, by = metadata.tracking(Queue.ALMA), times.now(), f"runner@{host}:4711"
            found = []
            for kind in (Kind.EXECUTION_BLOCK, Kind.CALIBRATION):
                (row,) = await table.items([State.QUEUED], kind)
                workflow = rows.workflow_id(row, Queue.ALMA, await metadata.installation())
                claimed = rows.claimed(row, by, workflow, now, timedelta(60))
                steps = [claimed, rows.running(claimed)]
                if kind is Kind.CALIBRATION:
                    steps.append(rows.failed(steps[-1], "NGAS did not answer", now, 1, timedelta()))
                for step in steps:
                    (row,) = await table.move([Change(row, step, by, step.reason)], now)
                found.append(row)
            heard = {"queue": "alma", "item": found[1].id, "kind": "calibration", "uid": MOUS,
                     "workflow_id": found[1].workflow_id, "complete": False}  # fmt: skip
            await metadata.note("last_event", heard, now)
            told = {"state": "running", "places": {"alma": 3}, "launching": 0, "broker": "connected", "troubles": {}}
            await metadata.note(f"runner:{by.rpartition(':')[0]}", told, now)
            return found

        running, failed = self._inside(launch)
        return running, failed

    def _inside(self, act: Callable[[Metadata], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            metadata = reingestionsite.metadata(config.load(self.desk.config))
            try:
                return await act(metadata)
            finally:
                await metadata.close()

        return asyncio.run(run())

    def scrubbed(self, text: str) -> str:
        """Without the names of the tests' servers and hosts."""
        text = text.replace(self._broker.url, "amqp://aog@rabbit.example.org:5672/aog")
        host = Actor.current("").who.partition("@")[2]
        return text.replace(self._ngas.url, "http://ngas.example.org:7777").replace(f"@{host}:", "@aog1:")
