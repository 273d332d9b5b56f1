"""RabbitMQ at its worst: frozen, blocked, cut off, refusing. Nothing confirmed is lost, and no call hangs.

Killed it is in `test_broker_killed`.
"""

from __future__ import annotations

import asyncio
import shlex
import signal
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika  # type: ignore[import-untyped]
import pytest

from aogconsole.errors import BrokerError, ConfigError
from aogconsole.reingestion.messages import COMMANDS, EVENTS, OUR_EVENTS, command_queue
from backends.broker_ports import Message
from backends.rabbitmq import RabbitBroker
from backends.rabbitmq_address import Address
from backends.rabbitmq_line import LoginRefused
from backends.rabbitmq_publish import WINDOW
from tests.support.broking import BOUND, OTHER, TIMEOUT, WORK, all_of, honest, line, until, work
from tests.support.pages import DOCS
from tests.support.proxy import TcpProxy
from tests.support.rabbitmq import Vhost

PAGE = DOCS / "broker.md"


@contextmanager
def raw(vhost: Vhost) -> Iterator[Any]:
    """A channel of pika's own."""
    credentials = pika.PlainCredentials(vhost.user, vhost.password)
    there = pika.ConnectionParameters("127.0.0.1", vhost.node.port, vhost.name, credentials)
    with pika.BlockingConnection(there) as connection:
        yield connection.channel()


# ── frozen, blocked ──


async def test_frozen(frail_rabbitmq: Vhost) -> None:
    """SIGSTOP: every call ends in its time, and says what it knows; afterwards all goes on."""
    async with line(frail_rabbitmq, TIMEOUT) as broker, line(frail_rabbitmq, TIMEOUT) as fresh:
        await broker.declare()
        asked = work(3)
        assert len((await broker.publish(asked[:2])).confirmed) == 2
        (held,) = await broker.take(WORK, 1, 5.0)
        frail_rabbitmq.node.signal(signal.SIGSTOP)
        try:
            begun = time.monotonic()
            published = await broker.publish(asked[2:])
            assert set(published.unknown) == {"2:1"}
            await broker.ack([held])
            for call in (
                lambda: broker.take(WORK, 1, 0.1), lambda: broker.depth(WORK), lambda: broker.publish(asked[2:]),
                broker.ping, fresh.ping,
            ):  # fmt: skip
                async with asyncio.timeout(BOUND):
                    with pytest.raises(BrokerError):
                        await call()
            assert broker.state.word == "connecting"
            async with asyncio.timeout(BOUND):
                await fresh.close()
            assert time.monotonic() - begun < 8 * BOUND
        finally:
            frail_rabbitmq.node.signal(signal.SIGCONT)
        await until(lambda: broker.state.word == "connected")
        there = await all_of(broker, WORK)
        assert "1:1" in there
        assert (await broker.publish(work(1, first=9))).confirmed == {"9:1"}


def short_of_memory(until_there: Path) -> str:
    """What makes a broker short of memory until there is a file: `rabbitmqctl` once, for it takes a second."""
    look = (
        f'W = fun W() -> case filelib:is_file("{until_there}") of true -> Set(0.5); _ -> timer:sleep(20), W() end end'
    )
    return f"Set = fun vm_memory_monitor:set_vm_memory_high_watermark/1, {look}, spawn(W), Set(0)."


async def test_short_of_memory(frail_rabbitmq: Vhost) -> None:
    """The broker's alarm: publishing is bounded and honest, taking goes on, and after it all is as before."""
    node = frail_rabbitmq.node
    enough = node.root / "enough"
    async with line(frail_rabbitmq, TIMEOUT) as broker:
        await broker.declare()
        assert len((await broker.publish(work(2))).confirmed) == 2
        await asyncio.to_thread(node.ctl, "eval", short_of_memory(enough))
        try:
            published = await broker.publish(work(1, first=2))
            assert set(published.unknown) == {"2:1"}
            assert "memory" in published.unknown["2:1"]
            assert broker.state.word == "blocked"
            assert "memory" in broker.state.why
            begun = time.monotonic()
            with pytest.raises(BrokerError, match="memory"):
                await broker.publish(work(1, first=3))
            assert time.monotonic() - begun < BOUND
            got = await broker.take(WORK, 2, 5.0)
            await broker.ack(got)
            assert len(got) == 2
        finally:
            enough.touch()
        await until(lambda: broker.state.word == "connected")
        assert (await broker.publish(work(1, first=4))).confirmed == {"4:1"}
        assert set(await all_of(broker, WORK)) >= {"4:1"}


