"""The metadata database, PostgreSQL and SQLite: the same checks for both, and wrong ones that must be caught."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from aogconsole.errors import MetadataError
from backends.metadata import open_metadata
from backends.metadata_postgres import POSTGRES, PostgresMetadata, PostgresStore
from backends.metadata_session import Dialect
from backends.metadata_sqlite import SQLITE, SqliteMetadata, SqliteStore
from tests.contract import metadata_cases, tracking_cases
from tests.contract.tracking_site import CHECKS, Site
from tests.support.postgres import Database

assert {metadata_cases, tracking_cases}, "importing them enters their checks"


@dataclass
class Opened:
    """Adapters on one database, to be closed."""

    database: Database | Path
    opened: list[PostgresMetadata | SqliteMetadata] = field(default_factory=list)

    def open(self) -> PostgresMetadata | SqliteMetadata:
        """Another program's."""
        here = self.database
        made = open_metadata(f"sqlite:{here}", timeout=20) if isinstance(here, Path) else here.open(timeout=20)
        self.opened.append(made)
        return made

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        """From outside."""
        if isinstance(self.database, Database):
            return self.database.ask(statement)
        with closing(sqlite3.connect(self.database, timeout=10)) as line, line:
            return line.execute(statement).fetchall()


@pytest.fixture(params=["postgres", "sqlite"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    """A fresh database of each sort, with our tables."""
    made = Opened(request.getfixturevalue("postgres") if request.param == "postgres" else tmp_path / "metadata.db")
    await made.open().migrate()
    yield made
    for one in made.opened:
        await one.close()


@pytest.mark.parametrize("name", CHECKS)
async def test_check(site: Site, name: str) -> None:
    """What every tracking table must do."""
    await CHECKS[name](site)


MUTATIONS = {
    "forgets the attempt": ("change", " and held.attempt = given.old_attempt", "", "moves_what_is_as_seen"),
    "forgets the state": ("change", "held.state = given.old_state and ", "", "moves_what_is_as_seen"),
    "claims what is not queued": ("wanted", "state = 'queued' and ", "", "claims_within_limits"),
    "does not count the unknown": ("taken", "'launch_unknown', ", "", "claims_within_limits"),
    "ignores the others' places": ("others", "runner <> :runner", "1 = 0", "reserves"),
    "keeps what expired": ("others", " and until > :now", "", "reserves"),
    "sends too early": ("sendable", "coalesce(not_before, {ever}) <= :now", "1 = 1", "sends_what_is_due"),
    "sends the newest first": ("sendable", ", id limit", ", id desc limit", "sends_what_is_due"),
    "crowds a project": ("sendable_apart", " - coalesce(busy.taken, 0)", "", "sends_apart"),
    "lets the old one live": ("outdated", "newer.version > older.version", "1 = 0", "newer_takes_place"),
    "drops what was launched": ("outdated", "'failed'", "'failed', 'running'", "newer_takes_place"),
    "drops what nobody read": ("outdated", "newer.state in", "newer.id is not null or newer.state in",
                               "older_comes_when_newer_is_launched"),
    "overlooks what has just come": ("outdated", "newer.id in", "newer.id is null and newer.id in",
                                     "older_comes_when_newer_is_launched"),
    "finds one spelling only": ("containing", "'___'", "'://'", "text_finds"),
    "renews another's lease": ("renew", " and owner = :runner", "", "claims_within_limits"),
    "finds another version": ("known", " and known.version = given.version", "", "adds_once"),
    "judges before the time": ("to_judge", " and (not_before is null or not_before <= :now)", "", "judges_again"),
}  # fmt: skip


@dataclass(frozen=True)
class Wrong(Dialect):
    """A dialect with one statement that is wrong in one place."""

    wrong: dict[str, tuple[str, str]] = field(default_factory=dict)

    def statements(self, file: str, **more: str) -> dict[str, str]:
        """With the wrong one in its place."""
        texts = dict(super().statements(file, **more))
        for name, (right, wrong) in self.wrong.items():
            if name in texts:
                assert self.spelled(right, **more) in texts[name], "the mutation no longer fits the statement"
                texts[name] = texts[name].replace(self.spelled(right, **more), self.spelled(wrong, **more))
        return texts


def wrong(right: Dialect, **mutations: tuple[str, str]) -> Wrong:
    """Of a right one."""
    return Wrong(right.name, right.lock, right.rows, right.fragments, mutations)


@pytest.mark.parametrize("name", MUTATIONS)
async def test_wrong_statement_is_caught(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A statement that is wrong in one place fails the check that is there for it."""
    statement, right, mutated, caught_by = MUTATIONS[name]
    monkeypatch.setattr(SqliteStore, "dialect", wrong(SQLITE, **{statement: (right, mutated)}))
    site = Opened(tmp_path / "metadata.db")
    await site.open().migrate()
    try:
        with pytest.raises((AssertionError, ValueError, MetadataError)):
            await CHECKS[caught_by](site)
    finally:
        for one in site.opened:
            await one.close()


@pytest.mark.parametrize("lock", [True, False])
async def test_claiming_without_the_lock_is_caught(
    postgres: Database, monkeypatch: pytest.MonkeyPatch, lock: bool
) -> None:
    """When counting places takes its time, only the lock keeps two runners within the limit."""
    seconds = 0.002 if lock else 0.02  # without it nobody waits for another, and they shall meet for certain
    slow = f"sum(places), 0) + 0 * length(cast(pg_sleep({seconds}) as text))"
    late = wrong(POSTGRES, others=("sum(places), 0)", slow))
    monkeypatch.setattr(PostgresStore, "dialect", late if lock else replace(late, lock=""))
    site = Opened(postgres)
    try:
        if lock:
            await CHECKS["claims_once"](site)
        else:
            with pytest.raises((AssertionError, ExceptionGroup)):
                await CHECKS["claims_once"](site)
    finally:
        for one in site.opened:
            await one.close()
