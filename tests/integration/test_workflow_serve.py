"""`workflow` as a command and `workflow serve`, with a real broker: each command once, each end told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aogconsole import config, reingestionsite
from aogconsole.errors import BrokerError, UsageError
from aogconsole.ids import MousUid
from aogconsole.reingestion import messages
from aogconsole.reingestion.ingested import Command
from aogconsole.reingestion.messages import COMMANDS, OUR_EVENTS, Ended, Sender, Start
from aogconsole.reingestion.workflows import running, serving
from aogconsole.reingestion.workflows.running import carried_out, lives, own_name
from aogconsole.reingestion.workflows.serving import Server, Serving
from aogconsole.reingestion.workflows.telling import Teller
from backends.broker_ports import Broker, Message
from backends.ingest import IngestStore
from backends.memory_broker import MemoryBroker
from backends.metadata_sqlite import SqliteMetadata
from tests.support.asdm import EXECUTION_BLOCK, MOUS, asdm
from tests.support.command import call
from tests.support.ngas import Ngas
from tests.support.oracle import TestArchive
from tests.support.postgres import PASSWORD as DATABASE_PASSWORD
from tests.support.postgres import Database
from tests.support.rabbitmq import Vhost

SITE, WORKFLOW = "NAASC", "AlmaExecutionBlockReingestion"
SENDER = Sender("test", "test.example.org")
NOW = datetime(2026, 11, 22, tzinfo=UTC)
PATIENCE = 20.0


async def until(what: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE
    while not await what():
        assert time.monotonic() < end, "waited too long"
        await asyncio.sleep(0.05)


@dataclass
class Place:
    """A site with everything that its workflows need, and a sender of commands that hears the events."""

    folder: Path
    ngas: Ngas
    broker: Broker
    servers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        """The configuration."""
        return self.folder / "config.toml"

    def start(self) -> subprocess.Popen[bytes]:
        """A server, as systemd starts it."""
        words = [sys.executable, "-m", "aogconsole", "--config", str(self.file), "workflow", "serve", "--limit", "2"]
        with (self.folder / "log").open("ab") as log:
            self.servers.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=log, stdout=log))
        return self.servers[-1]

    async def send(
        self, identity: str, uid: str = EXECUTION_BLOCK, workflow: str = WORKFLOW, body: bytes = b""
    ) -> None:
        """A start command, or what is none."""
        start = Start(identity, workflow, {"uid": uid, "item": "7"})
        message = Message(uuid.uuid4().hex, body or messages.start_body(start, SENDER, NOW), "NAASC.start", COMMANDS)
        assert (await self.broker.publish([message])).confirmed

    async def heard(self, many: int = 1) -> list[Ended]:
        """The next events of workflows' ends."""
        found: list[Ended] = []
        end = time.monotonic() + PATIENCE
        while len(found) < many:
            assert time.monotonic() < end, (found, (self.folder / "log").read_text()[-3000:])
            deliveries = await self.broker.take(OUR_EVENTS, many - len(found), 0.5)
            await self.broker.ack(deliveries)
            found += [one for delivery in deliveries if (one := messages.ended(delivery.body))]
        return found


@pytest.fixture
async def place(tmp_path: Path, archive: TestArchive, ngas: Ngas, rabbitmq: Vhost) -> AsyncIterator[Place]:
    """A site on SQLite."""
    write(tmp_path, archive, ngas, rabbitmq, f"sqlite:{tmp_path / 'metadata.db'}")
    broker = reingestionsite.broker(config.load(tmp_path / "config.toml"))
    await broker.declare()
    await broker.declare_site(SITE)
    ngas.put(asdm())
    made = Place(tmp_path, ngas, broker)
    yield made
    for server in made.servers:
        if server.poll() is None:
            server.kill()
            server.wait()
    await broker.close()


def write(folder: Path, archive: TestArchive, ngas: Ngas, broker: Vhost, dsn: str) -> Path:
    """The configuration, with its secrets in files."""
    for name, secret in (("archive", archive.password), ("broker", broker.password), ("database", DATABASE_PASSWORD)):
        (folder / name).write_text(secret)
        (folder / name).chmod(0o600)
    (folder / "config.toml").write_text(f"""
[archive]
dsn = "{archive.dsn}"
user = "{archive.user}"
password = "file:archive"
[ngas]
url = "{ngas.url}"
timeout = 30
[metadata]
dsn = "{dsn}"
password = "file:database"
[broker]
url = "{broker.url}"
password = "file:broker"
""")
    return folder / "config.toml"


