"""Looking at the dead letters of a RabbitMQ queue: held for a moment, and given back as they were."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pika import exceptions, spec  # type: ignore[import-untyped]

from aogconsole.errors import BrokerError, NoQueue
from aogconsole.text import clean
from backends.broker_ports import DeadLetter
from backends.rabbitmq_line import ChannelGone, Line, Tube
from backends.rabbitmq_stream import once, said, short
from backends.topology import dead

BEGINNING = 4096
"""Bytes of a message that are kept: anybody's may be of any size."""
WHOLE = 1000
"""So many are taken whatever is asked for."""
_MISSING, _FORBIDDEN = 404, 403


async def look(line: Line, queue: str, most: int) -> list[DeadLetter]:
    """The oldest dead letters of a queue. Raises BrokerError.

    They are held unacknowledged, and given back; so they are when our process dies. What is given back goes behind
    what was given back before: the order stays because all are taken, where there are not very many.
    """
    tube = await line.tube()
    hand = _Hand(tube, dead(queue))
    found: list[DeadLetter] = []
    try:
        while len(found) < max(most, WHOLE) and (letter := await hand.next()):
            found.append(letter)
        if found:
            tube.raw.basic_nack(0, multiple=True, requeue=True)
    except ChannelGone as gone:
        raise _refusal(dead(queue), gone) from None
    except exceptions.AMQPError as error:
        raise BrokerError(f"queue {clean(dead(queue))} cannot be read: {said(error)}", "try again") from None
    finally:
        tube.close()
    await asyncio.wait({tube.closed}, timeout=tube.timeout)  # then they are back
    return found[:most]


class _Hand:
    """Asks for one message after the other."""

    def __init__(self, tube: Tube, queue: str) -> None:
        self._tube, self._queue = tube, queue
        self._answer: asyncio.Future[DeadLetter | None] = asyncio.get_running_loop().create_future()
        tube.raw.add_callback(lambda _frame: once(self._answer, None), [spec.Basic.GetEmpty], False)

    async def next(self) -> DeadLetter | None:
        """Another one; None: there is none. Raises ChannelGone, in time."""
        if not self._tube.open:
            raise self._tube.gone()
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._tube.raw.basic_get(self._queue, lambda _channel, _method, about, body: once(answer, _letter(about, body)))
        letter: DeadLetter | None = await self._tube.wait(answer)
        return letter


def _letter(about: Any, body: bytes) -> DeadLetter:
    """A message as it lies there. Its headers are the broker's, unless somebody put it there himself."""
    headers = about.headers if isinstance(about.headers, Mapping) else {}
    deaths = headers.get("x-death")
    last = deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], Mapping) else {}
    reason = last.get("reason") or headers.get("x-first-death-reason") or ""
    return DeadLetter(
        short(about.message_id or ""), body[:BEGINNING], len(body), short(reason), _time(last.get("time"))
    )


def _time(value: object) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _refusal(queue: str, gone: ChannelGone) -> BrokerError:
    if gone.code == _MISSING:
        return NoQueue(clean(queue))
    if gone.code == _FORBIDDEN:
        hint = "the account needs the permission to read it (see broker.md)"
        return BrokerError(f"queue {clean(queue)} may not be read: {gone}", hint)
    return BrokerError(f"queue {clean(queue)} cannot be read: {gone}", gone.hint)
