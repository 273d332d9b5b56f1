"""QueueLoader against a real archive, table and broker: the right rows, once; windows; faults; two at a time; kills."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from aogconsole import times
from aogconsole.cli.loader import serve
from aogconsole.errors import Conflict, MetadataError
from aogconsole.reingestion import rules
from aogconsole.reingestion.item import Change, Kind, Queue, State, deferred, failed, message_id, version_of
from aogconsole.reingestion.steering import PAUSED, Steering
from backends.memory_broker import MemoryBroker
from tests.support import loaders
from tests.support.command import call
from tests.support.loaders import BEGAN, CUSTOM, Sky, Station, archive_of, drawn, station
from tests.support.oracle import Fault
from tests.support.postgres import Database
from tests.support.rabbitmq import Vhost

DAY = timedelta(days=1)
MOUS, EB = "uid://A001/X1/X1", "uid://A002/X1/X"


@asynccontextmanager
async def small(folder: Path, sky: Sky, broker: str = "memory:") -> AsyncIterator[Station]:
    """A site in one process: SQLite and the broker in memory, one of its own."""
    MemoryBroker.shared(folder.name)
    with archive_of(sky) as archive:
        async with station(folder, archive, f"sqlite:{folder}/m.db", f"{broker}{folder.name}") as made:
            recognize(folder, *sky.structure)
            yield made


def recognize(folder: Path, *mous: str) -> None:
    """Have MOUSs in `alma_ouses`, as a workflow does."""
    line = sqlite3.connect(folder / "m.db")
    with line:
        line.executemany("insert into alma_ouses(mous_uid) values (?)", [(one,) for one in mous])
    line.close()


def recognized(database: Database, sky: Sky) -> None:
    """The same in PostgreSQL."""
    rows = ", ".join(f"('{mous}')" for mous in sky.structure)
    database.ask(f"insert into alma_ouses(mous_uid) values {rows}")  # noqa: S608


def marks(folder: Path) -> dict[str, tuple[str, str]]:
    """Marked MOUSs."""
    line = sqlite3.connect(folder / "m.db")
    found = line.execute(
        "select mous_uid, calibration_status, calibration_version from alma_ouses where calibration_status is not null"
    ).fetchall()
    line.close()
    return {mous: (status, version) for mous, status, version in found}


def events(folder: Path) -> int:
    """Lines of the history."""
    line = sqlite3.connect(folder / "m.db")
    (count,) = line.execute("select count(*) from reingestion_event").fetchone()
    line.close()
    return int(count)


async def until(true: Callable[[], Awaitable[bool]], within: float = 10.0) -> None:
    """Wait for something to be so."""
    end = time.monotonic() + within
    while not await true():
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.05)


@contextmanager
def signals_kept() -> Iterator[None]:
    """The verb sets handlers of signals: here they are put back."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(one) for one in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


# ── the right rows ───────────────────────────────────────────────────────────────────────────────────────────


async def test_every_row_is_right(tmp_path: Path, postgres: Database, rabbitmq: Vhost) -> None:
    """Of 300 execution blocks and 100 MOUSs each has the row it must have, and each that is due its message; again:
    nothing changes. PostgreSQL and RabbitMQ."""
    sky = drawn(1)
    with archive_of(sky) as archive:
        async with station(
            tmp_path, archive, postgres.dsn, rabbitmq.url, database_password=postgres.password,
            broker_password=rabbitmq.password,
        ) as site:  # fmt: skip
            recognized(postgres, sky)
            summary = await site.once()
            assert await site.table() == sky.right
            counted = Counter(kind for kind, _, _ in sky.right)
            assert {kind.value: summary.found[kind] for kind in Kind} == counted
            assert summary.judged == Counter(state for (kind, *_), state in sky.right.items() if kind == "calibration")
            queued = {message_id(row) for row in await site.rows() if row.state is State.QUEUED}
            due = sum(state is State.WAITING for state in sky.right.values())
            assert (summary.sent, summary.waiting, len(queued), summary.errors) == (due, 0, due, [])
            found = await site.metadata.marks(sky.structure)
            assert {mous for mous, (status, _) in found.items() if status == "Do Not Calibrate"} == sky.marked
            history = postgres.ask("select count(*) from reingestion_event")

            again = await site.once()
            assert (again.found.total(), again.sent, again.errors) == (0, 0, [])
            assert postgres.ask("select count(*) from reingestion_event") == history
            assert sorted(await site.messages()) == sorted(queued)


