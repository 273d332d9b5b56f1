"""A journal of many years: one real day of a small site, cast again and again.

The day is made by the command itself on a whole site (real SSH, Oracle Net and Maildirs). A request with all that
belongs to it (mails, checks, runs, letters, notes, history) is a `Cast`; each copy has ids, a MOUS, a ticket, keys and
a day of its own, and the history is chained anew by the product's own digest, so that `history --verify` holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from aogconsole.journal import history
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal
from tests.support.desk import MOUS, STAGECALMS, Desk, request_mail
from tests.support.oracle import TestArchive
from tests.support.sshd import StagingSite, _furnish

PER_DAY = 27
"""Closed requests a day: what is recent is the same in a small journal and in a large one."""
KEPT_DAYS = 28
CLOSED = ("8800101", "8800101", "8800101", "8800102")
"""Tickets of the day whose copies are the closed requests: answered with a link, and not entitled."""
DELETED = "8800103"
"""Of the request whose staged data are gone: every link of more than 28 days ago."""
OPEN = {"entitled": "8800301", "refused": "8800302", "held": "8800190", "unclear": "8800108"}
IDS = re.compile(r'"(mail|request|run|letter|new)":(\d+)')
BATCH = 1000
HISTORY = f"insert into history values ({', '.join('?' * (len(history.COLUMNS) + 1))})"  # noqa: S608


@contextlib.contextmanager
def site() -> Iterator[Desk]:
    """A whole site, after the day."""
    with contextlib.ExitStack() as ends:
        host = StagingSite(Path(tempfile.mkdtemp(prefix="aog-sshd-", dir="/tmp")))
        ends.callback(host.close)
        _furnish(host, 2)
        host.start()
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="aog-big-")))
        desk = Desk(folder, host, ends.enter_context(TestArchive()))
        ends.callback(desk.close)
        spend_the_day(desk)
        yield desk


def spend_the_day(desk: Desk) -> None:
    """One request of every kind that the journals are made of."""
    desk.host.install(STAGECALMS)
    desk.configure(policy="auto")
    desk.deliver(
        request_mail(ticket="8800101"), request_mail(ticket="8800102", account="other"),
        request_mail(ticket="8800103"), request_mail(ticket="8800190"),
        request_mail(ticket="8800108", project="2013.1.00357.S"),
    )  # fmt: skip
    desk.serve_until_idle()
    desk.configure(policy="ask")
    desk.deliver(request_mail(ticket="8800301"), request_mail(ticket="8800302", account="other"))
    desk.serve_until_idle()
    with contextlib.closing(Journal.open(desk.folder / "state" / "journal.db")) as journal:
        gone = journal.one("select id from run where ticket = ?", DELETED)
        assert gone
        journal.change("run", gone[0], Actor("engine@aog1", "engine 1"), "deleted", origins={"succeeded"}, target=None,
                       gone=1)  # fmt: skip


class Casting:
    """A text with the places where a copy differs."""

    def __init__(self, text: str, needles: re.Pattern[str]) -> None:
        self._parts = needles.split(text)

    def cast(self, new: Mapping[str, str]) -> str:
        """The text of one copy."""
        parts = self._parts.copy()
        parts[1::2] = [new[needle] for needle in parts[1::2]]
        return "".join(parts)


@dataclass(frozen=True)
class Table:
    """Rows of one table that belong to a request; what is cast is a Casting, an id is an Id, all else stays."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def insert(self) -> str:
        """The statement for one row."""
        marks = ", ".join("?" * len(self.columns))
        return f"insert into {self.name} ({', '.join(self.columns)}) values ({marks})"  # noqa: S608


@dataclass(frozen=True)
class Id:
    """A place that holds an id of the day, of which each copy has its own."""

    ident: int
    kind: type = int


