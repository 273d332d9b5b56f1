"""Slips and small accidents at the console: none ends it, does what was not meant, or loses what was typed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from textual.events import Hide, Key, Paste
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static

from aogconsole import remembered
from aogconsole.app import Console
from aogconsole.cli.common import Session
from aogconsole.logs import LogScreen
from aogconsole.requests.request import State
from tests.support.desk import request_mail
from tests.support.office import ENGINE, Office
from widgets.dialogs import Ask, Choose, Confirm
from widgets.letter import LetterScreen
from widgets.logpane import LogPane
from widgets.pages import ListPage, PageScreen
from widgets.paste import PasteScreen
from widgets.requests import RequestList


@pytest.fixture
def office(config: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    """The journal of the configuration."""
    monkeypatch.setenv("XDG_STATE_HOME", str(config.parent / "state"))
    return Office.open(config.parent / "journal.db")


@asynccontextmanager
async def console(
    config: Path, *, read_only: bool = False, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[tuple[Console, Pilot[int]]]:
    """A console without an engine, once it shows the requests."""
    app = Console(Session(config, read_only=read_only))
    app._engine = None
    async with app.run_test(size=size) as pilot:
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


async def test_a_copy_is_told_above_what_covers_the_line(config: Path, office: Office) -> None:
    """In the real console, not only beside it: the letter says where its text went."""
    office.request(State.REFUSED)
    async with console(config) as (app, pilot):
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, LetterScreen))
        await pilot.press("c")
        await until(pilot, lambda: "copied to" in said(pilot))
        assert "copied to" in str(app.screen.query_one("#told", Static).content)


# ── what was typed ───────────────────────────────────────────────────────────────────────────────────────────

MAIL = "From: helper@eso.org\nSubject: help\n\nThe text."


async def test_a_pasted_mail_is_kept(config: Path, office: Office) -> None:
    """The journal does not take it: the text is there again, with the reason; then it is taken in."""
    office.request(State.ENTITLED)
    path = office.journal.path
    async with console(config) as (app, pilot):
        await pilot.press("c")
        await until(pilot, lambda: "is yours" in said(pilot))
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, PasteScreen))
        app.post_message(Paste(MAIL))
        await until(pilot, lambda: isinstance(app.screen, PasteScreen) and app.screen.text == MAIL)
        path.rename(config.with_name("away"))
        await pilot.press("f2")
        await until(pilot, lambda: isinstance(app.screen, PasteScreen) and told(app) and app.screen.text == MAIL)
        assert "is gone" in told(app)
        config.with_name("away").rename(path)
        await pilot.press("f2")
        await until(pilot, lambda: office.journal.all("select 1 from mail where subject = 'help'"))


async def test_a_note_is_kept(config: Path, office: Office) -> None:
    """The same for a note."""
    request = office.request(State.ENTITLED)
    path = office.journal.path
    async with console(config) as (app, pilot):
        await pilot.press("c")
        await until(pilot, lambda: "is yours" in said(pilot))
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press(*"call")
        path.rename(config.with_name("away"))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Ask) and "is gone" in told(app))
        config.with_name("away").rename(path)
        await pilot.press(*"ed", "enter")
        notes = "select text from note where request = ?"
        await until(pilot, lambda: [row["text"] for row in office.journal.all(notes, request)] == ["called"])


def told(app: Console) -> str:
    """What the dialog on top complains of."""
    return str(app.screen.query_one("#told", Static).content)


async def test_the_next_key_gives_nothing_up(config: Path, office: Office) -> None:
    """A mail that is being taken in is told of, whatever is looked at meanwhile."""
    office.request(State.ENTITLED)
    async with console(config) as (app, pilot):
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, PasteScreen))
        app.post_message(Paste(MAIL))
        await until(pilot, lambda: isinstance(app.screen, PasteScreen) and app.screen.text == MAIL)
        await pilot.press("f2", "L")
        await until(pilot, lambda: isinstance(app.screen, ListPage))
        await until(pilot, lambda: "no request" in said(pilot))


async def test_the_connections_are_shown_at_once(config: Path, office: Office) -> None:
    """What is known stands there while everything is tried; then what was found. It comes over nothing else."""
    office.request(State.ENTITLED)
    async with console(config) as (app, pilot):
        await pilot.press("E")
        await until(pilot, lambda: isinstance(app.screen, PageScreen))
        page = app.screen
        assert isinstance(page, PageScreen)
        assert "being tried" in page.copied()[0]
        await until(pilot, lambda: "FAULT archive" in page.copied()[0])
        await pilot.press("q", "E")
        await until(pilot, lambda: isinstance(app.screen, PageScreen) and app.screen is not page)
        await pilot.press("q", "t")
        await until(pilot, lambda: isinstance(app.screen, Ask))


async def test_a_paste_of_several_lines(config: Path, office: Office) -> None:
    """A line to type in takes all of it; where nothing takes it, that is said."""
    office.request(State.ENTITLED)
    async with console(config) as (app, pilot):
        app.post_message(Paste("nobody\ntakes it"))
        await until(pilot, lambda: "i takes a mail" in said(pilot))
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        app.post_message(Paste("she called:\n\n  it is urgent\n"))
        await until(pilot, lambda: app.screen.query_one(Input).value == "she called: it is urgent")


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_doubt_is_not_lifted_by_a_key(config: Path, office: Office) -> None:
    """`a`, and the same in the choice, names what was doubted of the mail, and asks why; then a note tells of it."""
    mail = request_mail(ticket="7", sender="stranger@example.org", message_id="<stranger@example.org>")
    request = office.take(mail).request
    assert request is not None
    async with console(config) as (app, pilot):
        for keys in (["a"], ["enter", "2"]):
            await pilot.press(*keys[:1])
            if keys[1:]:
                await until(pilot, lambda: isinstance(app.screen, Choose))
                await pilot.press(*keys[1:])
            await until(pilot, lambda: isinstance(app.screen, Ask))
            assert "from an unlisted sender: stranger@example.org" in str(
                app.screen.query_one("#lines", Static).content
            )
            await pilot.press("enter", "escape")
            await until(pilot, lambda: app.screen is app.main)
            await until(pilot, lambda: request not in app.deeds._busy)
        assert office.state(request) == State.UNCLEAR
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("o", "k", "enter")
        await until(pilot, lambda: office.state(request) == State.RECEIVED)
    (note,) = office.journal.all("select text from note")
    assert note["text"] == "taken although: from an unlisted sender: stranger@example.org. Reason: ok"


async def test_a_check_that_could_not_be_made_is_asked_again_at_once(config: Path, office: Office) -> None:
    """The archive was away: `a` goes on without a question."""
    request = office.request(State.UNCLEAR, "unknown")
    async with console(config) as (_, pilot):
        await pilot.press("a")
        await until(pilot, lambda: office.state(request) == State.RECEIVED)


@pytest.mark.parametrize("text", ["", "#77"])
async def test_what_is_left_to_the_engine_is_asked_about(
    config: Path, office: Office, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """`q` leaves at once, but not when this console has the engine and something is left to it, seen or not."""
    monkeypatch.setattr(Console, "engine_here", True)
    office.request(State.ENTITLED)
    waits = office.request(State.QUEUED)
    office.request(State.STAGING)
    async with console(config) as (app, pilot):
        app.filter(text)
        await until(pilot, lambda: app.board.query.text == text)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        told = str(app.screen.query_one("#lines", Static).content)
        assert "1 run goes on on the staging host. The next engine takes it up again." in told
        assert "1 request waits for the engine" in told
        await pilot.press("n")
        await until(pilot, lambda: app.screen is app.main)
        office.desk.hold(waits, "lunch")
        office.journal.connection.execute("update run set state = 'stopped'")
        office.journal.connection.execute("update request set state = 'held' where state = 'staging'")
        await until(pilot, lambda: app.board.open == app.board.needs)
        await pilot.press("q")
        await until(pilot, lambda: app._exit)


async def test_ctrl_q_throws_nothing_away(config: Path, office: Office) -> None:
    """What is being written stays, and it is said how to leave; with nothing open it is `q`."""
    office.request(State.ENTITLED)
    async with console(config) as (app, pilot):
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press(*"note", "ctrl+q")
        await pilot.press(*"s")
        assert app.screen.query_one(Input).value == "notes"
        assert app._notifications
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.main)
        await pilot.press("ctrl+q")
        await until(pilot, lambda: app._exit)
    assert app.return_code == 0


async def test_a_key_for_the_request_that_was_seen(config: Path, office: Office) -> None:
    """After the cursor has moved by itself, a key that was on its way hits no other request; pressed again it does."""
    one, two = office.request(State.ENTITLED), office.request(State.ENTITLED)
    async with console(config) as (app, pilot):
        assert app.selected is not None
        assert app.selected.id == one
        await pilot.press("s")
        await until(pilot, lambda: app.selected and app.selected.id == two)
        await pilot.press("s")
        await until(pilot, lambda: "has just moved" in said(pilot))
        assert office.state(two) == State.ENTITLED
        await until(pilot, lambda: not app.unsettled)
        await pilot.press("s")
        await until(pilot, lambda: office.state(two) != State.ENTITLED)


async def test_a_line_that_vanishes_under_the_cursor(config: Path, office: Office) -> None:
    """Somebody changes the request so that the filter hides it: the cursor is on another, and a key waits."""
    one, two = office.request(State.ENTITLED, account="pi1"), office.request(State.ENTITLED, account="pi1")
    async with console(config) as (app, pilot):
        await pilot.press("slash", *"pi1", "enter")
        await until(pilot, lambda: app.board.query.text == "pi1" and not app.unsettled)
        assert app.selected is not None
        assert app.selected.id == one
        office.ann.correct(one, "another user", account="del1")
        await until(pilot, lambda: app.selected and app.selected.id == two)
        await pilot.press("s")
        await until(pilot, lambda: "has just moved" in said(pilot))
        assert office.state(two) == State.ENTITLED


@pytest.mark.parametrize("pane", ["1", "2"])
@pytest.mark.parametrize("times", [1, 2])
async def test_a_search_is_typed_at_once(config: Path, office: Office, pane: str, times: int) -> None:
    """All keys are there before the first was acted on: none is lost, none acts; the second time too."""
    request = office.request(State.ENTITLED)
    async with console(config) as (app, pilot):
        for _ in range(times):
            await pilot.press("escape", pane)
            for key in ("slash", *"sxd1"):
                app.post_message(Key(key, "/" if key == "slash" else key))
            await until(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "sxd1")
            assert isinstance(app.main.current, LogPane if pane == "2" else RequestList)
        assert office.state(request) == State.ENTITLED
        assert app.screen is app.main


@pytest.mark.parametrize("leave", ["enter", "escape"])
@pytest.mark.parametrize(("pane", "key"), [("1", "4"), ("2", "ampersand")])
async def test_a_search_is_left_and_gone_on_at_once(
    config: Path, office: Office, pane: str, key: str, leave: str
) -> None:
    """What is typed behind enter or escape is for the pane, not for the line that is just being left."""
    office.request(State.ENTITLED)
    async with console(config) as (app, pilot):
        await pilot.press(pane, "slash", "n")
        await until(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "n")
        line = app.focused
        for one in (leave, key):
            app.post_message(Key(one, "&" if one == "ampersand" else one if len(one) == 1 else None))
        if pane == "1":
            await until(pilot, lambda: app.main.current is app.main.reingestion)
        else:
            await until(pilot, lambda: isinstance(app.focused, Input) and app.focused.placeholder == "only lines with")
        assert isinstance(line, Input)
        assert "&" not in line.value


async def test_keys_keep_their_order(config: Path, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that had to wait are obeyed before those that were typed later and had not."""
    office.request(State.ENTITLED)
    async with console(config) as (app, pilot):
        turns: list[object] = []
        monkeypatch.setattr(app.main, "go", turns.append)
        app.hold_keys()
        app.post_message(Key("4", "4"))
        app.post_message(Key("2", "2"))
        app.call_later(app.release_keys)
        app.post_message(Key("1", "1"))
        await until(pilot, lambda: len(turns) == 3)
        assert turns == [app.main.reingestion, app.main.logs[0], app.main.requests]


