"""The console's questions, by keyboard."""

from __future__ import annotations

import pytest
from textual.widgets import Input, OptionList, Static

from tests.terminal.dialog_cases import SCREENS
from tests.terminal.dialog_host import HOSTILE, opened, unsafe
from widgets.dialogs import Ask, Choose, Confirm, Dialog
from widgets.forms import FieldsForm, wrong


def confirm(*, danger: bool = False) -> Confirm:
    """A question."""
    return Confirm("Stop run 14", ["It is ended."], "stop it", danger=danger)


@pytest.mark.parametrize(
    ("keys", "answer"),
    [("y", True), ("n", False), ("escape", False), ("enter", False), ("right enter", True), ("tab enter", True),
     ("right left enter", False)],
)  # fmt: skip
async def test_confirm_has_its_focus_on_the_safe_button(keys: str, answer: bool) -> None:
    """`enter` alone is no; yes takes a `y`, or a walk to its button."""
    async with opened(confirm()) as (host, pilot):
        await pilot.press(*keys.split())
        assert host.answers == [answer]


async def test_what_is_dangerous_says_so_without_colour() -> None:
    """The title begins with an exclamation mark."""
    async with opened(confirm(danger=True)) as (host, _):
        assert "! Stop run 14" in host.shown
        assert "y yes  n no  esc close" in host.shown


async def test_a_key_pressed_twice_answers_once() -> None:
    """Two keys may be on their way before the first has closed the dialog: the second must not close what is below."""
    dialog = confirm()
    async with opened(dialog) as (host, pilot):
        dialog.action_yes()
        dialog.action_yes()
        dialog.action_cancel()
        await pilot.pause()
        assert host.answers == [True]
        assert len(host.screen_stack) == 1


async def test_dismissing_twice_would_be_caught() -> None:
    """The test above sees a dialog that answers each time."""

    class Careless(Confirm):
        def answer(self, result: bool | None) -> None:
            self.dismiss(result)

    below = confirm()
    async with opened(below) as (host, pilot):
        dialog = Careless("Stop?", [], "stop it")
        host.push_screen(dialog, host.answers.append)
        await pilot.pause()
        dialog.action_yes()
        dialog.action_yes()
        await pilot.pause()
        assert host.answers != [True] or below not in host.screen_stack


async def test_a_reason_is_needed() -> None:
    """An empty one, or one of blanks, says why it is needed; the blanks around it do not count."""
    async with opened(Ask("Close request 4", ["For good."], "Why")) as (host, pilot):
        await pilot.press("enter")
        assert "! say why: it stands in the history" in host.shown
        await pilot.press("space", "enter")
        assert not host.answers
        await pilot.press("o", "k")
        assert "! say why" not in host.shown
        await pilot.press("space", "enter")
        assert host.answers == ["ok"]


async def test_what_is_asked_is_checked() -> None:
    """A sentence of the caller keeps the dialog open; nothing at all may be allowed."""
    dialog = Ask("Move", [], "Place", required="", check=lambda text: "" if text.isdigit() else "a number, please")
    async with opened(dialog) as (host, pilot):
        await pilot.press("x", "enter")
        assert "! a number, please" in host.shown
        await pilot.press("backspace", "enter")
        assert host.answers == [""]


async def test_escape_asks_for_nothing() -> None:
    """None, also with something typed."""
    async with opened(Ask("Close", [], "Why")) as (host, pilot):
        await pilot.press("a", "escape")
        assert host.answers == [None]


@pytest.mark.parametrize(
    ("keys", "answer"),
    [("2", "b"), ("enter", "a"), ("j enter", "b"), ("down down enter", "c"), ("j j k enter", "b"), ("escape", None)],
)
async def test_choose_by_number_or_cursor(keys: str, answer: str | None) -> None:
    """A number chooses at once."""
    async with opened(Choose("Refuse", [], [("a", "one"), ("b", "two"), ("c", "three")])) as (host, pilot):
        assert "2 two" in host.shown
        await pilot.press(*keys.split())
        assert host.answers == [answer]


async def test_a_number_that_is_not_there_chooses_nothing() -> None:
    """Nor does it close."""
    async with opened(Choose("Refuse", [], [("a", "one")])) as (host, pilot):
        await pilot.press("2", "9")
        assert not host.answers
        assert host.screen.query_one(OptionList).highlighted == 0


def form() -> FieldsForm:
    """To correct a request."""
    fields = {"mous": ("MOUS", "uid___A001_X2fb_X21"), "account": ("account", "o ther"), "ticket": ("ticket", "")}
    return FieldsForm("Correct request 4", fields, why=True, unchanged="nothing is corrected yet")


async def test_a_field_is_judged_while_it_is_typed() -> None:
    """The sentence stands below the field, and goes with the fault."""
    async with opened(form()) as (host, pilot):
        assert host.focused is not None
        assert host.focused.id == "field-mous"
        assert "! an account id is a login name" in host.shown
        await pilot.press("X")
        assert "! a UID looks like" in host.shown
        await pilot.press("backspace")
        assert "! a UID looks like" not in host.shown


