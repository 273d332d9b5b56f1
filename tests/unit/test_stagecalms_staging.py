"""One staging run, with a node that fails at each step: what is printed, what is served, what is left."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import pytest

from aogconsole.errors import ArchiveError, StorageError
from aogconsole.stagecalms import staging, words
from aogconsole.stagecalms.job import TAR, Job
from aogconsole.stagecalms.records import Records
from aogconsole.stagecalms.staging import Site, stage
from aogconsole.stagecalms.telling import Teller
from aogconsole.staging.transcript import Failed, Outcome, Succeeded, Transcript
from backends.cluster_ports import LinkCut, NodeRefused
from tests.support.scriptedcluster import ScriptedBlocks, ScriptedCluster

CORPUS = Path(__file__).parents[1] / "corpora" / "transcripts"
URL = "http://almascience.eso.org/arcdistribution/preview"
BLOCK, OTHER = "uid___A002_X7e4988_X1f2", "uid___A002_X7e4988_X2aa"


@dataclass
class Host:
    """A staging host in a folder."""

    folder: Path
    site: Site
    cluster: ScriptedCluster
    blocks: ScriptedBlocks = field(default_factory=ScriptedBlocks)
    count: int = 0

    def job(self, project: str = "2012.1.00357.S", mous: str = "uid___A002_X788a57_X29") -> Job:
        """The next one."""
        self.count += 1
        return Job.parse(project, mous, "15270", f"{self.count:032x}")

    async def stage(self, job: Job) -> Told:
        """Run it to its end."""
        async with self.running(job) as run:
            await run.task
        return run.told

    @asynccontextmanager
    async def running(self, job: Job) -> AsyncIterator[Running]:
        """A run, and all that it told afterwards."""
        output = self.folder / f"{job.token}.out"
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        teller = Teller(descriptor, terminal=False)
        task = asyncio.ensure_future(stage(job, self.site, self.cluster, self.blocks, teller))
        run = Running(task, output)
        try:
            yield run
        finally:
            if not task.done():
                task.cancel()
                await task
            assert teller.close(10)
            os.close(descriptor)
        run.told = Told(job, task.result(), output.read_bytes(), self.site.web_root / job.token)

    def left(self) -> list[str]:
        """Working directories on the node."""
        return [path.name for path in self.cluster.folder.iterdir()]


@dataclass
class Told:
    """What a run told, and left."""

    job: Job
    succeeded: bool
    output: bytes
    directory: Path

    @property
    def lines(self) -> list[str]:
        """Of the transcript."""
        return self.output.decode().split("\n")[:-1]

    @property
    def outcome(self) -> Outcome:
        """As the console reads it."""
        transcript = Transcript(self.job.project, self.job.mous, self.job.ticket, [URL])
        transcript.feed(self.output)
        transcript.close()
        return transcript.outcome(0 if self.succeeded else 1)

    def failed_once(self, *, work: bool) -> list[str]:
        """It has failed with one failure block; the lines above it."""
        assert not self.succeeded
        assert isinstance(self.outcome, Failed)
        assert self.outcome.directory == str(self.directory)
        assert (self.outcome.workdir is not None) == work
        block = 2 if work else 1
        assert self.lines[-block].startswith("Failed. Please investigate  ")
        assert sum(line.startswith("Failed. Please") for line in self.lines) == 1
        assert not self.directory.exists() or stat.S_IMODE(self.directory.stat().st_mode) == 0o700
        return self.lines[:-block]

    def served(self, *blocks: str) -> None:
        """It has succeeded with exactly these tars, and everybody may read them."""
        assert self.succeeded
        assert self.outcome == Succeeded(f"{URL}/{self.job.token}", 28)
        names = {f"{block}{TAR}" for block in blocks}
        found = {path.name: path for path in self.directory.iterdir()}
        assert set(found) == names | {"_README.txt", "SHA256SUMS", "stagecalms.log"}
        assert stat.S_IMODE(self.directory.stat().st_mode) == 0o755
        assert {stat.S_IMODE(path.stat().st_mode) for path in found.values()} == {0o644}
        sums = {name: hashlib.sha256(found[name].read_bytes()).hexdigest() for name in names}
        listed = (self.directory / "SHA256SUMS").read_text().splitlines()
        assert listed == [f"{sums[name]}  {name}" for name in sorted(sums)]
        assert self.output.startswith((self.directory / "stagecalms.log").read_bytes())


@dataclass
class Running:
    """A run under way."""

    task: asyncio.Future[bool]
    output: Path
    told: Told = field(init=False)

    async def says(self, words: bytes) -> None:
        """Wait until it has told this."""
        async with asyncio.timeout(20):
            while words not in self.output.read_bytes():
                await asyncio.sleep(0.01)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """One with a web root, and a node."""
    for name in ("web", "node", "home"):
        (tmp_path / name).mkdir()
    site = Site(
        root=tmp_path / "home" / ".aogconsole",
        slots=2,
        command="stagecalms-of-this-test.sh",
        days=28,
        web_root=tmp_path / "web",
        url=URL,
        node_user="arcproc",
        workdir=PurePosixPath("/opsw/work/pipeproc/autopipeline/tmp"),
        calibrator="calibrate",
        rhel5_calibrator="calibrate-old",
        rhel5_before="2012",
        patience=5.0,
    )
    return Host(tmp_path, site, ScriptedCluster(tmp_path / "node"))


def constant(line: str) -> str:
    """A transcript's line without what varies from run to run."""
    for pattern, name in (
        (r"[0-9a-f]{32}", "TOKEN"),
        (r"\S*WORK[0-9]+", "WORK"),
        (r"(sent|received|is) +[0-9]+(\.[0-9]+)?", r"\1 N"),
        (r"[0-9.]+ bytes/sec", "N bytes/sec"),
        (r"from .* UTC 20[0-9]{2}", "from DATE"),
        (r"investigate  \S+/", "investigate  WEB/"),
        (r"uid://\S+", "MOUS"),
    ):
        line = re.sub(pattern, name, line)
    return line


