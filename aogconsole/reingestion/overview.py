"""How re-ingestion is: one document for the command line, the console and the metrics (contract: design section 8).

What cannot be reached is null, and the word why stands at `broker` or `metadata`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from aogconsole import times
from aogconsole.errors import AogError, BrokerError
from aogconsole.reingestion.item import Item, Queue
from aogconsole.reingestion.messages import OUR_EVENTS
from aogconsole.reingestion.steering import LOADER, PAUSED, paused
from backends.broker_ports import Broker
from backends.reingestion_ports import Event, Hour, Metadata, Note
from backends.topology import dead

CONNECTED = "connected"
PATIENCE = 3.0
"""Seconds that a broker has to answer: while it is away a call waits for it to come back."""
LONG_GONE = timedelta(days=1)
"""After it a runner that says nothing more is not told of."""
HOURS = timedelta(hours=24)
UNKNOWN: Mapping[str, None] = dict.fromkeys(
    ("counts", "oldest_waiting", "running", "loader", "runners", "last_event", "hours", "paused")
)
"""What the metadata database tells."""


async def overview(metadata: Metadata, broker: Broker | None, queue: Queue) -> dict[str, Any]:
    """How one queue is. Raises nothing for what cannot be reached; `reached` tells."""
    (told, database), (depth, dead_letters, line) = await asyncio.gather(_table(metadata, queue), _depth(broker, queue))
    asked = {"queue_depth": depth, "dead_letters": dead_letters, "broker": line}
    return {"queue": queue.value, **told, **asked, "metadata": database}


def reached(document: Mapping[str, Any]) -> bool:
    """Whether everything that is configured answered."""
    return document["counts"] is not None and (document["queue_depth"] is not None or not document["broker"])


async def _depth(broker: Broker | None, queue: Queue) -> tuple[int | None, int | None, str | None]:
    """Messages in the work queue, and put aside; and how the broker is."""
    if broker is None:
        return None, None, None
    try:
        async with asyncio.timeout(PATIENCE):
            return await broker.depth(queue.messages), await letters(broker, queue), CONNECTED
    except AogError as error:
        return None, None, _said(error)
    except TimeoutError:
        why = f": {broker.state.why}" if broker.state.why else ""
        return None, None, f"the broker did not answer within {PATIENCE:g} s{why}"


async def letters(broker: Broker, queue: Queue) -> int | None:
    """Dead letters of a work queue, and the events' with ALMA's; None: a site has made its queues without them."""
    try:
        names = [queue.messages, *([OUR_EVENTS] if queue is Queue.ALMA else [])]
        return sum([await broker.depth(dead(name)) for name in names])
    except BrokerError:
        return None


async def _table(metadata: Metadata, queue: Queue) -> tuple[dict[str, Any], str]:
    tracking, now = metadata.tracking(queue), times.now()
    try:
        notes = await metadata.notes()
        counts = await tracking.counts()
        oldest = await tracking.oldest_waiting()
        active = await tracking.active()
        hours = await tracking.hours(now - HOURS)
    except AogError as error:
        return dict(UNKNOWN), _said(error)
    told = {
        "counts": {kind.value: {state.value: n for state, n in by.items() if n} for kind, by in counts.items()},
        "oldest_waiting": instant(oldest),
        "running": [running(row) for row in active],
        "loader": loader(notes.get(LOADER)),
        "runners": [runner(note) for key, note in sorted(notes.items())
                    if key.startswith("runner:") and now - note.at < LONG_GONE],
        "last_event": last_event(notes.get("last_event")),
        "hours": [hour(one) for one in hours],
        "paused": pause(notes.get(PAUSED)),
    }  # fmt: skip
    return told, CONNECTED


def _said(error: AogError) -> str:
    return f"{error} ({error.hint})" if error.hint else str(error)


def running(row: Item) -> dict[str, Any]:
    """A row that takes a place."""
    return {
        "id": str(row.id), "kind": row.kind.value, "uid": shown(row.uid), "project": row.project,
        "state": row.state.value, "since": instant(row.started_at), "runner": row.owner, "attempt": row.attempt,
        "workflow_id": row.workflow_id,
    }  # fmt: skip


def loader(note: Note | None) -> dict[str, Any]:
    """The loader's last cycle, as its note tells it."""
    value = dict(note.value) if note else {}
    return {key: value.get(key) for key in ("last_cycle", "next_cycle", "found", "sent", "error")}


def runner(note: Note) -> dict[str, Any]:
    """A runner, as its last note tells it."""
    value = note.value
    return {
        "name": note.key.removeprefix("runner:"), "seen": instant(note.at), "state": value.get("state"),
        "places": value.get("places"), "launching": value.get("launching"), "broker": value.get("broker"),
        "troubles": value.get("troubles"),
    }  # fmt: skip


def last_event(note: Note | None) -> dict[str, Any] | None:
    """The last event of one of our workflows."""
    if note is None:
        return None
    value = note.value
    item = value.get("item")
    return {
        "at": instant(note.at), "queue": value.get("queue"), "item": None if item is None else str(item),
        "kind": value.get("kind"), "uid": shown(str(value.get("uid", ""))),
        "workflow_id": value.get("workflow_id"), "complete": value.get("complete"),
    }  # fmt: skip


def pause(note: Note | None) -> str | None:
    """Who paused it, and when; None while it goes on."""
    if note is None or not paused(note):
        return None
    why = note.value.get("why")
    return f"{note.value.get('by', 'somebody')} {times.text(note.at)}" + (f": {why}" if why else "")


def hour(one: Hour) -> dict[str, Any]:
    """What happened in one hour."""
    return {
        "begins": instant(one.begins), "found": one.found, "sent": one.sent, "done": one.done, "failed": one.failed,
    }  # fmt: skip


def item(row: Item, queue: Queue) -> dict[str, Any]:
    """A row of the tracking table: its columns, and the queue."""
    return {
        "id": str(row.id), "queue": queue.value, "kind": row.kind.value, "uid": shown(row.uid),
        "version": row.version, "project": row.project, "source_time": instant(row.source_time),
        "state": row.state.value, "attempt": row.attempt, "reason": row.reason or None,
        "workflow_id": row.workflow_id, "owner": row.owner, "lease_until": instant(row.lease_until),
        "not_before": instant(row.not_before), "created_at": instant(row.created_at),
        "queued_at": instant(row.queued_at), "started_at": instant(row.started_at),
        "finished_at": instant(row.finished_at),
    }  # fmt: skip


def history(events: Sequence[Event]) -> list[dict[str, Any]]:
    """What became of a row."""
    return [
        {
            "number": str(one.number), "at": instant(one.at), "by": one.by,
            "from": one.before.value if one.before else None, "to": one.after.value, "attempt": one.attempt,
            "why": one.why or None,
        }
        for one in events
    ]  # fmt: skip


def shown(uid: str) -> str:
    """A UID as in mails and on the command line: `uid___A001_X1_X2`; a VLBA name as it is."""
    return uid.replace("://", "___").replace("/", "_") if uid.startswith("uid://") else uid


def instant(time: datetime | None) -> str | None:
    """A time as text, `2026-11-21T14:02:11Z`."""
    return None if time is None else times.text(time)
