"""Which execution blocks a MOUS has: the same answers by the archive over Oracle Net and by a command of the site.

Each case is told as rows of the archive, and as what a site's command prints for them. Wrong statements are caught.
"""

from __future__ import annotations

import asyncio
import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import pytest

from aogconsole.errors import AogError, ArchiveError, ConfigError, OutsideError
from aogconsole.ids import MousUid
from aogconsole.stagecalms.choice import Block, to_calibrate
from backends.cluster_ports import Blocks
from backends.command_blocks import LARGEST, CommandBlocks
from backends.oracle_blocks import MOST, OracleBlocks
from tests.support.oracle import SCHEMA, Fault, TestArchive

TABLES = SCHEMA.read_text("utf-8").partition("\ninsert into")[0]
MOUS = MousUid.parse("uid___A001_X133d_X1244")
SB, OTHER_SB = "uid://A001/X133d/X50", "uid://A001/X133d/X51"
FIRST, SECOND, THIRD = (f"uid://A002/Xb1/X{number}" for number in (1, 2, 3))
PROJECT = "2016.1.00001.S"


def linked(mous: str = MOUS.database, block: str = SB) -> str:
    """A scheduling block of the MOUS."""
    return f"insert into sched_block_status values('{block}', '{block}', 'FullyObserved', '{mous}')"


def executed(uid: str, qa0: str | None, status: str | None = "SUCCESS", block: str = SB) -> str:
    """A row of AQUA_V_EXECBLOCK."""
    told = ", ".join("null" if value is None else f"'{value}'" for value in (uid, block, status, qa0))
    return f"insert into aqua_v_execblock(execblockuid, schedblockuid, status, qa0status) values({told})"


def science(uid: str | None, mous: str = MOUS.database) -> str:
    """A row of ASA_SCIENCE."""
    asdm = "null" if uid is None else f"'{uid}'"
    return f"insert into asa_science(project_code, member_ouss_id, asdm_uid) values('{PROJECT}', '{mous}', {asdm})"


def delivered(uid: str, name: str = f"{PROJECT}_{MOUS.mail}", mous: str = MOUS.database) -> Sequence[str]:
    """A delivery's row of an execution block, and the project that names it."""
    return (
        f"insert into asa_ous values('{mous}', '{PROJECT}', '{mous}', 'uid://A001/X133d/X1')",
        f"insert into asa_delivery_asdm_ous values(1, '{uid}', '{name}', 7)",
    )


@dataclass(frozen=True)
class Case:
    """Rows of the archive, lines of a command, and the answer."""

    name: str
    rows: Sequence[str]
    lines: Sequence[str]
    answer: Sequence[tuple[str, str]]