async def test_success_as_in_the_procedure(host: Host) -> None:
    """The procedure's transcript, line by line; between its lines only what the calibrator says."""
    told = await host.stage(host.job())
    expected = [constant(line) for line in (CORPUS / "success.txt").read_text().split("\n")[:-1]]
    at = expected.index("Copying over the generated MSs ...")
    expected[at:at] = host.cluster.log.decode().splitlines()
    assert [constant(line) for line in told.lines] == expected
    told.served(BLOCK)
    assert host.left() == []
    assert list((host.site.root / "stagecalms").glob("*.json")) == []


async def test_a_sweep_that_takes_long_holds_nobody_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed run left is much, or its node hangs: the next begins, completes, and leaves the rest to others."""
    ended = asyncio.Event()

    async def slow(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(staging, "sweep", slow)
    monkeypatch.setattr(staging, "SWEEP_SECONDS", 0.01)
    told = await host.stage(host.job())
    assert told.succeeded
    await ended.wait()


async def test_failure_as_in_the_procedure(host: Host) -> None:
    """The calibrator fails: the procedure's two lines end the transcript, both directories stay."""
    host.cluster.log, host.cluster.status = b"ERROR: x.ms.split.cal was not created.", 3
    told = await host.stage(host.job())
    above = told.failed_once(work=True)
    expected = (CORPUS / "failure.txt").read_text().split("\n")[:-1]
    assert [constant(line) for line in told.lines[-2:]] == [constant(line) for line in expected]
    assert above[-2:] == [
        "ERROR: x.ms.split.cal was not created.",
        "ERROR: the generation on arcp9.hq.eso.org ended with exit status 3: see what it said above",
    ]
    assert len(host.left()) == 1
    assert host.cluster.ended
    assert (told.directory / "stagecalms.log").read_bytes() == told.output