@pytest.mark.parametrize("pane", ["1", "2", "3"])
async def test_a_pane_without_room_keeps_the_focus(config: Path, office: Office, pane: str) -> None:
    """One cell for a moment, and as before: the keys go where they went."""
    office.request(State.ENTITLED)
    async with console(config) as (app, pilot):
        before = app.size
        await pilot.press(pane)
        here = app.main.current
        for size in ((1, 1), before):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert app.main.current is here
            assert here in (app.focused.ancestors_with_self if app.focused else ())
        app.main.current.post_message(Hide())  # told late, when it was gone back to
        await pilot.pause()
        assert app.main.current is here


async def test_a_key_before_the_filtered_list_is_there(config: Path, office: Office) -> None:
    """Who types a filter and goes on at once does not hit what the list held before."""
    one, two = office.request(State.ENTITLED), office.request(State.ENTITLED)
    ticket = office.journal.fetch("request", two)["ticket"]
    async with console(config) as (app, pilot):
        app._watch.close()  # it will not come
        await pilot.press("slash", *ticket, "enter", "s")
        await until(pilot, lambda: "has just moved" in said(pilot))
    assert (office.state(one), office.state(two)) == (State.ENTITLED, State.ENTITLED)


async def test_the_selected_request_is_remembered(config: Path, office: Office) -> None:
    """Where the operator was the last time, also when another request needs a person too."""
    one, two, _ = (office.request(State.ENTITLED) for _ in range(3))
    async with console(config) as (app, pilot):
        await until(pilot, lambda: app.selected and app.selected.id == one)
        await pilot.press("j")
        await until(pilot, lambda: app.selected and app.selected.id == two)
        await pilot.press("q")
        await until(pilot, lambda: app._exit)
    async with console(config) as (app, pilot):
        await until(pilot, lambda: app.board.detail)
        assert app.selected is not None
        assert app.selected.id == two


