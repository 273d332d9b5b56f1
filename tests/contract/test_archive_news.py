"""What is new in the archive, through real Oracle Net: windows, batches, odd rows, and the facts of the checks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import TypeVar

import pytest

from aogconsole.errors import ArchiveError, ArchiveLoginRefused, ConfigError
from aogconsole.reingestion.rules import custom_scripts
from backends.oracle_line import OracleSettings
from backends.oracle_news import MOST, OracleNews
from backends.reingestion_ports import NewExecutionBlock, NewProducts
from tests.support.oracle import SCHEMA, Fault, TestArchive

T = TypeVar("T")
TABLES = SCHEMA.read_text("utf-8").partition("\ninsert into")[0]
STATEMENTS = sorted(
    file.name.removesuffix(".sql")
    for file in resources.files("backends").joinpath("sql/oracle").iterdir()
    if not file.name.startswith(("entitlement", "stagecalms"))
)


def archive_with(*statements: str) -> TestArchive:
    """An archive with the tables, and only these data."""
    return TestArchive(TABLES + "\n" + ";\n".join(statements) + ";")


def timestamp(text: str | None) -> str:
    """A time as SQLite keeps what Oracle calls a TIMESTAMP."""
    return "null" if text is None else f"'{datetime.fromisoformat(text)}'"


def block(uid: str, ended: str | None, project: str = "2019.1.00001.S") -> str:
    """A row of AQUA_V_EXECBLOCK."""
    into = "insert into aqua_v_execblock(execblockuid, obsprojectcode, endtime) values"
    return f"{into} ('{uid}', '{project}', {timestamp(ended)})"


def product(mous: str, created: str | None, kind: str = "science", name: str = "x.fits") -> str:
    """A row of ASA_PRODUCT_FILES."""
    into = "insert into asa_product_files values"
    return f"{into} ('{mous}', '{name}', '{kind}', {timestamp(created)}, 1)"


async def every(news: AsyncIterator[Sequence[T]]) -> list[T]:
    """All rows of all batches."""
    return [one async for batch in news for one in batch]


def at(text: str) -> datetime:
    """A time of the archive."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


EB, MOUS = "uid://A002/X1/X", "uid://A001/X2/X"


async def test_execution_blocks() -> None:
    """All of them or those from a time on, the time included, oldest first, with fractions of seconds."""
    with archive_with(
        block(f"{EB}3", "2020-01-03 00:00:00.250000"),
        block(f"{EB}1", "2020-01-01 00:00:00", "2019.1.00007.S"),
        block(f"{EB}2", "2020-01-02 12:00:00"),
    ) as server:
        news = OracleNews(server.settings())
        first = NewExecutionBlock(f"{EB}1", "2019.1.00007.S", at("2020-01-01"))
        found = await every(news.execution_blocks(None))
        assert found == [
            first,
            NewExecutionBlock(f"{EB}2", "2019.1.00001.S", at("2020-01-02 12:00:00")),
            NewExecutionBlock(f"{EB}3", "2019.1.00001.S", at("2020-01-03 00:00:00.250000")),
        ]
        assert await every(news.execution_blocks(at("2020-01-02 12:00:00"))) == found[1:]
        assert await every(news.execution_blocks(at("2020-01-03 00:00:00.250000"))) == found[2:]
        assert await every(news.execution_blocks(at("2020-01-04"))) == []
        assert await every(news.execution_blocks(datetime(1, 1, 1, tzinfo=UTC))) == found


async def test_odd_rows(caplog: pytest.LogCaptureFixture) -> None:
    """Without a time: no news. Twice: once, the latest. Padded: trimmed. No UID: left out, said once. Status or QA0
    are nobody's business."""
    with archive_with(
        block(f"{EB}1", None),
        block(f"{EB}2", "2020-01-02"),
        block(f"{EB}2", "2020-01-02"),
        block(f"{EB}2".ljust(64), "2020-01-01", "2019.1.00001.S   "),
        block("uid://A002/x1/../\x1b[31m", "2020-01-03"),
        block("", "2020-01-03"),
        block(f"{EB}4", "2020-01-04", ""),
        "update aqua_v_execblock set qa0status = 'Fail', status = 'ABORTED'",
    ) as server:
        news = OracleNews(server.settings())
        with caplog.at_level(logging.WARNING):
            found = await every(news.execution_blocks(None))
            assert found == await every(news.execution_blocks(None))
    assert found == [
        NewExecutionBlock(f"{EB}2", "2019.1.00001.S", at("2020-01-02")),
        NewExecutionBlock(f"{EB}4", None, at("2020-01-04")),
    ]
    assert len(caplog.records) == 2
    assert all(record.getMessage().isprintable() for record in caplog.records)


