"""QueueRunner on a real PostgreSQL and RabbitMQ: what is launched, counted from outside, and what the table says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import gethostname
from urllib.parse import quote

import pytest

from aogconsole import config
from aogconsole.cli.runner import serve
from aogconsole.errors import BrokerError, NoQueue
from aogconsole.reingestion.item import Change, Found, Item, Kind, Queue, State, requeued
from aogconsole.reingestion.messages import COMMANDS, EVENTS, OUR_EVENTS, Ended, start, work, work_body
from aogconsole.reingestion.sending import Sending
from backends.broker_ports import Message
from backends.reingestion_ports import Limits
from tests.support.postgres import Database
from tests.support.proxy import TcpProxy
from tests.support.rabbitmq import Vhost
from tests.support.runners import FAST, Runners, terminate

ALMA = Queue.ALMA.messages


@pytest.fixture
async def site(postgres: Database, rabbitmq: Vhost, tmp_path: Path) -> AsyncIterator[Runners]:
    """A site with a local launcher."""
    async with Runners(tmp_path, postgres.dsn, rabbitmq.url, rabbitmq.password, postgres.password) as running:
        yield running


def complete(workflow_id: str | None) -> Ended:
    """An event of success."""
    return Ended(workflow_id or "", True, "", {})


def broken(workflow_id: str | None, why: str = "it broke") -> Ended:
    """An event of failure."""
    return Ended(workflow_id or "", False, why, {})


class Commands:
    """Takes what the amqp launcher sends to NAASC, and remembers it."""

    def __init__(self, site: Runners) -> None:
        self._site = site
        self.started: list[str] = []

    async def listen(self) -> None:
        """Have a queue for the commands."""
        await self._site.broker.declare_site("NAASC")

    async def take(self, within: float = 5.0) -> list[str]:
        """The workflow ids of the next commands."""
        taken = await self._site.broker.take(f"{COMMANDS}.NAASC", 100, within)
        ids = [found.workflow_id for one in taken if (found := start(one.body)) is not None]
        await self._site.broker.ack(taken)
        self.started += ids
        return ids


@pytest.fixture
async def commands(site: Runners) -> Commands:
    """The same site with the amqp launcher, and who takes its commands."""
    site.write(launcher="amqp", limit=4)
    found = Commands(site)
    await found.listen()
    return found


# ── the limit ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_three_runners_never_have_more_than_the_limit(site: Runners) -> None:
    """The limit holds over all runners, by what the workflows themselves tell."""
    site.write(limit=4)
    site.workflow_does("sleep 0.1")
    await site.add(20)
    for name in ("a", "b", "c"):
        site.start(name)
    await site.ended()
    assert await site.states() == {State.DONE: 20}
    assert set(site.starts().values()) == {1}
    assert len(site.starts()) == 20
    assert 2 <= site.most_at_once()[""] <= 4
    assert await site.broker.depth(ALMA) == 0


async def test_a_runner_that_minds_no_limit_is_noticed(site: Runners) -> None:
    """The count from outside sees what it should."""
    site.workflow_does("sleep 0.3")
    await site.add(8)
    for name in ("a", "b"):
        site.start(name, broken="limit")
    await site.ended()
    assert site.most_at_once()[""] > 4


async def test_never_two_of_one_project_of_the_vlba(site: Runners) -> None:
    """Another one of its project waits again, and goes out when the first has ended."""
    site.write(vlba_limit=4, vlba_per_project=1)
    site.workflow_does("sleep 0.1")
    await site.add(12, Queue.VLBA, projects=3)
    for name in ("a", "b", "c"):
        site.start(name, queues=["vlba"])
    await site.ended()
    assert await site.states(Queue.VLBA) == {State.DONE: 12}
    project_of = {row.uid: row.project or "" for row in await site.rows(Queue.VLBA)}
    assert len(site.starts()) == 12
    most = site.most_at_once(lambda uid: project_of[uid])
    assert set(most.values()) == {1}
    assert site.most_at_once()[""] > 1


async def test_a_lowered_limit_ends_nothing_and_a_raised_one_is_used_at_once(site: Runners) -> None:
    """The configuration is read again while the runner runs."""
    site.write(limit=3)
    site.workflow_does(f"while [ ! -e {site.folder}/go ]; do sleep 0.02; done")
    await site.add(8)
    site.start()
    await site.until(lambda: _started(site, 3))
    site.write(limit=1)
    await site.until(lambda: _says(site, "reingestion.limit"))
    (site.folder / "go").touch()
    await site.until(lambda: _started(site, 5))
    (site.folder / "go").unlink()
    site.write(limit=3)
    (site.folder / "go").touch()
    await site.ended()
    assert await site.states() == {State.DONE: 8}
    assert set(site.starts().values()) == {1}
    assert site.most_at_once()[""] == 3


async def _started(site: Runners, many: int) -> bool:
    return len(site.starts()) >= many


async def _says(site: Runners, text: str) -> bool:
    return text in site.log


async def _are(site: Runners, state: State, many: int, queue: Queue = Queue.ALMA) -> bool:
    return (await site.states(queue))[state] == many


async def test_on_the_embedded_site(tmp_path: Path) -> None:
    """SQLite and the broker in the process: the same runner."""
    async with Runners(tmp_path, f"sqlite:{tmp_path}/metadata.db", f"memory:{tmp_path}") as site:
        site.write(limit=2)
        site.workflow_does("sleep 0.05")
        await site.add(6)
        await serve(site.config, tuple(Queue), "embedded", until_idle=True, pace=FAST)
        assert await site.states() == {State.DONE: 6}
        assert set(site.starts().values()) == {1}
        assert site.most_at_once()[""] == 2


# ── failure, retry, redrive ──────────────────────────────────────────────────────────────────────────────────


async def test_a_failing_item_is_tried_again_until_it_is_dead_and_lives_when_it_is_requeued(site: Runners) -> None:
    """Retry with backoff, dead after the last attempt, and all attempts again after a person's word."""
    site.write(attempts=3, retry_delay=0.1)
    site.workflow_does("what='the disk is full'")
    await site.add(2)
    site.start("daemon", until_idle=False)
    await site.until(lambda: _are(site, State.DEAD, 2))
    for row in await site.rows():
        assert (row.attempt, row.reason) == (3, "the disk is full")
        assert [one.after for one in await site.table().events(row.id)].count(State.FAILED) == 2
    assert len(site.starts()) == 6
    site.workflow_does("")
    rows = await site.rows()
    now = datetime.now(UTC)
    await site.table().move([Change(row, requeued(row, "mended"), "a person", "mended") for row in rows], now)
    await site.until(lambda: _are(site, State.DONE, 2))
    assert [row.attempt for row in await site.rows()] == [4, 4]
    terminate(site.processes[0])
    await site.ended()


