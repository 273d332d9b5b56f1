"""A connection to PostgreSQL that does one piece of work at a time, each in bounded time, and comes back by itself.

A call on a line that has gone silent is freed by cutting the line under it: the driver's own way to cancel asks the
same silent server first. The server undoes what was not committed.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import conninfo, errors

from aogconsole.errors import AogError, ConfigError, MetadataError
from aogconsole.text import clean
from backends.metadata_session import Row, T, Value, migrations
from backends.metadata_tables import read_version

Connection = psycopg.AsyncConnection[Row]

_TRIES: Final = 4
_GRACE: Final = 1.0
"""Seconds that a server gets beyond its own time-out to say that it stopped a statement."""
_DSN: Final = "write [metadata] dsn as postgresql://USER@HOST:PORT/DATABASE; the password is a setting of its own"
_REPEATABLE: Final = (errors.SerializationFailure, errors.DeadlockDetected)
"""The server has undone it all, and it may be tried again."""


@dataclass(frozen=True)
class Address:
    """Where the database is, and how we come there."""

    parts: dict[str, str] = field(repr=False)
    timeout: float
    """Seconds: for connecting, and for each piece of work."""

    @classmethod
    def read(cls, dsn: str, password: str, application: str, timeout: float) -> Address:
        """Raises ConfigError, which does not repeat the address: it may hold a password."""
        try:
            parts = {name: str(value) for name, value in conninfo.conninfo_to_dict(dsn).items() if value is not None}
        except psycopg.ProgrammingError:
            raise ConfigError("[metadata] dsn cannot be read as the address of a PostgreSQL database.", _DSN) from None
        if password:
            parts["password"] = password
        for name, value in _LIVENESS.items():
            parts.setdefault(name, value)
        parts["application_name"] = application
        parts.setdefault("connect_timeout", str(max(2, round(timeout))))
        return cls(parts, timeout)

    @property
    def shown(self) -> str:
        """For the operator: without the password."""
        host = self.parts.get("host", "") or self.parts.get("hostaddr", "") or "the local socket"
        port = f":{self.parts['port']}" if "port" in self.parts else ""
        return clean(f"{host}{port}")

    @property
    def database(self) -> str:
        """Its name."""
        return clean(self.parts.get("dbname", "") or self.parts.get("user", "") or "of the account's name")

    @property
    def user(self) -> str:
        """The account."""
        return clean(self.parts.get("user", "") or "of this process")


_LIVENESS: Final = {
    "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "20000",
}  # fmt: skip
"""A line whose other end is gone is found dead after half a minute, even when nobody says anything on it."""

_SETTINGS: Final = {
    "timezone": "UTC",
    "idle_in_transaction_session_timeout": "300000",
    "tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3",
    # each of our questions has an index: a table that was never analysed must not make the planner read all of it
    "enable_seqscan": "off", "jit": "off",
}  # fmt: skip


class Line:
    """One connection, made at the first use, and made again after it broke. One caller at a time; others wait."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        self._stage = "begin"  # of a piece of work: begin, work, commit

    async def rows(self, sql: str, **values: Value) -> list[Row]:
        """Run a statement with `:name` parameters; only inside of `run`."""
        assert self._connection, "rows are asked for inside of run"  # noqa: S101
        return await rows(self._connection, sql, **values)

    async def run(
        self,
        work: Callable[[Line], Awaitable[T]],
        *,
        transaction: bool,
        once: bool = False,
        within: float | None = None,
    ) -> T:
        """Do a piece of work within so many seconds. Raises MetadataError, and what the work raises."""
        within = (within or self.address.timeout) + _GRACE
        try:
            async with asyncio.timeout(within):
                await self._turn.acquire()
        except TimeoutError:
            raise self._silent(within) from None
        try:
            task = asyncio.ensure_future(self._tried(work, transaction, once))
            try:
                await asyncio.wait({task}, timeout=within)
                if not task.done():
                    raise self._silent(within)
                return task.result()
            finally:
                if not task.done():
                    self.cut()
                    task.cancel()
                    await asyncio.wait({task}, timeout=_GRACE)
                    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
                    await self.close()
        finally:
            self._turn.release()

    async def alive(self) -> bool:
        """Whether the connection that was made still is; never makes one."""
        if self._connection is None or self._connection.closed:
            return False
        with suppress(MetadataError):
            return bool(await self.run(lambda line: line.rows("select 1"), transaction=False, once=True))
        return False

    @property
    def connection(self) -> Connection | None:
        """The driver's; None while there is none."""
        return self._connection

    def cut(self) -> None:
        """Free whoever waits on this line: it looks as if the server had closed it."""
        if self._connection is not None and not self._connection.closed:
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self._connection.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """End the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _tried(self, work: Callable[[Line], Awaitable[T]], transaction: bool, once: bool) -> T:
        for last in (False,) * (_TRIES - 1) + (True,):
            await self._open()
            self._stage = "begin" if transaction else "work"
            try:
                return await (self._transaction(work) if transaction else work(self))
            except psycopg.Error as error:
                lost = self._connection is None or self._connection.closed or self._connection.broken
                if lost:
                    await self.close()
                if lost and self._stage == "commit":
                    raise self._uncertain() from error
                repeatable = not once or self._stage == "begin"  # then nothing was done yet
                if last or not repeatable or not (lost or isinstance(error, _REPEATABLE)):
                    raise explained(error, self.address) from error
        raise AssertionError  # the last try returns or raises

    async def _transaction(self, work: Callable[[Line], Awaitable[T]]) -> T:
        connection = self._connection
        assert connection, "opened before"  # noqa: S101
        await connection.execute("begin")
        self._stage = "work"
        try:
            done = await work(self)
            self._stage = "commit"
            await connection.execute("commit")
        except asyncio.CancelledError:
            self.cut()
            raise
        except BaseException:
            if not connection.closed:
                with suppress(psycopg.Error):
                    await connection.execute("rollback")
            raise
        return done

    async def _open(self) -> None:
        """Connect, when there is no connection. Raises MetadataError."""
        if self._connection is not None and not self._connection.closed:
            return
        self._connection = None
        try:
            async with asyncio.timeout(self.address.timeout):
                self._connection = await connected(self.address)
        except TimeoutError:
            raise self._silent(self.address.timeout) from None
        except psycopg.Error as error:
            raise explained(error, self.address) from error

    def _silent(self, within: float) -> MetadataError:
        return MetadataError(
            f"The metadata database at {self.address.shown} did not answer within {within:g} s.",
            "try again later; if it stays so, ask its administrator",
        )

    def _uncertain(self) -> MetadataError:
        return MetadataError(
            f"The line to the metadata database at {self.address.shown} broke while a change was committed.",
            "it may or may not be recorded: look, and repeat it if not",
        )


async def connected(address: Address) -> Connection:
    """A new connection, set up; one whose tables are newer than ours is refused (MetadataError)."""
    connection: Connection = await psycopg.AsyncConnection.connect(
        conninfo.make_conninfo("", **address.parts), autocommit=True
    )
    try:
        settings = {**_SETTINGS, "statement_timeout": str(round(address.timeout * 1000))}
        each = ", ".join("set_config(%s, %s, false)" for _ in settings)
        await connection.execute(f"select {each}", [word for pair in settings.items() for word in pair])
        await version(connection)
    except BaseException:
        await connection.close()
        raise
    return connection


async def rows(connection: Connection, sql: str, **values: Value) -> list[Row]:
    """Run a statement with `:name` parameters; its rows, if it has any."""
    cursor = await connection.execute(_bound(sql) if values else sql, values or None)
    return await cursor.fetchall() if cursor.description else []


@functools.cache
def _bound(sql: str) -> str:
    """With parameters as the driver writes them."""
    return re.sub(r"(?<!:):([a-z_]+)", r"%(\1)s", sql)


async def version(connection: Connection) -> int:
    """Of our tables, 0 for none. Raises MetadataError for one newer than ours, or none at all."""
    [[there]] = await rows(connection, "select to_regclass('reingestion_meta') is not null")
    found = await rows(connection, "select value from reingestion_meta where key = 'schema'") if there else []
    return read_version(found[0][0] if found else None, len(migrations("postgres")))


_SAID: Final = (
    ("password authentication failed", "refuses our password", "correct [metadata] password"),
    ("no password supplied", "wants a password", "set [metadata] password"),
    ("pg_hba.conf", "does not let us in", "ask its administrator for a line in pg_hba.conf"),
    ("starting up", "is starting up", "try again in a moment"),
    ("shutting down", "is shutting down", "try again later"),
    ("too many", "has too many connections already", "ask its administrator to raise max_connections"),
    ("Connection refused", "does not take connections", "is it running, and [metadata] dsn right?"),
    ("resolve host", "cannot be found", "is the host in [metadata] dsn right?"),
    ("could not translate", "cannot be found", "is the host in [metadata] dsn right?"),
)
"""What a failed log-in says (it comes without a code), in words of ours, and what to do."""


def explained(error: psycopg.Error, address: Address) -> AogError:
    """One sentence and what to do."""
    detail = clean(" ".join((error.diag.message_primary or str(error)).split()))[:300]
    where = f"The metadata database at {address.shown}"
    known = _by_code(error, address, detail)
    if known:
        return MetadataError(f"{where} {known[0]}.", known[1])
    if "does not exist" in detail and f'database "{address.parts.get("dbname", "")}"' in detail:
        return MetadataError(
            f"{where} has no database {address.database}.", "make it (createdb), or correct [metadata] dsn"
        )
    if "does not exist" in detail and "role" in detail:
        return MetadataError(f"{where} has no account {address.user}.", "correct the user in [metadata] dsn")
    for said, words, hint in _SAID:
        if said in detail:
            return MetadataError(f"{where} {words} (account {address.user}).", hint)
    return MetadataError(f"{where} could not be used: {detail}.", "ask its administrator what it means")


def _by_code(error: psycopg.Error, address: Address, detail: str) -> tuple[str, str] | None:
    match error:
        case errors.UndefinedTable() | errors.UndefinedColumn() | errors.UndefinedFunction():
            return f"lacks a table or column of ours ({detail})", "`aogconsole loader --once` makes them"
        case errors.InsufficientPrivilege():
            return f"does not allow it to {address.user} ({detail})", "ask its administrator for the grants"
        case errors.QueryCanceled() | errors.LockNotAvailable():
            return f"took longer than {address.timeout:g} s", "try again later; is something locked for long?"
        case errors.ReadOnlySqlTransaction():
            return "is read-only, a standby", "name the primary server in [metadata] dsn"
        case errors.DiskFull():
            return "has no room left on its disk", "make room; nothing was changed"
        case errors.AdminShutdown() | errors.CrashShutdown() | errors.CannotConnectNow():
            return "is being restarted", "try again in a moment"
        case errors.IntegrityError() | errors.DataError():
            return f"refuses a value ({detail})", "what came from outside is not what it should be"
    return None
