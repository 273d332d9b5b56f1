"""One row of the tracking table, its states, and every change a state can make. Pure.

Columns and states are our own design (domain section 5: the real table's are not known); their names are the
contract's (design section 8). A change is a pair of items, before and after, that the table takes only while the
row still is as `before` says: so of two who act at once, one is told that somebody else was first.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum


class Kind(StrEnum):
    """What is ingested again."""

    EXECUTION_BLOCK = "execution_block"
    CALIBRATION = "calibration"


class Queue(StrEnum):
    """Which pair of table and work queue: ALMA's, or the VLBA's with its limit per project."""

    ALMA = "alma"
    VLBA = "vlba"

    @property
    def table(self) -> str:
        """The tracking table."""
        return f"{self.value}_reingestion_queue"

    @property
    def messages(self) -> str:
        """The work queue at the broker."""
        return f"{self.value}_reingestion"


class State(StrEnum):
    """Where an item stands."""

    DEFERRED = "deferred"
    WAITING = "waiting"
    QUEUED = "queued"
    LAUNCHING = "launching"
    LAUNCH_UNKNOWN = "launch_unknown"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    DEAD = "dead"
    DO_NOT_CALIBRATE = "do_not_calibrate"
    DROPPED = "dropped"


MEANING = {
    State.DEFERRED: "not ready: judged again at the loader's next cycle, or put aside by a person until a time",
    State.WAITING: "to be sent to the work queue",
    State.QUEUED: "its message is in the work queue",
    State.LAUNCHING: "claimed by a runner, which launches the workflow now",
    State.LAUNCH_UNKNOWN: "the workflow may or may not have been launched: its event, or a person, settles it",
    State.RUNNING: "the workflow runs",
    State.DONE: "the workflow is complete",
    State.FAILED: "the workflow failed, and is tried again at `not_before`",
    State.DEAD: "the last attempt failed: a person decides",
    State.DO_NOT_CALIBRATE: "custom calibration scripts: not for the automated restore",
    State.DROPPED: "not to be ingested: a person's decision, or a newer version took its place",
}

ACTIVE = frozenset({State.LAUNCHING, State.LAUNCH_UNKNOWN, State.RUNNING})
"""Those that take a place."""
SENDABLE = frozenset({State.WAITING, State.FAILED})
"""Those that are sent when they are due."""
ENDED = frozenset({State.DONE, State.DEAD, State.DO_NOT_CALIBRATE, State.DROPPED})
"""Those that stay as they are unless a person, or a newer version, says otherwise."""

_D, _W, _Q, _L, _U, _R, _OK, _F, _X, _N, _O = State
TRANSITIONS: dict[State, frozenset[State]] = {
    _D: frozenset({_D, _W, _N, _O}),
    _W: frozenset({_Q, _D, _N, _O}),
    _Q: frozenset({_Q, _L, _W, _D, _O}),
    _L: frozenset({_L, _R, _U, _W, _OK, _F, _X}),
    _U: frozenset({_R, _W, _OK, _F, _X, _O}),
    _R: frozenset({_OK, _F, _X, _W, _O}),
    _OK: frozenset({_W}),
    _F: frozenset({_Q, _W, _D, _O, _OK}),
    _X: frozenset({_W, _D, _O, _OK}),
    _N: frozenset({_W, _O}),
    _O: frozenset({_W}),
}
"""Every change of state there is. The diagram in the docs is made from it; the tables' adapters refuse any other."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something new in the archive, judged: a row to be. `source_time`: ENDTIME or CREATION_DATE, aware UTC."""

    kind: Kind
    uid: str
    """As the database spells it, `uid://A002/X1/X2`; of the VLBA any name."""
    version: str
    project: str | None
    source_time: datetime | None
    state: State = State.WAITING
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the tracking table. Times are aware UTC."""

    id: int
    kind: Kind
    uid: str
    version: str
    project: str | None
    source_time: datetime | None
    state: State
    attempt: int
    """Sent so often; with the id it names a message, and a launch."""
    reason: str
    workflow_id: str | None
    owner: str | None
    """The runner that launches it or launched it: `NAME@HOST:PID`."""
    lease_until: datetime | None
    """While launching: after it another runner looks what became of the launch."""
    not_before: datetime | None
    """Not sent (or, deferred, not judged) before; None: at once."""
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    first_attempt: int = 0
    """Attempts before a person's last `requeue`: they do not count towards `dead`."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change to one row; it is made only while the row's state and attempt still are `before`'s."""

    before: Item
    after: Item
    by: str
    """Who: an account, or the name of a loader or runner."""
    why: str

    def __post_init__(self) -> None:
        if self.after.state not in TRANSITIONS[self.before.state]:
            raise ValueError(f"an item that is {self.before.state} cannot become {self.after.state}")


