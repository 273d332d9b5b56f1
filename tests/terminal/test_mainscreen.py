"""The panes: which is seen, and which has the keys."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Input, Static

from aogconsole.board import Slot
from aogconsole.mainscreen import MainScreen
from widgets.logpane import LogPane
from widgets.status import Keys, Tab, Tabs, queue_tab, slot_tab


class Panes(App[None]):
    """The screen alone; keeps which actions its keys ask for."""

    CSS_PATH = "../../aogconsole/console.tcss"

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def get_default_screen(self) -> MainScreen:
        """The panes."""
        return MainScreen(2)

    def action_do(self, ident: str) -> None:
        """An action's key was pressed."""
        self.asked.append(ident)


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
@pytest.mark.parametrize("key", ["slash", "ampersand"])
async def test_a_log_is_searched_where_it_is_seen_alone(size: tuple[int, int], key: str) -> None:
    """What is typed goes into the line below the log, on a small screen and zoomed: none of it acts on a request."""
    app = Panes()
    async with app.run_test(size=size) as pilot:
        screen = app.screen
        assert isinstance(screen, MainScreen)
        await pilot.press("2")
        await pilot.pause()
        screen.zoom(on=True)
        await pilot.press(key)
        await pilot.pause()
        await pilot.press(*"hold")
        assert isinstance(app.focused, Input)
        assert app.focused.value == "hold"
        assert app.asked == []
        assert screen.log_pane is screen.logs[0]
        assert [pane.display for pane in screen.logs] == [True, False]
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.focused, LogPane)


class Lines(App[None]):
    """The tabs and the keys alone."""

    def compose(self) -> ComposeResult:
        """Both."""
        yield Tabs()
        yield Keys()

    def shown(self, part: type[Static]) -> str:
        """A line as it is painted."""
        return self.query_one(part).render_line(0).text.rstrip()


SLOTS = (
    Slot("A", state="running", phase="generating"), Slot("B", state="running", phase="checking for existing data"),
)  # fmt: skip
TABS = [queue_tab(14), *map(slot_tab, SLOTS), Tab(("Re-ingestion !", "Re-ing. !", "!"), trouble=True)]
FAILED = [queue_tab(0), slot_tab(Slot("A", state="failed")), Tab(("Re-ingestion", ""))]


@pytest.mark.parametrize(
    ("tabs", "width", "shown"),
    [
        (TABS, 99, " 1 Requests · 14 need you  2 A generating  3 B checking for existing data  4 Re-ingestion !"),
        (TABS, 80, " 1 Requests · 14 need you  2 A generating  3 B checking  4 Re-ingestion !"),
        (TABS, 60, " 1 Requests · 14 need you  2 A  3 B  4 Re-ingestion !"),
        (TABS, 50, " 1 Requests · 14 !  2 A  3 B  4 Re-ingestion !"),
        (TABS, 30, " 1 14 !  2 A  3 B  4 !"),
        (FAILED, 40, " 1 Requests  2 A !  3 Re-ingestion"),
        (FAILED, 20, " 1  2 A !  3"),
    ],
)
async def test_tabs_tell_what_needs_a_person(tabs: list[Tab], width: int, shown: str) -> None:
    """Phases give way first, then words; never a `!`, or a number. The window may be resized."""
    app = Lines()
    async with app.run_test(size=(200, 5)) as pilot:
        app.query_one(Tabs).show(tabs, 0)
        await pilot.resize_terminal(width, 5)
        await pilot.pause()
        assert app.shown(Tabs) == shown


@pytest.mark.parametrize(
    ("width", "shown"),
    [(50, "enter next  s stage  / filter  ? help  ^p all"), (35, "enter next  ? help  ^p all")],
)
async def test_keys_that_are_not_possible_give_way_first(width: int, shown: str) -> None:
    """Then those in the middle; the first stays, possible or not."""
    keys = [("enter", "next", False), ("s", "stage", True), ("x", "refuse", False), ("/", "filter", True),
            ("?", "help", True), ("^p", "all", True)]  # fmt: skip
    app = Lines()
    async with app.run_test(size=(width, 5)) as pilot:
        app.query_one(Keys).show(keys)
        await pilot.pause()
        assert app.shown(Keys) == shown
