"""ASDMs for tests: tables written as the observatory writes them, and hostile ones."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection, Mapping, Sequence

EXECUTION_BLOCK, MOUS = "uid://A002/X7e4988/X1f2", "uid://A002/X788a57/X29"
"""Those of the tests' archive."""
SESSION, SCHEDULING_BLOCK = "uid://A002/X7e4988/X1", "uid://A002/X788a57/X30"
START = 4900352400_123_456_789
"""Nanoseconds since MJD 0: 2014-03-01T01:00:00.123456789."""
SECOND = 1_000_000_000


def table(name: str, rows: Sequence[str], uid: str = EXECUTION_BLOCK) -> bytes:
    """A table's file, with the header that the observatory's software writes."""
    head = (
        f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
        f'<{name}Table xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xmlns:t="http://Alma/XASDM/{name}Table" '
        f'xsi:schemaLocation="http://Alma/XASDM/{name}Table http://almaobservatory.org/XML/XASDM/4/{name}Table.xsd" '
        f'schemaVersion="4" schemaRevision="-1">\n'
        f'<Entity entityId="uid://X0/X0/X0" entityIdEncrypted="na" entityTypeName="{name}Table" schemaVersion="1" '
        f'documentVersion="1"/>\n'
        f'<ContainerEntity entityId="{uid}" entityIdEncrypted="na" entityTypeName="ASDM" schemaVersion="1" '
        f'documentVersion="1"/>\n'
    )
    return (head + "".join(f"  <row>{row}</row>\n" for row in rows) + f"</{name}Table>\n").encode()


def reference(name: str, uid: str, kind: str, part: str = "X00000000") -> str:
    """A field that refers to an entity."""
    named = f'entityId="{uid}" partId="{part}" entityTypeName="{kind}" documentVersion="1"'
    return f"<{name}>\n<EntityRef {named}/>\n</{name}>"


def asdm(
    uid: str = EXECUTION_BLOCK, antennas: int = 3, scans: int = 3, subscans: int = 2, without: Collection[str] = ()
) -> dict[str, bytes]:
    """An interferometric execution block: file by name of the table. `without`: tables that it does not have."""
    tables = {
        "ExecBlock": [_exec_block(uid, antennas)],
        "SBSummary": [_summary()],
        "Antenna": [_antenna(number) for number in range(antennas)],
        "Station": [f"<stationId> Station_{n} </stationId><name> A{100 + n:03d} </name>"
                    "<position> 1 3 2225015.3 -5440016.4 -2481631.3 </position><type>ANTENNA_PAD</type>"
                    for n in range(antennas)],
        "Receiver": [_receiver(0, "WVR", "UNSPECIFIED"), _receiver(1, "ALMA_RB_06", "ALMA_RB_06"),
                     _receiver(2, "ALMA_RB_03", "ALMA_RB_03"), _receiver(3, "ALMA_RB_06", "ALMA_RB_06")],
        "Source": [_source(number, name, window) for number, name in enumerate(("J1256-0547", "NGC 253"))
                   for window in range(4)],
        "Scan": [_scan(number, subscans) for number in range(1, scans + 1)],
        "Subscan": [_subscan(scan, number) for scan in range(1, scans + 1) for number in range(1, subscans + 1)],
    }  # fmt: skip
    counts = {name: 0 if name in without else len(rows) for name, rows in tables.items()}
    files = {"ASDM": _container(uid, counts), **{name: table(name, rows, uid) for name, rows in tables.items()}}
    return {name: data for name, data in files.items() if name not in without}


