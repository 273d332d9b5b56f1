"""The workflows on real databases, a real archive's protocol and an NGAS: what is stored, twice, in both databases."""

from __future__ import annotations

import asyncio
import gzip
import tarfile
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aogconsole.errors import ArchiveError, NgasError
from aogconsole.ids import MousUid
from aogconsole.reingestion.ingested import CALIBRATED, DO_NOT_CALIBRATE, Command
from aogconsole.reingestion.item import version_of
from aogconsole.reingestion.workflows.asdm import AsdmError
from aogconsole.reingestion.workflows.calibration import NotCalibrated, ingest_calibration
from aogconsole.reingestion.workflows.execution_block import BlockSources, ingest_block
from backends.ingest import IngestStore
from backends.metadata import open_metadata
from backends.metadata_postgres import PostgresMetadata
from backends.metadata_session import Row, Session, Store, Value
from backends.metadata_sqlite import SqliteMetadata
from backends.ngas import HttpNgas
from backends.oracle_news import OracleNews
from tests.support.asdm import EXECUTION_BLOCK, MOUS, SCHEDULING_BLOCK, SESSION, asdm, tarred
from tests.support.ngas import Ngas
from tests.support.oracle import SCHEMA, Fault, TestArchive
from tests.support.postgres import PASSWORD, Database

UID, OUS = MousUid.parse(EXECUTION_BLOCK), MousUid.parse(MOUS)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PER_TABLE = "{uid}/{table}.xml"
VERSION = version_of(datetime(2014, 9, 1, 12, 0, 1, tzinfo=UTC))
"""Of the calibration that the tests' archive holds."""
TABLES = {
    "execution_blocks": 1, "execution_block_antennas": 3, "execution_block_bands": 2, "execution_block_sources": 2,
    "execution_block_scans": 3, "execution_block_scan_intents": 4, "execution_block_subscans": 6, "alma_ouses": 1,
}  # fmt: skip
"""Rows of the sample."""


class Site:
    """A metadata database, an archive and an NGAS that has one ASDM."""

    def __init__(self, dsn: str, archive: TestArchive, ngas: Ngas) -> None:
        self.dsn, self.archive, self.ngas = dsn, archive, ngas
        self.metadata = self.open()
        self.store = IngestStore(self.metadata.store)
        self.news = OracleNews(archive.settings())
        ngas.put(asdm())

    def open(self) -> PostgresMetadata | SqliteMetadata:
        """The database, as another process has it."""
        return open_metadata(self.dsn, PASSWORD)

    async def block(self, uid: MousUid = UID, pattern: str = PER_TABLE) -> dict[str, Any]:
        """The execution block's workflow."""
        return await ingest_block(uid, BlockSources(HttpNgas(self.ngas.url, 2), pattern, self.news), self.store, NOW)

    async def calibration(self) -> dict[str, Any]:
        """The calibration's workflow."""
        return await ingest_calibration(OUS, self.news, self.store, self.metadata, NOW)

    async def rows(self, sql: str) -> list[Row]:
        """Ask the database."""

        async def work(session: Session) -> list[Row]:
            return await session.rows(sql)

        return await self.metadata.store.read(work)

    async def counts(self) -> dict[str, int]:
        """Rows of the tables of an execution block."""
        found = {table: await self.rows(f"select count(*) from {table}") for table in TABLES}  # noqa: S608
        return {table: int(rows[0][0]) for table, rows in found.items()}

    async def status(self) -> str | None:
        """The execution block's mark."""
        [[status]] = await self.rows("select calibration_status from execution_blocks")
        return None if status is None else str(status)


@pytest.fixture(params=["sqlite", "postgres"])
async def site(request: pytest.FixtureRequest, tmp_path: Path, archive: TestArchive, ngas: Ngas) -> AsyncIterator[Site]:
    """A site on either database."""
    dsn = f"sqlite:{tmp_path / 'metadata.db'}" if request.param == "sqlite" else ""
    made = Site(dsn or request.getfixturevalue("postgres").dsn, archive, ngas)
    await made.metadata.migrate()
    yield made
    await made.metadata.close()


