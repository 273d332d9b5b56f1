"""The broker's contract: what is confirmed is there, what is not is said, and what is held comes again.

One suite over RabbitMQ and the broker in memory: each case gets a way to connect to a broker with nothing on it.
Careless brokers show that the suite catches them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pika.channel import Channel  # type: ignore[import-untyped]

from aogconsole.errors import BrokerError, UsageError
from aogconsole.reingestion.messages import COMMANDS, EVENTS, OUR_EVENTS, command_queue
from backends.broker_ports import Broker, DeadLetter, Delivery, Message, Published
from backends.memory_broker import MemoryBroker
from backends.rabbitmq import RabbitBroker
from backends.topology import DELIVERY_LIMIT, dead
from tests.support.rabbitmq import Vhost

WORK, OTHER = "alma_reingestion", "vlba_reingestion"
SOON = 5.0
"""Seconds within which a message that is there comes."""
Connect = Callable[[], Broker]
Case = Callable[[Connect], Awaitable[None]]


def messages(many: int, key: str = WORK, exchange: str = "", first: int = 0) -> list[Message]:
    """Messages that can be told from each other."""
    return [Message(f"{number}:1", f"body {number}".encode(), key, exchange) for number in range(first, first + many)]


async def ready(connect: Connect) -> Broker:
    """A connection to a broker on which everything is declared."""
    broker = connect()
    await broker.declare()
    return broker


async def taken(broker: Broker, queue: str, many: int) -> list[Delivery]:
    """So many messages, acknowledged as they come; they may come in parts."""
    got: list[Delivery] = []
    while len(got) < many:
        more = await broker.take(queue, many - len(got), SOON)
        assert more, f"{len(got)} of {many} came"
        await broker.ack(more)
        got += more
    return got


async def filled(broker: Broker, queue: str, depth: int) -> None:
    """Until a queue has so many ready messages: what goes back does so a moment later."""
    async with asyncio.timeout(SOON):
        while await broker.depth(queue) != depth:
            await asyncio.sleep(0.01)


# ── the cases ──


async def nothing_declared(connect: Connect) -> None:
    """Without a queue a message is returned, and a reader is told."""
    broker = connect()
    published = await broker.publish(messages(3))
    assert not published.confirmed
    assert set(published.returned) == {"0:1", "1:1", "2:1"}
    assert all(published.returned.values())
    assert not published.unknown
    for asking in (broker.take(WORK, 1, 0.1), broker.depth(WORK)):
        with pytest.raises(BrokerError, match=WORK) as caught:
            await asking
        assert "broker declare" in caught.value.hint


async def declared_twice(connect: Connect) -> None:
    """Declaring again makes nothing, and loses nothing."""
    broker = connect()
    first = await broker.declare()
    await broker.publish(messages(2))
    again = await broker.declare()
    names = (WORK, OTHER, OUR_EVENTS, dead(WORK), dead(OTHER), dead(OUR_EVENTS))
    assert {f"queue {name} made" for name in names} <= set(first)
    assert {f"exchange {name} made" for name in (EVENTS, COMMANDS)} <= set(first)
    assert not [line for line in again if "made" in line]
    assert await broker.depth(WORK) == 2


async def a_sites_commands(connect: Connect) -> None:
    """A site's queue gets its commands, and no other's; a command for nobody is returned."""
    broker = await ready(connect)
    assert await broker.declare_site("NAASC")
    published = await broker.publish([
        Message("a", b"1", "NAASC.start", COMMANDS), Message("b", b"2", "DSOC.start", COMMANDS),
        Message("c", b"3", "NAASC.stop", COMMANDS),
    ])  # fmt: skip
    assert published.confirmed == {"a"}
    assert set(published.returned) == {"b", "c"}
    assert [one.id for one in await taken(broker, command_queue("NAASC"), 1)] == ["a"]
    for name in ("", "A.start", "#", "*", "a" * 65, "NAASC\n", "N\u00c4"):
        with pytest.raises(UsageError):
            await broker.declare_site(name)


async def what_is_published_comes(connect: Connect) -> None:
    """In order, with body and id, once."""
    broker = await ready(connect)
    sent = messages(250)
    assert await broker.publish(sent) == Published(frozenset(one.id for one in sent))
    assert await broker.depth(WORK) == 250
    got = await taken(broker, WORK, 250)
    assert [(one.id, one.body, one.redelivered) for one in got] == [(one.id, one.body, False) for one in sent]
    assert await broker.take(WORK, 10, 0.05) == []


async def any_body_and_id(connect: Connect) -> None:
    """Bytes are bytes; an id is text."""
    broker = await ready(connect)
    sent = [Message("Ä→:1", bytes(range(256)) * 4096, WORK), Message("", b"", WORK)]
    assert not (await broker.publish(sent)).returned
    assert [(one.id, one.body) for one in await taken(broker, WORK, 2)] == [(one.id, one.body) for one in sent]


async def each_its_fate(connect: Connect) -> None:
    """Good and bad ones in one call: each is told, and none that was not asked for."""
    broker = await ready(connect)
    sent = [Message("good", b"", WORK), Message("noqueue", b"", "no.such"), Message("noexchange", b"", "k", "no.such"),
            Message("event", b"", "any.event", EVENTS), Message("last", b"", WORK)]  # fmt: skip
    published = await broker.publish(sent)
    assert published.confirmed == {"good", "event", "last"}
    assert set(published.returned) == {"noqueue", "noexchange"}
    assert not published.unknown
    assert (await broker.publish([])) == Published(frozenset())
    assert [one.id for one in await taken(broker, OUR_EVENTS, 1)] == ["event"]
    assert (await broker.publish(messages(1))).confirmed == {"0:1"}


async def no_more_than_asked(connect: Connect) -> None:
    """What is not taken stays for others, at once; what is held does not stand in the way."""
    broker, other = await ready(connect), connect()
    await broker.publish(messages(10))
    first = await broker.take(WORK, 3, SOON)
    assert [one.id for one in first] == ["0:1", "1:1", "2:1"]
    assert await broker.depth(WORK) == 7
    assert [one.id for one in await other.take(WORK, 2, SOON)] == ["3:1", "4:1"]
    assert [one.id for one in await broker.take(WORK, 3, SOON)] == ["5:1", "6:1", "7:1"]
    assert [one.id for one in await broker.take(WORK, 100, SOON)] == ["8:1", "9:1"]
    assert await broker.take(WORK, 100_000, 0.05) == []
    await broker.publish(messages(1))
    assert await broker.take(WORK, 0, 0.05) == []
    assert await broker.depth(WORK) == 1


async def waiting_for_one(connect: Connect) -> None:
    """A reader who waits gets the message when it comes, not at the end of its time."""
    broker, other = await ready(connect), connect()
    waiting = asyncio.create_task(broker.take(WORK, 5, 60.0))
    assert await broker.take(OTHER, 5, 0.05) == []  # other queues go on meanwhile
    await other.publish(messages(1))
    async with asyncio.timeout(SOON):
        assert [one.id for one in await waiting] == ["0:1"]


async def held_comes_again(connect: Connect) -> None:
    """What is not acknowledged when the line closes comes again, and says so; what is, does not."""
    broker, other = await ready(connect), connect()
    await broker.publish(messages(5))
    got = await broker.take(WORK, 5, SOON)
    assert len(got) == 5
    await broker.ack([got[3], got[1]])
    await broker.ack([got[1]])  # twice does no harm
    await broker.close()
    again = await taken(other, WORK, 3)
    assert sorted(one.id for one in again) == ["0:1", "2:1", "4:1"]
    assert all(one.redelivered for one in again)


async def acknowledged_too_late(connect: Connect) -> None:
    """An acknowledgement of a line that is no more touches nothing."""
    broker = await ready(connect)
    await broker.publish(messages(2))
    old = await broker.take(WORK, 2, SOON)
    await broker.close()
    new = await broker.take(WORK, 2, SOON)
    assert len(new) == 2
    await broker.ack(old)
    await broker.reject(old[0])
    await broker.close()
    other = connect()
    assert sorted(one.id for one in await taken(other, WORK, 2)) == ["0:1", "1:1"]
    assert await other.depth(dead(WORK)) == 0


async def rejected(connect: Connect) -> None:
    """Into the dead letters, as it was; the others stay."""
    broker = await ready(connect)
    await broker.publish(messages(3))
    got = await broker.take(WORK, 3, SOON)
    await broker.reject(got[1])
    await broker.reject(got[1])
    await broker.ack([got[0], got[1], got[2]])
    assert [(one.id, one.body) for one in await taken(broker, dead(WORK), 1)] == [("1:1", b"body 1")]
    await broker.close()
    assert await connect().take(WORK, 3, 0.05) == []


async def back_too_often(connect: Connect) -> None:
    """A message that nobody can deal with ends in the dead letters."""
    broker = await ready(connect)
    await broker.publish(messages(1))
    for _ in range(DELIVERY_LIMIT + 1):
        assert await broker.take(WORK, 1, SOON)
        await broker.close()
    assert [(one.id, one.reason) for one in await broker.dead_letters(WORK, 2)] == [("0:1", "delivery_limit")]
    assert [one.id for one in await taken(broker, dead(WORK), 1)] == ["0:1"]
    assert await broker.depth(WORK) == 0


async def dead_letters_stay(connect: Connect) -> None:
    """Whoever looks at them sees the oldest, and why they are there; however often, all is as it was."""
    broker, other = await ready(connect), connect()
    assert await broker.dead_letters(WORK, 10) == []
    await broker.publish([*messages(4), Message("Ä", bytes(range(256)) * 40, WORK)])
    for number in range(5):
        await broker.reject((await broker.take(WORK, 1, SOON))[0])
        await filled(broker, dead(WORK), number + 1)
    for line, most in ((broker, 2), (other, 5), (broker, 100), (other, 1)) * (DELIVERY_LIMIT // 2):
        looked = await line.dead_letters(WORK, most)
        assert [one.id for one in looked] == ["0:1", "1:1", "2:1", "3:1", "Ä"][:most]
        await filled(line, dead(WORK), 5)
    looked = await broker.dead_letters(WORK, 5)
    assert [one.reason for one in looked] == ["rejected"] * 5
    assert all(one.at and abs(datetime.now(UTC) - one.at) < timedelta(minutes=2) for one in looked)
    assert [one.size for one in looked] == [6] * 4 + [256 * 40]
    assert looked[0].body == b"body 0"
    assert looked[4].body.startswith(bytes(range(256)))
    assert [one.id for one in await taken(other, dead(WORK), 5)] == ["0:1", "1:1", "2:1", "3:1", "Ä"]
    with pytest.raises(BrokerError, match=r"no\.such\.dead") as caught:
        await broker.dead_letters("no.such", 1)
    assert "broker declare" in caught.value.hint


async def cancelled(connect: Connect) -> None:
    """A take that is cancelled, at whatever moment, keeps nothing."""
    broker, other = await ready(connect), connect()
    for pause in range(10):
        await other.publish(messages(4))
        taking = asyncio.create_task(broker.take(WORK, 100, 60.0))
        for _ in range(pause * 3):
            await asyncio.sleep(0)
        await asyncio.sleep(pause * 0.0005)
        taking.cancel()
        with suppress(asyncio.CancelledError):
            await broker.ack(await taking)
            continue
        await filled(other, WORK, 4)
        assert sorted(one.id for one in await taken(other, WORK, 4)) == ["0:1", "1:1", "2:1", "3:1"]


async def many_readers(connect: Connect) -> None:
    """Three lines on one queue: each message once."""
    broker = await ready(connect)
    seen: list[str] = []

    async def read(line: Broker) -> None:
        while got := await line.take(WORK, 7, 0.3):
            seen.extend(one.id for one in got)
            await line.ack(got)

    sent = messages(300)
    await asyncio.gather(broker.publish(sent[:150]), broker.publish(sent[150:]), *(read(connect()) for _ in range(3)))
    assert sorted(seen) == sorted(one.id for one in sent)


async def closed_and_open(connect: Connect) -> None:
    """The line opens when it is needed, and again after a close."""
    broker = connect()
    states = [broker.state.word]
    await broker.close()
    assert await broker.ping()
    states.append(broker.state.word)
    await broker.close()
    await broker.close()
    states.append(broker.state.word)
    await broker.declare()
    assert (await broker.publish(messages(1))).confirmed == {"0:1"}
    assert [*states, broker.state.word] == ["closed", "connected", "closed", "connected"]


CASES = [
    nothing_declared, declared_twice, a_sites_commands, what_is_published_comes, any_body_and_id, each_its_fate,
    no_more_than_asked, waiting_for_one, held_comes_again, acknowledged_too_late, rejected, back_too_often,
    dead_letters_stay, cancelled, many_readers, closed_and_open,
]  # fmt: skip


# ── the worlds ──


@pytest.fixture
async def lines() -> AsyncIterator[list[Broker]]:
    """All that a test connects, closed at its end."""
    made: list[Broker] = []
    yield made
    await asyncio.gather(*(one.close() for one in made))


@pytest.fixture
def rabbit(rabbitmq: Vhost, lines: list[Broker]) -> Connect:
    """RabbitMQ."""

    def connect() -> Broker:
        lines.append(RabbitBroker(rabbitmq.url, rabbitmq.password))
        return lines[-1]

    return connect


@pytest.fixture
def memory(lines: list[Broker], request: pytest.FixtureRequest) -> Connect:
    """The broker in memory."""

    def connect() -> Broker:
        lines.append(MemoryBroker.shared(request.node.nodeid))
        return lines[-1]

    return connect


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_rabbitmq(case: Case, rabbit: Connect) -> None:
    """Each case on RabbitMQ."""
    await case(rabbit)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_memory(case: Case, memory: Connect) -> None:
    """Each case in memory."""
    await case(memory)


# ── careless ones, which must be caught ──


async def test_a_lost_message_is_seen(rabbit: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `mandatory` the broker confirms what no queue takes."""
    publish = Channel.basic_publish

    def careless(channel: Any, *words: Any, mandatory: bool) -> None:
        publish(channel, *words, mandatory=False)

    monkeypatch.setattr(Channel, "basic_publish", careless)
    with pytest.raises(AssertionError):
        await nothing_declared(rabbit)


