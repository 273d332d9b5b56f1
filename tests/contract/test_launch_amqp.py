"""What the launcher by command owes: one command for one id, and the truth about whether it was taken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from aogconsole.errors import BrokerError
from aogconsole.reingestion.messages import Sender, command_queue, start
from backends.broker_ports import Broker
from backends.launch_amqp import AmqpLauncher
from backends.memory_broker import MemoryBroker
from backends.rabbitmq import RabbitBroker
from tests.support.launching import new_start
from tests.support.proxy import TcpProxy
from tests.support.rabbitmq import Vhost

SENDER = Sender("aog", "aog1.example")


@pytest.fixture(params=["memory", "rabbitmq"])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    """A broker with a site's queue."""
    made: Broker
    if request.param == "memory":
        made = MemoryBroker()
    else:
        vhost: Vhost = request.getfixturevalue("rabbitmq")
        made = RabbitBroker(vhost.url, vhost.password)
    await made.declare()
    await made.declare_site("NAASC")
    yield made
    await made.close()


async def test_the_command_reaches_its_site(broker: Broker) -> None:
    """By its routing key, with the workflow's id as the message's; sent again it is the same command."""
    launcher = AmqpLauncher(broker, SENDER)
    wanted = new_start(uid="uid://A002/X1/X\u202e")
    for _ in range(2):
        assert (await launcher.launch(wanted, "NAASC")).outcome == "started"
    queue = command_queue("NAASC")
    got = [one for _ in range(2) for one in await broker.take(queue, 1, 5.0)]
    await broker.ack(got)
    assert [start(one.body) for one in got] == [wanted, wanted]
    assert {one.id for one in got} == {wanted.workflow_id}
    told = json.loads(got[0].body)
    assert (told["user"], told["hostname"], told["application"]) == ("aog", "aog1.example", "aogconsole")


async def test_where_nobody_listens_it_is_refused(broker: Broker) -> None:
    """A sentence that names the routing key; the site's name is made safe."""
    launcher = AmqpLauncher(broker, SENDER)
    launch = await launcher.launch(new_start(), "DSOC")
    assert (launch.outcome, launch.blameless) == ("refused", True)
    assert launch.why.startswith("nobody takes commands with the routing key DSOC.start (")
    assert "\x1b" not in (await launcher.launch(new_start(), "\x1b]0;x\x07")).why


async def test_nothing_is_known_of_it(broker: Broker) -> None:
    """Whatever is asked: unknown; there is nothing to forget."""
    launcher = AmqpLauncher(broker, SENDER)
    one = new_start()
    await launcher.launch(one, "NAASC")
    seen = await launcher.look([one.workflow_id, "another"])
    assert {name: told.state for name, told in seen.items()} == {one.workflow_id: "unknown", "another": "unknown"}
    await launcher.forget([one.workflow_id])
    assert (launcher.name, launcher.local_to) == ("amqp", "")


async def test_what_no_message_can_hold_is_refused(broker: Broker) -> None:
    """A site's name longer than a routing key, or one that no text can be made of."""
    launcher = AmqpLauncher(broker, SENDER)
    for site in ("x" * 300, "\ud800"):
        assert (await launcher.launch(new_start(), site)).outcome == "refused"
    strange = replace(new_start(), metadata={"uid": "\ud800"})
    assert (await launcher.launch(strange, "NAASC")).outcome == "started", "JSON spells it out"


async def test_a_broker_that_is_away_is_said_so() -> None:
    """Nothing was given to it: the attempt does not count."""
    away = RabbitBroker("amqp://aog@127.0.0.1:1/", "x", timeout=0.3)
    with pytest.raises(BrokerError, match="cannot be reached"):
        await AmqpLauncher(away, SENDER).launch(new_start(), "NAASC")
    await away.close()


async def test_a_line_that_breaks_leaves_it_unknown(rabbitmq: Vhost) -> None:
    """Cut while commands go out: what is started is there, what is refused is not, the rest nobody knows."""
    async with TcpProxy(rabbitmq.node.port) as proxy:
        url = rabbitmq.url.replace(f":{rabbitmq.node.port}/", f":{proxy.port}/")
        broker, direct = RabbitBroker(url, rabbitmq.password), RabbitBroker(rabbitmq.url, rabbitmq.password)
        await direct.declare_site("NAASC")
        launcher = AmqpLauncher(broker, SENDER)
        assert (await launcher.launch(new_start(), "NAASC")).outcome == "started"
        starts = [new_start() for _ in range(200)]
        proxy.down.clear()
        tasks = [asyncio.create_task(launcher.launch(one, "NAASC")) for one in starts]
        async with asyncio.timeout(10):
            while await direct.depth(command_queue("NAASC")) < 100:
                await asyncio.sleep(0.01)
        proxy.reset()
        proxy.down.set()
        launches = dict(zip((one.workflow_id for one in starts), await asyncio.gather(*tasks), strict=True))
        there = set()
        while got := await direct.take(command_queue("NAASC"), 300, 0.5):
            await direct.ack(got)
            there |= {one.id for one in got}
        await asyncio.gather(broker.close(), direct.close())
    told = {word: {name for name, one in launches.items() if one.outcome == word} for word in ("started", "refused")}
    assert there >= told["started"]
    assert not there & told["refused"]
    assert len(there) > len(told["started"]), "some arrived of which nobody could know"
