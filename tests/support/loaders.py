"""Loaders of re-ingestion for tests, and an archive in which the right answer for every row is known.

The archive's rows and the answers are drawn from the same dice, and the answers are worked out here, in plain Python,
not by what is tested. Loaders that are killed are real processes, forked from a server that has imported everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

from aogconsole import capo, config, reingestionsite
from aogconsole.cli import loader as verb
from aogconsole.config import Config
from aogconsole.reingestion.item import Item, Queue, State, version_of
from aogconsole.reingestion.loader import Loader, Outside, Pace, Summary
from backends import metadata_postgres, metadata_sqlite, oracle_news, rabbitmq
from backends.broker_ports import Broker
from backends.memory_broker import MemoryBroker
from backends.reingestion_ports import ArchiveNews, Metadata
from tests.support.oracle import SCHEMA, TestArchive
from tests.support.postgres import Database

IMPORTED = (capo, metadata_postgres, metadata_sqlite, oracle_news, rabbitmq)
"""What a loader imports when it needs it: here before the fork, so that each starts at once."""
FAST = Pace(stand_by=0.1, poll=0.1, between=0.02, rebuild=0.2, backoff=0.2, once=5.0)
TABLES = SCHEMA.read_text("utf-8").partition("\ninsert into")[0]
BEGAN = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MOUS, EB = "uid://A001/X1/X1", "uid://A002/X1/X"
CUSTOM = "member.scriptForFluxCalibration.py"
Key = tuple[str, str, str]
"""Kind, uid, version."""


@dataclass
class Sky:
    """What is in the archive, as statements; what must be in the table, by key; what the tables know before."""

    statements: list[str] = field(default_factory=list)
    right: dict[Key, State] = field(default_factory=dict)
    structure: list[str] = field(default_factory=list)
    """MOUSs of `alma_ouses`."""
    marked: set[str] = field(default_factory=set)
    """MOUSs that must be marked `Do Not Calibrate`."""

    def block(self, uid: str, ended: datetime | None, project: str = "2019.1.00001.S", times: int = 1) -> None:
        """An execution block, as a view may show it: padded, more than once, of any status."""
        rows = [f"('{uid}', '{project}', {_sql(ended)}, 'SUCCESS', 'Fail')"] * times
        into = "insert into aqua_v_execblock(execblockuid, obsprojectcode, endtime, status, qa0status) values"
        self.statements.append(f"{into} {', '.join(rows)}")

    def product(self, mous: str, kind: str, created: datetime | None, name: str = "x.fits") -> None:
        """A product file."""
        into = "insert into asa_product_files values"
        self.statements.append(f"{into} ('{mous}', '{name}', '{kind}', {_sql(created)}, 1)")

    def sql(self) -> str:
        """Every statement so far."""
        return ";\n".join([*self.statements, ""])


def drawn(seed: int, blocks: int = 300, mouss: int = 100) -> Sky:
    """An archive by dice: each rule of the seed, and each oddity that its tables may have."""
    dice, sky = random.Random(seed), Sky()
    for number in range(blocks):
        uid = f"uid://A002/X{number + 1:x}/X{dice.randrange(1, 4096):x}"
        ended = BEGAN + timedelta(minutes=10 * number, microseconds=dice.randrange(10**6))
        odd = dice.random()
        if odd < 0.05:
            sky.block(uid, None)
        elif odd < 0.08:
            sky.block(f"uid:/{number}", ended)
        else:
            sky.block(uid + " " * dice.choice([0, 0, 5]), ended, times=dice.choice([1, 1, 1, 3]))
            sky.right["execution_block", uid, version_of(ended)] = State.WAITING
    for number in range(mouss):
        _draw_mous(sky, dice, f"uid://A001/X{number + 1:x}/X{dice.randrange(1, 4096):x}", number)
    dice.shuffle(sky.statements)
    return sky


def _draw_mous(sky: Sky, dice: random.Random, mous: str, number: int) -> None:
    at = BEGAN + timedelta(minutes=30 * number, microseconds=dice.randrange(10**6))
    science, known = dice.random() < 0.8, dice.random() < 0.8
    script = dice.choice(["", "", "", "scriptForPI.py", CUSTOM, CUSTOM.lower(), "aux"])
    times = [at - timedelta(minutes=n) for n in range(3)]
    sky.product(mous, dice.choice(["product", "Science", "sciences"]), dice.choice([None, times[1]]), "a")
    if science:
        sky.product(mous, dice.choice(["science", "science   "]), dice.choice([None, times[2]]), "b")
    if script:
        name, kind = (CUSTOM, "auxiliary") if script == "aux" else (script, dice.choice(["script", "script "]))
        sky.product(mous, kind, dice.choice([None, times[2]]), name)
    sky.product(mous, "readme", at, "c")
    if known:
        sky.structure.append(mous)
    custom = script == CUSTOM
    state = State.DEFERRED if not (science and known) else State.DO_NOT_CALIBRATE if custom else State.WAITING
    sky.right["calibration", mous, version_of(at)] = state
    if state is State.DO_NOT_CALIBRATE:
        sky.marked.add(mous)


def _sql(at: datetime | None) -> str:
    return "null" if at is None else f"'{at.replace(tzinfo=None).isoformat(' ', 'microseconds')}'"


@dataclass
class Station:
    """A site with an archive, a table and a broker, and loaders on it."""

    folder: Path
    archive: TestArchive
    metadata: Metadata
    broker: Broker
    config: Config
    processes: list[BaseProcess] = field(default_factory=list)

    async def once(self, since: datetime | None = None) -> Summary:
        """One cycle in this process, as `loader --once`."""
        summary = await verb.serve(self.config, since, once=True, pace=FAST)
        assert summary is not None
        return summary

    def loader(self, interval: float = 3600.0, news: ArchiveNews | None = None) -> Loader:
        """One that runs in this process."""
        news = news or reingestionsite.news(self.config)
        rules = replace(verb.rules(self.config), interval=interval)
        return Loader(Outside(self.metadata, self.broker, news), lambda: rules, "loader@test:1", pace=FAST)

    def start(self) -> BaseProcess:
        """A loader in a process of its own."""
        process = _forks().Process(
            target=serve, args=(str(self.config.file), str(self.folder / f"loader{len(self.processes)}.log"))
        )
        process.start()
        self.processes.append(process)
        return process

    async def rows(self) -> list[Item]:
        """The whole table."""
        return await self.metadata.tracking(Queue.ALMA).items(most=100_000)

    async def table(self) -> dict[Key, State]:
        """What became of each row; what was sent counts as waiting."""
        return {
            (row.kind.value, row.uid, row.version): State.WAITING if row.state is State.QUEUED else row.state
            for row in await self.rows()
        }

    async def messages(self, least: int = 0) -> list[str]:
        """Ids of the messages in the work queue; they are taken. A broker that was killed may take its time with the
        first ones: waits until there are `least`."""
        taken: list[str] = []
        while deliveries := await self.broker.take(Queue.ALMA.messages, 500, 20.0 if len(taken) < least else 0.3):
            taken += [one.id for one in deliveries]
            await self.broker.ack(deliveries)
        return taken


@asynccontextmanager
async def station(
    folder: Path, archive: TestArchive, dsn: str, broker_url: str, *, database_password: str = "",
    broker_password: str = "", settings: str = "",
) -> AsyncIterator[Station]:  # fmt: skip
    """A site, with its queues declared and its tables made."""
    secrets = {"archive": archive.password, "database": database_password, "broker": broker_password}
    for name, secret in secrets.items():
        (folder / f"{name}.password").write_text(secret)
        (folder / f"{name}.password").chmod(0o600)
    lines = [
        "[archive]", f'dsn = "{archive.dsn}"', f'user = "{archive.user}"', 'password = "file:archive.password"',
        "timeout = 5", "[metadata]", f"dsn = {json.dumps(dsn)}",
        *(['password = "file:database.password"'] if database_password else []),
        "[broker]", f"url = {json.dumps(broker_url)}",
        *(['password = "file:broker.password"'] if broker_password else []), "[reingestion]", settings,
    ]  # fmt: skip
    (folder / "config.toml").write_text("\n".join(lines) + "\n")
    loaded = config.load(folder / "config.toml")
    made = Station(folder, archive, reingestionsite.metadata(loaded), reingestionsite.broker(loaded), loaded)
    try:
        await made.metadata.migrate()
        await made.broker.declare()
        yield made
    finally:
        for one in made.processes:
            if one.is_alive():
                one.kill()
            await asyncio.to_thread(one.join, 10)
        await made.broker.close()
        await made.metadata.close()


@asynccontextmanager
async def small(folder: Path, sky: Sky, broker: str = "memory:") -> AsyncIterator[Station]:
    """A site in one process: SQLite and the broker in memory, one of its own."""
    MemoryBroker.shared(folder.name)
    with archive_of(sky) as archive:
        async with station(folder, archive, f"sqlite:{folder}/m.db", f"{broker}{folder.name}") as made:
            recognize(folder, *sky.structure)
            yield made


def recognize(folder: Path, *mous: str) -> None:
    """Have MOUSs in `alma_ouses`, as a workflow does."""
    line = sqlite3.connect(folder / "m.db")
    with line:
        line.executemany("insert into alma_ouses(mous_uid) values (?)", [(one,) for one in mous])
    line.close()


def recognized(database: Database, sky: Sky) -> None:
    """The same in PostgreSQL."""
    rows = ", ".join(f"('{mous}')" for mous in sky.structure)
    database.ask(f"insert into alma_ouses(mous_uid) values {rows}")  # noqa: S608


def marks(folder: Path) -> dict[str, tuple[str, str]]:
    """Marked MOUSs."""
    line = sqlite3.connect(folder / "m.db")
    found = line.execute(
        "select mous_uid, calibration_status, calibration_version from alma_ouses where calibration_status is not null"
    ).fetchall()
    line.close()
    return {mous: (status, version) for mous, status, version in found}


def events(folder: Path) -> int:
    """Lines of the history."""
    line = sqlite3.connect(folder / "m.db")
    (count,) = line.execute("select count(*) from reingestion_event").fetchone()
    line.close()
    return int(count)


async def until(true: Callable[[], Awaitable[bool]], within: float = 10.0) -> None:
    """Wait for something to be so."""
    end = time.monotonic() + within
    while not await true():
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.05)


@contextmanager
def signals_kept() -> Iterator[None]:
    """The verb sets handlers of signals: here they are put back."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(one) for one in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@asynccontextmanager
async def running(site: Station, interval: float = 3600.0, news: ArchiveNews | None = None) -> AsyncIterator[None]:
    """A loader at work in this process."""
    task = asyncio.create_task(site.loader(interval, news).run())
    try:
        yield
    finally:
        task.cancel()
        ended, _ = await asyncio.wait([task], timeout=10)
        assert ended, "told once, it ends"


async def note(site: Station) -> dict[str, object]:
    """The loader's note."""
    found = (await site.metadata.notes()).get("loader")
    return dict(found.value) if found else {}


def archive_of(sky: Sky) -> TestArchive:
    """An archive with just this."""
    return TestArchive(TABLES + "\n" + sky.sql())


def serve(file: str, log: str) -> None:
    """One loader: what a forked process does."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    for noisy in ("pika", "psycopg", "oracledb"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(verb.serve(config.load(Path(file)), pace=FAST))


@functools.cache
def _forks() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.runners", "tests.support.loaders"])
    return context
