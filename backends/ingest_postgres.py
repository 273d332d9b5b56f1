"""Transactions of the workflows' store in PostgreSQL: a connection each, every call bounded in time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from aogconsole.errors import ConfigError, MetadataError
from aogconsole.text import clean
from backends.ingest import Statement

_CONNECT: Final = 10
"""Seconds to connect and log in."""
_WITHIN: Final = 60.0
"""Seconds for a transaction; an execution block has at most some ten thousand rows."""


class PostgresLine:
    """`ingest.Line` on a server."""

    def __init__(self, dsn: str, password: str = "") -> None:
        try:
            given = conninfo_to_dict(dsn)
        except psycopg.Error:
            raise ConfigError("metadata.dsn cannot be read", "write it as postgresql://user@host/database") from None
        if password:
            given["password"] = password
        self._where = clean(f"{given.get('host', 'localhost')}:{given.get('port', 5432)}")
        self._conninfo = make_conninfo(
            "", **{"connect_timeout": _CONNECT, "application_name": "aogconsole workflow", **given}
        )

    async def run(self, statements: Sequence[Statement]) -> list[tuple[object, ...]]:
        """See `ingest.Line`."""
        connection: psycopg.AsyncConnection | None = None
        try:
            async with asyncio.timeout(_CONNECT + 2):
                connection = await psycopg.AsyncConnection.connect(self._conninfo)
            async with asyncio.timeout(_WITHIN):
                return await _run(connection, statements)
        except TimeoutError:
            raise MetadataError(
                f"The metadata database at {self._where} is silent.", "try again later, or ask its administrator"
            ) from None
        except (psycopg.Error, OSError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise MetadataError(
                f"The metadata database at {self._where} could not be used: {clean(lines[0])}.",
                "check [metadata] dsn and password, or ask its administrator",
            ) from error
        finally:
            if connection is not None:
                with suppress(psycopg.Error, OSError, TimeoutError):
                    async with asyncio.timeout(1):
                        await connection.close()


async def _run(connection: psycopg.AsyncConnection, statements: Sequence[Statement]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    async with connection, connection.cursor() as cursor:
        for sql, runs in statements:
            ours = sql.encode()
            if len(runs) == 1:
                await cursor.execute(ours, runs[0])
                rows = await cursor.fetchall() if cursor.description else []
            elif runs:
                await cursor.executemany(ours, runs)
    return rows
