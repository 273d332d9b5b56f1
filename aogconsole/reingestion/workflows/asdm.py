"""An ASDM's tables, read as they come: XML in, an execution block out. Pure; what it reads is untrusted.

The format is the ALMA Science Data Model's: `<ExecBlockTable>` with a `<row>` for each row, a field as an element,
references as `<EntityRef entityId=...>`, arrays as `1 3 a b c` (dimensions, their lengths, values), times as
nanoseconds since 17 November 1858 (MJD 0), UTC. No DTD and no entity is taken, and what is read has limits.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import DefusedXMLParser  # type: ignore[import-untyped]

from aogconsole.errors import AogError
from aogconsole.text import clean

LARGEST: Final = 1 << 27
"""Bytes of a table."""
MOST_ROWS: Final = 200_000
DEEPEST: Final = 16
LONGEST: Final = 1 << 16
"""Characters of a field."""
MJD_0: Final = datetime(1858, 11, 17, tzinfo=UTC)

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_TAG: Final = re.compile(r"(?:[A-Za-z]+_)?([0-9]{1,9})", re.ASCII)

Row = Mapping[str, str]
"""Fields by name, those that were asked for. A reference is its `entityId`; `NAME.type` has its `entityTypeName`."""

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "ASDM": ("Name", "NumberRows"),
    "ExecBlock": ("execBlockId", "execBlockUID", "projectUID", "sessionReference", "startTime", "endTime",
                  "telescopeName", "configName", "numAntenna", "aborted", "sBSummaryId"),
    "SBSummary": ("sBSummaryId", "sbSummaryUID", "obsUnitSetUID", "frequencyBand"),
    "Antenna": ("antennaId", "name", "antennaMake", "dishDiameter", "stationId"),
    "Station": ("stationId", "name"),
    "Receiver": ("name", "frequencyBand"),
    "Source": ("sourceId", "sourceName", "direction", "directionCode"),
    "Scan": ("scanNumber", "startTime", "endTime", "scanIntent", "sourceName", "execBlockId"),
    "Subscan": ("scanNumber", "subscanNumber", "startTime", "endTime", "subscanIntent", "fieldName", "execBlockId"),
}  # fmt: skip
"""The tables that are read, and what of them."""


class AsdmError(AogError):
    """An ASDM is not what it should be: look at its files in NGAS, and have them mended there."""


class TableReader:
    """One table, fed with bytes as they come. Raises AsdmError, which names the table, at the first fault."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._size = 0
        self._target = _Rows(table, frozenset(FIELDS[table]))
        self._parser = DefusedXMLParser(target=self._target, forbid_dtd=True)

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        self._size += len(data)
        if self._size > LARGEST:
            raise self._fault(f"is larger than {LARGEST >> 20} MiB")
        self._guarded(lambda: self._parser.feed(data))

    def close(self) -> list[Row]:
        """The end: its rows."""
        self._guarded(self._parser.close)
        return self._target.rows

    @property
    def container(self) -> str | None:
        """The UID of the ASDM that this table says it belongs to."""
        return self._target.container

    def _guarded(self, step: Callable[[], object]) -> None:
        try:
            step()
        except DefusedXmlException:
            raise self._fault("has a document type or entities, which no ASDM has") from None
        except ParseError as error:
            line, column = error.position
            what = clean(str(error).partition(":")[0])
            raise self._fault(f"is truncated or not XML: {what} at line {line}, column {column}") from None
        except (LookupError, ValueError):
            raise self._fault("is in an encoding that cannot be read") from None

    def _fault(self, what: str) -> AsdmError:
        return fault(self._table, what)


