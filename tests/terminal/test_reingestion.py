"""Re-ingestion on the screen: the panel at every size, the list of items, each verb, and what is away."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from textual.pilot import Pilot

from aogconsole import times
from aogconsole.app import Console as App
from aogconsole.cli.common import Session
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal
from aogconsole.reingestion.item import Item, Queue, State
from aogconsole.reingestion.steering import Steering
from backends.reingestion_ports import Metadata
from tests.support.consoles import SOON, Console, dialog
from tests.support.hostile import HOSTILE, acting
from tests.support.postgres import PASSWORD, Database
from tests.support.reingesting import bring, done_with, drop, fill
from tests.terminal.test_screens import kept, text, until

NOW = datetime(2026, 11, 21, 14, 2, 11, tzinfo=UTC)
ENDED = "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'"
GOODBYE = 3.0
"""Seconds in which a console has ended; a part of it is the interpreter's."""


def configured(folder: Path, dsn: str, more: str = "") -> Path:
    """A site with re-ingestion only."""
    file = folder / "config.toml"
    file.write_text(f'[journal]\npath = "journal.db"\nsyslog = ""\n[metadata]\ndsn = "{dsn}"\n{more}'
                    f'[broker]\nurl = "memory:{folder.name}"\n')  # fmt: skip
    file.chmod(0o600)
    return file


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Its configuration, with a filled SQLite file."""
    done_with(f"sqlite:{tmp_path / 'meta.db'}", lambda metadata: fill(metadata, NOW))
    return configured(tmp_path, "sqlite:meta.db")


# ── in this process: what stands where ───────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def console(
    site: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], *, read_only: bool = True
) -> AsyncIterator[tuple[App, Pilot[int]]]:
    """The console when the database has been read; the clock stands still, and there is no engine."""
    monkeypatch.setattr(times, "now", lambda: NOW)
    monkeypatch.setattr(Actor, "current", lambda via: Actor("ann@aog1", f"{via} 1"))
    monkeypatch.setenv("XDG_STATE_HOME", str(site.parent / "xdg"))
    Journal.open(site.parent / "journal.db").close()
    app = App(Session(site, read_only=read_only))
    if not read_only:
        app._engine = None
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.queue_board.told and app.queue_board.lights[0].detail == "in memory")
        yield app, pilot


async def still(pilot: Pilot[int]) -> str:
    """The screen when it no longer changes: a panel that grows is laid out, and then has more lines."""
    before, now = "", text(pilot)
    while now != before:
        await pilot.pause(0.1)
        before, now = now, text(pilot)
    return now


@pytest.mark.parametrize("size", [(80, 24), (120, 30), (200, 50)])
async def test_the_panel(site: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    """Two lines beside the others; with the focus lists, chart and counts, as there is room."""
    async with console(site, monkeypatch, size) as (_, pilot):
        kept(f"reingestion-{size[0]}x{size[1]}", await still(pilot))
        await pilot.press("4")
        await until(pilot, lambda: "need you" in text(pilot) and "enter items" in text(pilot))
        kept(f"reingestion-focused-{size[0]}x{size[1]}", await still(pilot))


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_the_items(site: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
    """What needs a person on top, its whole reason above; an item's history."""
    async with console(site, monkeypatch, size) as (_, pilot):
        await pilot.press("Q")
        await until(pilot, lambda: "─ Items of the re-ingestion · " in text(pilot) and "!  " in text(pilot))
        kept(f"items-{size[0]}x{size[1]}", await still(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "What became of it" in text(pilot))
        shown = text(pilot)
        assert "running -> dead" in shown
        assert "the last attempt failed: a person decides" in shown


@pytest.mark.parametrize(("key", "asked"), [("U", "Requeue item"), ("F", "Defer item"), ("X", "Drop item")])
async def test_an_items_history_has_the_verbs(
    site: Path, monkeypatch: pytest.MonkeyPatch, key: str, asked: str
) -> None:
    """What is read there is what is acted on."""
    async with console(site, monkeypatch, (80, 24), read_only=False) as (_, pilot):
        await pilot.press("Q")
        await until(pilot, lambda: "!  " in text(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "What became of it" in text(pilot))
        item = text(pilot).partition("─ Item ")[2].split()[0]
        await pilot.press(key)
        await until(pilot, lambda: f"{asked} {item}" in text(pilot))


async def test_read_only_says_so(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every verb, on the panes and in the list; and nothing is changed."""
    before = rows(site)
    async with console(site, monkeypatch, (80, 24)) as (app, pilot):
        for key in "UFXIO":
            app.say("")
            await pilot.press(key)
            await until(pilot, lambda: "read-only" in text(pilot))
        await pilot.press("Q")
        await until(pilot, lambda: "─ Items of the re-ingestion · " in text(pilot) and "!  " in text(pilot))
        for key in "UFXIO":
            app.say_on_top("-")
            await pilot.press(key)
            await until(pilot, lambda: "read-only" in text(pilot))
    assert rows(site) == before


async def test_a_site_without_re_ingestion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said what is not set."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    file = tmp_path / "config.toml"
    file.write_text('[journal]\npath = "journal.db"\n')
    Journal.open(tmp_path / "journal.db").close()
    app = App(Session(file, read_only=True))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "engine" in text(pilot))
        await pilot.press("Q")
        await until(pilot, lambda: "metadata.dsn is not set" in text(pilot))


async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks at a database makes none: the light says what is missing, and the panel comes when it is there."""
    file = configured(tmp_path, "sqlite:meta.db")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    Journal.open(tmp_path / "journal.db").close()
    app = App(Session(file, read_only=True))
    async with app.run_test(size=(200, 50)) as pilot:
        await until(pilot, lambda: "metadata x" in text(pilot) and "the loader makes it" in text(pilot))
        assert not (tmp_path / "meta.db").exists()


# ── in a terminal: what is done ──────────────────────────────────────────────────────────────────────────────


def rows(site: Path, dsn: str = "", password: str = "") -> dict[int, Item]:
    """The table."""

    async def all_of(metadata: Metadata) -> dict[int, Item]:
        return {row.id: row for row in await metadata.tracking(Queue.ALMA).items(most=1000)}

    return done_with(dsn or f"sqlite:{site.parent / 'meta.db'}", all_of, password)


def one(site: Path, state: State) -> Item:
    """The first in a state."""
    return next(row for row in sorted(rows(site).values(), key=lambda row: row.id) if row.state is state)


@contextlib.contextmanager
def opened(site: Path, rows: int = 24, cols: int = 80, **env: str) -> Iterator[Console]:
    """A console in a terminal, when it shows the queue; it ends in time, and leaves nothing behind."""
    with Console(site.parent / "home", "--config", site, rows=rows, cols=cols, **env) as terminal:
        terminal.wait_for(lambda text: "Re-ingestion !" in text or "Re-ingestion · " in text)
        yield terminal
        terminal.back()
        begin = time.monotonic()
        terminal.send("q")
        assert terminal.wait_exit() == 0
        assert time.monotonic() - begin < GOODBYE
        assert terminal.restored()


def answered(terminal: Console, key: str, title: str, *answers: str) -> None:
    """Press a key, wait for its question, and answer."""
    terminal.send(key)
    terminal.wait_for(lambda text: title in dialog(text))
    terminal.send(*answers)


def test_a_shift_at_the_queue(tmp_path: Path) -> None:
    """Each verb, from the list and from the panes, with hostile texts in the table; who was first is told."""
    dsn = f"sqlite:{tmp_path / 'meta.db'}"
    now = times.now()
    done_with(dsn, lambda metadata: fill(metadata, now, HOSTILE))
    site = configured(tmp_path, "sqlite:meta.db")
    dead = one(site, State.DEAD)
    waits = [row for row in rows(site).values() if row.state is State.WAITING]
    with opened(site) as terminal:
        terminal.wait_for("4 Re-ingestion !")
        terminal.send("4")
        terminal.wait_for(r"\x1b")
        terminal.send("enter")
        terminal.wait_for(f"!  {dead.id}")
        # requeue the dead one
        answered(terminal, "U", f"Requeue item {dead.id}", "repaired", "enter")
        terminal.wait_for(f"Item {dead.id} is waiting.")
        assert rows(site)[dead.id].state is State.WAITING
        # drop another, found by the filter; no is the safe answer
        uid = waits[0].uid.replace("://", "___").replace("/", "_")
        terminal.send("/")
        terminal.wait_for("enter go on")
        terminal.send(uid)
        terminal.wait_for("Items of the re-ingestion · ")
        terminal.send("enter")
        terminal.wait_gone("enter go on")
        answered(terminal, "X", f"Drop item {waits[0].id}", "wrong", "enter")
        terminal.wait_for("cancel")
        terminal.send("enter")
        terminal.wait_gone("cancel")
        assert rows(site)[waits[0].id].state is State.WAITING
        answered(terminal, "X", f"Drop item {waits[0].id}", "wrong", "enter")
        terminal.wait_for("cancel")
        terminal.send("y")
        terminal.wait_for(f"Item {waits[0].id} is dropped.")
        # what is over is not deferred: told before anything is asked
        terminal.send("F")
        terminal.wait_for("so defer is not possible")
        terminal.send("escape", "escape")
        terminal.wait_for("tab pane")
        # by its id, and somebody else is first
        answered(terminal, "F", "Defer which item?", f"{waits[1].id}", "enter")
        terminal.wait_for(lambda text: f"Defer item {waits[1].id}" in dialog(text))
        done_with(dsn, lambda metadata: drop(metadata, waits[1].id, "doubled", "bob@aog2", times.now()))
        terminal.send("2099-01-01", "enter")
        terminal.wait_for("say why")
        terminal.send("later", "enter")
        terminal.wait_for(lambda text: "bob@aog2" in text and "doubled" in text)
        answered(terminal, "F", "Defer which item?", f"{waits[2].id}", "enter")
        terminal.wait_for(lambda text: f"Defer item {waits[2].id}" in dialog(text))
        terminal.send("2099-01-01", "enter")
        terminal.wait_for("say why")
        terminal.send("later", "enter")
        terminal.wait_for("until 2099-01-01T00:00:00Z")
        # the pair
        answered(terminal, "O", "Pause re-ingestion", "a new disk", "enter")
        terminal.wait_for("PAUSED by")
        answered(terminal, "O", "Let re-ingestion go on", "enter")
        terminal.wait_gone("PAUSED by")
        terminal.send("I")
        terminal.wait_for("The loader is told to look now")
        assert acting(terminal.raw) == []
    assert rows(site)[waits[2].id].state is State.DEFERRED
    assert rows(site)[waits[0].id].state is State.DROPPED


def test_another_program_is_seen_within_a_second(tmp_path: Path, postgres: Database) -> None:
    """On PostgreSQL; and when the database is away, both that and its return are told, and the keys work."""
    postgres_at(postgres, lambda metadata: fill(metadata, times.now()))
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    site = configured(tmp_path, postgres.dsn, 'password = "file:password"\n')
    with opened(site, rows=40, cols=160) as terminal:
        terminal.wait_for(lambda text: "dead 1 !" in text and "metadata ●" in text)
        begin = time.monotonic()
        number = postgres_at(postgres, kill_one)
        begun = time.monotonic() - begin
        terminal.wait_for("dead 2 !", SOON)
        terminal.wait_for(f"Item {number} of the re-ingestion is dead: no room")
        assert begun < 20
        terminal.wait_for_bytes(b"\a")
        postgres.server.admin(f"alter database {postgres.name} with allow_connections false")
        postgres.server.admin(ENDED.format(postgres.name))
        terminal.wait_for("metadata x")
        terminal.send("Q")
        terminal.wait_for(lambda text: "Items" in dialog(text))
        terminal.back()
        postgres.server.admin(f"alter database {postgres.name} with allow_connections true")
        terminal.wait_for("metadata: answers again.")
        terminal.wait_for("metadata ●")


def postgres_at(postgres: Database, work: Callable[[Metadata], object]) -> object:
    """Another program's doing."""
    return done_with(postgres.dsn, work, PASSWORD)  # type: ignore[arg-type]


async def kill_one(metadata: Metadata) -> int:
    """The newest that is queued runs, and fails for the last time."""
    table = metadata.tracking(Queue.ALMA)
    item = (await table.items([State.QUEUED], most=1))[0]
    await bring(table, item, State.DEAD, times.now(), "no room")
    await metadata.wake("queue")
    return item.id


def test_a_pause_that_was_there_already(site: Path) -> None:
    """Steering by another console is no fault of this one: the pause of another is shown, with who and why."""
    with opened(site) as terminal:
        done_with(
            f"sqlite:{site.parent / 'meta.db'}",
            lambda metadata: Steering(metadata, Queue.ALMA, "bob@aog2").pause("disk"),
        )
        terminal.send("4")
        terminal.wait_for(lambda text: "PAUSED by bob@aog2" in text and "disk" in text)