async def test_an_old_project(host: Host) -> None:
    """The RHEL5 line, and the calibrator of those nodes."""
    told = await host.stage(host.job("2011.0.00010.S"))
    told.served(BLOCK)
    assert told.lines[5] == "Old project, using RHEL5 build of CASA."
    assert host.cluster.generation
    assert host.cluster.generation.calibrator == "calibrate-old"


async def test_a_block_that_has_not_passed_is_left_out(host: Host) -> None:
    """It is told, is no word of the calibrator, and stands in the README."""
    host.blocks.rows = [(BLOCK, "Pass"), (OTHER, "SemiPass")]
    told = await host.stage(host.job())
    told.served(BLOCK)
    assert f"EB {OTHER} is left out: its QA0 status is SemiPass" in told.lines
    assert host.cluster.generation
    assert host.cluster.generation.blocks == (BLOCK,)
    assert OTHER in (told.directory / "_README.txt").read_text()


@pytest.mark.parametrize("rows", [[], [(BLOCK, "SemiPass")]])
async def test_nothing_to_calibrate(host: Host, rows: list[tuple[str, str]]) -> None:
    """No execution block, or none that has passed: failed, nothing was begun."""
    host.blocks.rows = rows
    told = await host.stage(host.job())
    assert told.failed_once(work=True)[-1].startswith("ERROR: MOUS uid___A002_X788a57_X29 cannot be calibrated")
    assert "begin" not in host.cluster.calls


async def test_a_node_s_refusal_is_told_once(host: Host) -> None:
    """Its short reason is the end of the sentence already; a hint that says something else is a line of its own."""
    for error, lines in (
        (NodeRefused("arcp9: has no rsync", "has no rsync"), ["ERROR: arcp9: has no rsync"]),
        (StorageError("the disk is full", "delete something"), ["ERROR: the disk is full", "delete something"]),
    ):

        def fails(call: str, error: Exception = error) -> None:
            if call == "begin":
                raise error

        host.cluster.meanwhile = fails
        told = await host.stage(host.job())
        assert told.failed_once(work=True)[-len(lines) - 1 :] == [words.REGENERATING, *lines]


async def test_no_node(host: Host) -> None:
    """All are dead: a line for each, the failure block without a working directory."""
    host.cluster.dead = True
    told = await host.stage(host.job())
    above = told.failed_once(work=False)
    assert above[1:] == [
        "Looking for cluster node with low load ...",
        "Node arcp9.hq.eso.org is skipped: refused",
        "ERROR: no cluster node could be taken",
    ]
    assert told.directory.is_dir()


async def test_reuse(host: Host) -> None:
    """All tars are staged already: linked with rsync's own lines, nothing is calibrated."""
    host.blocks.rows = [(BLOCK, "Pass"), (OTHER, "")]
    first = await host.stage(host.job())
    first.served(BLOCK, OTHER)
    host.cluster.calls.clear()
    second = await host.stage(host.job())
    second.served(BLOCK, OTHER)
    assert "begin" not in host.cluster.calls
    at = second.lines.index("Checking for pre-existing MSs for the following EBs ...")
    lines = [constant(line) for line in second.lines[at + 1 : -4]]
    assert lines == [
        BLOCK,
        OTHER,
        f"MS for {BLOCK} was found among the already staged MSs.",
        f"MS for {OTHER} was found among the already staged MSs.",
        "All of the needed MSs were found among the already staged MSs.",
        "Copying over the generated MSs ...",
        "sending incremental file list",
        f"{BLOCK}{TAR}",
        f"{OTHER}{TAR}",
        "",
        "sent N bytes  received N bytes  N bytes/sec",
        "total size is N  speedup is N",
        "Deleting redundant logs ...",
        "Deleting temporary work directory ...",
    ]
    for block in (BLOCK, OTHER):
        assert (second.directory / f"{block}{TAR}").samefile(first.directory / f"{block}{TAR}")
    assert host.left() == []


