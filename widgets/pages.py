"""Whole-screen pages: a text to read, and a list to pick from. Both open at once with 10,000 lines."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Resize
from textual.strip import Strip
from textual.widgets import Input, Static

from aogconsole.text import clean, clean_lines
from widgets.columns import fitting, in_columns
from widgets.dialogs import Answer, CopyRequest, Dialog
from widgets.inputs import LineBelow
from widgets.textpane import TextPane, text_lines


class Page(Dialog[Answer]):
    """A dialog that fills the screen: a pane of text with a search, below a line or two of what it is."""

    DEFAULT_CSS = """
    Page { background: $background; }
    Page > #box { width: 100%; height: 100%; overflow: hidden hidden; }
    Page #lines { margin: 0; text-style: bold; }
    Page #search { display: none; }
    Page #search.-open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "find", key_display="/", id="page.search"),
        Binding("n", "next(1)", "next", show=False, id="page.next"),
        Binding("N", "next(-1)", "the one before", show=False, id="page.previous"),
        Binding("w", "wrap", "wrap long lines, or not", show=False, id="page.wrap"),
        Binding("c", "copy", "copy", id="page.copy"),
        Binding("question_mark", "help", "keys", key_display="?", id="page.help"),
        Binding("q", "cancel", "close", show=False, id="page.close"),
    ]
    ABOUT = ""
    """What this page is, for its help."""

    def __init__(self, title: str, lines: Sequence[str] = ()) -> None:
        super().__init__(title, lines)
        self.pane = self.make_pane()

    @abstractmethod
    def make_pane(self) -> TextPane:
        """The pane, filled."""

    def body(self) -> ComposeResult:
        """The pane, and the search that opens below it."""
        yield self.pane
        yield LineBelow(id="search", placeholder="find", compact=True)

    def on_mount(self) -> None:
        """The pane has the focus."""
        self.pane.focus()

    @property
    def _search(self) -> Input:
        return self.query_one("#search", Input)

    def action_search(self) -> None:
        """Open the search."""
        self._search.add_class("-open")
        self._search.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search while it is typed."""
        self.search(event.value)

    def search(self, words: str) -> None:
        """Go to where the words are; none: nothing is marked any more."""
        self.note(self.pane.find(words))

    def on_input_submitted(self) -> None:
        """Back to the text, with what was found marked."""
        self._search.set_class(bool(self._search.value), "-open")
        self.pane.focus()

    def action_next(self, by: int) -> None:
        """To another place with the words."""
        self.note(self.pane.go(by))

    def note(self, found: str) -> None:
        """Say in the title what the search found."""
        title = f"{self.heading} · {self._search.value}: {found}" if found else self.heading
        self.query_one("#box").border_title = Content(clean(title))

    def action_cancel(self) -> None:
        """Close the search when it is open, otherwise the page."""
        if self._search.has_class("-open"):
            self._search.value = ""
            self._search.remove_class("-open")
            self.pane.focus()
        else:
            self.answer(None)

    def action_wrap(self) -> None:
        """Wrap long lines, or let them run out of view."""
        self.pane.toggle_wrap()

    def copied(self) -> tuple[str, str]:
        """What `copy` takes, and what that is in words."""
        return "\n".join(self.pane.lines), self.heading

    def action_copy(self) -> None:
        """Have everything copied."""
        self.post_message(CopyRequest(*self.copied()))

    def action_help(self) -> None:
        """Show the keys of this page."""
        from widgets.helps import HelpScreen

        self.ask(HelpScreen(self.heading, self.ABOUT, [("Keys", self.keys(every=True))]), lambda _: None)


class TextPage(Page[Answer]):
    """A text to read."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "copy", "copy", show=False, id="page.yank")]
    ABOUT = "A text to read. w wraps its long lines or lets them run on; the mouse selects."

    def __init__(self, title: str, text: str, lines: Sequence[str] = ()) -> None:
        """`text` may be of any length; `lines` stay above it."""
        self._text = clean_lines(text)
        super().__init__(title, lines)

    def make_pane(self) -> TextPane:
        """The text."""
        return TextPane(text_lines(self._text))

    def renew(self, text: str) -> None:
        """Show another text."""
        self._text = clean_lines(text)
        self.pane.replace(text_lines(self._text))

    def copied(self) -> tuple[str, str]:
        """The text as it is, tabs too."""
        return self._text, self.heading


