"""Small ASDMs, written as the observatory writes them: the XML tables of an execution block, without its data."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from aogconsole.reingestion.workflows.asdm import MJD_0

BANDS: Final = ("ALMA_RB_03", "ALMA_RB_06", "ALMA_RB_07")
INTENTS: Final = (
    ("J2253+1608", ("CALIBRATE_BANDPASS", "CALIBRATE_WVR")), ("J0006-0623", ("CALIBRATE_PHASE", "CALIBRATE_WVR")),
    ("Target", ("OBSERVE_TARGET",)), ("J0006-0623", ("CALIBRATE_PHASE", "CALIBRATE_WVR")),
)  # fmt: skip
"""The scans of an execution block: source, and what it is observed for."""


def asdm(uid: str, started: datetime, ended: datetime) -> Mapping[str, bytes]:
    """The files of an execution block (`uid://`) by name of their table. Antennas and band follow from its UID."""
    chosen = zlib.crc32(uid.encode())
    antennas, band = 8 + chosen % 40, BANDS[chosen % len(BANDS)]
    length = (ended - started) / len(INTENTS)
    scans = [(number, started + (number - 1) * length, length) for number in range(1, len(INTENTS) + 1)]
    tables: dict[str, Sequence[str]] = {
        "ExecBlock": [_exec_block(uid, started, ended, antennas)],
        "SBSummary": [f"<sBSummaryId> SBSummary_0 </sBSummaryId><frequencyBand>{band}</frequencyBand>"],
        "Antenna": [
            f"<antennaId> Antenna_{n} </antennaId><name> DA{41 + n} </name><antennaMake>AEM_12</antennaMake>"
            f"<dishDiameter> 12.0 </dishDiameter><stationId> Station_{n} </stationId>"
            for n in range(antennas)
        ],
        "Station": [f"<stationId> Station_{n} </stationId><name> A{1 + n:03d} </name>" for n in range(antennas)],
        "Receiver": [
            "<receiverId> 0 </receiverId><name> WVR </name><frequencyBand>UNSPECIFIED</frequencyBand>",
            f"<receiverId> 1 </receiverId><name> {band} </name><frequencyBand>{band}</frequencyBand>",
        ],
        "Source": [
            f"<sourceId> {n} </sourceId><direction> 1 2 {0.05 * n:.2f} -0.1010 </direction>"
            f"<sourceName> {name} </sourceName><directionCode>ICRS</directionCode>"
            for n, name in enumerate(dict.fromkeys(name for name, _ in INTENTS))
        ],
        "Scan": [_scan(number, begun, length) for number, begun, length in scans],
        "Subscan": [_subscan(number, part, begun, length) for number, begun, length in scans for part in (1, 2)],
    }
    return {
        "ASDM": _container(uid, {name: len(rows) for name, rows in tables.items()}),
        **{name: _table(uid, name, rows) for name, rows in tables.items()},
    }


def _time(at: datetime) -> int:
    """Nanoseconds since MJD 0."""
    return (at - MJD_0) // timedelta(microseconds=1) * 1000


def _table(uid: str, name: str, rows: Sequence[str]) -> bytes:
    head = (
        f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<{name}Table>\n'
        f'<Entity entityId="uid://X0/X0/X0" entityIdEncrypted="na" entityTypeName="{name}Table" schemaVersion="1"/>\n'
        f'<ContainerEntity entityId="{uid}" entityIdEncrypted="na" entityTypeName="ASDM" schemaVersion="1"/>\n'
    )
    return (head + "".join(f"  <row>{row}</row>\n" for row in rows) + f"</{name}Table>\n").encode()


def _container(uid: str, rows: Mapping[str, int]) -> bytes:
    listed = "".join(f"<Table><Name>{name}</Name><NumberRows>{n}</NumberRows></Table>\n" for name, n in rows.items())
    entity = f'<Entity entityId="{uid}" entityIdEncrypted="na" entityTypeName="ASDM" schemaVersion="1"/>'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<ASDM>\n{entity}\n{listed}</ASDM>\n'.encode()


def _exec_block(uid: str, started: datetime, ended: datetime, antennas: int) -> str:
    return (
        f"<execBlockId> ExecBlock_0 </execBlockId><startTime> {_time(started)} </startTime>"
        f"<endTime> {_time(ended)} </endTime>"
        f'<execBlockUID><EntityRef entityId="{uid}" partId="X00000000" entityTypeName="ASDM"/></execBlockUID>'
        f"<configName> C-3 </configName><telescopeName>ALMA</telescopeName><aborted> false </aborted>"
        f"<numAntenna> {antennas} </numAntenna><sBSummaryId> SBSummary_0 </sBSummaryId>"
    )


def _scan(number: int, begun: datetime, length: timedelta) -> str:
    source, intents = INTENTS[number - 1]
    return (
        f"<scanNumber> {number} </scanNumber><startTime> {_time(begun)} </startTime>"
        f"<endTime> {_time(begun + length)} </endTime><scanIntent> 1 {len(intents)} {' '.join(intents)} </scanIntent>"
        f"<sourceName> {source} </sourceName><execBlockId> ExecBlock_0 </execBlockId>"
    )


def _subscan(scan: int, part: int, begun: datetime, length: timedelta) -> str:
    at = begun + (part - 1) * length / 2
    return (
        f"<scanNumber> {scan} </scanNumber><subscanNumber> {part} </subscanNumber><startTime> {_time(at)} </startTime>"
        f"<endTime> {_time(at + length / 2)} </endTime><fieldName> {INTENTS[scan - 1][0]} </fieldName>"
        "<subscanIntent>ON_SOURCE</subscanIntent><execBlockId> ExecBlock_0 </execBlockId>"
    )
