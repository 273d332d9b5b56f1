"""What is new in the ALMA archive, over Oracle Net: one connection per question, read in batches.

Every statement is a file of `sql/oracle`, which the site may replace by name. A time of the archive is UTC. A row
whose id is no UID is left out, and the log says so once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from aogconsole.errors import ArchiveError, InvalidId
from aogconsole.ids import MousUid
from aogconsole.reingestion.ingested import ProductFile
from aogconsole.text import clean
from backends.oracle_line import OracleLine, OracleSettings, statement_of
from backends.reingestion_ports import NewExecutionBlock, NewProducts, ProductFacts, Structure

_NOBODY: Final = "uid://A001/X0/X0"
_AFTER_ALL: Final = datetime(9000, 1, 1, tzinfo=UTC)
BATCH: Final = 1000
"""Rows of one round trip, and of one batch handed on."""
MOST: Final = 500
"""Ids in one statement; Oracle takes 1000 in a list."""
_BEFORE_ALL: Final = datetime(1900, 1, 1)  # noqa: DTZ001
"""Before anything that the archive holds."""
_SIZES: Final = (1, 10, 100, MOST)
"""Lengths of lists of ids: a few texts only, which Oracle parses once."""

_LIST: Final = re.compile(r"'[^']*'|--[^\n]*|:(\w+)")
_log = logging.getLogger("aogconsole.archive")

_COLUMNS: Final = {
    "execution_blocks": {"execblockuid", "obsprojectcode", "endtime"},
    "products": {"asa_ous_id", "creation_date"},
    "product_facts": {"fact", "mous", "value", "files"},
    "product_spelling": {"asa_ous_id"},
    "structure": {"execblockuid", "schedblockuid", "sessionuid", "obsprojectcode", "starttime", "endtime",
                  "qa0status", "mous"},
    "execution_blocks_of": {"execblockuid"},
    "product_files": {"ngas_file_id", "file_class", "creation_date", "stored_size"},
}  # fmt: skip
"""Our statements, and the columns that a site's own must have too."""

Row = Mapping[str, Any]
T = TypeVar("T")


class OracleNews(OracleLine):
    """`reingestion_ports.ArchiveNews` on Oracle. Raises ConfigError for settings that cannot be used."""

    def __init__(self, settings: OracleSettings) -> None:
        super().__init__(settings)
        self._statements = {name: statement_of(name, settings.queries) for name in _COLUMNS}
        self._warned: set[str] = set()

    async def ping(self) -> str:
        """Log in, and ask everything of what cannot be: it tries the grants and the columns. Raises ArchiveError."""
        for news in (self.execution_blocks(_AFTER_ALL), self.products(_AFTER_ALL)):
            async for _ in news:
                pass
        await self.facts([_NOBODY])
        await self.structure([_NOBODY])
        await self.execution_blocks_of(_NOBODY)
        await self.product_files(_NOBODY)
        return "what re-ingestion asks is answered"

    async def execution_blocks(self, since: datetime | None) -> AsyncIterator[Sequence[NewExecutionBlock]]:
        """Those whose ENDTIME is at or after a time (None: all), oldest first, in batches."""
        async with aclosing(self._rows("execution_blocks", {"since": _bound(since)})) as batches:
            async for rows in batches:
                yield [
                    NewExecutionBlock(uid, _text(row["obsprojectcode"]), ended)
                    for row in rows
                    if (ended := _time(row["endtime"])) and (uid := self._uid(row["execblockuid"]))
                ]

    async def products(self, since: datetime | None) -> AsyncIterator[Sequence[NewProducts]]:
        """MOUSs with a product file created at or after a time (None: all), oldest first, in batches."""
        async with aclosing(self._rows("products", {"since": _bound(since)})) as batches:
            async for rows in batches:
                yield [
                    NewProducts(uid, newest)
                    for row in rows
                    if (newest := _time(row["creation_date"])) and (uid := self._uid(row["asa_ous_id"]))
                ]

    async def facts(self, mous: Sequence[str]) -> Mapping[str, ProductFacts]:
        """The facts of these MOUSs (`uid://`); one without any file is there with none."""
        found: dict[str, ProductFacts] = {}
        for some in _chunks(mous):
            rows = await self._of("product_facts", "mous", some)
            padded = _unfound(some, rows)
            if padded and (spelled := await self._of("product_spelling", "mous", padded)):
                # a plain id is found by its index; only where the archive pads them is it asked again
                rows += await self._of("product_facts", "mous", [str(row["asa_ous_id"]) for row in spelled])
            found.update((one, _facts(one, rows_of)) for one, rows_of in _by(some, "mous", rows).items())
        return found

    async def structure(self, execution_blocks: Sequence[str]) -> Mapping[str, Structure]:
        """Where these execution blocks belong; one that the archive does not have is missing."""
        found: dict[str, Structure] = {}
        for some in _chunks(execution_blocks):
            rows = await self._of("structure", "uid", some)
            for uid, rows_of in _by(some, "execblockuid", rows).items():
                if rows_of:
                    # of several the one that names a MOUS, the latest
                    best = max(rows_of, key=lambda row: (bool(_text(row["mous"])), str(row["endtime"] or "")))
                    found[uid] = _structure(uid, best)
        return found

    async def execution_blocks_of(self, mous: str) -> list[str]:
        """The execution blocks of a MOUS."""
        rows = await self._all("execution_blocks_of", self._statements["execution_blocks_of"], {"mous": mous})
        return [uid for row in rows if (uid := self._uid(row["execblockuid"]))]

    async def product_files(self, mous: str) -> list[ProductFile]:
        """The product files of a MOUS; of a file that is there more than once, the newest row."""
        rows = await self._all("product_files", self._statements["product_files"], {"mous": mous})
        files = {name: _file(name, row) for row in rows if (name := _text(row["ngas_file_id"]))}
        return list(files.values())

    def _uid(self, value: object) -> str:
        """A UID as the database spells it, or nothing: the log has said which."""
        text = _text(value) or ""
        try:
            return MousUid.parse(text).database
        except InvalidId:
            shown = clean(text[:100])
            if shown not in self._warned and len(self._warned) < BATCH:
                self._warned.add(shown)
                _log.warning("the archive shows '%s', which is no UID: left out", shown)
            return ""

    async def _of(self, name: str, bind: str, ids: Sequence[str]) -> list[Row]:
        return await self._all(name, *_listed(self._statements[name], bind, ids))

    async def _all(self, name: str, statement: str, binds: Mapping[str, object]) -> list[Row]:
        async with aclosing(self._asked(name, statement, binds)) as batches:
            return [row async for rows in batches for row in rows]

    def _rows(self, name: str, binds: Mapping[str, object]) -> AsyncGenerator[list[Row], None]:
        return self._asked(name, self._statements[name], binds)

    async def _asked(self, name: str, statement: str, binds: Mapping[str, object]) -> AsyncGenerator[list[Row], None]:
        """The rows of a statement in batches; each call to the archive is bounded in time by itself."""
        async with self._open(name) as connection:
            # closed with its connection: to close it by itself after the guard has cut the line raises DPY-1001, which
            # took the place of a cancellation, and of the sentence that the archive is silent
            cursor = connection.cursor()
            cursor.prefetchrows = cursor.arraysize = BATCH
            await self._guarded(connection, cursor.execute(statement, dict(binds)))
            columns = [column.name.lower() for column in cursor.description or ()]
            if missing := _COLUMNS[name].difference(columns):
                raise ArchiveError(
                    f"The site's {name}.sql returns no column {min(missing).upper()}.",
                    "compare it with the one supplied, column by column",
                )
            while rows := await self._guarded(connection, cursor.fetchmany(BATCH)):
                yield [dict(zip(columns, row, strict=True)) for row in rows]
            await self._log_off(connection)


