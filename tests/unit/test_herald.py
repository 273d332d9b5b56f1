"""What the herald tells: the bell, the window's title, what broke."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from textual.app import App, ComposeResult

from aogconsole.attached import AttachedEngine
from aogconsole.board import Board, Light, Query
from aogconsole.boards import read
from aogconsole.herald import Herald
from aogconsole.requests.request import State
from aogconsole.settings import Settings
from tests.support.office import ANN, BOB, ENGINE, Office
from widgets.status import Title


class Desk:
    """A herald, and what it wrote to the terminal."""

    def __init__(self, office: Office, *, bell: bool = True) -> None:
        self.office = office
        self.written: list[str] = []
        self.herald = Herald(self.written.append, BOB.who, bell=bell)

    def look(self, text: str = "") -> tuple[str, bool]:
        """The next board."""
        return self.herald.tell(read(self.office.journal, Settings(), Query(text=text)))

    @property
    def rings(self) -> int:
        """How often it rang."""
        return self.written.count("\a")

    def fail(self, request: int) -> None:
        """The engine brings a request into a state that needs a person."""
        change = self.office.journal.change
        change("request", request, ENGINE, "failed", origins=frozenset(State), target=State.FAILED, why="no disk")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A herald that has told its first board."""
    made = Desk(Office.open(tmp_path / "journal.db"))
    made.look()
    return made


def test_a_failure_rings_once_and_is_said(desk: Desk) -> None:
    """It rings, it is said why, and the title is in trouble until the operator has looked."""
    request = desk.office.request(State.STAGING)
    desk.look()
    desk.fail(request)
    before = desk.rings
    assert desk.look() == (f"Request {request} needs you: no disk", True)
    assert desk.rings == before + 1
    assert desk.look() == ("", False)
    assert desk.rings == before + 1
    assert desk.herald.trouble
    line = read(desk.office.journal, Settings(), Query()).lines[0]
    desk.herald.seen(line)
    assert not desk.herald.trouble


def test_data_that_will_be_deleted_are_told_once(desk: Desk) -> None:
    """The engine warns of them; it is said without a ring, and not at the start."""
    runs = [desk.office.run(desk.office.request(State.CLOSED), "succeeded", "2020-01-01") for _ in range(2)]
    desk.look()
    before = desk.rings

    def warn(run: int) -> None:
        why = f"the data of run {run} will be deleted on 2020-01-01"
        change = desk.office.journal.change
        change("run", run, ENGINE, "warn", origins={"succeeded"}, target=None, why=why, warned=1)

    warn(runs[0])
    said = "The data of run {} will be deleted on 2020-01-01"
    assert desk.look() == (f"{said.format(runs[0])}", False)
    assert desk.look() == ("", False)
    for run in runs:
        warn(run)
    assert desk.look() == (f"{said.format(runs[1])} (and 1 more)", False)
    assert desk.rings == before
    assert Desk(desk.office).look() == ("", False)


def test_a_failure_behind_a_filter_rings_too(desk: Desk) -> None:
    """What the filter hides is told all the same."""
    request = desk.office.request(State.STAGING)
    desk.look("something else")
    desk.fail(request)
    before = desk.rings
    assert desk.look("something else")[1]
    assert (desk.rings, desk.herald.trouble) == (before + 1, True)


def test_what_the_operator_did_is_no_news(desk: Desk) -> None:
    """One's own reopening does not ring, another's does."""
    requests = [desk.office.request(State.CLOSED) for _ in range(2)]
    desk.look()
    before = desk.rings
    desk.office.desk.reopen(requests[0], "asked again")
    desk.look()
    assert desk.rings == before
    desk.office.ann.reopen(requests[1], "asked again")
    desk.look()
    assert desk.rings == before + 1
    assert ANN.who != BOB.who


def test_the_bell_can_be_switched_off(tmp_path: Path) -> None:
    """Nothing rings; it is said all the same."""
    desk = Desk(Office.open(tmp_path / "journal.db"), bell=False)
    request = desk.office.request(State.STAGING)
    desk.look()
    desk.fail(request)
    assert desk.look()[1]
    assert desk.rings == 0


def test_a_connection_that_breaks_and_comes_back(desk: Desk) -> None:
    """Both are said once; meanwhile the title is in trouble."""
    board = replace(Board(), lights=(Light("archive", False, "it does not answer"),))
    assert desk.herald.tell(board) == ("archive: it does not answer", True)
    assert desk.herald.tell(board) == ("", False)
    assert desk.herald.trouble
    assert desk.herald.tell(replace(board, lights=(Light("archive", True),))) == ("archive: answers again.", False)
    assert not desk.herald.trouble


def test_the_window_is_named_and_gets_its_title_back(desk: Desk) -> None:
    """The title tells how many need a person; the terminal's own is kept and given back."""
    desk.office.request(State.ENTITLED)
    desk.look()
    assert desk.written[0].startswith("\x1b[22;0t")
    assert "\x1b]0;! AOG console: 1 need you, 1 open\x07" in desk.written
    desk.herald.leave()
    assert desk.written[-1] == "\x1b[23;0t"


def test_a_failure_of_long_ago_is_unseen_too(desk: Desk) -> None:
    """The console was suspended while more happened than a board tells of: the title has the failure's colour."""
    desk.office.request(State.FAILED)
    for _ in range(30):
        desk.office.request(State.ENTITLED)
    desk.look()
    assert desk.herald.trouble


def test_an_engine_that_does_not_run_is_trouble(desk: Desk) -> None:
    """Why is said once, and the title is in trouble until it runs."""
    said: list[str] = []
    engine = AttachedEngine([], lambda _: None)
    desk.herald.engine(engine, said.append)
    assert not desk.herald.trouble
    engine.why = "the run folder belongs to another journal"
    for _ in range(2):
        desk.herald.engine(engine, said.append)
    assert said == ["There is no engine: the run folder belongs to another journal"]
    assert desk.herald.trouble
    engine.why = ""
    desk.herald.engine(engine, said.append)
    assert not desk.herald.trouble


@pytest.mark.parametrize("width", [60, 80, 120])
async def test_that_there_is_no_engine_is_told_in_any_title(width: int) -> None:
    """However long the reason is: what does not fit of it is left out."""
    reason = "NO ENGINE: the run folder on 127.0.0.1 belongs to another journal " + "0" * 40
    lights = tuple(Light(name, None) for name in ("staging", "archive", "mail", "outgoing"))

    class Host(App[None]):
        def compose(self) -> ComposeResult:
            yield Title()

    app = Host()
    async with app.run_test(size=(width, 5)):
        title = app.query_one(Title)
        title.show(Board(lights=lights), reason, datetime.now(UTC), read_only=False, trouble=True)
        assert "NO ENGINE" in str(title.content)
        assert str(title.content).endswith("…")
        assert len(str(title.content)) <= width - 2
