"""What is on the screens that matter, kept as text beside this file: a change shows as a difference to be read.

`AOG_WRITE_SCREENS=1` writes them anew.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from aogconsole import times
from aogconsole.app import Console
from aogconsole.cli.common import Session
from aogconsole.journal.history import Actor
from aogconsole.requests.request import State
from tests.support.desk import MOUS, PROJECT
from tests.support.office import ENGINE, Office

KEPT = Path(__file__).with_name("screens")
NOW = datetime(2026, 11, 21, 14, 2, 11, tzinfo=UTC)
FACTS = """{"account": {"account_id": "pi1", "active": true, "email": "ann@example.org", "firstname": "Ann",
"lastname": "P\u00ed", "preferredarc": "EU"}, "pi": {"account_id": "pi1", "active": true, "email": "ann@example.org",
"firstname": "Ann", "lastname": "P\u00ed", "preferredarc": "EU"}, "delegees": [{"account_id": "del1", "firstname":
"Bob", "lastname": "Delegee", "preferredarc": "NA", "email": "bob@example.org", "active": true}], "day": "2026-11-21",
"public": false, "public_from": "2027-03-12", "state": "Delivered", "project_source": "archive"}"""
MARKS = """[{"kind": "node", "text": "DATAMACHINE chosen: arcp9", "values": {"node": "arcp9"}, "offset": 0},
{"kind": "regenerating", "text": "None or not all ...", "values": {}, "offset": 26}]"""


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A read-only console's session on a journal with something of everything; the clock stands still."""
    monkeypatch.setattr(times, "now", lambda: NOW)
    monkeypatch.setattr(Actor, "current", lambda via: Actor("ann@aog1", f"{via} 1"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    config = tmp_path / "config.toml"
    config.write_text('[journal]\npath = "journal.db"\n[archive]\ndsn = "archive:1521/ALMA"\n')
    office = Office.open(tmp_path / "journal.db")
    fill(office)
    office.journal.close()
    return Session(config, read_only=True)


def fill(office: Office) -> None:
    """Requests in every state, a run that is on, one that failed, connections."""
    office.request(State.FAILED, ticket="20011", mous="uid___A001_X15a0_Xf1")
    entitled = office.request(State.ENTITLED, ticket="20002", mous="uid___A001_X1590_X30aa")
    office.desk.note(entitled, "the user has called twice")
    office.desk.claim(entitled)
    staging = office.request(State.STAGING, ticket="20001", mous="uid___A001_X1590_X30ac")
    for number in (1, 2, 3):
        office.request(State.QUEUED, ticket="20004", mous=f"uid___A001_X2fb_X2{number}")
    for state in (State.REFUSED, State.UNCLEAR, State.STAGED, State.HELD, State.CHECKING, State.CLOSED):
        office.request(state)
    db = office.journal.connection
    db.execute("update request set facts = ?, received_at = '2026-11-21T12:00:00Z' where id = ?", (FACTS, entitled))
    db.execute("update request set checked_at = '2026-11-21T14:01:00Z', check_ms = 31, query_version = '86c1267ce68a'")
    db.execute(
        "update run set slot = 0, state = 'running', started_at = '2026-11-21T13:00:00Z', milestones = ?,"
        " expected_end = '2026-11-21T15:00:00Z' where request = ?",
        (MARKS, staging),
    )
    db.execute("update run set slot = 1, why = 'disk full' where state = 'failed' and request = 2")
    run = db.execute("select id from run where request = ?", (staging,)).fetchone()[0]
    lines = [f"2026-11-21 13:{n // 60:02}:{n % 60:02} INFO hifa_bandpass spw {n % 4}: done" for n in range(600)]
    (office.journal.path.parent / "runs" / f"{run}.log").write_text(
        "\n".join(["DATAMACHINE chosen: arcp9", "None or not all of the needed MSs found ...", *lines]) + "\n"
    )
    for name, ok, detail in (("archive", 1, ""), ("mail", 1, ""), ("staging", 0, "the staging host does not answer")):
        db.execute("insert into connection values (?, ?, ?, '2026-11-21T13:55:00Z')", (name, ok, detail))
    office.journal.record(ENGINE, "resume", "engine", None)


@asynccontextmanager
async def console(session: Session, size: tuple[int, int]) -> AsyncIterator[Pilot[int]]:
    """The console in this process, when the journal has been read and the log's last line is there."""
    app = Console(session)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app.board.detail is not None)
        yield pilot


async def until(pilot: Pilot[Any], true: Callable[[], object]) -> None:
    """Let the app work until it is so."""
    for _ in range(2000):
        if true():
            break
        await pilot.pause(0.005)
    assert true()
    await pilot.pause()


def text(pilot: Pilot[Any]) -> str:
    """The screen as text."""
    width, height = pilot.app.size
    lines = pilot.app.screen._compositor.render_strips()
    assert len(lines) == height
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in lines) + "\n" + "=" * width + "\n"


def kept(name: str, shown: str) -> None:
    """It is what was kept under this name."""
    file = KEPT / f"{name}.txt"
    if os.environ.get("AOG_WRITE_SCREENS"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(shown, encoding="utf-8")
    assert shown == file.read_text(encoding="utf-8"), f"the screen differs from {file}"


@pytest.mark.parametrize("size", [(200, 50), (120, 30), (80, 24), (60, 16), (40, 12), (20, 6)])
async def test_the_panes(session: Session, size: tuple[int, int]) -> None:
    """At every size the requests are there with what is next; what does not fit gives way."""
    async with console(session, size) as pilot:
        await until(pilot, lambda: size[0] < 120 or "spw 3" in text(pilot))
        kept(f"panes-{size[0]}x{size[1]}", text(pilot))


def settled(pilot: Pilot[Any], name: str) -> bool:
    """Whether all is there: a log's last line comes from its file's own thread."""
    return name not in ("slot", "log") or "spw 3" in text(pilot) or "no output" in text(pilot)


PAGES = {
    "letters": ["L"], "runs": ["R"], "staged": ["D"], "mails": ["M"], "handover": ["H"], "history": ["j", "y"],
    "mail": ["v"], "letter": ["m"], "help": ["question_mark"], "log": ["l"], "slot": ["2"],
    "panel-zoomed": ["tab", "z"], "slot-help": ["2", "question_mark"], "read-only": ["s"], "reingestion": ["4"],
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
async def test_a_page(session: Session, name: str) -> None:
    """Every page of the small screen that a key leads to."""
    async with console(session, (80, 24)) as pilot:
        before = text(pilot)
        await pilot.press(*PAGES[name])
        await until(pilot, lambda: text(pilot) != before)
        await until(pilot, lambda: settled(pilot, name))
        kept(f"page-{name}", text(pilot))


async def test_the_filter_finds_what_is_closed(session: Session) -> None:
    """A text in the filter shows open and closed requests that have it."""
    async with console(session, (80, 24)) as pilot:
        await pilot.press("slash", *"20004", "enter")
        app = pilot.app
        assert isinstance(app, Console)
        await until(pilot, lambda: app.board.query.text == "20004" and len(app.board.lines) == 3)
        kept("filter", text(pilot))


def test_the_sample_is_what_it_seems() -> None:
    """The sample's MOUS and project are those of the test archive."""
    assert MOUS.startswith("uid___")
    assert PROJECT.endswith(".S")