@pytest.mark.parametrize("seed", [2, 3, 4])
async def test_any_archive(tmp_path: Path, seed: int) -> None:
    """Whatever the dice say, the rows are right, in whatever state the table was; twice is the same."""
    sky = drawn(seed, 60, 60)
    async with small(tmp_path, sky) as site:
        await site.once()
        assert await site.table() == sky.right
        assert set(marks(tmp_path)) == sky.marked
        before = events(tmp_path)
        await site.once()
        assert (await site.table(), events(tmp_path)) == (sky.right, before)


def test_the_verb(tmp_path: Path) -> None:
    """`loader --once --json`: a document and exit 0; with an archive that fails 4, and the other things done."""
    sky = Sky()
    sky.block(f"{EB}1", BEGAN)

    async def prepared() -> None:
        async with small(tmp_path, sky):
            pass

    with archive_of(sky) as archive, signals_kept():
        asyncio.run(prepared())
        config = tmp_path / "config.toml"
        lines = config.read_text().splitlines()
        config.write_text("\n".join(f'dsn = "{archive.dsn}"' if "ALMA" in line else line for line in lines))
        done = call(config, "loader", "--once", "--json")
        assert (done.code, done.json) == (0, {
            "found": {"execution_block": 1, "calibration": 0}, "judged": {}, "sent": 1, "waiting": 0, "paused": False,
            "errors": [],
        })  # fmt: skip
        archive.load("drop table aqua_v_execblock")
        archive.load("insert into asa_product_files values ('uid://A001/X1/X1', 'x', 'y', '2020-01-01 00:00:00', 1)")
        done = call(config, "loader", "--once", "--json")
        assert (done.code, len(done.json["errors"])) == (4, 1)
        assert done.json["found"] == {"execution_block": 0, "calibration": 1}
        assert "execution_blocks.sql" in done.json["errors"][0]
        done = call(config, "loader", "--once")
        assert b"execution_blocks.sql" in done.out
        for words in (["--from", "yesterday", "--once"], ["--json"]):
            assert call(config, "loader", *words).code == 2
        assert call(config, "--read-only", "loader", "--once").code == 2


# ── windows ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_late_rows(tmp_path: Path) -> None:
    """A late row inside the overlap is found; one outside only by --from. Ties with the newest are found."""
    sky = Sky()
    sky.block(f"{EB}1", BEGAN)
    sky.product(MOUS, "science", BEGAN)
    async with small(tmp_path, sky) as site:
        await site.once()
        late = Sky()
        late.block(f"{EB}2", BEGAN - timedelta(hours=11))
        late.block(f"{EB}3", BEGAN - timedelta(hours=13))
        late.block(f"{EB}4", BEGAN)
        late.product("uid://A001/X2/X1", "science", BEGAN - timedelta(hours=47))
        late.product("uid://A001/X3/X1", "science", BEGAN - timedelta(hours=49))
        site.archive.load(late.sql())
        await site.once()
        assert {row.uid for row in await site.rows()} == {f"{EB}1", f"{EB}2", f"{EB}4", MOUS, "uid://A001/X2/X1"}
        await site.once(BEGAN - 3 * DAY)
        assert {row.uid for row in await site.rows()} >= {f"{EB}3", "uid://A001/X3/X1"}
        assert len(await site.rows()) == 7


