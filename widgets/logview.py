"""The lines of a log on the screen: the Line API, so that its cost is that of the lines seen, not of those there are.

What is seen hangs on a line (or on the end), not on a height in rows, so it stays where it is while lines come in at
both ends, and when wrapping makes rows of one line. Four measures keep a paint cheap: the virtual size is set silently
(`OwnScroll`), the scrollbar is touched only when its thumb moves, styles are looked up once per frame and finished
strips are kept (`LogPainter`).
"""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from textual import events
from textual.geometry import Region
from textual.strip import Strip

from widgets.logpaint import LogPainter
from widgets.logscroll import OwnScroll
from widgets.logtext import LogText, Matches, Rows

MOST_COPIED = 5000
"""Lines; more are for an export."""
CONTEXT = 3
"""A line that is jumped to stands at one third of the height."""


class LogView(OwnScroll):
    """Lines of a `LogText`. Its pane moves it and tells it to `look`; it does nothing by itself."""

    ALLOW_SELECT = False  # it selects lines, not the screen's cells
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "logview--hit",
        "logview--cursor",
        "logview--selected",
        "logview--time",
        "logview--note",
    }
    DEFAULT_CSS = """
    LogView {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        .logview--hit { text-style: reverse; }
        .logview--cursor { text-style: bold underline; }
        .logview--selected { text-style: reverse; }
        .logview--time { color: $text-muted; }
        .logview--note { color: $text-muted; text-style: italic; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.follow = True
        """Whether the end stays in view."""
        self.paint = LogPainter()
        """How lines look: wrapped, with times."""
        self.note = ""
        """What is shown when there are no lines."""
        self.rows: Rows | None = None
        self.cursor: int | None = None
        """The line jumped to, or the moving end of a selection."""
        self.mark: int | None = None
        """The other end of a selection."""
        self._top, self._skip = 0, 0  # the first row, and how many of its wrapped rows are above the view
        self._want: int | None = None  # a line to stand at a third of the height, until something is moved
        self._at_top = self._at_end = False
        self._seen_end = 0
        self._frame: list[Strip] = []
        self._places: list[int] = []  # the row of each strip
        self._dragging = False

    # ── what is shown ────────────────────────────────────────────────────────────────────────────────────────

    def show(self, text: LogText | None) -> None:
        """Another text, or the same one anew: at its end."""
        self.rows = Rows(text) if text else None
        self.cursor = self.mark = None
        self.paint.forget()
        self.to_end()

    def only(self, found: Matches | None) -> None:
        """Only the lines of a filter, or all; the view stays where it is in the text."""
        if self.rows:
            here = self.number_at_top
            self.rows = Rows(self.rows.text, found)
            self._seen_end = self.rows.end
            if not self.follow:
                self.go_to(here, keep_cursor=True)
        self.look()

    def highlight(self, needle: str) -> None:
        """Show where a text is in the lines; empty for nowhere."""
        self.paint.light(needle)
        self.look()

    @property
    def new(self) -> int:
        """How many rows have come since following stopped."""
        return 0 if self.follow or not self.rows else max(self.rows.end - self._seen_end, 0)

    @property
    def selected(self) -> tuple[int, int] | None:
        """The selected lines, from and to: both are in it."""
        if self.mark is None or self.cursor is None:
            return None
        return min(self.mark, self.cursor), max(self.mark, self.cursor)

    @property
    def selection(self) -> range:
        """The selected rows."""
        if self.rows is None or (found := self.selected) is None:
            return range(0)
        return range(self.rows.row(found[0]), self.rows.row(found[1] + 1))

    def to_copy(self) -> tuple[list[int], int]:
        """The lines that a copy takes, the selection before the current line before all that are seen; how many not."""
        rows, chosen, seen = self.rows, self.selection, self.seen
        if rows and chosen:
            return [rows.number(row) for row in chosen[:MOST_COPIED]], max(len(chosen) - MOST_COPIED, 0)
        return ([self.cursor] if self.cursor is not None and self.cursor in seen else seen), 0

    @property
    def number_at_top(self) -> int:
        """The first line seen."""
        if self.rows is None:
            return 0
        return self.rows.number(self._places[0]) if self._places else self.rows.text.end

    @property
    def seen(self) -> list[int]:
        """The lines seen."""
        rows = self.rows
        return [rows.number(place) for place in sorted(set(self._places))] if rows else []

    def look(self) -> None:
        """Paint what has changed: the text has grown, or something was moved."""
        before = self._frame
        self._build()
        rows = self.rows
        if rows:
            self.set_bar(rows.end - rows.first, self._top - rows.first)
        height = max(len(before), len(self._frame))
        changed = [y for y in range(height) if before[y : y + 1] != self._frame[y : y + 1]]
        if changed:
            self.refresh(Region(0, changed[0], self.size.width, changed[-1] - changed[0] + 1))

    # ── moving ───────────────────────────────────────────────────────────────────────────────────────────────

    def to_end(self) -> None:
        """Show the end, and stay there."""
        self._free()
        self.follow = True
        self.look()

    def to_top(self) -> None:
        """Show the first line; while it is still looked for, the first one known."""
        self.stay()
        self._free()
        self._at_top = True
        self.look()

    def stay(self) -> None:
        """Follow no longer: new lines are counted, and the view stays."""
        if self.follow:
            self.follow = False
            self._seen_end = self.rows.end if self.rows else 0

    def go_to(self, number: int, *, keep_cursor: bool = False) -> None:
        """Bring a line into view and make it the current one."""
        self.stay()
        self._free()
        self._want = number
        if not keep_cursor:
            self.cursor = number
        self.look()

    def move(self, count: int) -> None:
        """Move by rows of the screen, down for a positive count; at the end, follow."""
        if self.rows is None or (self.follow and count > 0):
            return
        self.stay()
        self._free()
        if count < 0:
            self._up(-count)
        else:
            self._down(count)
        self._build()
        self._follow_at_end(count)
        self.look()

    def move_to(self, row: int) -> None:
        """Bring a row to the top, counted from the first one known; at the end, follow."""
        if self.rows and (row := self.rows.first + row) != self._top:
            down = row - self._top
            self.stay()
            self._free()
            self._top, self._skip = row, 0
            self._build()
            self._follow_at_end(down)
            self.look()

    def _follow_at_end(self, moved: int) -> None:
        """Who moves down to the end stays there."""
        if moved > 0 and self._at_end:
            self.follow = True

    def shift(self, columns: int) -> None:
        """Move to the right or left, while lines are not wrapped."""
        self.paint.left = 0 if self.paint.wrap else max(self.paint.left + columns, 0)
        self.look()

    def extend(self, count: int) -> None:
        """Move the end of the selection by lines that are shown, and keep it in view."""
        if self.rows is None or self.cursor is None:
            return
        row = min(max(self.rows.row(self.cursor) + count, self.rows.first), self.rows.end - 1)
        self.cursor = self.rows.number(row)
        if row not in self._places[1:-1]:
            self.move(count)
        self.look()

    def _free(self) -> None:
        self._want, self._at_top = None, False

    def _up(self, count: int) -> None:
        rows = self.rows
        if rows is None:
            return
        if not self.paint.wrap:
            self._top, self._skip = max(self._top - count, rows.first), 0
            return
        self._skip -= count
        while self._skip < 0 and self._top > rows.first:
            self._top -= 1
            self._skip += len(self.paint.strips(rows, [self._top])[0])
        self._skip = max(self._skip, 0)

    def _down(self, count: int) -> None:
        rows = self.rows
        if rows is None:
            return
        if not self.paint.wrap:
            self._top, self._skip = min(self._top + count, max(rows.end - 1, rows.first)), 0
            return
        self._skip += count
        while self._top < rows.end - 1 and self._skip >= (height := len(self.paint.strips(rows, [self._top])[0])):
            self._skip -= height
            self._top += 1

    # ── painting ─────────────────────────────────────────────────────────────────────────────────────────────

    def _build(self) -> None:
        """The strips of the frame, and where in the text they are."""
        width, height = self.room, self.size.height
        rows = self.rows
        self._use_styles()
        if rows is None or rows.end <= rows.first or not width or not height:
            self._frame, self._places = self._noted(width, height), []
            return
        if not self.follow:
            self._place(rows, height)
            if self._fill_down(rows, height) or (self._top <= rows.first and not self._skip):
                return
        self._fill_up(rows, height)

    def _place(self, rows: Rows, height: int) -> None:
        """Where the frame begins."""
        if self._at_top:
            self._top, self._skip = rows.first, 0
        elif self._want is not None:
            self._top, self._skip = max(rows.row(self._want) - height // CONTEXT, rows.first), 0
            if self.paint.wrap:
                above = self.paint.strips(rows, range(self._top, min(rows.row(self._want), rows.end)))
                self._skip = max(sum(map(len, above)) - height // CONTEXT, 0)
                self._down(0)
        self._top = min(max(self._top, rows.first), rows.end - 1)

    def _pairs(self, rows: Rows, places: range) -> list[tuple[int, Strip]]:
        """Strips, each with its row."""
        found = zip(places, self.paint.strips(rows, places), strict=True)
        return [(place, strip) for place, strips in found for strip in strips]

    def _fill_down(self, rows: Rows, height: int) -> bool:
        """From the top; whether it was filled."""
        places = range(self._top, min(self._top + height + 1, rows.end))
        pairs = [
            (place, strip)
            for place, some in zip(places, self.paint.strips(rows, places), strict=True)
            for strip in some
        ]
        self._take(pairs[self._skip : self._skip + height])
        self._at_end = places.stop == rows.end and len(pairs) - self._skip <= height
        return len(pairs) - self._skip >= height

    def _fill_up(self, rows: Rows, height: int) -> None:
        """From the end upwards."""
        places = range(max(rows.end - height, rows.first), rows.end)
        pairs = [
            (place, strip)
            for place, some in zip(places, self.paint.strips(rows, places), strict=True)
            for strip in some
        ]
        kept = pairs[-height:]
        self._at_end = True
        self._top = kept[0][0]
        self._skip = sum(place == self._top for place, _ in pairs) - sum(place == self._top for place, _ in kept)
        self._take(kept)

    def _take(self, pairs: list[tuple[int, Strip]]) -> None:
        """The frame, with the selection."""
        selected, cursor, rows = self.selected, self.cursor, self.rows
        self._places = [place for place, _ in pairs]
        if rows is None or cursor is None:
            self._frame = [strip for _, strip in pairs]
            return
        chosen = self.get_component_rich_style("logview--selected", partial=True)
        current = self.get_component_rich_style("logview--cursor", partial=True)
        self._frame = []
        for place, strip in pairs:
            number = rows.number(place)
            if selected and selected[0] <= number <= selected[1]:
                strip = strip.apply_style(chosen)  # noqa: PLW2901
            elif number == cursor:
                strip = strip.apply_style(current)  # noqa: PLW2901
            self._frame.append(strip)

    def _noted(self, width: int, height: int) -> list[Strip]:
        if not self.note or not width or not height:
            return []
        style = self.get_component_rich_style("logview--note")
        return [Strip([Segment(self.note, style)]).crop_extend(0, width, self.paint.style)]

    def _use_styles(self) -> None:
        hit = self.get_component_rich_style("logview--hit", partial=True)
        self.paint.use(self.room, self.rich_style, hit, self.get_component_rich_style("logview--time"))

    def render_lines(self, crop: Region) -> list[Strip]:
        """Textual's, after a look at the styles."""
        if self.paint.style != self.rich_style:
            self._build()
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """Row `y` of the frame."""
        return self._frame[y] if y < len(self._frame) else Strip.blank(self.room, self.paint.style)

    # ── the mouse ────────────────────────────────────────────────────────────────────────────────────────────

    def on_resize(self) -> None:
        """Another width makes other strips."""
        self.look()

    def _number_at(self, y: int) -> int | None:
        if not self.rows or not self._places:
            return None
        return self.rows.number(self._places[min(max(y, 0), len(self._places) - 1)])

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A selection of lines begins; nothing may move away under the mouse."""
        number = self._number_at(event.y)
        if number is None or event.button != 1:
            return
        self.stay()
        self.cursor, self.mark, self._dragging = number, None, True
        self.capture_mouse()
        self.look()
        self.post_message(self.Moved())

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """The selection follows the mouse; beyond an edge the lines do."""
        if not self._dragging:
            return
        if self.mark is None:
            self.mark = self.cursor
        if event.y < 0 or event.y >= self.size.height:
            self.move(-1 if event.y < 0 else 1)
            self.stay()
        self.cursor = self._number_at(event.y)
        self.look()
        self.post_message(self.Moved())

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """The selection is made."""
        if self._dragging:
            self._dragging = False
            self.release_mouse()
