"""Telling the end of a workflow: its event on `archive.events`, confirmed, tried again for a bounded time."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

from aogconsole import times
from aogconsole.errors import BrokerError
from aogconsole.reingestion.messages import COMPLETE, EVENTS, FAILED, Ended, Sender, ended_body, event_key
from backends.broker_ports import Broker, Message

_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between tries; the last one goes on."""
_log = logging.getLogger("aogconsole.workflow")


@dataclass(frozen=True)
class Teller:
    """Publishes events as one sender, for at most `within` seconds each."""

    broker: Broker
    sender: Sender
    types: tuple[str, str] = (COMPLETE, FAILED)
    within: float = 60.0

    async def tell(self, ended: Ended) -> None:
        """Publish it, and once more while it is not confirmed: who listens takes it twice. Raises BrokerError."""
        body = ended_body(ended, self.sender, times.now(), self.types)
        name = f"{ended.workflow_id}:{'complete' if ended.complete else 'failed'}"
        message = Message(name, body, event_key(self.sender), EVENTS)
        until = time.monotonic() + self.within
        for number in range(1_000_000):
            why = await self._published(message)
            if why is None:
                return
            pause = _PAUSES[min(number, len(_PAUSES) - 1)]
            if time.monotonic() + pause > until:
                break
            _log.warning("the event of workflow %s is not out yet: %s", ended.workflow_id, why)
            await asyncio.sleep(pause)
        raise BrokerError(
            f"The event of workflow {ended.workflow_id} could not be published within {self.within:g} s: {why}",
            "the end is recorded; check the broker with `aogconsole doctor`",
        )

    async def _published(self, message: Message) -> str | None:
        """Why it is not out; None when it is."""
        try:
            outcome = await self.broker.publish([message])
        except BrokerError as error:
            return str(error)
        if message.id in outcome.confirmed:
            return None
        return outcome.returned.get(message.id) or outcome.unknown.get(message.id) or "it was not confirmed"
