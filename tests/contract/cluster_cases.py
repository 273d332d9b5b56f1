"""What every Cluster owes, as functions of a bench: each engine is tried with all of them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shlex
import signal
import tarfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from aogconsole.ids import MousUid, ProjectCode
from aogconsole.stagecalms.job import MS, TAR, Generation, Work
from backends.cluster import SshCluster
from backends.cluster_ports import Cluster, NodeRefused, WorkState
from tests.support.nodes import ClusterSite, new_token

PROJECT = ProjectCode.parse("2012.1.00357.S")
MOUS = MousUid.parse("uid___A002_X788a57_X29")
BLOCKS = ("uid___A002_X7e4988_X1f2", "uid___A002_X7e4988_X3d7")
SUMMARY = rb"""receiving incremental file list
uid___A002_X7e4988_X1f2\.ms\.split\.cal\.tar
uid___A002_X7e4988_X3d7\.ms\.split\.cal\.tar

sent [0-9]+ bytes  received [0-9]+ bytes  [0-9.]+ bytes/sec
total size is [0-9]+  speedup is 1\.00
"""
"""As in the seed."""


@dataclass
class Bench:
    """A cluster to try, and its nodes."""

    cluster: Cluster
    site: ClusterSite
    folder: Path
    """For what is fetched."""
    told: list[str] = field(default_factory=list)
    noted: list[Work] = field(default_factory=list)
    """Each directory that was about to be made."""

    @property
    def gate(self) -> Path:
        """What a gated calibrator waits for."""
        return self.site.folder / "gate"

    def generation(self, **environment: object) -> Generation:
        """With the usual calibrator; `environment` is for it: GATE, SIZE, STATUS."""
        assignments = [f"{name}={shlex.quote(str(value))}" for name, value in environment.items()]
        return Generation(" ".join([*assignments, str(self.site.calibrator)]), PROJECT, MOUS, BLOCKS)

    def script(self, text: str) -> Generation:
        """With a calibrator of this shell text; its words are $1 and on."""
        path = self.site.folder / f"calibrator-{new_token()[:8]}"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return Generation(str(path), PROJECT, MOUS, BLOCKS)

    async def place(self, number: int = 11018, token: str | None = None, *, old: bool = False) -> Work | None:
        """Place a run that is called so."""
        directory = self.site.workdir / f"WORK{number}"
        return await self.cluster.place(
            directory, token or new_token(), old=old, tell=self.told.append, making=self.noted.append
        )

    async def placed(self) -> Work:
        """A working directory."""
        work = await self.place()
        assert work, self.told
        return work

    async def begun(self, generation: Generation) -> Work:
        """A worker that was begun."""
        work = await self.placed()
        await self.cluster.begin(work, generation)
        return work

    async def log(self, work: Work, offset: int = 0) -> bytes:
        """The log to its end."""
        return b"".join([piece async for piece in self.cluster.follow(work, offset)])

    async def until(self, work: Work, *states: str) -> WorkState:
        """The state, as soon as it is one of these."""
        while (state := await self.cluster.state(work)).state not in states:
            await asyncio.sleep(0.05)
        return state

    async def fetched(self, work: Work, names: Sequence[str]) -> bytes:
        """Rsync's lines."""
        return b"".join([line async for line in self.cluster.fetch(work, names, self.folder)])

    def inside(self, work: Work) -> Path:
        """The working directory as we see it."""
        return self.site.of(work.node).work / work.directory.name

    def directories(self) -> list[str]:
        """What is in the nodes' folders of working directories."""
        return sorted({name for node in self.site.nodes.values() for name in node.directories()})

    def workers(self) -> list[int]:
        """Processes on the nodes that are no server's."""
        return [pid for node in self.site.nodes.values() for pid in node.workers()]


def bench_of(site: ClusterSite, folder: Path, **changes: object) -> Bench:
    """A bench for these nodes, by ssh; `changes` are of the settings."""
    return Bench(SshCluster(site.settings(**changes)), site, folder)