def tarred(files: Mapping[str, bytes], uid: str = EXECUTION_BLOCK, before: int = 0, mode: str = "w") -> bytes:
    """The same in a tar file, after so many bytes of binary data."""
    folder = uid.replace("://", "___").replace("/", "_")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as tar:  # type: ignore[call-overload]
        members = {f"{folder}/ASDMBinary/uid___A002_X1_X1": bytes(before)} if before else {}
        for name, data in {**members, **{f"{folder}/{table}.xml": data for table, data in files.items()}}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def _container(uid: str, rows: Mapping[str, int]) -> bytes:
    listed = "".join(
        f"<Table><Name>{name}</Name><NumberRows>{count}</NumberRows>"
        f'<Entity entityId="{uid}" entityTypeName="{name}Table" documentVersion="1"/></Table>\n'
        for name, count in {**rows, "Main": 12, "Holography": 0}.items()
    )
    return (
        f'<?xml version="1.0" encoding="ISO-8859-1"?>\n<ASDM xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n'
        f'<Entity entityId="{uid}" entityIdEncrypted="na" entityTypeName="ASDM" schemaVersion="1" documentVersion="1"/>'
        f"<TimeOfCreation>2014-03-01T02:00:10.000000000</TimeOfCreation>\n{listed}</ASDM>\n"
    ).encode("iso-8859-1")


def _exec_block(uid: str, antennas: int) -> str:
    named = " ".join(f"Antenna_{number}" for number in range(antennas))
    return (
        f"<execBlockId> ExecBlock_0 </execBlockId><startTime> {START} </startTime>"
        f"<endTime> {START + 3600 * SECOND} </endTime><execBlockNum> 1 </execBlockNum>"
        + reference("execBlockUID", uid, "ASDM")
        + reference("projectUID", "uid://A002/X6f6e42/X1b", "ObsProject")
        + "<configName> C34-3/(2) </configName><telescopeName>ALMA</telescopeName><observerName> obs </observerName>"
        "<numObservingLog> 1 </numObservingLog><observingLog> 1 1 &quot;all was well&quot; </observingLog>"
        + reference("sessionReference", SESSION, "OUSStatus")
        + "<baseRangeMin> 15.1 </baseRangeMin><baseRangeMax> 443.9 </baseRangeMax><aborted> false </aborted>"
        f"<numAntenna> {antennas} </numAntenna><antennaId> 1 {antennas} {named} </antennaId>"
        "<sBSummaryId> SBSummary_0 </sBSummaryId>"
    )


def _summary() -> str:
    return (
        "<sBSummaryId> SBSummary_0 </sBSummaryId>"
        + reference("sbSummaryUID", SCHEDULING_BLOCK, "SchedBlock")
        + reference("projectUID", "uid://A002/X6f6e42/X1b", "ObsProject")
        + reference("obsUnitSetUID", "uid://A002/X6f6e42/X1b", "ObsProject", "X1234567")
        + "<frequency> 230.538 </frequency><frequencyBand>ALMA_RB_06</frequencyBand><sbType>OBSERVER</sbType>"
        "<numScienceGoal> 2 </numScienceGoal>"
        "<scienceGoal> 1 2 &quot;SBName = NGC253_a_06_TE&quot; &quot;sensitivityGoal = 5.5 mJy&quot; </scienceGoal>"
    )


def _antenna(number: int) -> str:
    return (
        f"<antennaId> Antenna_{number} </antennaId><name> DA{41 + number} </name><antennaMake>AEM_12</antennaMake>"
        "<antennaType>GROUND_BASED</antennaType><dishDiameter> 12.0 </dishDiameter>"
        f"<position> 1 3 0.0 0.0 7.0 </position><time> {START} </time><stationId> Station_{number} </stationId>"
    )


def _receiver(number: int, name: str, band: str) -> str:
    return (
        f"<receiverId> {number} </receiverId><timeInterval> 7226686294548387903 3993371484612775807 </timeInterval>"
        f"<name> {name} </name><numLO> 3 </numLO><frequencyBand>{band}</frequencyBand>"
        f"<spectralWindowId> SpectralWindow_{number} </spectralWindowId>"
    )


def _source(number: int, name: str, window: int) -> str:
    return (
        f"<sourceId> {number} </sourceId><timeInterval> 7090683272335387903 4265377529038775807 </timeInterval>"
        f"<code> none </code><direction> 1 2 {3.38 + number} -0.1010 </direction>"
        f"<properMotion> 1 2 0.0 0.0 </properMotion><sourceName> {name} </sourceName>"
        f"<directionCode>ICRS</directionCode><spectralWindowId> SpectralWindow_{window} </spectralWindowId>"
    )


