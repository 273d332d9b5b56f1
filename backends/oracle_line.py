"""A line to the ALMA archive over Oracle Net: how to log in, how long to wait, and the words for its errors.

What python-oracledb (thin, async) does on a line that has gone silent was measured: a cancelled call never
returns, a pool stays wedged, a call's own time-out fires at twice its value. Hence no pool, a time-out around the
log-in, a guard around each call that ends in `terminate`, and no connection that lives on after an error.

A line that is cut in the moment before the driver sends ends the process with a segmentation fault (oracledb 26.1:
its buffer has lost the transport, and asks no more). Hence two rules: `call_timeout` is never set, since up to
Python 3.11 the driver then waits a turn of the loop before it sends; and `_cut` is the only one to terminate.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

import oracledb

from aogconsole.errors import AogError, ArchiveError, ArchiveLoginRefused, ConfigError
from aogconsole.text import clean

_GRACE: Final = 0.5
"""Seconds that a live but slow server gets to confirm that it stopped the statement, and any server to log off."""

_NOISE: Final = re.compile(r"('[^']*')|(?:--[^\n]*|\s)*(?:([,()=])(?:--[^\n]*|\s)*|(?:--[^\n]*|\s))")
"""Literals, which stay, and the comments and blanks that need not go over the line with each check."""

_DSN: Final = "write [archive] dsn as host:1521/SERVICE; user and password are settings of their own"

T = TypeVar("T")


@dataclass(frozen=True)
class OracleSettings:
    """Where the archive is ([archive] of the configuration)."""

    dsn: str
    """Easy Connect (`host:1521/SERVICE`), a connect descriptor, or an alias of tnsnames.ora."""
    user: str
    password: str = field(repr=False)
    timeout: float = 10.0
    """Seconds: for the log-in, and for the statement."""
    queries: Path | None = None
    """Folder whose .sql files replace ours by name."""


class OracleLine:
    """What every question to the archive needs. Raises ConfigError for a DSN that cannot be read."""

    def __init__(self, settings: OracleSettings) -> None:
        self._settings = settings
        self._params = _params(settings)
        self._hosts = _hosts(self._params, settings.dsn)

    @asynccontextmanager
    async def _open(self, name: str) -> AsyncIterator[oracledb.AsyncConnection]:
        """A connection for the questions of the statement `name`; what they raise becomes ours."""
        try:
            connection = await self._connect()
            line = getattr(connection, "_impl", connection)  # which the connection lets go as soon as it is to close
            try:
                yield connection
            finally:
                await _cut(line)
        except oracledb.Error as error:
            raise self._explained(error, name) from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # the driver's, on bytes it cannot read
            raise ArchiveError(
                f"The archive at {self._host} answered what the driver cannot read: {clean(repr(error))}",
                "try again later; if it stays so, ask the archive's administrator what stands before the database",
            ) from error

    async def _connect(self) -> oracledb.AsyncConnection:
        timeout = self._settings.timeout
        try:
            async with asyncio.timeout(timeout):
                # the driver looks names up on the event loop; a slow name server must be met elsewhere first
                for host in self._hosts:
                    if not _is_address(host):
                        await asyncio.get_running_loop().getaddrinfo(host, None)
                connection: oracledb.AsyncConnection = await oracledb.connect_async(params=self._params)
        except TimeoutError:
            raise self._silent() from None
        except (OSError, UnicodeError) as error:  # a name that can be none is the latter
            why = clean(str(getattr(error, "strerror", None) or error))
            raise ArchiveError(
                f"The archive's host {self._host} cannot be found or reached: {why}.",
                "check [archive] dsn, and the name server",
            ) from error
        connection.autocommit = True  # a view over a database link would leave a transaction open
        return connection

    async def _guarded(self, connection: oracledb.AsyncConnection, call: Coroutine[Any, Any, T]) -> T:
        """What a call of the driver gives, or ArchiveError. One that is late is broken off; `_open` cuts the line."""
        answer = _answer(call)
        await asyncio.wait({answer}, timeout=self._settings.timeout)
        if not answer.done() and connection.is_healthy():
            connection.cancel()  # a server that lives stops the statement
            await asyncio.wait({answer}, timeout=_GRACE)
        if answer.done():
            return answer.result()
        raise self._silent()

    async def _log_off(self, connection: oracledb.AsyncConnection) -> None:
        """A polite end, never waited for long; that it fails is nobody's business."""
        await asyncio.wait({_answer(connection.close())}, timeout=_GRACE)

    @property
    def _host(self) -> str:
        return clean(", ".join(self._hosts))

    def _silent(self) -> ArchiveError:
        return ArchiveError(
            f"The archive at {self._host} did not answer within {self._settings.timeout:g} s.",
            "try again later; if it stays so, ask the archive's administrator, or raise [archive] timeout",
        )

    def _explained(self, error: oracledb.Error, name: str = "entitlement") -> AogError:
        """Our error for Oracle's; `name`: the statement that met it."""
        code, lines = _told(error)
        if code in _TIMED_OUT:
            return self._silent()
        if code in CODES:
            sentence, hint = CODES[code]
            user = clean(self._settings.user)
            kind = ArchiveLoginRefused if code in _REFUSED else ArchiveError
            words = sentence.format(user=user, host=self._host, last=lines[-1], name=name)
            return kind(f"{words} ({code}).", hint.format(name=name))
        return ArchiveError(
            f"The archive could not be asked {name}.sql: {'; '.join(lines)}",
            "ask the archive's administrator what it means",
        )