async def test_products() -> None:
    """Each MOUS once with the newest of all of its files, oldest first; files without a time are no news."""
    with archive_with(
        product(f"{MOUS}1", "2020-01-01"),
        product(f"{MOUS}1", "2020-01-05 10:00:00.5", "script"),
        product(f"{MOUS}2", "2020-01-03"),
        product(f"{MOUS}3", None),
        product(f"{MOUS}2".ljust(64), "2020-01-02"),
    ) as server:
        news = OracleNews(server.settings())
        both = [NewProducts(f"{MOUS}2", at("2020-01-03")), NewProducts(f"{MOUS}1", at("2020-01-05 10:00:00.5"))]
        assert await every(news.products(None)) == both
        assert await every(news.products(at("2020-01-02 12:00:00"))) == both
        assert await every(news.products(at("2020-01-04"))) == both[1:]


async def test_facts() -> None:
    """Files of class `science`, exactly; names that may be custom scripts; the project, from whichever table has it."""
    custom = "member.scriptForCalibration.py"
    with archive_with(
        product(f"{MOUS}1", None, "science"),
        product(f"{MOUS}1", "2020-01-01", "science   ", "y.fits"),
        product(f"{MOUS}1", "2020-01-01", "Science"),
        product(f"{MOUS}1", "2020-01-01", "script", custom),
        product(f"{MOUS}1", "2020-01-01", "script", custom),
        product(f"{MOUS}1", "2020-01-01", "script", "scriptForPI.py"),
        product(f"{MOUS}1", "2020-01-01", "auxiliary", "other.scriptForCal.py"),
        product(f"{MOUS}2", "2020-01-01", "product"),
        product(f"{MOUS}3".ljust(64), "2020-01-01", "science".ljust(32)),
        "insert into asa_ous(member_ous_uid, asa_project_code) values ('uid://A001/X2/X1', '2019.1.00001.S')",
        "insert into asa_science(member_ouss_id, project_code) values ('uid://A001/X2/X2', '2019.1.00002.S'),"
        " ('uid://A001/X2/X2', '2019.1.00002.S'), ('uid://A001/X2/X3', '2019.1.00003.S')",
    ) as server:
        found = await OracleNews(server.settings()).facts([f"{MOUS}{n}" for n in (1, 2, 3, 4, 1)])
    assert {one: (facts.science, facts.project) for one, facts in found.items()} == {
        f"{MOUS}1": (2, "2019.1.00001.S"), f"{MOUS}2": (0, "2019.1.00002.S"), f"{MOUS}3": (1, "2019.1.00003.S"),
        f"{MOUS}4": (0, None),
    }  # fmt: skip
    assert custom_scripts(found[f"{MOUS}1"].scripts) == (custom,)
    assert not any(custom_scripts(found[f"{MOUS}{n}"].scripts) for n in (2, 3, 4))


async def test_many(caplog: pytest.LogCaptureFixture) -> None:
    """Ten thousand rows come in batches, none lost or doubled; facts of thousands by a few statements, in seconds."""
    with archive_with(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 10000)"
        " insert into aqua_v_execblock(execblockuid, endtime)"
        " select printf('uid://A002/X%x/X1', i), datetime('2020-01-01', (i / 3) || ' minutes') from n",
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000) insert into asa_product_files"
        " select printf('uid://A001/X%x/X1', i), 'x', 'science', datetime('2020-01-01', i || ' minutes'), 1 from n",
    ) as server:
        news, started = OracleNews(server.settings()), time.monotonic()
        batches = [batch async for batch in news.execution_blocks(None)]
        uids = [one.uid for batch in batches for one in batch]
        assert len(uids) == len(set(uids)) == 10_000
        assert len(batches) >= 10
        times = [one.ended for batch in batches for one in batch]
        assert times == sorted(times)
        server.statements.clear()
        mous = [one.mous for one in await every(news.products(None))]
        assert {facts.science for facts in (await news.facts(mous)).values()} == {1}
        assert len(server.statements) == 1 + 2000 // MOST
    assert time.monotonic() - started < 10
    assert not caplog.records


