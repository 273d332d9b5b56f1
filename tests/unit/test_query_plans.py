"""The journal's statements find their rows by index, so that a journal of many years is no slower than a new one.

The statements are those that the verbs and the engine's steps really run, taken down as SQLite gets them.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from aogconsole import boards, times, views
from aogconsole.board import Board, Query
from aogconsole.engine import checking, driving, loop, reading, recorder, retention, sending, staging
from aogconsole.ids import AccountId, MousUid, Ticket
from aogconsole.journal.known import JournalKnown
from aogconsole.journal.store import Journal
from aogconsole.requests.request import State
from aogconsole.settings import Settings
from tests.support.desk import MOUS, request_mail
from tests.support.office import Office

TRIPLE = MousUid.parse(MOUS), AccountId("pi1"), Ticket("1001")
READING: dict[str, Callable[[Journal], object]] = {
    "requests": views.requests,
    "request_lines": views.request_lines,
    "requests --state unclear": lambda journal: views.requests(journal, state="unclear"),
    "requests --state closed": lambda journal: views.requests(journal, state="closed"),
    "requests --ticket": lambda journal: views.requests(journal, ticket="1001"),
    "requests --search": lambda journal: views.requests(journal, search="helper"),
    "requests --search, two letters": lambda journal: views.requests(journal, search="zz"),
    "requests --search --ticket": lambda journal: views.requests(journal, search="helper", ticket="1001"),
    "the screen": lambda journal: boards.read(journal, Settings(), Query()),
    "the screen, one selected": lambda journal: boards.read(journal, Settings(), Query(selected=2)),
    "the screen, filtered": lambda journal: boards.searched(journal, Board(open=9999), Query(text="helper")),
    "the screen, two letters": lambda journal: boards.searched(journal, Board(), Query(text="zz")),
    "show": lambda journal: views.one_request(journal, 2),
    "mails": views.mails,
    "runs": views.runs,
    "letters": views.letters,
    "staged": lambda journal: views.staged(journal, "UTC"),
    "history": views.history,
    "history of one": lambda journal: views.history(journal, 2),
    "handover": lambda journal: views.history(
        journal, since=times.text(times.now() - timedelta(hours=12)), limit=views.ALL
    ),
    "duplicates": lambda journal: JournalKnown(journal).open_request(*TRIPLE),
    "asked again": lambda journal: JournalKnown(journal).answered_with_link(*TRIPLE),
    "MOUSs of a ticket": lambda journal: JournalKnown(journal).mouss_of(TRIPLE[2]),
    "a mail seen": lambda journal: JournalKnown(journal).mail_with("<a@b>"),
    "a reply": lambda journal: JournalKnown(journal).request_of_mail_with(["<a@b>"]),
    "a letter of ours": lambda journal: JournalKnown(journal).letter_with(["<a@b>"]),
}
STEPS = {
    "check": checking.DUE,
    "interrupted checks": checking.INTERRUPTED,
    "queue": staging.QUEUE,
    "active runs": staging.ACTIVE,
    "letters due": sending.DUE,
    "letters half sent": sending.HALF_SENT,
    "retention": retention.HELD,
    "durations": driving.EARLIER,
    "silences": recorder.EARLIER,
    "until idle": loop.PROGRESSING,
    "mails known": reading.KNOWN,
}
TABLES = ("request", "mail", "run", "letter", "note", "check_made", "history", "entity")
WHOLE = re.compile(rf"SCAN (?:{'|'.join(TABLES)})\b(?! USING)")
SORTED = "USE TEMP B-TREE FOR"
NEWEST = re.compile(r"order by (?:request\.)?(?:id|seq) desc\s+limit \d", re.I)
"""A walk from the newest row back, which ends at its limit."""


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """A journal with a request."""
    made = Office.open(tmp_path / "journal.db")
    made.receive(ticket="1001")
    return made


@contextlib.contextmanager
def overheard(journal: Journal) -> Iterator[list[str]]:
    """The statements that run meanwhile."""
    heard: list[str] = []
    journal.connection.set_trace_callback(heard.append)
    try:
        yield heard
    finally:
        journal.connection.set_trace_callback(None)


def slow(journal: Journal, sql: str) -> list[str]:
    """What of a statement's plan grows with the journal: a table read from end to end, however it is then cut."""
    steps = [row["detail"] for row in journal.all(f"explain query plan {sql}")]
    found = [step for step in steps if WHOLE.match(step)]
    if found and NEWEST.search(sql) and not any(SORTED in step for step in steps):
        return []
    return found


def planned(sql: str) -> bool:
    """Whether it is a statement of ours that has a plan: the text index's own are told as one comment."""
    text = re.sub(r"\A(--.*\n)*", "", sql)
    return text.startswith(("select", "update", "delete"))