async def test_an_execution_block_fills_its_tables(site: Site) -> None:
    """Every table, with the archive's word on where it belongs; and its MOUS becomes known."""
    document = await site.block()
    assert document == {
        "uid": UID.mail, "project": "2012.1.00357.S", "mous": OUS.mail, "session": MousUid.parse(SESSION).mail,
        "scheduling_block": MousUid.parse(SCHEDULING_BLOCK).mail, "started": "2014-03-01T01:00:00Z",
        "ended": "2014-03-01T02:00:00Z", "bands": ["ALMA_RB_03", "ALMA_RB_06"], "antennas": 3, "sources": 2,
        "scans": 3, "subscans": 6, "calibration_status": None, "notes": [],
    }  # fmt: skip
    assert await site.counts() == TABLES
    [row] = await site.rows(
        "select uid, project, session_uid, mous_uid, scheduling_block_uid, telescope, antenna_count, qa0, aborted "
        "from execution_blocks"
    )
    assert row == (EXECUTION_BLOCK, "2012.1.00357.S", SESSION, MOUS, SCHEDULING_BLOCK, "ALMA", 3, "Pass", False)
    assert await site.rows("select mous_uid, project from alma_ouses") == [(MOUS, "2012.1.00357.S")]
    assert await site.rows("select scan, subscan, intent from execution_block_subscans order by 1, 2 limit 2") == [
        (1, 1, "ON_SOURCE"), (1, 2, "OFF_SOURCE")
    ]  # fmt: skip


async def test_again_changes_nothing_and_a_newer_asdm_replaces_it(site: Site) -> None:
    """Idempotent; and what a new ASDM no longer has is gone."""
    await site.block()
    await site.block()
    assert await site.counts() == TABLES
    site.ngas.put(asdm(antennas=2, scans=1, subscans=1))
    await site.block()
    assert await site.counts() == {
        **TABLES, "execution_block_antennas": 2, "execution_block_scans": 1, "execution_block_scan_intents": 2,
        "execution_block_subscans": 1,
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["w", "w:gz"])
async def test_one_tar_file_gives_the_same(site: Site, mode: str) -> None:
    """Its tables are found behind binary data, and the rest of the file is not asked for."""
    whole = await site.block()
    site.ngas.files = {f"{UID.mail}.tar": tarred(asdm(), before=3_000_000, mode=mode)}
    assert await site.block(pattern="{uid}.tar") == whole


async def test_a_failure_leaves_what_was_there(site: Site) -> None:
    """A truncated table, no table, half a tar, NGAS or the archive away: an error each, and not a row changed."""
    await site.block()
    before = dict(site.ngas.files)
    whole = tarred(asdm(), before=100_000)
    for name, data, error, said in (
        (f"{UID.mail}/Scan.xml", before[f"{UID.mail}/Scan.xml"][:900], AsdmError, r"Scan\.xml is truncated"),
        (f"{UID.mail}/Source.xml", b"<!DOCTYPE a [<!ENTITY b 'c'>]><SourceTable/>", AsdmError, "document type"),
        (f"{UID.mail}/ExecBlock.xml", None, AsdmError, "has no file"),
    ):
        site.ngas.files = {key: value for key, value in {**before, name: data}.items() if value is not None}
        with pytest.raises(error, match=said):
            await site.block()
    for half in (whole[:50_000], whole[:110_000], b"no tar at all", b"", b"\x1f\x8b\x08\x00 gzip?"):
        site.ngas.files = {"half.tar": half}
        with pytest.raises(AsdmError):
            await site.block(pattern="half.tar")
    site.ngas.files = before
    site.ngas.faults.append("short")
    with pytest.raises(NgasError, match="broke off"):
        await site.block()
    site.archive.faults.append(Fault(ora=942))
    with pytest.raises(ArchiveError):
        await site.block()
    assert await site.counts() == TABLES


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
async def test_a_tar_that_would_fill_the_memory_is_refused(site: Site, kind: bytes) -> None:
    """A few kilobytes that unpack to a name, or to attributes, of many megabytes."""
    head = tarfile.TarInfo("head")
    head.type, head.size = kind, 1 << 34
    packed = gzip.compress(head.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 24))
    site.ngas.files = {"bomb.tar": packed}
    tracemalloc.start()
    try:
        with pytest.raises(AsdmError, match=f"a head of {1 << 34} bytes"):
            await site.block(pattern="bomb.tar")
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


