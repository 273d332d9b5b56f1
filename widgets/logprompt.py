"""The line at the foot of a log pane."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from widgets.inputs import LineBelow


class LogPrompt(LineBelow):
    """The line at the foot, for what is searched or filtered."""

    DEFAULT_CSS = """
    LogPrompt { height: 1; border: none; padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "give_up", "as it was", show=False)]

    class GivenUp(Message):
        """Escape was pressed."""

    def open(self, wanted: str, text: str) -> None:
        """Have a text typed; `text` is there already, selected."""
        self.placeholder = wanted
        with self.prevent(self.Changed):
            self.value = text
        self.action_select_all()
        self.display = True
        self.focus()

    def action_give_up(self) -> None:
        """Leave everything as it was."""
        self.post_message(self.GivenUp())