async def test_the_cursor_stays_in_sight(config: Path, office: Office) -> None:
    """When the list grows again after a filter, and when it is restored after a start."""
    for _ in range(30):
        office.request(State.ENTITLED)

    def in_sight() -> bool:
        rows = app.main.requests
        return any(rows.render_line(y).text.startswith("!>") for y in range(rows.size.height))

    async with console(config, size=(80, 24)) as (app, pilot):
        await pilot.press("G")
        last = app.selected
        assert last is not None
        await pilot.press("slash", *last.ticket, "enter")
        await until(pilot, lambda: len(app.board.lines) == 1)
        await pilot.press("escape")
        await until(pilot, lambda: len(app.board.lines) == 30 and app.selected and app.selected.id == last.id)
        await pilot.pause()
        assert in_sight()
        await pilot.press("q")
        await until(pilot, lambda: app._exit)
    async with console(config, size=(80, 24)) as (app, pilot):
        await until(pilot, lambda: app.board.detail and app.selected and app.selected.id == last.id)
        await pilot.pause()
        assert in_sight()


async def test_the_palette_has_every_verb(config: Path, office: Office) -> None:
    """By its own name too, those of the log and of a letter with where they are; on a page what the page can do."""
    office.request(State.REFUSED)

    def found() -> dict[str, str]:
        return {one.title: one.why_not for one in app.commands_for_palette(app.screen)}

    async with console(config) as (app, pilot):
        titles = found()
        assert titles["request: mine (claim)"] == titles["request: ask again (recheck)"] == ""
        assert titles["log: follow"] == titles["log: export"] == "This is for a log: 2 goes to one."
        assert titles["letter: approve"] == "This is for a letter: m opens the request's."
        await pilot.press("2")
        assert found()["log: follow"] == ""
        run = next(one.run for one in app.commands_for_palette(app.screen) if one.title == "log: wrap")
        await run()
        assert app.main.logs[0].toggles["wrap"] is True
        await pilot.press("1", "m")
        await until(pilot, lambda: isinstance(app.screen, LetterScreen))
        assert found()["letter: approve"] == ""
        assert not any(title.startswith("request: ") for title in found())
        await pilot.press("ctrl+p", *"approve")
        await until(pilot, lambda: app.screen.query_one(OptionList).option_count == 1)
        await pilot.press("down", "enter")
        await until(pilot, lambda: office.journal.all("select state from letter")[0][0] == "approved")