async def test_idle_is_who_has_nothing_left_to_try_again(site: Runners) -> None:
    """A runner that ends when it is idle leaves no item between two attempts, unless the next one is far off."""
    site.workflow_does("what='the disk is full'")
    await site.add(1)
    for delay, left in ((300, State.FAILED), (0.5, State.DEAD)):
        site.write(attempts=3, retry_delay=delay)
        site.start()
        await site.ended()
        [row] = await site.rows()
        assert row.state is left
        await site.table().move([Change(row, requeued(row, "again"), "a person", "again")], datetime.now(UTC))


async def test_what_a_site_does_not_take_waits_with_its_reason_and_stops_nothing_else(site: Runners) -> None:
    """Nobody takes commands there: the rows say so. That is no fault of theirs, and costs none of their attempts; who
    waits for the runner to be idle does not wait for the site. What another site takes is launched."""
    site.write(attempts=1, launcher="amqp")
    await site.broker.declare_site("DSOC")
    await site.add(2)
    other = Found(Kind.CALIBRATION, "uid://A001/X1/X1", "1", "2019.1.00000.S", datetime.now(UTC))
    await site.table().add([other], "test", datetime.now(UTC))
    site.start("daemon", until_idle=False)
    await site.until(lambda: _are(site, State.RUNNING, 1))
    await site.until(lambda: _are(site, State.WAITING, 2))
    terminate(site.processes[0])
    await site.ended()
    *unserved, taken = await site.rows()
    for row in unserved:
        assert (row.state, row.attempt) == (State.WAITING, 0)
        assert "nobody takes commands with the routing key NAASC.start" in row.reason
    await site.event(complete(taken.workflow_id))
    site.start("idle")
    await site.ended()
    assert await site.states() == {State.DONE: 1, State.WAITING: 2}


