"""The table of actions: keys, reasons, and that the screen and the desk agree on what is possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from aogconsole.actions import ACTIONS, BY_ID, DECISIONS, FOOTER, NEXT, why_not
from aogconsole.board import Line, Query
from aogconsole.boards import read
from aogconsole.errors import Conflict
from aogconsole.requests.request import REFUSALS, State, next_action
from aogconsole.settings import Settings
from tests.support.office import Office, act

VERBS = ("recheck", "stage", "refuse", "hold", "release", "rerun", "close", "reopen", "correct")


def line_of(office: Office, request: int) -> Line:
    """A request as the screen's list has it."""
    return next(line for line in read(office.journal, Settings(), Query(selected=request)).lines if line.id == request)


def test_every_key_does_one_thing() -> None:
    """No two actions have the same key, and no two the same name."""
    assert len({action.key for action in ACTIONS}) == len(ACTIONS) == len(BY_ID)


def test_the_footer_has_eight_keys_at_most() -> None:
    """What stands in the last line is what there are actions for."""
    assert len(FOOTER) <= 8
    assert set(FOOTER) | set(DECISIONS) | set(NEXT.values()) <= set(BY_ID)


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("verb", VERBS)
def test_the_screen_and_the_desk_agree(tmp_path: Path, verb: str, state: State) -> None:
    """A key is offered exactly where the desk does what it says."""
    office = Office.open(tmp_path / "journal.db")
    request = office.request(state)
    reason = why_not(BY_ID[f"request.{verb}"], line_of(office, request))
    if verb == "release" and state is State.HELD:
        assert "rerun" in reason or "runs it again" in reason  # held because its run failed
        return
    try:
        act(office, office.desk, verb, request)
    except Conflict:
        assert reason, "the key is offered, but the desk refuses"
    else:
        assert not reason, reason


@pytest.mark.parametrize("verdict", [None, "unknown", "entitled", *REFUSALS])
@pytest.mark.parametrize("aside", [True, False])
@pytest.mark.parametrize("state", list(State))
def test_enter_does_something_wherever_there_is_a_next_action(state: State, aside: bool, verdict: str | None) -> None:
    """Every next action is an action of the screen, or `decide`, `wait` or nothing."""
    action = next_action(state, verdict, put_aside=aside)
    assert action in {None, "wait", "decide"} or action in NEXT


@pytest.mark.parametrize("action", [action for action in ACTIONS if action.acts], ids=lambda action: action.id)
def test_a_read_only_console_acts_on_nothing(tmp_path: Path, action: object) -> None:
    """Every key that changes something says that the console is read-only."""
    office = Office.open(tmp_path / "journal.db")
    line = line_of(office, office.request(State.ENTITLED))
    assert "read-only" in why_not(action, line, read_only=True)  # type: ignore[arg-type]


def test_a_reason_names_the_states_and_the_request(tmp_path: Path) -> None:
    """What is said tells where the request is, and where it would have to be."""
    office = Office.open(tmp_path / "journal.db")
    request = office.request(State.CLOSED)
    told = why_not(BY_ID["request.stage"], line_of(office, request))
    assert "entitled" in told
    assert f"request {request} is closed" in told


def test_a_letter_in_doubt_is_among_what_may_be_decided(tmp_path: Path) -> None:
    """Who decides on a request whose letter may not have gone finds the letter, which can be sent again."""
    office = Office.open(tmp_path / "journal.db")
    request = office.request(State.STAGED)
    assert "request.letter" in DECISIONS
    assert not why_not(BY_ID["request.letter"], line_of(office, request))
    assert why_not(BY_ID["request.letter"], line_of(office, office.request(State.QUEUED)))