# ── cut, closed ──


async def test_cut_off(rabbitmq: Vhost) -> None:
    """The network breaks between the two: what is held comes again, and both sides of the work go on."""
    async with TcpProxy(rabbitmq.node.port) as proxy, line(rabbitmq, port=proxy.port) as broker:
        await broker.declare()
        await broker.publish(work(3))
        old = await broker.take(WORK, 3, 5.0)
        waiting = asyncio.create_task(broker.take(OTHER, 1, 30.0))
        await until(lambda: broker.state.word == "connected")
        proxy.reset()
        await until(lambda: broker.state.word == "connecting")
        await broker.ack(old)
        new = await broker.take(WORK, 3, 5.0)
        assert [one.id for one in new] == ["0:1", "1:1", "2:1"]
        assert all(one.redelivered for one in new)
        await broker.publish([Message("late", b"", OTHER)])
        assert [one.id for one in await waiting] == ["late"]
        proxy.down.clear()
        held = asyncio.create_task(broker.publish(work(WINDOW, first=10)))
        await asyncio.sleep(0)
        proxy.reset()
        proxy.down.set()
        published = await held
        assert not published.returned or published.confirmed or published.unknown
        await broker.ack(new)
        honest(published, work(WINDOW, first=10), await all_of(broker, WORK))


async def test_a_channel_that_the_broker_closes(rabbitmq: Vhost) -> None:
    """As after 30 minutes without an acknowledgement: its messages come again, other queues' stay held."""
    async with line(rabbitmq) as broker:
        await broker.declare()
        await broker.publish([*work(2), Message("other", b"", OTHER)])
        old = await broker.take(WORK, 2, 5.0)
        (other,) = await broker.take(OTHER, 1, 5.0)
        channel: Any = old[0].tag
        channel.channel.tube.raw.basic_ack(12345)  # "PRECONDITION_FAILED - unknown delivery tag"
        new = await broker.take(WORK, 2, 5.0)
        assert [(one.id, one.redelivered) for one in new] == [("0:1", True), ("1:1", True)]
        await broker.ack(old)
        await broker.ack([other])
    async with line(rabbitmq) as broker:
        assert sorted(await all_of(broker, WORK)) == ["0:1", "1:1"]
        assert await all_of(broker, OTHER) == []


async def test_an_exchange_that_is_taken_away(rabbitmq: Vhost) -> None:
    """The message that closes the channel is not there; of those before it that is not known."""
    async with line(rabbitmq) as broker:
        await broker.declare()
        to_events = Message("e1", b"", "a.event", EVENTS)
        assert (await broker.publish([to_events])).confirmed
        rabbitmq.node.api("DELETE", f"exchanges/{quote(rabbitmq.name, safe='')}/{EVENTS}")
        asked = [*work(2), replace(to_events, id="e2"), replace(to_events, id="e3"), *work(2, first=2)]
        published = await broker.publish(asked)
        honest(published, asked, await all_of(broker, WORK))
        assert set(published.returned) == {"e3", "2:1", "3:1"}
        assert "e2" in published.unknown
        again = await broker.publish([replace(to_events, id="e4"), *work(1, first=9)])
        assert set(again.returned) == {"e4"}
        assert again.confirmed == {"9:1"}


async def test_a_queue_that_is_deleted_under_a_reader(rabbitmq: Vhost) -> None:
    """The reader is told at once."""
    async with line(rabbitmq) as broker:
        await broker.declare()
        waiting = asyncio.create_task(broker.take(WORK, 1, 60.0))
        with raw(rabbitmq) as channel:
            while not channel.queue_declare(WORK, passive=True).method.consumer_count:
                await asyncio.sleep(0.01)
            channel.queue_delete(WORK)
        async with asyncio.timeout(5):
            with pytest.raises(BrokerError, match=f"no queue {WORK}"):
                await waiting
        await broker.declare()
        await broker.publish(work(1))
        assert len(await broker.take(WORK, 1, 5.0)) == 1


# ── refusals ──


