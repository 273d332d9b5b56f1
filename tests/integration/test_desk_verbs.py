"""Every verb of the desk in every state: what the table of transitions allows, and nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aogconsole import times, views
from aogconsole.desk import Desk
from aogconsole.errors import Conflict, InvalidId, UsageError
from aogconsole.requests.request import AT_REST, OPEN, REFUSALS, TRANSITIONS, State
from tests.support.desk import MOUS, request_mail
from tests.support.office import BOB, NOW, OTHER_MOUS, TARGETS, Office, act, bounce


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """A new journal with its desk."""
    return Office.open(tmp_path / "journal.db")


def prepare(office: Office, verb: str, state: State) -> int:
    """A request in this state, on which nothing but the state can be wrong for the verb."""
    request = office.request(state, "entitled" if verb == "rerun" else None)
    if verb == "release" and state == State.HELD:
        office.set(request, State.HELD, before_hold=State.ENTITLED)
    if verb == "resend":
        for letter in office.letters(request):
            office.ann.discard(letter["id"])
        with office.journal.transaction():
            office.ann.discard(office.book.draft(request, "not_entitled"))
    return request


def test_every_operators_arrow_is_tried() -> None:
    """The table below leaves no verb of the transition table out."""
    assert set(TARGETS) == {arrow.verb for arrow in TRANSITIONS.values() if arrow.operator}


@pytest.mark.parametrize("verb", TARGETS)
def test_a_verb_works_where_the_table_has_it_and_nowhere_else(office: Office, verb: str) -> None:
    """Allowed: its target. Not allowed: a conflict that names who acted, nothing changed. The history holds."""
    arrow = TRANSITIONS[verb]
    assert TARGETS[verb] in arrow.target
    for state in State:
        request = prepare(office, verb, state)
        if state in arrow.origins:
            act(office, office.desk, verb, request)
            assert office.state(request) == TARGETS[verb], state
        else:
            before = office.everything()
            with pytest.raises(Conflict) as told:
                act(office, office.desk, verb, request)
            assert re.search(rf"is {state}, so '{verb}' is not possible: \w+@aog1 did '\w+' at ", str(told.value))
            assert told.value.hint
            assert office.everything() == before, state
    assert office.problems() == []


@pytest.mark.parametrize(
    ("name", "call", "origins"),
    [
        ("note", lambda desk, request: desk.note(request, "look"), frozenset(State)),
        ("claim", lambda desk, request: desk.claim(request), OPEN),
        ("move", lambda desk, request: desk.move(request, 1), frozenset({State.QUEUED})),
    ],
)
def test_verbs_that_leave_the_state(
    office: Office, name: str, call: Callable[[Desk, int], None], origins: frozenset[State]
) -> None:
    """`note`, `claim`, `move`: where they make sense, and without touching the state."""
    for state in State:
        request = office.request(state)
        if state in origins:
            call(office.desk, request)
        else:
            before = office.everything()
            with pytest.raises(Conflict, match=rf"'{name}' is not possible: \w+@aog1 did"):
                call(office.desk, request)
            assert office.everything() == before
        assert office.state(request) == state
    assert office.problems() == []


@pytest.mark.parametrize("verb", ["stage", "hold", "close", "recheck", "refuse", "claim", "correct"])
def test_a_verb_on_a_version_that_has_gone_is_a_conflict(office: Office, verb: str) -> None:
    """`seen`: somebody acted since the operator looked, though the state is the same."""
    request = office.request(State.REFUSED if verb == "refuse" else State.ENTITLED)
    seen = office.journal.fetch("request", request)["version"]
    office.ann.note(request, "wait")
    before = office.everything()
    words: dict[str, tuple[Any, ...]] = {"hold": ("why",), "close": ("why",), "correct": ("why",)}
    given = {"account": "del1"} if verb == "correct" else {}
    with pytest.raises(Conflict, match=f"request {request} has changed since you looked: ann@aog1 did 'note'"):
        getattr(office.desk, verb)(request, *words.get(verb, ()), seen=seen, **given)
    assert office.everything() == before


def test_the_loser_is_told_who_changed_the_state_and_not_who_left_a_note(office: Office) -> None:
    """A note or a claim after it is not why a verb is impossible."""
    request = office.request(State.ENTITLED)
    office.ann.stage(request)
    office.desk.note(request, "wait")
    with pytest.raises(Conflict, match="is queued, so 'stage' is not possible: ann@aog1 did 'stage'"):
        office.desk.stage(request)


@pytest.mark.parametrize("state", [State.REFUSED, State.STAGED, State.FAILED])
def test_nothing_takes_a_letter_back_that_is_being_sent(office: Office, state: State) -> None:
    """Between "sending" and the answer it may have gone: hold, close, rerun, recheck, correct, refuse wait."""
    request = office.request(state, "entitled" if state != State.REFUSED else None)
    office.desk.approve(office.letter(request))
    office.finish(office.letter(request), "sending")
    before = office.everything()
    for verb in sorted({"hold", "close", "rerun", "recheck", "correct", "refuse"}):
        with pytest.raises(Conflict):
            act(office, office.desk, verb, request)
    with pytest.raises(Conflict):
        office.desk.resend(office.letter(request), "why")
    with pytest.raises(Conflict):
        office.desk.discard(office.letter(request))
    assert office.everything() == before


def test_reasons_are_asked_for(office: Office) -> None:
    """Without one nothing happens."""
    request = office.request(State.UNCLEAR)
    calls: list[Callable[[str], object]] = [
        lambda why: office.desk.hold(request, why),
        lambda why: office.desk.close(request, why),
        lambda why: office.desk.rerun(request, why),
        lambda why: office.desk.reopen(request, why),
        lambda why: office.desk.correct(request, why, ticket="1"),
        lambda why: office.desk.refuse(request, "not_entitled", why),
        lambda why: office.desk.note(request, why),
    ]
    before = office.everything()
    for call in calls:
        for why in ("", "  \n"):
            with pytest.raises(UsageError):
                call(why)
    assert office.everything() == before


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("mous", "uid___A001_X1"),
        ("mous", "uid___A001_X1_X1; rm -rf ~"),
        ("mous", "uid___A001_X1_X1\n"),
        ("project", "2012.1.00357"),
        ("account", "-rf"),
        ("account", "a b"),
        ("account", "x" * 33),
        ("ticket", "١٢٣"),
        ("ticket", "#"),
    ],
)
def test_correct_with_a_bad_id_is_refused(office: Office, field: str, text: str) -> None:
    """Exit code 2, and the request is as before."""
    request = office.request(State.UNCLEAR)
    before = office.everything()
    with pytest.raises(InvalidId) as told:
        office.desk.correct(request, "why", seen=None, **{field: text})
    assert told.value.exit_code == 2
    assert office.everything() == before


def test_correct_takes_either_spelling_and_starts_afresh(office: Office) -> None:
    """What was known of the former values is forgotten; letters drafted for them are dropped."""
    request = office.request(State.REFUSED)
    office.desk.correct(request, "typing error", mous="uid://A001/X1/X1", ticket="#77")
    row = office.journal.fetch("request", request)
    assert (row["mous"], row["ticket"], row["state"]) == (OTHER_MOUS, "77", "received")
    assert (row["verdict"], row["facts"], row["checked_at"]) == (None, None, None)
    assert [letter["state"] for letter in office.letters(request)] == ["discarded"]
    with pytest.raises(UsageError, match="nothing to correct"):
        office.desk.correct(request, "why")


def test_a_request_that_lacks_a_field_is_completed_before_it_is_checked(office: Office) -> None:
    """`recheck` says which field; `correct` with one of two says what is still missing, with both it is checked."""
    request = office.request(State.UNCLEAR)
    office.set(request, State.UNCLEAR, account=None, project=None)
    with pytest.raises(Conflict, match="lacks project, account"):
        office.desk.recheck(request)
    office.desk.correct(request, "asked them", account="pi1")
    row = office.journal.fetch("request", request)
    assert (row["state"], row["why"]) == ("unclear", "still missing: project")
    office.desk.correct(request, "asked them", project="2012.1.00357.S")
    assert office.state(request) == State.RECEIVED


def test_no_second_run_for_the_same(office: Office) -> None:
    """A request that was opened again is not staged beside a newer one for the same MOUS, user and ticket."""
    first = office.request(State.CLOSED, "entitled", ticket="7")
    second = office.request(State.ENTITLED, ticket="7", message_id="<again@eso.org>")
    office.desk.reopen(first, "the user asks")
    with pytest.raises(Conflict, match=f"request {second} is open for the same"):
        office.desk.rerun(first, "once more")


def test_no_second_open_request_for_the_same(office: Office) -> None:
    """`correct` and `recheck` do not make two open requests for one MOUS, user and ticket."""
    first = office.request(State.ENTITLED, ticket="7")
    second = office.request(State.ENTITLED, ticket="8")
    before = office.everything()
    with pytest.raises(Conflict, match=f"request {first} is open for the same"):
        office.desk.correct(second, "why", ticket="7")
    assert office.everything() == before
    stranger = office.take(request_mail_of_a_stranger("7")).request
    assert stranger is not None
    with pytest.raises(Conflict, match=f"request {first} is open for the same"):
        office.desk.recheck(stranger)
    office.desk.recheck(first)  # a stranger's mail stands in nobody's way
    office.desk.close(first, "why")
    office.desk.recheck(stranger)
    assert office.state(stranger) == State.RECEIVED


@pytest.mark.parametrize(("why", "reason"), [("", ""), ("they called", ". Reason: they called")])
def test_a_doubt_that_is_lifted_stays_visible(office: Office, why: str, reason: str) -> None:
    """`recheck` accepts what was doubted of a mail: a note and the history say so, with the reason if there is one."""
    stranger = office.take(request_mail_of_a_stranger("7")).request
    assert stranger is not None
    office.desk.hold(stranger, "lunch")  # that lifts no doubt
    office.desk.recheck(stranger, *[why] * bool(why))
    (note,) = views.one_request(office.journal, stranger)["notes"]
    doubt = "from an unlisted sender: stranger@example.org"
    assert (note["who"], note["text"]) == (BOB.who, f"taken although: {doubt}{reason}")
    told = {row["verb"]: row for row in views.history(office.journal, stranger)}
    assert (told["recheck"]["why"], told["note"]["data"]["text"]) == (why or None, note["text"])
    office.set(stranger, State.UNCLEAR, checked_at=times.text(NOW), verdict="unknown")
    office.desk.recheck(stranger)
    assert len(views.one_request(office.journal, stranger)["notes"]) == 1, "the archive was away: no doubt of the mail"


def request_mail_of_a_stranger(ticket: str) -> bytes:
    """A request mail from nowhere."""
    return request_mail(ticket=ticket, sender="stranger@example.org", message_id="<stranger@example.org>")


def test_hold_and_release_lead_back(office: Office) -> None:
    """From every state in which something can be put aside, to where it was; a check is made again."""
    for state in AT_REST - {State.HELD} | {State.CHECKING}:
        request = office.request(state)
        office.set(request, state, why="two users")
        office.desk.hold(request, "lunch")
        assert (office.state(request), office.journal.fetch("request", request)["why"]) == (State.HELD, "lunch")
        office.desk.release(request)
        assert office.state(request) == (State.RECEIVED if state == State.CHECKING else state)
        assert office.journal.fetch("request", request)["why"] == "two users", "what is to be decided is still told"
    stopped = office.request(State.HELD)
    with pytest.raises(Conflict, match="was not put aside"):
        office.desk.release(stopped)
    assert office.problems() == []


def test_rerun_is_for_what_is_entitled(office: Office) -> None:
    """Nobody can stage anything else: not what is refused, not what is unknown."""
    for verdict in (None, "unknown", *REFUSALS):
        request = office.request(State.UNCLEAR)
        office.set(request, State.UNCLEAR, verdict=verdict)
        before = office.everything()
        with pytest.raises(Conflict, match="not known to be entitled"):
            office.desk.rerun(request, "please")
        assert office.everything() == before


def test_what_waits_for_a_busy_host_ends_with_its_request(office: Office) -> None:
    """A run that was planned and never started does not stay behind when its request goes another way."""
    for verb in ("close", "correct", "recheck"):
        request = office.request(State.QUEUED)
        run = office.run(request, "starting")
        act(office, office.desk, verb, request)
        row = office.journal.fetch("run", run)
        assert (row["state"], row["why"].partition(":")[0]) == ("stopped", "never started"), verb


def test_one_letter_of_a_request_is_alive_at_a_time(office: Office) -> None:
    """`resend` of an older letter while another is drafted or approved is a conflict that says so."""
    request = office.request(State.REFUSED)
    first = office.letter(request)
    second = office.desk.refuse(request, "invalid_user", "it is the user")
    assert [letter["state"] for letter in office.letters(request)] == ["discarded", "approved"]
    before = office.everything()
    with pytest.raises(Conflict, match=f"letter {second} .*approved"):
        office.desk.resend(first, "why")
    assert office.everything() == before


def test_a_link_is_sent_again_only_to_who_is_entitled_to_it(office: Office) -> None:
    """After a correction that changed user or MOUS, a former link letter would give the data to somebody else."""
    for change in ({"verdict": "not_entitled"}, {"verdict": None}, {"mous": OTHER_MOUS}):
        request = office.request(State.STAGED)
        letter = office.letter(request)
        office.finish(letter, "sent")
        office.set(request, State.UNCLEAR, **change)
        before = office.everything()
        with pytest.raises(Conflict, match="not known to be entitled"):
            office.desk.resend(letter, "why")
        assert office.everything() == before
        office.set(request, State.STAGED, verdict="entitled", mous=MOUS)
        again = office.desk.resend(letter, "why")
        office.set(request, State.STAGED, **change)
        with pytest.raises(UsageError, match="not known to be entitled"):
            asyncio.run(office.book.fixed(office.journal.fetch("letter", again)))


def test_a_letter_sent_again_says_what_it_said(office: Office) -> None:
    """What a person wrote into a link letter is in the new one too."""
    request = office.request(State.STAGED)
    letter = office.letter(request)
    office.desk.edit(letter, "To: ann@example.org\nCc:\nSubject: x\n\nMy own words\n")
    office.finish(letter, "ambiguous")
    again = office.journal.fetch("letter", office.desk.resend(letter, "why"))
    message_id, recipients, data = asyncio.run(office.book.fixed(again))
    assert b"My own words" in data
    assert recipients == ("ann@example.org",)
    assert message_id != office.journal.fetch("letter", letter)["message_id"]


def test_a_bounce_of_a_letter_that_has_not_gone_stops_nothing(office: Office) -> None:
    """Whoever knows a Message-ID can send one: it is taken in whatever state the letter is, and a person looks."""
    for state in ("approved", "discarded", "refused", "ambiguous", "sent", "partly_refused"):
        request = office.request(State.REFUSED)
        letter = office.letter(request)
        office.desk.approve(letter)
        message_id, _, _ = asyncio.run(office.book.fixed(office.journal.fetch("letter", letter)))
        if state != "approved":
            office.finish(letter, state)
        office.take(bounce(message_id))
        gone = state in ("ambiguous", "sent", "partly_refused")
        assert office.journal.fetch("letter", letter)["state"] == ("bounced" if gone else state)
        assert office.state(request) == State.UNCLEAR
        assert "came back" in office.journal.fetch("request", request)["why"]
    assert office.problems() == []


def test_refuse_confirms_the_letter_that_is_there(office: Office) -> None:
    """Without a verdict it approves; a second time, or without a letter, it is a conflict."""
    request = office.request(State.REFUSED)
    letter = office.desk.refuse(request)
    assert office.journal.fetch("letter", letter)["state"] == "approved"
    with pytest.raises(Conflict, match="bob@aog2 did 'approve'"):
        office.ann.refuse(request)
    office.ann.discard(letter)
    with pytest.raises(Conflict, match="has no letter to send"):
        office.desk.refuse(request)
    unclear = office.request(State.UNCLEAR)
    with pytest.raises(Conflict, match="is unclear, so 'refuse' is not possible"):
        office.desk.refuse(unclear)
    with pytest.raises(UsageError, match="is not a refusal"):
        office.desk.refuse(unclear, "entitled", "please")


def test_a_claim_is_ones_own(office: Office) -> None:
    """The second is told whose it is; `off` frees it."""
    request = office.request(State.ENTITLED)
    office.ann.claim(request)
    with pytest.raises(Conflict, match="claimed by ann@aog1"):
        office.desk.claim(request)
    office.desk.claim(request, off=True)
    office.desk.claim(request)
    assert office.journal.fetch("request", request)["claimed_by"] == "bob@aog2"


def test_the_queue_is_put_in_order(office: Office) -> None:
    """`move` to any place, from any place."""
    queue = [office.request(State.QUEUED) for _ in range(4)]
    office.request(State.ENTITLED)

    def order() -> list[int]:
        rows = office.journal.all("select id from request where state = 'queued' order by position, id")
        shown = {int(one["id"]): one["position"] for one in views.requests(office.journal) if one["position"]}
        lines = {int(one["id"]): one["position"] for one in views.request_lines(office.journal) if one["position"]}
        assert shown == lines == {row["id"]: place for place, row in enumerate(rows, 1)}
        return [queue.index(row["id"]) for row in rows]

    assert order() == [0, 1, 2, 3]
    for which, place, wanted in (
        (3, 1, [3, 0, 1, 2]), (3, 4, [0, 1, 2, 3]), (0, 99, [1, 2, 3, 0]), (0, 2, [1, 0, 2, 3]), (0, 2, [1, 0, 2, 3]),
    ):  # fmt: skip
        office.desk.move(queue[which], place)
        assert order() == wanted
    with pytest.raises(UsageError):
        office.desk.move(queue[0], 0)


def test_the_engine_is_paused_once(office: Office) -> None:
    """Pausing what is paused is a conflict, and so is resuming what runs."""
    with pytest.raises(Conflict, match="not paused"):
        office.desk.pause(on=False)
    office.ann.pause()
    with pytest.raises(Conflict, match="paused already"):
        office.desk.pause()
    office.desk.pause(on=False)
    assert office.problems() == []
