"""What arrives in the archive while the demo runs: execution blocks, and the product files of calibrations.

The day's file `reingestion.json` says what comes, in steps, and what is to become of each item at the end. A step waits
for what it says, not for a time only: so each rule is met, however fast or slow the machine is.
"""

from __future__ import annotations

import asyncio
import json
import typing
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aogconsole.demo.ngas import LENGTH, DemoNgas, Held
from aogconsole.errors import AogError, UsageError
from aogconsole.ids import MousUid, ProjectCode
from aogconsole.reingestion.item import ENDED, Item
from backends.reingestion_ports import Tracking

if TYPE_CHECKING:
    from aogconsole.demo.archive import SqliteArchive

BETWEEN = 12.0
"""Seconds, at speed 1, between two steps."""
SIZE = 1_234_567
"""Bytes of each product file."""


@dataclass(frozen=True, slots=True)
class NewBlock:
    """An execution block that arrives. `ended`: minutes from its arrival, before it when negative."""

    uid: MousUid
    mous: MousUid
    project: str
    ended: float
    ngas: Held


@dataclass(frozen=True, slots=True)
class NewFile:
    """A product file that arrives. `created`: minutes from its arrival, before it when negative."""

    mous: MousUid
    file_class: str
    name: str
    created: float


@dataclass(frozen=True, slots=True)
class Step:
    """What arrives together, once the items of `after` are in these states, or have ended otherwise."""

    what: str
    after: Mapping[str, str]
    blocks: tuple[NewBlock, ...]
    files: tuple[NewFile, ...]


@dataclass(frozen=True, slots=True)
class ExpectedItem:
    """An item of the day, and the state of each of its versions at the end, the oldest first."""

    uid: str
    expected: tuple[str, ...]
    reason: str
    """Part of the reason that the last one is to have."""
    what: str


@dataclass(frozen=True, slots=True)
class ReingestionDay:
    """The day of the re-ingestion."""

    steps: tuple[Step, ...]
    expected: tuple[ExpectedItem, ...]

    @classmethod
    def read(cls, file: Path) -> ReingestionDay | None:
        """The day in a file; None without it. Raises UsageError when it is none."""
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            steps = tuple(_step(one) for one in document["arrivals"])
            items = tuple(
                ExpectedItem(MousUid.parse(one["uid"]).database, tuple(one["expected"]), one.get("reason", ""),
                             one["what"])
                for one in document["expected"]
            )  # fmt: skip
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, AogError) as error:
            raise UsageError(
                f"{file} holds no day of re-ingestion: {error}", "remove it, or the whole folder"
            ) from None
        return cls(steps, items)

    def surprises(self, rows: Sequence[Item]) -> list[str]:
        """What is not as expected, a sentence each; `rows`: the tracking table's."""
        found = by_uid(rows)
        said = []
        for one in self.expected:
            versions = found.pop(one.uid, [])
            states = [row.state.value for row in versions]
            if states != list(one.expected):
                said.append(f"{one.uid} is {', '.join(states) or 'not there'}, not {', '.join(one.expected)}")
            elif one.reason not in versions[-1].reason:
                said.append(f"{one.uid} is {states[-1]} because '{versions[-1].reason}', not of '{one.reason}'")
        return [*said, *(f"{uid} is not expected at all" for uid in found)]


def by_uid(rows: Collection[Item]) -> dict[str, list[Item]]:
    """Rows by UID, the oldest version first."""
    found: dict[str, list[Item]] = {}
    for row in sorted(rows, key=lambda row: row.id):
        found.setdefault(row.uid, []).append(row)
    return found


def _step(given: Mapping[str, Any]) -> Step:
    blocks = [
        NewBlock(MousUid.parse(one["uid"]), MousUid.parse(one["mous"]), str(ProjectCode.parse(one["project"])),
                 float(one["ended"]), _held(one.get("ngas", "whole")))
        for one in given.get("blocks", ())
    ]  # fmt: skip
    products = [
        NewFile(MousUid.parse(one["mous"]), str(one["class"]), str(one["name"]), float(one["created"]))
        for one in given.get("files", ())
    ]
    after = {MousUid.parse(uid).database: str(state) for uid, state in given.get("after", {}).items()}
    return Step(str(given["what"]), after, tuple(blocks), tuple(products))


def _held(word: str) -> Held:
    if word not in typing.get_args(Held):
        raise ValueError(f"'{word}' is none of {', '.join(typing.get_args(Held))}")
    return typing.cast("Held", word)


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
