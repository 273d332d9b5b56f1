"""Text of many lines that is written or pasted: clean at every moment, and not lost by a slip."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea
from textual.widgets.text_area import Edit, EditResult

from aogconsole.text import pasted
from widgets.dialogs import Confirm, Dialog


class CleanArea(TextArea):
    """A text area in which a control character is visible text, however it came in."""

    LONGEST = 1_000_000
    """Characters that come at once: more would hold the console up for seconds."""

    class TooLong(Message):
        """What was pasted is longer than the area takes, and was left out."""

    def load_text(self, text: str) -> None:
        """Replace the whole text."""
        super().load_text(pasted(text))

    def edit(self, edit: Edit) -> EditResult:
        """Every change passes here: a key, a paste, an undo."""
        too_long = len(edit.text) > self.LONGEST
        edit.text = "" if too_long else pasted(edit.text)
        result = super().edit(edit)
        if too_long:
            self.post_message(self.TooLong())
        return result


class AreaDialog(Dialog[str]):
    """A text area that fills the screen; `ctrl+o` gives its text, `escape` asks before it throws text away."""

    DEFAULT_CSS = """
    AreaDialog { background: $background; }
    AreaDialog > #box { width: 100%; height: 100%; overflow: hidden hidden; }
    AreaDialog #lines { margin: 0; }
    AreaDialog TextArea { height: 1fr; padding: 0; border: none; background: $surface; }
    AreaDialog TextArea:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+o,f2", "done", "done", id="area.done")]
    THROW_AWAY = "Throw the text away?"

    def __init__(self, title: str, lines: tuple[str, ...], text: str = "", *, written: str = "") -> None:
        """`text` is what is to be changed; `written` was, and could not be used."""
        super().__init__(title, lines)
        self._before, self._written = pasted(text), pasted(written)

    def body(self) -> ComposeResult:
        """The area."""
        yield CleanArea(
            self._written or self._before, show_line_numbers=False, highlight_cursor_line=False, tab_behavior="focus"
        )

    @property
    def text(self) -> str:
        """What is written now."""
        return self.query_one(CleanArea).text

    def wrong(self, text: str) -> str:
        """What is wrong with the text, in a sentence; nothing for a good one."""
        return ""

    def on_clean_area_too_long(self) -> None:
        """Say that a paste was left out."""
        self.tell("that was longer than 1 MB, and was left out: give it to the command line as a file")

    def action_done(self) -> None:
        """Give the text, or say what is wrong with it."""
        sentence = self.wrong(self.text)
        self.tell(sentence)
        if not sentence:
            self.answer(self.text)

    def action_cancel(self) -> None:
        """Close; with changes, only after asking."""
        if self.text == self._before:
            self.answer(None)
            return
        question = Confirm(self.THROW_AWAY, ["What was written here is lost."], "throw away", "go on", danger=True)
        self.ask(question, self._thrown_away)

    def _thrown_away(self, yes: Any) -> None:
        if yes:
            self.answer(None)