CASES = [
    Case("nothing is known", (), (), ()),
    Case("a MOUS of others", (linked("uid://A001/X133d/X12441"), executed(FIRST, "Pass")), ("", "  "), ()),
    Case("passed", (linked(), executed(FIRST, "Pass")), (f"{FIRST} Pass",), ((FIRST, "Pass"),)),
    Case(
        "several, in the order of their UIDs",
        (linked(), executed(THIRD, "Pass"), executed(FIRST, "SemiPass"), executed(SECOND, "Unset")),
        (f"{THIRD} Pass", f"{FIRST} SemiPass", f"{SECOND}\tUnset"),
        ((FIRST, "SemiPass"), (SECOND, "Unset"), (THIRD, "Pass")),
    ),
    Case(
        "of two scheduling blocks",
        (linked(), linked(block=OTHER_SB), executed(FIRST, "Pass"), executed(SECOND, "Pass", block=OTHER_SB)),
        (f"{FIRST} Pass", f"{SECOND} Pass"),
        ((FIRST, "Pass"), (SECOND, "Pass")),
    ),
    Case(
        "padded with blanks",
        (linked(MOUS.database.ljust(64)), executed(FIRST.ljust(64), "Pass".ljust(20), "SUCCESS".ljust(20)),
         science(FIRST.ljust(64), MOUS.database.ljust(64))),
        (f"  {FIRST}   Pass  ",),
        ((FIRST, "Pass"),),
    ),
    Case(
        "many rows of science data",
        (linked(), executed(FIRST, "Pass"), *[science(FIRST)] * 40, science(None)),
        (f"{FIRST} Pass",) * 40,
        ((FIRST, "Pass"),),
    ),
    Case("delivered, and not in the view", (science(FIRST),), (FIRST,), ((FIRST, ""),)),
    Case("delivered, padded", (science(FIRST.ljust(64), MOUS.database.ljust(64)),), (FIRST,), ((FIRST, ""),)),
    Case("delivered by name only", delivered(FIRST), (FIRST,), ((FIRST, ""),)),
    Case(
        "delivered by name only, padded",
        (*delivered(FIRST.ljust(40), mous=MOUS.database.ljust(40)), executed(FIRST, "SemiPass", block="")),
        (f"{FIRST} SemiPass",),
        ((FIRST, "SemiPass"),),
    ),
    Case("another's delivery", delivered(FIRST, f"{PROJECT}_{MOUS.mail}1"), (), ()),
    Case(
        "the other spelling",
        (executed(FIRST, "SemiPass"), science(FIRST.replace("://", "___").replace("/", "_"))),
        (f"{MousUid.parse(FIRST).mail} SemiPass",),
        ((FIRST, "SemiPass"),),
    ),
    Case(
        "an aborted execution has no data",
        (linked(), executed(FIRST, "Pass"), executed(SECOND, "Unset", "FAIL"), executed(THIRD, None, "ABORTED")),
        (f"{FIRST} Pass",),
        ((FIRST, "Pass"),),
    ),
    Case(
        "an execution whose end is not told",
        (linked(), executed(FIRST, "Pass", None)),
        (f"{FIRST} Pass",),
        ((FIRST, "Pass"),),
    ),
    Case(
        "what was delivered has data, whatever became of its execution",
        (linked(), executed(FIRST, "Pass", "FAIL"), science(FIRST)),
        (f"{FIRST} Pass",),
        ((FIRST, "Pass"),),
    ),
    Case(
        "two statuses of one: the one in doubt counts",
        (linked(), executed(FIRST, "Pass"), executed(FIRST, "SemiPass"), executed(FIRST, None)),
        (f"{FIRST} SemiPass", f"{FIRST} Pass", FIRST),
        ((FIRST, "SemiPass"),),
    ),
]  # fmt: skip

Make = Callable[[Case], Blocks]