async def test_the_commands_tell_their_end(
    tmp_path: Path, archive: TestArchive, ngas: Ngas, rabbitmq: Vhost, postgres: Database
) -> None:
    """With an id the event is published, complete or failed; a second run under it is refused; without one, nothing."""
    file = write(tmp_path, archive, ngas, rabbitmq, postgres.dsn)
    broker = reingestionsite.broker(config.load(file))
    await broker.declare()
    place = Place(tmp_path, ngas, broker)

    def run(*words: str) -> tuple[int, bytes, bytes]:
        done = call(file, "workflow", *words)
        return done.code, done.out, done.err

    try:
        ngas.put(asdm())
        code, out, _ = await asyncio.to_thread(run, "execution-block", EXECUTION_BLOCK, "--json", "--workflow-id", "w1")
        assert (code, json.loads(out)["scans"]) == (0, 3)
        assert [(one.workflow_id, one.complete) for one in await place.heard()] == [("w1", True)]
        asked = len(ngas.asked)
        code, _, err = await asyncio.to_thread(run, "execution-block", EXECUTION_BLOCK, "--workflow-id", "w1")
        assert (code, len(ngas.asked)) == (5, asked)
        assert b"the workflow w1 has been begun before" in err
        code, out, _ = await asyncio.to_thread(run, "calibration", MOUS, "--workflow-id", "w2")
        assert (code, b"2 files, 1 of them science, 1 execution blocks; Calibrated" in out) == (0, True)
        assert [(one.workflow_id, one.complete) for one in await place.heard()] == [("w2", True)]
        assert postgres.ask("select calibration_status from execution_blocks") == [("Calibrated",)]
        ngas.files.clear()
        code, _, err = await asyncio.to_thread(run, "execution-block", EXECUTION_BLOCK, "--workflow-id", "w3")
        [ended] = await place.heard()
        assert (code, ended.complete) == (1, False)
        assert "has no file" in ended.reason
        assert ended.reason in err.decode()
        ngas.faults.append("busy")
        code, _, _ = await asyncio.to_thread(run, "execution-block", EXECUTION_BLOCK, "--workflow-id", "w4")
        [ended] = await place.heard()
        assert (code, ended.complete, "HTTP 503" in ended.reason) == (4, False, True)
        ngas.put(asdm())
        assert (await asyncio.to_thread(run, "execution-block", EXECUTION_BLOCK, "--workflow-id", "w4"))[0] == 5
        assert postgres.ask("select workflow_id, site, complete from workflow_commands order by 1") == [
            ("w1", "", True), ("w2", "", True), ("w3", "", False), ("w4", "", False)
        ]  # fmt: skip
        assert (await asyncio.to_thread(run, "execution-block", EXECUTION_BLOCK))[0] == 0
        assert await broker.take(OUR_EVENTS, 1, 0.1) == []
        assert (await asyncio.to_thread(run, "execution-block", "nonsense"))[0] == 2
    finally:
        await broker.close()


async def test_each_command_is_run_once_and_its_end_told(place: Place) -> None:
    """Sent twice, asked for again, failing, unknown, malformed: one event or more for each id, one run for each."""
    server = place.start()
    for _ in range(3):
        await place.send("good")
    await place.send("bad", "uid://A002/X9/X9")
    await place.send("unknown", workflow="Sudo")
    await place.send("no-uid", uid="; rm -rf /")
    await place.send("", body=b"\xff not JSON")
    ends: dict[str, Ended] = {}
    while len(ends) < 4:
        ends.update({one.workflow_id: one for one in await place.heard()})
    assert {name: one.complete for name, one in ends.items()} == {
        "good": True, "bad": False, "unknown": False, "no-uid": False
    }  # fmt: skip
    assert ends["good"].metadata["uid"] == EXECUTION_BLOCK
    assert "has no file" in ends["bad"].reason
    assert "there is no workflow Sudo" in ends["unknown"].reason
    folder = MousUid.parse(EXECUTION_BLOCK).mail
    assert place.ngas.asked.count(f"{folder}/ExecBlock.xml") == 1

    async def three_are_dead() -> bool:
        return await place.broker.depth(f"{messages.command_queue(SITE)}.dead") == 3

    await until(three_are_dead)
    server.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(server.wait, PATIENCE) == 0


@pytest.mark.parametrize("workflow_dies", [True, False])
async def test_a_killed_server_s_workflows_are_found(place: Place, workflow_dies: bool) -> None:
    """A workflow that lives on tells its end itself, once; one that was killed too is told by the next server."""
    place.ngas.faults.append("hang")
    server = place.start()
    await place.send("w")

    async def begun() -> bool:
        return bool(place.ngas.asked)

    await until(begun)
    [child] = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    server.kill()
    server.wait()
    if workflow_dies:
        os.kill(int(child), signal.SIGKILL)
    place.start()
    await place.send("w")  # and what was acknowledged is asked for again
    if not workflow_dies:
        place.ngas.go_on()
    ended = (await place.heard())[0]
    assert (ended.workflow_id, ended.complete) == ("w", not workflow_dies)
    assert not workflow_dies or "was killed" in ended.reason
    assert place.ngas.asked.count(f"{MousUid.parse(EXECUTION_BLOCK).mail}/ASDM.xml") == 1


