"""The verbs `broker declare` and `broker dead`, on a real broker and without one."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pika  # type: ignore[import-untyped]
import pytest

from aogconsole import times
from backends.broker_ports import Message
from backends.topology import dead
from tests.support.broking import WORK, line
from tests.support.command import call
from tests.support.rabbitmq import Vhost


def configured(folder: Path, url: str, password: str) -> Path:
    """A configuration with this broker."""
    secret, file = folder / "broker.password", folder / "config.toml"
    secret.write_text(password)
    secret.chmod(0o600)
    file.write_text(f'[broker]\nurl = "{url}"\npassword = "file:broker.password"\n')
    return file


def test_declare(rabbitmq: Vhost, tmp_path: Path) -> None:
    """It makes what is not there, once; a line for each thing."""
    config = configured(tmp_path, rabbitmq.url, rabbitmq.password)
    first = call(config, "broker", "declare", "--site", "NAASC", "--json")
    assert first.code == 0
    assert set(first.json) == {"broker", "declared"}
    assert first.json["broker"] == rabbitmq.url
    assert "queue alma_reingestion made" in first.json["declared"]
    assert "queue archive.workflow-commands.NAASC made" in first.json["declared"]
    again = call(config, "broker", "declare", "--site", "NAASC")
    assert again.code == 0
    assert len(again.out.splitlines()) == len(first.json["declared"])
    assert b"made" not in again.out


def test_what_cannot_be(rabbitmq: Vhost, tmp_path: Path) -> None:
    """One sentence and a hint, with the contract's exit code; nothing of the password."""
    good = configured(tmp_path, rabbitmq.url, rabbitmq.password)
    assert call(good, "--read-only", "broker", "declare").code == 2
    assert call(good, "broker", "declare", "--site", "a b").code == 2
    refused = call(configured(tmp_path, rabbitmq.url, "canary-2718"), "broker", "declare")
    assert (refused.code, refused.err.count(b"\n")) == (4, 2)
    assert b"refuses the log-in" in refused.err
    assert b"canary" not in refused.err
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = call(configured(tmp_path, f"amqp://aog@127.0.0.1:{nobody.getsockname()[1]}/v", "x"), "broker", "declare")
    assert (away.code, away.err.count(b"\n")) == (4, 2)
    assert b"Connection refused" in away.err
    (tmp_path / "config.toml").write_text("")
    assert call(tmp_path / "config.toml", "broker", "declare").code == 3


async def put_aside(vhost: Vhost, queue: str, *sent: Message, headers: dict[str, Any] | None = None) -> None:
    """Messages that are rejected; with headers: put into the dead letters by somebody, as they are."""
    async with line(vhost) as broker:
        await broker.declare()
        await broker.declare_site("NAASC")
        if headers is not None:
            tube = await broker._in.tube()
            for one in sent:
                about = pika.BasicProperties(message_id=one.id, headers=headers)
                tube.raw.basic_publish("", dead(queue), one.body, about)
            while await broker.depth(dead(queue)) < len(sent):
                await asyncio.sleep(0.01)
            return
        await broker.publish([Message(one.id, one.body, queue) for one in sent])
        for _ in sent:
            await broker.reject((await broker.take(queue, 1, 10.0))[0])
        while await broker.depth(dead(queue)) < len(sent):
            await asyncio.sleep(0.01)


async def depth(vhost: Vhost, queue: str, wanted: int) -> None:
    """Until so many dead letters are there: what is given back is so a moment later."""
    async with line(vhost) as broker, asyncio.timeout(10.0):
        while await broker.depth(dead(queue)) != wanted:
            await asyncio.sleep(0.01)