async def test_refused_log_ins(rabbitmq: Vhost) -> None:
    """Told at once, with what to do; and tried again, for an administrator may correct it."""
    unknown = replace(rabbitmq, user="not-yet", password="s3cret-canary")
    async with line(unknown) as broker:
        begun = time.monotonic()
        for call in (broker.ping, lambda: broker.take(WORK, 1, 30.0), lambda: broker.publish(work(1))):
            with pytest.raises(LoginRefused) as caught:
                await call()
            assert "broker.password" in caught.value.hint
            assert "s3cret" not in f"{caught.value}{caught.value.hint}{broker.state}{caught.value.__cause__!r}"
        assert time.monotonic() - begun < BOUND
        rabbitmq.node.api("PUT", "users/not-yet", {"password": unknown.password, "tags": ""})
        with pytest.raises(LoginRefused, match="virtual host"):
            await broker.ping()
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        rabbitmq.node.api("PUT", f"permissions/{quote(rabbitmq.name, safe='')}/not-yet", rights)
        await until(lambda: broker.state.word == "connected")
        assert await broker.declare()
    async with line(replace(rabbitmq, name="t/none")) as broker:
        with pytest.raises(LoginRefused, match="virtual host"):
            await broker.ping()


def calls(broker: RabbitBroker) -> Iterator[Awaitable[object]]:
    """One of each kind."""
    yield broker.ping()
    yield broker.take(WORK, 1, 0.1)
    yield broker.publish(work(1))


async def nobody(port: int, said: str) -> None:
    """Each call ends in its time, and says what is wrong."""
    broker = RabbitBroker(f"amqp://aog@127.0.0.1:{port}/v", "x", timeout=TIMEOUT, slowest=0.2)
    for call in calls(broker):
        async with asyncio.timeout(BOUND):
            with pytest.raises(BrokerError, match=said):
                await call
    async with asyncio.timeout(BOUND):
        await broker.close()


async def test_nobody_there(caplog: pytest.LogCaptureFixture) -> None:
    """A port that nobody listens on, one that is silent, one that speaks something else: bounded, and told."""
    with socket.socket() as free, socket.socket() as silent:
        free.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        silent.listen()

        async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(8)
            writer.write(b"220 mail.example.org ESMTP\r\n")
            writer.close()

        other = await asyncio.start_server(babble, "127.0.0.1", 0)
        cases = ((free.getsockname()[1], "refused"), (silent.getsockname()[1], "did not answer"),
                 (other.sockets[0].getsockname()[1], "AMQP"))  # fmt: skip
        await asyncio.gather(*(nobody(port, said) for port, said in cases))
        other.close()
    assert not caplog.records, "pika's own words are for nobody"


@asynccontextmanager
async def tls_front(target: int, folder: Path) -> AsyncIterator[tuple[int, str]]:
    """TLS before a port, as a broker's own; its port, and the file of its certificate."""
    key, certificate = folder / "tls.key", folder / "tls.pem"
    words = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=broker", "-days", "2"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, ["openssl", "req", "-x509", *words], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)
        writer.close()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        tasks.update({asyncio.create_task(copy(reader, far_writer)), asyncio.create_task(copy(far_reader, writer))})

    server = await asyncio.start_server(meet, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1], str(certificate)
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_tls(rabbitmq: Vhost, tmp_path: Path) -> None:
    """With the site's own authority; a certificate that nobody vouches for, or for another name, is refused."""
    async with tls_front(rabbitmq.node.port, tmp_path) as (port, certificate):
        plain = rabbitmq.url.replace(f":{rabbitmq.node.port}/", f":{port}/")
        url = plain.replace("amqp:", "amqps:")
        broker = RabbitBroker(url, rabbitmq.password, ca=certificate)
        assert await broker.declare()
        assert (await broker.publish(work(600, size=5000))).confirmed
        assert len(await broker.take(WORK, 600, 5.0)) > 0
        await broker.close()
        wrong = ((url, ""), (url.replace("127.0.0.1", "localhost"), certificate), (plain, ""))
        for address, ca in wrong:
            broker = RabbitBroker(address, rabbitmq.password, ca=ca, timeout=TIMEOUT)
            with pytest.raises(BrokerError, match=r"TLS|AMQP|answer"):
                await broker.ping()
            await broker.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://u:pw@x/", "no amqp URL"), ("amqp:///v", "no amqp URL"), ("amqp://u:pw@host/a/b", "more than"),
        ("amqp://u@host:port/v", "no URL"), ("amqp://u@host/a/b", "more than"), ("amqp://u@[::1/", "no URL"),
        ("amqp://u@host/?heartbeat=1", "more than"),
    ],
)  # fmt: skip
def test_addresses_that_are_none(url: str, said: str) -> None:
    """One sentence, without the password."""
    with pytest.raises(ConfigError, match=said) as caught:
        RabbitBroker(url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "given", "account"),
    [
        ("amqp://u:p%40w@host/v", "", ("u", "p@w")), ("amqp://u:pw@host/v", "kept", ("u", "kept")),
        ("amqp://u@host/v", "", ("u", "")), ("amqp://host:5673", "", ("guest", "guest")),
    ],
)  # fmt: skip
def test_accounts_in_addresses(url: str, given: str, account: tuple[str, str]) -> None:
    """A password in the URL counts when no other is given, and is never shown."""
    address = Address.parse(url, given)
    assert (address.user, address.password) == account
    assert "pw" not in f"{address} {address!r}"


