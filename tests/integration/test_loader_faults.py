"""QueueLoader when something fails, when it is killed, and between its cycles; two at a time."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from aogconsole import times
from aogconsole.cli.loader import serve
from aogconsole.config import load
from aogconsole.errors import BrokerError, Conflict, MetadataError, NoQueue
from aogconsole.reingestion.item import Change, Queue, State, failed, message_id, version_of
from aogconsole.reingestion.steering import PAUSED
from backends.memory_broker import MemoryBroker
from backends.oracle_news import OracleNews
from backends.reingestion_ports import ProductFacts
from tests.support import loaders
from tests.support.loaders import (
    BEGAN,
    DAY,
    EB,
    Sky,
    archive_of,
    drawn,
    note,
    recognized,
    running,
    small,
    station,
    until,
)
from tests.support.oracle import Fault
from tests.support.postgres import Database
from tests.support.rabbitmq import Vhost

# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_kinds_failure(tmp_path: Path) -> None:
    """A missing view stops neither the other kind nor the sending; when it is back, nothing is missing."""
    sky = drawn(5, 40, 40)
    async with small(tmp_path, sky) as site:
        site.archive.load("alter table aqua_v_execblock rename to away")
        summary = await site.once()
        assert len(summary.errors) == 1
        assert await site.table() == {key: state for key, state in sky.right.items() if key[0] == "calibration"}
        assert summary.sent > 0
        site.archive.load("alter table away rename to aqua_v_execblock; alter table asa_product_files rename to away")
        summary = await site.once()
        assert len(summary.errors) in (1, 2)
        assert await site.table() == sky.right


class Odd(OracleNews):
    """Meets what nobody thought of."""

    async def facts(self, mous: Sequence[str]) -> Mapping[str, ProductFacts]:
        raise ZeroDivisionError


async def test_what_nobody_thought_of_stops_nothing_else(tmp_path: Path) -> None:
    """It is told, the other kind is found and sent, and the next cycle comes at its time."""
    sky = drawn(4, 20, 10)
    async with small(tmp_path, sky) as site, running(site, news=Odd(site.archive.settings())):

        async def told() -> bool:
            return "ZeroDivisionError" in str((await note(site)).get("error"))

        async def right() -> bool:
            blocks = {key: state for key, state in (await site.table()).items() if key[0] == "execution_block"}
            return blocks == {key: state for key, state in sky.right.items() if key[0] == "execution_block"}

        await until(told)
        await until(right)


async def test_a_refused_account_is_tried_once(tmp_path: Path) -> None:
    """An account that the archive refuses gets one try in a cycle: more bring its lock nearer."""
    sky = Sky()
    async with small(tmp_path, sky) as site:
        site.archive.login_error = 28000
        site.archive.logins = 0
        summary = await site.once()
        assert (site.archive.logins, len(summary.errors), summary.login_refused) == (1, 1, True)


async def test_no_work_queue(tmp_path: Path, postgres: Database, rabbitmq: Vhost) -> None:
    """It is made. Where the account may not, the rows stay waiting, with one clear line, until somebody made it."""
    sky = Sky()
    for number in range(30):
        sky.block(f"{EB}{number + 1:x}", BEGAN)
    with archive_of(sky) as archive:
        async with station(
            tmp_path, archive, postgres.dsn, rabbitmq.url, database_password=postgres.password,
            broker_password=rabbitmq.password,
        ) as site:  # fmt: skip
            queue = f"queues/{quote(rabbitmq.name, safe='')}/alma_reingestion"
            rabbitmq.node.api("DELETE", queue)
            poor = rabbitmq.as_user("^$", ".*", ".*")
            url = poor.url.replace("@", f":{poor.password}@")
            given = {"AOGCONSOLE_BROKER__URL": url, "AOGCONSOLE_BROKER__PASSWORD": ""}
            summary = await replace(site, config=load(site.config.file, given)).once()
            assert (summary.sent, summary.waiting) == (0, 30)
            assert "30 messages" in summary.errors[0]
            assert {(row.state, row.attempt) for row in await site.rows()} == {(State.WAITING, 0)}
            summary = await site.once()
            assert (summary.errors, summary.sent, summary.waiting) == ([], 30, 0)
            assert len(await site.messages()) == 30


async def test_lost_messages_are_sent_again(tmp_path: Path) -> None:
    """Rows queued a while ago whose queue is empty get the same attempt's message again; a queue that is not, none."""
    sky = drawn(6, 30, 0)
    async with small(tmp_path, sky) as site:
        await site.once()
        first = await site.messages()
        assert len(first) == len(sky.right)
        await site.once()
        assert await site.messages() == []
        line = sqlite3.connect(tmp_path / "m.db")
        with line:
            line.execute("update alma_reingestion_queue set queued_at = '2026-01-01T00:00:00.000000Z'")
        line.close()
        await site.once()
        await site.once()
        assert sorted(await site.messages()) == sorted(first)


