"""From an ASDM's rows to an execution block. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aogconsole.errors import InvalidId
from aogconsole.ids import MousUid
from aogconsole.reingestion.ingested import Antenna, ExecutionBlock, Scan, Source, Subscan
from aogconsole.reingestion.workflows.asdm import FIELDS, Fields, Row, fault

NEEDED: Final = "ExecBlock"
"""Without it there is no execution block. Another table may be missing, and that is said, but not one of which ASDM.xml
promises rows: what is stored of it would be lost."""
_OUS: Final = frozenset({"OUSStatus", "ObsUnitSetStatus", "ObsUnitSet"})
"""Types of a reference that names the MOUS itself. Mostly it names a part of the project (`ObsProject`)."""
_BAND: Final = re.compile(r"[A-Z][A-Z0-9_]{0,31}", re.ASCII)


@dataclass(frozen=True)
class Read:
    """An execution block as its ASDM has it, and what is worth saying about the ASDM."""

    block: ExecutionBlock
    notes: tuple[str, ...]


def assemble(uid: str, tables: Mapping[str, Sequence[Row]]) -> Read:
    """The execution block of this UID, from the tables that are there. Raises AsdmError."""
    main = _own_row(uid, tables)
    own = main.text("execBlockId")
    summary = _summary(main, tables)
    notes = list(_missing(tables))
    block = ExecutionBlock(
        uid,
        project_uid=main.uid("projectUID"),
        session=main.uid("sessionReference"),
        mous=_mous(summary),
        scheduling_block=summary.uid("sbSummaryUID") if summary else None,
        started=main.time("startTime"),
        ended=main.time("endTime"),
        telescope=main.text("telescopeName"),
        array=main.text("configName"),
        antenna_count=main.whole("numAntenna"),
        aborted=main.truth("aborted"),
        antennas=tuple(_antennas(tables)),
        bands=_bands(summary, tables),
        sources=tuple(_sources(tables)),
        scans=tuple(_scans(own, tables)),
        subscans=tuple(_subscans(own, tables)),
    )
    if block.antennas and block.antenna_count not in {None, len(block.antennas)}:
        notes.append(f"ExecBlock.xml counts {block.antenna_count} antennas, Antenna.xml has {len(block.antennas)}")
    return Read(block, tuple(notes))


def check_container(uid: str, table: str, container: str | None) -> None:
    """A table of another ASDM is not filed under this one. Raises AsdmError."""
    named = _read(container)
    if named not in {None, uid}:
        raise fault(table, f"belongs to {named} and not to {uid}")


def _missing(tables: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    promised = {row.get("Name"): row.get("NumberRows", "") for row in tables.get("ASDM", ())}
    for table in FIELDS:
        count = promised.get(table, "")
        rows = int(count) if count.isdecimal() and len(count) < 20 else None
        if table not in tables:
            if rows:
                raise fault(table, f"is not there, and ASDM.xml promises {rows} rows of it")
            yield f"{table}.xml is not there"
        elif rows is not None and rows != len(tables[table]):
            yield f"{table}.xml has {len(tables[table])} rows, and ASDM.xml promises {rows}"


def _own_row(uid: str, tables: Mapping[str, Sequence[Row]]) -> Fields:
    rows = [Fields("ExecBlock", row) for row in tables.get(NEEDED, ())]
    if not rows:
        raise fault(NEEDED, "has no row")
    named = [_read(row.text("execBlockUID")) for row in rows]
    if uid in named:
        return rows[named.index(uid)]
    if named == [None]:
        return rows[0]
    raise fault(NEEDED, f"does not have {uid}, but {next(filter(None, named), 'blocks without a UID')}")


def _read(uid: str | None) -> str | None:
    """A UID as the archive spells it, whatever its case; None for what is none (`uid://X0/X0/X0`)."""
    try:
        return MousUid.parse((uid or "").lower().replace("uid://a", "uid://A").replace("/x", "/X")).database
    except InvalidId:
        return None


def _summary(main: Fields, tables: Mapping[str, Sequence[Row]]) -> Fields | None:
    rows = [Fields("SBSummary", row) for row in tables.get("SBSummary", ())]
    own = main.text("sBSummaryId")
    found = [row for row in rows if row.text("sBSummaryId") == own] if len(rows) > 1 else rows
    return found[0] if found else None


def _mous(summary: Fields | None) -> str | None:
    if summary is None or summary.text("obsUnitSetUID.type") not in _OUS:
        return None
    return summary.uid("obsUnitSetUID")


def _antennas(tables: Mapping[str, Sequence[Row]]) -> Iterator[Antenna]:
    stations = {one.identity("stationId"): one.text("name") for one in _each("Station", tables)}
    seen: set[int] = set()
    for row in _each("Antenna", tables):
        number = _key(row, "Antenna", "antennaId")
        if number not in seen:
            seen.add(number)
            station = stations.get(row.identity("stationId"))
            yield Antenna(number, row.text("name"), row.text("antennaMake"), row.number("dishDiameter"), station)


def _bands(summary: Fields | None, tables: Mapping[str, Sequence[Row]]) -> tuple[str, ...]:
    """The receivers' bands without the water vapour radiometers'; the scheduling block's where no receiver is told."""
    told = [row.text("frequencyBand") for row in _each("Receiver", tables) if "WVR" not in (row.text("name") or "")]
    if not told and summary is not None:
        told = [summary.text("frequencyBand")]
    found = {band for band in told if band and band != "UNSPECIFIED"}
    if bad := sorted(band for band in found if not _BAND.fullmatch(band)):
        raise fault("Receiver", f"has a frequencyBand '{bad[0][:60]}', which is no band")
    return tuple(sorted(found))