async def test_a_reason_of_any_text_is_recorded(site: Site) -> None:
    """NUL, half a pair, and no end of it: what went wrong is told, whatever it says."""
    await site.store.take(Command("w1", "NAASC", "execution-block", UID.mail, {}), NOW)
    await site.store.end("w1", False, "a\0b\udc80" + "x" * 100_000, NOW)
    [ended] = await site.store.open("NAASC")
    assert ended.complete is False
    assert ended.reason.startswith("a\\x00b\\udc80x")
    assert len(ended.reason) < 10_000


async def test_an_asdm_that_breaks_off_in_a_tar_is_ngas_fault(site: Site) -> None:
    """What NGAS did not send is said, not that the tar is truncated."""
    site.ngas.files = {"a.tar": tarred(asdm(), before=500_000)}
    site.ngas.faults.append("short")
    with pytest.raises(NgasError, match="broke off"):
        await site.block(pattern="a.tar")


async def test_missing_tables_are_said(site: Site) -> None:
    """What can be read is stored, where the ASDM does not promise more."""
    site.ngas.files.clear()
    site.ngas.put(asdm(without=["Receiver", "Station"]))
    document = await site.block()
    assert document["notes"] == ["Station.xml is not there", "Receiver.xml is not there"]
    assert document["bands"] == ["ALMA_RB_06"]


async def test_a_promised_table_that_is_missing_leaves_what_was_there(site: Site) -> None:
    """A good ingest is not replaced by one without antennas because NGAS has lost a file."""
    assert (await site.block())["antennas"] == 3
    del site.ngas.files[f"{UID.mail}/Antenna.xml"]
    with pytest.raises(AsdmError, match=r"Antenna\.xml is not there, and ASDM\.xml promises 3 rows"):
        await site.block()
    assert await site.counts() == TABLES


async def test_the_archive_decides_where_a_block_belongs(site: Site) -> None:
    """What the ASDM says otherwise is said; a block that the archive does not have is stored without a MOUS."""
    name = f"{UID.mail}/ExecBlock.xml"
    site.ngas.files[name] = site.ngas.files[name].replace(SESSION.encode() + b'"', b'uid://A002/X1/X99"')
    document = await site.block()
    assert document["session"] == MousUid.parse(SESSION).mail
    assert document["notes"] == [f"the ASDM says session uid://A002/X1/X99, the archive {SESSION}: the archive decides"]
    unknown = MousUid.parse("uid://A002/X5/X5")
    site.ngas.put(asdm(unknown.database), unknown.database)
    document = await site.block(unknown)
    assert document["mous"] is None
    assert document["notes"][0] == "the archive does not have this execution block"


async def test_a_calibration_marks_its_execution_blocks(site: Site) -> None:
    """calibrations and what belongs to it are filled, the MOUS is marked, and so is what is there of it."""
    await site.block()
    document = await site.calibration()
    assert document == {
        "mous": OUS.mail, "project": "2012.1.00357.S", "version": VERSION, "files": 2, "science_files": 1,
        "bytes": 2000, "execution_blocks": [UID.mail], "calibration_status": CALIBRATED, "notes": [],
    }  # fmt: skip
    assert await site.status() == CALIBRATED
    await site.calibration()
    assert await site.rows("select mous_uid, version, science_files, files, bytes from calibrations") == [
        (MOUS, VERSION, 1, 2, 2000)
    ]
    assert await site.rows("select count(*), max(bytes) from calibration_files") == [(2, 1000)]
    assert await site.rows("select mous_uid, execution_block from calibration_execution_blocks") == [
        (MOUS, EXECUTION_BLOCK)
    ]


@pytest.mark.parametrize("mark", [CALIBRATED, DO_NOT_CALIBRATE])
async def test_a_mark_reaches_a_block_that_comes_later(site: Site, mark: str) -> None:
    """It belongs to the MOUS: it is there before the block, and survives the block's re-ingestion."""
    assert await site.metadata.mark(MOUS, mark, VERSION, NOW)
    assert (await site.block())["calibration_status"] == mark
    await site.block()
    assert await site.status() == mark


