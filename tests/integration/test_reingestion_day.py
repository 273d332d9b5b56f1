"""Re-ingestion as a whole, by its commands: from the archive's rows to the filled tables, on real servers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from aogconsole import config, reingestionsite
from aogconsole.reingestion.item import Item, Kind, Queue, State
from aogconsole.reingestion.messages import EVENTS, OUR_EVENTS
from aogconsole.reingestionboard import ReingestionBoard
from aogconsole.reingestionwatch import ReingestionWatch
from backends.broker_ports import Message
from backends.topology import dead
from tests.support.asdm import EXECUTION_BLOCK, MOUS, asdm
from tests.support.broking import OTHER, WORK, line
from tests.support.command import call
from tests.support.ngas import Ngas
from tests.support.oracle import TestArchive
from tests.support.postgres import PASSWORD, Database
from tests.support.rabbitmq import Vhost

CONFIG = """
[journal]
path = "state/journal.db"
syslog = ""
[archive]
dsn = "{archive.dsn}"
user = "{archive.user}"
password = "file:archive.password"
[metadata]
dsn = "{postgres.dsn}"
password = "file:metadata.password"
[broker]
url = "{rabbitmq.url}"
password = "file:broker.password"
[ngas]
url = "{ngas.url}"
[reingestion]
launcher = "local"
retry_delay = 0
attempts = 2
"""


class Site:
    """Everything that re-ingestion needs, and its commands."""

    def __init__(self, folder: Path, **servers: Any) -> None:
        self.file = folder / "config.toml"
        self.file.write_text(CONFIG.format(**servers))
        secrets = {"archive": servers["archive"].password, "metadata": PASSWORD, "broker": servers["rabbitmq"].password}
        for name, secret in secrets.items():
            (folder / f"{name}.password").write_text(secret)
            (folder / f"{name}.password").chmod(0o600)

    def call(self, *words: str) -> Any:
        """The document of a command that succeeds."""
        done = call(self.file, *words, "--json")
        assert done.code == 0, (words, done)
        return done.json

    def run(self) -> None:
        """A runner until nothing is left."""
        done = call(self.file, "runner", "--until-idle")
        assert done.code == 0, done

    def states(self) -> dict[str, str]:
        """Each item's state, by its UID."""
        return {one["uid"]: one["state"] for one in self.call("reingestion", "items")}

    def marks(self) -> Any:
        """The MOUS' mark."""

        async def look() -> Any:
            metadata = reingestionsite.metadata(config.load(self.file))
            try:
                return await metadata.marks([MOUS])
            finally:
                await metadata.close()

        return asyncio.run(look())

    def item(self, kind: Kind) -> Item:
        """The row of a kind."""

        async def look() -> Item:
            metadata = reingestionsite.metadata(config.load(self.file))
            try:
                (row,) = await metadata.tracking(Queue.ALMA).items(kind=kind)
                return row
            finally:
                await metadata.close()

        return asyncio.run(look())


@pytest.fixture
def site(tmp_path: Path, archive: TestArchive, postgres: Database, rabbitmq: Vhost, ngas: Ngas) -> Site:
    """A site whose broker is declared."""
    made = Site(tmp_path, archive=archive.settings(), postgres=postgres, rabbitmq=rabbitmq, ngas=ngas)
    made.call("broker", "declare")
    return made


def test_what_is_new_comes_into_the_tables(site: Site, ngas: Ngas) -> None:
    """The execution block first; its MOUS is deferred until it is known, then calibrated. Again: nothing changes."""
    ngas.put(asdm())
    block, mous = (uid.replace("://", "___").replace("/", "_") for uid in (EXECUTION_BLOCK, MOUS))
    assert site.call("loader", "--once")["sent"] == 1
    assert site.states() == {block: "queued", mous: "deferred"}
    site.run()
    assert site.states() == {block: "done", mous: "deferred"}
    assert site.call("loader", "--once")["sent"] == 1
    site.run()
    assert site.states() == {block: "done", mous: "done"}
    assert site.marks()[MOUS][0] == "Calibrated"
    before = site.call("reingestion", "items")
    assert site.call("loader", "--once")["sent"] == 0
    site.run()
    assert site.call("reingestion", "items") == before
    told = site.call("reingestion")
    assert (told["queue_depth"], told["running"]) == (0, [])
    assert told["last_event"]["complete"] is True


def test_what_fails_is_told_and_runs_again(site: Site, ngas: Ngas) -> None:
    """NGAS has no such file: dead after the last attempt, with the reason; mended and requeued it is done."""
    site.call("loader", "--once")
    site.run()
    row = site.item(Kind.EXECUTION_BLOCK)
    assert (row.state, row.attempt) == ("dead", 2)
    assert "NGAS" in row.reason
    ngas.put(asdm())
    assert site.call("reingestion", "requeue", "--state", "dead", "--why", "NGAS has it now")["requeued"] == 1
    site.run()
    assert site.item(Kind.EXECUTION_BLOCK).state == "done"
    told = site.call("reingestion", "show", str(row.id))
    assert [one["to"] for one in told["history"]].count("running") == 3


def test_a_message_that_nobody_can_read(site: Site, ngas: Ngas, rabbitmq: Vhost) -> None:
    """It is put aside, and told of; what else there is goes on."""
    ngas.put(asdm())
    assert site.call("reingestion")["dead_letters"] == 0
    site.call("loader", "--once")

    async def send() -> None:
        async with line(rabbitmq) as broker:
            odd = b'{"id": 1, "attempt": 1, "kind": "observation", "uid": "x"}'
            await broker.publish([Message("1:1", odd, WORK), Message("e", b"no JSON", "x.event", EVENTS)])

    asyncio.run(send())
    site.run()
    assert site.item(Kind.EXECUTION_BLOCK).state is State.DONE
    until = time.monotonic() + 10.0
    while (told := site.call("reingestion")["dead_letters"]) != 2:
        assert time.monotonic() < until, told
    assert b"dead letters   2 (`aogconsole broker dead` shows them)" in call(site.file, "reingestion").out
    boards = list[ReingestionBoard]()
    watch = ReingestionWatch(config.load(site.file), boards.append)
    watch.start()
    try:
        while not any(queue.letters == 2 for board in boards[-1:] for queue in board.queues):
            assert time.monotonic() < until + 10.0, boards[-1:]
            time.sleep(0.05)
    finally:
        watch.close()
    shown = {one["queue"]: [letter["id"] for letter in one["letters"]] for one in site.call("broker", "dead")["queues"]}
    assert shown == {dead(WORK): ["1:1"], dead(OTHER): [], dead(OUR_EVENTS): ["e"]}