def _listed(statement: str, bind: str, ids: Sequence[str]) -> tuple[str, dict[str, object]]:
    """A statement with a list of ids, each time that it names it, and what to bind; the last id fills the list up."""
    length = next((size for size in _SIZES if size >= len(ids)), len(ids))
    filled = [*ids, *[ids[-1]] * (length - len(ids))]
    binds: dict[str, object] = {}

    def listed(found: re.Match[str]) -> str:
        if found[1] != bind:
            return found[0]
        names = [f"{bind}{len(binds) + number}" for number in range(length)]
        binds.update(zip(names, filled, strict=True))
        return ", ".join(f":{name}" for name in names)

    return _LIST.sub(listed, statement), binds


def _chunks(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    distinct = list(dict.fromkeys(ids))
    return (distinct[start : start + MOST] for start in range(0, len(distinct), MOST))


def _by(ids: Sequence[str], column: str, rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each id, whether the archive pads it or not."""
    found: dict[str, list[Row]] = {one: [] for one in ids}
    for row in rows:
        found.get(_text(row[column]) or "", []).append(row)
    return found


def _unfound(ids: Sequence[str], rows: Iterable[Row]) -> list[str]:
    """Those without a file."""
    found = {_text(row["mous"]) for row in rows if row["fact"] == "science"}
    return [one for one in ids if one not in found]


def _facts(mous: str, rows: Iterable[Row]) -> ProductFacts:
    by_fact: dict[str, list[Row]] = {"project": [], "science": [], "script": []}
    for row in rows:
        by_fact.get(str(row["fact"]).strip(), []).append(row)
    projects = sorted({name for row in by_fact["project"] if (name := _text(row["value"]))})
    science = sum(_number(row["files"]) or 0 for row in by_fact["science"])
    scripts = sorted({name for row in by_fact["script"] if (name := _text(row["value"]))})
    return ProductFacts(mous, projects[0] if projects else None, science, tuple(scripts))


def _file(name: str, row: Row) -> ProductFile:
    return ProductFile(name, _text(row["file_class"]), _time(row["creation_date"]), _number(row["stored_size"]))


def _structure(uid: str, row: Row) -> Structure:
    return Structure(
        uid, _text(row["schedblockuid"]), _text(row["sessionuid"]), _text(row["obsprojectcode"]), _text(row["mous"]),
        _time(row["starttime"]), _time(row["endtime"]), _text(row["qa0status"]),
    )  # fmt: skip


def _text(value: object) -> str | None:
    """A text without the blanks that may pad it; nothing for an empty one."""
    return None if value is None else str(value).strip() or None


def _number(value: object) -> int | None:
    """A whole number of the archive. Raises ArchiveError for what is none."""
    if value is None or isinstance(value, int):
        return value
    try:
        return int(str(value))
    except ValueError:
        raise ArchiveError(
            f"The archive gave '{clean(str(value)[:40])}' for a number.", "a site's own .sql must give whole numbers"
        ) from None


def _time(value: object) -> datetime | None:
    """A time of the archive, which is UTC. Raises ArchiveError for what is none."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise ArchiveError(
            f"The archive gave '{clean(str(value)[:40])}' for a time.",
            "a site's own .sql must give a date or timestamp",
        )
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _bound(since: datetime | None) -> datetime:
    """A time as the archive compares it, whole seconds: never later than what was asked for."""
    if since is None:
        return _BEFORE_ALL
    return max(since.astimezone(UTC).replace(tzinfo=None, microsecond=0), _BEFORE_ALL)
