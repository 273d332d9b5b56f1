"""QueueLoader against a real archive, table and broker: the right rows, once, and windows."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aogconsole import times
from aogconsole.errors import MetadataError
from aogconsole.reingestion import rules
from aogconsole.reingestion.item import Change, Kind, Queue, State, deferred, message_id
from aogconsole.reingestion.steering import Steering
from tests.support.command import call
from tests.support.loaders import (
    BEGAN,
    CUSTOM,
    DAY,
    EB,
    MOUS,
    Sky,
    archive_of,
    drawn,
    events,
    marks,
    recognize,
    recognized,
    signals_kept,
    small,
    station,
)
from tests.support.postgres import Database
from tests.support.rabbitmq import Vhost

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
        done = call(config, "loader", "--once", "--from", "2999-01-01")
        assert (done.code, b"2999-01-01T00:00:00Z is to come" in done.err) == (2, True)
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


async def test_a_back_fill_looks_no_less_far_than_usual(tmp_path: Path) -> None:
    """`--from` a day within the usual window, or after it, leaves nothing behind the newest row; an empty table's
    first look begins there."""
    sky = Sky()
    for number in (1, 2):
        sky.block(f"{EB}{number}", BEGAN + number * DAY)
        sky.product(f"uid://A001/X{number}/X1", "science", BEGAN + number * DAY)
    async with small(tmp_path, sky) as site:
        await site.once(BEGAN + 2 * DAY)
        assert {row.uid for row in await site.rows()} == {f"{EB}2", "uid://A001/X2/X1"}
        more = Sky()
        for number in (3, 4):
            more.block(f"{EB}{number}", BEGAN + number * DAY)
            more.product(f"uid://A001/X{number}/X1", "science", BEGAN + number * DAY)
        site.archive.load(more.sql())
        assert (await site.once(BEGAN + 4 * DAY)).found == {Kind.EXECUTION_BLOCK: 2, Kind.CALIBRATION: 3}


async def test_an_archive_that_goes_back_is_followed(tmp_path: Path) -> None:
    """A file withdrawn for an older one, an ENDTIME corrected, an item added by hand: what the archive shows then is
    sent, though a later time is done; once."""
    sky = Sky(structure=[MOUS])
    sky.block(f"{EB}1", BEGAN)
    sky.product(MOUS, "science", BEGAN)
    async with small(tmp_path, sky) as site:
        await site.once()
        tracking = site.metadata.tracking(Queue.ALMA)
        by_hand = await Steering(site.metadata, Queue.ALMA, "anna@aog1").add(Kind.EXECUTION_BLOCK, f"{EB}2", None, None)
        await site.once()
        rows = await site.rows()
        for state in (State.LAUNCHING, State.DONE):
            rows = await tracking.move([Change(row, replace(row, state=state), "r", "") for row in rows], BEGAN)
        assert len(rows) == 3
        before = BEGAN - timedelta(hours=1)
        site.archive.load("delete from aqua_v_execblock; delete from asa_product_files")
        older = Sky()
        older.block(f"{EB}1", before)
        older.block(f"{EB}2", before)
        older.product(MOUS, "science", before)
        site.archive.load(older.sql())
        summary = await site.once()
        assert (summary.found.total(), summary.sent) == (3, 3)
        late = [row for row in await site.rows() if row.source_time == before]
        assert {row.state for row in late} == {State.QUEUED}
        assert by_hand.id not in {row.id for row in late}
        history = events(tmp_path)
        assert ((await site.once()).found.total(), events(tmp_path)) == (0, history)


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
            said = f"reingestion.vlba_query: {query} cannot be read: No such file or directory"
            assert (await site.once()).errors == [said]
            query.write_bytes(b"\xff")
            assert (await site.once()).errors == [f"reingestion.vlba_query: {query} is not UTF-8"]


async def test_vlba_by_query_embedded(tmp_path: Path) -> None:
    """The same in SQLite, where times are texts."""
    async with small(tmp_path, Sky()) as site:
        assert await site.metadata.vlba_news(
            "select 'B' as uid, 'P' as project, '2020-01-01T12:30:00Z' as source_time"
        ) == [("B", "P", datetime(2020, 1, 1, 12, 30, tzinfo=UTC))]
        for wrong in ("drop table alma_ouses", "select 1 as uid, 'P' as project, 'noon' as source_time"):
            with pytest.raises(MetadataError):
                await site.metadata.vlba_news(wrong)


class Killed(BaseException):
    """What no cycle survives."""


async def test_killed_between_mark_and_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader that ends after the mark and before the row: the next cycle puts it right."""
    sky = Sky(structure=[MOUS])
    sky.product(MOUS, "science", BEGAN)
    sky.product(MOUS, "script", BEGAN, CUSTOM)
    async with small(tmp_path, sky) as site:
        mark = type(site.metadata).mark

        async def ends(*given: object, **named: object) -> bool:
            await mark(*given, **named)  # type: ignore[arg-type]
            raise Killed

        monkeypatch.setattr(type(site.metadata), "mark", ends)
        with pytest.raises(Killed):
            await site.once()
        assert (set(marks(tmp_path)), await site.rows()) == ({MOUS}, [])
        monkeypatch.undo()
        await site.once()
        [row] = await site.rows()
        assert (row.state, marks(tmp_path)[MOUS][1]) == (State.DO_NOT_CALIBRATE, row.version)