async def test_malformed_work_is_in_the_dead_letters_and_what_is_spent_is_acknowledged(site: Runners) -> None:
    """Neither what cannot be read nor what is of no row stays in the work queue."""
    await site.add(1)
    bodies = [b"\xff\x00", b"[]", b'{"id": 1}', b'{"id": 1, "attempt": 1, "kind": "cake", "uid": "x"}',
              b'{"id": 99, "attempt": 1, "kind": "calibration", "uid": "x"}',
              b'{"id": 1, "attempt": 7, "kind": "execution_block", "uid": "x"}']  # fmt: skip
    published = await site.broker.publish([Message(f"m{n}", body, ALMA) for n, body in enumerate(bodies)])
    assert len(published.confirmed) == len(bodies)
    site.start()
    await site.ended()
    assert await site.states() == {State.DONE: 1}
    assert await site.broker.depth(ALMA) == 0
    dead = await site.broker.take(f"{ALMA}.dead", 100, 5)
    assert sorted(one.body for one in dead) == sorted(bodies[:4])


async def test_an_item_whose_message_is_of_an_unknown_kind_fails_and_is_tried_again(site: Runners) -> None:
    """It says why, the message is in the dead letters, and the item beside it is done as ever. It is so though the
    runner has the messages before their sender has recorded that they are sent."""
    await site.add(2)

    async def garbled(rows: Sequence[Item]) -> set[int]:
        one, other = rows
        cake = work_body(one).replace(b"execution_block", b"cake")
        bodies = [cake, work_body(other)]
        await site.broker.publish([Message(f"m{n}", body, ALMA) for n, body in enumerate(bodies)])
        site.start()

        async def taken() -> bool:
            return await site.broker.depth(f"{ALMA}.dead") == 1

        await site.until(taken)
        return {one.id, other.id}

    await site.table().send(garbled, "test", datetime.now(UTC), 10, Limits(10))
    await site.ended()
    first, second = await site.rows()
    assert (first.state, first.attempt, second.state, second.attempt) == (State.DONE, 2, State.DONE, 1)
    whys = [event.why for event in await site.table().events(first.id) if event.after is State.FAILED]
    assert whys == ["a work message is of the unknown kind 'cake'"]
    assert await site.broker.depth(f"{ALMA}.dead") == 1


# ── events ───────────────────────────────────────────────────────────────────────────────────────────────────


async def _running(site: Runners, commands: Commands, many: int) -> list[Item]:
    """Start a runner, and have so many items running."""
    await site.add(many)
    site.start("daemon", until_idle=False)
    while len(commands.started) < many:
        assert await commands.take()
    await site.until(lambda: _are(site, State.RUNNING, many))
    return await site.rows()


async def test_events_doubled_out_of_order_unknown_and_malformed(site: Runners, commands: Commands) -> None:
    """The table is right whatever comes, and the malformed ones are in the dead letters."""
    site.write(retry_delay=0.1)
    good, bad, both, late = await _running(site, commands, 4)
    await site.broker.publish([
        Message("1", b"\xff", "x.event", EVENTS), Message("2", b"{", "x.event", EVENTS),
        Message("3", b'{"type": "other"}', "x.event", EVENTS),
        Message("4", b'{"type": "edu.nrao.archive.workflow.messaging.events.WorkflowComplete"}', "x.event", EVENTS),
    ])  # fmt: skip
    await site.event(complete("nobody's"), complete(good.workflow_id), broken(good.workflow_id),
                     complete(good.workflow_id), broken(both.workflow_id), complete(both.workflow_id),
                     broken(bad.workflow_id, "bad\x1b[31m news"))  # fmt: skip
    again = await commands.take()
    await site.until(lambda: _are(site, State.DONE, 2))
    assert len(again) == 1
    await site.until(lambda: _is(site, bad.id, State.RUNNING, 2))
    assert [one.why for one in await site.table().events(bad.id) if one.after is State.FAILED] == [r"bad\x1b[31m news"]
    await site.event(complete(bad.workflow_id), broken(bad.workflow_id))  # of the attempt before: too late
    await site.event(complete(late.workflow_id), complete(again[0]))
    await site.until(lambda: _are(site, State.DONE, 4))
    assert [row.attempt for row in await site.rows()] == [1, 2, 1, 1]
    assert len(set(commands.started)) == len(commands.started) == 5
    dead = await site.broker.take(f"{OUR_EVENTS}.dead", 100, 5)
    assert sorted(one.body[:2] for one in dead) == [b"{", b'{"', b"\xff"]
    terminate(site.processes[0])
    await site.ended()
    notes = await site.metadata.notes()
    assert notes["last_event"].value["workflow_id"] in (again[0], late.workflow_id)
    assert next(note for key, note in notes.items() if key.startswith("runner:daemon@")).value["state"] == "stopped"