async def test_a_staged_tar_that_is_damaged_is_not_used(host: Host) -> None:
    """Its checksum is not the one noted beside it: generated anew."""
    first = await host.stage(host.job())
    (first.directory / f"{BLOCK}{TAR}").write_bytes(b"damaged")
    second = await host.stage(host.job())
    assert f"MS for {BLOCK} was not found among the already staged MSs. Will not search further ..." in second.lines
    second.served(BLOCK)


def closed(directory: Path) -> None:
    """Not served."""
    directory.chmod(0o700)


def linked(directory: Path) -> None:
    """A link of such a name."""
    aside = directory.with_name("aside")
    directory.rename(aside)
    directory.symlink_to(aside)


def named(directory: Path) -> None:
    """No staging directory by its name."""
    directory.rename(directory.with_name("somewhere"))


def tar_linked(directory: Path) -> None:
    """The tar is a link to elsewhere."""
    tar = directory / f"{BLOCK}{TAR}"
    tar.rename(directory.parent / "elsewhere.tar")
    tar.symlink_to(directory.parent / "elsewhere.tar")


def emptied(directory: Path) -> None:
    """The tar is empty."""
    (directory / f"{BLOCK}{TAR}").write_bytes(b"")


@pytest.mark.parametrize("change", [closed, linked, named, tar_linked, emptied])
async def test_what_is_not_reused(host: Host, change: Callable[[Path], None]) -> None:
    """Only whole tars of ours, in directories of ours that are served."""
    first = await host.stage(host.job())
    change(first.directory)
    host.cluster.calls.clear()
    (await host.stage(host.job())).served(BLOCK)
    assert "begin" in host.cluster.calls


def packed(tmp_path: Path) -> bytes:
    """A tar of two files."""
    for name in ("table.dat", "table.f0"):
        (tmp_path / name).write_bytes(b"a measurement set" * 5_000)
    tar = tmp_path / "a.tar"
    subprocess.run(["tar", "-C", tmp_path, "-cf", tar, "table.dat", "table.f0"], check=True)
    return tar.read_bytes()


@pytest.mark.parametrize("left", [None, 172_032, 86_016, 90_000, 1_000, 100, "zeros", "noise"])
async def test_a_tar_without_a_checksum_must_have_its_end(
    host: Host, tmp_path: Path, left: int | Literal["zeros", "noise"] | None
) -> None:
    """One of a former command: cut between its files or within one, empty or none, it is generated anew."""
    whole = packed(tmp_path)
    first = await host.stage(host.job())
    (first.directory / "SHA256SUMS").unlink()
    content = {"zeros": bytes(10_240), "noise": b"\xff" * 10_240}[left] if isinstance(left, str) else whole[:left]
    tar = first.directory / f"{BLOCK}{TAR}"
    tar.write_bytes(content)
    host.cluster.calls.clear()
    second = await host.stage(host.job())
    second.served(BLOCK)
    assert ("begin" in host.cluster.calls) == (left is not None)
    assert (second.directory / tar.name).samefile(tar) == (left is None)


async def test_two_at_once_share_one_generation(host: Host) -> None:
    """The second waits for the first, and links its tars."""
    host.cluster.hold = asyncio.Event()
    async with host.running(host.job()) as first:
        await first.says(b"results in current directory")
        async with host.running(host.job()) as second:
            await second.says(b"Another stagecalms is staging MOUS")
            host.cluster.hold.set()
            assert await first.task
            assert await second.task
    first.told.served(BLOCK)
    second.told.served(BLOCK)
    assert host.cluster.calls.count("begin") == 1