def _answer(call: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
    """What a call of the driver will give. It goes on without whoever waits for it: cancelled, it would never return.
    What it meets once nobody waits, when its line is cut, is told to nobody."""
    answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            answer.set_result(await call)
        except Exception as error:
            answer.set_exception(error)

    task = asyncio.ensure_future(work())
    task.add_done_callback(lambda _: answer.cancel())  # the loop ends, and all tasks with it
    answer.add_done_callback(lambda _: answer.cancelled() or answer.exception())
    return answer


async def _cut(line: Any) -> None:
    """Close a line on which a call may be under way, and let the call find out.

    What has just arrived must reach the driver first, and what comes next must not: between the two the driver may
    be about to send. A timer fires after a turn's arrivals, and what it orders comes before those of the next."""
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def close() -> None:
        line.terminate()
        closed.set()

    loop.call_later(0, loop.call_soon, close)
    await closed.wait()


def _params(settings: OracleSettings) -> oracledb.ConnectParams:
    """How to log in, read once. Raises ConfigError; a DSN that may hold a password is not repeated."""
    if "@" in settings.dsn:
        raise ConfigError("[archive] dsn holds more than an address.", _DSN)
    try:
        params: oracledb.ConnectParams = oracledb.ConnectParams(
            user=settings.user,
            password=settings.password,
            program="aogconsole",
            tcp_connect_timeout=settings.timeout,
        )
        params.parse_connect_string(settings.dsn)
    except oracledb.Error as error:
        raise ConfigError(
            f"[archive] dsn '{clean(settings.dsn)}' cannot be read: {_told(error)[1][0]}.", _DSN
        ) from error
    return params


def _hosts(params: oracledb.ConnectParams, dsn: str) -> tuple[str, ...]:
    """The hosts that a DSN names. Raises ConfigError."""
    hosts = params.host if isinstance(params.host, list) else [params.host]
    if not all(hosts):
        raise ConfigError(f"[archive] dsn '{clean(dsn)}' names no host.", _DSN)
    return tuple(hosts)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def statement_of(name: str, queries: Path | None) -> str:
    """The text of a statement of the folder sql/oracle, the site's own when there is one. Raises ConfigError."""
    ours = resources.files("backends").joinpath("sql", "oracle", f"{name}.sql")
    try:
        if queries is not None and not queries.is_dir():
            raise ConfigError(f"[archive] queries: there is no folder {clean(str(queries))}.", "correct or remove it")
        if queries is not None and (theirs := queries / f"{name}.sql").exists():
            return theirs.read_text(encoding="utf-8").rstrip().rstrip(";")  # which Oracle takes for an error
        return _NOISE.sub(lambda found: found[1] or found[2] or " ", ours.read_text(encoding="utf-8")).strip()
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"[archive] queries: {name}.sql cannot be read: {clean(str(error))}.", "make it readable, in UTF-8"
        ) from error


