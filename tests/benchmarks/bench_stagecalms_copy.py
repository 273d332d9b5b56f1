"""Copying the tars from the node, checksums included, beside plain rsync of the same tars from the same sshd.

    python -m tests.benchmarks.bench_stagecalms_copy [MEGABYTES] [ROUNDS]

Two tars of real MeasurementSets, copied in turns into new folders: by the staging command (rsync with its options, and
SHA-256 of each tar compared with that of the packing), by rsync alone, and by rsync with the cipher that the staging
command chooses. Ends with 1 when the command is slower than 0.9 of plain rsync, by the medians.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from aogconsole.stagecalms.copying import copy
from aogconsole.stagecalms.job import Work
from aogconsole.stagecalms.nodeside import TARS
from aogconsole.stagecalms.patience import Patience
from backends.cluster import SshCluster
from backends.cluster_ports import Packed
from tests.benchmarks.calibrated import generate
from tests.support.nodes import ACCOUNT, ClusterSite, clusters

REQUIRED = 0.9
Way = Callable[[Path], Awaitable[None]]


def ours(cluster: SshCluster, work: Work, packed: Sequence[Packed]) -> Way:
    """As the staging command does."""

    async def pass_on(_data: bytes) -> None:
        pass

    async def way(into: Path) -> None:
        await copy(cluster, work, packed, into, Patience(work.node, 10, print), pass_on, print)

    return way


def plain(site: ClusterSite, work: Work, packed: Sequence[Packed], *options: str) -> Way:
    """As anybody does."""
    ssh = shlex.join(["ssh", "-F", str(site.ssh_config), "-l", ACCOUNT, *options])
    first, *others = [f"{work.directory}/{TARS}/{tar.name}" for tar in packed]

    async def way(into: Path) -> None:
        sources = [f"{work.node.host}:{first}", *(f":{other}" for other in others)]
        process = await asyncio.create_subprocess_exec("rsync", "-e", ssh, *sources, f"{into}/")
        assert await process.wait() == 0

    return way


async def rate(way: Way, size: int, folder: Path) -> float:
    """MB/s of one copy into a new folder; what is written back later is no part of it."""
    into = folder / "into"
    into.mkdir()
    os.sync()
    begun = time.perf_counter()
    await way(into)
    seconds = time.perf_counter() - begun
    assert sum(tar.stat().st_size for tar in into.glob("*.tar")) == size
    shutil.rmtree(into)
    return size / 1e6 / seconds


async def main(megabytes: int, rounds: int) -> int:
    """Measure and print."""
    with clusters() as make, tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        site = make()
        cluster = SshCluster(site.settings())
        work, packed = await generate(site, cluster, 2, megabytes // 2)
        size = sum(tar.size for tar in packed)
        ways = {
            "stagecalms, with checksums": ours(cluster, work, packed),
            "rsync": plain(site, work, packed),
            "rsync, aes128-gcm": plain(site, work, packed, "-c", "aes128-gcm@openssh.com"),
        }
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for one, way in ways.items():
                rates[one].append(await rate(way, size, Path(name)))
    print(f"{len(packed)} tars, {size / 1e6:.0f} MB, {rounds} rounds in turns")
    for one, measured in rates.items():
        print(f"{one:28} {statistics.median(measured):6.0f} MB/s  ({min(measured):.0f} to {max(measured):.0f})")
    mine, *others = ([*measured] for measured in rates.values())
    for one, measured in zip(list(ways)[1:], others, strict=True):
        each = ", ".join(f"{a / b:.2f}" for a, b in zip(mine, measured, strict=True))
        print(f"beside {one}: {statistics.median(mine) / statistics.median(measured):.2f} (rounds {each})")
    return 0 if statistics.median(mine) >= REQUIRED * statistics.median(others[0]) else 1


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:3]]
    sys.exit(asyncio.run(main(*(given + [1000, 5][len(given) :]))))
