"""A letter on the screen: what it shows, what its keys decide, how it is edited."""

from __future__ import annotations

from typing import Any

import pytest
from textual.widgets import Static

from aogconsole.copying import Copying
from aogconsole.requests.letters import Draft, editable, helpdesk_reply
from aogconsole.settings import Console
from tests.support.work import counted
from tests.terminal.dialog_cases import letter
from tests.terminal.dialog_host import opened
from widgets.letter import LetterDecision, LetterScreen


def test_its_text_is_that_of_the_edit_command() -> None:
    """What is shown, edited and copied has the form that `aogconsole edit` reads."""
    view = letter()
    draft = Draft("not_entitled", view.to, view.cc, view.subject, view.body, None, ())
    assert view.text == editable(draft)


async def test_a_refusal_is_shown_with_the_helpdesks_reply() -> None:
    """The headers, the text, and below it what the helpdesk writes; the keys that are possible."""
    view = letter(helpdesk=helpdesk_reply(), why="550 no such user", attached="terminal.log, 12 bytes")
    async with opened(LetterScreen(view)) as (host, _):
        assert "To: helper@eso.org" in host.shown
        assert "Subject: Re: ALMA: REQUEST" in host.shown
        assert "for the helpdesk to answer the user" in host.shown
        assert "Please wait until the data becomes public." in host.shown
        assert "! 550 no such user" in host.shown
        assert "attached: terminal.log, 12 bytes" in host.shown
        assert "y send" in host.shown
        assert "r resend" not in host.shown


@pytest.mark.parametrize(
    ("given", "title"),
    [({}, "Letter 5 · refusal NOT ENTITLED · draft · #20011, request 4"),
     ({"kind": "link", "state": "sent", "edited": True, "ticket": ""},
      "Letter 5 · link to the user · sent, edited · request 4")],
)  # fmt: skip
async def test_the_title_says_in_words_which_letter_it_is(given: dict[str, Any], title: str) -> None:
    """Its kind as in the panel, whether it was edited, and whose ticket."""
    async with opened(LetterScreen(letter(**given))) as (host, _):
        assert f"─ {title} ─" in host.shown


async def test_in_a_low_terminal_the_letter_has_the_room() -> None:
    """The helpdesk's box goes, its key stays."""
    async with opened(LetterScreen(letter()), (60, 12)) as (host, pilot):
        assert "for the helpdesk" not in host.shown
        await pilot.press("C")
        assert host.copies[0].text == "Please wait."


@pytest.mark.parametrize(
    ("keys", "decision"),
    [("y", LetterDecision("send")), ("a", LetterDecision("approve")), ("E", LetterDecision("editor")),
     ("d y", LetterDecision("discard")), ("escape", None), ("q", None)],
)  # fmt: skip
async def test_each_key_decides(keys: str, decision: LetterDecision | None) -> None:
    """What is hard to undo is asked first."""
    async with opened(LetterScreen(letter())) as (host, pilot):
        await pilot.press(*keys.split())
        await pilot.pause()
        assert host.answers == [decision]


async def test_a_discard_that_is_not_meant() -> None:
    """The focus is on the safe button, and the letter stays on the screen."""
    async with opened(LetterScreen(letter())) as (host, pilot):
        await pilot.press("d", "enter")
        await pilot.pause()
        assert not host.answers
        assert isinstance(host.screen, LetterScreen)


async def test_sending_again_needs_a_reason() -> None:
    """It may arrive twice: that is said, and why is asked."""
    async with opened(LetterScreen(letter(state="ambiguous", verbs={"resend": ""}))) as (host, pilot):
        await pilot.press("r")
        await pilot.pause()
        assert "twice" in host.shown
        await pilot.press("l", "o", "s", "t", "enter")
        await pilot.pause()
        assert host.answers == [LetterDecision("resend", "lost")]


async def test_a_key_that_is_not_possible_says_why() -> None:
    """With the caller's reason, or that the letter's state has no use for it."""
    async with opened(LetterScreen(letter(state="sent", verbs={"send": "it was sent at 14:02"}, helpdesk=""))) as (
        host,
        pilot,
    ):
        await pilot.press("y")
        assert "! it was sent at 14:02" in host.shown
        await pilot.press("d")
        assert "! a letter that is sent has no use for this key" in host.shown
        await pilot.press("C")
        assert "! only a refusal" in host.shown
        assert not host.answers
        assert not host.copies


async def test_the_letter_is_copied_and_stays() -> None:
    """The app is asked to copy it, in words too."""
    async with opened(LetterScreen(letter())) as (host, pilot):
        await pilot.press("c", "C")
        assert [(copy.what, copy.text) for copy in host.copies] == [
            ("letter 5", letter().text),
            ("the helpdesk's reply", "Please wait."),
        ]
        assert not host.answers


async def test_an_edited_letter() -> None:
    """What cannot be read as a letter is said by its line; what can is the answer."""
    async with opened(LetterScreen(letter())) as (host, pilot):
        await pilot.press("e", "x", "ctrl+o")
        await pilot.pause()
        assert "! line 1 of the letter is wrong" in host.shown
        await pilot.press("backspace", "pagedown", "end", "!", "ctrl+o")
        await pilot.pause()
        assert host.answers == [LetterDecision("edit", letter().text + "!")]


async def test_changes_are_not_lost_by_a_slip() -> None:
    """`escape` asks, with the focus on going on; without changes it does not."""
    async with opened(LetterScreen(letter())) as (host, pilot):
        await pilot.press("e", "x", "escape", "enter")
        await pilot.pause()
        assert "Edit letter 5" in host.shown
        await pilot.press("escape", "y")
        await pilot.pause()
        assert isinstance(host.screen, LetterScreen)
        await pilot.press("e", "escape")
        await pilot.pause()
        assert isinstance(host.screen, LetterScreen)
        assert not host.answers


async def test_a_very_long_letter_is_for_the_editor() -> None:
    """The area would take a second to open: E does it."""
    async with opened(LetterScreen(letter("word " * 50_000))) as (host, pilot):
        await pilot.press("e")
        await pilot.pause()
        assert "! this letter is too long to be edited here: E" in host.shown


async def test_a_megabyte_opens_at_once() -> None:
    """20,000 lines cost at most ten calls each (in a text area: 230); one key leads to their end."""
    text = "".join(f"{number:06} INFO hifa_bandpass: a line of the run's terminal\n" for number in range(20_000))
    costs = []
    for body in ("one line", text):
        async with opened(None) as (host, pilot):
            screen = LetterScreen(letter(body, kind="expert", helpdesk=""))
            with counted() as work:
                host.push_screen(screen)
                await pilot.pause()
            costs.append(work.calls)
            await pilot.press("G")
            assert body.rstrip("\n").split("\n")[-1] in host.shown
    assert costs[1] - costs[0] < 200_000


class Copier(Copying):
    """Copies as the console does; nobody sees what it says below the page."""

    copy_settings = Console(clipboard="osc52")

    def say(self, text: str, *, error: bool = False) -> None:
        """Where the page covers it."""


async def test_the_page_says_what_was_copied() -> None:
    """It covers the line in which the console says things."""
    app = Copier()
    async with app.run_test() as pilot:
        await app.push_screen(LetterScreen(letter()))
        await pilot.press("C")
        told = app.screen.query_one("#told", Static)
        assert str(told.content).startswith("The helpdesk's reply: 1 line copied to your terminal")
        assert told.display
        await pilot.press("r")
        assert str(told.content).startswith("! ")
