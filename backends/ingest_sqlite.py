"""Transactions of the workflows' store in SQLite, in a worker thread; several processes may use one file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aogconsole.errors import MetadataError
from aogconsole.text import clean
from backends.ingest import Statement

_BUSY: Final = 20.0
"""Seconds to wait for another process' transaction."""


class SqliteLine:
    """`ingest.Line` on a file."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    async def run(self, statements: Sequence[Statement]) -> list[tuple[object, ...]]:
        """See `ingest.Line`."""
        try:
            return await asyncio.to_thread(self._run, statements)
        except sqlite3.Error as error:
            raise MetadataError(
                f"The metadata database {clean(str(self._path))} could not be used: {clean(str(error))}.",
                "check the file, its folder and the disk",
            ) from error

    def _run(self, statements: Sequence[Statement]) -> list[tuple[object, ...]]:
        uri = f"{self._path.absolute().as_uri()}?mode=rw"  # a file that is not there is a fault, not a new database
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY, isolation_level=None)) as connection:
            connection.execute("pragma foreign_keys = on")
            connection.execute("pragma synchronous = full")
            connection.execute("begin immediate")
            rows: list[tuple[object, ...]] = []
            try:
                for sql, runs in statements:
                    ours = sql.replace("%s", "?")
                    for values in runs:
                        cursor = connection.execute(ours, [_stored(one) for one in values])
                        rows = cursor.fetchall()
                connection.execute("commit")
            finally:
                if connection.in_transaction:
                    connection.execute("rollback")
            return rows


def _stored(value: object) -> str | int | float | None:
    """A value as SQLite keeps it: a time as text in UTC, with microseconds."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert value is None or isinstance(value, str | int | float)  # noqa: S101
    return value
