"""A Line-API view whose scrolling is its own: Textual's scrollbar and wheel only ask for it.

Textual hangs what is seen on a height in rows, lays out the whole screen when that height grows, and paints the
scrollbar at each change. Here the size is set silently, and the scrollbar touched only when its thumb moves by a cell.
"""

from __future__ import annotations

from abc import abstractmethod

from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.scrollbar import ScrollDown, ScrollTo, ScrollUp

WHEEL = 3
"""Rows a step of the mouse wheel moves."""


class OwnScroll(ScrollView, can_focus=False):
    """Base of a view that implements `move` and `move_to`."""

    class Moved(Message):
        """The mouse has moved or selected something."""

    def __init__(self) -> None:
        super().__init__()
        self._thumb = (-1, -1, -1)

    @property
    def room(self) -> int:
        """Cells in a row: `size` has the scrollbar's column too, under which a text would not be seen."""
        return self.scrollable_content_region.width

    @abstractmethod
    def move(self, count: int) -> None:
        """Move by rows, down for a positive count."""

    @abstractmethod
    def move_to(self, row: int) -> None:
        """Bring a row to the top, counted from the first one."""

    def set_bar(self, total: int, at: int) -> None:
        """Tell Textual silently that row `at` of so many is at the top, and the scrollbar when that moves its thumb."""
        width, height = self.size
        total = max(total, height)
        at = min(max(at, 0), total - height)
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

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """The wheel."""
        self._moved(event, WHEEL)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """The wheel."""
        self._moved(event, -WHEEL)

    def on_scroll_up(self, message: ScrollUp) -> None:
        """A click above the scrollbar's thumb."""
        self._moved(message, -max(self.size.height - 1, 1))

    def on_scroll_down(self, message: ScrollDown) -> None:
        """A click below it."""
        self._moved(message, max(self.size.height - 1, 1))

    def on_scroll_to(self, message: ScrollTo) -> None:
        """The thumb is dragged."""
        if message.y is not None:
            self.move_to(round(message.y))
        self._moved(message, 0)

    def _moved(self, message: Message, rows: int) -> None:
        message.stop().prevent_default()
        if rows:
            self.move(rows)
        self.post_message(self.Moved())
