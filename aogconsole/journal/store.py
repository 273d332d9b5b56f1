"""The journal's file: opening it safely, transactions, and the one way anything in it changes.

Every change is conditional on the state (and, when given, the version) it was decided on, and leaves its
history row in the same transaction: of several processes that act on one thing one wins, and the others are
told who did (reliability F10). Reading needs no more than the standard library, so that verbs start fast.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import grp
import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aogconsole.errors import ConfigError, Conflict, StorageError, UsageError
from aogconsole.journal import history
from aogconsole.journal.history import Actor
from aogconsole.text import clean

SCHEMA = 1
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs", "fuse.sshfs"}
)
"""File systems whose locks cannot be relied on."""


@functools.cache
def statement(name: str) -> str:
    """The text of `sql/NAME.sql`."""
    return Path(__file__).with_name("sql").joinpath(f"{name}.sql").read_text(encoding="utf-8")


def encode(value: Any) -> str:
    """JSON as the journal holds it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


class Journal:
    """One connection to the journal, for one thread. Open it with `Journal.open`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, syslog: str, *, read_only: bool) -> None:
        self.connection = connection
        self.path = path
        self.read_only = read_only
        self._syslog = syslog
        self._head: tuple[int, str] | None = None
        self._file: tuple[int, int] | None = None

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False, group: str = "", syslog: str = "") -> Journal:
        """Open the journal; made when it is not there, unless `read_only`. Raises ConfigError, StorageError."""
        with storage(path):
            refuse_network(path)
            if read_only:
                if not path.exists():
                    raise ConfigError(
                        f"there is no journal {path}", "`aogconsole serve` or `ingest` makes it; is journal.path right?"
                    )
                connection = _connect(f"{path.absolute().as_uri()}?mode=ro")
                if not connection.execute("select 1 from sqlite_schema").fetchone():
                    connection.close()  # somebody is making it at this moment
                    return cls.empty(path)
            else:
                _prepare(path, group)
                connection = _connect(path.absolute().as_uri())
            _version(connection, path, read_only=read_only)
            journal = cls(connection, path, syslog, read_only=read_only)
            journal._file = _identity(path)
            return journal

    @classmethod
    def empty(cls, path: Path) -> Journal:
        """A journal with nothing in it, in memory, for looking at before the first mail."""
        connection = _connect("file::memory:")
        _version(connection, path, read_only=False)
        return cls(connection, path, "", read_only=True)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def moved(self) -> bool:
        """Whether the path leads to another file now, or to none: a backup was put back, or the file was removed.

        What is then written here nobody will ever see: open it anew. Cheap: ask often.
        """
        return _identity(self.path) != self._file

    @property
    def runs(self) -> Path:
        """Folder of the runs' terminal logs, beside the journal."""
        return self.path.parent / "runs"

    @functools.cached_property
    def id(self) -> str:
        """This journal's own id: 32 hex digits."""
        return self.meta("journal_id")

    def meta(self, key: str, default: str = "") -> str:
        """A value of the journal itself, such as `paused`."""
        row = self.one("select value from meta where key = ?", key)
        return str(row["value"]) if row else default

    def set_meta(self, key: str, value: str) -> None:
        """Set such a value; inside a transaction."""
        self.connection.execute(
            "insert into meta values (?, ?) on conflict do update set value = excluded.value", (key, value)
        )

    def data_version(self) -> int:
        """Changes whenever another connection has changed the journal. Cheap: ask often."""
        with storage(self.path):
            return int(self.connection.execute("pragma data_version").fetchone()[0])

    def all(self, sql: str, *parameters: Any) -> list[sqlite3.Row]:
        """All rows of a query."""
        with storage(self.path):
            return self.connection.execute(sql, parameters).fetchall()

    def one(self, sql: str, *parameters: Any) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        with storage(self.path):
            row: sqlite3.Row | None = self.connection.execute(sql, parameters).fetchone()
            return row

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, alone: other writers wait. Inside another transaction it joins that one."""
        if self.read_only:
            raise UsageError("the console is read-only: nothing may be changed", "leave out --read-only")
        if self.connection.in_transaction:
            yield
            return
        with storage(self.path):
            self.connection.execute("begin immediate")
            try:
                _schema(self.connection, self.path)  # a newer program may have been there since it was opened
                yield
                self.connection.execute("commit")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("rollback")
                self._head = None
                raise
        if self._head:
            history.announce(self._syslog, *self._head)
            self._head = None

    def new_id(self, kind: str) -> int:
        """The next id; one sequence for all kinds, so an id of one kind is never one of another."""
        row = self.connection.execute("insert into entity (kind) values (?) returning id", (kind,)).fetchone()
        return int(row[0])

    def insert(self, table: str, values: Mapping[str, Any]) -> None:
        """Insert one row; inside a transaction."""
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        self.connection.execute(f"insert into {table} ({names}) values ({marks})", tuple(values.values()))

    def record(
        self,
        actor: Actor,
        verb: str,
        kind: str,
        entity: int | None,
        *,
        origin: str | None = None,
        target: str | None = None,
        why: str = "",
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Append a history row; inside a transaction."""
        self._head = history.append(self.connection, actor, verb, kind, entity, origin, target, why, encode(data or {}))

    def fetch(self, kind: str, ident: int) -> sqlite3.Row:
        """One request, run, letter or mail by id. Raises UsageError, saying what the id is of when it is another."""
        row = self.one(f"select * from {kind} where id = ?", ident)
        if row is None:
            other = self.one("select kind from entity where id = ?", ident)
            what = f"{ident} is a {other['kind']}, not a {kind}" if other else f"there is no {kind} {ident}"
            raise UsageError(what, f"`aogconsole {kind}s` lists them")
        return row

    def change(
        self,
        kind: str,
        ident: int,
        actor: Actor,
        verb: str,
        *,
        origins: Collection[str],
        target: str | None,
        why: str = "",
        seen: int | None = None,
        data: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> sqlite3.Row:
        """Take one conditional transition, with its history row; returns the row as it was.

        `target` None leaves the state. `why` is kept with the row, and cleared by the next change of state.
        `seen` is the version the decision was made on. Raises Conflict.
        """
        with self.transaction():
            row = self.fetch(kind, ident)
            if row["state"] not in origins:
                raise Conflict(self.first(kind, ident, str(row["state"]), verb), "look at it again, then decide")
            if seen is not None and row["version"] != seen:
                by = self._by("entity = ?", ident)
                raise Conflict(f"{kind} {ident} has changed since you looked{by}", "look at it again, then decide")
            values["version"] = row["version"] + 1
            if target is not None:
                values["state"] = target
            if target is not None or why:
                values["why"] = why
            names = ", ".join(f"{name} = ?" for name in values)
            self.connection.execute(f"update {kind} set {names} where id = ?", (*values.values(), ident))
            self.record(
                actor, verb, kind, ident, origin=row["state"], target=target or row["state"], why=why, data=data
            )
            return row

    def first(self, kind: str, ident: int, state: str, verb: str) -> str:
        """The sentence that tells the loser who acted first: who brought it into its state, not who left a note."""
        by = self._by("entity = ? and origin is not target", ident)
        return f"{kind} {ident} is {state}, so '{verb}' is not possible{by}"

    def _by(self, which: str, ident: int) -> str:
        last = self.one(f"select * from history where {which} order by seq desc limit 1", ident)
        return f": {clean(last['who'])} did '{last['verb']}' at {last['at']}" if last else ""

    def backup(self, folder: Path) -> None:
        """Copy the journal, consistent while others write, and the terminal logs, into a new folder."""
        import shutil

        with storage(folder):
            folder.mkdir(mode=0o700, parents=True)
            (folder / self.path.name).touch(mode=0o600)
            copy = sqlite3.connect(folder / self.path.name)
            with contextlib.closing(copy):
                self.connection.backup(copy)
            if self.runs.is_dir():
                shutil.copytree(self.runs, folder / "runs")


@contextlib.contextmanager
def storage(path: Path) -> Iterator[None]:
    """Tell what the disk or SQLite says in one sentence of ours."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except UnicodeEncodeError:
        raise UsageError("a text is not valid UTF-8", "write it in UTF-8, as the terminal's locale should be") from None
    except (sqlite3.DatabaseError, OSError) as error:
        name = getattr(error, "sqlite_errorname", "") or error.__class__.__name__
        hints = {
            "SQLITE_FULL": "the disk is full: make room; nothing was changed",
            "SQLITE_READONLY": "the file or its folder is read-only for you: check owner and mode",
            "SQLITE_CANTOPEN": "check that the folder exists and is yours",
            "SQLITE_BUSY": "another process holds it for long: `aogconsole doctor`",
            "SQLITE_NOTADB": "it is no journal: is journal.path right?",
            "SQLITE_CORRUPT": "it is damaged: restore the backup",
            "PermissionError": "check owner and mode",
        }
        hint = next((text for start, text in hints.items() if name.startswith(start)), "check the disk, owner and mode")
        raise StorageError(f"{path}: {clean(str(error))}", hint) from error


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("pragma synchronous = full")
    connection.execute("pragma foreign_keys = on")
    return connection


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _prepare(path: Path, group: str) -> None:
    """Folder and file with the right owner and mode, before SQLite makes them with the wrong ones."""
    gid = -1
    if group:
        try:
            gid = grp.getgrnam(group).gr_gid
        except KeyError:
            raise ConfigError(
                f"journal.group is '{clean(group)}', which is no group here", "make the group, or leave it out"
            ) from None
    for folder in (path.parent, path.parent / "runs"):
        if folder.exists():
            _check_folder(folder, group, gid)
        else:
            folder.mkdir(parents=True, mode=0o700)
            _own(folder, gid, 0o2770 if group else 0o700)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    # one that is there is never opened: closing it would drop the locks that SQLite has on it in this process, and
    # whoever else closes it then takes himself for the last, and deletes the write-ahead log under us
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    mode = 0o660 if group else 0o600
    status = path.stat()
    if status.st_mode & 0o777 != mode or (gid >= 0 and status.st_gid != gid):
        if status.st_uid != os.geteuid():
            if group:
                return
            raise ConfigError(
                f"{path} belongs to another account, and its mode is not {mode:o}",
                f"its owner: chmod {mode:o} {path}",
            )
        _own(path, gid, mode)


def _check_folder(folder: Path, group: str, gid: int) -> None:
    """What SQLite makes there later must be everybody's of the group, and nobody else may put anything there.

    A folder of ours is put right; not somebody's home, where sshd would take no key any more.
    """
    status = folder.stat()
    if group and status.st_uid == os.geteuid() and folder.resolve() != Path.home() and not status.st_mode & 0o002:
        _own(folder, gid, 0o2770)
        return
    if status.st_mode & 0o002:
        raise ConfigError(f"everybody may write into {folder}, the journal's folder", f"chmod o-w {folder}")
    if group and (status.st_gid != gid or status.st_mode & 0o2070 != 0o2070):
        hint = f"chgrp {clean(group)} {folder} && chmod 2770 {folder}"
        raise ConfigError(f"{folder} is not a folder of the group {clean(group)}, which journal.group names", hint)


def _own(path: Path, gid: int, mode: int) -> None:
    if gid >= 0:
        os.chown(path, -1, gid)
    path.chmod(mode)


def _schema(connection: sqlite3.Connection, path: Path) -> int:
    """Its number; one that this program does not know is refused."""
    version = int(connection.execute("pragma user_version").fetchone()[0])
    if version > SCHEMA:
        raise ConfigError(
            f"{path} is of a newer aogconsole (schema {version}, this one knows {SCHEMA})", "use that newer version"
        )
    return version


def _version(connection: sqlite3.Connection, path: Path, *, read_only: bool) -> None:
    version = _schema(connection, path)
    if version == SCHEMA:
        return
    if version == 0 and connection.execute("select 1 from sqlite_schema where name = 'request'").fetchone():
        raise ConfigError(f"{path} is a database of something else", "is journal.path right?")
    if read_only:
        raise ConfigError(f"{path} is of an older aogconsole (schema {version})", "open it once without --read-only")
    from aogconsole.journal.migrations import migrate

    connection.execute("pragma journal_mode = wal")
    migrate(connection)


def refuse_network(path: Path, mounts: Sequence[str] | None = None) -> None:
    """Refuse a journal on a network file system: its locks cannot be relied on."""
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return
    real = str(path.absolute().parent.resolve())
    best, kind = "", ""
    for line in mounts:
        left, _, right = line.partition(" - ")
        point = left.split()[4].replace("\\040", " ")
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, right.split()[0]
    if kind in NETWORK:
        raise ConfigError(
            f"{path} is on a network file system ({kind}), where locks cannot be relied on", "put it on a local disk"
        )
