"""The last steps of a loader's cycle, and a runner's after a retry: what is due gets its message. The table is the
truth, the message a hint: a row is queued when the broker has confirmed, and stays as it was when it has not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from aogconsole.errors import BrokerError, NoQueue
from aogconsole.reingestion.item import Change, Item, Queue, message_id
from aogconsole.reingestion.messages import work_body
from aogconsole.text import clean
from backends.broker_ports import Broker, Message
from backends.reingestion_ports import Limits, Metadata

log = logging.getLogger("aogconsole")
BATCH = 1000
"""Rows in one transaction."""
LANES = 2
"""Transactions at once, while there is much: one marks its rows while the other's are published. None shares a row."""
LOST_AFTER = timedelta(seconds=60)
"""A row queued so long ago, while its work queue is empty, has lost its message."""
MAKING = 30.0
"""Seconds between two tries to make the queues: an account that may not shall not hammer the broker."""
LOST = "its message was lost: sent again"


@dataclass
class _Round:
    """What happened to the messages of one call, of several batches."""

    returned: int = 0
    unknown: int = 0
    why: str = ""
    error: BrokerError | None = None

    def failed(self, queue: Queue) -> BrokerError | None:
        """The error of what was not taken, if anything was not."""
        if self.error is not None:
            return self.error
        if self.returned:
            return BrokerError(
                f"The broker did not take {self.returned} messages for {queue.messages}: {self.why}",
                "they stay waiting; `aogconsole broker declare` makes the queue when it is missing",
            )
        if self.unknown:
            return BrokerError(
                f"The broker did not confirm {self.unknown} messages for {queue.messages}: {self.why}",
                "they stay waiting and are sent again, which does no harm",
            )
        return None


class Sending:
    """Sends what is due. `by`: who, for the history."""

    def __init__(self, metadata: Metadata, broker: Broker, by: str) -> None:
        self._metadata = metadata
        self._broker = broker
        self._by = by
        self.sent = 0
        """Messages that were confirmed, since the start."""
        self._making = 0.0
        """When the queues may be made again, by the loop's clock."""
        self._refused = ""

    async def send(self, queue: Queue, limits: Limits, go_on: Callable[[], Awaitable[None]] | None = None) -> int:
        """Send all that is due, oldest first; gives how many. `go_on` is asked before each batch, and may raise.

        What the broker did not confirm stays as it was, and is the BrokerError raised once nothing more can be sent."""
        tracking = self._metadata.tracking(queue)
        went, sent, many = _Round(), 0, asyncio.Event()

        async def publish(items: Sequence[Item]) -> set[int]:
            if len(items) == BATCH:
                many.set()
            return await self._publish(queue, items, went)

        async def batch() -> bool:
            """Send a batch; whether there may be more."""
            nonlocal sent
            if go_on is not None:
                await go_on()
            taken, done = await tracking.send(publish, self._by, _now(), BATCH, limits)
            sent += done
            if done < taken and went.returned and await self.made_queues():
                went.returned = 0  # they stayed as they were, and now there is a queue for them
                return True
            return bool(taken) and done == taken

        async def lane() -> None:
            while await batch():
                pass

        await _in_lanes(lane, many, LANES if limits.per_project is None else 1)
        self._tell(queue, went, sent)
        return sent

    async def made_queues(self) -> bool:
        """Make the queues that are missing, now and then; where we may not, the administrator does (`broker declare`).

        Whether it was done now."""
        clock = asyncio.get_running_loop().time()
        if clock < self._making:
            return False
        self._making = clock + MAKING
        try:
            for line in await self._broker.declare():
                log.info("%s", line)
        except BrokerError as error:
            if str(error) != self._refused:
                log.warning("%s", error)
            self._refused = str(error)
            return False
        self._refused = ""
        return True

    async def rebuild(self, queue: Queue, go_on: Callable[[], Awaitable[None]] | None = None) -> int:
        """Send again the messages that the broker has lost; gives how many. The attempts stay what they are.

        A message that a runner holds just now is sent twice at worst: the second finds its row claimed."""
        tracking = self._metadata.tracking(queue)
        before = _now() - LOST_AFTER
        lost = await tracking.lost(before, BATCH)
        if not lost or await self._depth(queue):
            return 0
        went, again = _Round(), 0
        while lost:
            if go_on is not None:
                await go_on()
            confirmed = await self._publish(queue, lost, went)
            now = _now()
            changes = [
                Change(item, replace(item, queued_at=now), self._by, LOST) for item in lost if item.id in confirmed
            ]
            again += len(await tracking.move(changes, now)) if changes else 0
            lost = await tracking.lost(before, BATCH) if len(confirmed) == len(lost) == BATCH else []
        if again:
            log.warning("%s: %d messages were lost at the broker, and are sent again", queue.messages, again)
        self._tell(queue, went, again)
        return again

    async def _depth(self, queue: Queue) -> int:
        """The messages in its work queue, which is made when the broker has lost it."""
        try:
            return await self._broker.depth(queue.messages)
        except NoQueue:
            if not await self.made_queues():
                raise
            return 0

    async def _publish(self, queue: Queue, items: Sequence[Item], went: _Round) -> set[int]:
        """The ids of those that the broker confirmed; never raises for the broker, for the others stay as they are."""
        ids = {message_id(item): item.id for item in items}
        messages = [Message(message_id(item), work_body(item), queue.messages) for item in items]
        try:
            published = await self._broker.publish(messages)
        except BrokerError as error:
            went.error = error
            return set()
        went.returned += len(published.returned)
        went.unknown += len(published.unknown)
        went.why = clean(next(iter([*published.returned.values(), *published.unknown.values()]), went.why))
        return {ids[one] for one in published.confirmed if one in ids}

    def _tell(self, queue: Queue, went: _Round, sent: int) -> None:
        """Say what was sent; raise what was not."""
        self.sent += sent
        if sent:
            log.info("%s: %d sent", queue.messages, sent)
        if (error := went.failed(queue)) is not None:
            raise error


async def _in_lanes(lane: Callable[[], Coroutine[Any, Any, None]], many: asyncio.Event, lanes: int) -> None:
    """Work in one lane, and in more beside it once there is `many` to do; wait for all, then raise what one raised."""

    async def beside() -> None:
        await many.wait()
        await lane()

    first, others = asyncio.create_task(lane()), [asyncio.create_task(beside()) for _ in range(lanes - 1)]
    first.add_done_callback(lambda _: None if many.is_set() else [one.cancel() for one in others])
    for error in await asyncio.gather(first, *others, return_exceptions=True):
        if error is not None and (many.is_set() or not isinstance(error, asyncio.CancelledError)):
            raise error


def _now() -> datetime:
    return datetime.now(UTC)
