"""The request queue: one line a request, painted a line at a time, so that its length does not matter."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from aogconsole.board import Line
from widgets.steady import Steady

MARK, TICKET, MOUS, STATE, AGE, NEXT = 3, 9, 24, 11, 5, 8
GAP = 1


class RequestList(Steady, ScrollView, can_focus=True):
    """The lines of a board with a cursor. The cursor stays on its request however the list changes."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "requests--head", "requests--cursor", "requests--needs", "requests--failed", "requests--unclear",
        "requests--closed",
    }  # fmt: skip
    DEFAULT_CSS = """
    RequestList {
        border: round $border-blurred;
        border-title-color: $text;
        scrollbar-size-horizontal: 0;
        overflow-x: hidden;
        &:focus { border: round $border; }
        & > .requests--head { color: $text-muted; }
        & > .requests--cursor { background: $block-cursor-blurred-background; color: $block-cursor-blurred-foreground; }
        &:focus > .requests--cursor {
            background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold;
        }
        & > .requests--needs { text-style: bold; }
        & > .requests--failed { color: $text-error; text-style: bold; }
        & > .requests--unclear { color: $text-warning; text-style: bold; }
        & > .requests--closed { color: $text-muted; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "up", id="list.up", show=False),
        Binding("down,j", "move(1)", "down", id="list.down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "page up", id="list.page_up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "page down", id="list.page_down", show=False),
        Binding("home,g", "first", "first", id="list.first", show=False),
        Binding("end,G", "last", "last", id="list.last", show=False),
    ]

    class Selected(Message):
        """The cursor is on another request; None when there is none. `by_hand`: the operator moved it."""

        def __init__(self, request: int | None, *, by_hand: bool) -> None:
            super().__init__()
            self.request = request
            self.by_hand = by_hand

    class End(Message):
        """The operator has come to the last line, and more are left out."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines: tuple[Line, ...] = ()
        self._left_out = 0
        self._empty = ""
        self._cursor = 0
        self._now: datetime | None = None

    # ── what it shows ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def selected(self) -> Line | None:
        """The line under the cursor."""
        return self._lines[self._cursor] if self._lines else None

    @property
    def lines(self) -> Sequence[Line]:
        """The lines."""
        return self._lines

    def show(self, lines: tuple[Line, ...], left_out: int, empty: str) -> None:
        """Show these; the cursor stays on its request, or where it was when that one has gone."""
        before = self.selected
        if lines == self._lines and left_out == self._left_out and empty == self._empty:
            return
        self._lines, self._left_out, self._empty = lines, left_out, empty
        place = next((i for i, line in enumerate(lines) if before is not None and line.id == before.id), None)
        self._cursor = min(self._cursor if place is None else place, max(len(lines) - 1, 0))
        self.virtual_size = Size(0, len(lines) + bool(left_out) + 1)
        self._in_sight()
        self.refresh()
        after = self.selected
        if (before and before.id) != (after and after.id):
            self.post_message(self.Selected(after.id if after else None, by_hand=False))

    def tick(self, now: datetime) -> None:
        """The time, for the ages; painted again once a minute."""
        if self._now is None or now.replace(second=0) != self._now.replace(second=0):
            self._now = now
            self.refresh()

    def select(self, request: int, *, by_hand: bool = False) -> bool:
        """Put the cursor on a request; False when it is not in the list."""
        for place, line in enumerate(self._lines):
            if line.id == request:
                self._go(place, by_hand=by_hand)
                return True
        return False

    # ── moving ───────────────────────────────────────────────────────────────────────────────────────────────

    def action_move(self, by: int) -> None:
        """One line up or down."""
        self._go(self._cursor + by)

    def action_page(self, pages: int) -> None:
        """A page up or down."""
        self._go(self._cursor + pages * max(self.size.height - 2, 1))

    def action_first(self) -> None:
        """To the first line."""
        self._go(0)

    def action_last(self) -> None:
        """To the last line."""
        self._go(len(self._lines) - 1)

    def _go(self, place: int, *, by_hand: bool = True) -> None:
        if not self._lines:
            return
        if place >= len(self._lines) and self._left_out:
            self.post_message(self.End())
        place = min(max(place, 0), len(self._lines) - 1)
        before, self._cursor = self._cursor, place
        self._in_sight()
        if place != before:
            rows = (y - self.scroll_offset.y + 1 for y in (before, place))
            self.refresh(*(Region(0, y, self.size.width, 1) for y in rows))  # scrolling paints all
            self.post_message(self.Selected(self._lines[place].id, by_hand=by_hand))

    def _in_sight(self) -> None:
        rows = max(self.size.height - 1, 1)
        top = self.scroll_offset.y
        if not top <= self._cursor < top + rows:
            place = self._cursor if self._cursor < top else self._cursor - rows + 1
            self.scroll_to(y=place, animate=False, force=True)  # the list may have grown: its scrollbar comes later

    def on_resize(self, _event: Resize) -> None:
        """The cursor stays in sight."""
        self._in_sight()

    def on_click(self, event: Click) -> None:
        """Select the clicked line."""
        offset = event.get_content_offset(self)
        if offset is not None and offset.y > 0:
            self._go(min(self.scroll_offset.y + offset.y - 1, len(self._lines) - 1))

    # ── painting ─────────────────────────────────────────────────────────────────────────────────────────────

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """The head does not scroll."""
        super().watch_scroll_y(old_value, new_value)
        self.refresh(Region(0, 0, self.size.width, self.size.height))

    def render_line(self, y: int) -> Strip:
        """One line of the screen; the first is the head."""
        width, plain = self.size.width, self.rich_style
        if y == 0:
            return self._strip(self._head(width), plain + self.get_component_rich_style("requests--head", partial=True))
        place = self.scroll_offset.y + y - 1
        if place < len(self._lines):
            line = self._lines[place]
            on = place == self._cursor
            return self._strip(self._text(line, width, on=on), plain + self._style(line, on=on))
        if place == len(self._lines) and (self._left_out or not self._lines):
            note = f"   ... and {self._left_out} more open ones: / looks through all" if self._left_out else self._empty
            return self._strip(note, plain + self.get_component_rich_style("requests--head", partial=True))
        return Strip.blank(width, plain)

    def _strip(self, text: str, style: Style) -> Strip:
        return Strip([Segment(set_cell_size(text, self.size.width), style)], self.size.width)

    def _style(self, line: Line, *, on: bool) -> Style:
        name = (
            "cursor" if on
            else line.state if line.state in ("failed", "unclear")
            else "needs" if line.needs
            else "closed" if line.state == "closed"
            else ""
        )  # fmt: skip
        return self.get_component_rich_style(f"requests--{name}", partial=True) if name else Style()

    def _head(self, width: int) -> str:
        return self._cells(width, "", "ticket", "MOUS", "state", "age", "next", "")

    def _text(self, line: Line, width: int, *, on: bool) -> str:
        mark = ("!" if line.needs else " ") + (">" if on else " ")
        ticket = line.ticket + (f" /{line.siblings}" if line.siblings > 1 else "")
        where = line.slot or (str(line.position) if line.position else "")
        state = f"{line.state} {where}".rstrip()
        if line.letter_state in ("approved", "sending"):
            state = f"{line.state} >>"
        rest = f"[{line.claimed_by.partition('@')[0]}] " if line.claimed_by else ""
        return self._cells(
            width, mark, ticket or "-", line.mous or "-", state, self._age(line), line.next_action, rest + line.why
        )

    def _cells(self, width: int, *cells: str) -> str:
        """What fits: the MOUS gives way first, then the reason is cut off."""
        fixed = MARK + TICKET + STATE + AGE + NEXT + 5 * GAP
        mous = max(min(MOUS, width - fixed), 8)
        widths = (MARK, TICKET, mous, STATE, AGE, NEXT)
        parts = [set_cell_size(_tail(cell, size), size) for cell, size in zip(cells, widths, strict=False)]
        return (" " * GAP).join([*parts, cells[-1]])

    def _age(self, line: Line) -> str:
        return "" if self._now is None else age((self._now - line.received_at).total_seconds())


def _tail(text: str, size: int) -> str:
    """A UID differs at its end: cut off in front."""
    return text if cell_len(text) <= size or not text.startswith("uid") else "~" + text[-(size - 1) :]


def age(seconds: float) -> str:
    """A time span in one number and a unit: `5 m`, `2 h`, `3 d`; a clock that is behind makes it `0 m`."""
    minutes = max(int(seconds // 60), 0)
    if minutes < 100:
        return f"{minutes} m"
    return f"{minutes // 60} h" if minutes < 60 * 72 else f"{minutes // 1440} d"
