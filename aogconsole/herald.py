"""What is told outside the panes: the bell and the window's title, which work over SSH; and who runs the engine."""

from __future__ import annotations

from collections.abc import Callable

from aogconsole.attached import AttachedEngine
from aogconsole.board import Board, Line
from aogconsole.text import clean

NEWS = frozenset({"failed", "unclear", "staged", "refused"})
"""States whose arrival rings, once."""
TROUBLE = frozenset({"failed", "unclear"})
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
        self._broken: frozenset[str] = frozenset()
        self._seen: set[tuple[int, str]] = set()

    def tell(self, board: Board) -> str:
        """Tell what a new board brings; the first only names the window. Returns what broke, in a sentence."""
        news = frozenset((line.id, line.state) for line in board.lines if line.state in NEWS)
        if self._bell and self._news is not None and news - self._news and not board.query.text:
            self._write("\a")
        self._news = news if not board.query.text or self._news is None else self._news
        title = f"{'! ' if board.needs else ''}AOG console: {board.needs} need you, {board.open} open"
        if title != self._title:
            self._write(f"{'' if self._title else SAVE}\x1b]0;{title}\x07")
            self._title = title
        broken = {light.name: light.detail for light in board.lights if light.ok is False}
        fresh = [f"{name}: {detail}" for name, detail in broken.items() if name not in self._broken]
        self._broken = frozenset(broken)
        return "; ".join(fresh)

    def seen(self, line: Line | None) -> None:
        """The operator has looked at a request."""
        if line is not None:
            self._seen.add((line.id, line.state))

    def trouble(self, board: Board) -> bool:
        """Whether something failed that nobody here has looked at, or a connection is broken."""
        failed = {(line.id, line.state) for line in board.lines if line.state in TROUBLE}
        return bool(failed - self._seen or self._broken)

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