def test_dead_letters_are_shown(rabbitmq: Vhost, tmp_path: Path) -> None:
    """Which, why and since when; often, by a read-only account of the program, and they stay in their order."""
    config = configured(tmp_path, rabbitmq.url, rabbitmq.password)
    assert call(config, "broker", "declare").code == 0
    none = call(config, "broker", "dead")
    assert (none.code, none.out.count(b"\n")) == (0, 1)
    assert b"no dead letters in alma_reingestion.dead, vlba_reingestion.dead, archive.events.aog" in none.out
    bodies = [b'{"kind": "observation"}', b"\xff\x1b[2J" + b"x" * 9000, b""]
    asyncio.run(put_aside(rabbitmq, WORK, *(Message(f"{n}:1", body, "") for n, body in enumerate(bodies))))
    asyncio.run(put_aside(rabbitmq, "archive.workflow-commands.NAASC", Message("w", b"{}", "")))
    for _ in range(3):
        told = call(config, "--read-only", "broker", "dead", "--json").json
        assert told["broker"] == rabbitmq.url
        work, vlba, events = told["queues"]
        assert [(one["queue"], one["messages"]) for one in (work, vlba, events)] == [
            (dead(WORK), 3), ("vlba_reingestion.dead", 0), ("archive.events.aogconsole.dead", 0)]  # fmt: skip
        first, second, third = work["letters"]
        assert (first["id"], first["reason"], first["size"], first["body"]) == (
            "0:1",
            "rejected",
            23,
            bodies[0].decode(),
        )
        assert abs(times.parse(first["at"]) - times.now()) < timedelta(minutes=5)
        assert (second["size"], len(second["body"]) < 5000, second["body"].isprintable()) == (9005, True, True)
        assert (third["id"], third["size"], third["body"]) == ("2:1", 0, "")
        asyncio.run(depth(rabbitmq, WORK, 3))
    some = call(config, "broker", "dead", "--limit", "2", "--site", "NAASC")
    assert some.code == 0
    lines = some.out.decode().splitlines()
    assert [row.split()[:3] for row in lines[1:4]] == [
        [dead(WORK), "0:1", "rejected"], [dead(WORK), "1:1", "rejected"],
        ["archive.workflow-commands.NAASC.dead", "w", "rejected"]]  # fmt: skip
    assert lines[4] == "alma_reingestion.dead has 3; these are the oldest (--limit)"
    assert all(row.isprintable() and len(row) < 250 for row in lines)


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-death": "no"}, {"x-death": []}, {"x-death": [7]}, {"x-death": [{"reason": 7, "time": "then"}]},
     {"x-death": [{"reason": "\x1b[2J" * 200}], "x-first-death-reason": ["x"]}],
)  # fmt: skip
def test_dead_letters_that_somebody_made(rabbitmq: Vhost, tmp_path: Path, headers: dict[str, Any]) -> None:
    """Whatever headers say: it is shown, safely."""
    config = configured(tmp_path, rabbitmq.url, rabbitmq.password)
    asyncio.run(put_aside(rabbitmq, WORK, Message("\x1b]0;x\x07", b"{", ""), headers=headers))
    done = call(config, "broker", "dead", "--json")
    assert (done.code, done.err) == (0, b"")
    (letter,) = done.json["queues"][0]["letters"]
    assert (letter["at"], letter["body"]) == (None, "{")
    assert all(text is None or text.isprintable() for text in (letter["id"], letter["reason"]))
    assert b"\x1b" not in call(config, "broker", "dead").out


def test_dead_letters_that_cannot_be_shown(rabbitmq: Vhost, tmp_path: Path) -> None:
    """One sentence and a hint, with the contract's exit code."""
    config = configured(tmp_path, rabbitmq.url, rabbitmq.password)
    for words, code, said in (
        ([], 4, "has no queue alma_reingestion.dead"), (["--site", "a b"], 2, "is no site's name"),
    ):  # fmt: skip
        done = call(config, "broker", "dead", *words)
        assert (done.code, done.err.count(b"\n"), said in done.err.decode()) == (code, 2, True), done.err
    assert call(config, "broker", "dead", "--limit", "0").code == 2
    assert call(config, "broker", "declare").code == 0
    refused = rabbitmq.as_user("^$", "^$", "^$")
    done = call(configured(tmp_path, refused.url, refused.password), "broker", "dead")
    assert (done.code, done.err.count(b"\n")) == (4, 2)
    assert b"alma_reingestion.dead may not be read" in done.err
    (tmp_path / "config.toml").write_text('[broker]\nurl = "memory:x"\n')
    memory = call(tmp_path / "config.toml", "broker", "dead")
    assert (memory.code, b"shows its messages to no other" in memory.err) == (3, True)
    (tmp_path / "config.toml").write_text("")
    assert call(tmp_path / "config.toml", "broker", "dead").code == 3