class _Rows:
    """What the parser calls: keeps the fields that are wanted, nothing else."""

    def __init__(self, table: str, wanted: frozenset[str]) -> None:
        self.rows: list[Row] = []
        self.container: str | None = None
        self._table, self._wanted = table, wanted
        self._row_tag = "Table" if table == "ASDM" else "row"
        self._depth = 0
        self._row: dict[str, str] | None = None
        self._field: str | None = None
        self._text: list[str] = []
        self._length = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        self._depth += 1
        name = tag.rpartition("}")[2]
        match self._depth:
            case 1 if name != self._root:
                raise fault(self._table, f"begins with <{clean(name[:80])}> and not with <{self._root}>")
            case 2:
                self._begin(name, attributes)
            case 3 if self._row is not None and name in self._wanted:
                self._field, self._text, self._length = name, [], 0
            case 4 if self._row is not None and self._field and name == "EntityRef":
                self._row[self._field] = attributes.get("entityId", "")[:LONGEST]
                self._row[f"{self._field}.type"] = attributes.get("entityTypeName", "")[:LONGEST]
            case depth if depth > DEEPEST:
                raise fault(self._table, f"is more than {DEEPEST} elements deep")

    def _begin(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == self._row_tag:
            if len(self.rows) >= MOST_ROWS:
                raise fault(self._table, f"has more than {MOST_ROWS} rows")
            self._row = {}
        elif name == "BulkStoreRef":
            raise fault(self._table, "is kept in binary form, which is not read")
        elif name == ("Entity" if self._table == "ASDM" else "ContainerEntity"):
            self.container = attributes.get("entityId")

    @property
    def _root(self) -> str:
        return "ASDM" if self._table == "ASDM" else f"{self._table}Table"

    def data(self, text: str) -> None:
        """Text of an element."""
        if self._field is None or self._depth != 3:
            return
        self._length += len(text)
        if self._length > LONGEST:
            raise fault(self._table, f"has a {self._field} of more than {LONGEST} characters")
        self._text.append(text)

    def end(self, _tag: str) -> None:
        """An element ends."""
        if self._row is not None and self._depth == 3 and self._field:
            self._row.setdefault(self._field, "".join(self._text).strip())
            self._field = None
        elif self._row is not None and self._depth == 2:
            self.rows.append(self._row)
            self._row = None
        self._depth -= 1

    def close(self) -> None:
        """The document ends."""


def fault(table: str, what: str) -> AsdmError:
    """What is wrong with a table."""
    return AsdmError(f"The ASDM's table {table}.xml {what}.", "compare the file in NGAS with the archive's original")


class Fields:
    """One row, each field as what it is. An empty or missing one is None; one that cannot be read an AsdmError."""

    def __init__(self, table: str, row: Row) -> None:
        self._table, self._row = table, row

    def text(self, name: str) -> str | None:
        """As it is; without control characters."""
        value = self._row.get(name)
        return clean(value) if value else None

    def uid(self, name: str) -> str | None:
        """The UID that a reference names; `uid://X0/X0/X0` names nothing."""
        value = self.text(name)
        if value is None or value.startswith("uid://X0/X0/X0"):
            return None
        return value

    def whole(self, name: str) -> int | None:
        """A whole number."""
        value = self._row.get(name)
        if not value:
            return None
        if not _WHOLE.fullmatch(value) or not -(2**31) <= int(value) < 2**31:
            raise self._bad(name, "whole number of 32 bits")
        return int(value)

    def number(self, name: str) -> float | None:
        """A finite number."""
        value = self._row.get(name)
        return self._finite(name, value) if value else None

    def identity(self, name: str) -> int | None:
        """The number of a tag: 3 of `Antenna_3`, or of `3`."""
        value = self._row.get(name)
        if not value:
            return None
        found = _TAG.fullmatch(value)
        if not found:
            raise self._bad(name, "tag with a number")
        return int(found[1])

    def time(self, name: str) -> datetime | None:
        """Nanoseconds since MJD 0, in microseconds' precision."""
        value = self._row.get(name)
        if not value:
            return None
        try:
            if _WHOLE.fullmatch(value):
                return MJD_0 + timedelta(microseconds=int(value) // 1000)
        except OverflowError:
            pass  # beyond the calendar
        raise self._bad(name, "time in nanoseconds")

    def truth(self, name: str) -> bool | None:
        """`true` or `false`."""
        return {"true": True, "1": True, "false": False, "0": False}.get(self._row.get(name, "").lower())

    def array(self, name: str) -> tuple[str, ...]:
        """The values of an array, whatever its dimensions."""
        value = self._row.get(name)
        if not value:
            return ()
        try:
            words = shlex.split(value) if '"' in value else value.split()
            dimensions = int(words[0])
            expected = 1
            for length in words[1 : dimensions + 1]:
                expected *= int(length)
        except ValueError:
            raise self._bad(name, "array") from None
        values = words[dimensions + 1 :]
        if not 1 <= dimensions <= 4 or len(values) != expected:
            raise self._bad(name, "array of the length it says")
        return tuple(clean(one) for one in values)

    def numbers(self, name: str) -> tuple[float, ...]:
        """An array of finite numbers."""
        return tuple(self._finite(name, one) for one in self.array(name))

    def _finite(self, name: str, text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise self._bad(name, "number") from None
        if number - number != 0:  # infinite, or none
            raise self._bad(name, "finite number")
        return number

    def _bad(self, name: str, kind: str) -> AsdmError:
        shown = clean(self._row[name][:60])
        return fault(self._table, f"has a {name} '{shown}', which is no {kind}")