def test_a_file_of_certificates_that_is_none(tmp_path: Path) -> None:
    """Named."""
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(ConfigError, match=name):
            RabbitBroker("amqps://u@host/", ca=str(tmp_path / name))


# ── messages of others ──


class Raw(pika.BasicProperties):  # type: ignore[misc]
    """Properties as bytes."""

    def __init__(self, encoded: bytes) -> None:
        super().__init__()
        self.encoded = encoded

    def encode(self) -> list[bytes]:
        """As given."""
        return [self.encoded]


def header(kind: bytes, value: bytes) -> Raw:
    """Properties with one header."""
    entry = b"\x01h" + kind + value
    return Raw(struct.pack(">HI", 1 << 13, len(entry)) + entry)


def nested(depth: int) -> bytes:
    """Tables in tables."""
    table = b""
    for _ in range(depth):
        entry = b"\x01t" + b"F" + struct.pack(">I", len(table)) + table
        table = entry
    return struct.pack(">I", len(table)) + table


HOSTILE = [
    pika.BasicProperties(),
    pika.BasicProperties(message_id=b"\xff\xfe"),
    header(b"S", struct.pack(">I", 2) + b"\xff\xfe"),
    header(b"T", struct.pack(">Q", 2**62)),
    header(b"T", struct.pack(">Q", 1 << 45)),
    header(b"F", nested(3000)),
    header(b"D", b"\xff" + struct.pack(">i", 5)),
    pika.BasicProperties(expiration="100000", priority=9, type="\x1b]0;x\x07"),
]


async def test_hostile_properties(rabbitmq: Vhost) -> None:
    """Whatever headers others send: each message comes, on the same connection, and can be rejected."""
    async with line(rabbitmq) as broker:
        await broker.declare()

        with raw(rabbitmq) as channel:
            channel.confirm_delivery()
            for number, properties in enumerate(HOSTILE):
                channel.basic_publish("", WORK, str(number).encode(), properties, mandatory=True)
        got = await broker.take(WORK, 100, 5.0)
        while len(got) < len(HOSTILE):
            more = await broker.take(WORK, 100, 5.0)
            assert more
            got += more
        assert [one.body for one in got] == [str(number).encode() for number in range(len(HOSTILE))]
        assert not any(one.redelivered for one in got)
        assert got[1].id == "\\xff\\xfe"
        for one in got[:3]:
            await broker.reject(one)
        await broker.ack(got)
        assert await broker.take(WORK, 1, 0.05) == []


# ── what a site has already ──


async def test_a_site_has_its_own(rabbitmq: Vhost) -> None:
    """Its exchanges and queues stay as they are, and are used; who may not make any is told."""
    vhost = quote(rabbitmq.name, safe="")
    theirs = {"type": "topic", "durable": True, "internal": False, "arguments": {"alternate-exchange": "amq.fanout"}}
    rabbitmq.node.api("PUT", f"exchanges/{vhost}/{EVENTS}", theirs)
    rabbitmq.node.api("PUT", f"queues/{vhost}/{WORK}", {"durable": True, "arguments": {"x-queue-type": "classic"}})
    async with line(rabbitmq) as broker:
        lines = await broker.declare()
        assert f"exchange {EVENTS} is there" in lines
        assert [
            one for one in lines if one.startswith(f"queue {WORK} is there with other arguments than ours, and kept")
        ]
        await broker.publish(work(2))
        assert await all_of(broker, WORK) == ["0:1", "1:1"]
    async with line(rabbitmq.as_user("", ".*", ".*")) as broker:
        lines = await broker.declare()
        assert f"queue {OTHER} is there; we may not compare its arguments" in lines
        with pytest.raises(BrokerError, match="SOUTH") as caught:
            await broker.declare_site("SOUTH")
        assert "permission" in caught.value.hint
    async with line(rabbitmq.as_user("", "^amq.default$", "^$")) as broker:
        with pytest.raises(BrokerError, match="cannot be read"):
            await broker.take(WORK, 1, 5.0)
        published = await broker.publish([*work(1), Message("c", b"", "NAASC.start", COMMANDS)])
        assert published.confirmed <= {"0:1"}
        assert "c" in published.returned