def _told(error: oracledb.Error) -> tuple[str, list[str]]:
    """An error's code (`ORA-00942`) and its lines, clean. What a listener says comes wrapped in DPY-6005."""
    if isinstance(error.__cause__, oracledb.Error):
        return _told(error.__cause__)
    issue = error.args[0]
    lines = [clean(line) for line in str(issue.message).splitlines() if line and not line.startswith("Help:")]
    return issue.full_code, lines or [issue.full_code]


_TIMED_OUT: Final = frozenset({"DPY-4024", "ORA-01013", "ORA-12170"})

_REFUSED: Final = frozenset({"ORA-01017", "ORA-01005", "ORA-28000", "ORA-28001"})

_GRANTS = "ask the archive's administrator for the grants that the site's page lists"
_PASSWORD = "correct [archive] user and password before the account gets locked by further tries"  # noqa: S105
_LATER = "try again later; if it stays so, ask the archive's administrator"
_SERVICE = "correct the service name in [archive] dsn"

CODES: Final[Mapping[str, tuple[str, str]]] = {
    "ORA-01017": ("The archive refuses the user or password of {user}", _PASSWORD),
    "ORA-01005": ("The archive refuses an empty password for {user}", _PASSWORD),
    "ORA-28000": ("The archive account {user} is locked", "ask the archive's administrator to unlock it"),
    "ORA-28001": ("The password of the archive account {user} has expired", "ask the archive's administrator for one"),
    "ORA-01045": ("The archive account {user} may not log in", _GRANTS),
    "ORA-00942": ("The archive account {user} does not see one of the tables or views that {name}.sql reads", _GRANTS),
    "ORA-01031": ("The archive account {user} may not read one of the tables or views of {name}.sql", _GRANTS),
    "ORA-00904": (
        "A table of the archive lacks a column that {name}.sql reads",
        "put a {name}.sql for this archive into the folder [archive] queries",
    ),
    "ORA-12514": ("The archive at {host} does not know the service", _SERVICE),
    "DPY-6001": ("The archive at {host} does not know the service", _SERVICE),
    "DPY-6003": ("The archive at {host} does not know the SID", _SERVICE),
    "DPY-6000": ("The archive's listener at {host} refuses the connection", _LATER),
    "DPY-6005": (
        "The archive at {host} cannot be reached: {last}",
        "check [archive] dsn, the network and the firewall",
    ),
    "DPY-4011": ("The archive at {host} closed the connection", _LATER),
    "ORA-03113": ("The archive at {host} closed the connection", _LATER),
    "ORA-01033": ("The archive is starting or stopping", _LATER),
    "ORA-01034": ("The archive's database is down", _LATER),
    "DPY-3001": (
        "The archive at {host} asks for native network encryption, which this client does not speak",
        "ask the archive's administrator for a TLS listener (dsn tcps://host:2484/SERVICE), "
        "or for SQLNET.ENCRYPTION_SERVER and CRYPTO_CHECKSUM_SERVER not to be REQUIRED",
    ),
    "DPY-3010": ("The archive at {host} is older than Oracle 12.1, which this client does not speak", _LATER),
    "DPY-3015": (
        "The password of {user} is stored in a form that this client does not speak",
        "ask the archive's administrator to set it again with a 12C verifier",
    ),
}
