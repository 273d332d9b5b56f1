"""The frame of a log pane: what stands in its border, and the keys that only move and change how lines look."""

from __future__ import annotations

from abc import abstractmethod

from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region
from textual.message import Message

from widgets.logview import LogView


class LogFrame(Vertical):
    """Base of the pane: a view of lines in a border with a title above and a state below."""

    class Zoom(Message):
        """The whole screen for this pane, or back."""

        def __init__(self, pane: LogFrame) -> None:
            super().__init__()
            self.pane = pane

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.view = LogView()
        self._head = self._foot = Content("")

    @abstractmethod
    def done(self, said: str = "") -> None:
        """A key was obeyed; there may be something to say about it."""

    @property
    def following(self) -> bool:
        """Whether the end stays in view."""
        return self.view.follow

    @property
    def new_lines(self) -> int:
        """How many lines have come since it stopped following."""
        return self.view.new

    @property
    def busy(self) -> bool:
        """Whether the terminal has not yet taken what was painted: then nothing more should be."""
        writer = getattr(self.app._driver, "_writer_thread", None)
        return writer is not None and writer._queue.qsize() > 0

    def set_edges(self, head: Content, foot: Content) -> None:
        """What stands in the border. Only its two rows are painted: set in Textual's way, the whole pane would be."""
        if head != self._head:
            self._head = self._border_title = head
            self.refresh(Region(-1, -1, self.outer_size.width, 1))
        if foot != self._foot:
            self._foot = self._border_subtitle = foot
            self.refresh(Region(-1, self.content_size.height, self.outer_size.width, 1))

    def action_zoom(self) -> None:
        """The app has the screen."""
        self.post_message(self.Zoom(self))

    def action_follow(self) -> None:
        """Follow, or stay."""
        if self.view.follow:
            self.view.stay()
        else:
            self.view.to_end()
        self.done()

    def action_end(self) -> None:
        """Go to the end and follow."""
        self.view.to_end()
        self.done()

    def action_top(self) -> None:
        """Go to the first line."""
        self.view.to_top()
        self.done()

    def action_move(self, lines: int) -> None:
        """Move by a line, or with a selection its end."""
        if self.view.mark is not None:
            self.view.extend(lines)
        else:
            self.view.move(lines)
        self.done()

    def action_page(self, pages: int, part: int) -> None:
        """Move by a page, or a part of one."""
        lines = pages * max((self.view.size.height - (part == 1)) // part, 1)
        self.action_move(lines)

    def action_shift(self, columns: int) -> None:
        """Move sideways."""
        self.view.shift(columns)

    def action_wrap(self) -> None:
        """Wrap long lines, or cut them."""
        self.view.paint.wrap = not self.view.paint.wrap
        self.view.shift(0)
        self.done()

    def action_times(self) -> None:
        """Show when each line arrived, or not."""
        self.view.paint.times = not self.view.paint.times
        self.view.look()
        self.done()

    def action_mark(self) -> None:
        """Begin a selection at the current line, or at the last one seen; or end it."""
        view = self.view
        if view.mark is not None:
            view.mark = None
        elif seen := view.seen:
            view.stay()
            if view.cursor not in seen:
                view.cursor = seen[-1]
            view.mark = view.cursor
        view.look()
        self.done()