async def test_a_newer_version_s_mark_stays(site: Site) -> None:
    """A calibration that was overtaken is stored, and marks nothing."""
    await site.block()
    await site.metadata.mark(MOUS, DO_NOT_CALIBRATE, version_of(NOW), NOW)
    document = await site.calibration()
    assert document["calibration_status"] == DO_NOT_CALIBRATE
    assert document["notes"] == ["a newer version has marked the MOUS: its mark stays"]
    assert await site.status() == DO_NOT_CALIBRATE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("delete from asa_product_files where file_class = 'science'", "no science products"),
        ("insert into asa_product_files values ('uid://A002/X788a57/X29', 'x.scriptForFluxCalibration.py', 'script', "
         "'2014-09-02 12:00:00', 1)", "custom calibration scripts"),
    ],
)  # fmt: skip
async def test_what_became_unfit_meanwhile_is_not_ingested(tmp_path: Path, ngas: Ngas, change: str, said: str) -> None:
    """The checks are made again: the archive went on between the loader's cycle and the workflow. Custom scripts mark
    the MOUS and its blocks, with the newest file's version, and the hint says so."""
    with TestArchive(SCHEMA.read_text("utf-8") + f"\n{change};") as archive:
        site = Site(f"sqlite:{tmp_path / 'metadata.db'}", archive, ngas)
        await site.metadata.migrate()
        await site.block()
        custom = "scripts" in said
        with pytest.raises(NotCalibrated, match=said) as raised:
            await site.calibration()
        assert await site.status() == (DO_NOT_CALIBRATE if custom else None)
        assert (raised.value.hint == "it is marked Do Not Calibrate") is custom
        if custom:
            version = version_of(datetime(2014, 9, 2, 12, tzinfo=UTC))
            assert await site.metadata.marks([MOUS]) == {MOUS: (DO_NOT_CALIBRATE, version)}
            await site.metadata.mark(MOUS, CALIBRATED, version_of(NOW), NOW)
            with pytest.raises(NotCalibrated) as raised:
                await site.calibration()
            assert "newer version" in raised.value.hint
            assert await site.status() == CALIBRATED
        await site.metadata.close()


class Forgetful(IngestStore):
    """Broken on purpose: it does not write the MOUS' row first, and so does not wait for who marks it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._sql = {**self._sql, "know_by_block": "select cast(:mous as text), cast(:project as text)"}


@pytest.mark.parametrize(("kind", "seen"), [(IngestStore, True), (Forgetful, False)])
async def test_a_mark_at_the_same_moment_is_not_lost(
    postgres: Database, archive: TestArchive, ngas: Ngas, kind: type[IngestStore], seen: bool
) -> None:
    """A block that comes while its MOUS is being marked waits for the mark. The broken store is caught."""
    site = Site(postgres.dsn, archive, ngas)
    site.store = kind(site.metadata.store)
    await site.block()
    block: asyncio.Task[dict[str, Any]] | None = None

    async def marking(session: Session) -> None:
        nonlocal block
        values: dict[str, Value] = {"mous": MOUS, "status": CALIBRATED, "version": VERSION, "now": NOW}
        await session.rows("update alma_ouses set calibration_status = :status, calibration_version = :version, "
                           "marked_at = :now where mous_uid = :mous", **values)  # fmt: skip
        block = asyncio.create_task(site.block())
        while not block.done() and not postgres.ask(
            "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        ):
            await asyncio.sleep(0.01)
        if block.done():  # the broken one has written already what the mark now misses: its row is another by now
            return
        await session.rows("update execution_blocks set calibration_status = :status where mous_uid = :mous",
                           mous=MOUS, status=CALIBRATED)  # fmt: skip

    other = site.open()
    try:
        await other.store.write(marking)
        assert block is not None
        document = await block
        assert (document["calibration_status"] == CALIBRATED) is seen
    finally:
        await other.close()
        await site.metadata.close()
