"""The staging command's guards: whatever is killed, cut or full, a staging directory is complete or not served.

And after the next start no process and no directory of a killed run is left, here or on a node. Real OpenSSH and rsync,
and a calibrator that writes real MeasurementSets. AOG_KILLS says how often each guard is tried, at random moments
(default once); AOG_SEED repeats the moments, which are printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from aogconsole.stagecalms import words
from tests.support.calibrating import Calibrator
from tests.support.nodes import NODES, ClusterNode, ClusterSite
from tests.support.proxy import TcpProxy
from tests.support.stagings import COMMAND, Ended, Running, StagingHost, mous, seen_by

KILLS = int(os.environ.get("AOG_KILLS", "1"))
SEED = int(os.environ.get("AOG_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
LINES = 27
"""Of a transcript with our calibrator's lines."""
NUMBERS = count(1)
NOT_DELETED = words.not_deleted("").rstrip(": ")
pytestmark = pytest.mark.timeout(120 + 30 * KILLS)


@dataclass(frozen=True)
class Moment:
    """After so many lines of a transcript, and so many seconds more."""

    number: int
    line: int
    seconds: float

    async def of(self, running: Running) -> None:
        """Wait for it."""
        await running.reaches(self.line)
        await asyncio.sleep(self.seconds)


def moments(guard: str, times: int = KILLS) -> Iterator[Moment]:
    """Random ones, printed with what repeats them."""
    chosen = random.Random(f"{SEED} {guard}")
    for number in range(times):
        line = chosen.randrange(LINES)
        moment = Moment(number, line, chosen.random() ** 2 * (0.7 if line == 0 else 0.3))
        print(f"AOG_SEED={SEED} {guard} {number}: after line {line} and {moment.seconds:.3f} s", flush=True)
        yield moment


HostMaker = Callable[..., StagingHost]


@pytest.fixture
def host_of() -> Iterator[HostMaker]:
    """A maker of staging hosts: `host_of(cluster_site, patience=2)`; all are ended with the test."""
    with contextlib.ExitStack() as ends:

        def make(site: ClusterSite, **changes: Any) -> StagingHost:
            calibrator = Calibrator(site.folder / "calibrator")
            calibrator.order(megabytes=2, pace=0.15)
            host = StagingHost(site.folder / "staging", site, calibrator, **changes)
            ends.callback(host.close)
            return host

        yield make


# -- two requests for one MOUS -----------------------------------------------------------------------------------------


async def test_two_requests_for_one_mous_share_one_generation(cluster_site: ClusterSite, host_of: HostMaker) -> None:
    """The second comes at any moment of the first, or after it."""
    host = host_of(cluster_site)
    for moment in moments("shared"):
        uid = mous(next(NUMBERS))
        first = await host.start(uid)
        await moment.of(first)
        second = await host.start(uid)
        for ended in await asyncio.gather(first.end(), second.end()):
            assert ended.completed, str(ended)
            host.check(ended, uid)
        assert len(host.calibrator.calls(uid)) == 1
        await host.check_swept()


async def test_whoever_waits_goes_on_when_the_other_is_killed(cluster_site: ClusterSite, host_of: HostMaker) -> None:
    """The second finds what the first has staged, or does it itself."""
    host = host_of(cluster_site)
    for moment in moments("shared and killed"):
        uid = mous(next(NUMBERS))
        first = await host.start(uid)
        await first.prints("will be accessible")
        second = await host.start(uid)
        await moment.of(first)
        first.kill()
        killed, ended = await asyncio.gather(first.end(), second.end())
        assert ended.completed, str(ended)
        host.check(killed, uid)
        host.check(ended, uid)
        await after(host)


# -- killed ------------------------------------------------------------------------------------------------------------


async def test_a_killed_stagecalms(cluster_site: ClusterSite, host_of: HostMaker) -> None:
    """Then the same request again."""
    host = host_of(cluster_site)
    for moment in moments("stagecalms killed"):
        uid = mous(next(NUMBERS))
        running = await host.start(uid)
        await moment.of(running)
        running.kill()
        host.check(await running.end(), uid)
        again = await host.run(uid)
        assert again.completed, str(again)
        host.check(again, uid)
        await host.check_swept()


