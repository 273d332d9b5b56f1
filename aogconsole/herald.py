"""What is told outside the panes: the bell and the window's title, which work over SSH; and who runs the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aogconsole.attached import AttachedEngine
from aogconsole.board import Board, Line
from aogconsole.reingestionboard import ReingestionBoard
from aogconsole.text import clean

NEWS = frozenset({"failed", "unclear", "staged", "refused"})
"""States whose arrival rings, once."""
FAILURES = frozenset({"failed", "muddled", "letter_trouble", "bounced"})
"""Verbs of the engine by which something went wrong; a mail that is unclear is work, not trouble."""
HERE = "engine here"
SAVE, BACK = "\x1b[22;0t", "\x1b[23;0t"
"""The terminal keeps its title, and takes it back."""


class Herald:
    """Rings when something ended or needs a person, says what broke, and names the window."""

    def __init__(self, write: Callable[[str], None], who: str, *, bell: bool) -> None:
        """`write`: to the terminal, as it is. What `who` does at the desk is no news to them."""
        self._write, self._who, self._bell = write, who, bell
        self._told: int | None = None
        self._title = ""
        self._broken: frozenset[str] = frozenset()
        self._unseen: set[int] = set()
        self._engine = ""
        self._queue: tuple[frozenset[tuple[str, int, int]], int, str] | None = None
        self._queue_unseen = False

    def engine(self, ours: AttachedEngine | None, say: Callable[[str], None]) -> None:
        """Say once why our engine does not run."""
        why = ours.why if ours is not None else ""
        if why and why != self._engine:
            say(f"There is no engine: {why}")
        self._engine = why

    def tell(self, board: Board) -> tuple[str, bool]:
        """Tell what a new board brings. Returns what is to be said of it, and whether it is trouble."""
        self._name(board)
        warnings = self._warnings(board)
        failed = self._news(board)
        broken = {light.name: light.detail for light in board.lights if light.ok is False}
        if board.trouble:
            broken["journal"] = board.trouble
        fresh = [f"{name}: {detail}" for name, detail in broken.items() if name not in self._broken]
        mended = sorted(self._broken - broken.keys())
        self._broken = frozenset(broken)
        if failed or fresh:
            return _sentences([*fresh, *failed, *warnings]), True
        if warnings:
            return _sentences(warnings), False
        return f"{', '.join(mended)}: answers again." if mended else "", False

    def queue(self, board: ReingestionBoard) -> tuple[str, bool]:
        """Tell what is new in re-ingestion: items that need a person now, and a loader that fails. As `tell`."""
        if not board.told:
            return "", False
        keys = frozenset((one.queue, one.id, one.attempt) for one in board.needy)
        count, before = board.count("dead", "launch_unknown"), self._queue
        self._queue = keys, count, board.loader.error
        if before is None:
            self._queue_unseen = count > 0
            return "", False
        fresh = [one for one in board.needy if (one.queue, one.id, one.attempt) not in before[0]]
        said = [f"Item {one.id} of the re-ingestion is {one.state}: {one.why or one.uid}" for one in fresh[:1]]
        more = max(len(fresh), count - before[1]) - len(said)
        if more > 0:
            one = more == 1
            what = "more" if said else f"item{'' if one else 's'} of the re-ingestion"
            said.append(f"{more} {what} need{'s' if one else ''} you")
        self._queue_unseen = (self._queue_unseen or bool(said)) and count > 0
        if board.loader.error and board.loader.error != before[2]:
            said.append(f"The loader: {board.loader.error}")
        if said and self._bell:
            self._write("\a")
        return _sentences(said), True

    def seen_queue(self) -> None:
        """The operator has looked at the re-ingestion panel."""
        self._queue_unseen = False

    def _news(self, board: Board) -> list[str]:
        """Ring for what has happened to requests since the last board; returns what failed."""
        if self._told is None:
            self._unseen = {line.id for line in board.lines if line.state == "failed"}
            fresh = []
        else:
            fresh = [act for act in board.acts if act.seq > self._told and act.request is not None]
            if board.acts and board.acts[0].seq > self._told + 1:  # more happened than a board tells of: we were asleep
                self._unseen |= {line.id for line in board.lines if line.state == "failed"}
        self._told = max([self._told or 0, *(act.seq for act in board.acts)])
        news = [act for act in fresh if act.target in NEWS and act.who != self._who]
        if news and self._bell:
            self._write("\a")
        for act in fresh:
            if act.request is not None:
                (self._unseen.add if act.verb in FAILURES else self._unseen.discard)(act.request)
        whys = {line.id: line.why for line in board.lines}
        failed = [act.request for act in news if act.verb in FAILURES and act.request in self._unseen]
        return [f"Request {request} needs you: {whys.get(request or 0) or 'it failed'}" for request in failed]

    def _warnings(self, board: Board) -> list[str]:
        """What is said of staged data that will be deleted soon: by `staging.warn_days`, once."""
        told = self._told
        fresh = [act for act in board.acts if told is not None and act.verb == "warn" and act.seq > told]
        if not fresh:
            return []
        said = fresh[-1].text.partition(": ")[2]
        more = f" (and {len(fresh) - 1} more)" if fresh[1:] else ""
        return [f"{said[:1].upper()}{said[1:]}{more}"]

    def _name(self, board: Board) -> None:
        title = f"{'! ' if board.needs else ''}AOG console: {board.needs} need you, {board.open} open"
        if title != self._title:
            self._write(f"{'' if self._title else SAVE}\x1b]0;{title}\x07")
            self._title = title

    def seen(self, line: Line | None) -> None:
        """The operator has looked at a request."""
        if line is not None:
            self._unseen.discard(line.id)

    @property
    def trouble(self) -> bool:
        """Whether something failed that nobody here has looked at, or a connection or our engine is broken."""
        loader = self._queue is not None and self._queue[2]
        return bool(self._unseen or self._broken or self._engine or self._queue_unseen or loader)

    def leave(self) -> None:
        """Give the terminal its title back."""
        if self._title:
            self._write(BACK)


def _sentences(parts: Sequence[str]) -> str:
    """Parts one after the other; some end with a full stop of their own, as what others say does."""
    return ". ".join([*(one.rstrip(". ") for one in parts[:-1]), *parts[-1:]])


def engine_words(board: Board, ours: AttachedEngine | None) -> str:
    """Who runs the engine, for the title line."""
    if board.paused:
        return f"PAUSED by {board.paused}"
    if ours is not None and ours.pid is not None and board.engine_pid == ours.pid:
        return HERE
    if board.engine:
        return board.engine.partition(" since")[0]
    return clean(f"NO ENGINE: {ours.why}" if ours is not None and ours.why else "no engine")