class Greedy(MemoryBroker):
    """Takes all that is there."""

    async def take(self, queue: str, most: int, within: float) -> list[Delivery]:
        """See ports.Broker."""
        return await super().take(queue, 1000, within)


class Forgetful(MemoryBroker):
    """Acknowledges before the work is done."""

    async def take(self, queue: str, most: int, within: float) -> list[Delivery]:
        """See ports.Broker."""
        got = await super().take(queue, most, within)
        await self.ack(got)
        return got


class Hopeful(MemoryBroker):
    """Counts as confirmed what it has handed over."""

    async def publish(self, messages: Sequence[Message]) -> Published:
        """See ports.Broker."""
        await super().publish(messages)
        return Published(frozenset(one.id for one in messages))


class Nosy(MemoryBroker):
    """Takes what it looks at, and puts it back at the end."""

    async def dead_letters(self, queue: str, most: int) -> list[DeadLetter]:
        """See ports.Broker."""
        looked = await super().dead_letters(queue, most)
        got = await self.take(dead(queue), most, 0)
        await self.publish([Message(one.id, one.body, dead(queue)) for one in got])
        await self.ack(got)
        return looked


@pytest.mark.parametrize(
    ("careless", "case"),
    [(Greedy, no_more_than_asked), (Forgetful, held_comes_again), (Hopeful, each_its_fate), (Nosy, dead_letters_stay)],
)
async def test_a_careless_broker_is_caught(
    careless: type[MemoryBroker], case: Case, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suite would notice."""
    monkeypatch.setitem(globals(), "SOON", 0.2)
    with pytest.raises(AssertionError):
        await case(lambda: careless.shared(request.node.nodeid))
