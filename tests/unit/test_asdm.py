"""Reading an ASDM's tables: as the observatory writes them, and as an attacker might."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aogconsole.reingestion.workflows import asdm as reading
from aogconsole.reingestion.workflows.asdm import AsdmError, Fields, Row, TableReader
from aogconsole.reingestion.workflows.assembling import Read, assemble, check_container
from tests.support.asdm import EXECUTION_BLOCK, HOSTILE, SCHEDULING_BLOCK, SESSION, asdm, reference, table

SAMPLE = asdm()


def rows(name: str, data: bytes, step: int = 1 << 16) -> list[Row]:
    """A table read in pieces."""
    reader = TableReader(name)
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
    return reader.close()


def read(files: dict[str, bytes], uid: str = EXECUTION_BLOCK) -> Read:
    """Read whole files and assemble them."""
    return assemble(uid, {name: rows(name, data) for name, data in files.items()})


def test_an_execution_block_is_read_whole() -> None:
    """Every field that is stored comes out of the observatory's own form of it."""
    block = read(SAMPLE).block
    assert (block.uid, block.session, block.scheduling_block) == (EXECUTION_BLOCK, SESSION, SCHEDULING_BLOCK)
    assert block.mous is None  # the reference names a part of the project, which is no MOUS
    assert block.started == datetime(2014, 3, 1, 1, 0, 0, 123456, tzinfo=UTC)
    assert block.ended == datetime(2014, 3, 1, 2, 0, 0, 123456, tzinfo=UTC)
    assert (block.telescope, block.array, block.antenna_count, block.aborted) == ("ALMA", "C34-3/(2)", 3, False)
    assert [(one.name, one.make, one.diameter, one.station) for one in block.antennas] == [
        ("DA41", "AEM_12", 12.0, "A100"), ("DA42", "AEM_12", 12.0, "A101"), ("DA43", "AEM_12", 12.0, "A102")
    ]  # fmt: skip
    assert block.bands == ("ALMA_RB_03", "ALMA_RB_06")
    assert [(one.number, one.name, one.longitude, one.frame) for one in block.sources] == [
        (0, "J1256-0547", 3.38, "ICRS"), (1, "NGC 253", 4.38, "ICRS")
    ]  # fmt: skip
    assert [one.intents for one in block.scans] == [
        ("CALIBRATE_BANDPASS", "CALIBRATE_WVR"), ("OBSERVE_TARGET",), ("OBSERVE_TARGET",)
    ]  # fmt: skip
    assert [(one.scan, one.number, one.intent) for one in block.subscans[:3]] == [
        (1, 1, "ON_SOURCE"), (1, 2, "OFF_SOURCE"), (2, 1, "ON_SOURCE")
    ]  # fmt: skip
    assert read(SAMPLE).notes == ()


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_pieces_do_not_matter(step: int) -> None:
    """However the bytes come, the same rows."""
    for name in ("ExecBlock", "Scan"):
        assert rows(name, SAMPLE[name], step) == rows(name, SAMPLE[name])


@pytest.mark.parametrize("name", sorted(set(SAMPLE) - {"ExecBlock"}))
def test_every_other_table_may_be_missing(name: str) -> None:
    """What is not there is said, and the rest is read."""
    found = read(asdm(without=[name]))
    assert f"{name}.xml is not there" in found.notes
    assert found.block.started is not None


def test_the_scheduling_block_tells_the_band_when_no_receiver_does() -> None:
    """Old ASDMs lack Receiver.xml."""
    assert read(asdm(without=["Receiver"])).block.bands == ("ALMA_RB_06",)


@pytest.mark.parametrize("name", sorted(set(SAMPLE) - {"ExecBlock", "ASDM"}))
def test_a_table_that_is_promised_may_not_be_missing(name: str) -> None:
    """ASDM.xml says that it has rows: without its file they would be taken for none."""
    with pytest.raises(AsdmError, match=rf"{name}\.xml is not there, and ASDM\.xml promises \d+ rows"):
        read({table: data for table, data in SAMPLE.items() if table != name})


def test_a_reference_to_the_mous_is_used() -> None:
    """Where the scheduling block's reference names the MOUS itself, that is the MOUS."""
    ours = reference("obsUnitSetUID", "uid://A001/X1/X2", "OUSStatus")
    files = {**SAMPLE, "SBSummary": table("SBSummary", ["<sBSummaryId>SBSummary_0</sBSummaryId>" + ours])}
    assert read(files).block.mous == "uid://A001/X1/X2"


