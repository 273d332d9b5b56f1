"""What the console shows, as values: read from the journal by `aogconsole.watch`, painted by the widgets.

Every text in here has passed `text.clean`: nothing in a board can act on a terminal. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from aogconsole.values import Value, value


@value(frozen=True)
class Line(Value):
    """One line of the request queue."""

    id: int
    version: int
    """What was seen when an action is decided on."""
    state: str
    ticket: str
    """Empty when the mail had none; as `mous`."""
    mous: str
    received_at: datetime
    next_action: str
    """The verb that comes next, `wait` while the engine is at it, empty when closed."""
    why: str
    needs: bool
    """Whether it waits for a person."""
    position: int | None = None
    """In the queue for a slot, 1 is next."""
    slot: str = ""
    """A, B, ... while a run is on."""
    letter: int | None = None
    """The letter that is drafted, approved or being sent."""
    letter_state: str = ""
    run: int | None = None
    """The newest run."""
    claimed_by: str = ""
    entitled: bool = False
    """Whether the verdict is yes."""
    complete: bool = True
    """Whether MOUS, project, account and ticket are all known."""
    doubt: str = ""
    """Why its mail was not taken for certain, as long as nobody has accepted it."""
    siblings: int = 1
    """Requests of the same ticket in this list."""


@value(frozen=True)
class Mark(Value):
    """A milestone of a run, where its line begins in the log file."""

    kind: str
    text: str
    offset: int
    """Byte."""


@value(frozen=True)
class Slot(Value):
    """One staging slot: the run in it, or the last that was, or nothing."""

    name: str
    """A, B, ..."""
    run: int | None = None
    request: int | None = None
    ticket: str = ""
    mous: str = ""
    state: str = ""
    """Of the run: starting, running, succeeded, failed, unclear, lost, stopped; empty for none."""
    why: str = ""
    phase: str = ""
    """In words: generating, copying, ..."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expected_end: datetime | None = None
    marks: tuple[Mark, ...] = ()
    log: Path | None = None
    """The run's output; it may not be there yet."""
    next: str = ""
    """The request that comes into it next, in words, while it is free."""

    @property
    def active(self) -> bool:
        """Whether its run is on."""
        return self.state in ("starting", "running")

    @property
    def trouble(self) -> bool:
        """Whether its run ended in a way that needs a person."""
        return self.state in ("failed", "unclear", "lost")


@value(frozen=True)
class Light(Value):
    """How a connection is."""

    name: str
    """archive, staging, mail, outgoing, broker, metadata."""
    ok: bool | None
    """None: not tried yet, or not configured."""
    detail: str = ""
    since: str = ""


@value(frozen=True)
class LetterLine(Value):
    """A letter of the selected request."""

    id: int
    version: int
    kind: str
    state: str
    why: str = ""
    sent_at: str = ""


@value(frozen=True)
class Detail(Value):
    """The selected request with its evidence."""

    line: Line
    fields: Mapping[str, Any]
    """The contract's JSON document of the request, cleaned."""
    letters: tuple[LetterLine, ...] = ()
    sender: str = ""
    """The mail's From address."""
    subject: str = ""
    text: str = ""
    """The mail as it was read, lines."""


@value(frozen=True)
class Act(Value):
    """A row of the history: what somebody did."""

    seq: int
    at: str
    who: str
    text: str
    """The deed in words."""
    verb: str = ""
    request: int | None = None
    """Whose state it changed, and to which."""
    target: str = ""


@value(frozen=True)
class Query(Value):
    """What the operator wants to see."""

    text: str = ""
    """The filter; with it closed requests are found too."""
    selected: int | None = None
    limit: int = 1000


@value(frozen=True)
class Board(Value):
    """Everything on the screen at one moment."""

    query: Query = Query()
    lines: tuple[Line, ...] = ()
    left_out: int = 0
    """Further open requests beyond `query.limit`."""
    open: int = 0
    needs: int = 0
    """How many open requests wait for a person."""
    detail: Detail | None = None
    slots: tuple[Slot, ...] = ()
    lights: tuple[Light, ...] = ()
    engine: str = ""
    """Who holds the engine lock; empty when nobody does."""
    engine_pid: int | None = None
    paused: str = ""
    """Who paused the engine, and since when."""
    acts: tuple[Act, ...] = ()
    """The newest deeds, oldest first."""
    trouble: str = ""
    """Why the journal cannot be read, while it cannot."""
