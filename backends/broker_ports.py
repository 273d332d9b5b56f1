"""The message broker of re-ingestion. Protocols only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """Something to publish. `exchange` empty: straight into the queue named by `key`."""

    id: str
    body: bytes
    key: str
    exchange: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """What became of messages, by id. None of the three holds one that was not asked for."""

    confirmed: frozenset[str]
    returned: Mapping[str, str] = field(default_factory=dict)
    """Definitely not taken: no queue, or the broker said no; and why."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """The line broke before its confirm: it may have been taken."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that we hold, unacknowledged."""

    id: str
    body: bytes
    tag: object = field(compare=False, default=None)
    """The adapter's own."""
    redelivered: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was put aside, as it lies there. All but `size` may be whatever somebody sent."""

    id: str
    body: bytes
    """Its beginning."""
    size: int
    """Bytes of the whole body."""
    reason: str = ""
    """`rejected`, `delivery_limit`, or another word of the broker; empty: it does not say."""
    at: datetime | None = None
    """When it was put aside."""


@dataclass(frozen=True, slots=True)
class BrokerState:
    """How the line to the broker is."""

    word: Literal["closed", "connecting", "connected", "blocked"]
    why: str = ""


class Broker(Protocol):
    """RabbitMQ as we use it. It reconnects by itself; calls wait for that within their time. Raises BrokerError."""

    @property
    def state(self) -> BrokerState:
        """How the line is now."""
        ...

    async def declare(self) -> list[str]:
        """Make exchanges, queues and bindings that we need; a line each of what is there. Safe to repeat."""
        ...

    async def declare_site(self, site: str) -> list[str]:
        """The same for a site's commands: queue `archive.workflow-commands.SITE`, for `workflow serve` there."""
        ...

    async def publish(self, messages: Sequence[Message]) -> Published:
        """Publish all, pipelined, persistent, mandatory, each confirmed. Raises BrokerError only when none was
        given to the broker."""
        ...

    async def take(self, queue: str, most: int, within: float) -> list[Delivery]:
        """Up to `most` messages, as soon as one is there and no more come at once; empty after `within` seconds.

        The broker holds no further message back for us."""
        ...

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """They are dealt with. Of a line that broke since: nothing; they will come again."""
        ...

    async def reject(self, delivery: Delivery) -> None:
        """Into the dead letters."""
        ...

    async def dead_letters(self, queue: str, most: int) -> list[DeadLetter]:
        """The oldest dead letters of a queue, up to `most`; they stay where they are, but for that moment."""
        ...

    async def depth(self, queue: str) -> int:
        """Ready messages in a queue; one that is not declared raises BrokerError saying so."""
        ...

    async def ping(self) -> str:
        """Connect and log in; a sentence."""
        ...

    async def close(self) -> None:
        """End the connection; what is unacknowledged comes again."""
        ...