def _sources(tables: Mapping[str, Sequence[Row]]) -> Iterator[Source]:
    seen: set[int] = set()
    for row in _each("Source", tables):
        number = _key(row, "Source", "sourceId")
        if number in seen:  # once for each spectral window and time
            continue
        seen.add(number)
        direction = row.numbers("direction")
        if len(direction) not in {0, 2}:
            raise fault("Source", "has a direction that is not two angles")
        longitude, latitude = direction or (None, None)
        yield Source(number, row.text("sourceName"), longitude, latitude, row.text("directionCode"))


def _scans(own: str | None, tables: Mapping[str, Sequence[Row]]) -> Iterator[Scan]:
    seen: set[int] = set()
    for row in _of(own, _each("Scan", tables)):
        number = _key(row, "Scan", "scanNumber")
        if number not in seen:
            seen.add(number)
            intents = tuple(dict.fromkeys(row.array("scanIntent")))
            yield Scan(number, row.time("startTime"), row.time("endTime"), row.text("sourceName"), intents)


def _subscans(own: str | None, tables: Mapping[str, Sequence[Row]]) -> Iterator[Subscan]:
    seen: set[tuple[int, int]] = set()
    for row in _of(own, _each("Subscan", tables)):
        key = (_key(row, "Subscan", "scanNumber"), _key(row, "Subscan", "subscanNumber"))
        if key not in seen:
            seen.add(key)
            yield Subscan(*key, row.text("subscanIntent"), row.text("fieldName"), row.time("startTime"),
                          row.time("endTime"))  # fmt: skip


def _each(table: str, tables: Mapping[str, Sequence[Row]]) -> Iterator[Fields]:
    return (Fields(table, row) for row in tables.get(table, ()))


def _of(own: str | None, rows: Iterable[Fields]) -> Iterator[Fields]:
    """Those of our execution block: an ASDM may hold several."""
    return (row for row in rows if own is None or row.text("execBlockId") in {None, own})


def _key(row: Fields, table: str, name: str) -> int:
    number = row.identity(name)
    if number is None:
        raise fault(table, f"has a row without {name}")
    return number