class Cast:
    """One request of the day, with all that belongs to it."""

    def __init__(self, journal: Journal, ticket: str) -> None:
        request = journal.one("select * from request where ticket = ?", ticket)
        assert request, ticket
        owned = {
            "mail": ("select * from mail where request = ? order by id", "id request"),
            "request": ("select * from request where id = ?", "id mail position"),
            "check_made": ("select * from check_made where request = ? order by id", "request"),
            "run": ("select * from run where request = ? order by id", "id request"),
            "letter": ("select * from letter where request = ? order by id", "id request run"),
            "note": ("select * from note where request = ? order by id", "request mail"),
        }
        rows = {name: journal.all(sql, request["id"]) for name, (sql, _) in owned.items()}
        self.entities = sorted(
            (row["id"], name) for name in ("mail", "request", "run", "letter") for row in rows[name]
        )  # fmt: skip
        self._ticket, self._day = ticket, date.fromisoformat(request["received_at"][:10])
        self._tokens = [row["token"] for row in rows["run"]]
        self._tokens += [row["url"].rpartition("/")[2] for row in rows["run"] if row["url"]]
        self._sources = [row["source"] for row in rows["mail"]]
        self._message_ids = [row["message_id"] for row in rows["letter"] if row["message_id"]]
        self._needles = re.compile("(" + "|".join(map(re.escape, self._new(0, self._day, {}))) + r"|@\d+@)")
        self.tables = [self._table(name, rows[name], set(ids.split())) for name, (_, ids) in owned.items()]
        marks = ", ".join("?" * len(self.entities))
        told = journal.all(
            f"select {', '.join(history.COLUMNS)} from history where entity in ({marks}) order by seq",  # noqa: S608
            *(ident for ident, _ in self.entities),
        )
        self.history = self._table("history", told, {"entity"}).rows

    def _table(self, name: str, rows: list[sqlite3.Row], ids: set[str]) -> Table:
        columns = tuple(rows[0].keys() if rows else ())
        if "id" not in ids and columns[:1] == ("id",):
            columns = columns[1:]  # of no entity: SQLite numbers these
        return Table(name, columns, tuple(tuple(self._cell(row[c], c in ids, c) for c in columns) for row in rows))

    def _cell(self, value: Any, is_id: bool, column: str) -> Any:
        if is_id and value is not None:
            return Id(int(value), type(value))
        if isinstance(value, str):
            if column == "data":
                value = IDS.sub(r'"\1":@\2@', value)
            return Casting(value, self._needles)
        return value

    def _new(self, number: int, day: date, ids: Mapping[int, int]) -> dict[str, str]:
        """What stands in a copy instead of what."""
        mous = f"uid___A001_X{number // 4096:x}_X{number % 4096:x}"
        return {
            MOUS: mous,
            MOUS.replace("___", "://").replace("_", "/"): mous.replace("___", "://").replace("_", "/"),
            self._ticket: str(1_000_000 + number),
            **{token: hashlib.md5(f"{token}{number}".encode()).hexdigest() for token in self._tokens},  # noqa: S324
            **{source: f"{source}.{number}" for source in self._sources},
            **{one: one.replace("@", f".{number}@") for one in self._message_ids},
            (self._day + timedelta(KEPT_DAYS)).isoformat(): (day + timedelta(KEPT_DAYS)).isoformat(),
            self._day.isoformat(): day.isoformat(),
            **{f"@{old}@": str(new) for old, new in ids.items()},
        }

    def copy(self, number: int, day: date, first: int) -> Iterator[tuple[Table | None, list[tuple[Any, ...]]]]:
        """The rows of copy `number` by table, with ids from `first` on; the history's come last, with None."""
        ids = {old: first + at for at, (old, _) in enumerate(self.entities)}
        new = self._new(number, day, ids)

        def cast(cell: Any) -> Any:
            if isinstance(cell, Casting):
                return cell.cast(new)
            return cell.kind(ids[cell.ident]) if isinstance(cell, Id) else cell

        for table in self.tables:
            yield table, [tuple(map(cast, row)) for row in table.rows]
        yield None, [tuple(map(cast, row)) for row in self.history]


class Foundry:
    """Fills journals with copies of a site's day."""

    def __init__(self, desk: Desk) -> None:
        with contextlib.closing(Journal.open(desk.folder / "state" / "journal.db", read_only=True)) as journal:
            self._id = journal.id
            self._casts = {ticket: Cast(journal, ticket) for ticket in {*CLOSED, DELETED, *OPEN.values()}}

    def fill(self, path: Path, closed: int, open_: int) -> None:
        """Make a journal with so many closed requests, the newest of today, and then so many open ones."""
        journal = Journal.open(path)
        today = datetime.now(UTC).date()
        tickets = list(OPEN.values())
        with contextlib.closing(journal), contextlib.closing(_Writer(journal)) as writer:
            journal.connection.execute("update meta set value = ? where key = 'journal_id'", (self._id,))
            for number in range(closed):
                age = (closed - 1 - number) // PER_DAY
                ticket = CLOSED[number % len(CLOSED)]
                if age >= KEPT_DAYS and ticket == CLOSED[0]:
                    ticket = DELETED
                writer.add(self._casts[ticket], number, today - timedelta(age))
            for number in range(open_):
                writer.add(self._casts[tickets[number % len(tickets)]], closed + number, today)


class _Writer:
    """Writes copies in batches, and chains their history."""

    def __init__(self, journal: Journal) -> None:
        self._connection = journal.connection
        self._connection.execute("pragma synchronous = off")
        self._connection.execute("pragma foreign_keys = off")
        self._next, self._seq, self._hash = 1, 0, history.START
        self._rows: dict[str, list[tuple[Any, ...]]] = {}

    def add(self, cast: Cast, number: int, day: date) -> None:
        """Add one copy."""
        self._rows.setdefault("insert into entity values (?, ?)", []).extend(
            (self._next + at, kind) for at, (_, kind) in enumerate(cast.entities)
        )
        for table, rows in cast.copy(number, day, self._next):
            if table is not None:
                if rows:
                    self._rows.setdefault(table.insert, []).extend(rows)
                continue
            for _, *rest in rows:
                self._seq += 1
                values = (self._seq, *rest)
                self._hash = history.digest(self._hash, values)
                self._rows.setdefault(HISTORY, []).append((*values, self._hash))
        self._next += len(cast.entities)
        if number % BATCH == BATCH - 1:
            self._flush()

    def _flush(self) -> None:
        self._connection.execute("begin immediate")
        for statement, rows in self._rows.items():
            self._connection.executemany(statement, rows)
        self._connection.execute("commit")
        self._rows.clear()

    def close(self) -> None:
        """Write what is left."""
        self._flush()


def set_running(path: Path, slots: int = 2) -> list[Path]:
    """Put the runs of the newest held requests into the slots, as if they were on; the files of their output.

    For screens only: the history does not tell it.
    """
    with contextlib.closing(sqlite3.connect(path)) as connection:
        held = connection.execute(
            "select run.id, request from run join request on request.id = run.request"
            " where request.state = 'held' order by run.id desc limit ?",
            (slots,),
        ).fetchall()
        for slot, (run, request) in enumerate(held):
            connection.execute(
                "update run set state = 'running', slot = ?, ended_at = null, exit_status = null where id = ?",
                (slot, run),
            )
            connection.execute("update request set state = 'staging', why = '' where id = ?", (request,))
        connection.commit()
    (path.parent / "runs").mkdir(exist_ok=True)
    return [path.parent / "runs" / f"{run}.log" for run, _ in held]