def test_rows_of_another_execution_block_are_left_out() -> None:
    """An ASDM of two execution blocks gives the one asked for, with its own scans."""
    other = reference("execBlockUID", "uid://A002/X9/X9", "ASDM") + "<execBlockId>ExecBlock_1</execBlockId>"
    files = {
        **SAMPLE,
        "ExecBlock": SAMPLE["ExecBlock"].replace(b"</ExecBlockTable>", f"<row>{other}</row></ExecBlockTable>".encode()),
        "Scan": SAMPLE["Scan"].replace(
            b"</ScanTable>",
            b"<row><scanNumber>99</scanNumber><execBlockId>ExecBlock_1</execBlockId></row></ScanTable>",
        ),
    }
    found = read(files)
    assert [one.number for one in found.block.scans] == [1, 2, 3]
    assert "ExecBlock.xml has 2 rows, and ASDM.xml promises 1" in found.notes


def test_another_asdm_is_not_filed_under_this_one() -> None:
    """Neither by its ExecBlock.xml nor by what a table says that it belongs to."""
    with pytest.raises(AsdmError, match="does not have uid://A002/X5/X5, but uid://A002/X7e4988/X1f2"):
        read(SAMPLE, "uid://A002/X5/X5")
    with pytest.raises(AsdmError, match=r"Scan.xml belongs to uid://A002/X7e4988/X1f2"):
        check_container("uid://A002/X5/X5", "Scan", EXECUTION_BLOCK)
    for nobody in (None, "uid://X0/X0/X0", "none", "uid://A002/X7E4988/X1F2"):
        check_container(EXECUTION_BLOCK, "Scan", nobody)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(name: str) -> None:
    """At once, with one sentence that names the table and holds nothing that acts on a terminal."""
    data, said = HOSTILE[name]
    started = time.monotonic()
    with pytest.raises(AsdmError) as caught:
        rows("ExecBlock", data, 1000)
    assert said in str(caught.value)
    assert "ExecBlock.xml" in str(caught.value)
    assert str(caught.value).isprintable()
    assert time.monotonic() - started < 2


def test_a_table_may_not_be_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in bytes nor in rows."""
    monkeypatch.setattr(reading, "LARGEST", 1 << 20)
    monkeypatch.setattr(reading, "MOST_ROWS", 1000)
    reader = TableReader("Scan")
    reader.feed(b"<ScanTable>")
    reader.feed(b" " * ((1 << 20) - 20))
    with pytest.raises(AsdmError, match="larger than 1 MiB"):
        reader.feed(b" " * 20)
    reader = TableReader("Scan")
    with pytest.raises(AsdmError, match="more than 1000 rows"):
        reader.feed(b"<ScanTable>" + b"<row/>" * 1001)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("scanNumber", "x1", "tag with a number"),
        ("scanNumber", "\u0661", "tag with a number"),
        ("startTime", "now", "time in nanoseconds"),
        ("startTime", "9" * 40, "time in nanoseconds"),
        ("scanIntent", "1 3 A B", "array of the length"),
        ("scanIntent", "1", "array of the length"),
        ("scanIntent", "9999999 1", "array of the length"),
        ("scanIntent", '1 1 "open', "array"),
    ],
)
def test_a_field_that_cannot_be_read_is_named(field: str, value: str, said: str) -> None:
    """With its table and what it should be."""
    row = {"scanNumber": "1", field: value}
    with pytest.raises(AsdmError, match=f"Scan.xml has a {field} .* which is no {said}"):
        assemble(EXECUTION_BLOCK, {"ExecBlock": [{"execBlockId": "ExecBlock_0"}], "Scan": [row]})


@pytest.mark.parametrize("value", ["1 2 nan 0", "1 2 inf 0", "1 2 1e999 0", "1 3 1 2 3"])
def test_a_direction_is_two_finite_angles(value: str) -> None:
    """Nothing else gets into the database."""
    with pytest.raises(AsdmError, match=r"Source\.xml"):
        assemble(EXECUTION_BLOCK, {"ExecBlock": [{}], "Source": [{"sourceId": "1", "direction": value}]})


@given(st.integers(-(2**63), 2**63))
def test_every_time_is_a_time_or_refused(nanoseconds: int) -> None:
    """No number makes the reader fall over."""
    try:
        found = Fields("Scan", {"startTime": str(nanoseconds)}).time("startTime")
    except AsdmError:
        return
    assert found is not None
    assert found.tzinfo is UTC


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(SAMPLE)), st.data())
def test_damage_is_met_with_rows_or_one_sentence(name: str, data: st.DataObject) -> None:
    """Bytes changed, cut out or put in, anywhere: the table is read, or AsdmError says why not; never anything else."""
    damaged = bytearray(SAMPLE[name])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged)))
        damaged[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=6))
    with suppress(AsdmError):
        found = {**{one: rows(one, SAMPLE[one]) for one in SAMPLE}, name: rows(name, bytes(damaged))}
        assemble(EXECUTION_BLOCK, found)
