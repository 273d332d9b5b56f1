"""An ALMA archive over Oracle Net: python-oracledb logs in as to the real one, and SQLite answers.

The wire is seerdb's server (a technology preview, pinned); only the backend behind it is ours. It has threads of its
own. Importing this module needs seerdb.
"""

from __future__ import annotations

import logging
import re
import socket
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from types import TracebackType
from typing import Any, ClassVar, Self

from seerdb.common import sqltext
from seerdb.common.tns_consts import (
    FIELD_VERSION_23_1,
    TNS_TYPE_DATE,
    TNS_TYPE_NUMBER,
    TNS_TYPE_TIMESTAMP,
    TNS_TYPE_VARCHAR,
)
from seerdb.server import BackendError, BindVar, Capability, ColumnMeta, Result, Server, credential_lookup

logging.getLogger("seerdb.server").setLevel(logging.CRITICAL)  # whoever is refused is told so over the wire

# Oracle parses a text once and remembers it; seerdb reads it three times for each execution, in Python
sqltext.strip_non_bind_text = cache(sqltext.strip_non_bind_text)

_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|:\w+", re.DOTALL)
_OWNER = re.compile(r"\balma\s*\.\s*(?=\w)", re.IGNORECASE)
_DUAL = re.compile(r"\bfrom\s+dual\b", re.IGNORECASE)
_ERRORS = (
    (re.compile(r"no such table"), 942, "table or view does not exist"),
    (re.compile(r"no such column"), 904, "invalid identifier"),
    (re.compile(r""), 900, "invalid SQL statement"),
)


class SqliteArchive:
    """An archive with its own data and one user. A context manager; any number may run at once."""

    server_class: ClassVar[type[Server]] = Server

    def __init__(
        self,
        sql: str,
        *,
        user: str,
        password: str,
        port: int = 0,
        database: str = ":memory:",
        encryption: str = "accepted",
    ) -> None:
        """`sql`: statements of SQLite that make the tables and fill them. Raises OSError when it cannot listen."""
        self.user = user
        self.password = password
        self._lock = threading.Lock()
        self._db = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
        self._db.executescript(sql)
        self._server = self.server_class(
            "127.0.0.1",
            port,
            backend_factory=lambda: _Session(self),
            field_version=FIELD_VERSION_23_1,
            encryption=encryption,
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="archive", daemon=True)
        self.port: int = self._server.port
        self.dsn = f"127.0.0.1:{self.port}/ALMA"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server._sock.shutdown(socket.SHUT_RDWR)  # wakes its accept, which would be waited for half a second
        self._thread.join()
        self._server.close()
        with self._lock:
            self._db.close()

    def logged_in(self) -> None:
        """Called after each log-in with the right password; a BackendError raised here refuses it."""

    def asked(self, sql: str) -> None:
        """Called with each statement as it came, before it is run; a BackendError raised here is its answer."""

    def load(self, script: str) -> None:
        """Change the data: statements of SQLite, separated by semicolons."""
        with self._lock:
            self._db.executescript(script)

    def put(self, statements: Sequence[tuple[str, Sequence[object]]]) -> None:
        """Change the data: statements with their binds, all seen at once."""
        with self._lock:
            self._db.execute("begin")
            try:
                for sql, binds in statements:
                    self._db.execute(sql, binds)
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")

    def run(self, sql: str, binds: Sequence[object] = ()) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and rows of one statement."""
        with self._lock:
            cursor = self._db.execute(sql, binds)
            return [column[0] for column in cursor.description or ()], cursor.fetchall()

    def declared(self) -> dict[str, str]:
        """Declared type of every column, by its name in capitals."""
        with self._lock:
            columns = self._db.execute(
                "select c.name, c.type from sqlite_schema t join pragma_table_info(t.name) c where t.type = 'table'"
            )
            return {name.upper(): declared for name, declared in columns}


class _Session:
    """One log-in's backend for seerdb."""

    capabilities = frozenset({Capability.TRANSACTIONS})

    def __init__(self, archive: SqliteArchive) -> None:
        self._archive = archive

    def authenticate(self, username: str) -> str | None:
        secret: str | None = credential_lookup({self._archive.user: self._archive.password}, username)
        return secret

    def open_session(self, _attributes: object) -> None:
        """Called by seerdb after the password was right; what it raises refuses the log-in."""
        self._archive.logged_in()

    def execute(self, sql: str, binds: Sequence[object] = ()) -> Result:
        self._archive.asked(sql)
        try:
            names, rows = self._archive.run(_translated(sql), [_bound(value) for value in binds])
        except sqlite3.Error as error:
            code, text = next((code, text) for rx, code, text in _ERRORS if rx.search(str(error)))
            raise BackendError(f"{text} ({error})", ora_code=code) from None
        declared = self._archive.declared()
        columns = [_column(name, declared.get(name.upper(), ""), [r[i] for r in rows]) for i, name in enumerate(names)]
        dates = {i for i, c in enumerate(columns) if c.data_type in {TNS_TYPE_DATE, TNS_TYPE_TIMESTAMP}}
        return Result(columns=columns, rows=[_row(row, dates) for row in rows])

    def commit(self) -> None:
        """Nothing is ever changed over the wire."""

    rollback = close = commit


@cache
def _translated(sql: str) -> str:
    """Oracle's SQL as SQLite takes it: no owner, no dual, positional binds, no comments."""

    def replaced(found: re.Match[str]) -> str:
        token = found[0]
        if token.startswith(":"):
            return "?"
        return " " if token.startswith(("--", "/*")) else token

    return _DUAL.sub("", _OWNER.sub("", _TOKEN.sub(replaced, sql)))


def _bound(value: object) -> object:
    if isinstance(value, BindVar):
        value = value.value
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value) if isinstance(value, str) else value


def _column(name: str, declared: str, values: Iterable[object]) -> ColumnMeta:
    """An Oracle column by the declared type of its name, or else by its values."""
    present = [value for value in values if value is not None]
    if declared.startswith(("DATE", "TIMESTAMP")):
        kind, size = (TNS_TYPE_DATE, 7) if declared.startswith("DATE") else (TNS_TYPE_TIMESTAMP, 11)
    elif declared.startswith("NUMBER") or isinstance(next(iter(present), None), int | float):
        kind, size = TNS_TYPE_NUMBER, 22
    else:
        kind, size = TNS_TYPE_VARCHAR, max([4000, *(len(str(value).encode()) for value in present)])
    return ColumnMeta(name=name.upper().encode(), data_type=kind, data_length=size, max_size=size)


def _row(row: Sequence[object], dates: set[int]) -> tuple[object, ...]:
    """Oracle has no empty text, and dates are dates."""
    return tuple(
        datetime.fromisoformat(value) if i in dates and isinstance(value, str) else None if value == "" else value
        for i, value in enumerate(row)
    )