def documented(vhost: Vhost) -> dict[str, Vhost]:
    """The accounts that the administrator's page gives, by name."""
    lines = [shlex.split(one) for one in PAGE.read_text().splitlines() if "rabbitmqctl set_permissions -p aog " in one]
    return {words[4].removeprefix("aog_"): vhost.as_user(*words[5:]) for words in lines}


async def test_the_documented_permissions(rabbitmq: Vhost) -> None:
    """Each account may do what its program does, and not another's."""
    accounts = documented(rabbitmq)
    assert accounts.keys() == {"admin", "loader", "runner", "workflow", "console"}
    async with line(accounts["admin"]) as admin:
        assert await admin.declare()
        assert await admin.declare_site("NAASC")
        assert not [one for one in [*await admin.declare(), *await admin.declare_site("NAASC")] if "made" in one]
    command, event = Message("c", b"", "NAASC.start", COMMANDS), Message("e", b"", "aogconsole.event", EVENTS)
    async with (
        line(accounts["loader"]) as loader, line(accounts["runner"]) as runner,
        line(accounts["workflow"]) as workflow, line(accounts["console"]) as console,
    ):  # fmt: skip
        assert (await loader.publish(work(1))).confirmed
        assert await console.depth(WORK) == await loader.depth(WORK) == 1
        for queue in (WORK, OTHER):
            await runner.ack(await runner.take(queue, 1, 0.2))
        assert (await runner.publish([command])).confirmed
        assert (await runner.publish([event])).confirmed  # of a workflow that it has launched by itself
        await runner.ack(await runner.take(OUR_EVENTS, 1, 5.0))
        assert "may not" in (await workflow.declare_site("NAASC"))[-1]
        await workflow.ack(await workflow.take(command_queue("NAASC"), 1, 5.0))
        assert (await workflow.publish([event])).confirmed
        assert [one.id for one in await runner.take(OUR_EVENTS, 1, 5.0)] == ["e"]
        for broker, message in ((loader, command), (workflow, command), (console, event), (console, work(1)[0])):
            assert not (await broker.publish([message])).confirmed
        for broker, queue in ((loader, WORK), (console, OUR_EVENTS), (workflow, OUR_EVENTS)):
            with pytest.raises(BrokerError, match="cannot be read"):
                await broker.take(queue, 1, 1.0)


async def test_closed_under_a_reader(rabbitmq: Vhost) -> None:
    """Who waits is told, and the line stays closed."""
    async with TcpProxy(rabbitmq.node.port) as proxy, line(rabbitmq, port=proxy.port) as broker:
        await broker.declare()
        waiting = [asyncio.create_task(broker.take(queue, 1, 60.0)) for queue in (WORK, OTHER)]
        await broker.publish(work(1))
        await waiting[0]
        await broker.close()
        async with asyncio.timeout(5):
            with pytest.raises(BrokerError, match="closed"):
                await waiting[1]
        assert (broker.state.word, proxy.connected) == ("closed", 2)


async def test_two_connections_at_most(rabbitmq: Vhost) -> None:
    """However much is asked at once, from nothing."""
    async with TcpProxy(rabbitmq.node.port) as proxy, line(rabbitmq, port=proxy.port) as broker:
        await broker.declare()
        calls: list[Any] = [broker.take(queue, 1, 0.1) for queue in (WORK, OTHER, OUR_EVENTS) for _ in range(3)]
        calls += [broker.publish(work(20, first=20 * number)) for number in range(20)]
        calls += [broker.depth(WORK) for _ in range(20)]
        await asyncio.gather(*calls)
        assert proxy.connected == 2
        with suppress(BrokerError):
            await broker.ping()
        assert proxy.connected == 2
