"""The exchanges, queues and bindings that re-ingestion needs, whichever broker has them.

Names: design section 8; the real system's names of queues are unknown, these are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aogconsole.errors import UsageError
from aogconsole.reingestion.item import Queue
from aogconsole.reingestion.messages import COMMANDS, EVENTS, command_queue, start_key
from aogconsole.text import clean

DELIVERY_LIMIT = 20
"""Times that a message may come back unacknowledged before it goes to the dead letters."""
LOOKS = 1_000_000
"""The same for a dead letter, which each look at it brings back: from version 4 on RabbitMQ drops it after 20 else."""
_SITE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class Plan:
    """What shall be there."""

    exchanges: tuple[str, ...]
    queues: tuple[str, ...]
    """Each with its queue of dead letters, made before it."""
    bindings: tuple[tuple[str, str, str], ...]
    """Queue, exchange, pattern of routing keys."""


def dead(queue: str) -> str:
    """Where a queue's dead letters go."""
    return f"{queue}.dead"


def plan(event_queue: str) -> Plan:
    """What loader and runner need."""
    work = tuple(queue.messages for queue in Queue)
    return Plan((EVENTS, COMMANDS), (*work, event_queue), ((event_queue, EVENTS, "#"),))


def site_plan(site: str) -> Plan:
    """What `workflow serve` at a site needs. Raises UsageError."""
    if not _SITE.fullmatch(site):
        raise UsageError(f"'{clean(site)[:70]}' is no site's name", "write it like NAASC")
    queue = command_queue(site)
    return Plan((COMMANDS,), (queue,), ((queue, COMMANDS, start_key(site)),))


def arguments(queue: str | None) -> Mapping[str, object]:
    """How a queue is made; None: one of dead letters."""
    kind: dict[str, object] = {"x-queue-type": "quorum"}
    if queue is None:
        return {**kind, "x-delivery-limit": LOOKS}
    letters = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead(queue)}
    return {**kind, "x-delivery-limit": DELIVERY_LIMIT, **letters}
