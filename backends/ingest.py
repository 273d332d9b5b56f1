"""The store of the workflows, in PostgreSQL or SQLite: what a call writes, as statements of one transaction.

Both databases take the same statements (placeholders `%s`); what differs is how a transaction is run, which is all
that `ingest_postgres` and `ingest_sqlite` have. A call has its own connection: the workflows are short, a restart of
the database is over for the next call, and what failed is safe to repeat.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Protocol

from aogconsole.errors import ConfigError
from aogconsole.reingestion.ingested import Calibration, Command, ExecutionBlock
from backends.ingest_ports import Ingest

Values = Sequence[object]
Statement = tuple[str, Sequence[Values]]
"""SQL, and what it is run with: once for each."""

_COMMANDS: Final = (
    "select workflow_id, site, workflow, uid, metadata, owner, complete, reason, told_at from workflow_commands"
)


class Line(Protocol):
    """How a database runs a transaction."""

    async def run(self, statements: Sequence[Statement]) -> list[tuple[object, ...]]:
        """All of them in one transaction; the rows of the last one. Raises MetadataError."""
        ...


def open_ingest(dsn: str, password: str = "") -> Ingest:
    """The store in the database of a DSN, `postgresql://...` or `sqlite:PATH`. Raises ConfigError."""
    line: Line
    if dsn.startswith("sqlite:"):
        from backends.ingest_sqlite import SqliteLine

        line = SqliteLine(dsn.removeprefix("sqlite:"))
    elif dsn.startswith(("postgresql://", "postgres://")):
        from backends.ingest_postgres import PostgresLine

        line = PostgresLine(dsn, password)
    else:
        raise ConfigError("metadata.dsn is of no known database", "write it as postgresql://... or sqlite:PATH")
    return IngestStore(line)


class IngestStore:
    """`ingest_ports.Ingest` over either database."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def execution_block(self, block: ExecutionBlock, now: datetime) -> str | None:
        """See the port."""
        rows = await self._line.run(_block(block, now))
        return _text(rows[0][0])

    async def calibration(self, calibration: Calibration, now: datetime) -> None:
        """See the port."""
        await self._line.run(_calibration(calibration, now))

    async def take(self, command: Command, now: datetime) -> Command:
        """See the port."""
        metadata = json.dumps(dict(command.metadata), separators=(",", ":"))
        rows = await self._line.run([
            ("insert into workflow_commands (workflow_id, site, workflow, uid, metadata, taken_at) "
             "values (%s, %s, %s, %s, %s, %s) on conflict (workflow_id) do nothing",
             [(command.workflow_id, command.site, command.workflow, command.uid, metadata, now)]),
            (f"{_COMMANDS} where workflow_id = %s", [(command.workflow_id,)]),
        ])  # fmt: skip
        return _command(rows[0])

    async def begin(self, workflow_id: str, owner: str) -> bool:
        """See the port."""
        rows = await self._line.run([
            ("update workflow_commands set owner = %s where workflow_id = %s and owner is null and ended_at is null",
             [(owner, workflow_id)]),
            ("select owner from workflow_commands where workflow_id = %s", [(workflow_id,)]),
        ])  # fmt: skip
        return not rows or rows[0][0] == owner

    async def end(self, workflow_id: str, complete: bool, reason: str, now: datetime) -> None:
        """See the port."""
        await self._line.run([
            ("update workflow_commands set ended_at = %s, complete = %s, reason = %s "
             "where workflow_id = %s and ended_at is null", [(now, complete, reason, workflow_id)]),
        ])  # fmt: skip

    async def told(self, workflow_id: str, now: datetime) -> None:
        """See the port."""
        await self._line.run([
            ("update workflow_commands set told_at = %s where workflow_id = %s and ended_at is not null",
             [(now, workflow_id)]),
        ])  # fmt: skip

    async def open(self, site: str) -> list[Command]:
        """See the port."""
        rows = await self._line.run([
            (f"{_COMMANDS} where site = %s and told_at is null order by taken_at, workflow_id", [(site,)]),
        ])  # fmt: skip
        return [_command(row) for row in rows]