async def test_a_program_that_never_begins_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried a few times, and then its end is told."""
    monkeypatch.setattr(serving, "_LOOK", 0.02)
    (tmp_path / "config.toml").write_text(f'[metadata]\ndsn = "sqlite:{tmp_path / "metadata.db"}"\n')
    metadata, store = reingestionsite.ingest(config.load(tmp_path / "config.toml"))
    broker = MemoryBroker()
    await broker.declare()
    tried = tmp_path / "tried"

    def program(command: Command) -> tuple[str, ...]:
        return ("/bin/sh", "-c", 'echo "$1" >>"$0"; exit 3', str(tried), command.workflow_id)

    given = Serving(SITE, 1, {WORKFLOW: "execution-block"}, program)
    server = Server(given, metadata.migrate, broker, store, Teller(broker, SENDER))
    serve = asyncio.create_task(server.run())
    place = Place(tmp_path, Ngas(), broker)
    await broker.declare_site(SITE)
    await place.send("never")
    [ended] = await place.heard()
    assert not ended.complete
    assert "could not be begun" in ended.reason
    server.stop()
    await asyncio.wait_for(serve, PATIENCE)
    assert tried.read_text().split() == ["never"] * 3
    await metadata.close()


class Counting(IngestStore):
    """Counts the looks at what is recorded."""

    looks = 0

    async def open(self, site: str) -> list[Command]:
        self.looks += 1
        return await super().open(site)


async def test_what_a_killed_server_left_running_takes_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with a limit of one begins neither what is recorded nor what is sent while it runs; then each."""
    for name in ("_LOOK", "_PLACES"):
        monkeypatch.setattr(serving, name, 0.02)
    (tmp_path / "config.toml").write_text(f'[metadata]\ndsn = "sqlite:{tmp_path / "metadata.db"}"\n')
    metadata, _ = reingestionsite.ingest(config.load(tmp_path / "config.toml"))
    assert isinstance(metadata, SqliteMetadata)
    store, broker = Counting(metadata.store), MemoryBroker()
    await metadata.migrate()
    await broker.declare()
    await broker.declare_site(SITE)
    left = await asyncio.create_subprocess_exec("/bin/sleep", "60")
    told = tmp_path / "told"

    def program(command: Command) -> tuple[str, ...]:
        script = 'kill -0 $1 2>/dev/null && how=together || how=alone; echo "$2 $how" >>"$0"'
        return ("/bin/sh", "-c", script, str(told), str(left.pid), command.workflow_id)

    for identity in ("left", "recorded"):
        await store.take(Command(identity, SITE, "execution-block", EXECUTION_BLOCK, {}), NOW)
    owner = running._name(left.pid)
    assert owner
    await store.begin("left", owner)
    server = Server(
        Serving(SITE, 1, {WORKFLOW: "execution-block"}, program), metadata.migrate, broker, store,
        Teller(broker, SENDER),
    )  # fmt: skip
    serve, place = asyncio.create_task(server.run()), Place(tmp_path, Ngas(), broker)
    await place.send("sent")

    async def looked() -> bool:
        return store.looks > 20

    await until(looked)
    left.kill()
    await left.wait()
    ends = {one.workflow_id: one.reason for one in await place.heard(3)}
    assert "was killed" in ends["left"]
    assert set(ends) == {"left", "recorded", "sent"}
    server.stop()
    await asyncio.wait_for(serve, PATIENCE)
    assert sorted(told.read_text().splitlines()) == ["recorded alone"] * 3 + ["sent alone"] * 3
    await metadata.close()


def test_a_process_is_known_by_its_name() -> None:
    """Alive while it lives; another host's cannot be seen."""
    assert lives(own_name()) is True
    host, boot, pid, start = own_name().split(":")
    assert lives(f"{host}:{boot}:{pid}:{int(start) + 1}") is False
    assert lives(f"{host}:another-boot:{pid}:{start}") is False
    assert lives(f"{socket.gethostname()}x:{boot}:{pid}:{start}") is None
    assert lives("") is None