async def _is(site: Runners, ident: int, state: State, attempt: int) -> bool:
    (row,) = await site.table().get([ident])
    return (row.state, row.attempt) == (state, attempt)


async def test_a_workflow_that_ended_while_no_runner_ran_is_found_by_its_event(
    site: Runners, commands: Commands
) -> None:
    """Our queue of events keeps it."""
    (row,) = await _running(site, commands, 1)
    site.processes[0].kill()
    await site.event(complete(row.workflow_id))
    site.start("next")
    await site.ended(site.processes[1])
    assert await site.states() == {State.DONE: 1}


async def test_a_workflow_that_ended_without_an_event_is_found_by_a_look(site: Runners) -> None:
    """The next runner on its host asks the launcher."""
    site.workflow_does(f"while [ ! -e {site.folder}/go ]; do sleep 0.02; done")
    await site.add(2)
    site.start("gone")
    await site.until(lambda: _are(site, State.RUNNING, 2))
    site.processes[0].kill()
    (site.folder / "go").touch()
    site.start("next")
    await site.ended(site.processes[1])
    assert await site.states() == {State.DONE: 2}
    assert set(site.starts().values()) == {1}


async def test_a_launch_that_nobody_can_prove_waits_for_its_event(site: Runners, commands: Commands) -> None:
    """A command that may have been sent is not sent again: its event settles it."""
    await site.add(1)
    await _claimed_and_left(site)
    site.start("next")
    await site.until(lambda: _are(site, State.LAUNCH_UNKNOWN, 1))
    await site.ended()  # idle: a person or the event settles it
    (row,) = await site.rows()
    assert await commands.take(0.1) == []
    await site.event(complete(row.workflow_id))
    site.start("third")
    await site.ended()
    assert await site.states() == {State.DONE: 1}


async def test_launches_that_nobody_can_prove_hold_up_no_end(site: Runners, commands: Commands) -> None:
    """They hold all places, and others are queued: who waits for the runner to be idle hears what waits for whom."""
    site.write(limit=1)
    await site.add(1)
    await _claimed_and_left(site)
    await site.add(3)
    site.start()
    await site.ended()
    assert await site.states() == {State.LAUNCH_UNKNOWN: 1, State.QUEUED: 2}
    assert site.log.count(f"{ALMA}: what waits gets no place") == 1
    assert "(items 1)" in site.log
    (held, *_) = await site.rows()
    await site.event(complete(held.workflow_id))
    site.start("next", until_idle=False)
    while len(commands.started) < 2:
        await site.event(*(complete(one) for one in await commands.take()))
    await site.until(lambda: _are(site, State.DONE, 3))
    terminate(site.processes[1])
    await site.ended()


async def test_so_it_is_with_the_places_of_a_project_of_the_vlba(site: Runners, commands: Commands) -> None:
    """Another project's item is launched all the same."""
    site.write(vlba_limit=4, vlba_per_project=1)
    await site.broker.declare_site("DSOC")
    await site.add(1, Queue.VLBA, projects=2)
    await _claimed_and_left(site, queue=Queue.VLBA)
    await site.add(3, Queue.VLBA, projects=2)
    site.start("daemon", until_idle=False)
    await site.until(lambda: _are(site, State.RUNNING, 1, Queue.VLBA))
    [launched] = [row for row in await site.rows(Queue.VLBA) if row.state is State.RUNNING]
    await site.event(complete(launched.workflow_id))
    await site.until(lambda: _are(site, State.DONE, 1, Queue.VLBA))
    terminate(site.processes[0])
    await site.ended()
    site.start("idle")
    await site.ended()
    states = await site.states(Queue.VLBA)
    assert states == {State.LAUNCH_UNKNOWN: 1, State.DONE: 1, State.WAITING: 1}
    assert site.log.count(f"{Queue.VLBA.messages}: what waits gets no place") == 1


async def test_what_a_dead_runner_claimed_and_never_launched_is_launched_once(site: Runners) -> None:
    """Its lease runs out, the launcher knows nothing of it: the same attempt is launched."""
    await site.add(1)
    await _claimed_and_left(site)
    site.start("next")
    await site.ended()
    (row,) = await site.rows()
    assert (row.state, row.attempt) == (State.DONE, 1)
    assert dict(site.starts()) == {row.workflow_id: 1}