Case = Callable[[Bench], Awaitable[None]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """One of the cases."""
    CASES[function.__name__] = function
    return function


async def within(seconds: float, reached: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not reached():
            await asyncio.sleep(0.02)


@case
async def whole_way(bench: Bench) -> None:
    """Made, calibrated, packed, fetched, removed; the tars are what was packed, and the MSs go as they are packed."""
    work = await bench.placed()
    assert bench.noted[-1] == work
    assert (await bench.cluster.state(work)).state == "made"
    assert bench.inside(work).stat().st_mode & 0o777 == 0o700
    await bench.cluster.begin(work, bench.generation())
    log = await bench.log(work)
    assert log.startswith(f"calibrator {PROJECT} {MOUS} {' '.join(BLOCKS)}\n".encode())
    assert log.endswith(b"Done. Please find results in current directory.\n")
    assert await bench.cluster.state(work) == WorkState("ended", 0, len(log))
    assert [path.name for path in bench.inside(work).iterdir()] == [".stagecalms"]
    packed = await bench.cluster.packed(work)
    assert [tar.name for tar in packed] == [f"{block}{TAR}" for block in BLOCKS]
    assert re.fullmatch(SUMMARY, await bench.fetched(work, [tar.name for tar in packed]))
    for tar in packed:
        data = (bench.folder / tar.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (tar.size, tar.sha256)
        with tarfile.open(bench.folder / tar.name) as opened:
            assert f"{tar.name.removesuffix('.tar')}/ANTENNA/table.info" in opened.getnames()
    await bench.cluster.remove(work)
    await bench.cluster.remove(work)
    assert (await bench.cluster.state(work)).state == "absent"
    assert (bench.directories(), bench.workers()) == ([], [])


@case
async def another_number(bench: Bench) -> None:
    """A directory of somebody else is left alone, with our mark of another run or without any."""
    first = await bench.placed()
    for node in bench.site.nodes.values():
        for name in ("WORK11018", "WORK11019"):
            (node.work / name).mkdir(exist_ok=True)
    for number in (11018, 11019):
        second = await bench.place(number)
        assert second
        assert second.directory.name not in {"WORK11018", "WORK11019"}
        assert {work.directory.name for work in bench.noted[-2:]} == {f"WORK{number}", second.directory.name}
        await bench.cluster.remove(second)
    assert (await bench.cluster.state(first)).state == "made"
    assert bench.directories() == ["WORK11018", "WORK11019"]


@case
async def begun_once(bench: Bench) -> None:
    """However often and at once it is asked for; and not again after it has ended."""
    work = await bench.placed()
    generation = bench.generation(GATE=bench.gate)
    await asyncio.gather(*(bench.cluster.begin(work, generation) for _ in range(3)))
    bench.gate.touch()
    log = await bench.log(work)
    await bench.cluster.begin(work, generation)
    assert await bench.log(work) == log
    assert log.count(b"calibrator ") == 1


@case
async def passes_the_log_on(bench: Bench) -> None:
    """As it is written, from a byte on, to the last byte; by several at once."""
    work = await bench.begun(bench.generation(GATE=bench.gate))
    pieces = bench.cluster.follow(work, 0)
    first = await anext(pieces)
    assert first.startswith(b"calibrator")
    assert (await bench.cluster.state(work)).state == "running"
    late = asyncio.create_task(bench.log(work, 11))
    bench.gate.touch()
    log = first + b"".join([piece async for piece in pieces])
    assert await late == log[11:]
    assert await bench.log(work, len(log)) == b""
    assert (await bench.cluster.state(work)).log == len(log)


@case
async def big_log(bench: Bench) -> None:
    """Any bytes, as they are."""
    work = await bench.begun(
        bench.script("head -c 3000000 /dev/zero | tr '\\000' '\\377'; printf 'x\\r\\033y'; exit 2")
    )
    log = await bench.log(work)
    assert log == b"\xff" * 3_000_000 + b"x\r\x1by" + b"ERROR: the calibrator ended with status 2.\n"


@case
async def failed_calibrator(bench: Bench) -> None:
    """It says so, and nothing is packed; the directory stays."""
    work = await bench.begun(bench.generation(STATUS=3))
    assert (await bench.log(work)).endswith(b"ERROR: the calibrator ended with status 3.\n")
    state = await bench.cluster.state(work)
    assert (state.state, state.status) == ("ended", 1)
    assert list(await bench.cluster.packed(work)) == []
    assert bench.inside(work).joinpath(f"{BLOCKS[0]}.ms.split.cal").is_dir()


@case
async def missing_ms(bench: Bench) -> None:
    """Each that is not there is named as scriptForPI does; a link or a file is none."""
    work = await bench.begun(bench.script(f"mkdir there; ln -s there {BLOCKS[0]}.ms.split.cal"))
    said = "".join(f"ERROR: {block}.ms.split.cal was not created.\n" for block in BLOCKS)
    assert (await bench.log(work)).decode() == said
    assert (await bench.cluster.state(work)).status == 1


@case
async def empty_ms(bench: Bench) -> None:
    """A directory that holds nothing is no MeasurementSet."""
    work = await bench.begun(bench.script(f"mkdir {BLOCKS[0]}{MS} {BLOCKS[1]}{MS}; touch {BLOCKS[0]}{MS}/.x"))
    assert (await bench.log(work)).decode() == f"ERROR: {BLOCKS[1]}{MS} is empty.\n"
    assert (await bench.cluster.state(work)).status == 1


@case
async def packs_what_may_only_be_read(bench: Bench) -> None:
    """As it is when it was copied from a store with its modes: it is packed, and goes."""
    text = """shift 2
    for block; do
        mkdir "$block.ms.split.cal" "$block.ms.split.cal/ANTENNA"
        echo x >"$block.ms.split.cal/ANTENNA/table.info"
        chmod -R a-w "$block.ms.split.cal"
    done"""
    work = await bench.begun(bench.script(text))
    assert await bench.log(work) == b""
    assert (await bench.cluster.state(work)).status == 0
    assert [tar.name for tar in await bench.cluster.packed(work)] == [f"{block}{TAR}" for block in BLOCKS]
    assert [path.name for path in bench.inside(work).iterdir()] == [".stagecalms"]


@case
async def ended_with_all_it_began(bench: Bench) -> None:
    """A child that left the session and hears no TERM too; and no worker begins afterwards."""
    generation = bench.script(
        "setsid sh -c \"trap '' TERM; echo up; while :; do sleep 0.05; done\" & trap '' TERM; wait"
    )
    work = await bench.begun(generation)
    stream = bench.cluster.follow(work, 0)
    assert (await anext(stream)).startswith(b"up")
    assert len(bench.site.of(work.node).workers()) > 3
    await bench.cluster.end(work)
    rest = b"".join([piece async for piece in stream])
    assert rest.endswith(b"ERROR: the worker was ended.\n")
    state = await bench.cluster.state(work)
    assert (state.state, state.status) == ("ended", 143)
    await within(10, lambda: not bench.workers())
    await bench.cluster.end(work)
    await bench.cluster.remove(work)
    await bench.cluster.end(work)


@case
async def ends_only_its_own(bench: Bench) -> None:
    """The number is another run's now, or was all the time: that one's worker goes on."""
    work = await bench.begun(bench.generation(GATE=bench.gate))
    await bench.cluster.end(Work(work.node, work.directory, new_token()))
    assert (await bench.cluster.state(work)).state == "running"
    bench.gate.touch()
    assert (await bench.log(work)).endswith(b"Done. Please find results in current directory.\n")
    assert (await bench.cluster.state(work)).status == 0


@case
async def ended_without_a_note(bench: Bench) -> None:
    """A worker is ended although its directory can hold nothing more: a full disk, or one that only reads."""
    work = await bench.begun(bench.generation(GATE=bench.gate))
    # root may write anywhere; but nobody writes what is a directory
    (bench.inside(work) / ".stagecalms/ended").mkdir()
    await bench.cluster.end(work)
    await within(10, lambda: not bench.workers())


@case
async def never_begun_after_the_end(bench: Bench) -> None:
    """A start that was under way when the run was ended comes too late."""
    work = await bench.placed()
    await bench.cluster.end(work)
    with pytest.raises(NodeRefused, match="ended"):
        await bench.cluster.begin(work, bench.generation())
    assert bench.workers() == []


@case
async def lost_when_killed(bench: Bench) -> None:
    """A worker that is gone without a word is lost; what it left running is ended."""
    work = await bench.begun(bench.generation(GATE=bench.gate))
    stream = bench.cluster.follow(work, 0)
    assert await anext(stream)
    pid = int((bench.inside(work) / ".stagecalms/pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    assert b"".join([piece async for piece in stream]) == b""
    assert (await bench.cluster.state(work)).state == "lost"
    await bench.cluster.end(work)
    await within(10, lambda: not bench.workers())


@case
async def lost_when_restarted(bench: Bench) -> None:
    """The pid of an earlier boot is nobody's."""
    work = await bench.begun(bench.generation(GATE=bench.gate))
    noted = bench.inside(work) / ".stagecalms/pid"
    right = noted.read_text()
    pid, started, boot, how = right.split("\n")[:4]
    for lines in ([pid, started, boot[::-1], how], [pid, str(int(started) - 1), boot, how]):
        noted.write_text("\n".join(lines) + "\n")
        assert (await bench.cluster.state(work)).state == "lost"
    noted.write_text(right)
    assert (await bench.cluster.state(work)).state == "running"
    await bench.cluster.end(work)


@case
async def removes_only_its_own(bench: Bench) -> None:
    """Nothing without the token, and never through a link."""
    work = await bench.placed()
    (bench.inside(work) / "data").touch()
    stranger = Work(work.node, work.directory, new_token())
    await bench.cluster.remove(stranger)
    assert (await bench.cluster.state(stranger)).state == "absent"
    outside = bench.site.folder / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    link = bench.inside(work).with_name("WORK77777")
    link.symlink_to(bench.inside(work))
    await bench.cluster.remove(Work(work.node, work.directory.with_name("WORK77777"), work.token))
    assert (bench.inside(work) / "data").exists()
    (bench.inside(work) / "far").symlink_to(outside)
    (bench.inside(work) / "shut").mkdir(mode=0o500)
    await bench.cluster.remove(work)
    assert not bench.inside(work).exists()
    assert (outside / "precious").exists()
    assert link.is_symlink()


@case
async def removed_after_what_lingers(bench: Bench) -> None:
    """A server that the calibrator left behind is ended with the directory."""
    text = "setsid sleep 600 >/dev/null 2>&1 & shift 2; for ms; do ms=$ms.ms.split.cal; mkdir $ms; >$ms/table.dat; done"
    work = await bench.begun(bench.script(text))
    await bench.log(work)
    assert (await bench.cluster.state(work)).status == 0
    assert bench.workers()
    await bench.cluster.remove(work)
    assert (bench.directories(), bench.workers()) == ([], [])


@case
async def not_removed_while_it_works(bench: Bench) -> None:
    """Only what has ended is removed."""
    work = await bench.begun(bench.generation(GATE=bench.gate))
    with pytest.raises(NodeRefused, match="still runs"):
        await bench.cluster.remove(work)
    await bench.cluster.end(work)
    await bench.cluster.remove(work)
    assert bench.directories() == []


@case
async def half_made(bench: Bench) -> None:
    """A making that was killed between its steps leaves nothing after the removal, and is made whole by another try."""
    work = await bench.placed()
    for other in bench.site.nodes.values():  # on a busy machine another could be the least loaded now
        if other.node != work.node:
            other.kill()
    _unmake(bench.inside(work), work.token)
    assert await bench.place(11018, work.token) == work
    assert (await bench.cluster.state(work)).state == "made"
    assert bench.directories() == [work.directory.name]
    _unmake(bench.inside(work), work.token)
    await bench.cluster.remove(work)
    assert bench.directories() == []


def _unmake(inside: Path, token: str) -> None:
    """As it is before the last step of the making."""
    hidden = inside.with_name(f".stagecalms-{token}")
    inside.rename(hidden)
    inside.mkdir(mode=0o700)
    with suppress(PermissionError):
        os.chown(inside, hidden.stat().st_uid, hidden.stat().st_gid)


@case
async def no_such_tar(bench: Bench) -> None:
    """Only tars can be asked for."""
    work = await bench.placed()
    for names in (["../token"], [], ["uid___A002_X1_X2.ms.split.cal.tar\n"]):
        with pytest.raises(NodeRefused):
            await bench.fetched(work, names)
