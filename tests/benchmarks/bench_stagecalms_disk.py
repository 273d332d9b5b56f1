"""How much of a node's disk a generation takes at its peak, beside what its MeasurementSets take.

    python -m tests.benchmarks.bench_stagecalms_disk [MEGABYTES]

A calibrator writes MeasurementSets, the worker packs them; one of all the size, and four. As root the node's disk is a
small one of its own with the size that is required, so that taking more fails for certain; its use is read a thousand
times a second. Else the folder is measured as often as that goes. Ends with 1 when 2.1 times the MeasurementSets is
exceeded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from backends.cluster import SshCluster
from tests.benchmarks.calibrated import MOUS, PROJECT, blocks, generate, size_of
from tests.support.calibrating import Calibrator
from tests.support.nodes import NODES, clusters
from tests.support.stagings import seen_by

REQUIRED = 2.1


def size_of_mss(count: int, megabytes: int) -> int:
    """What the MeasurementSets alone take."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        calibrator = Calibrator(folder / "calibrator")
        calibrator.order(megabytes=megabytes)
        work = folder / "work"
        work.mkdir()
        words = [*shlex.split(calibrator.command), str(PROJECT), str(MOUS), *blocks(count)]
        subprocess.run(words, cwd=work, check=True, stdout=subprocess.DEVNULL)
        return size_of(work)


@contextlib.contextmanager
def peak(used: Callable[[], int]) -> Iterator[list[int]]:
    """Looks all the time; the greatest is the list's only member in the end."""
    found, over = [0], threading.Event()

    def look() -> None:
        while not over.is_set():
            found[0] = max(found[0], used())
            time.sleep(0.001)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield found
    finally:
        over.set()
        looking.join()


async def take(count: int, megabytes: int) -> tuple[int, int]:
    """What the MeasurementSets take, and what the whole took at its peak."""
    size = await asyncio.to_thread(size_of_mss, count, megabytes)
    with clusters() as make:
        site = make(NODES[:1], mounts={"arcp1": f"size={int(REQUIRED * size)}"})
        (node,) = site.nodes.values()
        place = seen_by(node)

        def used() -> int:
            if not node.own_mounts:
                return size_of(place)
            state = os.statvfs(place)
            return (state.f_blocks - state.f_bfree) * state.f_frsize

        with peak(used) as found:
            await generate(site, SshCluster(site.settings(nodes=(node.node,))), count, megabytes)
    return size, found[0]


async def main(megabytes: int) -> int:
    """Measure and print."""
    worst = 0.0
    for count in (1, 4):
        size, most = await take(count, megabytes // count)
        worst = max(worst, most / size)
        print(
            f"{count} MS of {size / count / 1e6:.0f} MB: {most / 1e6:.0f} MB at the peak, {most / size:.2f} x the MSs"
        )
    return 0 if worst < REQUIRED else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)))