async def test_a_killed_node(cluster_site: ClusterSite, host_of: HostMaker) -> None:
    """It stays dead, or comes back within the patience: without the worker."""
    host = host_of(cluster_site, nodes=NODES[:1], patience=2)
    node, failed = cluster_site.nodes["arcp1"], list[Ended]()
    for moment in moments("node killed"):
        uid = mous(next(NUMBERS))
        running = await host.start(uid)
        await moment.of(running)
        await asyncio.to_thread(node.kill)
        if moment.number % 2:
            await asyncio.to_thread(node.start)
        ended = await running.end()
        host.check(ended, uid)
        failed.append(ended)
        if not moment.number % 2:
            await asyncio.to_thread(node.start)
        await after(host, failed)


# -- cut links ---------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def link(site: ClusterSite, name: str = "arcp1") -> AsyncIterator[TcpProxy]:
    """A proxy on the way to a node."""
    node = site.nodes[name]
    async with TcpProxy(node.port, node.address) as proxy:
        site.route(name, "127.0.0.1", proxy.port)
        yield proxy
        site.route(name)


async def test_a_link_that_is_cut_and_comes_back(cluster_site: ClusterSite, host_of: HostMaker) -> None:
    """Reset, frozen for a while, or frozen and then reset, up to three times: it goes on."""
    host = host_of(cluster_site, nodes=NODES[:1])
    chosen = random.Random(f"{SEED} kinds")
    async with link(cluster_site) as proxy:
        for moment in moments("link cut"):
            uid = mous(next(NUMBERS))
            running = await host.start(uid)
            await running.prints("Working as")
            await moment.of(running)
            for _ in range(chosen.randrange(1, 4)):
                if chosen.random() < 0.6:
                    proxy.freeze()
                    await asyncio.sleep(chosen.random())
                if chosen.random() < 0.7:
                    proxy.reset()
                proxy.thaw()
                await asyncio.sleep(chosen.random() * 0.4)
            ended = await running.end()
            assert ended.completed, str(ended)
            host.check(ended, uid)
            assert len(host.calibrator.calls(uid)) == 1
            if NOT_DELETED in ended.out:  # cut in the last of its acts, when all was copied
                await after(host)
            await host.check_swept()


async def test_a_link_that_stays_away(cluster_site: ClusterSite, host_of: HostMaker) -> None:
    """Refused or silent for longer than the patience: failed, and what goes on there is ended by the next start."""
    host = host_of(cluster_site, nodes=NODES[:1], patience=2)
    failed = list[Ended]()
    for moment in moments("link away"):
        uid = mous(next(NUMBERS))
        async with link(cluster_site) as proxy:
            running = await host.start(uid)
            await moment.of(running)
            if moment.number % 5 == 4:
                proxy.freeze()
            else:
                cluster_site.route("arcp1", "127.0.0.1", 1)
                proxy.reset()
            ended = await running.end()
        host.check(ended, uid)
        failed.append(ended)
        await after(host, failed)


# -- full disks --------------------------------------------------------------------------------------------------------


