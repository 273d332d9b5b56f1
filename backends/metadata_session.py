"""What both metadata databases have in common: a session that takes our statements, their texts, rows and times.

The statements are one text for both (`sql/metadata/*.sql`); what the databases spell differently stands there in
braces: `{table}`, `{columns}`, `{rows NAME TYPE, ...}` (a list of objects, given as JSON, as a table `given`),
`{for update}`, `{skip locked}`, `{ever}` (before all times), `{find}`, `{hour}` (of an event), `{c}` (by bytes).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final, Protocol, TypeVar

from aogconsole.reingestion.item import Item, Kind, State

T = TypeVar("T")
Value = str | int | float | datetime | None
Row = tuple[Any, ...]

COLUMNS: Final = (
    "id, kind, uid, version, project, source_time, state, attempt, reason, workflow_id, owner, lease_until,"
    " not_before, created_at, queued_at, started_at, finished_at, first_attempt"
)
LONGEST: Final = 4000
"""Characters that are kept of a reason, which may be a stranger's."""


class Session(Protocol):
    """Takes statements, within a transaction or, for reading, each by itself."""

    async def rows(self, sql: str, **values: Value) -> list[Row]:
        """Run one with `:name` parameters; its rows."""
        ...


class Store(Protocol):
    """A database that does pieces of work, each in bounded time. Raises MetadataError, and what the work raises."""

    dialect: Dialect

    async def read(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Ask. Repeated when the line turns out to be dead."""
        ...

    async def write(self, work: Callable[[Session], Awaitable[T]], *, once: bool = False) -> T:
        """Do it all in one transaction, or nothing. Repeated while it is sure that nothing was committed, unless
        `once`: then the work acts outside too, may take long, and holds up no other call of this process."""
        ...


@dataclass(frozen=True)
class Dialect:
    """How a database spells what the statements have in braces."""

    name: str
    """Folder of its migrations."""
    lock: str
    """A statement that makes the rest of the transaction wait for others with the same `:name`; or empty."""
    rows: Callable[[str], str]
    """The columns of `{rows ...}` to a table."""
    fragments: Mapping[str, str]

    def statements(self, file: str, **more: str) -> Mapping[str, str]:
        """The statements of `sql/metadata/FILE.sql`, by name."""
        return {name: self.spelled(text, **more) for name, text in _texts(file).items()}

    def spelled(self, text: str, **more: str) -> str:
        """A statement as this database takes it. What is not known stays in its braces."""
        known = {**self.fragments, **more, "columns": COLUMNS}

        def spell(found: re.Match[str]) -> str:
            if found[1].startswith("rows "):
                return self.rows(found[1].removeprefix("rows "))
            return known.get(found[1], found[0])

        return re.sub(r"\{([^}]+)\}", spell, text)


@functools.cache
def _texts(file: str) -> Mapping[str, str]:
    whole = resources.files("backends").joinpath("sql", "metadata", f"{file}.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)\n", whole, flags=re.MULTILINE)[1:]
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def columns(given: str) -> list[tuple[str, str]]:
    """`a text, b bigint` as pairs."""
    return [(name, kind) for name, kind in (one.split() for one in given.split(","))]


def migrations(dialect: str) -> list[str]:
    """The texts of the migrations, in order; the version of the tables is how many have been made."""
    folder = resources.files("backends").joinpath("sql", "metadata", dialect)
    names = sorted(one.name for one in folder.iterdir() if re.fullmatch(r"[0-9]{3}_\w+\.sql", one.name))
    return [folder.joinpath(name).read_text(encoding="utf-8") for name in names]


def time_text(time: datetime) -> str:
    """A time as SQLite holds it and JSON carries it: UTC, microseconds, `Z`; it sorts as text."""
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def read_time(value: object) -> datetime | None:
    """A time as either database gives it."""
    if value is None or isinstance(value, datetime):
        return value and value.astimezone(UTC)
    return datetime.fromisoformat(str(value)).astimezone(UTC)


def storable(text: str | None) -> str | None:
    """A text that either database takes: no NUL, no half of a pair."""
    if text is None or (text.isprintable() and "\0" not in text):
        return text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def rows_json(rows: Iterable[Mapping[str, Value]]) -> str:
    """Objects for `{rows ...}`."""
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Value) -> str | int | float | None:
    if isinstance(value, datetime):
        return time_text(value)
    return storable(value) if isinstance(value, str) else value


def ids_json(ids: Iterable[int] | Iterable[str]) -> str:
    """Ids for `{rows id ...}`."""
    return rows_json({"id": one} for one in ids)


def item(row: Row) -> Item:
    """A row with `COLUMNS` as an item."""
    (number, kind, uid, version, project, source, state, attempt, reason, workflow, owner, lease, not_before, created,
     queued, started, finished, first) = row  # fmt: skip
    made = read_time(created)
    assert made is not None, "the column is not null"  # noqa: S101
    return Item(
        number, Kind(kind), uid, version, project, read_time(source), State(state), attempt, reason, workflow, owner,
        read_time(lease), read_time(not_before), made, read_time(queued), read_time(started), read_time(finished),
        first,
    )  # fmt: skip
