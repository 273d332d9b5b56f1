"""Records of runs: on the disk before anything is made, read as untrusted words, locked while their run lives."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from aogconsole.errors import StorageError
from aogconsole.ids import MousUid
from aogconsole.stagecalms import records as module
from aogconsole.stagecalms.job import Job, Node, Work
from aogconsole.stagecalms.records import Record, Records

TOKEN = "0123456789abcdef0123456789abcdef"
MOUS = MousUid.parse("uid___A002_X788a57_X29")
WORK = PurePosixPath("/opsw/work/WORK11018")


def job(token: str = TOKEN) -> Job:
    """A job with this token."""
    return Job.parse("2012.1.00357.S", str(MOUS), "15270", token)


def work(node: str = "arcp9.hq.eso.org:2222", number: int = 11018) -> Work:
    """A working directory."""
    return Work(Node.parse(node), PurePosixPath(f"/opsw/work/WORK{number}"), TOKEN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The records' folder, of a root that is not there yet."""
    return tmp_path / "root" / "stagecalms"


@pytest.fixture
def records(folder: Path) -> Records:
    """Records below that root."""
    return Records(folder.parent)


def create(records: Records, token: str = TOKEN) -> Record:
    """A new run's record."""
    return records.create(job(token), Path("/web") / token)


def told(record: Record) -> list[Any]:
    """All that a record says."""
    return [record.job, record.directory, record.intended, record.works, record.work, record.failed]


def found(records: Records) -> list[Any]:
    """All that the one abandoned record says; it is let go of again."""
    (record,) = records.abandoned()
    record.close()
    return told(record)


def test_each_step_is_found_by_who_comes_after(records: Records, folder: Path) -> None:
    """Every step as the run made it, while the run lives by nobody; modes are closed."""
    steps: list[tuple[Callable[[Record], None], list[Any]]] = [
        (lambda _: None, [None, (), None, False]),
        (lambda record: record.intend(WORK), [WORK, (), None, False]),
        (lambda record: record.making(work("arcp1")), [WORK, (work("arcp1"),), None, False]),
        (lambda record: record.making(work()), [WORK, (work("arcp1"), work()), None, False]),
        (lambda record: record.placed(work()), [WORK, (work("arcp1"), work()), work(), False]),
        (lambda record: record.gone(work("arcp1")), [WORK, (work(),), work(), False]),
        (lambda record: record.fail(), [WORK, (work(),), work(), True]),
    ]
    for upto in range(1, len(steps) + 1):
        record = create(records)
        for step, _ in steps[:upto]:
            step(record)
        assert records.abandoned() == []
        assert records.live() == {TOKEN}
        record.close()
        assert records.live() == frozenset()
        assert found(records) == [job(), Path("/web") / TOKEN, *steps[upto - 1][1]]
        (again,) = records.abandoned()
        assert records.live() == {TOKEN}, "somebody is sweeping it"
        again.gone(work("arcp1"))
        again.done()
    assert sorted(path.name for path in folder.iterdir()) == ["lock"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    create(records).close()
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_umask_opens_no_folder(tmp_path: Path) -> None:
    """All that is made above the records is for this account alone, as aogremote makes it."""
    root = tmp_path / "above" / "root"
    before = os.umask(0o002)
    try:
        create(Records(root)).close()
    finally:
        os.umask(before)
    for path in (root / "stagecalms", root, root.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_nothing_is_left_of_what_is_done(records: Records, folder: Path) -> None:
    """But for directories that a cut left in doubt: they are looked for once more."""
    record = create(records)
    record.placed(work())
    record.done()
    assert [path.name for path in folder.iterdir()] == ["lock"]
    record = create(records)
    record.making(work("arcp1"))
    record.placed(work())
    record.done()
    assert found(records)[3:] == [(work("arcp1"),), None, False]


def test_each_record_is_swept_by_one(records: Records) -> None:
    """Two that sweep at once; what one lets go the other finds."""
    tokens = [f"{number:032x}" for number in range(5)]
    for token in tokens:
        create(records, token).close()
    first, second = records.abandoned(), Records(records._folder.parent).abandoned()
    assert [record.job.token for record in first] == tokens
    assert second == []
    first[2].close()
    (again,) = records.abandoned()
    assert again.job.token == tokens[2]
    for record in [*first[:2], *first[3:], again]:
        record.done()
    assert records.abandoned() == []


KILLED = """
import sys
from pathlib import Path, PurePosixPath
from aogconsole.stagecalms.job import Job, Node, Work
from aogconsole.stagecalms.records import Records

records = Records(Path(sys.argv[1]))
number = 0
while True:
    token = f"{number:032x}"
    record = records.create(Job.parse("2012.1.00357.S", "uid___A002_X788a57_X29", "1", token), Path("/web") / token)
    record.intend(PurePosixPath("/w/WORK10000"))
    made = Work(Node("n"), PurePosixPath("/w/WORK10000"), token)
    record.making(made)
    print(token, flush=True)
    record.placed(made)
    record.done()
    number += 1
"""


def test_killed_at_any_moment(records: Records, folder: Path) -> None:
    """What is found is whole, and there is nothing beside it but what the next look removes."""
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder.parent)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        ) as process:
            assert process.stdout
            for _ in range(3):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        left = records.abandoned()
        assert records.troubles == []
        assert len(left) <= 1
        for record in left:
            record.done()
            if record.works and not record.work:  # it was killed before it heard that the directory was made
                (again,) = records.abandoned()
                again.gone(again.works[0])
                again.done()
        assert records.abandoned() == []
        assert [path.name for path in folder.iterdir()] == ["lock"]


