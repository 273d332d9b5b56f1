"""The panes: which is seen, and which has the keys."""

from __future__ import annotations

import pytest
from textual.app import App
from textual.widgets import Input

from aogconsole.mainscreen import MainScreen
from widgets.logpane import LogPane


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
