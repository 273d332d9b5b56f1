"""The ALMA archive over Oracle Net: one connection and one statement per question.

What python-oracledb (thin, async) does on a line that has gone silent was measured: a cancelled call never
returns, a pool stays wedged, a call's own time-out fires at twice its value. Hence no pool, a time-out around the
log-in, a guard around each call that ends in `terminate`, and no connection that lives on after an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Final

import oracledb

from aogconsole.errors import AogError, ArchiveError, ArchiveLoginRefused, ConfigError
from aogconsole.ids import AccountId, MousUid, ProjectCode
from aogconsole.text import clean
from backends.ports import ArchiveAnswer, ArchiveRow

_GRACE: Final = 0.5
"""Seconds that a live but slow server gets to confirm that it stopped the statement."""
_LOG_OFF: Final = 500
"""Milliseconds for the log-off; on a silent line the driver takes twice as many."""
_FIRST_ROWS, _MORE_ROWS = 100, 1000
"""Rows that come with the answer to the statement itself, and with each further round trip."""
_NOBODY: Final = {"mous": "uid://A001/X0/X0", "account": "-", "project": None}
"""A question without an answer: it tries the log-in, the grants and the columns."""

_NOISE: Final = re.compile(r"('[^']*')|(?:--[^\n]*|\s)*(?:([,()=])(?:--[^\n]*|\s)*|(?:--[^\n]*|\s))")
"""Literals, which stay, and the comments and blanks that need not go over the line with each check."""

_DSN: Final = "write [archive] dsn as host:1521/SERVICE; user and password are settings of their own"

Binds = Mapping[str, str | None]
Answer = tuple[tuple[ArchiveRow, ...], str]
"""The statement's rows, and the server's version."""


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


class OracleArchive:
    """`ports.Archive` on Oracle. Raises ConfigError for a DSN or a folder of queries that cannot be read."""

    def __init__(self, settings: OracleSettings) -> None:
        self._settings = settings
        self._params = _params(settings)
        self._hosts = _hosts(self._params, settings.dsn)
        self._statement = _statement("entitlement", settings.queries)
        self._version = hashlib.sha256(self._statement.encode()).hexdigest()[:12]

    async def ask(self, mous: MousUid, account: AccountId, project: ProjectCode | None) -> ArchiveAnswer:
        """All facts that the entitlement decision needs. Raises ArchiveError, after twice the time-out at most."""
        started = time.monotonic()
        binds = {"mous": mous.database, "account": account.value, "project": project.value if project else None}
        rows, _ = await self._answer(binds)
        return ArchiveAnswer(rows, self._version, round((time.monotonic() - started) * 1000))

    async def ping(self) -> str:
        """Log in and try the statement with a MOUS that cannot be; returns the server's version, `19.3.0.0.0`."""
        _, version = await self._answer(_NOBODY)
        return version

    async def _answer(self, binds: Binds) -> Answer:
        try:
            connection = await self._connect()
            try:
                return await self._guarded(connection, binds)
            finally:
                connection.terminate()
        except oracledb.Error as error:
            raise self._explained(error) from error
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
        except OSError as error:
            raise ArchiveError(
                f"The archive's host {self._host} cannot be found or reached: {clean(str(error.strerror or error))}.",
                "check [archive] dsn, and the name server",
            ) from error
        connection.call_timeout = max(1, round(timeout * 1000))
        connection.autocommit = True  # a view over a database link would leave a transaction open
        return connection

    async def _guarded(self, connection: oracledb.AsyncConnection, binds: Binds) -> Answer:
        """The answer, or ArchiveError: a call that is late is freed by cutting the line, by nothing else."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(self._converse(connection, binds, answer))
        try:
            await asyncio.wait({task}, timeout=self._settings.timeout + _GRACE)
            if answer.done():
                return answer.result()
            if task.done():
                task.result()
            raise self._silent()
        finally:
            if not task.done():
                connection.terminate()
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    async def _converse(
        self, connection: oracledb.AsyncConnection, binds: Binds, answer: asyncio.Future[Answer]
    ) -> None:
        """The statement, and then, the answer being there, a polite end that is never waited for long."""
        rows = await _fetch(connection, self._statement, binds)
        answer.set_result((rows, connection.version))
        await self._log_off(connection)

    async def _log_off(self, connection: oracledb.AsyncConnection) -> None:
        connection.call_timeout = _LOG_OFF
        with suppress(oracledb.Error):
            await connection.close()

    @property
    def _host(self) -> str:
        return clean(", ".join(self._hosts))

    def _silent(self) -> ArchiveError:
        return ArchiveError(
            f"The archive at {self._host} did not answer within {self._settings.timeout:g} s.",
            "try again later; if it stays so, ask the archive's administrator, or raise [archive] timeout",
        )

    def _explained(self, error: oracledb.Error) -> AogError:
        code, lines = _told(error)
        if code in _TIMED_OUT:
            return self._silent()
        if code in _CODES:
            sentence, hint = _CODES[code]
            user = clean(self._settings.user)
            kind = ArchiveLoginRefused if code in _REFUSED else ArchiveError
            return kind(f"{sentence.format(user=user, host=self._host, last=lines[-1])} ({code}).", hint)
        return ArchiveError(
            f"The archive could not be asked: {'; '.join(lines)}", "ask the archive's administrator what it means"
        )


async def _fetch(connection: oracledb.AsyncConnection, statement: str, binds: Binds) -> tuple[ArchiveRow, ...]:
    with connection.cursor() as cursor:
        cursor.prefetchrows = _FIRST_ROWS
        cursor.arraysize = _MORE_ROWS
        await cursor.execute(statement, dict(binds))
        columns = [column.name.lower() for column in cursor.description or ()]
        if "fact" not in columns:
            raise ArchiveError(
                "The site's entitlement.sql returns no column FACT.",
                "compare it with the one supplied, column by column",
            )
        rows = [dict(zip(columns, row, strict=True)) for row in await cursor.fetchall()]
    return tuple(ArchiveRow(str(row.pop("fact")), row) for row in rows)


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


def _statement(name: str, queries: Path | None) -> str:
    """The text of a statement, the site's own when there is one. Raises ConfigError."""
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

_CODES: Final[Mapping[str, tuple[str, str]]] = {
    "ORA-01017": ("The archive refuses the user or password of {user}", _PASSWORD),
    "ORA-01005": ("The archive refuses an empty password for {user}", _PASSWORD),
    "ORA-28000": ("The archive account {user} is locked", "ask the archive's administrator to unlock it"),
    "ORA-28001": ("The password of the archive account {user} has expired", "ask the archive's administrator for one"),
    "ORA-01045": ("The archive account {user} may not log in", _GRANTS),
    "ORA-00942": ("The archive account {user} does not see one of the tables or views", _GRANTS),
    "ORA-01031": ("The archive account {user} may not read one of the tables or views", _GRANTS),
    "ORA-00904": (
        "A table of the archive lacks a column that the entitlement statement reads",
        "put an entitlement.sql for this archive into the folder [archive] queries",
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
