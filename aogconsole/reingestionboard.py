"""What the re-ingestion panel shows, as values: read by `reingestionwatch`, painted by `widgets.reingestion`.

Every text in here has passed `text.clean`. Notes in the database are others' words: what is not of the shape that
ours have is left out. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from aogconsole.board import Light
from aogconsole.text import clean
from aogconsole.values import Value, value

STATES = (
    "waiting", "queued", "launching", "launch_unknown", "running", "failed", "dead", "deferred", "do_not_calibrate",
    "dropped", "done",
)  # fmt: skip
"""Of items, in the order of the panel: an item's way, then what is put aside, then what is over."""
NEEDY = frozenset({"dead", "launch_unknown"})
"""States that wait for a person."""
ACTIVE = ("launching", "launch_unknown", "running")
"""States that take a place."""
SERIES = ("found", "sent", "done", "failed")
"""What is told of each hour."""
HOURS = 24


@value(frozen=True)
class Entry(Value):
    """An item that runs, or needs a person."""

    id: int
    queue: str
    """alma, vlba."""
    kind: str
    uid: str
    state: str
    attempt: int
    project: str = ""
    since: datetime | None = None
    """Since when it runs, or has ended."""
    where: str = ""
    """The runner that launched it."""
    why: str = ""


@value(frozen=True)
class QueueState(Value):
    """One tracking table with its work queue."""

    name: str
    """alma, vlba."""
    limit: int
    """Workflows at once."""
    counts: tuple[tuple[str, str, int], ...] = ()
    """Kind, state, and how many; those that are."""
    depth: int | None = None
    """Messages in the work queue; None: not known."""
    oldest: datetime | None = None
    """Since when the longest waiting one waits."""
    running: tuple[Entry, ...] = ()
    """Those that take a place, oldest first."""
    hours: tuple[tuple[int, ...], ...] = ()
    """For each of the last `HOURS` hours, the newest last: how many of each of `SERIES`."""
    letters: int | None = None
    """Dead letters of the queue, the events' with ALMA's; None: not known."""

    def count(self, *states: str) -> int:
        """How many are in one of these states."""
        return sum(number for _, state, number in self.counts if state in states)


@value(frozen=True)
class Loader(Value):
    """The loader's last cycle."""

    last: datetime | None = None
    next: datetime | None = None
    error: str = ""


@value(frozen=True)
class Runner(Value):
    """A runner, as its last note tells it."""

    name: str
    state: str
    seen: datetime
    trouble: str = ""


@value(frozen=True)
class ReingestionBoard(Value):
    """How re-ingestion is at one moment."""

    configured: bool = False
    told: bool = False
    """Whether the database has answered at least once; until then the values below say nothing."""
    lights: tuple[Light, ...] = ()
    """Broker and metadata."""
    queues: tuple[QueueState, ...] = ()
    """ALMA's, then the VLBA's when it has any row."""
    needy: tuple[Entry, ...] = ()
    """Items that need a person, the newest first; not more than are shown."""
    loader: Loader = Loader()
    runners: tuple[Runner, ...] = ()
    heard: datetime | None = None
    """When a workflow's event was heard last."""
    heard_what: str = ""
    paused: str = ""
    """Who paused it, since when and why."""

    def count(self, *states: str) -> int:
        """How many items of all queues are in one of these states."""
        return sum(queue.count(*states) for queue in self.queues)

    @property
    def broken(self) -> dict[str, str]:
        """What does not work, and why."""
        found = {light.name: light.detail for light in self.lights if light.ok is False}
        if self.loader.error:
            found["loader"] = self.loader.error
        return found

    @property
    def trouble(self) -> str:
        """What colours the panel, in a word or two; empty when all is well."""
        parts = [f"{count} {word}" for word, count in
                 (("dead", self.count("dead")), ("launch unknown", self.count("launch_unknown"))) if count]  # fmt: skip
        return ", ".join([*parts, *(f"{name} broken" for name in self.broken)])


# ── made from overview documents ─────────────────────────────────────────────────────────────────────────────


def queue_state(document: Mapping[str, Any], limit: int, depth: int | None, now: datetime) -> QueueState:
    """One queue, from its overview (`aogconsole.reingestion.overview`)."""
    queue = _word(document["queue"])
    counts = document.get("counts") or {}
    return QueueState(
        name=queue,
        limit=limit,
        counts=tuple((_word(kind), _word(state), int(n)) for kind, by in counts.items() for state, n in by.items()),
        depth=depth,
        oldest=_time(document.get("oldest_waiting")),
        running=tuple(_running(one, queue) for one in document.get("running") or ()),
        hours=_hours(document.get("hours") or (), now),
    )


def needy(documents: Iterable[Mapping[str, Any]]) -> tuple[Entry, ...]:
    """Items that need a person, from their documents (`overview.item`)."""
    return tuple(
        Entry(
            id=int(one["id"]), queue=_word(one["queue"]), kind=_word(one["kind"]), uid=_word(one["uid"]),
            state=_word(one["state"]), attempt=int(one["attempt"]), project=_word(one["project"]),
            since=_time(one["finished_at"]) or _time(one["started_at"]), where=_word(one["owner"]),
            why=_word(one["reason"]),
        )
        for one in documents
    )  # fmt: skip


def loader(document: Mapping[str, Any]) -> Loader:
    """The loader, from an overview."""
    told = document.get("loader") or {}
    return Loader(_time(told.get("last_cycle")), _time(told.get("next_cycle")), _word(told.get("error")))


def runners(document: Mapping[str, Any]) -> tuple[Runner, ...]:
    """The runners, from an overview."""
    found = []
    for one in document.get("runners") or ():
        seen, troubles = _time(one.get("seen")), one.get("troubles")
        if seen is not None:
            told = "; ".join(_word(why) for why in troubles.values()) if isinstance(troubles, Mapping) else ""
            found.append(Runner(_word(one.get("name")), _word(one.get("state")), seen, told))
    return tuple(found)


def heard(document: Mapping[str, Any]) -> tuple[datetime | None, str]:
    """When a workflow's event was heard last, and what it told."""
    event = document.get("last_event")
    if not isinstance(event, Mapping):
        return None, ""
    what = "complete" if event.get("complete") else "failed"
    return _time(event.get("at")), f"{_word(event.get('uid'))} {what}".strip()


def paused(document: Mapping[str, Any]) -> str:
    """Who paused it."""
    return _word(document.get("paused"))


def _running(one: Mapping[str, Any], queue: str) -> Entry:
    return Entry(
        id=int(one["id"]), queue=queue, kind=_word(one["kind"]), uid=_word(one["uid"]), state=_word(one["state"]),
        attempt=int(one["attempt"]), project=_word(one.get("project")), since=_time(one.get("since")),
        where=_word(one.get("runner")),
    )  # fmt: skip


def _hours(documents: Iterable[Mapping[str, Any]], now: datetime) -> tuple[tuple[int, ...], ...]:
    """One entry for each of the last hours; what happened in none of them is left out."""
    this = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    found = [(0,) * len(SERIES)] * HOURS
    for one in documents:
        begins = _time(one.get("begins"))
        if begins is not None:
            back = int((this - begins).total_seconds() // 3600)
            if 0 <= back < HOURS:
                found[HOURS - 1 - back] = tuple(int(one[name]) for name in SERIES)
    return tuple(found)


def _word(given: object) -> str:
    """A text of the database's, fit to be shown; another thing is none."""
    return clean(given) if isinstance(given, str) else ""


def _time(given: object) -> datetime | None:
    if not isinstance(given, str):
        return None
    try:
        time = datetime.fromisoformat(given)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