@pytest.fixture(params=["oracle", "command"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """What answers a case, by each way."""
    if request.param == "command":

        def by_command(case: Case) -> Blocks:
            (tmp_path / "answer").write_text("".join(f"{line}\n" for line in case.lines))
            return CommandBlocks(f'test "$*" = {MOUS} && cat {shlex.quote(str(tmp_path / "answer"))} #')

        yield by_command
        return
    with TestArchive(TABLES) as archive:

        def by_archive(case: Case) -> Blocks:
            archive.load(";\n".join(case.rows) + ";")
            return OracleBlocks(archive.settings())

        yield by_archive


def expected(case: Case) -> list[Block]:
    """The answer that it must have."""
    return [Block(MousUid.parse(uid).mail, qa0) for uid, qa0 in case.answer]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_answer(make: Make, case: Case) -> None:
    """Each block once, spelled as in file names, with its QA0 status."""
    assert list(await make(case).of(MOUS)) == expected(case)


async def test_again_and_at_once(make: Make) -> None:
    """Asked many times, at the same time too, it answers the same."""
    blocks = make(CASES[3])
    assert await asyncio.gather(*(blocks.of(MOUS) for _ in range(5))) == [expected(CASES[3])] * 5


async def test_what_is_calibrated(make: Make) -> None:
    """Those whose QA0 has not passed are left out, and named."""
    taken, left = to_calibrate(await make(CASES[3]).of(MOUS))
    assert [one.uid for one in taken] == ["uid___A002_Xb1_X3"]
    assert [(one.uid, one.qa0) for one in left] == [("uid___A002_Xb1_X1", "SemiPass"), ("uid___A002_Xb1_X2", "Unset")]


async def test_no_uid(make: Make) -> None:
    """A block whose id is no UID stops it with a sentence, made safe: data left out silently are missed by nobody."""
    bad = "uid://A002/Xb1/X1\x1b[31m;rm"
    with pytest.raises(OutsideError) as caught:
        await make(Case("", (linked(), executed(bad, "Pass")), (f"{bad} Pass",), ())).of(MOUS)
    assert "no UID" in str(caught.value) or "is not a UID" in str(caught.value)
    assert str(caught.value).isprintable()
    assert caught.value.hint


# ── by the archive ───────────────────────────────────────────────────────────────────────────────────────────────

MUTATIONS = {
    "the view only": ("delivered.asdm, trim(e.qa0status)", "delivered.asdm, 'Fail'"),
    "no trim": ("< asked.mous || '!'\n   where trim(s.", "<= asked.mous\n   where trim(s."),
    "aborted ones": ("(trim(e.status) = 'SUCCESS' or trim(e.status) is null)", "1 = 1"),
    "only told": ("or trim(e.status) is null", ""),
    "one spelling": ("replace(replace(trim(s.asdm_uid), 'uid___', 'uid://'), '_', '/')", "trim(s.asdm_uid)"),
    "no names": ("|| '_' || asked.name", "|| asked.name"),
    "inner join": ("left join alma.aqua", "join alma.aqua"),
}


@pytest.mark.parametrize("name", MUTATIONS)
async def test_wrong_statement_is_caught(tmp_path: Path, name: str) -> None:
    """A statement that is wrong in one place answers at least one case wrongly."""
    ours = resources.files("backends").joinpath("sql/oracle/stagecalms_blocks.sql").read_text("utf-8")
    right, wrong = MUTATIONS[name]
    assert ours.count(right) == 1, "the mutation no longer fits the statement"
    (tmp_path / "stagecalms_blocks.sql").write_text(ours.replace(right, wrong), encoding="utf-8")
    for case in CASES:
        with TestArchive(TABLES) as archive:
            archive.load(";\n".join(case.rows) + ";")
            found = await OracleBlocks(archive.settings(queries=tmp_path)).of(MOUS)
        if list(found) != expected(case):
            return
    pytest.fail("no case catches it")


RESERVED = """
    access add all alter and any as asc audit between by char check cluster column comment compress connect create
    current date decimal default delete desc distinct drop else exclusive exists file float for from grant group
    having identified immediate in increment index initial insert integer intersect into is level like lock long
    maxextents minus mlslabel mode modify noaudit nocompress not nowait null number of offline on online option or
    order pctfree prior public raw rename resource revoke row rowid rownum rows select session set share size smallint
    start successful synonym sysdate table then to trigger uid union unique update user validate values varchar
    varchar2 view whenever where with
"""
"""Oracle's reserved words (SQL Language Reference, appendix E); SQLite takes most of them as names."""


def names_of(statement: str) -> set[str]:
    """The names that a statement gives: of its parts, their columns, its own columns and binds."""
    text = re.sub(r"--.*", "", statement)
    parts = [word for part in re.findall(r"\b\w+\(([\w, ]+)\) as \(", text) for word in part.split(", ")]
    return {*parts, *re.findall(r"(?:\bas |\b(?=\w+\([\w, ]+\) as \())(\w+)", text)}


@pytest.mark.parametrize(
    "file", sorted(resources.files("backends").joinpath("sql/oracle").iterdir(), key=str), ids=Path
)
def test_no_name_is_oracles(file: Traversable) -> None:
    """What the test archive would not notice."""
    assert not names_of(file.read_text("utf-8")) & set(RESERVED.split())


def test_a_reserved_name_is_caught() -> None:
    """As a part, as its column, and as a column of the answer."""
    assert names_of("with a(x, uid) as (select 1, 2 from dual) select x as level from a") >= {"x", "uid", "level"}
    assert names_of("with size(x) as (select 1 from dual) select x from size") == {"x", "size"}
    assert {"uid", "level", "size"} < set(RESERVED.split())


async def test_the_base_archive(archive: TestArchive) -> None:
    """The test archive's member OUS: one block with its status, one that only the delivery names."""
    found = await OracleBlocks(archive.settings()).of(MousUid.parse("uid://A002/X788a57/X29"))
    assert [(one.uid, one.qa0) for one in found] == [
        ("uid___A002_X7e4988_X1f2", "Pass"),
        ("uid___A002_X7e4988_X1f3", ""),
    ]
    assert len(archive.statements) == 1


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault(ora=942), r"does not see one of the tables or views that stagecalms_blocks\.sql reads"),
        (Fault(drop=True), "closed the connection"),
        (Fault(hang=True), "did not answer within 0.5 s"),
        (Fault(delay=3), "did not answer within 0.5 s"),
    ],
    ids=str,
)
async def test_faults(archive: TestArchive, fault: Fault, sentence: str) -> None:
    """Unknown, with a sentence, in bounded time; never an empty answer."""
    archive.faults.append(fault)
    started = time.monotonic()
    with pytest.raises(ArchiveError, match=sentence):
        await OracleBlocks(archive.settings(timeout=0.5)).of(MOUS)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("columns", ["1 as qa0status", "1 as execblockuid"])
