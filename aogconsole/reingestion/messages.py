"""What travels through the broker: work messages, start commands, events. Pure: dictionaries to bytes and back.

Sources: design section 8 (work message, completion event), domain section 5 (the body of commands and events,
exchanges, routing keys). What comes in is untrusted: `Malformed` says what is wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aogconsole.errors import AogError
from aogconsole.reingestion.item import Item, Kind

EVENTS, COMMANDS = "archive.events", "archive.workflow-commands"
"""Durable topic exchanges."""
OUR_EVENTS = "archive.events.aogconsole"
"""Our own durable queue, bound to `EVENTS`."""
START = "edu.nrao.archive.workflow.messaging.commands.StartWorkflow"
COMPLETE = "edu.nrao.archive.workflow.messaging.events.WorkflowComplete"
FAILED = "edu.nrao.archive.workflow.messaging.events.WorkflowFailed"
"""Types of events: our choice (domain section 5), and configurable."""
LARGEST = 1 << 20
"""Bytes of a message that we read."""
IDS, ATTEMPTS = range(1, 1 << 63), range(1, 1 << 31)
"""What the table's columns can hold: a number beyond would be refused with all that is asked beside it."""


class Malformed(AogError):
    """A message is not what it should be: it goes to the dead letters, where a person can look at it."""

    about: Work | None = None
    """What a work message is about, when that much can be read."""


@dataclass(frozen=True, slots=True)
class Work:
    """A message of the work queue: a hint that this attempt of this row may be launched."""

    id: int
    attempt: int
    kind: Kind | None
    """None for one that we do not know."""
    uid: str


@dataclass(frozen=True, slots=True)
class Sender:
    """Who speaks in commands and events."""

    user: str
    hostname: str
    application: str = "aogconsole"


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a workflow, by its event."""

    workflow_id: str
    complete: bool
    reason: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Start:
    """A command to start a workflow at a site."""

    workflow_id: str
    workflow: str
    """Its name, `eventName` of the command."""
    metadata: Mapping[str, str]


def work_body(item: Item) -> bytes:
    """The message of one attempt."""
    return _bytes({"id": item.id, "attempt": item.attempt, "kind": item.kind.value, "uid": item.uid})


def work(body: bytes) -> Work:
    """Read one. Raises Malformed."""
    document = _document(body)
    number, attempt, kind, uid = (document.get(key) for key in ("id", "attempt", "kind", "uid"))
    if type(number) is not int or type(attempt) is not int or not isinstance(uid, str):
        raise Malformed("a work message lacks its id, attempt or uid")
    if number not in IDS or attempt not in ATTEMPTS:
        raise Malformed("a work message has an id or attempt that no row can have")
    try:
        return Work(number, attempt, Kind(str(kind)), uid)
    except ValueError:
        error = Malformed(f"a work message is of the unknown kind {kind!r}"[:200])
        error.about = Work(number, attempt, None, uid)
        raise error from None


def start_body(start: Start, sender: Sender, now: datetime) -> bytes:
    """The StartWorkflow command; its `workflowId` is ours, so that what is sent twice can be told."""
    return _bytes({**_envelope(sender, now), "type": START, "eventName": start.workflow, "additionalPaths": [],
                   "workflowId": start.workflow_id, "metadata": dict(start.metadata)})  # fmt: skip


def start(body: bytes) -> Start | None:
    """Read a command; None for one that starts nothing. Raises Malformed."""
    document = _document(body)
    if document.get("type") != START:
        return None
    name, metadata = document.get("eventName"), _texts(document.get("metadata"))
    identity = document.get("workflowId")
    if not isinstance(name, str) or not isinstance(identity, str) or not identity or metadata is None:
        raise Malformed("a StartWorkflow command lacks its eventName, workflowId or metadata")
    return Start(identity, name, metadata)


def ended_body(ended: Ended, sender: Sender, now: datetime, types: tuple[str, str] = (COMPLETE, FAILED)) -> bytes:
    """The event of a workflow's end."""
    return _bytes({**_envelope(sender, now), "type": types[0 if ended.complete else 1], "reason": ended.reason,
                   "workflowId": ended.workflow_id, "metadata": dict(ended.metadata)})  # fmt: skip


def ended(body: bytes, types: tuple[str, str] = (COMPLETE, FAILED)) -> Ended | None:
    """Read an event; None for one of another type. Raises Malformed."""
    document = _document(body)
    if document.get("type") not in types:
        return None
    identity, reason = document.get("workflowId"), document.get("reason")
    if not isinstance(identity, str) or not identity:
        raise Malformed("a workflow's event lacks its workflowId")
    complete = document["type"] == types[0]
    return Ended(identity, complete, reason if isinstance(reason, str) else "", _texts(document.get("metadata")) or {})


def event_key(sender: Sender) -> str:
    """The routing key of our events: `{application}.event`."""
    return f"{sender.application}.event"


def start_key(site: str) -> str:
    """The routing key of a site's commands: `NAASC.start`."""
    return f"{site}.start"


def command_queue(site: str) -> str:
    """Our own durable queue of a site's commands, for `workflow serve` there."""
    return f"{COMMANDS}.{site}"


def _envelope(sender: Sender, now: datetime) -> dict[str, Any]:
    now = now.astimezone(UTC)
    stamp = {"date": {"year": now.year, "month": now.month, "day": now.day},
             "time": {"hour": now.hour, "minute": now.minute, "second": now.second,
                      "nano": now.microsecond * 1000}}  # fmt: skip
    return {"user": sender.user, "hostname": sender.hostname, "application": sender.application, "version": "1.0",
            "timestamp": stamp}  # fmt: skip


def _bytes(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _document(body: bytes) -> Mapping[str, Any]:
    if len(body) > LARGEST:
        raise Malformed(f"a message of {len(body)} bytes is too large")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("a message is not JSON") from None
    if not isinstance(document, dict):
        raise Malformed("a message is no JSON object")
    return document


def _texts(value: Any) -> Mapping[str, str] | None:
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        return None
    return value