async def _queued_long_ago(site: loaders.Station) -> list[str]:
    """One cycle whose messages are lost with the whole broker; their ids."""
    await site.once()
    first = await site.messages()
    line = sqlite3.connect(site.folder / "m.db")
    with line:
        line.execute("update alma_reingestion_queue set queued_at = '2026-01-01T00:00:00.000000Z'")
    line.close()
    MemoryBroker.shared(site.folder.name)._house.queues.clear()
    return first


async def test_a_broker_that_lost_its_queues_gets_them_again(tmp_path: Path) -> None:
    """Though nothing new is to be sent: what was queued is lost with them, and is sent again. As often as it is so."""
    async with small(tmp_path, drawn(6, 30, 0)) as site:
        first = await _queued_long_ago(site)
        async with running(site):

            async def sent() -> bool:
                with suppress(NoQueue):
                    return await site.broker.depth(Queue.ALMA.messages) == len(first)
                return False

            await until(sent)
            assert sorted(await site.messages()) == sorted(first)


class Poor(MemoryBroker):
    """An account that may not make queues."""

    def __init__(self, name: str) -> None:
        super().__init__(house=MemoryBroker.shared(name)._house)
        self.asked = self.tried = 0

    async def depth(self, queue: str) -> int:
        self.asked += 1
        return await super().depth(queue)

    async def declare(self) -> list[str]:
        self.tried += 1
        raise BrokerError("the broker does not let aog_loader configure")


async def test_who_may_not_make_queues_says_so_once_and_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It asks again and again whether they are there, and does not try to make them each time."""
    async with small(tmp_path, drawn(6, 30, 0)) as site:
        first, poor = await _queued_long_ago(site), Poor(tmp_path.name)
        news = OracleNews(site.archive.settings())
        with caplog.at_level(logging.INFO):
            async with running(replace(site, broker=poor), news=news):

                async def asked() -> bool:
                    return poor.asked >= 8

                await until(asked)
                tried = poor.tried
                await site.broker.declare()

                async def sent() -> bool:
                    return await site.broker.depth(Queue.ALMA.messages) == len(first)

                await until(sent)
        said = [one.message for one in caplog.records]
        assert tried == 1
        assert len([one for one in said if one.startswith("sending: the broker has no queue")]) == 1
        assert said.count("sending: works again") <= 1


async def test_paused(tmp_path: Path) -> None:
    """Nothing is found or sent while it is paused."""
    sky = drawn(7, 10, 10)
    async with small(tmp_path, sky) as site:
        await site.metadata.note(PAUSED, {"paused": True}, times.now())
        summary = await site.once()
        assert (summary.paused, await site.rows(), site.archive.statements) == (True, [], [])
        await site.metadata.note(PAUSED, {"paused": False}, times.now())
        await site.once()
        assert await site.table() == sky.right


# ── the process ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_days_of_a_loader(tmp_path: Path) -> None:
    """It cycles at once, notes it, sends between cycles what becomes due, and cycles when it is told to."""
    sky = Sky()
    sky.block(f"{EB}1", BEGAN)
    async with small(tmp_path, sky) as site, running(site):

        async def found() -> bool:
            return bool(await note(site))

        await until(found)
        told = await note(site)
        assert (told["found"], told["sent"], told["error"]) == ({"execution_block": 1, "calibration": 0}, 1, None)
        assert times.parse(str(told["next_cycle"])) - times.parse(str(told["last_cycle"])) >= timedelta(seconds=3599)

        tracking, now = site.metadata.tracking(Queue.ALMA), datetime.now(UTC)
        [row] = await site.rows()
        launching = replace(row, state=State.LAUNCHING)
        await tracking.move([Change(row, launching, "test", "")], now)
        again = failed(launching, "no", now, 3, timedelta(seconds=0.3))
        await tracking.move([Change(launching, again, "test", "")], now)

        async def sent_again() -> bool:
            [row] = await site.rows()
            return row.state is State.QUEUED and row.attempt == 2

        await until(sent_again)

        more = Sky()
        more.block(f"{EB}2", BEGAN)
        site.archive.load(more.sql())
        await site.metadata.wake("loader")

        async def both() -> bool:
            return len(await site.rows()) == 2

        await until(both)


async def test_a_failing_archive_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The note says what fails; the loader tries again, not in a tight loop, and then has everything."""
    sky = drawn(8, 20, 0)
    async with small(tmp_path, sky) as site:
        site.archive.faults.extend([Fault(ora=1034)] * 4)
        with caplog.at_level(logging.WARNING):
            async with running(site):

                async def failing() -> bool:
                    return bool((await note(site)).get("error"))

                async def right() -> bool:
                    return await site.table() == sky.right

                await until(failing)
                assert "ORA-01034" in str((await note(site))["error"])
                await until(right)
        assert sum("ORA-01034" in record.getMessage() for record in caplog.records) <= 2


