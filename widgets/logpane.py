"""A staging slot's pane: what its run prints, live, with search, filter, milestones, selection and copy.

The pane has the title, the keys and the line to type in; `LogView` below has the lines. It reads nothing itself:
`text` is what the app gives it. It looks at it ten times a second (five over SSH), not at all while the terminal
still has frames to take.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.widgets import Input

from aogconsole.board import Slot
from widgets.logtext import LogText, Matches
from widgets.logtitle import title
from widgets.logview import LogView

HERTZ, HERTZ_OVER_SSH = 10, 5
"""Paints a second, at most."""
SOON = 0.01
"""Seconds between two looks at a text that has just been opened."""
MOST_COPIED = 5000
"""Lines; more are for an export."""


class LogPrompt(Input):
    """The line at the foot, for what is searched or filtered."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "give_up", "as it was", show=False)]

    class GivenUp(Message):
        """Escape was pressed."""

    def action_give_up(self) -> None:
        """Leave everything as it was."""
        self.post_message(self.GivenUp())


class LogPane(Vertical, can_focus=True):
    """The output of the run in a staging slot."""

    DEFAULT_CSS = """
    LogPane {
        border: round $border-blurred;
        &:focus, &:focus-within { border: round $border; }
        LogPrompt { display: none; height: 1; border: none; padding: 0; }
        LogPrompt.-open { display: block; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "follow", id="log.follow", tooltip="Follow new lines, or stay."),
        Binding("slash", "search", "search", id="log.search", tooltip="Search; a capital letter makes case matter."),
        Binding("ampersand", "filter", "filter", id="log.filter", tooltip="Show only the lines with a text."),
        Binding("exclamation_mark", "invert", "inverse", id="log.invert", tooltip="Show the lines without that text."),
        Binding("n", "seek(1)", "next hit", id="log.next", show=False),
        Binding("N", "seek(-1)", "previous hit", id="log.previous", show=False),
        Binding("right_square_bracket", "milestone(1)", "milestone", id="log.milestone_next", show=False),
        Binding("left_square_bracket", "milestone(-1)", "milestone before", id="log.milestone_previous", show=False),
        Binding("w", "wrap", "wrap", id="log.wrap", tooltip="Wrap long lines, or cut them."),
        Binding("t", "times", "times", id="log.times", tooltip="Show when each line arrived here, UTC."),
        Binding("z", "zoom", "zoom", id="log.zoom", tooltip="The whole screen for this pane, and back."),
        Binding("v", "mark", "select", id="log.select", tooltip="Begin to select lines; j and k go on, y copies."),
        Binding("y", "copy", "copy", id="log.copy", tooltip="Copy the selection, the current line or the page."),
        Binding("W", "export", "export", id="log.export", tooltip="Write the whole log into a file."),
        Binding("p", "pager", "pager", id="log.pager", tooltip="The whole log in $PAGER."),
        Binding("G,end", "end", "end", id="log.end", show=False, tooltip="Go to the end and follow."),
        Binding("g,home", "top", "top", id="log.top", show=False, tooltip="Go to the first line."),
        Binding("j,down", "move(1)", "down", id="log.down", show=False),
        Binding("k,up", "move(-1)", "up", id="log.up", show=False),
        Binding("pagedown", "page(1, 1)", "page down", id="log.page_down", show=False),
        Binding("pageup", "page(-1, 1)", "page up", id="log.page_up", show=False),
        Binding("ctrl+d", "page(1, 2)", "half a page down", id="log.half_down", show=False),
        Binding("ctrl+u", "page(-1, 2)", "half a page up", id="log.half_up", show=False),
        Binding("right", "shift(8)", "right", id="log.right", show=False),
        Binding("left", "shift(-8)", "left", id="log.left", show=False),
        Binding("escape", "clear", "clear", id="log.clear", show=False, tooltip="End selection, search, filter."),
    ]

    class Zoom(Message):
        """The whole screen for this pane, or back."""

        def __init__(self, pane: LogPane) -> None:
            super().__init__()
            self.pane = pane

    class Copied(Message):
        """Lines for the clipboard: clean, as they are shown. `left_out` of the selection are not in it."""

        def __init__(self, text: str, lines: int, left_out: int = 0) -> None:
            super().__init__()
            self.text = text
            self.lines = lines
            self.left_out = left_out

    class Export(Message):
        """The whole log of a run is wanted as a file; the app asks for its name."""

        def __init__(self, run: int, path: Path) -> None:
            super().__init__()
            self.run = run
            self.path = path

    class Pager(Message):
        """The whole log of a run is wanted in the pager."""

        def __init__(self, run: int, path: Path) -> None:
            super().__init__()
            self.run = run
            self.path = path

    def __init__(self, slot: Slot | None = None, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._slot = slot or Slot("")
        self._now = datetime.now(UTC)
        self._text: LogText | None = None
        self._generation = 0
        self._filter, self._inverse, self._search = "", False, ""
        self._kept: tuple[str, str] = ("", "")  # what was typed, before the prompt was opened
        self._found: Matches | None = None  # of the filter
        self._hits: Matches | None = None
        self._seeking = 0
        self._said = ""
        self._opened = ""
        self._titles: tuple[object, object] = (None, None)
        self._view = LogView()
        self._prompt = LogPrompt(compact=True)

    def compose(self) -> ComposeResult:
        """The lines, and the line to type in."""
        yield self._view
        yield self._prompt

    def on_mount(self) -> None:
        """Look from now on."""
        hertz = HERTZ_OVER_SSH if os.environ.get("SSH_CONNECTION") else HERTZ
        self.set_interval(1 / hertz, self._look)
        self._show_title()
        self._look()

    # ── what it is given ─────────────────────────────────────────────────────────────────────────────────────

    @property
    def slot(self) -> Slot:
        """What is in the slot: for the title and the milestones."""
        return self._slot

    @slot.setter
    def slot(self, slot: Slot) -> None:
        if slot != self._slot:
            self._slot = slot
            self._show_title()
            self._look()

    @property
    def text(self) -> LogText | None:
        """The lines. Who sets it closes the one that was there before."""
        return self._text

    @text.setter
    def text(self, text: LogText | None) -> None:
        if text is not self._text:
            self._text = text
            self._renew()

    def tick(self, now: datetime) -> None:
        """It is later."""
        self._now = now
        self._show_title()

    @property
    def toggles(self) -> dict[str, Any]:
        """What is worth remembering."""
        view = self._view
        return {"wrap": view.wrap, "times": view.times, "filter": self._filter, "inverse": self._inverse}

    @toggles.setter
    def toggles(self, values: Mapping[str, Any]) -> None:
        self._view.wrap = values.get("wrap") is True
        self._view.times = values.get("times") is True
        kept = values.get("filter")
        self._filter = "".join(filter(str.isprintable, kept)) if isinstance(kept, str) else ""
        self._inverse = values.get("inverse") is True
        self._renew()

    @property
    def following(self) -> bool:
        """Whether the end stays in view."""
        return self._view.follow

    @property
    def new_lines(self) -> int:
        """How many lines have come since it stopped following."""
        return self._view.new

    @property
    def shown_lines(self) -> list[str]:
        """The lines seen, each whole."""
        return self._text.page(self._view.seen) if self._text else []

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────

    def _renew(self) -> None:
        """The text is another one: begin at its end, with the same filter."""
        self._generation = self._text.generation if self._text else 0
        self._found = self._begin(self._filter, self._inverse, self._found, among=False)
        self._view.show(self._text)
        self._view.only(self._found)
        self._search_anew()
        if self.is_mounted:
            self._look()

    def _begin(self, text: str, inverse: bool, before: Matches | None, *, among: bool) -> Matches | None:
        if before:
            before.cancel()
        if not text or not self._text:
            return None
        return self._text.matching(
            (text, inverse), *([(self._filter, self._inverse)] if among and self._filter else [])
        )

    def _search_anew(self) -> None:
        self._seeking = 0
        self._hits = self._begin(self._search, False, self._hits, among=True)
        self._view.highlight(self._search)

    def _look(self) -> None:
        """Paint what is new, unless the terminal has not yet taken what was painted."""
        text = self._text
        if self._busy():
            return
        if text and text.generation != self._generation:
            self._renew()
            return
        if text and not text.ready:
            self.set_timer(SOON, self._look)
        if self._seeking:
            self._seek()
        self._view.note = self._note()
        self._view.look()
        self._show_subtitle()

    def _busy(self) -> bool:
        writer = getattr(self.app._driver, "_writer_thread", None)
        return writer is not None and writer._queue.qsize() > 0

    def _note(self) -> str:
        """Why there are no lines."""
        slot, text = self._slot, self._text
        if text and text.trouble:
            return f"! the log cannot be read: {text.trouble}"
        if text is None:
            return "no output" if slot.run is not None else "free"
        if not text.ready:
            return "reading ..."
        if text.end == text.first:
            return "no output yet" if slot.active or slot.run is None else "no output"
        return "no line is let through by the filter" if self._found and self._found.done else "filtering ..."

    # ── title and subtitle ───────────────────────────────────────────────────────────────────────────────────

    def _show_title(self) -> None:
        told = title(self._slot, self._now)
        if self._titles[0] != told:
            self._titles = (told, self._titles[1])
            self._border_title = told
            self._repaint_edge(-1)

    def _show_subtitle(self) -> None:
        told = Content(" · ".join(filter(None, self._states())))
        if self._titles[1] != told:
            self._titles = (self._titles[0], told)
            self._border_subtitle = told
            self._repaint_edge(self.content_size.height)

    def _repaint_edge(self, y: int) -> None:
        """Of the border only the row with the text: setting it in Textual's way paints the whole pane."""
        self.refresh(Region(-1, y, self.outer_size.width, 1))

    def _states(self) -> list[str]:
        """What is worth knowing, in words."""
        view, parts = self._view, []
        if self._said:
            parts.append(self._said)
        if (selected := view.selected) and self._text:
            parts.append(f"{self._count_selected(selected):,} selected")
        if self._search:
            parts.append(f"/{self._search} {self._place_of_hit()}".rstrip())
        if self._filter:
            parts.append(f"{'not ' if self._inverse else ''}&{self._filter} {_counted(self._found)}".rstrip())
        if not view.follow:
            parts.append(f"+{view.new:,} new" if view.new else "staying")
        return parts

    def _place_of_hit(self) -> str:
        hits, at = self._hits, self._view.cursor
        if not hits or at is None or not hits.done:
            return _counted(hits)
        rank = hits.rank(at)
        on_hit = rank < hits.end and hits.line(rank) == at
        return f"{rank - hits.first + 1:,} of {hits.end - hits.first:,}" if on_hit else _counted(hits)

    def _count_selected(self, selected: tuple[int, int]) -> int:
        rows = self._view.rows
        return rows.row(selected[1] + 1) - rows.row(selected[0]) if rows else 0

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """`escape` is ours only while there is something to clear; `n` needs a search, `!` a filter."""
        match action:
            case "clear":
                return bool(self._view.cursor is not None or self._search or self._filter)
            case "seek":
                return True if self._search else None
            case "export" | "pager":
                return True if self._slot.run is not None and self._slot.log else None
        return True

    def _done(self, said: str = "") -> None:
        self._said = said
        self._show_subtitle()
        self.refresh_bindings()

    def action_follow(self) -> None:
        """Follow, or stay."""
        if self._view.follow:
            self._view.stay()
        else:
            self._view.to_end()
        self._done()

    def action_end(self) -> None:
        """Go to the end and follow."""
        self._view.to_end()
        self._done()

    def action_top(self) -> None:
        """Go to the first line."""
        self._view.to_top()
        self._done()

    def action_move(self, lines: int) -> None:
        """Move by a line, or with a selection its end."""
        if self._view.mark is not None:
            self._view.extend(lines)
        else:
            self._view.move(lines)
        self._done()

    def action_page(self, pages: int, part: int) -> None:
        """Move by a page, or a part of one."""
        lines = pages * max((self._view.size.height - (part == 1)) // part, 1)
        self.action_move(lines)

    def action_shift(self, columns: int) -> None:
        """Move sideways."""
        self._view.shift(columns)

    def action_wrap(self) -> None:
        """Wrap long lines, or cut them."""
        self._view.wrap = not self._view.wrap
        self._view.shift(0)
        self._done()

    def action_times(self) -> None:
        """Show when each line arrived, or not."""
        self._view.times = not self._view.times
        self._view.look()
        self._done()

    def action_zoom(self) -> None:
        """The app has the screen."""
        self.post_message(self.Zoom(self))

    def action_clear(self) -> None:
        """End the selection; else the search; else the filter."""
        view = self._view
        if view.cursor is not None:
            view.cursor = view.mark = None
            view.look()
        elif self._search:
            self._set_search("")
        else:
            self._set_filter("")
        self._done()

    def action_export(self) -> None:
        """The whole log into a file."""
        if self._slot.run is not None and self._slot.log:
            self.post_message(self.Export(self._slot.run, self._slot.log))

    def action_pager(self) -> None:
        """The whole log in the pager."""
        if self._slot.run is not None and self._slot.log:
            self.post_message(self.Pager(self._slot.run, self._slot.log))

    # ── selection ────────────────────────────────────────────────────────────────────────────────────────────

    def action_mark(self) -> None:
        """Begin a selection at the current line, or at the last one seen; or end it."""
        view = self._view
        if view.mark is not None:
            view.mark = None
        elif seen := view.seen:
            view.stay()
            if view.cursor not in seen:
                view.cursor = seen[-1]
            view.mark = view.cursor
        view.look()
        self._done()

    def action_copy(self) -> None:
        """The selection; without one the current line, while it is seen; without that the page."""
        view, text = self._view, self._text
        if text is None or view.rows is None or not (numbers := view.seen):
            return
        left_out = 0
        if selected := view.selected:
            first, end = view.rows.row(selected[0]), view.rows.row(selected[1] + 1)
            left_out = max(end - first - MOST_COPIED, 0)
            numbers = [view.rows.number(row) for row in range(first, end - left_out)]
        elif view.cursor in numbers:
            numbers = [view.cursor]
        self.post_message(self.Copied("\n".join(text.page(numbers)) + "\n", len(numbers), left_out))
        view.mark = None
        view.look()
        self._done()

    @on(LogView.Moved)
    def _moved(self, message: LogView.Moved) -> None:
        message.stop()
        self._done()

    # ── search and filter ────────────────────────────────────────────────────────────────────────────────────

    def action_search(self) -> None:
        """Type what to search."""
        self._open("search")

    def action_filter(self) -> None:
        """Type what the lines shown must have."""
        self._open("filter")

    def action_invert(self) -> None:
        """Show the lines that the filter hid, and hide the others."""
        if self._filter:
            self._inverse = not self._inverse
            self._set_filter(self._filter)
            self._done()
        else:
            self._inverse = True
            self._open("filter")

    def _open(self, what: str) -> None:
        self._kept, self._opened = (self._search, self._filter), what
        self._prompt.placeholder = {"search": "search in the log", "filter": "only lines with"}[what]
        if what == "filter" and self._inverse:
            self._prompt.placeholder = "only lines without"
        with self._prompt.prevent(Input.Changed):
            self._prompt.value = self._search if what == "search" else self._filter
        self._prompt.action_select_all()
        self._prompt.add_class("-open")
        self._prompt.focus()

    def _close(self) -> None:
        self._opened = ""
        self._prompt.remove_class("-open")
        self.focus()
        if not self._filter:
            self._inverse = False
        self._done()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if self._opened == "search":
            self._set_search(event.value)
        elif self._opened:
            self._set_filter(event.value)
        self._show_subtitle()

    @on(Input.Submitted)
    def _accepted(self, event: Input.Submitted) -> None:
        event.stop()
        searched = self._opened == "search"
        self._close()
        if searched and self._search:
            self._begin_seek(1)

    @on(LogPrompt.GivenUp)
    def _given_up(self, event: LogPrompt.GivenUp) -> None:
        event.stop()
        search, kept = self._kept
        if self._opened == "search":
            self._set_search(search)
        else:
            self._set_filter(kept)
        self._close()

    def _set_search(self, text: str) -> None:
        if text != self._search:
            self._search = text
            self._search_anew()

    def _set_filter(self, text: str) -> None:
        self._filter = text
        self._found = self._begin(text, self._inverse, self._found, among=False)
        self._view.only(self._found)
        self._search_anew()
        self._look()

    def action_seek(self, step: int) -> None:
        """Go to the next hit, or the one before."""
        self._begin_seek(step)

    def _begin_seek(self, step: int) -> None:
        self._seeking = step
        self._said = ""
        self._seek()
        self._done(self._said)

    def _seek(self) -> None:
        """Go to the hit that is wanted, if it is known by now."""
        hits, view = self._hits, self._view
        if hits is None:
            self._seeking = 0
            return
        here = view.cursor if view.cursor in view.seen and view.cursor is not None else None
        if self._seeking > 0:
            start = view.number_at_top if here is None else here + 1
            if hits.low > start and not hits.done:
                return
            rank = hits.rank(start)
        else:
            rank = hits.rank((view.seen or [0])[-1] + 1 if here is None else here) - 1
        if not hits.first <= rank < hits.end:
            if not hits.done:
                return
            if hits.first == hits.end:
                self._said, self._seeking = "not found", 0
                return
            rank = hits.first if self._seeking > 0 else hits.end - 1
            self._said = "wrapped around"
        self._seeking = 0
        view.go_to(hits.line(rank))

    # ── milestones ───────────────────────────────────────────────────────────────────────────────────────────

    def action_milestone(self, step: int) -> None:
        """Go to the next milestone, or the one before."""
        text, view = self._text, self._view
        if text is None:
            return
        known = [(number, mark) for mark in self._slot.marks if (number := text.locate(mark.offset)) is not None]
        at_cursor = view.cursor is not None and view.cursor in view.seen
        here = view.cursor if at_cursor and view.cursor is not None else view.number_at_top
        if step > 0:
            found = next((one for one in known if one[0] > here or (one[0] == here and not at_cursor)), None)
        else:
            found = next((one for one in reversed(known) if one[0] < here), None)
        if found is None:
            self._done("no further milestone" if known else "no milestone yet")
            return
        view.go_to(found[0])
        self._done(f"milestone {known.index(found) + 1} of {len(known)}: {found[1].kind.replace('_', ' ')}")


def _counted(found: Matches | None) -> str:
    """How many, and how far the scan is."""
    if found is None:
        return ""
    count = f"({found.end - found.first:,})"
    return count if found.done else f"{count} {found.fraction:.0%}".replace("%", " %")
