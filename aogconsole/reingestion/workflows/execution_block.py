"""The workflow of an execution block: its ASDM's XML files out of NGAS, read, completed by the archive, stored.

Seed: "the ASDM XML files are extracted from NGAS at the NAASC and parsed via the ingest script to populate
execution_blocks & associated tables". Safe to repeat: what is stored is replaced in one transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from aogconsole import times
from aogconsole.errors import InvalidId, NgasMissing
from aogconsole.ids import MousUid
from aogconsole.reingestion.ingested import ExecutionBlock
from aogconsole.reingestion.workflows.asdm import FIELDS, AsdmError, Row, TableReader
from aogconsole.reingestion.workflows.assembling import NEEDED, assemble, check_container
from aogconsole.reingestion.workflows.tarred import tables_of_tar
from aogconsole.text import clean
from backends.ingest_ports import Ingest
from backends.reingestion_ports import ArchiveNews, Ngas, Structure


@dataclass(frozen=True)
class BlockSources:
    """Where an execution block's facts come from."""

    ngas: Ngas
    asdm: str
    """The file_id of its XML files, with `{uid}` and `{table}`; without `{table}`: of one tar file."""
    news: ArchiveNews


async def ingest_block(uid: MousUid, sources: BlockSources, store: Ingest, now: datetime) -> dict[str, Any]:
    """Ingest it, and say what was found. Raises AsdmError, and OutsideError when it could not be tried."""
    tables = await _tables(uid, sources)
    read = assemble(uid.database, tables)
    known = await sources.news.structure([uid.database])
    block, notes = completed(read.block, known.get(uid.database))
    status = await store.execution_block(block, now)
    return _document(block, status, (*read.notes, *notes))


async def _tables(uid: MousUid, sources: BlockSources) -> Mapping[str, Sequence[Row]]:
    if "{table}" not in sources.asdm:
        file_id = sources.asdm.replace("{uid}", uid.mail)
        try:
            return await tables_of_tar(uid.database, sources.ngas.retrieve(file_id))
        except NgasMissing as error:
            raise AsdmError(str(error), error.hint) from error
    tables: dict[str, Sequence[Row]] = {}
    for table in FIELDS:
        file_id = sources.asdm.replace("{uid}", uid.mail).replace("{table}", table)
        try:
            tables[table] = await _table(uid.database, table, sources.ngas.retrieve(file_id))
        except NgasMissing as error:
            if table == NEEDED:
                raise AsdmError(str(error), error.hint) from error
    return tables


async def _table(uid: str, table: str, chunks: AsyncIterator[bytes]) -> list[Row]:
    reader = TableReader(table)
    async with aclosing(chunks) as file:  # type: ignore[type-var]
        async for chunk in file:
            reader.feed(chunk)
    rows = reader.close()
    check_container(uid, table, reader.container)
    return rows


def completed(block: ExecutionBlock, archive: Structure | None) -> tuple[ExecutionBlock, list[str]]:
    """With what the archive knows. Where they disagree about where it belongs, the archive decides, and it is said."""
    if archive is None:
        return block, ["the archive does not have this execution block", *_homeless(block)]
    notes: list[str] = []

    def decided(name: str, ours: str | None, theirs: str | None) -> str | None:
        told = _uid(theirs)
        if ours and told and ours != told:
            notes.append(f"the ASDM says {name} {ours}, the archive {told}: the archive decides")
        return told or ours

    whole = replace(
        block,
        project=archive.project,
        mous=decided("MOUS", block.mous, archive.mous),
        session=decided("session", block.session, archive.session),
        scheduling_block=decided("scheduling block", block.scheduling_block, archive.scheduling_block),
        started=block.started or archive.started,
        ended=block.ended or archive.ended,
        qa0=archive.qa0,
    )
    return whole, notes + _homeless(whole)


def _homeless(block: ExecutionBlock) -> list[str]:
    return [] if block.mous else ["neither the ASDM nor the archive says to which MOUS it belongs"]


def _uid(text: str | None) -> str | None:
    try:
        return MousUid.parse((text or "").strip()).database
    except InvalidId:
        return None


def _document(block: ExecutionBlock, status: str | None, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "uid": _mail(block.uid), "project": block.project, "mous": _mail(block.mous), "session": _mail(block.session),
        "scheduling_block": _mail(block.scheduling_block),
        "started": times.text(block.started) if block.started else None,
        "ended": times.text(block.ended) if block.ended else None,
        "bands": list(block.bands), "antennas": len(block.antennas), "sources": len(block.sources),
        "scans": len(block.scans), "subscans": len(block.subscans), "calibration_status": status,
        "notes": [clean(note) for note in notes],
    }  # fmt: skip


def _mail(uid: str | None) -> str | None:
    known = _uid(uid)
    return MousUid.parse(known).mail if known else uid
