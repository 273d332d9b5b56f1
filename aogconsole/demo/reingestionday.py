"""The day of the re-ingestion: what arrives in the archive while the demo runs, and what is to become of each item.

It is `reingestion.json` in the day's folder. What arrives comes in steps; a step waits for what it says, not for a time
only: so each rule is met, however fast or slow the machine is.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aogconsole.errors import AogError, UsageError
from aogconsole.ids import MousUid, ProjectCode

if TYPE_CHECKING:
    from aogconsole.reingestion.item import Item

Held = Literal["whole", "truncated", "missing", "late"]
"""How NGAS has an ASDM: with an ExecBlock.xml that is cut off, not at all, or not yet when it is asked first."""


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
