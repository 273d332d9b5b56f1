"""The lines of a log on the screen: the Line API, so that its cost is that of the lines seen, not of those there are.

Textual's scrolling is replaced: what is seen hangs on a line (or on the end), not on a height in rows, so it stays
where it is while lines come in at both ends, and when wrapping makes rows of one line. Four measures keep a paint
cheap: the virtual size is set silently (it would lay out the whole screen), styles are looked up once per frame,
finished strips are kept, and the scrollbar is touched only when its thumb moves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import ClassVar

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollDown, ScrollTo, ScrollUp
from textual.strip import Strip

from widgets.logtext import LogText, Matches, Rows

STRIPS = 1000
"""Lines whose finished strips are kept."""
CONTEXT = 3
"""A line that is jumped to stands at one third of the height."""
WHEEL = 3
"""Rows a step of the mouse wheel moves."""
_UNKNOWN = "--:--:-- "


class LogView(ScrollView, can_focus=False):
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

    class Moved(Message):
        """The mouse has moved or selected something."""

    def __init__(self) -> None:
        super().__init__()
        self.follow = True
        """Whether the end stays in view."""
        self.wrap = False
        self.times = False
        self.note = ""
        """What is shown when there are no lines."""
        self.rows: Rows | None = None
        self.cursor: int | None = None
        """The line jumped to, or the moving end of a selection."""
        self.mark: int | None = None
        """The other end of a selection."""
        self._needle: re.Pattern[str] | None = None
        self._top, self._skip = 0, 0  # the first row, and how many of its wrapped rows are above the view
        self._want: int | None = None  # a line to stand at a third of the height, until something is moved
        self._at_top = self._at_end = False
        self._left = 0
        self._seen_end = 0
        self._frame: list[Strip] = []
        self._places: list[int] = []  # the row of each strip
        self._strips: LRUCache[int, tuple[Strip, ...]] = LRUCache(STRIPS)
        self._key: tuple[object, ...] = ()
        self._style = Style.null()
        self._thumb = (-1, -1, -1)
        self._dragging = False

    # ── what is shown ────────────────────────────────────────────────────────────────────────────────────────

    def show(self, text: LogText | None) -> None:
        """Another text, or the same one anew: at its end."""
        self.rows = Rows(text) if text else None
        self.cursor = self.mark = None
        self._strips.clear()
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
        flags = re.IGNORECASE if needle == needle.lower() else re.NOFLAG
        self._needle = re.compile(re.escape(needle), flags) if needle else None
        self._strips.clear()
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
        self._set_bar()
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

    def _move_to(self, row: int) -> None:
        """Bring a row to the top."""
        if self.rows and row != self._top:
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
        self._left = 0 if self.wrap else max(self._left + columns, 0)
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
        if not self.wrap:
            self._top, self._skip = max(self._top - count, rows.first), 0
            return
        self._skip -= count
        while self._skip < 0 and self._top > rows.first:
            self._top -= 1
            self._skip += len(self._finished([self._top])[0])
        self._skip = max(self._skip, 0)

    def _down(self, count: int) -> None:
        rows = self.rows
        if rows is None:
            return
        if not self.wrap:
            self._top, self._skip = min(self._top + count, max(rows.end - 1, rows.first)), 0
            return
        self._skip += count
        while self._top < rows.end - 1 and self._skip >= (height := len(self._finished([self._top])[0])):
            self._skip -= height
            self._top += 1

    # ── painting ─────────────────────────────────────────────────────────────────────────────────────────────

    def _build(self) -> None:
        """The strips of the frame, and where in the text they are."""
        width, height = self.size
        rows = self.rows
        self._use_styles((width, self._left, self.wrap, self.times))
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
            if self.wrap:
                above = self._finished(range(self._top, min(rows.row(self._want), rows.end)))
                self._skip = max(sum(map(len, above)) - height // CONTEXT, 0)
                self._down(0)
        self._top = min(max(self._top, rows.first), rows.end - 1)

    def _fill_down(self, rows: Rows, height: int) -> bool:
        """From the top; whether it was filled."""
        places = range(self._top, min(self._top + height + 1, rows.end))
        pairs = [(place, strip) for place, some in zip(places, self._finished(places), strict=True) for strip in some]
        self._take(pairs[self._skip : self._skip + height])
        self._at_end = places.stop == rows.end and len(pairs) - self._skip <= height
        return len(pairs) - self._skip >= height

    def _fill_up(self, rows: Rows, height: int) -> None:
        """From the end upwards."""
        places = range(max(rows.end - height, rows.first), rows.end)
        pairs = [(place, strip) for place, some in zip(places, self._finished(places), strict=True) for strip in some]
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
        return [Strip([Segment(self.note, style)]).crop_extend(0, width, self._style)]

    def _use_styles(self, *key: object) -> None:
        """Once per frame; other styles, or another shape, need other strips."""
        self._style = self.rich_style
        if self._key != (found := (self._style, self.app.theme, *key)):
            self._key = found
            self._strips.clear()

    def _finished(self, places: Sequence[int]) -> list[tuple[Strip, ...]]:
        """The finished strips of some rows."""
        rows = self.rows
        if rows is None:
            return []
        numbers = [rows.number(place) for place in places]
        found = [self._strips.get(number) for number in numbers]
        missing = [number for number, strips in zip(numbers, found, strict=True) if strips is None]
        if not missing:
            return [strips for strips in found if strips is not None]
        whole = rows.text.whole  # before the text is read: a line that may have grown since is not kept
        texts = rows.text.page(missing)
        times = rows.text.arrived(missing) if self.times else [None] * len(missing)
        made = {number: self._finish(text, moment) for number, text, moment in zip(missing, texts, times, strict=True)}
        for number in missing:
            if number < whole:
                self._strips[number] = made[number]
        return [made[number] if strips is None else strips for number, strips in zip(numbers, found, strict=True)]

    def _finish(self, text: str, moment: float | None) -> tuple[Strip, ...]:
        """The rows of one line: cut or wrapped to the width, with its time and what is searched for."""
        width = self.size.width
        line = Strip(self._segments(text))
        head = Strip([])
        if self.times:
            known = f"{datetime.fromtimestamp(moment, UTC):%H:%M:%S} " if moment is not None else _UNKNOWN
            head = Strip([Segment(known, self.get_component_rich_style("logview--time"))])
        room = max(width - head.cell_length, 2)
        if not self.wrap:
            pieces = [line.crop_extend(self._left, self._left + room, self._style)]
        else:
            pieces = [piece.extend_cell_length(room, self._style) for piece in wrapped(line, text, room)]
        blank = Strip.blank(head.cell_length, self._style)
        joined = [Strip.join([blank if number else head, piece]) for number, piece in enumerate(pieces)]
        return tuple(strip.crop_extend(0, width, self._style) for strip in joined)

    def _segments(self, text: str) -> list[Segment]:
        if not self._needle:
            return [Segment(text, self._style)]
        hit = self._style + self.get_component_rich_style("logview--hit", partial=True)
        segments, at = [], 0
        for found in self._needle.finditer(text):
            segments += [Segment(text[at : found.start()], self._style), Segment(found[0], hit)]
            at = found.end()
        return [*(segment for segment in segments if segment.text), Segment(text[at:], self._style)]

    def render_lines(self, crop: Region) -> list[Strip]:
        """Textual's, after a look at the styles."""
        if self._key[:2] != (self.rich_style, self.app.theme):
            self._build()
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """Row `y` of the frame."""
        return self._frame[y] if y < len(self._frame) else Strip.blank(self.size.width, self._style)

    def _set_bar(self) -> None:
        """Tell Textual where we are, silently, and the scrollbar, when its thumb moves by a cell."""
        rows, (width, height) = self.rows, self.size
        total = max(rows.end - rows.first, height) if rows else height
        at = min(max(self._top - rows.first, 0), total - height) if rows else 0
        self.set_reactive(ScrollView.virtual_size, Size(width, total))
        self.set_reactive(ScrollView.scroll_y, float(at))
        self.set_reactive(ScrollView.scroll_target_y, float(at))
        thumb = (height, height * height // max(total, 1), at * height // max(total, 1))
        if thumb != self._thumb:
            self._thumb = thumb
            bar = self.vertical_scrollbar
            bar.window_virtual_size, bar.window_size, bar.position = total, height, at

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Nothing: what is seen does not hang on it."""

    def watch_scroll_x(self, old_value: float, new_value: float) -> None:
        """Nothing, likewise."""

    # ── the mouse ────────────────────────────────────────────────────────────────────────────────────────────

    def on_resize(self) -> None:
        """Another width makes other strips."""
        self.look()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel."""
        self._wheel(event, WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel."""
        self._wheel(event, -WHEEL)

    def _wheel(self, event: events.MouseEvent, rows: int) -> None:
        event.stop().prevent_default()
        self.move(rows)
        self.post_message(self.Moved())

    def on_scroll_to(self, message: ScrollTo) -> None:
        """The scrollbar is dragged."""
        message.stop().prevent_default()
        if self.rows and message.y is not None:
            self._move_to(self.rows.first + round(message.y))
            self.post_message(self.Moved())

    def on_scroll_up(self, message: ScrollUp) -> None:
        """A click above the scrollbar's thumb."""
        message.stop().prevent_default()
        self.move(-max(self.size.height - 1, 1))
        self.post_message(self.Moved())

    def on_scroll_down(self, message: ScrollDown) -> None:
        """A click below it."""
        message.stop().prevent_default()
        self.move(max(self.size.height - 1, 1))
        self.post_message(self.Moved())

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


def wrapped(line: Strip, text: str, width: int) -> list[Strip]:
    """A line in pieces of at most `width` cells (2 or more); no wide character is cut."""
    if line.cell_length <= width:
        return [line]
    lengths = [width] * (len(text) // width) if text.isascii() else [cell_len(one) for one in chop_cells(text, width)]
    return [piece for piece in line.divide([*accumulate(lengths), line.cell_length]) if piece.cell_length]
