"""The sample day's data: what its mails are, and that archive, runs and mails speak of the same MOUSs."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import stat
import subprocess
import tarfile
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest

from aogconsole.demo.asdm import INTENTS, asdm
from aogconsole.demo.ngas import LENGTH
from aogconsole.demo.reingestionday import Held
from aogconsole.demo.sample import SampleDay
from aogconsole.errors import UsageError
from aogconsole.ids import MousUid
from aogconsole.reingestion.workflows.asdm import TableReader
from aogconsole.reingestion.workflows.assembling import assemble, check_container
from aogconsole.requests.intake import Attached, Ignored, IntakeRules, NewRequest, Unclear, classify
from aogconsole.requests.mail import parse_mail
from aogconsole.stagecalms.job import TOKEN
from tests.support.known import MemoryKnown

RULES = IntakeRules("aog@eso.org", ("*@eso.org",))
DAY = Path(str(files("aogconsole.demo"))) / "day"
UNCLEAR_AT_ONCE = {"13-two-uids.eml": "more than one UID", "19-outsider.eml": "unlisted sender"}


@pytest.fixture
def day(tmp_path: Path) -> SampleDay:
    """A copy of the day."""
    return SampleDay(tmp_path / "day")


def database() -> sqlite3.Connection:
    """The archive's rows."""
    made = sqlite3.connect(":memory:")
    made.executescript((DAY / "archive.sql").read_text())
    return made


def runs() -> dict[str, list[str]]:
    """What each run does: the words after the MOUS."""
    lines = [line.split() for line in (DAY / "runs.txt").read_text().splitlines() if not line.startswith("#")]
    return {words[0]: words[1:] for words in lines}


def test_the_mails_are_what_they_are_said_to_be(day: SampleDay) -> None:
    """Requests are certain in every field, the second is the first again, three are none or need a person at once."""
    known = MemoryKnown()
    for one in day.mails:
        kind = classify(parse_mail((DAY / "mails" / one.mail).read_bytes()), known, RULES)
        if one.mail in UNCLEAR_AT_ONCE:
            assert isinstance(kind, Unclear)
            assert UNCLEAR_AT_ONCE[one.mail] in kind.why
        elif one.makes_request:
            assert isinstance(kind, NewRequest), (one.mail, kind)
            key = (kind.fields.mous, kind.fields.account, kind.fields.ticket)
            assert None not in key
            known = replace(known, open={**known.open, key: len(known.open) + 1})
        else:
            assert isinstance(kind, Attached if one.expected == "duplicate" else Ignored), one.mail


def test_the_day_has_all_that_happens(day: SampleDay) -> None:
    """Each ground, each refusal, each outcome, three MOUSs on one ticket, and at least a dozen mails from the start."""
    assert len(day.mails) >= 16
    assert {one.ground for one in day.mails} == {"pi", "delegee", "public", None}
    refusals = {"not_entitled", "invalid_user", "invalid_mous", "not_delivered"}
    assert {kind for one in day.mails for kind in one.letters} == {"link", "expert", *refusals}
    assert {one.expected for one in day.mails} == {"closed", "held", "unclear", "ignored", "duplicate"}
    assert {words[0] for words in runs().values()} == {"calibrate", "reuse", "full"}
    assert sum("20004" in (DAY / "mails" / one.mail).read_text() for one in day.mails) == 3
    assert sum(not one.late for one in day.mails) >= 12
    raw = (DAY / "mails" / "17-hostile.eml").read_bytes()
    assert all(mark in raw for mark in (b"\x1b]52;", b"\x1b[2J", b"[bold red]", "\u009b".encode(), "\u202e".encode()))


def test_archive_and_runs_know_the_same_data() -> None:
    """Every delivered MOUS has its run, with the execution blocks that the archive has; UIDs are well formed."""
    archive = database()
    blocks: dict[str, set[str]] = {}
    for mous, block in archive.execute("select member_ouss_id, asdm_uid from asa_science"):
        blocks.setdefault(MousUid.parse(mous).mail, set()).add(MousUid.parse(block).mail)
    found = {name: set(words[3:]) for name, words in runs().items()}
    undelivered = archive.execute(
        "select status_entity_id from obs_unit_set_status where domain_entity_state not like 'D%'"
    )
    for (mous,) in undelivered:
        del blocks[MousUid.parse(mous).mail]
    assert found.pop("*")
    assert {mous: listed for mous, listed in blocks.items() if mous in found} == found
    assert len(blocks) - len(found) == 1, "only the one that nobody gets staged is left to `*`"