def _scan(number: int, subscans: int) -> str:
    intents = ("CALIBRATE_BANDPASS", "CALIBRATE_WVR") if number == 1 else ("OBSERVE_TARGET",)
    began = START + number * 60 * SECOND
    return (
        f"<scanNumber> {number} </scanNumber><startTime> {began} </startTime><endTime> {began + 50 * SECOND} </endTime>"
        f"<numIntent> {len(intents)} </numIntent><numSubscan> {subscans} </numSubscan>"
        f"<scanIntent> 1 {len(intents)} {' '.join(intents)}</scanIntent>"
        "<calDataType> 1 1 NONE</calDataType><fieldName> 1 1 &quot;NGC 253&quot; </fieldName>"
        f"<sourceName> {'J1256-0547' if number == 1 else 'NGC 253'} </sourceName>"
        "<execBlockId> ExecBlock_0 </execBlockId>"
    )


def _subscan(scan: int, number: int) -> str:
    began = START + scan * 60 * SECOND + number * 20 * SECOND
    return (
        f"<scanNumber> {scan} </scanNumber><subscanNumber> {number} </subscanNumber>"
        f"<startTime> {began} </startTime><endTime> {began + 20 * SECOND} </endTime><fieldName> NGC 253 </fieldName>"
        f"<subscanIntent>{'ON_SOURCE' if number == 1 else 'OFF_SOURCE'}</subscanIntent>"
        "<numIntegration> 2 </numIntegration><numSubintegration> 1 2 0 0 </numSubintegration>"
        "<execBlockId> ExecBlock_0 </execBlockId>"
    )


_LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
_WHOLE = asdm()["ExecBlock"]

HOSTILE: Mapping[str, tuple[bytes, str]] = {
    "billion laughs": (f'<!DOCTYPE x [<!ENTITY l0 "ha">{_LAUGHS}]><ExecBlockTable><row>&l9;</row></ExecBlockTable>'
                       .encode(), "document type"),
    "external entity": (b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><ExecBlockTable>&e;</ExecBlockTable>',
                        "document type"),
    "parameter entity": (b'<!DOCTYPE x [<!ENTITY % e SYSTEM "http://127.0.0.1:9/x">%e;]><ExecBlockTable/>',
                         "document type"),
    "remote DTD": (b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><ExecBlockTable/>', "document type"),
    "undefined entity": (b"<ExecBlockTable><row>&nope;</row></ExecBlockTable>", "truncated or not XML"),
    "truncated": (_WHOLE[: len(_WHOLE) // 2], "truncated or not XML"),
    "empty": (b"", "truncated or not XML"),
    "not XML": (b"\x00\x01\x02 binary \xff\xfe" * 20, "truncated or not XML"),
    "HTML": (b"<html><body>Service Unavailable</body></html>", "begins with <html>"),
    "another table": (_WHOLE.replace(b"ExecBlockTable", b"ScanTable"), "begins with <ScanTable>"),
    "an escape in its root": ("<\u00e9\u202ex/>".encode(), "truncated or not XML"),
    "too deep": (b"<ExecBlockTable><row>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</row></ExecBlockTable>", "deep"),
    "a long field": (b"<ExecBlockTable><row><configName>" + b"x" * 100_000 + b"</configName></row></ExecBlockTable>",
                     "characters"),
    "unknown encoding": (b"<?xml version='1.0' encoding='nope'?><ExecBlockTable/>", "encoding"),
    "not its encoding": (b"<?xml version='1.0' encoding='UTF-8'?><ExecBlockTable>\xe9\xff</ExecBlockTable>",
                         "truncated or not XML"),
    "binary": (b'<ExecBlockTable><BulkStoreRef itemId="1" documentVersion="1"/></ExecBlockTable>', "binary form"),
    "two documents": (_WHOLE + _WHOLE, "truncated or not XML"),
}  # fmt: skip
"""Files that are no ExecBlock.xml, and what is said of each."""