async def test_what_only_another_host_can_tell_is_left_to_it_for_a_while(tmp_path: Path) -> None:
    """Then a person is asked: it is never launched here."""
    async with Runners(tmp_path, f"sqlite:{tmp_path}/metadata.db", f"memory:{tmp_path}") as site:
        await site.add(1)
        await _claimed_and_left(site, "another.example.org")
        await serve(site.config, (Queue.ALMA,), "here", until_idle=True, pace=replace(FAST, lease=0.05))
        (row,) = await site.rows()
        assert row.state is State.LAUNCH_UNKNOWN
        assert "only the host that launched it" in row.reason
        assert not site.told
        assert (await site.table().events(row.id))[-1].at - row.created_at > timedelta(seconds=0.5)


async def _claimed_and_left(site: Runners, host: str = "", queue: Queue = Queue.ALMA) -> None:
    """Claim all rows as a runner, on this host unless another is named, that is no more."""
    limits, now = Limits(4), datetime.now(UTC)
    await Sending(site.metadata, site.broker, "test").send(queue, limits)
    taken = await site.broker.take(queue.messages, 10, 5)
    wanted = [work(one.body) for one in taken]
    claims = await site.table(queue).claim(
        wanted, f"gone@{host or gethostname()}:1", limits, now, timedelta(seconds=0.5)
    )
    assert len(claims.launching) == len(taken)
    await site.broker.ack(taken)


async def test_lines_that_are_cut_bring_no_second_workflow_of_an_attempt(
    site: Runners, commands: Commands, rabbitmq: Vhost
) -> None:
    """With commands: one workflow id for each attempt, however often the command came."""
    await site.add(30)
    async with TcpProxy(rabbitmq.node.port) as proxy:
        site.broker_url = rabbitmq.url.replace(str(rabbitmq.node.port), str(proxy.port))
        site.write()
        site.start("a", until_idle=False)
        site.start("b", until_idle=False)
        resets = 0

        async def settled() -> bool:
            """Whether each is done, or may have been launched and was not; what was launched ends at once."""
            nonlocal resets
            ids = await commands.take(0.2)
            await site.event(*(complete(one) for one in ids))
            if ids and resets < 3:
                resets += 1
                proxy.reset()
            states = await site.states()
            return states[State.DONE] + states[State.LAUNCH_UNKNOWN] == 30

        await site.until(settled)
        for process in site.processes:
            terminate(process)
        await site.ended()
    assert resets == 3
    rows = await site.rows()
    assert {row.attempt for row in rows} == {1}, site.log
    assert set(commands.started) <= {row.workflow_id for row in rows}
    assert {row.workflow_id for row in rows if row.state is State.DONE} <= set(commands.started)


# ── stopping, pausing ────────────────────────────────────────────────────────────────────────────────────────


async def test_paused_it_takes_nothing_new_and_records_what_ends(site: Runners) -> None:
    """And goes on when it is resumed."""
    site.write(limit=1)
    site.workflow_does(f"while [ ! -e {site.folder}/go ]; do sleep 0.02; done")
    await site.add(3)
    site.start("daemon", until_idle=False)
    await site.until(lambda: _are(site, State.RUNNING, 1))
    await site.metadata.note("paused", {"paused": True}, datetime.now(UTC))
    await site.until(lambda: _holds_no_place(site))
    (site.folder / "go").touch()
    await site.until(lambda: _are(site, State.DONE, 1))
    assert await _holds_no_place(site)
    assert (await site.states())[State.QUEUED] == 2
    await site.metadata.note("paused", {"paused": False}, datetime.now(UTC))
    await site.until(lambda: _are(site, State.DONE, 3))
    terminate(site.processes[0])
    await site.ended()


async def _holds_no_place(site: Runners) -> bool:
    notes = [note for key, note in (await site.metadata.notes()).items() if key.startswith("runner:")]
    return [(note.value["state"], note.value["places"]) for note in notes] == [("paused", {"alma": 0, "vlba": 0})]


async def test_it_ends_on_sigterm_and_leaves_messages_and_places_to_others(site: Runners) -> None:
    """Within five seconds; what runs goes on."""
    site.write(limit=2)
    site.workflow_does(f"while [ ! -e {site.folder}/go ]; do sleep 0.02; done")
    await site.add(4)
    first = site.start("first", until_idle=False)
    await site.until(lambda: _are(site, State.RUNNING, 2))
    terminate(first)
    began = asyncio.get_running_loop().time()
    await site.ended(first)
    assert asyncio.get_running_loop().time() - began < 5
    assert await site.states() == {State.RUNNING: 2, State.QUEUED: 2}
    (site.folder / "go").touch()
    site.start("second")
    await site.ended()
    assert await site.states() == {State.DONE: 4}
    assert set(site.starts().values()) == {1}


