"""The metadata database of the embedded site: one SQLite file, which several processes may use.

Two connections, each with a thread of its own: one reads, one writes, so that reading never waits for a write
transaction that is held while messages are published. Writers of this process queue up here, those of others wait
at the file.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from aogconsole.errors import MetadataError
from aogconsole.text import clean
from backends.metadata_session import Dialect, Row, Session, T, Value, columns, migrations, time_text
from backends.metadata_tables import Tables, read_version

_POLL: Final = 0.25
"""Seconds between looks for what other processes changed."""


def _table(given: str) -> str:
    parts = ", ".join(f"json_extract(value, '$.{name}') as {name}" for name, _ in columns(given))
    return f"(select {parts} from json_each(:rows)) as given"  # noqa: S608 (names of ours)


SQLITE: Final = Dialect(
    "sqlite", "", _table,
    {"for update": "", "skip locked": "", "ever": "''", "find": "instr", "c": "",
     "hour": "substr(at, 1, 13) || ':00:00Z'"},
)  # fmt: skip


class _Line:
    """One connection and its thread; made at the first use."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._path, self._timeout = path, timeout
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metadata")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def rows(self, sql: str, **values: Value) -> list[Row]:
        """Run a statement in the thread. Raises MetadataError."""
        plain = {name: time_text(one) if isinstance(one, datetime) else one for name, one in values.items()}
        return await self.run(partial(self._rows, sql, plain))

    async def run(self, work: Callable[[], T]) -> T:
        """Do something in the thread, in bounded time. Raises MetadataError."""
        if self._closed:
            raise MetadataError("The metadata database has been closed.", "this program is about to end")
        task = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            done, _ = await asyncio.wait({task}, timeout=self._timeout + 1)
            if not done:
                raise MetadataError(
                    f"The metadata database {clean(str(self._path))} did not answer within {self._timeout:g} s.",
                    "is its disk slow or full?",
                )
            return task.result()
        except sqlite3.Error as error:
            raise _explained(error, self._path) from error
        except OSError as error:
            raise MetadataError(
                f"The metadata database {clean(str(self._path))} cannot be used: {clean(str(error.strerror))}.",
                "check [metadata] dsn, and the folder's owner and mode",
            ) from error
        finally:
            if not task.done():
                task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
                if self._connection:
                    self._connection.interrupt()

    def _rows(self, sql: str, values: dict[str, str | int | float | None]) -> list[Row]:
        return self.connection().execute(sql, values).fetchall()

    def connection(self) -> sqlite3.Connection:
        """The connection; in the thread."""
        if self._connection is None:
            with suppress(FileExistsError):  # one that is there is never opened: closing it would drop SQLite's locks
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
            made = sqlite3.connect(self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False)
            try:
                _to_wal(made, self._timeout)
                made.execute("pragma synchronous = full")
                made.execute("pragma foreign_keys = on")
                _version(made)
            except BaseException:
                made.close()
                raise
            self._connection = made
        return self._connection

    def roll_back(self) -> None:
        """End a transaction that is open; in the thread."""
        if self._connection and self._connection.in_transaction:
            self._connection.execute("rollback")

    async def close(self) -> None:
        """Close the connection, after what the thread does now."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection:
            await asyncio.get_running_loop().run_in_executor(self._thread, connection.close)
        self._thread.shutdown(wait=False)


class SqliteStore:
    """`metadata_session.Store` on a file."""

    dialect = SQLITE

    def __init__(self, path: Path, timeout: float) -> None:
        self.path = path
        self.reader, self.writer = _Line(path, timeout), _Line(path, timeout)
        self.changed: set[asyncio.Event] = set()
        """Set after each change of ours."""
        self._timeout = timeout
        self._writing = asyncio.Lock()

    async def read(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Ask."""
        return await work(self.reader)

    async def write(self, work: Callable[[Session], Awaitable[T]], *, once: bool = False) -> T:
        """Do it all in one transaction, or nothing."""
        async with self._alone():
            try:
                await self.writer.rows("begin immediate")
                done = await work(self.writer)
                await self.writer.rows("commit")
            except BaseException:
                # in the thread it follows whatever was under way there, whether or not we stay to see it
                with suppress(MetadataError):
                    await asyncio.shield(self.writer.run(self.writer.roll_back))
                raise
        for one in self.changed:
            one.set()
        return done

    async def close(self) -> None:
        """Close both connections."""
        await self.reader.close()
        await self.writer.close()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout):
                await self._writing.acquire()
        except TimeoutError:
            raise MetadataError(
                f"Another change of the metadata database has taken longer than {self._timeout:g} s.",
                "does the broker take messages? Try again later",
            ) from None
        try:
            yield
        finally:
            self._writing.release()