@pytest.mark.parametrize("cuts", [[0], [14, 14, 35], [21, 999]])
async def test_a_cut_log_is_read_on(host: Host, cuts: list[int]) -> None:
    """No byte of the calibrator's is lost or told twice; the worker is begun once."""
    host.cluster.cuts = list(cuts)
    told = await host.stage(host.job())
    told.served(BLOCK)
    said = re.sub(rb"Connection to node \S+ lost: trying again \.\.\.\n", b"", told.output)
    said = said.replace(b"\n\n", b"\n").replace(b"\n", b"")
    assert host.cluster.log.replace(b"\n", b"") in said
    assert b"Connection to node arcp9.hq.eso.org lost" in told.output
    assert host.cluster.calls.count("begin") == 1


async def test_a_cut_copy_is_resumed(host: Host) -> None:
    """What came before the cut is not sent again."""
    host.cluster.cuts = [10_000, 100, 400_000]  # of the log, and of two copies
    told = await host.stage(host.job())
    told.served(BLOCK)
    assert host.cluster.calls.count("fetch") == 3
    assert host.cluster.fetched == len(host.cluster.content) + len(BLOCK)


@pytest.mark.parametrize("name", ["begin", "follow", "state", "packed", "fetch"])
async def test_a_node_that_stays_away(host: Host, name: str) -> None:
    """Beyond patience the run has failed, whatever was asked; the working directory stays."""
    host.site = replace(host.site, patience=0.3)

    def meanwhile(call: str) -> None:
        if call in (name, "end"):
            raise LinkCut("no answer")

    host.cluster.meanwhile = meanwhile
    told = await host.stage(host.job())
    assert told.failed_once(work=True)[-1] == "ERROR: node arcp9.hq.eso.org was not reached for 0.3 s: no answer"
    assert host.cluster.calls.count(name) >= 2
    (record,) = Records(host.site.root).abandoned()
    assert record.failed
    record.close()


async def test_a_worker_that_is_gone(host: Host) -> None:
    """Killed, or its node restarted: failed, at once."""
    host.cluster.lost = True
    told = await host.stage(host.job())
    assert "is gone" in told.failed_once(work=True)[-1]


async def test_a_tar_too_few(host: Host) -> None:
    """The worker ended well, but a tar is missing."""
    host.blocks.rows = [(BLOCK, ""), (OTHER, "")]

    def meanwhile(call: str) -> None:
        if call == "packed":
            next(host.cluster.folder.glob(f"WORK*/{OTHER}{TAR}")).unlink()

    host.cluster.meanwhile = meanwhile
    told = await host.stage(host.job())
    assert told.failed_once(work=True)[-1] == f"ERROR: the generation left no {OTHER}{TAR}"


async def test_a_wrong_copy_is_fetched_once_more(host: Host) -> None:
    """... and the second is served when it is right."""
    host.cluster.spoil = 1
    told = await host.stage(host.job())
    told.served(BLOCK)
    assert f"Checksum of {BLOCK}{TAR} is wrong: copying it again ..." in told.lines


async def test_a_copy_that_is_wrong_twice(host: Host) -> None:
    """Never served."""
    host.cluster.spoil = 2
    told = await host.stage(host.job())
    assert told.failed_once(work=True)[-1] == f"ERROR: {BLOCK}{TAR} arrived with a wrong checksum, twice"


async def test_a_directory_that_cannot_be_deleted(host: Host) -> None:
    """All was copied: the run completes, and its record remains for the next sweep."""

    def meanwhile(call: str) -> None:
        if call == "remove":
            raise LinkCut("no answer")

    host.cluster.meanwhile = meanwhile
    told = await host.stage(host.job())
    told.served(BLOCK)
    assert len(host.left()) == 1
    host.cluster.meanwhile = lambda call: None
    host.blocks.rows = [(OTHER, "")]
    (await host.stage(host.job())).served(OTHER)
    assert host.left() == []
    assert told.directory.is_dir()