async def test_only_one_works(tmp_path: Path) -> None:
    """While a loader works, `--once` is told so."""
    async with small(tmp_path, Sky()) as site, running(site):

        async def works() -> bool:
            return bool(await note(site))

        await until(works)
        impatient = replace(loaders.FAST, once=0.2)
        with pytest.raises(Conflict):
            await serve(site.config, once=True, pace=impatient)


async def test_killed_at_any_moment(tmp_path: Path, postgres: Database, rabbitmq: Vhost) -> None:
    """Loaders are killed with SIGKILL at random moments; after one clean cycle every row is right, and each that is
    queued has a message."""
    dice, sky = random.Random(9), drawn(9)
    with archive_of(sky) as archive:
        async with station(
            tmp_path, archive, postgres.dsn, rabbitmq.url, database_password=postgres.password,
            broker_password=rabbitmq.password,
        ) as site:  # fmt: skip
            recognized(postgres, sky)
            for number in range(7):
                archive.statements.clear()
                process = site.start()

                async def at_work() -> bool:
                    return bool(archive.statements)

                await until(at_work)
                await asyncio.sleep(dice.uniform(0, 0.035 * (number + 1)))
                process.kill()
                await asyncio.to_thread(process.join, 10)
            await site.once()
            assert await site.table() == sky.right
            queued = {message_id(row) for row in await site.rows() if row.state is State.QUEUED}
            assert len(queued) == sum(state is State.WAITING for state in sky.right.values())
            assert queued <= set(await site.messages())
            found = await site.metadata.marks(sky.structure)
            assert {mous for mous, (status, _) in found.items() if status == "Do Not Calibrate"} == sky.marked


async def test_stand_by(tmp_path: Path, postgres: Database) -> None:
    """Of two loaders one works; when it is killed the other takes over within seconds, and ends with 0 on SIGTERM."""
    sky = Sky()
    sky.block(f"{EB}1", BEGAN)
    with archive_of(sky) as archive:
        async with station(
            tmp_path, archive, postgres.dsn, f"memory:{tmp_path.name}", database_password=postgres.password
        ) as site:
            processes = [site.start(), site.start()]
            logs = [tmp_path / f"loader{number}.log" for number in range(2)]

            def said(number: int, words: str) -> bool:
                return logs[number].exists() and words in logs[number].read_text()

            async def settled() -> bool:
                return sorted((said(n, "; sent "), said(n, "standing by")) for n in range(2)) == [
                    (False, True), (True, False),
                ]  # fmt: skip

            await until(settled)
            holder = 0 if said(0, "; sent ") else 1
            processes[holder].kill()
            killed = time.monotonic()

            async def took_over() -> bool:
                return said(1 - holder, "; sent ")

            await until(took_over)
            assert time.monotonic() - killed < 5
            processes[1 - holder].terminate()
            await asyncio.to_thread(processes[1 - holder].join, 10)
            assert processes[1 - holder].exitcode == 0


async def test_the_database_restarts(tmp_path: Path, frail_postgres: Database) -> None:
    """A loader whose database is killed and comes back takes its lock again and goes on: nothing is lost."""
    sky = drawn(10, 40, 0)
    with archive_of(sky) as archive:
        async with station(
            tmp_path, archive, frail_postgres.dsn, "memory:restarts", database_password=frail_postgres.password,
            settings="interval = 1",
        ) as site, running(site, 0.2):  # fmt: skip

            async def right() -> bool:
                with suppress(MetadataError):
                    return await site.table() == sky.right
                return False

            await until(right)
            await asyncio.to_thread(frail_postgres.server.kill)
            more = Sky()
            more.block("uid://A002/Xfff/X1", BEGAN + DAY)
            archive.load(more.sql())
            sky.right["execution_block", "uid://A002/Xfff/X1", version_of(BEGAN + DAY)] = State.WAITING
            await asyncio.to_thread(frail_postgres.server.start)
            await until(right, 20)
