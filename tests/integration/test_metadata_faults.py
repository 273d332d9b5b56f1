"""The metadata database away, slow, wrong or older: what is told, what is left, and that nothing hangs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from aogconsole.errors import ConfigError, MetadataError
from aogconsole.reingestion.item import Item, Queue, State
from backends import metadata_line, metadata_session, metadata_sqlite, metadata_tables
from backends.metadata import open_metadata
from backends.metadata_postgres import PostgresMetadata
from backends.metadata_sqlite import SqliteMetadata
from tests.contract.tracking_site import LEASE, MANY, NOW, block, everything, queued, work
from tests.support.postgres import PASSWORD, Database

KILLED = """
import asyncio, os, signal, sys
from aogconsole.reingestion.item import Queue
from backends.metadata import open_metadata
from tests.contract.tracking_site import MANY, NOW

async def publish(items):
    print(len(items), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(open_metadata(sys.argv[1], sys.argv[2]).tracking(Queue.ALMA).send(publish, "l", NOW, 3, MANY))
"""


async def refused(asked: Awaitable[object], *words: str, within: float = 10) -> MetadataError:
    """It ends with one sentence that has these words, in time, without the password."""
    began = time.monotonic()
    with pytest.raises(MetadataError) as caught:
        await asked
    said = str(caught.value)
    assert time.monotonic() - began < within
    assert said.isprintable()
    assert PASSWORD not in said + caught.value.hint
    assert caught.value.hint
    for word in words:
        assert word in said, said
    return caught.value


async def test_killed_between_publishing_and_commit(postgres: Database, tmp_path: Path) -> None:
    """The rows wait still, and the next one sends them: a message too many does no harm, a lost one would."""
    path = tmp_path / "metadata.db"
    for dsn, opened in ((postgres.dsn, postgres.open()), (f"sqlite:{path}", SqliteMetadata(path))):
        await opened.migrate()
        tracking = opened.tracking(Queue.ALMA)
        await tracking.add([block(n) for n in range(5)], "l", NOW)
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, dsn, PASSWORD, stdout=asyncio.subprocess.PIPE
        )
        told, _ = await child.communicate()
        assert (told, child.returncode) == (b"3\n", -signal.SIGKILL)
        assert len(await tracking.items([State.WAITING])) == 5

        async def sent() -> int:
            async with asyncio.timeout(10):
                total = 0
                while total < 5:  # the server lets go of the rows when it notices that their holder is gone
                    total += (await tracking.send(everything, "l", NOW, 9, MANY))[1]  # noqa: B023
                return total

        assert await sent() == 5
        assert {row.attempt for row in await tracking.items()} == {1}
        await opened.close()


async def test_server_restarted(frail_postgres: Database) -> None:
    """Between two calls nobody notices; while it is away each call says so at once; listening and locks come back."""
    metadata = frail_postgres.open(timeout=5)
    tracking, server = metadata.tracking(Queue.ALMA), frail_postgres.server
    await tracking.add([block(n) for n in range(4)], "l", NOW)
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def listen() -> None:
        async with aclosing(metadata.changes()) as changes:  # type: ignore[type-var]
            async for what in changes:
                heard.put_nowait(what)

    async def hears(what: str) -> None:
        async with asyncio.timeout(30):
            while await heard.get() != what:
                pass

    listening = asyncio.create_task(listen())
    while heard.empty():  # it listens a little later
        await metadata.wake("loader")
        await asyncio.sleep(0)
    async with metadata.alone("loader") as lock:
        assert await lock.take()
        await asyncio.to_thread(server.restart)
        assert await tracking.add([block(9)], "l", NOW) == 1
        assert not await lock.held()
        assert await lock.take()
        await asyncio.to_thread(server.kill)
        await refused(tracking.counts(), "does not take connections")
        await refused(tracking.add([block(10)], "l", NOW), "127.0.0.1")
        assert not await lock.held()
        await asyncio.to_thread(server.start)
        while not heard.empty():
            heard.get_nowait()
        await metadata.wake("loader")
        await hears("loader")
        assert sum((await tracking.counts())[block(1).kind].values()) == 5
    await metadata.close()
    async with asyncio.timeout(10):
        await listening


async def test_server_killed_while_publishing(frail_postgres: Database) -> None:
    """The call ends with an error that the caller can act on; the rows wait still."""
    metadata = frail_postgres.open()
    tracking = metadata.tracking(Queue.ALMA)
    await tracking.add([block(n) for n in range(4)], "l", NOW)

    async def publish(items: Sequence[Item]) -> Collection[int]:
        await asyncio.to_thread(frail_postgres.server.kill)
        return [row.id for row in items]

    await refused(tracking.send(publish, "l", NOW, 9, MANY))
    await asyncio.to_thread(frail_postgres.server.start)
    assert len(await tracking.items([State.WAITING])) == 4
    assert await tracking.send(everything, "l", NOW, 9, MANY) == (4, 4)
    await metadata.close()


async def test_server_frozen(frail_postgres: Database) -> None:
    """A server that says nothing holds up no call for longer than the time-out, connected or not; and comes back."""
    connected, fresh = frail_postgres.open(timeout=0.3), frail_postgres.open(timeout=0.3)
    await connected.ping()
    async with connected.alone("loader") as lock:
        assert await lock.take()
        with frail_postgres.server.frozen():
            asked = [connected.notes(), fresh.notes(), connected.wake("loader")]
            held = asyncio.create_task(lock.held())
            for error in await asyncio.gather(*(refused(one, "did not answer", within=6) for one in asked)):
                assert "127.0.0.1" in str(error)
            assert not await held
    assert await connected.notes() == {}
    await connected.close()
    await fresh.close()


async def test_cancelled_while_publishing(postgres: Database, tmp_path: Path) -> None:
    """Who is told to stop leaves the rows free for the next one, at once."""
    for opened in (postgres.open(), SqliteMetadata(tmp_path / "m.db")):
        await opened.migrate()
        tracking = opened.tracking(Queue.ALMA)
        await tracking.add([block(1)], "l", NOW)
        inside = asyncio.Event()

        async def publish(items: Sequence[Item]) -> Collection[int]:
            inside.set()  # noqa: B023
            await asyncio.sleep(60)
            return [row.id for row in items]

        sending = asyncio.create_task(tracking.send(publish, "l", NOW, 9, MANY))
        await inside.wait()
        sending.cancel()
        await asyncio.wait({sending}, timeout=5)
        assert sending.cancelled()
        async with asyncio.timeout(5):
            while await tracking.send(everything, "l", NOW, 9, MANY) != (1, 1):
                pass
        await opened.close()


async def test_what_is_wrong_is_told(postgres: Database, empty_postgres: Database, tmp_path: Path) -> None:
    """Account, password, database, host, tables, grants, files: one sentence each."""
    right = postgres.dsn

    async def told(dsn: str, *words: str, password: str = PASSWORD) -> None:
        metadata = open_metadata(dsn, password, timeout=5)
        await refused(metadata.notes(), *words)
        await metadata.close()

    await told(right, "refuses our password", password="wrong")
    await told(right, "wants a password", password="")
    await told(right.replace("aog@", "nobody@"), "refuses our password", "nobody")
    await told(right.replace(postgres.name, "nowhere"), "no database nowhere")
    await told(right.replace("127.0.0.1", "nowhere.invalid"), "cannot be found")
    await told(right.replace(str(postgres.server.port), "1"), "does not take connections")
    await told(empty_postgres.dsn, 'lacks a table or column of ours (relation "reingestion_note" does not exist).')
    postgres.ask("alter table reingestion_note owner to postgres")
    await told(right, "does not allow it to aog")
    await told(f"sqlite:{tmp_path}/none/m.db", "cannot be used")
    await told(f"sqlite:{tmp_path}/empty.db", "lacks our tables")
    (tmp_path / "text.db").write_text("no database, but a text that is long enough" * 30)
    await told(f"sqlite:{tmp_path}/text.db", "could not be used")
    for dsn in ("", "mysql://x", f"postgresql://u:{PASSWORD}@h:port/d%", "sqlite:", "sqlite::memory:"):
        with pytest.raises(ConfigError) as wrong:
            open_metadata(dsn)
        assert PASSWORD not in str(wrong.value)
    assert "127.0.0.1" in await empty_postgres.open().ping()


def schema(dsn: str, postgres: Database | None) -> object:
    """All that is declared."""
    if postgres:
        return [postgres.ask(asked) for asked in (
            "select table_name, column_name, data_type, column_default, is_nullable from information_schema.columns "
            "where table_schema = 'public' order by 1, 2",
            "select indexdef from pg_indexes where schemaname = 'public' order by 1",
            "select conrelid::regclass::text, pg_get_constraintdef(oid) from pg_constraint "
            "where connamespace = 'public'::regnamespace order by 1, 2",
            "select tgname, tgrelid::regclass::text from pg_trigger where not tgisinternal order by 1, 2")]  # fmt: skip
    with closing(sqlite3.connect(dsn)) as line:
        return line.execute("select type, name, sql from sqlite_schema order by 1, 2").fetchall()


@pytest.mark.parametrize("earlier", range(len(metadata_session.migrations("sqlite"))))
async def test_from_every_earlier_version(
    earlier: int, postgres: Database, empty_postgres: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database of each earlier version becomes what a new one is, with its rows; two at once do no harm."""
    cases: list[tuple[Callable[[], PostgresMetadata | SqliteMetadata], object, Callable[[], object]]] = []
    fresh, old = tmp_path / "fresh.db", tmp_path / "old.db"
    await SqliteMetadata(fresh).migrate()
    cases.append((lambda: SqliteMetadata(old), schema(str(fresh), None), lambda: schema(str(old), None)))
    cases.append((empty_postgres.open, schema("", postgres), lambda: schema("", empty_postgres)))
    all_of_them = metadata_session.migrations
    for opened, wanted, found in cases:
        if earlier:
            with monkeypatch.context() as patch:
                for module in (metadata_tables, metadata_line, metadata_sqlite):
                    patch.setattr(module, "migrations", lambda dialect: all_of_them(dialect)[:earlier])
                first = opened()
                await first.migrate()
                await queued(first.tracking(Queue.ALMA), block(1))
                await first.close()
        both = opened(), opened()
        await asyncio.gather(*(one.migrate() for one in both))
        assert found() == wanted
        assert len(await both[0].tracking(Queue.ALMA).items([State.QUEUED])) == bool(earlier)
        assert await both[0].installation() == await both[1].installation()
        for one in both:
            await one.close()


async def test_newer_tables_are_refused(postgres: Database, tmp_path: Path) -> None:
    """By whatever is asked first, and nothing is changed."""
    path = tmp_path / "m.db"
    first = SqliteMetadata(path)
    await first.migrate()
    await first.close()
    newer = "update reingestion_meta set value = '99' where key = 'schema'"
    postgres.ask(newer)
    with closing(sqlite3.connect(path)) as line, line:
        line.execute(newer)
    for dsn in (postgres.dsn, f"sqlite:{path}"):
        metadata = open_metadata(dsn, PASSWORD)
        await refused(metadata.migrate(), "version 99")
        await refused(metadata.notes(), "version 99")
        await refused(metadata.wake("loader"), "version 99")
        await metadata.close()


async def test_tables_of_no_version_are_refused(postgres: Database, tmp_path: Path) -> None:
    """With a sentence, whatever stands there; a row that is away is no such thing."""
    path = tmp_path / "m.db"
    await (first := SqliteMetadata(path)).migrate()
    await first.close()
    for wrong in ("x\x1b[31m", "", "-1", "9" * 5000):
        odd = f"update reingestion_meta set value = '{wrong}' where key = 'schema'"  # noqa: S608
        postgres.ask(odd)
        with closing(sqlite3.connect(path)) as line, line:
            line.execute(odd)
        for dsn in (postgres.dsn, f"sqlite:{path}"):
            metadata = open_metadata(dsn, PASSWORD)
            await refused(metadata.migrate(), "which is none")
            await refused(metadata.notes(), "which is none")
            await metadata.close()


async def test_several_processes_claim(postgres: Database, tmp_path: Path) -> None:
    """Two programs want the same rows of one SQLite file, or one server: each row is launched once."""
    script = """
import asyncio, json, sys
from aogconsole.reingestion.item import Queue, State
from backends.metadata import open_metadata
from backends.reingestion_ports import Limits
from tests.contract.tracking_site import LEASE, NOW, work

async def main(dsn, password, name):
    metadata = open_metadata(dsn, password)
    tracking = metadata.tracking(Queue.ALMA)
    mine = []
    while rows := await tracking.items([State.QUEUED], most=7):
        claims = await tracking.claim([work(row) for row in rows], name, Limits(1000), NOW, LEASE)
        mine += [row.id for row in claims.launching]
    print(json.dumps(mine))
    await metadata.close()

asyncio.run(main(*sys.argv[1:]))
"""
    path = tmp_path / "m.db"
    for dsn, opened in ((postgres.dsn, postgres.open()), (f"sqlite:{path}", SqliteMetadata(path))):
        await opened.migrate()
        rows = await queued(opened.tracking(Queue.ALMA), *(block(n) for n in range(60)))
        children = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", script, dsn, PASSWORD, name, stdout=asyncio.subprocess.PIPE
            )
            for name in "ab"
        ]
        told = [json.loads((await child.communicate())[0]) for child in children]
        assert sorted(number for one in told for number in one) == [row.id for row in rows]
        await opened.close()


