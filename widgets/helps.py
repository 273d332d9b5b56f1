"""The help for the focused part: what it is, and its keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual.binding import Binding, BindingType

from aogconsole.text import clean
from widgets.pages import Page
from widgets.textpane import TextPane

Group = tuple[str, Sequence[tuple[str, str]]]
"""A heading, and under it pairs: a key and what it does."""


class HelpScreen(Page[None]):
    """The keys in groups; closes with `?`, `q` and `escape`."""

    DEFAULT_CSS = """
    HelpScreen { background: $background 60%; }
    HelpScreen > #box { width: 76; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark", "cancel", "close", show=False, id="help.close")]

    def __init__(self, focused: str, about: str, groups: Sequence[Group]) -> None:
        """`about` is a line on what the focused part is."""
        self._groups = groups
        super().__init__(f"Help · {focused}", [about] if about else [])

    def make_pane(self) -> TextPane:
        """Keys on the left, what they do on the right."""
        groups = [(clean(head), [(clean(key), clean(what)) for key, what in keys]) for head, keys in self._groups]
        width = max((cell_len(key) for _, keys in groups for key, _ in keys), default=0)
        width = min(width, 22)
        lines: list[str] = []
        spans = {}
        for head, keys in groups:
            spans[len(lines) + 1] = ((0, len(head), "strong"),)
            lines += ["", head]
            for key, what in keys:
                spans[len(lines)] = ((0, len(key) + 2, "strong"),)
                lines.append(f"  {key}{' ' * (width - cell_len(key))}  {what}")
        return TextPane(lines, spans)