async def test_a_time_to_come_hides_nothing(tmp_path: Path) -> None:
    """An execution block that ends in a thousand years does not keep the loader from what ended just now."""
    sky = Sky()
    sky.block(f"{EB}1", datetime(3000, 1, 1, tzinfo=UTC))
    sky.block(f"{EB}2", datetime.now(UTC) - DAY)
    async with small(tmp_path, sky) as site:
        await site.once()
        more = Sky()
        more.block(f"{EB}3", datetime.now(UTC) - timedelta(hours=20))
        site.archive.load(more.sql())
        assert (await site.once()).found[Kind.EXECUTION_BLOCK] == 1


async def test_only_what_is_new_is_asked_about(tmp_path: Path) -> None:
    """A cycle with nothing new asks for no facts, whatever the table holds."""
    sky = Sky()
    for number in range(20):
        sky.product(f"uid://A001/X1/X{number:x}", "science", BEGAN)
        sky.structure.append(f"uid://A001/X1/X{number:x}")
    async with small(tmp_path, sky) as site:
        await site.once()
        site.archive.statements.clear()
        await site.once()
        assert len(site.archive.statements) == 2


# ── calibrations ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_each_rule_in_its_time(tmp_path: Path) -> None:
    """No science, then no structure, then scripts: a deferred calibration is judged again at each cycle."""
    sky = Sky()
    sky.product(MOUS, "readme", BEGAN)
    sky.product(MOUS, "script", BEGAN, CUSTOM)
    async with small(tmp_path, sky) as site:
        await site.once()
        [row] = await site.rows()
        assert (row.state, row.reason) == (State.DEFERRED, rules.NO_SCIENCE)
        more = Sky()
        more.product(MOUS, "science", BEGAN)
        site.archive.load(more.sql() + "insert into asa_ous(member_ous_uid, asa_project_code) values"
                          " ('uid://A001/X1/X1', '2019.1.00001.S');")  # fmt: skip
        await site.once()
        [row] = await site.rows()
        assert (row.state, row.reason, row.project) == (State.DEFERRED, rules.NO_STRUCTURE, "2019.1.00001.S")
        assert marks(tmp_path) == {}
        recognize(tmp_path, MOUS)
        await site.once()
        [row] = await site.rows()
        assert row.state is State.DO_NOT_CALIBRATE
        assert CUSTOM in row.reason
        assert marks(tmp_path) == {MOUS: ("Do Not Calibrate", row.version)}
        assert [event.after for event in await site.metadata.tracking(Queue.ALMA).events(row.id)] == [
            State.DEFERRED, State.DEFERRED, State.DO_NOT_CALIBRATE,
        ]  # fmt: skip


async def test_an_updated_mous_comes_again(tmp_path: Path) -> None:
    """A newer file makes a new version: it is judged and sent anew, and takes the place of one not launched."""
    sky = Sky(structure=[MOUS])
    sky.product(MOUS, "science", BEGAN)
    sky.product(MOUS, "script", BEGAN, CUSTOM)
    async with small(tmp_path, sky) as site:
        await site.once()
        site.archive.load("delete from asa_product_files where file_class = 'script'")
        newer = Sky()
        newer.product(MOUS, "science", BEGAN + DAY)
        site.archive.load(newer.sql())
        summary = await site.once()
        assert (summary.found[Kind.CALIBRATION], summary.sent) == (1, 1)
        newest = Sky()
        newest.product(MOUS, "readme", BEGAN + 2 * DAY)
        site.archive.load(newest.sql())
        await site.once()
        assert [(row.state, row.source_time) for row in sorted(await site.rows(), key=lambda row: row.id)] == [
            (State.DO_NOT_CALIBRATE, BEGAN), (State.DROPPED, BEGAN + DAY), (State.QUEUED, BEGAN + 2 * DAY),
        ]  # fmt: skip


