"""Slips and small accidents at the console: none ends it, does what was not meant, or loses what was typed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from aogconsole.app import Console
from aogconsole.cli.common import Session
from aogconsole.requests.request import State
from tests.support.office import Office
from widgets.dialogs import Ask
from widgets.letter import LetterScreen


@pytest.fixture
def office(config: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    """The journal of the configuration."""
    monkeypatch.setenv("XDG_STATE_HOME", str(config.parent / "state"))
    return Office.open(config.parent / "journal.db")


@asynccontextmanager
async def console(config: Path, *, read_only: bool = False) -> AsyncIterator[tuple[Console, Pilot[int]]]:
    """A console without an engine, once it shows the requests."""
    app = Console(Session(config, read_only=read_only))
    app._engine = None
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.main.requests.lines)
        yield app, pilot


async def until(pilot: Pilot[int], true: Callable[[], object]) -> None:
    """Let the console go on until it is so."""
    for _ in range(500):
        if true():
            return
        await pilot.pause(0.02)
    raise TimeoutError(f"{pilot.app.screen}: {said(pilot)}")


def said(pilot: Pilot[int]) -> str:
    """The line below the panes."""
    app = pilot.app
    assert isinstance(app, Console)
    return str(app.main.said.content)


# ── programs and files ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_log_is_exported_to_nobodys_home(config: Path, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that begins with ~ and is no account's is a name like any other."""
    office.request(State.FAILED)
    log = config.with_name("1.log")
    log.write_text("one\ntwo\n")
    monkeypatch.chdir(config.parent)
    config.with_name("~no-such-account").mkdir()
    async with console(config) as (app, pilot):
        app.run_worker(app.logs.export(1, log))
        await until(pilot, lambda: isinstance(app.screen, Ask))
        app.screen.query_one(Input).value = "~no-such-account/x.log"
        await pilot.press("enter")
        await until(pilot, lambda: "2 lines are written" in said(pilot))
    assert config.with_name("~no-such-account").joinpath("x.log").read_text() == "one\ntwo\n"


@pytest.mark.parametrize(("editor", "told"), [("vi 'x", "$EDITOR cannot be read"), (" ", "there is no terminal here")])
async def test_an_editor_that_does_not_start(
    config: Path, office: Office, editor: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said why, and the letter is as it was. An empty variable counts for none: then it is vi."""
    monkeypatch.setenv("EDITOR", editor)
    monkeypatch.delenv("VISUAL", raising=False)
    office.request(State.REFUSED)
    before = office.everything()
    async with console(config) as (app, pilot):
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, LetterScreen))
        await pilot.press("E")
        await until(pilot, lambda: told in said(pilot))
    assert office.everything() == before


async def test_no_room_for_the_editors_file(config: Path, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder for temporary files takes none: it is said, for a letter as for the pager."""
    office.request(State.REFUSED)
    monkeypatch.setattr("tempfile.tempdir", str(config.with_name("no such folder")))
    async with console(config) as (app, pilot):
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, LetterScreen))
        await pilot.press("E")
        await until(pilot, lambda: "the letter cannot be edited" in said(pilot))
        app.run_worker(app.logs.pager(1, config))
        await until(pilot, lambda: "The log cannot be shown" in said(pilot))
