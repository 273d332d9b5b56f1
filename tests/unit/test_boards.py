"""Reading a board: order, filter, bounds, and what stands in it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aogconsole import views
from aogconsole.board import Board, Query
from aogconsole.boards import read, searched
from aogconsole.errors import StorageError
from aogconsole.journal.store import Journal
from aogconsole.requests.request import State
from aogconsole.settings import Settings
from aogconsole.text import clean_lines
from aogconsole.watch import Watch
from tests.support.office import Office

NEEDY = {State.ENTITLED, State.REFUSED, State.STAGED, State.FAILED, State.HELD, State.UNCLEAR}


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """A new journal."""
    return Office.open(tmp_path / "journal.db")


def board(office: Office, **query: object) -> Board:
    """The board now."""
    return read(office.journal, Settings(), Query(**query))  # type: ignore[arg-type]


def test_what_needs_a_person_is_on_top(office: Office) -> None:
    """Those that wait for a person come first, the oldest on top; closed ones are not there."""
    made = {office.request(state): state for state in State}
    seen = board(office)
    assert [line.needs for line in seen.lines] == [True] * len(NEEDY) + [False] * 4
    assert [line.id for line in seen.lines if line.needs] == sorted(i for i, s in made.items() if s in NEEDY)
    assert seen.needs == len(NEEDY)
    assert seen.open == len(State) - 1


def test_a_letter_that_is_on_its_way_needs_nobody(office: Office) -> None:
    """A refused request whose letter was approved waits, and is not counted."""
    request = office.request(State.REFUSED)
    office.desk.approve(office.letter(request))
    line = board(office).lines[0]
    assert (line.needs, line.next_action, board(office).needs) == (False, "wait", 0)


def test_the_selected_one_stays_when_it_is_closed(office: Office) -> None:
    """What the operator looks at does not vanish under the eyes; it goes when another is selected."""
    first, other = office.request(State.ENTITLED), office.request(State.ENTITLED)
    office.desk.close(first, "done by hand")
    assert {line.id for line in board(office, selected=first).lines} == {first, other}
    assert {line.id for line in board(office, selected=other).lines} == {other}


def test_a_filter_finds_closed_ones_after_open_ones(office: Office) -> None:
    """Open ones first, then closed ones, the newest first."""
    one, two, three = (office.request(state) for state in (State.CLOSED, State.CLOSED, State.ENTITLED))
    assert [line.id for line in board(office, text="helper@eso").lines] == [three, two, one]
    assert [line.id for line in board(office, text="no such text").lines] == []
    assert [line.id for line in board(office, text="%").lines] == []


@pytest.mark.parametrize(("few", "state"), [(2000, State.ENTITLED), (0, State.ENTITLED), (2000, State.CLOSED)])
def test_a_filter_knows_the_spellings_of_the_screen(
    office: Office, monkeypatch: pytest.MonkeyPatch, few: int, state: State
) -> None:
    """A ticket with its `#`, a UID as in mails and as in the archive; also where only the subject has it."""
    monkeypatch.setattr("aogconsole.boards.FEW", few)
    one = office.request(state, ticket="20004", mous="uid___A001_X133d_X1eef")
    other = office.request(state, ticket="20005")
    office.set(other, state, mous=None)
    for text in ("#20004", "uid://A001/X133d/X1eef", "UID://A001/X133d", "uid___A001_X133d_X1eef"):
        assert [line.id for line in board(office, text=text).lines if line.id == one] == [one], text
        assert [found["id"] for found in views.requests(office.journal, search=text)] == [str(one)], text
    for text in ("uid://A002/X788a57/X29", "uid___A002_X788a57_X29"):
        assert [line.id for line in board(office, text=text).lines] == [other], text
    assert [line.id for line in board(office, text="#").lines] == []


def test_a_long_queue_is_cut_and_says_so(office: Office) -> None:
    """Beyond the limit requests are counted, and found by the filter."""
    made = [office.request(State.UNCLEAR) for _ in range(7)]
    seen = board(office, limit=3)
    assert [line.id for line in seen.lines] == made[:3]
    assert (seen.left_out, seen.open, seen.needs) == (4, 7, 7)
    ticket = office.journal.fetch("request", made[6])["ticket"]
    assert [line.id for line in board(office, text=ticket, limit=3).lines] == [made[6]]


def test_the_places_in_the_queue(office: Office) -> None:
    """Queued requests are numbered in the order in which they are staged."""
    made = [office.request(State.QUEUED) for _ in range(3)]
    office.desk.move(made[2], 1)
    assert {line.id: line.position for line in board(office).lines} == {made[2]: 1, made[0]: 2, made[1]: 3}


def test_requests_of_a_ticket_are_counted(office: Office) -> None:
    """A ticket's group is seen in each of its lines."""
    for number in range(3):
        office.receive(ticket="20004", mous=f"uid___A001_X1_X{number}")
    assert {line.siblings for line in board(office).lines} == {3}


def test_the_slots_show_their_last_run_and_who_comes_next(office: Office) -> None:
    """A run without a slot yet is in the first free one; a free one names the head of the queue."""
    staging, queued = office.request(State.STAGING), office.request(State.QUEUED)
    first, second = board(office).slots
    assert (first.name, first.request, first.active) == ("A", staging, True)
    assert not second.active
    assert str(office.journal.fetch("request", queued)["ticket"]) in second.next