async def test_site_replaces_the_statement(archive: TestArchive, tmp_path: Path, columns: str) -> None:
    """A file of the same name replaces it; one without our columns is named, as is the column."""
    file = tmp_path / "stagecalms_blocks.sql"
    file.write_text(f"select {columns} from dual where :mous is not null and :name is not null", "utf-8")  # noqa: S608
    with pytest.raises(ArchiveError, match=r"stagecalms_blocks\.sql returns no column"):
        await OracleBlocks(archive.settings(queries=tmp_path)).of(MOUS)
    file.write_text("select :mous as qa0status, :name as execblockuid from dual;", "utf-8")
    assert await OracleBlocks(archive.settings(queries=tmp_path)).of(MOUS) == [Block(MOUS.mail, MOUS.database)]


async def test_a_statement_that_answers_everything(tmp_path: Path) -> None:
    """More rows than a MOUS can have are an error of the statement."""
    (tmp_path / "stagecalms_blocks.sql").write_text(
        "select execblockuid, qa0status from alma.aqua_v_execblock where :mous || :name is not null", "utf-8"
    )
    with TestArchive(TABLES) as archive:
        archive.put([(executed(FIRST, "Pass"), ())] * (MOST + 1))
        with pytest.raises(ArchiveError, match=f"over {MOST} rows"):
            await OracleBlocks(archive.settings(queries=tmp_path)).of(MOUS)


def test_unreadable_settings(archive: TestArchive, tmp_path: Path) -> None:
    """What cannot be used is an error of the configuration, at once."""
    (tmp_path / "stagecalms_blocks.sql").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"stagecalms_blocks\.sql"):
        OracleBlocks(archive.settings(queries=tmp_path))


# ── by a command ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_command_gets_the_mous_as_a_word(tmp_path: Path) -> None:
    """One word after its own, whatever they are; nothing on standard input; our folder is its folder."""
    script = tmp_path / "a site's blocks.sh"
    script.write_text('#!/bin/sh\ncat\nprintf "%s\\n" "$#:$1:$2:$(pwd)" >"$0.told"\necho "$2"\n')
    script.chmod(0o755)
    assert await CommandBlocks(f"{shlex.quote(str(script))} 'two words'").of(MOUS) == [Block(MOUS.mail, "")]
    assert Path(f"{script}.told").read_text() == f"2:two words:{MOUS.mail}:{Path.cwd()}\n"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("echo trouble >&2; echo 'at \x1b[2Jhome' >&2; exit 3 #", r"failed, exit status 3: at \\x1b\[2Jhome\.$"),
        ("false", r"failed, exit status 1\.$"),
        ("/nowhere/blocks", "failed, exit status 127: .*not found"),
        ("kill -9 $$ #", "ended by signal 9"),
        ("echo 'uid://A002/Xb1/X1 Pass again' #", "no line of an execution block"),
        ("echo 'uid://A002/Xb1/X1 \x1b[31m' #", "no line of an execution block"),
        ("echo 'No such MOUS' #", "no line of an execution block"),
        ("echo Nothing #", "is not a UID"),
        ("yes uid://A002/Xb1/X1 #", f"printed over {LARGEST} bytes"),
        ("nul\0", "cannot be run"),
        ("exec sleep 60 #", "did not end within 0.5 s"),
        ("(sleep 60 & echo $! >&2) #", "did not end within 0.5 s"),
    ],
)
async def test_what_the_command_does_wrong(command: str, sentence: str) -> None:
    """A sentence in bounded time, and what to do."""
    blocks = CommandBlocks(command, timeout=0.5 if "sleep" in command else 60)
    with pytest.raises(AogError, match=sentence) as caught:
        await blocks.of(MOUS)
    assert str(caught.value).isprintable()


async def test_messages_without_end_do_no_harm() -> None:
    """Standard error may be of any size."""
    found = await CommandBlocks(f"head -c 3000000 /dev/zero >&2; echo {FIRST} Pass #").of(MOUS)
    assert found == [Block(MousUid.parse(FIRST).mail, "Pass")]


async def test_nothing_is_left_of_a_late_command(tmp_path: Path) -> None:
    """Neither the command nor what it started."""
    pids = tmp_path / "pids"
    with pytest.raises(OutsideError, match="did not end"):
        await CommandBlocks(f"sleep 60 & echo $! $$ >{shlex.quote(str(pids))}; wait #", timeout=2).of(MOUS)
    for pid in pids.read_text().split():
        for _ in range(500):
            if not alive(int(pid)):
                break
            await asyncio.sleep(0.01)
        assert not alive(int(pid))


def alive(pid: int) -> bool:
    """Whether there is a process of this id that is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False
