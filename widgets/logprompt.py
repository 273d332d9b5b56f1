"""The line at the foot of a log pane."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from widgets.inputs import CleanInput


class LogPrompt(CleanInput):
    """The line at the foot, for what is searched or filtered."""

    DEFAULT_CSS = """
    LogPrompt { height: 1; border: none; padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "give_up", "as it was", show=False)]

    class GivenUp(Message):
        """Escape was pressed."""

    def action_give_up(self) -> None:
        """Leave everything as it was."""
        self.post_message(self.GivenUp())