def test_the_days_dates_do_not_rot() -> None:
    """What is proprietary stays so for weeks from any start, and what is public is so for days."""
    dates = [
        date.fromisoformat(row[0][:10]) for row in database().execute("select release_date from asa_delivery_status")
    ]
    assert len(dates) == 11
    assert all(abs((one - date.today()).days) >= 3 for one in dates)  # noqa: DTZ011  # SQLite's is of UTC too
    assert min(dates) < date.today() < max(dates)  # noqa: DTZ011


@pytest.mark.parametrize("mous", ["uid___A001_X133d_X1eef", "uid___A001_X9_X9"])
def test_the_calibrator_keeps_its_contract(tmp_path: Path, mous: str) -> None:
    """It speaks of every execution block it is given, leaves a directory of each, and ends with 0."""
    blocks = ["uid___A002_X1_X1", "uid___A002_X1_X2"]
    status, said = calibrated(tmp_path, mous, blocks)
    assert status == 0
    for block in blocks:
        assert f"stage 19 of 19 on {block}.ms" in said
        assert sum(path.stat().st_size for path in (tmp_path / "work" / f"{block}.ms.split.cal").iterdir()) > 10_000
    assert len(list((tmp_path / "work").iterdir())) == len(blocks)


def test_the_calibrator_fails_once(tmp_path: Path) -> None:
    """A full disk, in CASA's words; called again, after the expert made room, it completes."""
    status, said = calibrated(tmp_path, "uid___A001_X11f_X9c", ["uid___A002_X6444ba_X1b1"])
    assert status == 1
    assert "ERROR: not enough free disk space. Need at least 141724 MB." in said
    assert "ERROR: uid___A002_X6444ba_X1b1.ms.split.cal was not created." in said
    assert list((tmp_path / "work").iterdir()) == []
    assert calibrated(tmp_path, "uid___A001_X11f_X9c", ["uid___A002_X6444ba_X1b1"])[0] == 0