async def test_structure() -> None:
    """Where an execution block belongs; one without a scheduling block's row has no MOUS, an unknown one is missing."""
    with TestArchive() as server:
        server.load(block(f"{EB}9", "2020-01-01 00:00:01"))
        news = OracleNews(server.settings())
        found = await news.structure(["uid://A002/X7e4988/X1f2", f"{EB}9", f"{EB}8"])
        assert set(found) == {"uid://A002/X7e4988/X1f2", f"{EB}9"}
        whole = found["uid://A002/X7e4988/X1f2"]
        assert (whole.mous, whole.scheduling_block, whole.session, whole.project, whole.qa0) == (
            "uid://A002/X788a57/X29", "uid://A002/X788a57/X30", "uid://A002/X7e4988/X1", "2012.1.00357.S", "Pass",
        )  # fmt: skip
        assert (whole.started, whole.ended) == (at("2014-03-01 01:00:00.123"), at("2014-03-01 02:00:00.456"))
        assert (found[f"{EB}9"].mous, found[f"{EB}9"].ended) == (None, at("2020-01-01 00:00:01"))
        assert await news.structure([]) == {}
        assert await news.execution_blocks_of("uid://A002/X788a57/X29") == ["uid://A002/X7e4988/X1f2"]
        assert await news.execution_blocks_of("uid://A002/X788a57/X2") == []
        server.load("update sched_block_status set parent_obs_unit_set_status_id = 'uid://A002/X788a57/X29     '")
        assert await news.execution_blocks_of("uid://A002/X788a57/X29") == ["uid://A002/X7e4988/X1f2"]
        assert (await news.structure(list(found)))["uid://A002/X7e4988/X1f2"].mous == "uid://A002/X788a57/X29"


async def test_product_files() -> None:
    """The product files of a MOUS, with their class, time and size."""
    with TestArchive() as server:
        found = await OracleNews(server.settings()).product_files("uid://A002/X788a57/X29")
    assert [(one.file_class, one.created, one.size) for one in found] == [
        ("product", at("2014-09-01 12:00:00"), 1000), ("science", at("2014-09-01 12:00:01"), 1000),
    ]  # fmt: skip


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_missing_view() -> None:
    """A view that is not there is named by the statement that reads it; the other questions go on."""
    with archive_with(product(f"{MOUS}1", "2020-01-01"), "drop table aqua_v_execblock") as server:
        news = OracleNews(server.settings())
        with pytest.raises(ArchiveError, match=r"execution_blocks\.sql.*ORA-00942") as caught:
            await every(news.execution_blocks(None))
        assert caught.value.hint
        assert len(await every(news.products(None))) == 1


async def test_refused_login() -> None:
    """A wrong password is told apart, for whoever must not try again."""
    with archive_with("select 1") as server:
        settings = OracleSettings(server.dsn, server.user, "another-canary", 5.0)
        with pytest.raises(ArchiveLoginRefused) as caught:
            await OracleNews(settings).facts([f"{MOUS}1"])
        assert "canary" not in str(caught.value)


@pytest.mark.parametrize("fault", [Fault(hang=True), Fault(drop=True), Fault(ora=1034)])
async def test_bounded(fault: Fault) -> None:
    """An archive that does not answer, hangs up or is down costs a time-out, and is an error."""
    with archive_with(block(f"{EB}1", "2020-01-01")) as server:
        server.faults.append(fault)
        news, started = OracleNews(server.settings(0.5)), time.monotonic()
        with pytest.raises(ArchiveError) as caught:
            await every(news.execution_blocks(None))
        assert "DPY-1001" not in str(caught.value), "what came of cutting the line"
        assert time.monotonic() - started < 5
        assert len(await every(news.execution_blocks(None))) == 1


async def test_a_question_is_given_up() -> None:
    """Who is cancelled while the archive is silent ends cancelled, not with an error of the line that was cut."""
    with archive_with(block(f"{EB}1", "2020-01-01")) as server:
        server.faults.append(Fault(hang=True))
        asking = asyncio.create_task(every(OracleNews(server.settings(10)).execution_blocks(None)))
        while not server.statements:
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_reader_stops(archive: TestArchive) -> None:
    """Who stops reading leaves no task behind."""
    batches = OracleNews(archive.settings()).execution_blocks(at("2010-01-01") - timedelta(days=1))
    async for _ in batches:
        break
    await batches.aclose()  # type: ignore[attr-defined]
    assert not [task for task in asyncio.all_tasks() if "Oracle" in repr(task)]