async def test_a_record_that_cannot_be_forgotten(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """It is served and told: no failure block below its completion block."""

    def meanwhile(call: str) -> None:
        if call == "remove":
            shutil.rmtree(host.site.root / "stagecalms")

    host.cluster.meanwhile = meanwhile
    (await host.stage(host.job())).served(BLOCK)
    assert "record stays until the next stagecalms" in capsys.readouterr().err


@pytest.mark.parametrize("error", [NodeRefused("busy"), OSError(2, "no ssh"), TimeoutError()])
async def test_a_removal_that_fails(host: Host, error: Exception) -> None:
    """All was copied: it completes, whatever stops the removal."""

    def meanwhile(call: str) -> None:
        if call == "remove":
            raise error

    host.cluster.meanwhile = meanwhile
    told = await host.stage(host.job())
    told.served(BLOCK)
    assert told.lines[-5].startswith("This is left to the next stagecalms: ")


@pytest.mark.parametrize("name", ["place", "begin", "follow", "state", "packed", "fetch"])
async def test_told_to_stop(host: Host, name: str) -> None:
    """Wherever it is: the worker is ended, one failure block, nothing served; further signals change nothing."""
    reached = asyncio.Event()

    def meanwhile(call: str) -> None:
        if call == name:
            reached.set()
            asyncio.get_running_loop().call_soon(task.cancel)
        if call in ("end", "forget"):
            task.cancel()

    host.cluster.meanwhile = meanwhile
    host.cluster.hold = asyncio.Event()
    if name in ("state", "packed", "fetch"):
        host.cluster.hold.set()
    async with host.running(host.job()) as run:
        task = run.task
        async with asyncio.timeout(10):
            await reached.wait()
            assert await task is False
    # a call that does not wait is over before the signal is heard
    placed = name != "place" or "begin" in host.cluster.calls or host.left() != []
    above = run.told.failed_once(work=placed)
    assert "ERROR: it was told to stop" in above
    assert host.cluster.ended or not placed


@pytest.mark.parametrize("error", [NodeRefused("it cannot"), OSError(28, "No space left on device"), KeyError("x")])
@pytest.mark.parametrize("name", ["place", "begin", "follow", "packed", "fetch"])
async def test_any_fault_at_any_step(
    host: Host, name: str, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    """One failure block; a traceback of what nobody foresaw goes to standard error."""

    def meanwhile(call: str) -> None:
        if call == name:
            raise error

    host.cluster.meanwhile = meanwhile
    told = await host.stage(host.job())
    above = told.failed_once(work=name != "place")
    assert any(line.startswith("ERROR: ") for line in above)
    assert "Traceback" not in told.output.decode()
    assert ("Traceback" in capsys.readouterr().err) == isinstance(error, KeyError)


async def test_an_archive_that_is_down(host: Host) -> None:
    """The failure block, with the archive's sentence."""

    class Down(ScriptedBlocks):
        async def of(self, mous: object) -> list[object]:  # type: ignore[override]
            raise ArchiveError("The archive does not answer.", "try later")

    host.blocks = Down()
    told = await host.stage(host.job())
    assert told.failed_once(work=True)[-2:] == ["ERROR: The archive does not answer.", "try later"]


async def test_a_web_root_that_is_not_there(host: Host) -> None:
    """The failure block all the same."""
    host.site.web_root.rmdir()
    told = await host.stage(host.job())
    (line, hint) = told.failed_once(work=False)
    assert line.startswith("ERROR: the staging directory ")
    assert hint == "see stagecalms.web_root"


async def test_a_umask_changes_nothing(host: Host) -> None:
    """Whatever the login's: served means readable for all, and not before."""
    before = os.umask(0o077)
    try:
        (await host.stage(host.job())).served(BLOCK)
        os.umask(0)
        host.cluster.status = 1
        host.blocks.rows = [(OTHER, "")]
        (await host.stage(host.job())).failed_once(work=True)
    finally:
        os.umask(before)


async def test_what_a_person_puts_there_stays(host: Host) -> None:
    """A `.donotremove` placed while it was staged; what rsync left goes."""
    job = host.job()

    def meanwhile(call: str) -> None:
        if call == "fetch":
            for name in (".donotremove", f".{BLOCK}{TAR}.x8Yz01"):
                (host.site.web_root / job.token / name).touch()

    host.cluster.meanwhile = meanwhile
    told = await host.stage(job)
    assert told.succeeded
    kept = told.directory / ".donotremove"
    kept.unlink()
    told.served(BLOCK)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make other accounts' files")
async def test_what_another_account_puts_there_stays_as_it_is(host: Host) -> None:
    """Such as a `.donotremove` of root: its mode is not ours to change, and the run completes."""
    job = host.job()
    mark = host.site.web_root / job.token / ".donotremove"

    def meanwhile(call: str) -> None:
        if call == "fetch":
            mark.touch(0o600)
            os.chown(mark, 65534, 65534)

    host.cluster.meanwhile = meanwhile
    assert (await host.stage(job)).succeeded
    assert stat.S_IMODE(mark.stat().st_mode) == 0o600


async def test_a_file_that_cannot_be_settled_is_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the failure's words; the working directory is still there."""

    def refused(descriptor: int, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refused)
    told = await host.stage(host.job())
    why = f"ERROR: Operation not permitted ({told.directory}/SHA256SUMS)"
    assert told.failed_once(work=True)[-1] == why
    assert len(host.left()) == 1


async def test_all_is_on_the_disk_before_the_working_directory_goes(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the only other copy of the tars."""
    synced, fsync = set[str](), os.fsync

    def noting(descriptor: int) -> None:
        synced.add(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def meanwhile(call: str) -> None:
        if call == "remove":
            at_removal.update(synced)

    at_removal = set[str]()
    monkeypatch.setattr(os, "fsync", noting)
    host.cluster.meanwhile = meanwhile
    told = await host.stage(host.job())
    told.served(BLOCK)
    assert {f"{BLOCK}{TAR}", "_README.txt", "SHA256SUMS", told.job.token} <= at_removal


async def test_a_working_directory_that_was_removed_is_not_told_to_stay(host: Host) -> None:
    """The web root breaks after that."""
    job = host.job()

    def meanwhile(call: str) -> None:
        if call == "remove":
            shutil.rmtree(host.site.web_root / job.token)

    host.cluster.meanwhile = meanwhile
    told = await host.stage(job)
    told.failed_once(work=False)
    assert host.left() == []
    (record,) = Records(host.site.root).abandoned()
    assert record.failed
    assert record.works == ()
    record.close()


async def test_the_end_of_a_log_that_never_comes(host: Host) -> None:
    """The worker has ended, and its log says less than was promised: its status counts."""
    whole = host.cluster.log

    def meanwhile(call: str) -> None:
        host.cluster.log = whole + b"?" if call == "state" else whole

    host.cluster.meanwhile = meanwhile
    (await host.stage(host.job())).served(BLOCK)


async def test_hostile_bytes_pass_unchanged(host: Host) -> None:
    """What the calibrator says reaches a file as it is, and the transcript's reader is not misled by it."""
    host.cluster.log = bytes(range(256)) * 20 + b"\nStaging of calibrated MS(s) is near\r\xff no end of line"
    told = await host.stage(host.job())
    told.served(BLOCK)
    assert host.cluster.log + b"\nCopying over" in told.output


async def test_a_broken_variant_is_caught(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow that opens the directory before its tars are there does not pass `served`."""
    from aogconsole.stagecalms import served

    monkeypatch.setattr(served, "settle", lambda directory: [tar.unlink() for tar in directory.glob(f"*{TAR}")])
    told = await host.stage(host.job())
    with pytest.raises(AssertionError):
        told.served(BLOCK)