def calibrated(folder: Path, mous: str, blocks: list[str]) -> tuple[int, str]:
    """Run the calibrator by itself, as fast as it can, in `work`."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    for file in (DAY.parent / "calibrate.sh", DAY / "runs.txt"):
        shutil.copy(file, folder)
    (folder / "pace").write_text("1\n")
    argv = ["bash", str(folder / "calibrate.sh"), "2012.1.00357.S", mous, *blocks]
    done = subprocess.run(argv, cwd=work, stdout=subprocess.PIPE, text=True, timeout=30, check=False)
    return done.returncode, done.stdout


def test_what_is_staged_before_is_complete(day: SampleDay, tmp_path: Path) -> None:
    """One directory with a tar of each execution block of the MOUS that is re-used, made once."""
    root = tmp_path / "web"
    root.mkdir()
    day.stage_before(root)
    (directory,) = root.iterdir()
    assert TOKEN.fullmatch(directory.name)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    blocks = next(words[3:] for words in runs().values() if words[0] == "reuse")
    assert sorted(path.name for path in directory.iterdir()) == [f"{block}.ms.split.cal.tar" for block in blocks]
    for tar in directory.iterdir():
        with tarfile.open(tar) as opened:
            assert opened.getnames() == [f"{tar.stem}/table.info", f"{tar.stem}/table.f0"]
    before = [path.stat().st_mtime_ns for path in directory.iterdir()]
    day.stage_before(root)
    assert [path.stat().st_mtime_ns for path in root.glob("*/*")] == before
    day.runs.write_text("uid___A001_X9_X9 reuse soon\n")
    with pytest.raises(UsageError, match=r"runs\.txt cannot be followed"):
        day.stage_before(root)


def test_a_spoiled_day_is_told(day: SampleDay, tmp_path: Path) -> None:
    """A mail that is missing, a table that is none: one sentence, and what to do."""
    assert day.mails
    (tmp_path / "day" / "mails" / "01-pi.eml").unlink()
    with pytest.raises(UsageError, match=r"lacks 01-pi\.eml"):
        SampleDay(tmp_path / "day")
    (tmp_path / "day" / "expected.json").write_text("{")
    with pytest.raises(UsageError, match="holds no sample day"):
        SampleDay(tmp_path / "day")


def test_a_mail_is_delivered_once(day: SampleDay, tmp_path: Path) -> None:
    """Also after a mail reader has moved it and marked it as seen."""
    box = tmp_path / "box"
    for part in ("tmp", "new", "cur"):
        (box / part).mkdir(parents=True)
    day.deliver("01-pi.eml", box)
    (found,) = (box / "new").iterdir()
    assert re.match(rb"Date: .*\nFrom: ", found.read_bytes())
    found.rename(box / "cur" / f"{found.name}:2,S")
    day.deliver("01-pi.eml", box)
    assert [path.name for path in box.glob("*/*")] == [f"{found.name}:2,S"]


def test_what_arrives_is_of_the_archive(day: SampleDay) -> None:
    """Every execution block and MOUS is one that the archive has, in its project; no item is without an end."""
    assert day.reingestion
    archive = database()
    known = set(archive.execute("select asdm_uid, member_ouss_id, project_code from asa_science"))
    blocks = [one for step in day.reingestion.steps for one in step.blocks]
    assert {(one.uid.database, one.mous.database, one.project) for one in blocks} <= known
    mouss = {file.mous.database for step in day.reingestion.steps for file in step.files}
    assert mouss <= {mous for _, mous, _ in known}
    assert {one.uid for one in day.reingestion.expected} == mouss | {one.uid.database for one in blocks}


def test_every_rule_of_the_reingestion_occurs(day: SampleDay) -> None:
    """Each way that NGAS may have an ASDM, each end of an item, a second version, and a row that comes late."""
    assert day.reingestion
    blocks = [one for step in day.reingestion.steps for one in step.blocks]
    assert {one.ngas for one in blocks} == set(get_args(Held))
    ends = [state for one in day.reingestion.expected for state in one.expected]
    assert set(ends) == {"done", "dead", "deferred", "dropped", "do_not_calibrate"}
    assert any(one.expected == ("done", "done") for one in day.reingestion.expected)
    assert min(one.ended for one in day.reingestion.steps[-3].blocks) < -300
    launched = ends.count("done") + 2 * ends.count("dead")
    assert launched <= 20, "a small machine stays quiet"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("{", "["), ('"arrivals"', '"arrival"'), ('"uid___A002_Xd6ebab_Xd773"', '"Xd773"'), ('"truncated"', '"torn"'),
     ('"ended": -200', '"ended": "long ago"'), ('"expected": ["done"]', '"expected": 1')],
)  # fmt: skip
def test_a_spoiled_day_of_reingestion_is_told(day: SampleDay, tmp_path: Path, right: str, wrong: str) -> None:
    """One sentence, which names the file."""
    file = tmp_path / "day" / "reingestion.json"
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong, 1))
    with pytest.raises(UsageError, match=r"reingestion\.json holds no day of re-ingestion"):
        SampleDay(tmp_path / "day")
    file.unlink()
    assert day.reingestion
    assert SampleDay(tmp_path / "day").reingestion is None


def test_an_asdm_of_the_demo_is_read_without_a_word(day: SampleDay) -> None:
    """Its tables are whole, and agree with each other."""
    assert day.reingestion
    ended = datetime(2026, 11, 22, 3, tzinfo=UTC)
    for block in day.reingestion.steps[0].blocks:
        tables = {}
        for name, file in asdm(block.uid.database, ended - LENGTH, ended).items():
            reader = TableReader(name)
            reader.feed(file)
            tables[name] = reader.close()
            check_container(block.uid.database, name, reader.container)
        read = assemble(block.uid.database, tables)
        assert read.notes == ()
        assert (read.block.started, read.block.ended) == (ended - LENGTH, ended)
        assert len(read.block.antennas) == read.block.antenna_count
        assert len(read.block.bands) == 1
        assert [scan.source for scan in read.block.scans] == [source for source, _ in INTENTS]


def test_the_page_tells_the_day() -> None:
    """The tables of demo.md have a line for each mail and item, with what becomes of it."""
    page = (DAY.parent.parent / "docs" / "demo.md").read_text()
    for one in json.loads((DAY / "reingestion.json").read_text())["expected"]:
        states = ", ".join(f"`{state}`" for state in one["expected"])
        assert f"| `{one['uid']}` | {one['what']} | {states} |" in page
    for one in json.loads((DAY / "expected.json").read_text()):
        assert f"| `{one['mail'].removesuffix('.eml')}` | {one['what']} | `{one['expected']}` |" in page