class SqliteMetadata(Tables):
    """`reingestion_ports.Metadata` on a file."""

    def __init__(self, path: Path, timeout: float = 30.0) -> None:
        self._lines = SqliteStore(path, timeout)
        self._closed = False
        super().__init__(self._lines)

    async def migrate(self) -> None:
        """Make or bring up to date our tables, all in one transaction."""
        if await self._lines.writer.run(lambda: _version(self._lines.writer.connection())) == len(self._migrations()):
            return

        async def work(session: Session) -> None:
            done = await self._lines.writer.run(lambda: _version(self._lines.writer.connection()))
            for text in self._migrations()[done:]:
                for statement in _statements(text):
                    await session.rows(statement)
            await self._made(session)

        await self._lines.write(work)

    def alone(self, name: str) -> FileAlone:
        """A lock of this name: an `flock` on a file beside the database."""
        return FileAlone(self._lines.path.with_name(f"{self._lines.path.name}.{name}"))

    async def changes(self) -> AsyncIterator[str]:
        """What has been woken: ours at once, that of other processes by polling."""
        ours = asyncio.Event()
        self._lines.changed.add(ours)
        try:
            version: int | None = -1
            seen = await self._woken()
            while True:
                with suppress(TimeoutError):  # wait_for would lose a cancellation that comes with the event
                    async with asyncio.timeout(_POLL):
                        await ours.wait()
                ours.clear()
                if self._closed:
                    return
                now = await self._data_version()
                if now != version:
                    version, before, seen = now, seen, await self._woken()
                    for what in sorted(key for key in seen if seen[key] != before.get(key)):
                        yield what
        finally:
            self._lines.changed.discard(ours)

    async def _data_version(self) -> int | None:
        """Changes when another connection than the reading one has changed the file; None when it cannot be asked."""
        with suppress(MetadataError):
            [[version]] = await self._lines.reader.rows("pragma data_version")
            return int(version)
        return None

    async def _woken(self) -> dict[str, str]:
        """How often each has been woken; nothing while the file cannot be asked: then all are taken for woken."""
        with suppress(MetadataError):
            rows = await self._lines.reader.rows(self._sql["woken"])
            return {key.removeprefix("woken."): value for key, value in rows}
        return {}

    async def ping(self) -> str:
        """Look; a sentence."""
        [[version]] = await self._lines.reader.rows("select sqlite_version()")
        tables = await self._lines.reader.run(lambda: _version(self._lines.reader.connection()))
        shown = f"tables of version {tables}" if tables else "no tables yet"
        return f"SQLite {version}, {clean(str(self._lines.path))}, {shown}"

    async def close(self) -> None:
        """End all connections."""
        self._closed = True
        for one in self._lines.changed:
            one.set()
        await self._lines.close()


class FileAlone:
    """`reingestion_ports.Alone` by `flock`: the kernel gives it up when we end, however we end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    async def __aenter__(self) -> FileAlone:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    async def take(self) -> bool:
        """Try; True when it is ours."""
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise MetadataError(
                f"The lock {clean(str(self._path))} cannot be made: {clean(str(error.strerror))}.",
                "check the folder's owner and mode",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    async def held(self) -> bool:
        """Whether it still is ours: nobody has removed the file, so that another could take its namesake."""
        if self._descriptor is None:
            return False
        with suppress(OSError):
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        return False


def _to_wal(connection: sqlite3.Connection, timeout: float) -> None:
    """For the first time: of two who do so at once one is told that the file is busy, without waiting."""
    end = time.monotonic() + timeout
    while True:
        try:
            connection.execute("pragma journal_mode = wal")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _version(connection: sqlite3.Connection) -> int:
    """Of our tables, 0 for none. Raises MetadataError for one newer than ours, or none at all."""
    with closing(connection.cursor()) as cursor:
        if not cursor.execute("select 1 from sqlite_schema where name = 'reingestion_meta'").fetchone():
            return 0
        row = cursor.execute("select value from reingestion_meta where key = 'schema'").fetchone()
    return read_version(row[0] if row else None, len(migrations(SQLITE.name)))


def _statements(script: str) -> list[str]:
    """One by one, for a script of many would commit first."""
    statements, begun = [], ""
    for line in script.splitlines(keepends=True):
        begun += line
        if sqlite3.complete_statement(begun):
            statements.append(begun)
            begun = ""
    return statements


def _explained(error: sqlite3.Error, path: Path) -> MetadataError:
    name = getattr(error, "sqlite_errorname", "") or ""
    where = clean(str(path))
    if "no such table" in str(error):
        return MetadataError(
            f"The metadata database {where} lacks our tables.", "`aogconsole loader --once` makes them"
        )
    hints = {
        "SQLITE_BUSY": "another process holds it for long",
        "SQLITE_INTERRUPT": "is its disk slow?",
        "SQLITE_FULL": "the disk is full: make room; nothing was changed",
        "SQLITE_READONLY": "check the owner and mode of the file and its folder",
        "SQLITE_CANTOPEN": "check [metadata] dsn, and that its folder exists and is yours",
        "SQLITE_NOTADB": "it is no SQLite file: is [metadata] dsn right?",
        "SQLITE_CORRUPT": "it is damaged: restore the backup",
    }
    hint = next((text for start, text in hints.items() if name.startswith(start)), "is [metadata] dsn right?")
    return MetadataError(f"The metadata database {where} could not be used: {clean(str(error))}.", hint)
