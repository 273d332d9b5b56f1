"""The main screen: where the panes are, and which of them are seen.

Wide terminals show everything. Narrow ones show one pane at a time, the one with the focus, and a line of tabs; so
does zoom. Keys are bound from the table of actions; what they do is the app's business.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.events import DescendantFocus, Resize, ScreenResume
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget

from aogconsole.actions import ACTIONS
from aogconsole.board import Board
from widgets.entitlement import Entitlement
from widgets.logpane import LogPane
from widgets.reingestion import Reingestion
from widgets.requests import RequestList
from widgets.status import Keys, Said, Tabs, Title, queue_tab, slot_tab

if TYPE_CHECKING:
    from widgets.inputs import LineBelow

WIDE = (120, 30)
"""Columns and rows from which on everything is seen at once."""
TINY = (40, 14)
"""Below: no tabs, no entitlement panel."""


class MainScreen(Screen[None]):
    """The panes, in the order of `tab`: requests, entitlement, slots, re-ingestion."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(action.key, f"app.do('{action.id}')", action.label, id=action.id, show=False) for action in ACTIONS),
        *(Binding(str(number), f"pane({number - 1})", f"pane {number}", show=False) for number in range(2, 10)),
        Binding("shift+tab", "step(-1)", "previous pane", show=False),
        Binding("escape", "app.escape", "back", show=False),
    ]

    class Turned(Message):
        """Another pane has the focus."""

    def __init__(self, slots: int) -> None:
        super().__init__(id="main")
        self._zoomed, self._fresh = False, True
        # held, not looked up: a message may still come when they have been taken down
        self._title, self._tabs, self._keys = Title(id="title"), Tabs(id="tabs"), Keys(id="keys")
        self._top, self._slots = Container(id="top"), Container(id="slots")
        self.requests = RequestList(id="requests")
        """The queue."""
        self.entitlement = Entitlement(id="entitlement")
        """The panel of the selected request."""
        self.logs = [LogPane(id=f"slot{number}") for number in range(slots)]
        """The slots' panes."""
        self.reingestion = Reingestion(id="reingestion")
        """The other queue."""
        self._field: LineBelow | None = None
        self.said = Said(id="said")
        """The line with what was done last."""

    def compose(self) -> ComposeResult:
        """Title, panes, and the lines below."""
        yield self._title
        yield self._tabs
        with self._top:
            yield self.requests
            yield self.entitlement
        with self._slots:
            yield from self.logs
        yield self.reingestion
        yield self.said
        yield self._keys

    # ── which pane ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def log_pane(self) -> LogPane | None:
        """The log pane with the focus."""
        return self.current if isinstance(self.current, LogPane) else None

    @property
    def apart(self) -> bool:
        """Whether the pane with the focus has nothing to do with the selected request."""
        return isinstance(self.current, LogPane | Reingestion)

    @property
    def panes(self) -> list[Widget]:
        """Everything that can have the focus."""
        return [self.requests, self.entitlement, *self.logs, self.reingestion]

    @property
    def tabbed(self) -> list[Widget]:
        """Those with a number; the panel goes with the queue."""
        return [self.requests, *self.logs, self.reingestion]

    @property
    def zoomed(self) -> bool:
        """Whether a pane has the whole screen."""
        return self._zoomed

    @property
    def current(self) -> Widget:
        """The pane that has the focus, or in which a line to type in has it."""
        inside = self.focused.ancestors_with_self if self.focused is not None else ()
        return next((pane for pane in self.panes if pane in inside), self.requests)

    @property
    def place(self) -> int:
        """The number of the current pane, in the order of `tab`."""
        return self.panes.index(self.current)

    def action_pane(self, number: int) -> None:
        """Go to a pane by its number, from 0."""
        if number < len(self.tabbed):
            self.go(self.tabbed[number])

    def action_step(self, by: int) -> None:
        """Go to the next pane, or back."""
        self.go(self.panes[(self.place + by) % len(self.panes)])

    def go(self, pane: Widget) -> None:
        """Give a pane the focus; one that is out of sight comes into it."""
        self._arrange(pane)
        self.set_focus(pane)

    def zoom(self, *, on: bool | None = None) -> None:
        """Give the focused pane the whole screen, or take it back."""
        self._zoomed = not self._zoomed if on is None else on
        self._arrange()

    def open_field(self, text: str) -> None:
        """Show the line in which a filter is typed, with this one in it."""
        from widgets.inputs import LineBelow  # not before the first frame

        field = self._field
        if field is None:
            hint = "part of a UID, project, account, ticket, sender or subject"
            field = self._field = LineBelow(id="filter", placeholder=hint, compact=True)
            self.mount(field, before=self.said)
        field.value = text
        field.display = True
        self.set_focus(field)

    def _on_screen_resume(self, event: ScreenResume) -> None:
        """Textual calls this before its own: every part got its styles just now, when it was mounted."""
        if self._fresh:
            self._fresh = event.refresh_styles = False

    def on_resize(self, event: Resize) -> None:
        """Choose what can be seen."""
        self._arrange(size=(event.size.width, event.size.height))

    @on(DescendantFocus)
    def _focused(self) -> None:
        field = self._field
        if field is not None and field.display and self.focused is not field:
            field.display = False
        self._arrange()
        self.post_message(self.Turned())

    def _arrange(self, pane: Widget | None = None, size: tuple[int, int] | None = None) -> None:
        width, height = size or self.app.size
        narrow = width < WIDE[0] or height < WIDE[1]
        current = pane or self.current
        with self.app.batch_update():
            self.set_class(narrow, "narrow")
            self.set_class(width < TINY[0] or height < TINY[1], "tiny")
            single = narrow or self._zoomed
            top = current in (self.requests, self.entitlement)
            self.set_class(single, "single")
            self._top.set_class(single and not top, "out")
            self._slots.set_class(single and current not in self.logs, "out")
            for log in self.logs:
                log.set_class(single and log is not current, "out")
            self.reingestion.set_class(single and not isinstance(current, Reingestion), "out")
            self.entitlement.set_class(self._zoomed and current is self.requests, "out")
            self.requests.set_class(self._zoomed and current is self.entitlement, "out")

    # ── what is on it ────────────────────────────────────────────────────────────────────────────────────────

    def tick(self, board: Board, engine: str, now: datetime, *, read_only: bool, trouble: bool) -> None:
        """The first line: all that changes by itself."""
        self._title.show(board, engine, now, read_only=read_only, trouble=trouble)

    def show(self, board: Board) -> None:
        """The queue's title, and the tabs."""
        needs = f", {board.needs} need you" if board.needs else ""
        found = f" · '{board.query.text}': {len(board.lines)} found" if board.query.text else ""
        title = f"Requests · {board.open} open{needs}{found}"
        if title != self.requests.border_title:  # it paints the whole list each time it is set
            self.requests.border_title = title
        self.turned(board)

    def turned(self, board: Board) -> None:
        """The tabs, after another pane was gone to."""
        tabs = [queue_tab(board.needs), *map(slot_tab, board.slots), self.reingestion.tab]
        current = self.current
        self._tabs.show(tabs, self.tabbed.index(current) if current in self.tabbed else 0)

    def keys(self, keys: list[tuple[str, str, bool]]) -> None:
        """The footer."""
        self._keys.show(keys)

    @on(Tabs.Wanted)
    def _wanted(self, event: Tabs.Wanted) -> None:
        self.action_pane(event.number)