def _block(block: ExecutionBlock, now: datetime) -> list[Statement]:
    """The MOUS' row is written first, and so locked: a mark that comes at the same time is seen, or sees this."""
    uid = block.uid
    known: list[Values] = [(block.mous, block.project)] if block.mous else []
    own = (uid, block.project, block.project_uid, block.session, block.mous, block.scheduling_block, block.started,
           block.ended, block.telescope, block.array, block.antenna_count, block.qa0, block.aborted, now)  # fmt: skip
    return [
        ("insert into alma_ouses (mous_uid, project) values (%s, %s) on conflict (mous_uid) "
         "do update set project = coalesce(excluded.project, alma_ouses.project)", known),
        (_put("execution_blocks", "uid, project, project_uid, session_uid, mous_uid, scheduling_block_uid, started, "
              "ended, telescope, array_name, antenna_count, qa0, aborted, ingested_at"), [own]),
        ("update execution_blocks set calibration_status = "
         "(select calibration_status from alma_ouses where mous_uid = %s) where uid = %s", [(block.mous, uid)]),
        *_replaced("execution_block_antennas", "execution_block, number, name, type, diameter, station", uid,
                   [(one.number, one.name, one.make, one.diameter, one.station) for one in block.antennas]),
        *_replaced("execution_block_bands", "execution_block, band", uid, [(one,) for one in block.bands]),
        *_replaced("execution_block_sources", "execution_block, number, name, longitude, latitude, frame", uid,
                   [(one.number, one.name, one.longitude, one.latitude, one.frame) for one in block.sources]),
        *_replaced("execution_block_scans", "execution_block, scan, started, ended, source", uid,
                   [(one.number, one.started, one.ended, one.source) for one in block.scans]),
        *_replaced("execution_block_scan_intents", "execution_block, scan, intent", uid,
                   [(one.number, intent) for one in block.scans for intent in one.intents]),
        *_replaced("execution_block_subscans", "execution_block, scan, subscan, intent, field, started, ended", uid,
                   [(one.scan, one.number, one.intent, one.field, one.started, one.ended) for one in block.subscans]),
        ("select calibration_status from execution_blocks where uid = %s", [(uid,)]),
    ]  # fmt: skip


def _calibration(calibration: Calibration, now: datetime) -> list[Statement]:
    mous, files = calibration.mous, calibration.files
    science = sum(1 for one in files if one.file_class == "science")
    own = (
        mous,
        calibration.version,
        calibration.project,
        science,
        len(files),
        sum(one.size or 0 for one in files),
        now,
    )
    return [
        ("insert into alma_ouses (mous_uid, project) values (%s, %s) on conflict (mous_uid) "
         "do update set project = coalesce(alma_ouses.project, excluded.project)", [(mous, calibration.project)]),
        (_put("calibrations", "mous_uid, version, project, science_files, files, bytes, ingested_at"), [own]),
        *_replaced("calibration_files", "mous_uid, ngas_file_id, file_class, created, bytes", mous,
                   [(one.ngas_file_id, one.file_class, one.created, one.size) for one in files]),
        *_replaced("calibration_execution_blocks", "mous_uid, execution_block", mous,
                   [(one,) for one in calibration.execution_blocks]),
    ]  # fmt: skip


def _put(table: str, columns: str) -> str:
    """An insert, or an update of the row that has the first column's value. Names of tables and columns are ours."""
    key, *others = columns.split(", ")
    changed = ", ".join(f"{one} = excluded.{one}" for one in others)
    return f"{_insert(table, columns)} on conflict ({key}) do update set {changed}"


def _replaced(table: str, columns: str, key: str, rows: Sequence[Values]) -> list[Statement]:
    """What belongs to a key, in place of what was there; it is the value of the first column."""
    first = columns.split(", ", maxsplit=1)[0]
    return [
        (f"delete from {table} where {first} = %s", [(key,)]),  # noqa: S608
        (_insert(table, columns), [(key, *row) for row in rows]),
    ]


def _insert(table: str, columns: str) -> str:
    places = ", ".join("%s" for _ in columns.split(", "))
    return f"insert into {table} ({columns}) values ({places})"  # noqa: S608


def _command(row: tuple[object, ...]) -> Command:
    workflow_id, site, workflow, uid, metadata, owner, complete, reason, told_at = row
    return Command(
        str(workflow_id), str(site), str(workflow), str(uid), json.loads(str(metadata or "{}")), _text(owner),
        None if complete is None else bool(complete), _text(reason) or "", told_at is not None,
    )  # fmt: skip


def _text(value: object) -> str | None:
    return None if value is None else str(value)