# ── the site's own statements ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", STATEMENTS)
async def test_site_replaces_each_statement(tmp_path: Path, name: str) -> None:
    """A file of the same name replaces each statement; one without our columns is named, as is the column."""
    bind = "since" if name in ("execution_blocks", "products") else "mous"
    condition = "" if name == "structure" else f" where :{bind} is not null"
    (tmp_path / f"{name}.sql").write_text("select 1 as one from dual" + condition, "utf-8")  # noqa: S608
    with archive_with(product(f"{MOUS}1".ljust(40), "2020-01-01")) as server:
        news = OracleNews(server.settings(queries=tmp_path))
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "execution_blocks": lambda: every(news.execution_blocks(None)),
            "products": lambda: every(news.products(None)),
            "structure": lambda: news.structure([f"{EB}1"]),
            "execution_blocks_of": lambda: news.execution_blocks_of(f"{MOUS}1"),
            "product_files": lambda: news.product_files(f"{MOUS}1"),
        }
        with pytest.raises(ArchiveError, match=rf"{name}\.sql returns no column"):
            await calls.get(name, lambda: news.facts([f"{MOUS}1"]))()


async def test_a_site_s_statement_that_gives_no_number(tmp_path: Path) -> None:
    """What must be a number is said, as what must be a time is."""
    (tmp_path / "product_facts.sql").write_text(
        "select 'science' as fact, asa_ous_id as mous, null as value, 'many' as files"
        " from asa_product_files where asa_ous_id in (:mous)", "utf-8",
    )  # fmt: skip
    with archive_with(product(f"{MOUS}1", "2020-01-01")) as server:
        news = OracleNews(server.settings(queries=tmp_path))
        with pytest.raises(ArchiveError, match="gave 'many' for a number"):
            await news.facts([f"{MOUS}1"])


def test_unreadable_statement(tmp_path: Path) -> None:
    """A site's file that cannot be read is an error of the configuration."""
    (tmp_path / "products.sql").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"products\.sql"):
        OracleNews(OracleSettings("host:1521/X", "u", "p", queries=tmp_path))


WRONG = [
    ("execution_blocks", "endtime >= :since", "endtime > :since"),
    ("execution_blocks", "order by 3, 1", "order by 1"),
    ("execution_blocks", "where endtime", "where qa0status = 'Pass' and endtime"),
    ("execution_blocks", "max(endtime) as", "min(endtime) as"),
    ("products", "max(creation_date) as", "min(creation_date) as"),
    ("products", "where creation_date", "where file_class = 'science' and creation_date"),
    ("product_facts", "trim(file_class)", "lower(file_class)"),
    ("product_facts", "file_class = 'science' then 1", "file_class like 'sci%' then 1"),
    ("product_facts", "ngas_file_id like '%scriptFor%Cal%'", "ngas_file_id like '%scriptFor%'"),
]


@pytest.mark.parametrize(("name", "right", "wrong"), WRONG)
async def test_a_wrong_statement_is_caught(tmp_path: Path, name: str, right: str, wrong: str) -> None:
    """The cases of this module have other answers with each of these statements."""
    ours = resources.files("backends").joinpath(f"sql/oracle/{name}.sql").read_text("utf-8")
    assert right in ours
    (tmp_path / f"{name}.sql").write_text(ours.replace(right, wrong), encoding="utf-8")

    with archive_with(
        block(f"{EB}2", "2020-01-02"), block(f"{EB}1", "2020-01-03"), block(f"{EB}1", "2020-01-04"),
        product(f"{MOUS}1", "2020-01-01"), product(f"{MOUS}1", "2020-01-03", "script", "scriptForPI.py"),
        product(f"{MOUS}1", "2020-01-02", "Science "), product(f"{MOUS}1", "2020-01-02", "science2 "),
        product(f"{MOUS}1", "2020-01-02", "science "),
    ) as server:  # fmt: skip

        async def answers(queries: Path | None) -> object:
            news = OracleNews(server.settings(queries=queries))
            return (
                await every(news.execution_blocks(at("2020-01-02"))), await every(news.products(None)),
                await news.facts([f"{MOUS}1"]),
            )  # fmt: skip

        assert await answers(None) != await answers(tmp_path)
