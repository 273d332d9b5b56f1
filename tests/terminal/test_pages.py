"""Texts and lists that fill the screen, the help, and a mail that is pasted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from aogconsole.text import pasted
from tests.support.work import counted
from tests.terminal.dialog_host import opened, unsafe
from widgets.areas import AreaDialog
from widgets.helps import HelpScreen
from widgets.pages import ListPage, PageScreen, Picked, Row
from widgets.paste import PasteScreen, summary, wrong_mail
from widgets.textpane import TextPane, wrapped

TEXT = "\n".join(["first\ttabbed", *(f"line {number} of Many" for number in range(200)), "last " * 30])
MAIL = "From: Helper <helper@eso.org>\nSubject: ALMA: REQUEST\n\nDear AOG,\n\tplease\n"


@given(st.text(st.characters(exclude_categories=["C", "M", "Zl", "Zp"])), st.integers(1, 30))
def test_wrapping_loses_nothing(line: str, width: int) -> None:
    """The rows in order are the line; each fits, but for a blank at its end and a character wider than the pane."""
    starts = list(wrapped(line, width))
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    rows = [line[start:end] for start, end in zip(starts, [*starts[1:], len(line)], strict=True)]
    assert "".join(rows) == line
    assert all(cell_len(row.rstrip(" ")) <= width or len(row) == 1 for row in rows)


async def test_search_while_typing_and_from_place_to_place() -> None:
    """It says which of how many, goes round, and `escape` first ends the search, then closes the page."""
    async with opened(PageScreen("Mail 12", TEXT)) as (host, pilot):
        await pilot.press("slash")
        await host.paste(pilot, "line 19")
        assert "Mail 12 · line 19: 1 of 11" in host.shown
        assert "line 19 of Many" in host.shown
        await pilot.press("enter", "N")
        assert "11 of 11" in host.shown
        assert "line 199 of Many" in host.shown
        await pilot.press("n")
        assert "1 of 11" in host.shown
        await pilot.press("escape")
        assert " of 11" not in host.shown
        await pilot.press("escape")
        assert host.answers == [None]


async def test_upper_case_counts_when_it_is_typed() -> None:
    """`many` finds Many, `MANY` does not."""
    async with opened(PageScreen("Mail", TEXT)) as (host, pilot):
        await pilot.press("slash")
        await host.paste(pilot, "many")
        assert "1 of 200" in host.shown
        await pilot.press("ctrl+u")
        await host.paste(pilot, "MANY")
        assert "MANY: not found" in host.shown


async def test_moving_wrapping_and_copying() -> None:
    """vi's keys and the usual ones; the copy is the text as it is."""
    async with opened(PageScreen("Mail", TEXT)) as (host, pilot):
        await pilot.press("j", "space", "b", "k")
        assert "first   tabbed" in host.shown
        await pilot.press("G")
        assert sum("last last" in row for row in host.rows) == 2
        await pilot.press("w", "G")
        assert sum("last last" in row for row in host.rows) == 1
        await pilot.press("g", "c", "y")
        assert [copy.text for copy in host.copies] == [TEXT, TEXT]


async def test_the_mouse_selects_lines_as_they_are() -> None:
    """A line that is wrapped is one line when it is copied, and the rows selected are marked."""
    text = "head\n" + "word " * 30 + "\nfoot"
    async with opened(PageScreen("Mail", text)) as (host, pilot):
        pane = host.screen.query_one(TextPane)
        await pilot.mouse_down(pane, offset=(2, 0))
        await pilot.hover(pane, offset=(4, 3))
        await pilot.mouse_up(pane, offset=(4, 3))
        assert host.screen.get_selected_text() == "ad\n" + "word " * 30 + "\nfoot"
        assert not unsafe(host.rows)


def test_a_list_keeps_its_own_keys() -> None:
    """A caller's verb on one of them would never be heard."""
    for key in ("j", "enter", "c", "escape"):
        with pytest.raises(ValueError, match="one of the list's own"):
            ListPage("Mails", ("id", "x"), [], {key: ("verb", "what")})


async def test_ten_thousand_lines_open_at_once() -> None:
    """As a text and as a list: at most forty calls for each line more than for one line."""
    texts = ["x", "\n".join(f"line é {number}" for number in range(10_000))]
    pages = [PageScreen("x", text) for text in texts]
    costs = []
    for page in pages:
        async with opened(None) as (host, pilot):
            with counted() as work:
                host.push_screen(page)
                await pilot.pause()
            costs.append(work.calls)
    async with opened(None) as (host, pilot):
        listed = ListPage("Mails", ("id", "text"), [Row(str(n), (str(n), "é")) for n in range(10_000)])
        with counted() as work:
            host.push_screen(listed)
            await pilot.pause()
        costs.append(work.calls)
        await pilot.press("G")
        assert "9999" in host.shown
    assert max(costs) - costs[0] < 400_000