GOOD = {
    "project": "2012.1.00357.S", "mous": str(MOUS), "ticket": "15270", "directory": f"/web/{TOKEN}",
    "intended": str(WORK), "works": [["arcp9", str(WORK)]], "placed": 0, "failed": False,
}  # fmt: skip
BAD: dict[str, dict[str, Any]] = {
    "project": {"project": "2012"},
    "no project": {"project": None},
    "mous": {"mous": "uid___A002_X788a57_X29; rm -rf /"},
    "ticket": {"ticket": -1},
    "directory of another": {"directory": "/web/ffffffffffffffffffffffffffffffff"},
    "relative": {"directory": f"web/{TOKEN}"},
    "upwards": {"directory": f"/web/../{TOKEN}"},
    "intended": {"intended": "/etc"},
    "works": {"works": {"a": 1}},
    "no works": {"works": None},
    "a word": {"works": ["arcp9"]},
    "three words": {"works": [["arcp9", str(WORK), "x"]]},
    "an option": {"works": [["-oProxyCommand=x", str(WORK)]]},
    "a command": {"works": [["arcp9;x", str(WORK)]]},
    "no node": {"works": [[None, str(WORK)]]},
    "the root": {"works": [["arcp9", "/"]]},
    "home": {"works": [["arcp9", "WORK11018"]]},
    "up": {"works": [["arcp9", "/opsw/../WORK11018"]]},
    "line": {"works": [["arcp9", "/opsw\n/WORK11018"]]},
    "other name": {"works": [["arcp9", "/opsw/work"]]},
    "number": {"works": [["arcp9", 11018]]},
    "placed nowhere": {"placed": 1},
    "placed behind": {"placed": -1},
    "placed truly": {"placed": True},
    "placed by word": {"placed": "0"},
}


@pytest.mark.parametrize("fault", BAD)
def test_untrusted_words_are_not_followed(records: Records, folder: Path, fault: str) -> None:
    """The record stays, is told, and stops no other."""
    other = "f" * 32
    create(records, other).close()
    path = folder / f"{TOKEN}.json"
    path.write_text(json.dumps(GOOD))
    path.chmod(0o600)
    both = records.abandoned()
    assert [record.job.token for record in both] == [TOKEN, other]
    for record in both:
        record.close()
    path.write_text(json.dumps(GOOD | BAD[fault]))
    (record,) = records.abandoned()
    assert record.job.token == other
    assert len(records.troubles) == 1
    assert records.troubles[0].startswith(f"the record {TOKEN}.json in ")
    assert records.troubles[0].isprintable()
    assert path.exists()


def test_what_is_no_record_is_left(records: Records, folder: Path, tmp_path: Path) -> None:
    """Garbage, links, pipes, other names, huge ones, those that others may write."""
    create(records, "f" * 32).close()
    (tmp_path / "elsewhere").write_text(json.dumps(GOOD))
    names = [f"{number:032x}.json" for number in range(9)]
    for name, text in zip(names, ["", "[]", "{", "\xff", "[" * 60000, "{}" + " " * 70000], strict=False):
        (folder / name).write_bytes(text.encode("latin-1"))
    (folder / names[6]).symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / names[7])
    (folder / names[8]).write_text(json.dumps(GOOD | {"directory": f"/web/{names[8][:32]}"}))
    (folder / names[8]).chmod(0o666)
    (folder / "notes.json").touch()
    (record,) = records.abandoned()
    assert record.job.token == "f" * 32
    assert len(records.troubles) == 10
    assert {path.name for path in folder.glob("*.json")} >= {*names, "notes.json"}


def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    """One sentence with the folder, and a hint."""
    (tmp_path / "root").write_text("no folder")
    with pytest.raises(StorageError, match="cannot be kept") as caught:
        create(Records(tmp_path / "root"))
    assert "staging.root" in caught.value.hint
    assert Records(tmp_path / "nothing").live() == frozenset()


async def test_one_at_a_time_for_a_mous(records: Records, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others wait, told once, and go on one after the other; another MOUS does not wait. No file stays."""
    monkeypatch.setattr(module, "POLL", 0.01)
    inside, most, waited = 0, 0, []

    async def one(number: int, mous: MousUid = MOUS) -> None:
        nonlocal inside, most
        async with records.mous(mous, lambda: waited.append(number)):
            inside += mous == MOUS
            most = max(most, inside)
            await asyncio.sleep(0.03)
            inside -= mous == MOUS

    await asyncio.gather(*(one(number) for number in range(5)), one(9, MousUid.parse("uid___A001_X1_X2")))
    assert most == 1
    assert sorted(waited) == [1, 2, 3, 4]
    assert not list(folder.glob("*.mous"))


HOLDER = """
import asyncio, sys
from pathlib import Path
from aogconsole.ids import MousUid
from aogconsole.stagecalms.records import Records

async def main():
    async with Records(Path(sys.argv[1])).mous(MousUid.parse("uid___A002_X788a57_X29"), lambda: None):
        print("held", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_killed_holder_of_a_mous_lets_go(
    records: Records, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it dies."""
    monkeypatch.setattr(module, "POLL", 0.01)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(folder.parent), stdout=subprocess.PIPE, cwd=Path.cwd()
    )
    assert process.stdout
    assert await process.stdout.readline() == b"held\n"
    async with records.mous(MOUS, process.kill):
        assert await process.wait() == -signal.SIGKILL


def test_a_record_without_a_lock_is_caught(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests notice records that forget who lives."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with pytest.raises(AssertionError):
        test_each_record_is_swept_by_one(records)
