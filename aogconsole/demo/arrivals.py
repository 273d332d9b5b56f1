"""Putting into archive and NGAS what arrives while the demo runs: execution blocks, and calibrations' product files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from aogconsole.demo.ngas import LENGTH, DemoNgas
from aogconsole.demo.reingestionday import NewBlock, ReingestionDay, Step, by_uid
from aogconsole.reingestion.item import ENDED, Item
from backends.reingestion_ports import Tracking

if TYPE_CHECKING:
    from aogconsole.demo.archive import SqliteArchive

BETWEEN = 12.0
"""Seconds, at speed 1, between two steps."""
SIZE = 1_234_567
"""Bytes of each product file."""


class Arrivals:
    """Puts the steps into archive and NGAS, one after the other. `file`: when each came, for the next start."""

    def __init__(self, day: ReingestionDay, archive: SqliteArchive, ngas: DemoNgas, file: Path) -> None:
        self._day, self._archive, self._ngas, self._file = day, archive, ngas, file
        try:
            came = [datetime.fromisoformat(one) for one in json.loads(file.read_text(encoding="ascii"))]
        except (OSError, ValueError, TypeError):
            came = []
        self._came = [one for one in came if one.tzinfo][: len(day.steps)]

    @property
    def complete(self) -> bool:
        """Whether all of it is there."""
        return len(self._came) == len(self._day.steps)

    def again(self) -> None:
        """Put back what came before this start, with its times: an archive keeps what it has, ours does not."""
        for step, at in zip(self._day.steps, self._came, strict=False):
            self._put(step, at)

    async def run(self, table: Tracking, speed: float, look: float) -> AsyncIterator[str]:
        """Let arrive what has not yet, and tell what has; `look`: seconds between looks whether it may.

        Raises MetadataError."""
        for step in self._day.steps[len(self._came) :]:
            await asyncio.sleep(BETWEEN / speed if self._came else 0)
            while not _may(step, await table.items()):
                await asyncio.sleep(look)
            at = datetime.now(UTC)
            times = json.dumps([one.isoformat() for one in (*self._came, at)])
            await asyncio.to_thread(self._keep, times)
            await asyncio.to_thread(self._put, step, at)
            self._came.append(at)
            yield step.what

    def _keep(self, times: str) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(times, encoding="ascii")
        fresh.rename(self._file)

    def _put(self, step: Step, at: datetime) -> None:
        rows: list[tuple[str, Sequence[object]]] = []
        for block in step.blocks:
            ended = at + timedelta(minutes=block.ended)
            self._ngas.keep(block.uid, ended, block.ngas)
            rows += _rows_of(block, ended)
        for file in step.files:
            name = f"member.{file.mous.mail}.{file.name}"
            created = _oracle(at + timedelta(minutes=file.created))
            rows.append((
                "insert into asa_product_files values(?, ?, ?, ?, ?)",
                (file.mous.database, name, file.file_class, created, SIZE),
            ))  # fmt: skip
        self._archive.put(rows)


def _may(step: Step, rows: Sequence[Item]) -> bool:
    found = by_uid(rows)
    return all(
        uid in found and (found[uid][-1].state == state or found[uid][-1].state in ENDED)
        for uid, state in step.after.items()
    )


def _rows_of(block: NewBlock, ended: datetime) -> list[tuple[str, Sequence[object]]]:
    """The view's row of an execution block, in place of the one without times that the requests need."""
    uid, scheduling_block = block.uid.database, f"{block.mous.database}b"
    return [
        ("delete from aqua_v_execblock where execblockuid = ?", (uid,)),
        (
            "insert into aqua_v_execblock values(?, ?, null, ?, ?, ?, 'SUCCESS', 'Pass', 1, null)",
            (uid, scheduling_block, block.project, _oracle(ended - LENGTH), _oracle(ended)),
        ),
    ]


def _oracle(at: datetime) -> str:
    """A TIMESTAMP as the archive's SQLite holds it, UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
