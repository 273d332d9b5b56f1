"""A line to type in."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Paste
from textual.widgets import Input

from aogconsole.text import clean
from widgets.steady import Steady


class CleanInput(Steady, Input):
    """An input whose text is clean at every moment, however it came in: typed, pasted or given."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "go on", key_display="enter", id="input.submit")
    ]
    below = False
    """Whether it is a line below a pane, to which enter and escape go back."""

    def _on_paste(self, event: Paste) -> None:
        """All lines of it in one, before Textual takes the first and leaves the others out without a word."""
        event.text = " ".join(line.strip() for line in event.text.splitlines() if line.strip())

    def validate_value(self, value: str) -> str:
        """Textual calls it for every new value."""
        return clean(value)

    def replace(self, text: str, start: int, end: int) -> None:
        """Every typed or pasted text passes here; the cursor goes behind it as it stands then."""
        super().replace(clean(text), start, end)


class LineBelow(CleanInput):
    """The line below a pane for what is searched or filtered in it."""

    below = True
