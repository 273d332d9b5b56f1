"""A staging slot's pane: what its run prints, live, with search, filter, milestones, selection and copy.

The pane has the title, the keys and the line to type in; `LogView` below has the lines. It reads nothing itself:
`text` is what the app gives it. It looks at it ten times a second (five over SSH) while it grows, not at all while the
terminal still has frames to take.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import Input

from aogconsole.board import Slot
from widgets.logbeat import Beat
from widgets.logfind import LogFinder
from widgets.logframe import LogFrame
from widgets.logkeys import KEYS
from widgets.logtext import LogText
from widgets.logtitle import note, title
from widgets.logview import LogView
from widgets.steady import Steady

if TYPE_CHECKING:
    from widgets.logprompt import LogPrompt

SOON = 0.01
"""Seconds between two looks at a text that has just been opened."""


class LogPane(Steady, LogFrame, can_focus=True):
    """The output of the run in a staging slot."""

    DEFAULT_CSS = """
    LogPane {
        border: round $border-blurred;
        &:focus, &:focus-within { border: round $border; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*KEYS]

    class Copied(Message):
        """Lines for the clipboard: clean, as they are shown. `left_out` of the selection are not in it."""

        def __init__(self, text: str, lines: int, left_out: int = 0) -> None:
            super().__init__()
            self.text = text
            self.lines = lines
            self.left_out = left_out

    class OfRun(Message):
        """Something is wanted of a run's whole log."""

        def __init__(self, run: int, path: Path) -> None:
            super().__init__()
            self.run = run
            self.path = path

    class Export(OfRun):
        """The log as a file; the app asks for its name."""

    class Pager(OfRun):
        """The log in the pager."""

    def __init__(self, slot: Slot | None = None, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._slot = slot or Slot("")
        self._now = datetime.now(UTC)
        self._text: LogText | None = None
        self._generation = 0
        self._finder = LogFinder()
        self._kept: tuple[str, str] = ("", "")  # what was typed, before the prompt was opened
        self._filtered: object = self._slot.run  # the run that the filter is for
        self._said = ""
        self._own_beat = self._beat = Beat()
        self._beaten: object = None
        self._opened = ""
        self._prompt: LogPrompt | None = None

    def compose(self) -> ComposeResult:
        """The lines; the line to type in comes when it is wanted."""
        yield self.view

    def on_mount(self) -> None:
        """Look from now on."""
        beside = [pane for pane in self.parent.children if isinstance(pane, LogPane)] if self.parent else [self]
        self._beat = beside[0]._own_beat
        if beside[0] is self:
            self._beat.start(self, beside)
        self._show_title()
        self.look()

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
            self._drop_filter()
            self.look()

    def _drop_filter(self) -> None:
        """Another run has come: a filter made for the one before would hide how it ends. One being typed is for it."""
        if self._slot.run not in (None, self._filtered):
            self._filtered = self._slot.run
            self._kept = self._kept[0], ""
            if self._finder.filter and self._opened != "filter":
                self._finder.inverse = False
                self._set_filter("")

    @property
    def text(self) -> LogText | None:
        """The lines. Who sets it closes the one that was there before."""
        return self._text

    @text.setter
    def text(self, text: LogText | None) -> None:
        if text is not self._text:
            self._text = text
            if text:
                text.tell = self._told
            self._renew()

    def tick(self, now: datetime) -> None:
        """It is later."""
        self._now = now
        if self._slot.active:  # nothing else changes by itself
            self._show_title()

    @property
    def toggles(self) -> dict[str, Any]:
        """What is worth remembering."""
        return {
            "wrap": self.view.paint.wrap,
            "times": self.view.paint.times,
            "filter": self._finder.filter,
            "inverse": self._finder.inverse,
            "run": self._filtered,
        }

    @toggles.setter
    def toggles(self, values: Mapping[str, Any]) -> None:
        self.view.paint.wrap = values.get("wrap") is True
        self.view.paint.times = values.get("times") is True
        kept = values.get("filter")
        text = "".join(filter(str.isprintable, kept)) if isinstance(kept, str) else ""
        self._finder.set_filter(text, inverse=values.get("inverse") is True)
        self._filtered = values.get("run")
        self._renew()
        self._drop_filter()

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────

    def _renew(self) -> None:
        """The text is another one: begin at its end, with the same filter."""
        self._generation = self._text.generation if self._text else 0
        self._finder.use(self._text)
        self.view.show(self._text)
        self.view.only(self._finder.found)
        if self.is_mounted:
            self.look()
            self._beat.wake()

    def _told(self) -> None:
        """The text has something new; called in its thread."""
        self._beat.news()

    def stirs(self) -> bool:
        """Whether there may be news: a log at rest costs nothing. What the operator does has its own look."""
        text, finder = self._text, self._finder
        now = text and (text.size, text.first, text.end, text.generation, text.ready, text.trouble)
        stirs = now != self._beaten or bool(finder.search or finder.filter)
        if not self.busy:
            self._beaten = now
        return stirs

    def look(self) -> None:
        """Paint what is new, unless the terminal has not yet taken what was painted."""
        text = self._text
        if self.busy:
            return
        if text and text.generation != self._generation:
            self._renew()
            return
        if text and not text.ready:
            self.set_timer(SOON, self.look)
        if self._finder.seeking:
            self._seek()
        self.view.note = note(self._slot, text, self._finder.found)
        self.view.look()
        self._show_subtitle()

    # ── title and subtitle ───────────────────────────────────────────────────────────────────────────────────

    def _show_title(self) -> None:
        self.set_edges(title(self._slot, self._now), self._foot)

    def _show_subtitle(self) -> None:
        self.set_edges(self._head, Content(" · ".join(self._states())))

    def _states(self) -> list[str]:
        """What is worth knowing, in words."""
        view, parts = self.view, []
        if self._said:
            parts.append(self._said)
        if view.mark is not None:
            parts.append(f"{len(view.selection):,} selected")
        parts += self._finder.states(view.cursor)
        if not view.follow:
            parts.append(f"+{view.new:,} new" if view.new else "staying")
        return parts

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """`escape` is ours only while there is something to clear; `n` needs a search, `!` a filter."""
        match action:
            case "clear":
                return bool(self.view.cursor is not None or self._finder.search or self._finder.filter)
            case "seek":
                return True if self._finder.search else None
            case "export" | "pager":
                return True if self._of_run() else None
        return True

    def done(self, said: str = "") -> None:
        """A key was obeyed; what there is to say about it stays until the next."""
        self._said = said
        self._show_subtitle()
        self.refresh_bindings()

    def action_clear(self) -> None:
        """End the selection; else the search; else the filter."""
        view = self.view
        if view.cursor is not None:
            view.cursor = view.mark = None
            view.look()
        elif self._finder.search:
            self._set_search("")
        else:
            self._set_filter("")
        self.done()

    def _of_run(self) -> tuple[int, Path] | None:
        slot = self._slot
        return None if slot.run is None or slot.log is None else (slot.run, slot.log)

    def action_export(self) -> None:
        """The whole log into a file."""
        if found := self._of_run():
            self.post_message(self.Export(*found))

    def action_pager(self) -> None:
        """The whole log in the pager."""
        if found := self._of_run():
            self.post_message(self.Pager(*found))

    # ── selection ────────────────────────────────────────────────────────────────────────────────────────────

    def action_copy(self) -> None:
        """The selection; without one the current line, while it is seen; without that the page."""
        numbers, left_out = self.view.to_copy()
        if self._text and numbers:
            self.post_message(self.Copied("\n".join(self._text.page(numbers)) + "\n", len(numbers), left_out))
            self.view.mark = None
            self.view.look()
            self.done()

    @on(LogView.Moved)
    def _moved(self, message: LogView.Moved) -> None:
        message.stop()
        self.done()

    # ── search and filter ────────────────────────────────────────────────────────────────────────────────────

    def action_look_for(self, what: str) -> None:
        """Type what to search, or what the lines shown must have."""
        self._open(what)

    def action_invert(self) -> None:
        """Show the lines that the filter hid, and hide the others."""
        finder = self._finder
        finder.inverse = not finder.inverse
        if finder.filter:
            self._set_filter(finder.filter)
            self.done()
        else:
            self._open("filter")

    def _open(self, what: str) -> None:
        from widgets.logprompt import LogPrompt

        self._kept, self._opened = (self._finder.search, self._finder.filter), what
        if self._prompt is None:
            self._prompt = LogPrompt(compact=True)
            self.mount(self._prompt)
        wanted = "only lines without" if self._finder.inverse else "only lines with"
        self._prompt.open("search in the log" if what == "search" else wanted, self._kept[what == "filter"])

    def _close(self) -> None:
        self._opened = ""
        if self._prompt is not None:
            self._prompt.display = False
        self.focus()
        if not self._finder.filter:
            self._finder.inverse = False
        self.done()

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
        if searched and self._finder.search:
            self._begin_seek(1)

    def on_log_prompt_given_up(self, event: LogPrompt.GivenUp) -> None:
        """Escape: search or filter are as they were."""
        event.stop()
        search, kept = self._kept
        if self._opened == "search":
            self._set_search(search)
        else:
            self._set_filter(kept)
        self._close()

    def _set_search(self, text: str) -> None:
        if text != self._finder.search:
            self._finder.set_search(text)
            self.view.highlight(text)
            self._beat.wake()

    def _set_filter(self, text: str) -> None:
        self._finder.set_filter(text, inverse=self._finder.inverse)
        self.view.only(self._finder.found)
        self.look()
        self._beat.wake()

    def action_seek(self, step: int) -> None:
        """Go to the next hit, or the one before."""
        self._begin_seek(step)

    def _begin_seek(self, step: int) -> None:
        self._finder.seek(step)
        self._said = ""
        self._seek()
        self.done(self._said)

    def _seek(self) -> None:
        """Go to the hit that is wanted, if it is known by now."""
        view, seen = self.view, self.view.seen or [0]
        here = view.cursor if view.cursor in seen else None
        after, before = (seen[0], seen[-1] + 1) if here is None else (here + 1, here)
        number, said = self._finder.target(after, before)
        self._said = said or self._said
        if number is not None:
            view.go_to(number)

    # ── milestones ───────────────────────────────────────────────────────────────────────────────────────────

    def action_milestone(self, step: int) -> None:
        """Go to the next milestone, or the one before."""
        text, view = self._text, self.view
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
            self.done("no further milestone" if known else "no milestone yet")
            return
        view.go_to(found[0])
        self.done(f"milestone {known.index(found) + 1} of {len(known)}: {found[1].kind.replace('_', ' ')}")