def mails(**given_: str) -> ListPage:
    """A list of mails."""
    rows = [Row(f"m{number}", (str(number), f"person{number}@eso.org", "subject")) for number in range(50)]
    return ListPage("Mails", ("id", "from", "subject"), rows, {"t": ("take", "take again")}, **given_)


@pytest.mark.parametrize(
    ("keys", "picked"),
    [("enter", "m0 open"), ("j down k enter", "m1 open"), ("G t", "m49 take"), ("pagedown home t", "m0 take"),
     ("end k enter", "m48 open")],
)  # fmt: skip
async def test_a_row_is_picked(keys: str, picked: str) -> None:
    """`enter` opens the row of the cursor, further keys are the caller's."""
    async with opened(mails()) as (host, pilot):
        assert "enter open  t take again" in host.shown
        await pilot.press(*keys.split())
        row, verb = picked.split()
        assert host.answers == [Picked(row, verb, "")]


async def test_rows_are_filtered_and_come_back_as_they_were() -> None:
    """The filter is in the answer, for the list to be opened again with it."""
    async with opened(mails()) as (host, pilot):
        await pilot.press("slash")
        await host.paste(pilot, "PERSON4")
        assert "Mails · 0 of 50" in host.shown
        await pilot.press("enter", "enter")
        assert not host.answers, "there is nothing to open"
        await pilot.press("slash", "ctrl+u")
        await host.paste(pilot, "person4")
        assert "Mails · 11 of 50" in host.shown
        await pilot.press("enter", "j", "enter")
        assert host.answers == [Picked("m40", "open", "person4")]
        host.push_screen(mails(filter="person4", start="m45"), host.answers.append)
        await pilot.pause()
        await pilot.pause()
        assert "Mails · 11 of 50" in host.shown
        await pilot.press("enter")
        assert host.answers[-1] == Picked("m45", "open", "person4")


async def test_a_list_is_copied_as_it_is_shown() -> None:
    """Its heads and the rows that the filter keeps."""
    async with opened(mails(filter="person49")) as (host, pilot):
        await pilot.press("c")
        assert host.copies[0].text == "id  from              subject\n49  person49@eso.org  subject"


UID, LINK = "uid___A001_X133d_X1eef", "http://almascience.eso.org/arcdistribution/preview/0123456789abcdef"


def staged() -> ListPage:
    """A list that is too wide for most screens."""
    row = Row("r", ("44", UID, "27", "because" * 12, LINK))
    return ListPage("Staged", ("run", "MOUS", "request", "why", "link"), [row], spare=("request",))


@pytest.mark.parametrize(
    ("width", "row"),
    [
        (60, "│ 44   …01_X133d_X1eef  becausebecause…  …123456789abcdef"),
        (90, f"│ 44   {UID}  becausebecausebecausebecau…  …n/preview/0123456789abcdef"),
        (250, f"│ 44   {UID}  27       {'because' * 12}  {LINK}"),
    ],
)
async def test_a_list_takes_the_width_there_is(width: int, row: str) -> None:
    """Wide columns give way, with a sign where they are cut; what differs at its end in front."""
    async with opened(staged(), (width, 10)) as (host, _):
        assert host.rows[2].startswith(row)


async def test_a_list_is_searched_and_copied_whole_and_shown_so() -> None:
    """What is cut on the screen, or left out, is found and copied; w shows it, and → goes there."""
    async with opened(staged(), (60, 10)) as (host, pilot):
        await pilot.press("slash")
        await host.paste(pilot, "arcdistribution")
        assert "Staged · 1 of 1" in host.shown
        await pilot.press("enter", "c")
        assert f"{UID}  27" in host.copies[0].text
        await pilot.press("escape", "w")
        assert f"{UID}  27       because" in host.shown
        assert host.rows[2].rstrip("│ ").endswith("…")
        await pilot.resize_terminal(250, 10)
        await pilot.pause()
        assert LINK in host.shown


async def test_an_empty_list() -> None:
    """Says so, and picks nothing."""
    async with opened(ListPage("Letters", ("id", "kind"), [])) as (host, pilot):
        await pilot.press("j", "G", "pageup", "enter")
        assert "Letters · 0" in host.shown
        assert not host.answers