async def test_a_key_held_at_the_end_of_a_long_queue(
    config: Path, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks for more once, until more is there."""
    monkeypatch.setattr("aogconsole.app.MORE", 2)
    made = [office.request(State.ENTITLED) for _ in range(6)]
    async with console(config) as (app, pilot):
        app._ask(replace(app._query, limit=2))
        await until(pilot, lambda: len(app.main.requests.lines) == 2)
        app._watch.close()  # nothing more comes
        await pilot.press(*"jjjjjj")
        assert app._query.limit == 4
    assert len(made) == 6


async def test_a_list_that_is_cut_says_so(config: Path, office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks for an old letter is told that it may not be there."""
    monkeypatch.setattr("aogconsole.views.NEWEST", 1)
    office.request(State.REFUSED)
    async with console(config) as (app, pilot):
        await pilot.press("L")
        await until(pilot, lambda: isinstance(app.screen, ListPage))
        assert "The newest 1;" in str(app.screen.query_one("#lines", Static).content)


@pytest.mark.parametrize("logs", [5, [1, "x"], [{"wrap": 1, "filter": 2}]])
async def test_a_memory_of_other_types(config: Path, office: Office, logs: object) -> None:
    """What is remembered and makes no sense is nothing remembered."""
    office.request(State.ENTITLED)
    wrong = {"logs": logs, "filter": [], "theme": {}, "pane": "x", "selected": "y"}
    remembered.save(config.with_name("journal.db"), wrong)
    async with console(config) as (app, _):
        assert app.main.place == 0


async def test_a_log_on_the_whole_screen_tells_how_its_run_is(config: Path, office: Office) -> None:
    """Its title goes on with the run, to its end; its file is closed with it."""
    request = office.request(State.STAGING)
    run = office.journal.all("select id from run")[0]["id"]
    async with console(config) as (app, pilot):
        await pilot.press("l")
        await until(pilot, lambda: "#" in title(app))
        office.journal.change("run", run, ENGINE, "failed", origins={"running"}, target="failed", why="no space")
        await until(pilot, lambda: "! failed: no space" in title(app))
        await pilot.press("q")
        await until(pilot, lambda: app.screen is app.main)
        assert office.state(request) == State.STAGING
        await until(pilot, lambda: len(app.logs._open) == 1)


def title(app: Console) -> str:
    """The title of the log on the whole screen."""
    return str(app.screen.query_one(LogPane).border_title) if isinstance(app.screen, LogScreen) else ""


# ── the journal ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_journal_that_is_taken_away(config: Path, office: Office) -> None:
    """Nothing is done in a file that nobody will see, and none is made anew; put back, all goes on."""
    one, two = office.request(State.ENTITLED), office.request(State.ENTITLED)
    path = office.journal.path
    async with console(config) as (app, pilot):
        await pilot.press("s")
        await until(pilot, lambda: office.state(one) != State.ENTITLED)
        await until(pilot, lambda: app.selected and app.selected.id == two and not app.unsettled)
        path.rename(config.with_name("away"))
        await pilot.press("s")
        await until(pilot, lambda: "is gone" in said(pilot))
        await until(pilot, lambda: app.board.trouble)
        assert not path.exists()
        config.with_name("away").rename(path)
        await until(pilot, lambda: not app.board.trouble and not app.unsettled)
        await pilot.press("s")
        await until(pilot, lambda: office.state(two) != State.ENTITLED)
