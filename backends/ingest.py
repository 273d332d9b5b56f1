"""The store of the workflows, in the metadata database: each call is one transaction, and safe to repeat.

The rows of a table go in as one statement, given as JSON: it is the same for both databases, and costs one round trip
however many there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from aogconsole.reingestion.ingested import Calibration, Command, ExecutionBlock
from backends.metadata_session import LONGEST, Row, Session, Store, Value, columns, rows_json, storable

_BLOCK: Final = (
    "uid text, project text, project_uid text, session_uid text, mous_uid text, scheduling_block_uid text, "
    "started timestamptz, ended timestamptz, telescope text, array_name text, antenna_count integer, qa0 text, "
    "aborted boolean, ingested_at timestamptz"
)
_OF_BLOCK: Final[Mapping[str, str]] = {
    "execution_block_antennas": "number integer, name text, type text, diameter float8, station text",
    "execution_block_bands": "band text",
    "execution_block_sources":
        "number integer, name text, longitude float8, latitude float8, frame text",
    "execution_block_scans": "scan integer, started timestamptz, ended timestamptz, source text",
    "execution_block_scan_intents": "scan integer, intent text",
    "execution_block_subscans":
        "scan integer, subscan integer, intent text, field text, started timestamptz, ended timestamptz",
}  # fmt: skip
_CALIBRATION: Final = (
    "mous_uid text, version text, project text, science_files integer, files integer, bytes bigint, "
    "ingested_at timestamptz"
)
_OF_CALIBRATION: Final[Mapping[str, str]] = {
    "calibration_files": "ngas_file_id text, file_class text, created timestamptz, bytes bigint",
    "calibration_execution_blocks": "execution_block text",
}
Rows = Sequence[tuple[Value, ...]]


class IngestStore:
    """`ingest_ports.Ingest` in a metadata database, by its store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sql = store.dialect.statements("ingest")

    async def execution_block(self, block: ExecutionBlock, now: datetime) -> str | None:
        """See the port. The MOUS' row is written first, and so locked: a mark that comes at the same time is seen, or
        sees this."""
        own = (block.uid, block.project, block.project_uid, block.session, block.mous, block.scheduling_block,
               block.started, block.ended, block.telescope, block.array, block.antenna_count, block.qa0, block.aborted,
               now)  # fmt: skip

        async def work(session: Session) -> str | None:
            if block.mous:
                await session.rows(self._sql["know_by_block"], mous=block.mous, project=block.project)
            await self._put(session, "execution_blocks", _BLOCK, own)
            for table, rows in _of_block(block).items():
                await self._replace(session, table, ("execution_block", block.uid), _OF_BLOCK[table], rows)
            [[status]] = await session.rows(self._sql["take_mark"], uid=block.uid, mous=block.mous)
            return _text(status)

        return await self._store.write(work)

    async def calibration(self, calibration: Calibration, now: datetime) -> None:
        """See the port."""
        mous, files = calibration.mous, calibration.files
        science = sum(1 for one in files if one.file_class == "science")
        size = sum(one.size or 0 for one in files)
        own = (mous, calibration.version, calibration.project, science, len(files), size, now)
        parts: dict[str, Rows] = {
            "calibration_files": [(one.ngas_file_id, one.file_class, one.created, one.size) for one in files],
            "calibration_execution_blocks": [(one,) for one in calibration.execution_blocks],
        }

        async def work(session: Session) -> None:
            await session.rows(self._sql["know_by_calibration"], mous=mous, project=calibration.project)
            await self._put(session, "calibrations", _CALIBRATION, own)
            for table, rows in parts.items():
                await self._replace(session, table, ("mous_uid", mous), _OF_CALIBRATION[table], rows)

        await self._store.write(work)

    # ── start commands ───────────────────────────────────────────────────────────────────────────────────────

    async def take(self, command: Command, now: datetime) -> Command:
        """See the port."""
        metadata = json.dumps(dict(command.metadata), separators=(",", ":"))

        async def work(session: Session) -> Command:
            await session.rows(self._sql["take"], id=command.workflow_id, site=command.site, uid=command.uid,
                               workflow=command.workflow, metadata=metadata, now=now)  # fmt: skip
            [row] = await session.rows(self._sql["command"], id=command.workflow_id)
            return _command(row)

        return await self._store.write(work)

    async def begin(self, workflow_id: str, owner: str) -> bool:
        """See the port."""

        async def work(session: Session) -> bool:
            await session.rows(self._sql["begin"], id=workflow_id, owner=owner)
            found = [_command(row) for row in await session.rows(self._sql["command"], id=workflow_id)]
            return all(one.owner == owner and one.complete is None for one in found)

        return await self._store.write(work)

    async def end(self, workflow_id: str, complete: bool, reason: str, now: datetime) -> None:
        """See the port."""
        how = "complete" if complete else "failed"

        async def work(session: Session) -> None:
            await session.rows(self._sql[how], id=workflow_id, reason=storable(reason[:LONGEST]), now=now)

        await self._store.write(work)

    async def told(self, workflow_id: str, now: datetime) -> None:
        """See the port."""

        async def work(session: Session) -> None:
            await session.rows(self._sql["told"], id=workflow_id, now=now)

        await self._store.write(work)

    async def open(self, site: str) -> list[Command]:
        """See the port."""

        async def work(session: Session) -> list[Command]:
            return [_command(row) for row in await session.rows(self._sql["open"], site=site)]

        return await self._store.read(work)

    # ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _put(self, session: Session, table: str, given: str, row: tuple[Value, ...]) -> None:
        """One row, in place of the one with the value of its first column. Names are ours."""
        key, *others = (name for name, _ in columns(given))
        changed = ", ".join(f"{one} = excluded.{one}" for one in others)
        await self._insert(session, table, given, [row], f"where true on conflict ({key}) do update set {changed}")

    async def _replace(self, session: Session, table: str, key: tuple[str, str], given: str, rows: Rows) -> None:
        """What belongs to a key, in place of what was there."""
        name, value = key
        await session.rows(f"delete from {table} where {name} = :key", key=value)  # noqa: S608
        if rows:
            await self._insert(session, table, f"{name} text, {given}", [(value, *row) for row in rows])

    async def _insert(self, session: Session, table: str, given: str, rows: Rows, more: str = "") -> None:
        names = [name for name, _ in columns(given)]
        listed = ", ".join(names)
        sql = f"insert into {table} ({listed}) select {listed} from {{rows {given}}} {more}"  # noqa: S608
        text = rows_json(dict(zip(names, row, strict=True)) for row in rows)
        await session.rows(self._store.dialect.spelled(sql), rows=text)


def _of_block(block: ExecutionBlock) -> dict[str, Rows]:
    return {
        "execution_block_antennas":
            [(one.number, one.name, one.make, one.diameter, one.station) for one in block.antennas],
        "execution_block_bands": [(one,) for one in block.bands],
        "execution_block_sources":
            [(one.number, one.name, one.longitude, one.latitude, one.frame) for one in block.sources],
        "execution_block_scans": [(one.number, one.started, one.ended, one.source) for one in block.scans],
        "execution_block_scan_intents": [(one.number, intent) for one in block.scans for intent in one.intents],
        "execution_block_subscans":
            [(one.scan, one.number, one.intent, one.field, one.started, one.ended) for one in block.subscans],
    }  # fmt: skip


def _command(row: Row) -> Command:
    workflow_id, site, workflow, uid, metadata, owner, complete, reason, told_at = row
    return Command(
        str(workflow_id), str(site), str(workflow), str(uid), json.loads(str(metadata or "{}")), _text(owner),
        None if complete is None else bool(complete), _text(reason) or "", told_at is not None,
    )  # fmt: skip


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
