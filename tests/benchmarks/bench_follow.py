"""Following a run into its file with milestones read, beside asyncssh reading the same log into nothing.

    python -m tests.benchmarks.bench_follow [MEGABYTES] [ROUNDS]

Prints the best of each over rounds that take turns (whatever else runs only adds time), and ratios. The requirement:
at least 0.9 of asyncssh with its own defaults. The other baselines have our cipher, and our adapter with aogremote, so
that what following adds to the reading is seen too.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncssh

from aogconsole.ids import MousUid, ProjectCode, Ticket
from aogconsole.staging.follow import Follower
from aogconsole.staging.transcript import Milestone, Transcript
from backends.ssh import SshStagingHost
from tests.support.sshd import ACCOUNT, StagingSite, _furnish

JOB = ProjectCode.parse("2012.1.00357.S"), MousUid.parse("uid___A002_X788a57_X29"), Ticket.parse("15270")
WORDS = (
    "INFO",
    "WARN",
    "flagdata:::",
    "applying",
    "gaincal",
    "field",
    "J1924-2914",
    "spw",
    "0:4~123",
    "SNR",
    ">",
    "3.0",
)
SEED = (Path(__file__).parents[1] / "corpora" / "transcripts" / "success.txt").read_text().splitlines(keepends=True)


def write_log(path: Path, megabytes: int) -> int:
    """The procedure's transcript with this much of a calibration's log in its middle; returns its lines."""
    chosen = random.Random(1)
    lines = [
        f"2019-07-17 17:{n // 60 % 60:02}:{n % 60:02} {' '.join(chosen.choices(WORDS, k=10))}\n" for n in range(9999)
    ]
    block = "".join(lines).encode()
    times = megabytes * 1_000_000 // len(block)
    with path.open("wb") as file:
        file.write("".join(SEED[:11]).encode())
        for _ in range(times):
            file.write(block)
        file.write("".join(SEED[11:]).encode())
    path.chmod(0o644)
    return len(SEED) + times * len(lines)


async def into_nothing(pieces: AsyncIterator[bytes], size: int) -> float:
    """Seconds until `size` bytes were read."""
    begun, count = time.perf_counter(), 0
    async for piece in pieces:
        count += len(piece)
        if count == size:
            return time.perf_counter() - begun
    raise AssertionError(f"{count} bytes of {size}")


async def asyncssh_reading(site: StagingSite, path: Path, ciphers: tuple[str, ...]) -> AsyncIterator[bytes]:
    """`cat` of the log, as asyncssh reads it."""
    async with asyncssh.connect(
        "127.0.0.1", site.port, username=ACCOUNT, client_keys=[str(site.key("plain"))],
        known_hosts=str(site.known_hosts), config=None, encryption_algs=ciphers,
    ) as connection:  # fmt: skip
        process = await connection.create_process(f"cat {path}", encoding=None)
        while piece := await process.stdout.read(262144):
            yield piece


async def aogremote_reading(site: StagingSite, token: str) -> AsyncIterator[bytes]:
    """The same log by our adapter and `aogremote log`."""
    host = SshStagingHost(site.settings())
    await host.hello()
    async for piece in host.log(token, 0):
        yield piece


async def following(site: StagingSite, token: str, size: int, lines: int) -> float:
    """Seconds until the whole log is in the file, read, and told."""
    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    host = SshStagingHost(site.settings())
    await host.hello()

    def heard(milestones: tuple[Milestone, ...], received: int, count: int) -> None:
        if received == size and not done.done():
            assert count == lines
            assert milestones[-1].kind == "deletion"
            done.set_result(time.perf_counter())

    transcript = Transcript(*JOB, ("http://almascience.eso.org/arcdistribution/",))
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        await Follower(host, token, Path(folder) / "run.log", transcript, heard).follow()
    await host.close()
    return await done - begun


async def main(megabytes: int, rounds: int) -> None:
    """Measure and print."""
    site = StagingSite(Path(tempfile.mkdtemp(prefix="aog-bench-")))
    _furnish(site, 2)
    site.start()
    try:
        log = site.folder / "log"
        lines = write_log(log, megabytes)
        size = log.stat().st_size
        site.install(f"#!/bin/sh\nexec cat {log}\n")
        host, token = SshStagingHost(site.settings()), secrets.token_hex(16)
        await host.start(token, *JOB)
        while (await host.status(token)).state != "exited":
            await asyncio.sleep(0.1)
        await host.close()
        ways: dict[str, Callable[[], Awaitable[float]]] = {
            "asyncssh into nothing, its defaults": lambda: into_nothing(asyncssh_reading(site, log, ()), size),
            "asyncssh into nothing, our cipher": lambda: into_nothing(
                asyncssh_reading(site, log, ("aes128-gcm@openssh.com",)), size
            ),
            "our adapter into nothing": lambda: into_nothing(aogremote_reading(site, token), size),
            "followed into a file, milestones read": lambda: following(site, token, size, lines),
        }
        took: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                took[name].append(await way())
        report(took, size, lines)
    finally:
        site.close()


def report(took: dict[str, list[float]], size: int, lines: int) -> None:
    """Print rates, and ours over each baseline."""
    best = {name: min(seconds) for name, seconds in took.items()}
    *baselines, ours = best
    print(f"{size / 1e6:.0f} MB, {lines} lines, best of {len(took[ours])}")
    for name, seconds in best.items():
        print(f"{name:40} {size / seconds / 1e6:7.0f} MB/s {lines / seconds:12,.0f} lines/s")
    for name in baselines:
        print(f"ratio to {name:40} {best[name] / best[ours]:.2f}")


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    asyncio.run(main(*(numbers + [400, 5][len(numbers) :])))
