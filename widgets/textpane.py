"""A read-only pane of text that opens at once however long it is: only the rows in view are ever painted.

Lines are wrapped to the width (at a blank where there is one), searched, and can be selected with the mouse.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from rich.cells import cell_len, get_character_cell_size
from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from aogconsole.text import clean_lines
from widgets.steady import Steady

Spans = Mapping[int, Sequence[tuple[int, int, str]]]
"""Of some lines, by number: (first character, end, `strong` or `dim`)."""


def text_lines(text: str) -> list[str]:
    """A text from outside as lines to be shown: clean, without tabs."""
    return clean_lines(text).expandtabs(8).split("\n")


def wrapped(line: str, width: int) -> Iterator[int]:
    """Where the rows of a line begin that is to fit into a number of cells: 0 first."""
    yield 0
    if not line.isascii() and cell_len(line) != len(line):
        yield from _wrapped_by_cells(line, width)
        return
    start = 0
    while len(line) - start > width:
        blank = line.rfind(" ", start + 1, start + width + 1)
        start = blank + 1 if blank > 0 and line[start:blank].strip() else start + width
        yield start


def _wrapped_by_cells(line: str, width: int) -> Iterator[int]:
    # character by character: where combining marks make a row a cell wider than this, its end is cut in the paint
    used = 0
    for place, character in enumerate(line):
        cells = get_character_cell_size(character)
        if used + cells > width and used:
            yield place
            used = 0
        used += cells


class TextPane(Steady, ScrollView, can_focus=True):
    """The pane."""

    ALLOW_SELECT = True
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "textpane--strong", "textpane--dim", "textpane--found", "textpane--cursor",
    }  # fmt: skip
    DEFAULT_CSS = """
    TextPane {
        height: 1fr; background: $surface; color: $foreground;
        overflow-x: auto; overflow-y: auto; scrollbar-gutter: stable; scrollbar-size: 1 1;
        & .textpane--strong { text-style: bold; }
        & .textpane--dim { text-style: dim; }
        & .textpane--found { text-style: reverse; }
        & .textpane--cursor { text-style: bold reverse; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_down", "down", show=False, id="move.down"),
        Binding("k,up", "scroll_up", "up", show=False, id="move.up"),
        Binding("space,pagedown", "page_down", "page down", show=False, id="move.page_down"),
        Binding("b,pageup", "page_up", "page up", show=False, id="move.page_up"),
        Binding("g,home", "scroll_home", "first line", show=False, id="move.first"),
        Binding("G,end", "scroll_end", "last line", show=False, id="move.last"),
    ]

    def __init__(self, lines: Iterable[str] = (), spans: Spans | None = None, *, wrap: bool = True) -> None:
        """`lines` are clean, as `text_lines` gives them."""
        super().__init__()
        self._lines = list(lines)
        self._spans = spans or {}
        self._wrap = wrap
        self._line_of = array("L")
        self._start_of = array("L")
        self._laid_out = (-1, False)
        self._needle: re.Pattern[str] | None = None
        self._hits: list[int] = []
        self._hit = -1
        self._strips: dict[tuple[int, int], Strip] = {}
        self._style = Style.null()

    @property
    def lines(self) -> Sequence[str]:
        """What is shown."""
        return self._lines

    @property
    def top(self) -> int:
        """The first line in view."""
        row = self.scroll_offset.y
        return self._line_of[row] if row < len(self._line_of) else 0

    def replace(self, lines: Iterable[str], spans: Spans | None = None) -> None:
        """Show other lines, from the first on."""
        self._lines = list(lines)
        self._spans = spans or {}
        self._laid_out = (-1, False)
        self.scroll_to(y=0)
        self._lay_out()

    def scroll_to(self, x: float | None = None, y: float | None = None, **options: Any) -> None:
        """At once: a key answers with its rows, not with a way to them."""
        super().scroll_to(x, y, **{**options, "animate": False})

    def action_scroll_home(self) -> None:
        """To the first row."""
        self.scroll_to(y=0)

    def action_scroll_end(self) -> None:
        """To the last row."""
        self.scroll_to(y=self.max_scroll_y)

    # ── search ───────────────────────────────────────────────────────────────────────────────────────────────

    def find(self, words: str) -> str:
        """Mark every place with these words and go to the first from the top of the view on; empty: unmark.

        Upper case in the words counts, otherwise it does not. Says what was found.
        """
        flags = re.NOFLAG if words != words.lower() else re.IGNORECASE
        self._needle = re.compile(re.escape(words), flags) if words else None
        self._hits = [number for number, line in enumerate(self._lines) if self._needle and self._needle.search(line)]
        self._hit = bisect_left(self._hits, self.top) - 1
        self._repaint()
        return self.go(1) if words else ""

    def go(self, by: int) -> str:
        """To the next place (1) or the one before (-1), round the ends; says which it is."""
        if not self._needle:
            return ""
        if not self._hits:
            return "not found"
        self._hit = (self._hit + by) % len(self._hits)
        line = self._hits[self._hit]
        row = bisect_left(self._line_of, line)
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        if not top <= row < top + height:
            self.scroll_to(y=max(0, row - height // 3))
        self._repaint()
        return f"{self._hit + 1} of {len(self._hits)}"

    # ── layout ───────────────────────────────────────────────────────────────────────────────────────────────

    def on_mount(self) -> None:
        """Lay out as soon as the width is known."""
        self.call_after_refresh(self._lay_out)

    def on_resize(self, event: Resize) -> None:
        """Wrap anew."""
        self._lay_out()

    def toggle_wrap(self) -> None:
        """Wrap long lines, or let them run out of view."""
        self._wrap = not self._wrap
        self._lay_out()

    def _lay_out(self) -> None:
        width = max(1, self.scrollable_content_region.width)
        if self._laid_out == (width, self._wrap):
            return
        top, fresh = self.top, self._laid_out[0] < 0
        self._laid_out = (width, self._wrap)
        self._line_of, self._start_of = array("L"), array("L")
        widest = width
        for number, line in enumerate(self._lines):
            cells = len(line) if line.isascii() else cell_len(line)
            if self._wrap and cells > width:
                starts = list(wrapped(line, width))
                self._line_of.extend([number] * len(starts))
                self._start_of.extend(starts)
            else:
                self._line_of.append(number)
                self._start_of.append(0)
                widest = max(widest, cells)
        self.virtual_size = Size(width if self._wrap else widest, len(self._line_of))
        self._repaint()
        if not fresh:
            self.scroll_to(y=bisect_left(self._line_of, top))

    # ── paint ────────────────────────────────────────────────────────────────────────────────────────────────

    def _repaint(self) -> None:
        self._strips.clear()
        self.refresh()

    def notify_style_update(self) -> None:
        """Another theme."""
        super().notify_style_update()
        self._strips.clear()

    def selection_updated(self, selection: Selection | None) -> None:
        """The mouse selected something."""
        self._repaint()

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text, in whole lines as they are, not as they are wrapped."""
        return selection.extract("\n".join(self._lines)), "\n"

    def render_lines(self, crop: Region) -> list[Strip]:
        """The rows in view; the style is looked up once for all."""
        style = self.rich_style
        if style != self._style or len(self._strips) > 1000:
            self._style = style
            self._strips.clear()
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """One row of the view."""
        scroll_x, scroll_y = self.scroll_offset
        row, width = scroll_y + y, self.size.width
        style = self._style
        if row >= len(self._line_of):
            return Strip.blank(width, style)
        strip = self._strips.get((row, scroll_x))
        if strip is None or strip.cell_length != width:
            strip = self._strips[row, scroll_x] = self._strip(row, scroll_x, width)
        return strip

    def _strip(self, row: int, scroll_x: int, width: int) -> Strip:
        number, start, end = self._place(row)
        line = self._lines[number]
        text = Text(line[start:end], end="")
        text.stylize(self._style)  # a base style is left out where nothing else is styled
        for first, last, name in self._marks(number, line, start, end):
            text.stylize(self._mark_style(name), max(0, first - start), max(0, last - start))
        if self.is_cursor(number):
            text.pad_right(max(0, scroll_x + width - text.cell_len))
            text.stylize(self._mark_style("cursor"))
        strip = Strip(text.render(self.app.console)).crop_extend(scroll_x, scroll_x + width, self._style)
        return strip.apply_offsets(start + scroll_x, number)

    def is_cursor(self, number: int) -> bool:
        """Whether a line has the cursor; this pane has none."""
        return False

    def _place(self, row: int) -> tuple[int, int, int]:
        number, start = self._line_of[row], self._start_of[row]
        goes_on = row + 1 < len(self._line_of) and self._line_of[row + 1] == number
        return number, start, self._start_of[row + 1] if goes_on else len(self._lines[number])

    def _marks(self, number: int, line: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
        yield from self._spans.get(number, ())
        if self._needle:
            around = len(self._needle.pattern)
            for found in self._needle.finditer(line, max(0, start - around), end + around):
                yield found.start(), found.end(), "found"
        selection = self.text_selection
        span = selection.get_span(number) if selection else None
        if span is not None:
            yield span[0], len(line) if span[1] < 0 else span[1], "selection"

    def _mark_style(self, name: str) -> Style:
        if name == "selection":
            return self.screen.get_component_rich_style("screen--selection")
        return self.get_component_rich_style(f"textpane--{name}", partial=True)
