"""Which execution blocks a MOUS has, as the ALMA archive knows it: one connection and one statement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import oracledb

from aogconsole.errors import ArchiveError, InvalidId
from aogconsole.ids import MousUid
from aogconsole.stagecalms.choice import Block
from aogconsole.text import clean
from backends.oracle_line import OracleLine, OracleSettings, statement_of

__all__ = ["OracleBlocks", "OracleSettings", "merged"]

NAME: Final = "stagecalms_blocks"
"""The statement, which the site may replace by name."""
MOST: Final = 2000
"""Rows; no MOUS has as many execution blocks."""


class OracleBlocks(OracleLine):
    """`cluster_ports.Blocks` on Oracle. Raises ConfigError for a DSN or a folder of queries that cannot be read."""

    def __init__(self, settings: OracleSettings) -> None:
        super().__init__(settings)
        self._statement = statement_of(NAME, settings.queries)

    async def of(self, mous: MousUid) -> Sequence[Block]:
        """See the port. Raises ArchiveError, after twice the time-out at most."""
        async with self._open(NAME) as connection:
            found = await self._guarded(connection, self._ask(connection, mous))
            await self._log_off(connection)
            return found

    async def _ask(self, connection: oracledb.AsyncConnection, mous: MousUid) -> list[Block]:
        with connection.cursor() as cursor:
            cursor.prefetchrows = cursor.arraysize = 100
            await cursor.execute(self._statement, {"mous": mous.database, "name": mous.mail})
            columns = [column.name.lower() for column in cursor.description or ()]
            for column in ("execblockuid", "qa0status"):
                if column not in columns:
                    raise ArchiveError(
                        f"The site's {NAME}.sql returns no column {column.upper()}.",
                        "compare it with the one supplied, column by column",
                    )
            rows = await cursor.fetchmany(MOST + 1)
        if len(rows) > MOST:
            raise ArchiveError(
                f"{NAME}.sql returns over {MOST} rows for MOUS {mous}: that cannot be.",
                "compare the site's statement with the one supplied",
            )
        uid, qa0 = columns.index("execblockuid"), columns.index("qa0status")
        try:
            return merged((str(row[uid] or ""), str(row[qa0] or "")) for row in rows)
        except InvalidId as error:
            raise ArchiveError(
                f"The archive has an execution block of MOUS {mous} whose id is none: {error}.",
                f"have it corrected, or put a {NAME}.sql that leaves it out into the folder [archive] queries",
            ) from error


def merged(rows: Iterable[tuple[str, str]]) -> list[Block]:
    """Each execution block once, in the order of their UIDs, from (UID in either spelling, QA0 status).

    Of several statuses of a block one that is not `Pass` counts: what is in doubt is left to a person. A row without
    one says nothing. Raises InvalidId.
    """
    found: dict[str, str] = {}
    for uid, told in rows:
        block, qa0 = MousUid.parse(uid.strip()).mail, clean(told.strip())[:40]
        known = found.setdefault(block, qa0)
        if known.casefold() in ("", "pass") and qa0:
            found[block] = qa0
    return [Block(uid, qa0) for uid, qa0 in sorted(found.items())]