@pytest.mark.parametrize("name", READING)
def test_looking_does_not_read_the_whole_journal(office: Office, name: str) -> None:
    """Every list and look-up of a verb."""
    with overheard(office.journal) as heard:
        READING[name](office.journal)
    assert heard
    assert {sql: slow(office.journal, sql) for sql in heard if planned(sql) and slow(office.journal, sql)} == {}


@pytest.mark.parametrize("name", STEPS)
def test_the_engine_does_not_read_the_whole_journal(office: Office, name: str) -> None:
    """Every statement that a step runs when nothing is to be done."""
    sql = STEPS[name].replace("?", "'2026-11-21T00:00:00Z'" if "next_try" in STEPS[name] else "'imap:*'")
    assert slow(office.journal, sql) == []


def test_acting_does_not_read_the_whole_journal(office: Office) -> None:
    """Intake, and the verbs of the desk."""
    with overheard(office.journal) as heard:
        request = office.receive(ticket="1002")
        office.desk.claim(request)
        office.desk.hold(request, "lunch")
        office.desk.release(request)
        office.desk.note(request, "back")
        office.desk.correct(request, "typo", account="del1")
        office.desk.close(request, "done")
        office.desk.reopen(request, "not done")
        letter = office.desk.refuse(request, "not_entitled", "told so")
        office.desk.discard(letter)
        office.desk.resend(letter, "it was right")
        office.desk.recheck(office.request(State.REFUSED))
        queued = office.request(State.ENTITLED)
        office.desk.stage(queued)
        office.desk.move(queued, 1)
        office.desk.rerun(office.request(State.HELD), "again")
        office.desk.keep(office.run(office.request(State.CLOSED), "succeeded"))
        office.desk.stop(office.run(office.request(State.QUEUED), "running"), "stop")
        office.desk.pause()
        office.take(request_mail(ticket="1002"))
    assert len(heard) > 50
    assert {sql: slow(office.journal, sql) for sql in heard if planned(sql) and slow(office.journal, sql)} == {}


@pytest.mark.parametrize(
    "sql",
    [
        "select id from run where kept = 1",
        "select * from request where state = 'queued'",
        "select id from request where instr(account, 'x') order by verdict limit 10",
        "select * from letter where state = 'sending'",
    ],
)
def test_a_statement_that_reads_all_is_caught(office: Office, sql: str) -> None:
    """The watch itself: a filter without an index, an open state without the term of its partial index."""
    assert slow(office.journal, sql)


def test_a_search_finds_part_of_any_word(office: Office) -> None:
    """In MOUS, project, account, ticket, sender and subject, of open and closed; case does not count, wildcards do."""
    office.receive(ticket="2001", account="delegee_7")
    closed = office.receive(ticket="2002", sender="50%Off.Somebody@eso.org")
    office.desk.close(closed, "done")

    def tickets(text: str) -> list[str]:
        found = views.request_lines(office.journal, search=text)
        assert found == [
            {key: one[key] for key in found[0]} for one in views.requests(office.journal, search=text)
        ]  # fmt: skip
        return [one["ticket"] for one in found]

    assert tickets("legee_7") == ["2001"]
    assert tickets("legee%7") == []
    assert tickets("off.somebody") == ["2002"]
    assert tickets("0%o") == ["2002"]
    assert tickets("0%") == ["2002"]
    assert tickets("REQUEST FOR") == ["1001", "2001", "2002"]
    assert tickets('"') == tickets('"or"') == tickets("x* OR a") == []
    assert tickets(MOUS[-9:]) == ["1001", "2001", "2002"]


def test_a_search_knows_corrected_fields(office: Office) -> None:
    """What was corrected is found by its new value, not by its old one."""
    request = office.receive(ticket="2001", account="wrong_one")
    office.desk.correct(request, "typo", account="right_one")
    office.desk.close(request, "done")
    assert [one["id"] for one in views.requests(office.journal, search="right_one")] == [str(request)]
    assert views.requests(office.journal, search="wrong_one") == []


def test_lists_have_the_open_ones_and_the_newest_closed(office: Office) -> None:
    """Open ones in the order they came, however many; of the closed the newest first, up to the limit."""
    for ticket in ("2001", "2002", "2003"):
        office.desk.close(office.receive(ticket=ticket), "done")
    office.receive(ticket="2004")
    assert [one["ticket"] for one in views.request_lines(office.journal, limit=2)] == ["1001", "2004", "2003", "2002"]
    for state, expected in ((State.CLOSED, ["2003", "2002", "2001"]), (State.RECEIVED, ["1001", "2004"])):
        assert [one["ticket"] for one in views.requests(office.journal, state=state)] == expected
    assert json.loads(json.dumps(views.requests(office.journal, ticket="#2001")))[0]["state"] == "closed"
