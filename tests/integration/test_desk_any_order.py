"""Verbs and steps of the engine in any order: what must hold holds after each of them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aogconsole.desk import Desk
from aogconsole.errors import Conflict, UsageError
from aogconsole.journal.store import encode
from aogconsole.letterbook import STATE_OF
from aogconsole.requests.request import REFUSALS, TRANSITIONS, State, next_action
from tests.support.desk import MOUS
from tests.support.office import BOB, ENGINE, OTHER_MOUS, PI, TARGETS, Office, act


class AnyDay(RuleBasedStateMachine):
    """Verbs and steps of the engine in any order, on a few requests."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.office = Office.open(Path(self.folder.name) / "journal.db")
        self.requests: list[int] = []
        self.told: set[str] = set()

    def teardown(self) -> None:
        self.office.journal.close()
        self.folder.cleanup()

    @initialize()
    def begin(self) -> None:
        self.requests = [self.office.receive() for _ in range(2)]

    def allowed(self, call: Callable[[], Any]) -> None:
        """A verb does its work, or says why not and changes nothing."""
        before = self.office.everything()
        try:
            call()
        except (Conflict, UsageError):
            assert self.office.everything() == before

    @rule(index=st.integers(0, 1), verb=st.sampled_from(sorted({*TARGETS} - {"resend"})))
    def operator(self, index: int, verb: str) -> None:
        request = self.requests[index]
        self.allowed(lambda: act(self.office, self.office.desk, verb, request))

    @rule(
        index=st.integers(0, 1), verb=st.sampled_from(["approve", "send", "discard", "resend"]), which=st.integers(0, 9)
    )
    def of_letters(self, index: int, verb: str, which: int) -> None:
        letters = self.office.letters(self.requests[index])
        if letters:
            letter = letters[which % len(letters)]["id"]
            words = ("once more",) if verb == "resend" else ()
            self.allowed(lambda: getattr(self.office.desk, verb)(letter, *words))

    @rule(index=st.integers(0, 1), mous=st.sampled_from([MOUS, OTHER_MOUS]))
    def corrected(self, index: int, mous: str) -> None:
        self.allowed(lambda: self.office.desk.correct(self.requests[index], "why", mous=mous))

    @rule(index=st.integers(0, 1), verdict=st.sampled_from(["entitled", "unknown", None, *REFUSALS]))
    def checked(self, index: int, verdict: str | None) -> None:
        """The engine asks the archive."""
        request, journal = self.requests[index], self.office.journal
        if self.office.state(request) != State.RECEIVED:
            return
        self.step(request, "check", State.CHECKING)
        kept = {"verdict": verdict, "facts": encode(PI)}
        if verdict == "entitled":
            self.step(request, "entitled", State.ENTITLED, **kept)
        elif verdict in REFUSALS:
            with journal.transaction():
                self.step(request, "no", State.REFUSED, **kept)
                self.office.book.draft(request, verdict)
        else:
            self.step(request, "doubt", State.UNCLEAR, **kept)

    @rule(index=st.integers(0, 1), end=st.sampled_from(["succeeded", "failed", "muddled", "stopped", "busy"]))
    def staged(self, index: int, end: str) -> None:
        """The engine runs stagecalms to some end."""
        request, journal = self.requests[index], self.office.journal
        if self.office.state(request) != State.QUEUED:
            return
        waiting = journal.one("select id from run where request = ? and state = 'starting'", request)
        run = waiting["id"] if waiting else self.office.run(request, "starting")
        row = journal.fetch("request", request)
        assert [row[name] for name in ("mous", "ticket")] == [
            journal.fetch("run", run)[name] for name in ("mous", "ticket")
        ]
        self.step(request, "start", State.STAGING)
        ends = {"succeeded": State.STAGED, "failed": State.FAILED, "muddled": State.UNCLEAR, "stopped": State.HELD}
        with journal.transaction():
            self.step(request, end, ends.get(end, State.QUEUED))
            if end == "busy":
                return
            state = "unclear" if end == "muddled" else end
            given: dict[str, Any] = {"url": "http://x/1", "deleted_on": "2099-01-01"} if end == "succeeded" else {}
            journal.change("run", run, ENGINE, end, origins={"starting"}, target=state, **given)
            if end in ("succeeded", "failed"):
                self.office.book.draft(request, {"succeeded": "link", "failed": "expert"}[end], run)

    @precondition(lambda self: self.approved())
    @rule(outcome=st.sampled_from(["sent", "refused", "ambiguous", "partly_refused"]))
    def sent(self, outcome: str) -> None:
        """The engine sends a letter; a link only to who is entitled to what it leads to."""
        letter, request = self.approved()[0], self.approved()[0]["request"]
        try:
            asyncio.run(self.office.book.fixed(letter))
        except UsageError:
            outcome = "refused"
        else:
            if letter["kind"] == "link":
                row, run = (self.office.journal.fetch(kind, letter[kind]) for kind in ("request", "run"))
                assert (row["verdict"], row["mous"]) == ("entitled", run["mous"])
        self.office.journal.change("letter", letter["id"], ENGINE, "sending", origins={"approved"}, target="sending")
        self.office.journal.change("letter", letter["id"], ENGINE, outcome, origins={"sending"}, target=outcome)
        done = ("handed_over", State.HELD) if letter["kind"] == "expert" else ("answered", State.CLOSED)
        self.step(request, *(done if outcome == "sent" else ("letter_trouble", State.UNCLEAR)))

    def approved(self) -> list[Any]:
        """Letters that the engine would send now."""
        rows = self.office.journal.all(
            "select letter.*, request.state as now from letter join request on request.id = request"
            " where letter.state = 'approved'"
        )
        return [row for row in rows if row["now"] == STATE_OF[row["kind"]]]

    def step(self, request: int, verb: str, target: State, **values: Any) -> None:
        """One of the engine's arrows."""
        arrow = TRANSITIONS[verb]
        assert target in arrow.target
        self.office.journal.change(
            "request", request, ENGINE, verb, origins=arrow.origins, target=target, seen=None, data=None, **values
        )

    @invariant()
    def nothing_is_staged_that_is_not_entitled(self) -> None:
        for row in self.office.journal.all("select state, verdict from request where state in ('queued', 'staging')"):
            assert row["verdict"] == "entitled"

    @invariant()
    def everything_open_has_a_next_action(self) -> None:
        for request in self.requests:
            row = self.office.journal.fetch("request", request)
            action = next_action(State(row["state"]), row["verdict"], put_aside=row["before_hold"] is not None)
            assert (action is None) == (row["state"] == State.CLOSED)

    @invariant()
    def no_run_waits_for_a_request_that_has_gone_another_way(self) -> None:
        rows = self.office.journal.all(
            "select request.state from run join request on request.id = run.request where run.state = 'starting'"
        )
        assert {row["state"] for row in rows} <= {"queued", "staging", "held"}

    @invariant()
    def the_history_leads_to_what_is_stored_by_the_tables_arrows(self) -> None:
        assert self.office.problems() == []
        for row in self.office.journal.all("select * from history where kind = 'request' and origin <> target"):
            arrow = TRANSITIONS[row["verb"]]
            assert row["origin"] in arrow.origins
            assert row["target"] in arrow.target


TestAnyDay = AnyDay.TestCase
TestAnyDay.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class CarelessDesk(Desk):
    """Deliberately broken: it stages whatever it is told to."""

    def rerun(self, request: int, why: str, *, seen: int | None = None) -> None:
        self._move(request, "rerun", State.QUEUED, why=why, seen=seen)


class CarelessDay(AnyDay):
    """The same day at a desk that does not look at the verdict."""

    def __init__(self) -> None:
        super().__init__()
        self.office.desk = CarelessDesk(self.office.journal, BOB, self.office.book)


def test_a_desk_that_stages_what_is_not_entitled_is_caught() -> None:
    """The random day finds it out."""
    hurried = settings(
        TestAnyDay.settings, max_examples=300, database=None, phases=[Phase.generate], report_multiple_bugs=False
    )
    with pytest.raises(AssertionError):
        run_state_machine_as_test(CarelessDay, settings=hurried)
