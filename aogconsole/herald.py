"""What is told outside the panes: the bell and the window's title, which work over SSH; and who runs the engine."""

from __future__ import annotations

from collections.abc import Callable

from aogconsole.attached import AttachedEngine
from aogconsole.board import Board
from aogconsole.text import clean

NEWS = frozenset({"failed", "unclear", "staged", "refused"})
"""States whose arrival rings, once."""
HERE = "engine here"
SAVE, BACK = "\x1b[22;0t", "\x1b[23;0t"
"""The terminal keeps its title, and takes it back."""


class Herald:
    """Rings when something ended or needs a person, and names the window."""

    def __init__(self, write: Callable[[str], None], *, bell: bool) -> None:
        """`write`: to the terminal, as it is."""
        self._write, self._bell = write, bell
        self._news: frozenset[tuple[int, str]] | None = None
        self._title = ""

    def tell(self, board: Board) -> None:
        """Tell what a new board brings; the first only names the window."""
        news = frozenset((line.id, line.state) for line in board.lines if line.state in NEWS)
        if self._bell and self._news is not None and news - self._news and not board.query.text:
            self._write("\a")
        self._news = news if not board.query.text or self._news is None else self._news
        title = f"{'! ' if board.needs else ''}AOG console: {board.needs} need you, {board.open} open"
        if title != self._title:
            self._write(f"{'' if self._title else SAVE}\x1b]0;{title}\x07")
            self._title = title

    def leave(self) -> None:
        """Give the terminal its title back."""
        if self._title:
            self._write(BACK)


def engine_words(board: Board, ours: AttachedEngine | None) -> str:
    """Who runs the engine, for the title line."""
    if board.paused:
        return f"PAUSED by {board.paused}"
    if ours is not None and ours.pid is not None and board.engine_pid == ours.pid:
        return HERE
    if board.engine:
        return board.engine.partition(" since")[0]
    return clean(f"NO ENGINE: {ours.why}" if ours is not None and ours.why else "no engine")
