"""A run's working directory on a node with tars of real MeasurementSets in it, for the benchmarks of stagecalms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from aogconsole.ids import MousUid, ProjectCode
from aogconsole.stagecalms.job import Generation, Work
from backends.cluster import SshCluster
from backends.cluster_ports import Packed
from tests.support.calibrating import Calibrator
from tests.support.nodes import ClusterSite, new_token

PROJECT, MOUS = ProjectCode.parse("2019.1.00357.S"), MousUid.parse("uid___A001_X133d_X1244")


def blocks(count: int) -> tuple[str, ...]:
    """Execution blocks' UIDs."""
    return tuple(f"uid___A002_X1_X{number:x}" for number in range(1, count + 1))


async def generate(site: ClusterSite, cluster: SshCluster, count: int, megabytes: int) -> tuple[Work, Sequence[Packed]]:
    """`count` MeasurementSets of so many MB each, calibrated and packed."""
    calibrator = Calibrator(site.folder / f"calibrator{count}")
    calibrator.order(megabytes=megabytes)
    work = await cluster.place(PurePosixPath(site.workdir) / "WORK11018", new_token(), old=False, tell=print)
    assert work
    await cluster.begin(work, Generation(calibrator.command, PROJECT, MOUS, blocks(count)))
    log = b"".join([piece async for piece in cluster.follow(work, 0)])
    state = await cluster.state(work)
    assert state.status == 0, log.decode("utf-8", "replace")
    return work, await cluster.packed(work)


def size_of(folder: Path) -> int:
    """Bytes that a folder takes on the disk; what goes meanwhile counts nothing."""
    total, folders = 0, [folder]
    for one in folders:
        try:
            entries = list(one.iterdir())
        except OSError:
            continue
        for entry in entries:
            try:
                state = entry.lstat()
            except OSError:
                continue
            total += state.st_blocks * 512
            if entry.is_dir() and not entry.is_symlink():
                folders.append(entry)
    return total