async def test_enter_leads_to_what_is_wrong_and_then_gives_all() -> None:
    """First what was not changed, then what is wrong, then the reason."""
    async with opened(form()) as (host, pilot):
        await pilot.press("enter")
        assert "! nothing is corrected yet" in host.shown
        assert "Why  " in host.shown, "as the other labels"
        await pilot.press("tab", "tab", "7", "enter")
        assert host.focused is not None
        assert host.focused.id == "field-account"
        await pilot.press("home", "right", "delete", "enter")
        assert host.focused.id == "field-why"
        assert "! say why" in host.shown
        await pilot.press("t", "y", "p", "o", "enter")
        assert host.answers == [{"mous": "uid___A001_X2fb_X21", "account": "other", "ticket": "7", "why": "typo"}]


async def test_needed_fields_and_the_arrow_keys() -> None:
    """A check by hand needs a MOUS, not a day; the arrows walk the lines."""
    fields = {"mous": ("MOUS", ""), "day": ("day", "")}
    async with opened(FieldsForm("Check", fields, why=False, required=("mous",))) as (host, pilot):
        await pilot.press("down", "n", "o", "w")
        assert "! a day looks like 2026-11-21" in host.shown
        await pilot.press("ctrl+u", "enter")
        assert "! this is needed" in host.shown
        await host.paste(pilot, "uid://A001/X2fb/X21")
        await pilot.press("enter")
        assert host.answers == [{"mous": "uid://A001/X2fb/X21", "day": ""}]


@pytest.mark.parametrize(
    ("name", "text", "fine"),
    [("mous", "uid___A001_X2fb_X21", True), ("mous", "uid", False), ("project", "2019.1.01234.S", True),
     ("project", "2019", False), ("account", "-x", False), ("ticket", "#15270", True), ("ticket", "0", False),
     ("day", "2026-02-29", False), ("day", "2028-02-29", True), ("ticket", "", True), ("why", "anything", True)],
)  # fmt: skip
def test_the_parsers_of_the_ids_judge(name: str, text: str, fine: bool) -> None:
    """A sentence for what is wrong, nothing for what is fine, empty or not ours."""
    assert (wrong(name, text) == "") is fine


# ── every dialog ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", SCREENS)
async def test_hostile_text_only_shows(name: str) -> None:
    """In every place of every dialog: no control character is painted, no markup acts or breaks."""
    async with opened(SCREENS[name](HOSTILE), (120, 40)) as (host, pilot):
        assert not unsafe(host.rows)
        assert name == "paste" or r"\x1b]52" in host.shown
        await host.paste(pilot, HOSTILE)
        await pilot.press("enter", "y", "x", "ctrl+o")
        await pilot.pause()
        assert not unsafe(host.rows)


async def test_a_dialog_that_forgets_to_clean_is_caught() -> None:
    """The search above sees what is not clean."""

    class Careless(Dialog[None]):
        def compose(self):  # type: ignore[no-untyped-def]
            yield Static(HOSTILE.replace("\ud800", ""), id="box", markup=False)
            yield Static(id="told")

    async with opened(Careless("careless")) as (host, _):
        assert unsafe(host.rows)


@pytest.mark.parametrize("name", SCREENS)
async def test_a_storm_of_sizes(name: str) -> None:
    """Down to one cell and back, in a theme of the terminal's own colours: nothing breaks, and escape still closes."""
    async with opened(SCREENS[name]("a line of words " * 9)) as (host, pilot):
        host.theme = "ansi-dark"
        for size in [(1, 1), (200, 2), (3, 3), (1, 24), (80, 1), (200, 50)]:
            await pilot.resize_terminal(*size)
        await pilot.press("escape")
        assert len(host.answers) == 1


@pytest.mark.parametrize("name", SCREENS)
async def test_small_terminals_show_the_title_and_the_keys(name: str) -> None:
    """At 40x12 the dialog scrolls within its frame."""
    async with opened(SCREENS[name]("words"), (40, 12)) as (host, _):
        top = next(row for row in host.rows if "╭" in row)
        bottom = next(row for row in reversed(host.rows) if "╰" in row)
        assert top.strip("╭─╮ ")
        assert bottom.strip("╰─╯ ")


async def test_the_keys_shown_are_those_of_the_operator() -> None:
    """A key that was mapped anew is shown, and works."""
    async with opened(None) as (host, pilot):
        host.set_keymap({"confirm.yes": "j"})
        host.push_screen(confirm(), host.answers.append)
        await pilot.pause()
        assert "j yes" in host.shown
        await pilot.press("y", "j")
        assert host.answers == [True]


async def test_an_input_is_clean_at_every_moment() -> None:
    """A paste of control characters becomes visible text."""
    async with opened(Ask("Close", [], "Why")) as (host, pilot):
        await host.paste(pilot, "a\x1b[2Jb\u202e")
        assert host.screen.query_one(Input).value == r"a\x1b[2Jb\u202e"
