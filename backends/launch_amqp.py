"""Workflows by StartWorkflow commands through the broker: `reingestion.launcher = "amqp"`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from aogconsole.reingestion.messages import COMMANDS, Sender, Start, start_body, start_key
from aogconsole.text import clean
from backends.broker_ports import Broker, Message
from backends.reingestion_ports import Launch, Seen


class AmqpLauncher:
    """A launch is a message; the workflow's end comes as an event, and nothing can be asked in between.

    The command carries the workflow's id, the same however often it is sent: who takes it knows what he has begun.
    """

    name = "amqp"
    local_to = ""

    def __init__(self, broker: Broker, sender: Sender) -> None:
        self._broker, self._sender = broker, sender

    async def launch(self, start: Start, site: str) -> Launch:
        """Send the command to a site, confirmed and mandatory. Raises BrokerError: nothing was given to the broker."""
        key = start_key(site)
        message = Message(start.workflow_id, start_body(start, self._sender, datetime.now(UTC)), key, COMMANDS)
        published = await self._broker.publish([message])
        if message.id in published.confirmed:
            return Launch("started")
        if message.id in published.returned:
            why = clean(published.returned[message.id])[:200]
            return Launch("refused", f"nobody takes commands with the routing key {clean(key)} ({why})", blameless=True)
        return Launch("unknown", clean(published.unknown.get(message.id, "the broker said nothing of it"))[:200])

    async def look(self, workflow_ids: Collection[str]) -> Mapping[str, Seen]:
        """Nothing is known but by events."""
        return dict.fromkeys(workflow_ids, Seen("unknown", "only its event tells how it is"))

    async def forget(self, workflow_ids: Collection[str]) -> None:
        """Nothing is kept."""