async def test_a_persons_deferral(tmp_path: Path) -> None:
    """What a person put aside is left alone until its time, and then goes on: calibration and execution block."""
    sky = Sky(structure=[MOUS])
    async with small(tmp_path, sky) as site:
        steering = Steering(site.metadata, Queue.ALMA, "anna@aog1")
        sky.product(MOUS, "science", BEGAN)
        sky.block(f"{EB}1", BEGAN)
        site.archive.load(sky.sql())
        await site.once()
        for row in await site.rows():
            await steering.defer(row.id, "later", times.now() + DAY)
        await site.once()
        assert {row.state for row in await site.rows()} == {State.DEFERRED}
        tracking = site.metadata.tracking(Queue.ALMA)
        now = datetime.now(UTC)
        come = [Change(row, deferred(row, "later", now), "anna@aog1", "now") for row in await site.rows()]
        await tracking.move(come, now)
        summary = await site.once()
        assert (summary.sent, {row.state for row in await site.rows()}) == (2, {State.QUEUED})


async def test_vlba_by_query(tmp_path: Path, postgres: Database) -> None:
    """A site's query on the metadata database finds the VLBA's items: each once, sent within their limits; what is
    wrong with it is said, and stops nothing else."""
    sky = Sky()
    sky.block(f"{EB}1", BEGAN)
    query = tmp_path / "vlba.sql"
    query.write_text("-- ours\nselect name as uid, project, ended as source_time from observed -- all;\n;\n")
    with archive_of(sky) as archive:
        async with station(
            tmp_path, archive, postgres.dsn, f"memory:{tmp_path.name}", database_password=postgres.password,
            settings='vlba_query = "vlba.sql"\nvlba_per_project = 1',
        ) as site:  # fmt: skip
            summary = await site.once()
            assert "vlba_query" in summary.errors[0]
            assert summary.sent == 1
            postgres.ask(
                "create table observed as select 'BX' || n as name, 'BX00' || n / 2 as project,"
                " timestamptz '2020-01-01 12:30:00+00' as ended from generate_series(1, 4) as g(n)"
                " union all select e'bad\\nname', 'BX009', null"
            )
            postgres.ask("grant select on observed to public")
            for _ in range(2):
                summary = await site.once()
                assert summary.errors == []
                rows = await site.metadata.tracking(Queue.VLBA).items()
                assert {(row.uid, row.project) for row in rows} == {
                    ("BX1", "BX000"), ("BX2", "BX001"), ("BX3", "BX001"), ("BX4", "BX002"),
                }  # fmt: skip
                assert {row.source_time for row in rows} == {datetime(2020, 1, 1, 12, 30, tzinfo=UTC)}
                assert sum(row.state is State.QUEUED for row in rows) == 3
            for wrong in ("delete from observed", "select 1", "", "\x00"):
                query.write_text(wrong)
                assert "vlba_query" in (await site.once()).errors[0]
            query.unlink()
            assert "vlba_query" in (await site.once()).errors[0]


async def test_vlba_by_query_embedded(tmp_path: Path) -> None:
    """The same in SQLite, where times are texts."""
    async with small(tmp_path, Sky()) as site:
        assert await site.metadata.vlba_news(
            "select 'B' as uid, 'P' as project, '2020-01-01T12:30:00Z' as source_time"
        ) == [("B", "P", datetime(2020, 1, 1, 12, 30, tzinfo=UTC))]
        for wrong in ("drop table alma_ouses", "select 1 as uid, 'P' as project, 'noon' as source_time"):
            with pytest.raises(MetadataError):
                await site.metadata.vlba_news(wrong)