async def test_another_process_that_closes_it_leaves_it_whole(tmp_path: Path) -> None:
    """With several connections in one process SQLite's locks stay: who else closes it is not the last user."""
    path = tmp_path / "metadata.db"
    one, other = SqliteMetadata(path), SqliteMetadata(path)
    look = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1])"
    look += "; print(*c.execute('select count(*) from reingestion_note'))"
    try:
        for number in range(3):
            for metadata in (one, other):
                await metadata.migrate()
                await metadata.note(f"{number} {metadata is one}", {}, NOW)
                assert len(await metadata.notes()) == 2 * number + 1 + (metadata is other)
            looking = await asyncio.create_subprocess_exec(
                sys.executable, "-c", f"{look}; c.close()", str(path), stdout=-1
            )
            assert (await looking.communicate())[0] == b"(%d,)\n" % (2 * number + 2)
            assert path.with_name("metadata.db-wal").exists()
    finally:
        await one.close()
        await other.close()


async def test_disk_full(tmp_path: Path) -> None:
    """Nothing is changed, and it is said."""
    metadata = SqliteMetadata(tmp_path / "m.db")
    await metadata.migrate()
    tracking = metadata.tracking(Queue.ALMA)
    [row] = await queued(tracking, block(1))
    [[pages]] = await metadata.store.read(lambda session: session.rows("pragma page_count"))

    async def cap() -> None:
        line = metadata._lines.writer
        await line.run(lambda: line.connection().execute(f"pragma max_page_count = {pages}"))

    await cap()
    error = await refused(tracking.add([block(n) for n in range(2, 900)], "l", NOW), "full")
    assert "room" in error.hint
    assert await tracking.items() == [row]
    assert (await tracking.claim([work(row)], "r", MANY, NOW, LEASE)).launching
    await metadata.close()
    shutil.rmtree(tmp_path, ignore_errors=os.geteuid() == 0)
