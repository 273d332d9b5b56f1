"""The journal's schema, forward only, each step in one transaction with the record of it (sqlite-utils).

A newer schema than this program knows is refused before anything is touched.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from aogconsole.journal.store import statement

if TYPE_CHECKING:
    import sqlite3

migrations = Migrations("aogconsole")


def _run(db: Database, script: str, version: int) -> None:
    for part in statement(script).split(";\n"):
        if part.strip():
            db.execute(part)
    db.execute(f"pragma user_version = {version}")


@migrations(name="schema_1")
def schema_1(db: Database) -> None:
    """Mails, requests, checks, runs, letters, notes, the history; and the journal's own id."""
    _run(db, "schema_1", 1)
    db.execute(
        "insert into meta values ('journal_id', ?), ('created_at', strftime('%Y-%m-%dT%H:%M:%SZ'))",
        [secrets.token_hex(16)],
    )


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date; safe when several processes do it at once."""
    connection.execute("begin immediate")
    try:
        migrations.apply(Database(connection))
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:  # a full disk ends it
            connection.execute("rollback")
        raise