def test_nothing_on_a_board_can_act_on_a_terminal(office: Office) -> None:
    """Texts of mails, notes, reasons and archive are clean in every field."""
    evil = "\x1b]52;c;aGk=\x07\x9b2J\u202e[@click=app.bell]x[/]"
    request = office.request(State.UNCLEAR)
    office.desk.note(request, evil)
    office.desk.hold(request, evil)
    office.set(request, State.HELD, facts='{"account": {"account_id": "' + "\\u001b]0;x" + '"}}')
    office.journal.connection.execute("update mail set from_address = ?, subject = ?", (evil, evil))
    seen = board(office, selected=request)
    assert seen.detail is not None
    texts = [
        json.dumps(seen.detail.fields, ensure_ascii=False),
        seen.detail.text,
        seen.lines[0].why,
        seen.detail.sender,
    ]
    assert all(text == clean_lines(text) for text in texts)
    assert "\\x1b" in seen.detail.fields["notes"][0]["text"]


@pytest.fixture
def watched(office: Office) -> Iterator[tuple[Watch, list[Board], threading.Condition]]:
    """A watch on the journal, and what it has told."""
    told: list[Board] = []
    news = threading.Condition()

    def tell(board: Board) -> None:
        with news:
            told.append(board)
            news.notify_all()

    watch = Watch(lambda: Journal.open(office.journal.path, read_only=True), Settings(), tell)
    watch.start()
    yield watch, told, news
    watch.close()


def test_the_watch_tells_what_others_do(
    office: Office, watched: tuple[Watch, list[Board], threading.Condition]
) -> None:
    """A change by another connection is told within a second, without being asked."""
    _, told, news = watched
    with news:
        assert news.wait_for(lambda: told, 5)
    request = office.request(State.ENTITLED)
    with news:
        assert news.wait_for(lambda: [line.state for line in told[-1].lines] == ["entitled"], 1)
    office.desk.stage(request)
    with news:
        assert news.wait_for(lambda: [line.state for line in told[-1].lines] == ["queued"], 1)


def test_the_watch_turns_to_another_request(
    office: Office, watched: tuple[Watch, list[Board], threading.Condition]
) -> None:
    """The selected request's evidence comes when it is asked for."""
    request = office.request(State.ENTITLED)
    watch, told, news = watched
    watch.ask(Query(selected=request))
    with news:
        assert news.wait_for(lambda: bool(told) and told[-1].detail is not None, 5)
    detail = told[-1].detail
    assert detail is not None
    assert detail.line.id == request


def test_a_search_in_an_unchanged_journal_finds_what_a_whole_look_does(office: Office) -> None:
    """Only the lines are read anew; the board is the same."""
    requests = [office.request(state) for state in State]
    for query in (Query(text="uid"), Query(text="u"), Query(selected=requests[1]), Query(limit=2), Query(text="zz")):
        whole = read(office.journal, Settings(), query)
        assert searched(office.journal, board(office), query) == whole


def test_a_search_never_finds_more_than_the_limit(office: Office) -> None:
    """A letter that stands in every request brings no more lines than asked for, open or closed."""
    for state in (State.ENTITLED, State.HELD, State.CLOSED, State.CLOSED):
        office.request(state)
    assert [line.state for line in board(office, text="u", limit=1).lines] == ["entitled"]
    assert len(board(office, text="u", limit=3).lines) == 3


def test_the_watch_rests_while_the_journal_cannot_be_read(office: Office) -> None:
    """However often something is asked for meanwhile: it tries once for each, and once a second."""
    opened, told, tried = [], threading.Event(), threading.Semaphore(0)

    def broken() -> Journal:
        opened.append(1)
        tried.release()
        raise StorageError("it is damaged", "restore the backup")

    watch = Watch(broken, Settings(), lambda board: told.set())
    watch.start()
    assert told.wait(5)
    for _ in range(5):
        assert tried.acquire(timeout=5)
        watch.ask(Query())
    assert tried.acquire(timeout=5)
    assert not tried.acquire(timeout=0.3)
    watch.close()
    assert len(opened) <= 7


def test_the_watch_follows_the_journals_path(
    office: Office, watched: tuple[Watch, list[Board], threading.Condition], tmp_path: Path
) -> None:
    """The file is taken away: that is told. A backup is put in its place: that is what is shown."""
    _, told, news = watched
    office.request(State.ENTITLED)
    office.journal.backup(tmp_path / "backup")
    office.request(State.UNCLEAR)
    with news:
        assert news.wait_for(lambda: told and told[-1].open == 2, 5)
    path = office.journal.path
    (tmp_path / "away").mkdir()
    for file in (path, *path.parent.glob(f"{path.name}-*")):  # what SQLite has beside it belongs to it
        file.rename(tmp_path / "away" / file.name)
    with news:
        assert news.wait_for(lambda: "there is no journal" in told[-1].trouble, 5)
    (tmp_path / "backup" / path.name).rename(path)
    with news:
        assert news.wait_for(lambda: (told[-1].open, told[-1].trouble) == (1, ""), 5)