def version_of(source_time: datetime | None) -> str:
    """The version of what the archive shows at a time: the same row is found twice, a later one is another."""
    return "" if source_time is None else source_time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def message_id(item: Item) -> str:
    """`id:attempt`."""
    return f"{item.id}:{item.attempt}"


def workflow_id(item: Item, queue: Queue, installation: uuid.UUID) -> str:
    """The same for one attempt whoever launches it, and no other installation's."""
    return str(uuid.uuid5(installation, f"{queue.table}:{item.id}:{item.attempt}"))


def sent(item: Item, now: datetime) -> Item:
    """Its message is about to be sent: the next attempt."""
    return replace(item, state=State.QUEUED, attempt=item.attempt + 1, queued_at=now, not_before=None,
                   workflow_id=None, owner=None, lease_until=None, started_at=None, finished_at=None)  # fmt: skip


def claimed(item: Item, owner: str, workflow: str, now: datetime, lease: timedelta) -> Item:
    """A runner has it, and launches it now."""
    return replace(item, state=State.LAUNCHING, owner=owner, workflow_id=workflow, started_at=now,
                   lease_until=now + lease, reason="")  # fmt: skip


def given_back(item: Item, why: str, not_before: datetime | None = None) -> Item:
    """Never launched: the attempt does not count. To be sent again."""
    return replace(item, state=State.WAITING, attempt=item.attempt - 1, reason=why, not_before=not_before,
                   workflow_id=None, owner=None, lease_until=None, started_at=None)  # fmt: skip


def running(item: Item) -> Item:
    """Its workflow runs."""
    return replace(item, state=State.RUNNING, lease_until=None, reason="")


def unproved(item: Item, why: str) -> Item:
    """Its workflow may or may not have been launched."""
    return replace(item, state=State.LAUNCH_UNKNOWN, lease_until=None, reason=why)


def done(item: Item, now: datetime) -> Item:
    """Its workflow is complete."""
    return replace(item, state=State.DONE, finished_at=now, lease_until=None, not_before=None, reason="")


def failed(item: Item, why: str, now: datetime, attempts: int, delay: timedelta) -> Item:
    """Its workflow failed: tried again after `delay` doubled for each attempt before, or dead after the last."""
    tried = item.attempt - item.first_attempt
    state = State.DEAD if tried >= attempts else State.FAILED
    again = None if state is State.DEAD else now + delay * 2 ** max(0, min(tried - 1, 10))
    return replace(item, state=state, reason=why, finished_at=now, lease_until=None, not_before=again)


def requeued(item: Item, why: str) -> Item:
    """A person (or a newer judgement) wants it sent, with all its attempts before it again."""
    return replace(item, state=State.WAITING, reason=why, not_before=None, first_attempt=item.attempt, lease_until=None)


def deferred(item: Item, why: str, until: datetime | None) -> Item:
    """Not now. `until` None: the loader judges it again at its next cycle."""
    return replace(item, state=State.DEFERRED, reason=why, not_before=until)


def dropped(item: Item, why: str, now: datetime) -> Item:
    """Not at all."""
    return replace(item, state=State.DROPPED, reason=why, not_before=None, finished_at=now, lease_until=None)


def not_calibratable(item: Item, why: str, now: datetime) -> Item:
    """Not for the automated restore."""
    return replace(item, state=State.DO_NOT_CALIBRATE, reason=why, not_before=None, finished_at=now)