@dataclass
class Disk:
    """A small disk, as we see it."""

    folder: Path

    def fill(self, leave: int) -> None:
        """To the last byte but these."""
        with (self.folder / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while (free := self.free() - leave) > 0:
                filler.write(bytes(min(free, 1 << 20)))

    def free(self) -> int:
        """Bytes."""
        state = os.statvfs(self.folder)
        return state.f_bavail * state.f_frsize

    def clear(self) -> None:
        """Make room again."""
        (self.folder / "filler").unlink(missing_ok=True)


def needs_mounts(node: ClusterNode) -> None:
    """Small disks are mounts."""
    if not node.own_mounts:
        pytest.skip("a small disk needs the right to mount one")


async def test_a_full_disk_on_the_node(new_cluster_site: Callable[..., ClusterSite], host_of: HostMaker) -> None:
    """It fills up at any moment; some room may be left, or none."""
    site = new_cluster_site(mounts={"arcp1": "size=24m"})
    needs_mounts(site.nodes["arcp1"])
    host, failed = host_of(site, nodes=NODES[:1]), list[Ended]()
    disk, chosen = Disk(seen_by(site.nodes["arcp1"])), random.Random(f"{SEED} node")
    for moment in moments("node full"):
        uid = mous(next(NUMBERS))
        running = await host.start(uid)
        await moment.of(running)
        disk.fill(leave=chosen.choice([0, 0, 300_000]))
        ended = await running.end()
        disk.clear()
        host.check(ended, uid)
        failed.append(ended)
        await after(host, failed)
        for path in ended.stays:  # as the expert does
            shutil.rmtree(disk.folder / Path(path).name)


@pytest.fixture
def small_web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], int]]:
    """A maker of mount name spaces, each held by a process, in which a folder is a small disk."""
    with contextlib.ExitStack() as ends:

        def make(folder: Path) -> int:
            script = 'mount -t tmpfs -o size=40m,mode=755 none "$1" && echo ready && exec sleep 3600'
            holder = subprocess.Popen(
                ["unshare", "-m", "sh", "-c", script, "sh", str(folder)], stdout=subprocess.PIPE, text=True
            )
            ends.callback(holder.wait)
            ends.callback(holder.kill)
            assert holder.stdout
            assert holder.stdout.readline() == "ready\n"
            return holder.pid

        yield make


async def test_a_full_disk_on_the_staging_host(
    cluster_site: ClusterSite, small_web: Callable[[Path], int], host_of: HostMaker
) -> None:
    """It fills up at any moment; some room may be left, or none."""
    needs_mounts(cluster_site.nodes["arcp1"])
    host, failed = host_of(cluster_site), list[Ended]()
    pid = small_web(host.web_root)
    host.enter, host.seen = ["nsenter", "-m", "-t", str(pid)], Path(f"/proc/{pid}/root{host.web_root}")
    disk, chosen = Disk(host.seen), random.Random(f"{SEED} web")
    for moment in moments("web full"):
        uid = mous(next(NUMBERS))
        running = await host.start(uid)
        await moment.of(running)
        disk.fill(leave=chosen.choice([0, 0, 3_000_000]))
        ended = await running.end()
        disk.clear()
        host.check(ended, uid)
        failed.append(ended)
        await after(host, failed)
        for path in host.directories():  # as retention and the expert do
            shutil.rmtree(path)


async def after(host: StagingHost, failed: list[Ended] | None = None) -> None:
    """The next start is one that goes well, and cleans up."""
    uid = mous(next(NUMBERS))
    ended = await host.run(uid)
    assert ended.completed, str(ended)
    host.check(ended, uid)
    await host.check_swept(failed or ())


# -- the harness itself ------------------------------------------------------------------------------------------------


async def test_a_command_that_serves_too_early_and_does_not_sweep_is_caught(
    cluster_site: ClusterSite, host_of: HostMaker
) -> None:
    """By the same checks as above. The right command then ends a calibrator that hears no SIGTERM."""
    host, uid = host_of(cluster_site), mous(next(NUMBERS))
    host.command = f"""
from aogconsole.stagecalms import served, staging
make = served.make
def early(*words):
    make(*words).chmod(0o755)
async def no_sweep(*words):
    pass
served.make, staging.sweep = early, no_sweep
{COMMAND}
"""
    host.calibrator.order(uid, variant="stubborn")
    running = await host.start(uid)
    await running.prints("calibrating")
    running.kill()
    killed = await running.end()
    with pytest.raises(AssertionError, match=uid):
        host.check(killed, uid)
    shutil.rmtree(host.web_root / str(killed.token))
    other = mous(next(NUMBERS))
    host.check(await host.run(other), other)
    with pytest.raises(AssertionError, match=r"left behind: .*calibrator"):
        await host.check_swept(seconds=0.2)
    host.command = COMMAND
    await after(host)