async def test_queues_that_are_not_there_are_made(site: Runners, rabbitmq: Vhost) -> None:
    """A broker that was set up anew: what was queued is sent again, in time."""
    for name in (ALMA, OUR_EVENTS):
        rabbitmq.node.api("DELETE", f"queues/{quote(rabbitmq.name, safe='')}/{name}")
    await site.add(2)
    site.start()
    await site.ended()
    assert await site.states() == {State.DONE: 2}


async def test_queues_that_are_lost_are_made_again(site: Runners, rabbitmq: Vhost) -> None:
    """While it runs, and though nothing is to be sent: the events go on to be kept."""
    site.start(until_idle=False)
    await site.until(lambda: _noted(site))
    for name in (ALMA, OUR_EVENTS):
        rabbitmq.node.api("DELETE", f"queues/{quote(rabbitmq.name, safe='')}/{name}")
    await site.until(lambda: _there(site, ALMA))
    await site.until(lambda: _there(site, OUR_EVENTS))
    terminate(site.processes[0])
    await site.ended()


async def _there(site: Runners, name: str) -> bool:
    with suppress(NoQueue):
        return await site.broker.depth(name) >= 0
    return False


async def test_queues_that_it_may_not_make_are_said(rabbitmq: Vhost, tmp_path: Path) -> None:
    """Who waits for the runner to be idle hears at once what is missing, and what makes it."""
    poor = rabbitmq.as_user("^$", ".*", ".*")
    file = tmp_path / "config.toml"
    file.write_text(f'[metadata]\ndsn = "sqlite:meta.db"\n[broker]\nurl = "{poor.url}"\npassword = "file:secret"\n')
    (tmp_path / "secret").write_text(poor.password)
    (tmp_path / "secret").chmod(0o600)
    async with asyncio.timeout(20):
        with pytest.raises(BrokerError, match=f"no queue {OUR_EVENTS}") as said:
            await serve(config.load(file), (Queue.ALMA,), "poor", until_idle=True)
    assert "broker declare" in said.value.hint


async def test_it_ends_in_time_though_nobody_answers(frail_postgres: Database, rabbitmq: Vhost, tmp_path: Path) -> None:
    """A frozen database holds up no end."""
    async with Runners(tmp_path, frail_postgres.dsn, rabbitmq.url, rabbitmq.password, frail_postgres.password) as site:
        process = site.start(until_idle=False)
        await site.until(lambda: _says(site, "runs: alma, vlba"))
        await site.until(lambda: _noted(site))
        with frail_postgres.server.frozen():
            terminate(process)
            await asyncio.to_thread(process.join, 5)
            assert process.exitcode == 0, site.log


async def test_notes_that_cannot_be_written_are_said_once(site: Runners, postgres: Database) -> None:
    """However often it is tried, until they can be."""
    postgres.ask("""
        create sequence tried;
        create function refuse() returns trigger language plpgsql security definer as $$ begin
            perform nextval('tried');
            raise exception 'cannot execute INSERT in a read-only transaction' using errcode = '25006';
        end $$;
        create trigger refuse before insert or update on reingestion_note for each row execute function refuse()
    """)
    site.start(until_idle=False)

    async def tried() -> bool:
        return postgres.ask("select last_value >= 5 from tried") == [(True,)]

    await site.until(tried)
    assert "notes: works again" not in site.log
    postgres.ask("drop trigger refuse on reingestion_note")
    await site.until(lambda: _says(site, "notes: works again"))
    terminate(site.processes[0])
    await site.ended()
    assert site.log.count(" notes: ") == 2


async def _noted(site: Runners) -> bool:
    return any(key.startswith("runner:") for key in await site.metadata.notes())


# ── what is outside goes away ────────────────────────────────────────────────────────────────────────────────


async def test_the_database_is_restarted(frail_postgres: Database, rabbitmq: Vhost, tmp_path: Path) -> None:
    """The runners wait for it and go on."""
    async with Runners(tmp_path, frail_postgres.dsn, rabbitmq.url, rabbitmq.password, frail_postgres.password) as site:
        site.write(limit=4)
        site.workflow_does("sleep 0.05")
        await site.add(24)
        site.start("a")
        site.start("b")
        await site.until(lambda: _started(site, 6))
        frail_postgres.server.restart()  # not in a thread: the server ends with the thread that started it
        await site.ended()
        assert await site.states() == {State.DONE: 24}
        assert set(site.starts().values()) == {1}
        assert site.most_at_once()[""] <= 4