@pytest.mark.parametrize("key", ["question_mark", "q", "escape"])
async def test_help_shows_keys_and_closes(key: str) -> None:
    """The focused part's keys first, then the others."""
    groups = [("Requests", [("enter", "the next action")]), ("Everywhere", [("?", "this help")])]
    async with opened(HelpScreen("requests", "What is open.", groups)) as (host, pilot):
        assert "Help · requests" in host.shown
        assert "enter  the next action" in host.shown
        await pilot.press(key)
        assert host.answers == [None]


async def test_every_page_has_a_help_of_its_own() -> None:
    """With the caller's keys, too."""
    async with opened(mails()) as (host, pilot):
        await pilot.press("question_mark")
        await pilot.pause()
        assert "Help · Mails" in host.shown
        assert "take again" in host.shown
        await pilot.press("escape")
        assert not host.answers


# ── a mail that is pasted ────────────────────────────────────────────────────────────────────────────────────


async def test_a_pasted_mail_is_taken_as_it_is() -> None:
    """The line below says what it is taken for; tabs and line ends stay."""
    async with opened(PasteScreen()) as (host, pilot):
        await pilot.press("ctrl+o")
        assert "! there is no mail yet" in host.shown
        await host.paste(pilot, MAIL)
        assert "1 mail · from Helper <helper@eso.org> · ALMA: REQUEST" in host.shown
        await pilot.press("ctrl+o")
        assert host.answers == [MAIL]


async def test_a_mail_with_crlf_comes_through_tmux() -> None:
    """tmux makes a CR of each CR and of each LF: no line is torn from the next. Other texts keep their empty lines."""
    async with opened(PasteScreen()) as (host, pilot):
        await host.paste(pilot, MAIL.replace("\n", "\r\r"))
        assert "1 mail · from Helper <helper@eso.org> · ALMA: REQUEST" in host.shown
        await pilot.press("ctrl+o")
        assert host.answers == [MAIL]
    assert pasted("one\r\rtwo\r\r") == "one\n\ntwo\n\n"
    assert pasted("head\r\r\r\rbody\r") == "head\n\n\n\nbody\n"
    assert pasted("one\r\ntwo\r\n") == "one\ntwo\n"


async def test_a_big_paste_is_quick_and_safe() -> None:
    """100 kB with control characters: little work for each line, and what is taken holds none of them."""
    big = MAIL + "a line\x1b[2J of log\n" * 6_000
    async with opened(PasteScreen()) as (host, pilot):
        with counted() as work:
            await host.paste(pilot, big)
        assert work.calls < 1_500_000
        await pilot.press("f2")
        assert host.answers == [big.replace("\x1b", r"\x1b")]


async def test_a_paste_beyond_all_measure_is_left_out() -> None:
    """It says so, and what was there stays."""
    async with opened(PasteScreen()) as (host, pilot):
        await pilot.press("x")
        await host.paste(pilot, "y" * 1_000_001)
        assert "! that was longer than 1 MB" in host.shown
        assert isinstance(host.screen, AreaDialog)
        assert host.screen.text == "x"


async def test_a_mail_is_not_thrown_away_by_a_slip() -> None:
    """`escape` closes an empty box, and asks about a full one."""
    async with opened(PasteScreen()) as (host, pilot):
        await pilot.press("x", "escape", "n")
        assert not host.answers
        await pilot.press("escape", "y")
        await pilot.pause()
        assert host.answers == [None]


@pytest.mark.parametrize(
    ("text", "what", "fault"),
    [
        ("", "nothing yet", "there is no mail yet: paste one"),
        ("Dear AOG,\nplease\n", "no From: line and no Subject: line yet", "a mail begins with its headers"),
        ("From: a@b.org\nX: y\n\nbody", "no Subject: line yet", "a mail begins with its headers: a line Subject:"),
        ("From: a@b.org\nSubject: s\n", "1 mail · from a@b.org · s", "an empty line ends the headers"),
        (f"From a@b Thu Jan  1 00:00:00 1970\n{MAIL}\nFrom a@b Thu Jan  1 00:00:00 1970\n{MAIL}",
         "1 mail and 1 more · from Helper <helper@eso.org> · ALMA: REQUEST", ""),
    ],
)  # fmt: skip
def test_what_a_text_is_taken_for(text: str, what: str, fault: str) -> None:
    """A line on the mail, and a sentence when it is none."""
    assert summary(text) == what
    assert wrong_mail(text).startswith(fault)
    assert bool(wrong_mail(text)) is bool(fault)