async def test_an_event_is_tried_until_somebody_can_hear_it(caplog: pytest.LogCaptureFixture) -> None:
    """Not confirmed is not told: it is tried again, for so long, and then that is said."""
    broker, ended = MemoryBroker(), Ended("w", True, "", {})
    with pytest.raises(BrokerError, match="event of workflow w could not be published within 0"):
        await Teller(broker, SENDER, within=0.3).tell(ended)
    telling = asyncio.create_task(Teller(broker, SENDER, within=PATIENCE).tell(ended))

    async def tried() -> bool:
        return caplog.text.count("is not out yet") >= 2

    await until(tried)
    await broker.declare()
    await telling
    assert messages.ended((await broker.take(OUR_EVENTS, 1, 1))[0].body) == ended


async def test_a_site_that_cannot_be_ends_the_server(tmp_path: Path) -> None:
    """What no waiting mends is not waited for."""
    (tmp_path / "config.toml").write_text(f'[metadata]\ndsn = "sqlite:{tmp_path / "metadata.db"}"\n')
    metadata, store = reingestionsite.ingest(config.load(tmp_path / "config.toml"))
    broker = MemoryBroker()
    server = Server(
        Serving("a b", 1, {}, lambda _: ("false",)), metadata.migrate, broker, store, Teller(broker, SENDER)
    )
    with pytest.raises(UsageError, match="no site's name"):
        await asyncio.wait_for(server.run(), PATIENCE)
    await metadata.close()


async def test_it_ends_though_the_database_is_silent(
    frail_postgres: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Told to end while it waits for the first answer, it does not wait for it."""
    metadata = frail_postgres.open()
    broker, asked = MemoryBroker(), asyncio.Event()

    async def ready() -> None:
        asked.set()
        await metadata.migrate()

    server = Server(
        Serving(SITE, 1, {}, lambda _: ("false",)), ready, broker, IngestStore(metadata.store), Teller(broker, SENDER)
    )
    with frail_postgres.server.frozen():
        serve = asyncio.create_task(server.run())
        await asked.wait()
        server.stop()
        await asyncio.wait_for(serve, 5)
    assert "works again" not in caplog.text
    await metadata.close()


async def test_an_end_is_recorded_before_it_is_told(frail_postgres: Database, tmp_path: Path) -> None:
    """A database that is away when a workflow ends is waited for, so that nobody takes the workflow for killed."""
    store = IngestStore((metadata := frail_postgres.open()).store)
    command = Command("w", SITE, "execution-block", "uid___A002_X1_X2", {})
    await store.take(command, NOW)
    broker = MemoryBroker()
    await broker.declare()

    async def work() -> dict[str, object]:
        await asyncio.to_thread(frail_postgres.server.stop)
        asyncio.get_running_loop().call_later(
            0.5, frail_postgres.server.start
        )  # it dies with the thread that starts it
        return {}

    await carried_out(metadata.migrate, work, "w", store, Teller(broker, SENDER), {})
    [delivery] = await broker.take(OUR_EVENTS, 1, 1)
    assert messages.ended(delivery.body) == Ended("w", True, "", {})
    recorded = await store.take(command, NOW)
    assert (recorded.complete, recorded.told, recorded.owner) == (True, True, own_name())
    await metadata.close()


def test_from_the_archive_to_a_marked_execution_block(
    tmp_path: Path, archive: TestArchive, ngas: Ngas, rabbitmq: Vhost, postgres: Database
) -> None:
    """Loader, runner and a server at each site, by commands: the block is ingested, its MOUS becomes known, the
    calibration that was deferred is ingested then, and the block is marked."""
    file = write(tmp_path, archive, ngas, rabbitmq, postgres.dsn)
    ngas.put(asdm())

    def run(*words: str) -> None:
        done = call(file, *words)
        assert done.code == 0, done

    servers: dict[str, subprocess.Popen[bytes]] = {}
    run("broker", "declare")
    try:
        for site in (SITE, "DSOC"):
            words = (sys.executable, "-m", "aogconsole", "--config", str(file), "workflow", "serve", "--site", site)
            servers[site] = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for site, server in servers.items():
            assert server.stderr
            assert any(f"archive.workflow-commands.{site}".encode() in line for line in server.stderr), "it ended"
        for _ in range(2):
            run("loader", "--once")
            run("runner", "--until-idle")
    finally:
        for server in servers.values():
            server.terminate()
            server.communicate()
    assert postgres.ask("select kind, state, attempt from alma_reingestion_queue order by kind") == [
        ("calibration", "done", 1), ("execution_block", "done", 1)
    ]  # fmt: skip
    assert postgres.ask("select mous_uid, calibration_status from execution_blocks") == [(MOUS, "Calibrated")]
    assert postgres.ask("select count(*) from workflow_commands where complete and told_at is not null") == [(2,)]
