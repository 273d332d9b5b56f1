"""The ALMA archive for the request desk: one connection and one statement per check."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Final

import oracledb

from aogconsole.errors import ArchiveError
from aogconsole.ids import AccountId, MousUid, ProjectCode
from backends.oracle_line import OracleLine, OracleSettings, statement_of
from backends.ports import ArchiveAnswer, ArchiveRow

__all__ = ["OracleArchive", "OracleSettings"]

_FIRST_ROWS, _MORE_ROWS = 100, 1000
"""Rows that come with the answer to the statement itself, and with each further round trip."""
_NOBODY: Final = {"mous": "uid://A001/X0/X0", "account": "-", "project": None}
"""A question without an answer: it tries the log-in, the grants and the columns."""

Binds = Mapping[str, str | None]
Answer = tuple[tuple[ArchiveRow, ...], str]
"""The statement's rows, and the server's version."""


class OracleArchive(OracleLine):
    """`ports.Archive` on Oracle. Raises ConfigError for a DSN or a folder of queries that cannot be read."""

    def __init__(self, settings: OracleSettings) -> None:
        super().__init__(settings)
        self._statement = statement_of("entitlement", settings.queries)
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
        async with self._open("entitlement") as connection:
            answer = await self._guarded(connection, _fetch(connection, self._statement, binds)), connection.version
            await self._log_off(connection)
            return answer


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
