"""Making what re-ingestion needs on RabbitMQ, without touching what a site has.

An exchange that is there stays as it is. So does a queue with other arguments than ours, as arguments cannot be
changed; it is only said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aogconsole.errors import BrokerError
from backends.rabbitmq_line import ChannelGone, Line, Tube
from backends.topology import Plan, arguments, dead

_MISSING, _FORBIDDEN, _OTHERWISE = 404, 403, 406


async def declare(line: Line, wanted: Plan) -> list[str]:
    """Make what is not there; a line for each thing. Raises BrokerError."""
    hand = _Hand(line)
    said = [await hand.exchange(name) for name in wanted.exchanges]
    for name in wanted.queues:
        said += [await hand.queue(dead(name), arguments(None)), await hand.queue(name, arguments(name))]
    return said + [await hand.binding(*one) for one in wanted.bindings]


class _Hand:
    """Declares one thing after the other; a refusal ends the channel, and the next gets a fresh one."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._tube: Tube | None = None
        self._found: set[str] = set()

    async def exchange(self, name: str) -> str:
        there = await self._tried(lambda raw: raw.exchange_declare, exchange=name, passive=True)
        if there is None:
            return f"exchange {name} is there"
        if there.code != _MISSING:
            raise _refusal(f"exchange {name}", there)
        made = await self._tried(lambda raw: raw.exchange_declare, exchange=name, exchange_type="topic", durable=True)
        if made:
            raise _refusal(f"exchange {name}", made)
        return f"exchange {name} made"

    async def queue(self, name: str, wanted: Mapping[str, object]) -> str:
        missing = await self._tried(lambda raw: raw.queue_declare, name, passive=True)
        if missing and missing.code != _MISSING:
            raise _refusal(f"queue {name}", missing)
        if not missing:
            self._found.add(name)
        fault = await self._tried(lambda raw: raw.queue_declare, name, durable=True, arguments=dict(wanted))
        if fault is None:
            return f"queue {name} made" if missing else f"queue {name} is there"
        if fault.code == _OTHERWISE and not missing:
            return f"queue {name} is there with other arguments than ours, and kept: {fault}"
        if fault.code == _FORBIDDEN and not missing:
            return f"queue {name} is there; we may not compare its arguments"
        raise _refusal(f"queue {name}", fault)

    async def binding(self, queue: str, exchange: str, pattern: str) -> str:
        fault = await self._tried(lambda raw: raw.queue_bind, queue, exchange, pattern)
        if fault and fault.code == _FORBIDDEN and queue in self._found:
            return f"queue {queue} is there; we may not look whether it is bound to {exchange} with {pattern}"
        if fault:
            raise _refusal(f"the binding of {queue} to {exchange}", fault)
        return f"queue {queue} is bound to {exchange} with {pattern}"

    async def _tried(
        self, method: Callable[[Any], Callable[..., object]], *words: object, **named: object
    ) -> ChannelGone | None:
        """Try one thing; None: done. Raises BrokerError when the line broke."""
        if self._tube is None or not self._tube.open:
            self._tube = await self._line.tube()
        try:
            await self._tube.call(method(self._tube.raw), *words, **named)
        except ChannelGone as gone:
            if not gone.code:
                raise
            return gone
        return None


def _refusal(what: str, gone: ChannelGone) -> BrokerError:
    hint = "the account needs the permission to configure it (see broker.md)" if gone.code == _FORBIDDEN else ""
    return BrokerError(f"{what} could not be declared: {gone}", hint)