async def test_killed_between_mark_and_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader that ends after the mark and before the row: the next cycle puts it right."""
    sky = Sky(structure=[MOUS])
    sky.product(MOUS, "science", BEGAN)
    sky.product(MOUS, "script", BEGAN, CUSTOM)
    async with small(tmp_path, sky) as site:
        mark = type(site.metadata).mark

        async def ends(*given: object, **named: object) -> bool:
            await mark(*given, **named)  # type: ignore[arg-type]
            raise KeyError("killed")

        monkeypatch.setattr(type(site.metadata), "mark", ends)
        with pytest.raises(KeyError):
            await site.once()
        assert (set(marks(tmp_path)), await site.rows()) == ({MOUS}, [])
        monkeypatch.undo()
        await site.once()
        [row] = await site.rows()
        assert (row.state, marks(tmp_path)[MOUS][1]) == (State.DO_NOT_CALIBRATE, row.version)


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


async def test_a_refused_account_is_tried_once(tmp_path: Path) -> None:
    """An account that the archive refuses gets one try in a cycle: more bring its lock nearer."""
    sky = Sky()
    async with small(tmp_path, sky) as site:
        site.archive.login_error = 28000
        site.archive.logins = 0
        summary = await site.once()
        assert (site.archive.logins, len(summary.errors), summary.login_refused) == (1, 1, True)


async def test_no_work_queue(tmp_path: Path, postgres: Database, rabbitmq: Vhost) -> None:
    """Messages that the broker returns leave their rows waiting, with one clear line; then they are sent."""
    sky = Sky()
    for number in range(30):
        sky.block(f"{EB}{number + 1:x}", BEGAN)
    with archive_of(sky) as archive:
        async with station(
            tmp_path, archive, postgres.dsn, rabbitmq.url, database_password=postgres.password,
            broker_password=rabbitmq.password,
        ) as site:  # fmt: skip
            rabbitmq.node.api("DELETE", f"queues/{quote(rabbitmq.name, safe='')}/alma_reingestion")
            summary = await site.once()
            assert (summary.sent, summary.waiting) == (0, 30)
            assert "30 messages" in summary.errors[0]
            assert {(row.state, row.attempt) for row in await site.rows()} == {(State.WAITING, 0)}
            await site.broker.declare()
            summary = await site.once()
            assert (summary.sent, summary.waiting, len(await site.messages())) == (30, 0, 30)


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


@asynccontextmanager
async def running(site: Station, interval: float = 3600.0) -> AsyncIterator[None]:
    """A loader at work in this process."""
    task = asyncio.create_task(site.loader(interval).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def note(site: Station) -> dict[str, object]:
    """The loader's note."""
    found = (await site.metadata.notes()).get("loader")
    return dict(found.value) if found else {}


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
            for number in range(12):
                archive.statements.clear()
                process = site.start()

                async def at_work() -> bool:
                    return bool(archive.statements)

                await until(at_work)
                await asyncio.sleep(dice.uniform(0, 0.02 * (number + 1)))
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
        async with station(tmp_path, archive, postgres.dsn, "memory:", database_password=postgres.password) as site:
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


async def test_the_broker_is_killed_while_it_sends(tmp_path: Path, postgres: Database, frail_rabbitmq: Vhost) -> None:
    """Whatever was confirmed is in the queue when the broker is back, and the next cycle sends all the rest."""
    sky = Sky()
    for number in range(3000):
        sky.block(f"uid://A002/X{number + 1:x}/X1", BEGAN + timedelta(seconds=number))
    with archive_of(sky) as archive:
        async with station(
            tmp_path, archive, postgres.dsn, frail_rabbitmq.url, database_password=postgres.password,
            broker_password=frail_rabbitmq.password,
        ) as site:  # fmt: skip
            cycle = asyncio.create_task(site.once())

            async def sending() -> bool:
                counts = await site.metadata.tracking(Queue.ALMA).counts()
                return counts.get(Kind.EXECUTION_BLOCK, {}).get(State.QUEUED, 0) > 0

            await until(sending, 20)
            await asyncio.to_thread(frail_rabbitmq.node.signal, signal.SIGKILL)
            queued = {message_id(row) for row in await site.rows() if row.state is State.QUEUED}
            assert queued
            await asyncio.to_thread(frail_rabbitmq.node.start)
            summary = await cycle
            assert summary.errors or summary.waiting == 0
            await site.once()
            rows = await site.rows()
            assert {row.state for row in rows} == {State.QUEUED}
            taken = set(await site.messages())
            assert queued <= taken
            assert {message_id(row) for row in rows} <= taken