class PageScreen(TextPage[None]):
    """A text with nothing to decide: the original mail, a request's history, the handover."""


# ── a list ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a list."""

    id: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Picked:
    """What was picked in a list, and what is to be done with it."""

    row: str
    """Its id."""
    verb: str
    """`open` for `enter`."""
    filter: str
    """For the list to come back as it was."""


class ListPane(TextPane):
    """A pane with a cursor on one of its lines."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "down", show=False, id="move.row_down"),
        Binding("k,up", "move(-1)", "up", show=False, id="move.row_up"),
        Binding("space,pagedown", "page(1)", "page down", show=False, id="move.row_page_down"),
        Binding("b,pageup", "page(-1)", "page up", show=False, id="move.row_page_up"),
        Binding("g,home", "move(-1000000000)", "first", show=False, id="move.row_first"),
        Binding("G,end", "move(1000000000)", "last", show=False, id="move.row_last"),
    ]
    cursor = 0

    def __init__(self, lines: Iterable[str]) -> None:
        super().__init__(lines, wrap=False)

    def is_cursor(self, number: int) -> bool:
        """The line of the cursor."""
        return number == self.cursor

    def _strip(self, row: int, scroll_x: int, width: int) -> Strip:
        strip = super()._strip(row, scroll_x, width)
        seen = min(width, self.scrollable_content_region.width)
        if cell_len(self.lines[row]) <= scroll_x + seen or seen < 1:
            return strip
        *_, last = strip
        cut = Strip.join([strip.crop(0, seen - 1), Strip([Segment("…", last.style)], 1)])
        return cut.crop_extend(0, width, self._style)

    def action_move(self, by: int) -> None:
        """Move the cursor by some lines, as far as there are any."""
        self.cursor = max(0, min(len(self.lines) - 1, self.cursor + by))
        top, height = self.scroll_offset.y, max(1, self.scrollable_content_region.height)
        self.scroll_to(y=max(min(top, self.cursor), self.cursor - height + 1))
        self._repaint()

    def action_page(self, by: int) -> None:
        """Move the cursor by a view."""
        self.action_move(by * max(1, self.scrollable_content_region.height - 1))


class ListPage(Page[Picked]):
    """Rows to pick one from: letters, mails, runs, staged data. `/` keeps those that have the words."""

    DEFAULT_CSS = """
    ListPage #box > #heads { height: 1; text-style: bold underline; text-wrap: nowrap; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "pick('open')", "open", key_display="enter", id="list.open"),
        Binding("slash", "search", "filter", key_display="/", id="page.search"),
        Binding("w", "wrap", "columns that fit, or whole ones", show=False, id="page.wrap"),
        Binding("n,N", "none", show=False),
    ]
    ABOUT = "A list. / keeps the rows that have what you type, escape shows all again. w shows whole what … cuts."
    FRAME = 5
    """Columns of the screen that rows do not get: border, blanks, scrollbar."""

    def __init__(
        self,
        title: str,
        heads: Sequence[str],
        rows: Sequence[Row],
        verbs: Mapping[str, tuple[str, str]] | None = None,
        *,
        lines: Sequence[str] = (),
        start: str = "",
        filter: str = "",  # noqa: A002
        spare: Sequence[str] = (),
    ) -> None:
        """`verbs` are further keys: key -> (verb, what it does). `start` is the row the cursor begins on.

        `spare` are the heads of columns that are left out, the first first, where there is no room for all.
        Raises ValueError for a key that the list needs itself.
        """
        self._names = [clean(head) for head in heads]
        self._spare = [heads.index(head) for head in spare]
        self._room = 0
        """Cells that a row may have; 0 while that is not known."""
        self._entire = False
        self._heads = ""
        self._all: list[tuple[str, str]] = []
        self._shown = self._all
        self._lay(rows)
        self._start = start
        self._filter = filter
        super().__init__(title, lines)
        for key, (verb, what) in (verbs or {}).items():
            if key in self._bindings.key_to_bindings or key in self.pane._bindings.key_to_bindings:
                raise ValueError(f"the key {key} is one of the list's own")
            self._bindings.bind(key, f"pick('{verb}')", what)

    def _lay(self, rows: Sequence[Row]) -> None:
        """The rows, and how wide their columns are."""
        self._cells = [(row.id, tuple(clean(cell) for cell in row.cells)) for row in rows]
        self._widths = [
            max(len(cell) if cell.isascii() else cell_len(cell) for cell in column)
            for column in zip(self._names, *(cells for _, cells in self._cells), strict=True)
        ]
        if self._room:
            self._fit()

    def _fit(self) -> None:
        """The rows in columns, as wide as they need, or as there is room."""
        widths = self._widths if self._entire else fitting(self._widths, self._spare, self._room)
        self._heads = in_columns(self._names, widths)
        self._all = [(row, in_columns(cells, widths)) for row, cells in self._cells]

    def _refit(self) -> None:
        """The same rows in other columns."""
        at = self.current
        self._fit()
        self._shift_heads(0)
        self._keep(self._search.value)
        self._to(at)

    def on_resize(self, event: Resize) -> None:
        """Other widths."""
        room = max(event.size.width - self.FRAME, 1)
        if self._room not in (0, room):
            self._room = room
            self._refit()

    def action_wrap(self) -> None:
        """Show columns whole, or so that a row fits."""
        self._entire = not self._entire
        self._refit()

    def renew(self, rows: Sequence[Row], *, follow: bool = True) -> None:
        """Show other rows; the view stays where it is, the cursor on its row, or (not to `follow` it) in its place."""
        pane, at = self.pane, self.current
        place = pane.cursor if isinstance(pane, ListPane) else 0
        top, column = pane.scroll_offset.y, pane.scroll_offset.x
        self._lay(rows)
        self._shift_heads(column)
        self._keep(self._search.value)
        if follow:
            place = next((number for number, (row, _) in enumerate(self._shown) if row == at), place)
        if isinstance(pane, ListPane):
            pane.scroll_to(x=column, y=top)
            pane.action_move(place)

    @property
    def current(self) -> str:
        """The id of the row of the cursor; empty when there is none."""
        return self._shown[self.pane.cursor][0] if self._shown and isinstance(self.pane, ListPane) else ""

    def make_pane(self) -> TextPane:
        """The rows come once it is known how wide they may be."""
        return ListPane(())

    def body(self) -> ComposeResult:
        """The heads above the rows."""
        yield Static(self._heads, id="heads", markup=False)
        yield from super().body()

    def on_mount(self) -> None:
        """The rows and the cursor are as they were."""
        self._room = max(self.app.size.width - self.FRAME, 1)
        self._fit()
        self._shift_heads(0)
        if self._filter:
            self.action_search()
            self._search.value = self._filter
        self._keep(self._filter)
        self.watch(self.pane, "scroll_x", self._shift_heads)
        self.call_after_refresh(self._to_start)

    def _shift_heads(self, columns: float) -> None:
        self.query_one("#heads", Static).update(self._heads[int(columns) :], layout=False)

    def _to_start(self) -> None:
        self._to(self._start)

    def _to(self, ident: str) -> None:
        places = [place for place, (row, _) in enumerate(self._shown) if row == ident]
        if places and isinstance(self.pane, ListPane):
            self.pane.cursor = 0
            self.pane.action_move(places[0])

    def _keep(self, words: str) -> None:
        exact = words != words.lower()
        whole = ("  ".join(cells) for _, cells in self._cells)
        self._shown = [
            row for row, text in zip(self._all, whole, strict=True) if words in (text if exact else text.lower())
        ]
        self.pane.replace(line for _, line in self._shown)
        self.pane.find(words)
        if isinstance(self.pane, ListPane):
            self.pane.cursor = 0
        count = f"{len(self._shown)} of {len(self._all)}" if words else str(len(self._all))
        self.query_one("#box").border_title = Content(clean(f"{self.heading} · {count}"))

    def search(self, words: str) -> None:
        """Keep the rows that have the words."""
        self._keep(words)

    def action_pick(self, verb: str) -> None:
        """Answer with the row of the cursor."""
        if self._shown and isinstance(self.pane, ListPane):
            self.answer(Picked(self._shown[self.pane.cursor][0], verb, self._search.value))

    def copied(self) -> tuple[str, str]:
        """The rows that are shown, with their heads, and whole."""
        shown = {row for row, _ in self._shown}
        cells = [self._names, *(cells for row, cells in self._cells if row in shown)]
        return "\n".join(in_columns(line, self._widths) for line in cells), self.heading
