"""The metadata database on PostgreSQL: connections for calls, for publishing, to listen, and for each lock."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Final

import psycopg

from aogconsole.errors import AogError
from aogconsole.text import clean
from backends.metadata_line import Address, Line
from backends.metadata_session import Dialect, Session, T, columns
from backends.metadata_tables import Tables, read_version

_CHANNEL: Final = "aogconsole"
_LISTEN: Final = 20.0
"""Seconds of silence after which the listening line is tried."""
_PUBLISHING: Final = 120.0
"""Seconds for a transaction in which messages are published: the broker has its own time-outs, which are shorter."""
LANES: Final = 2
"""Connections for publishing: one marks its rows while the other's are published."""
_MIGRATING: Final = 600.0
_WAIT: Final = (0.2, 10.0)
"""Seconds before a listening line is made again: at first, and at most."""


def _table(given: str) -> str:
    parts = ", ".join(f"{name} {kind}" for name, kind in columns(given))
    return f"json_to_recordset(cast(:rows as json)) as given ({parts})"


POSTGRES: Final = Dialect(
    "postgres", "select pg_advisory_xact_lock(hashtextextended('aogconsole ' || :name, 0))", _table,
    {"for update": "for update", "skip locked": "for update skip locked", "ever": "'-infinity'::timestamptz",
     "find": "strpos", "c": 'collate "C"', "notify": f"select pg_notify('{_CHANNEL}', :what)",
     "hour": "date_trunc('hour', at at time zone 'UTC') at time zone 'UTC'"},
)  # fmt: skip


class PostgresStore:
    """`metadata_session.Store` on PostgreSQL."""

    dialect = POSTGRES

    def __init__(self, address: Address) -> None:
        self.address = address
        self.calls, self.publishing = Line(address), [Line(address) for _ in range(LANES)]
        self._free: asyncio.Queue[Line] = asyncio.LifoQueue()
        for line in reversed(self.publishing):
            self._free.put_nowait(line)

    async def read(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Ask."""
        return await self.calls.run(work, transaction=False)

    async def write(self, work: Callable[[Session], Awaitable[T]], *, once: bool = False) -> T:
        """Do it all in one transaction, or nothing."""
        if not once:
            return await self.calls.run(work, transaction=True)
        line = await self._free.get()
        try:
            return await line.run(work, transaction=True, once=True, within=_PUBLISHING)
        finally:
            self._free.put_nowait(line)


class PostgresMetadata(Tables):
    """`reingestion_ports.Metadata` on PostgreSQL. Raises ConfigError for an address that cannot be read."""

    def __init__(self, dsn: str, password: str = "", application: str = "aogconsole", timeout: float = 30.0) -> None:
        self._server = PostgresStore(Address.read(dsn, password, application, timeout))
        self._listening: set[Line] = set()
        self._closed = False
        super().__init__(self._server)

    async def migrate(self) -> None:
        """Make or bring up to date our tables, all in one transaction; who comes at the same time waits."""
        if await self._server.calls.run(self._version, transaction=False) == len(self._migrations()):
            return

        async def work(line: Line) -> None:
            await line.rows("set local statement_timeout = 0")
            await line.rows(POSTGRES.lock, name="migrate")
            for text in self._migrations()[await self._version(line) :]:
                await line.rows(text)
            await self._made(line)

        await self._server.calls.run(work, transaction=True, within=_MIGRATING)

    async def _version(self, line: Line) -> int:
        [[there]] = await line.rows("select to_regclass('reingestion_meta') is not null")
        found = await line.rows(self._sql["value"], key="schema") if there else []
        return read_version(found[0][0] if found else None, len(self._migrations()))

    def alone(self, name: str) -> ServerAlone:
        """A lock of this name: an advisory lock of a connection of its own."""
        return ServerAlone(Line(self._server.address), name)

    async def changes(self) -> AsyncIterator[str]:
        """What has been woken. After a break it is not known what was missed: `queue`, and `loader` if it was."""
        line = Line(self._server.address)
        self._listening.add(line)
        wait, seen = _WAIT[0], None
        try:
            while not self._closed:
                with suppress(AogError, psycopg.Error):
                    woken = await line.run(self._listen, transaction=False)
                    wait = _WAIT[0]
                    for what in _missed(seen, woken):
                        yield what
                    seen = woken
                    async with aclosing(_told(line)) as told:
                        async for what in told:
                            yield what
                    seen = await line.run(self._woken, transaction=False, once=True)
                    continue
                await line.close()
                if not self._closed:
                    await asyncio.sleep(wait)
                    wait = min(wait * 2, _WAIT[1])
        finally:
            self._listening.discard(line)
            await line.close()

    async def _listen(self, line: Line) -> dict[str, str]:
        await line.rows(f"listen {_CHANNEL}")
        return await self._woken(line)

    async def _woken(self, line: Line) -> dict[str, str]:
        return {key.removeprefix("woken."): value for key, value in await line.rows(self._sql["woken"])}

    async def ping(self) -> str:
        """Log in and look; a sentence."""

        async def work(line: Line) -> str:
            [[server]] = await line.rows("show server_version")
            tables = await self._version(line)
            shown = f"tables of version {tables}" if tables else "no tables yet"
            address = line.address
            return f"PostgreSQL {clean(server)} at {address.shown}, database {address.database}, {shown}"

        return await self._server.calls.run(work, transaction=False)

    async def close(self) -> None:
        """End all connections."""
        self._closed = True
        for one in self._listening:
            one.cut()
        for line in (self._server.calls, *self._server.publishing):
            await line.close()


class ServerAlone:
    """`reingestion_ports.Alone` by an advisory lock: the server gives it up when the connection ends."""

    def __init__(self, line: Line, name: str) -> None:
        self._line = line
        self._key = int.from_bytes(hashlib.sha256(f"aogconsole {name}".encode()).digest()[:8], "big", signed=True)
        self._held_by: object = None

    async def __aenter__(self) -> ServerAlone:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._held_by = None
        await self._line.close()

    async def take(self) -> bool:
        """Try; True when it is ours."""
        if await self.held():
            return True

        async def work(line: Line) -> tuple[bool, object]:
            [[taken]] = await line.rows("select pg_try_advisory_lock(cast(:key as bigint))", key=self._key)
            return bool(taken), line.connection

        taken, connection = await self._line.run(work, transaction=False)
        self._held_by = connection if taken else None
        return taken

    async def held(self) -> bool:
        """Whether it still is ours: the very connection that took it lives."""
        if self._held_by is None or not await self._line.alive() or self._line.connection is not self._held_by:
            self._held_by = None
            return False
        return True


def _missed(seen: dict[str, str] | None, now: dict[str, str]) -> list[str]:
    if seen is None:
        return []
    return ["queue"] + [what for what in now if now[what] != seen.get(what)]


async def _told(line: Line) -> AsyncGenerator[str, None]:
    """What the server tells, until it is silent for long."""
    if line.connection is not None:
        async with aclosing(line.connection.notifies(timeout=_LISTEN)) as notifies:
            async for one in notifies:
                if one.payload:
                    yield one.payload
