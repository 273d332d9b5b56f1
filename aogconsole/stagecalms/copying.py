"""Copying the tars from the node, resumed after a cut; their checksums are compared with those of the packing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from aogconsole.errors import OutsideError, StorageError
from aogconsole.stagecalms import words
from aogconsole.stagecalms.digest import Digests, of_whole
from aogconsole.stagecalms.generating import PassOn, closing
from aogconsole.stagecalms.job import Work
from aogconsole.stagecalms.patience import Patience
from aogconsole.tasks import in_thread
from backends.cluster_ports import Cluster, LinkCut, Packed, Tell

SPARE = 64 << 20
"""Bytes that stay free in the web root beside the tars: for logs and file system."""


class CopyFailed(OutsideError):
    """What arrived is not what was packed."""


def need_room(into: Path, packed: Sequence[Packed]) -> None:
    """Raises StorageError unless the tars fit into the web root."""
    tars = sum(tar.size for tar in packed)
    need = tars + min(SPARE, tars)
    state = os.statvfs(into)
    free = state.f_bavail * state.f_frsize
    if free < need:
        raise StorageError(
            f"the web root's disk is full: the tars need {need / 1e9:.3f} GB, and {free / 1e9:.3f} GB are free",
            "delete staged data, or wait until some expires",
        )


async def copy(
    cluster: Cluster,
    work: Work,
    packed: Sequence[Packed],
    into: Path,
    patience: Patience,
    pass_on: PassOn,
    tell: Tell,
) -> None:
    """Bring all tars; one that arrives wrong is fetched once more. Raises CopyFailed, NodeGone, StorageError."""
    need_room(into, packed)
    wrong = await _fetch(cluster, work, packed, into, patience, pass_on)
    if not wrong:
        return
    for tar in wrong:
        tell(words.arrived_wrong(tar.name))
        (into / tar.name).unlink(missing_ok=True)
    wrong = await _fetch(cluster, work, wrong, into, patience, pass_on)
    if wrong:
        raise CopyFailed(f"{wrong[0].name} arrived with a wrong checksum, twice")


async def _fetch(
    cluster: Cluster, work: Work, packed: Sequence[Packed], into: Path, patience: Patience, pass_on: PassOn
) -> Sequence[Packed]:
    """Bring tars; those whose checksum is not the packed one."""
    paths = sorted(into / tar.name for tar in packed)
    digests = Digests(paths)
    computed = asyncio.ensure_future(in_thread(digests.run))
    try:
        resumed = await _receive(cluster, work, paths, patience, pass_on)
        digests.arrived()
        # rsync may have written a resumed tar anew behind the reader: it is read again, whole
        found = {} if resumed else await computed
    finally:
        digests.stop()
        computed.cancel()
    suspect = [tar for tar in packed if found.get(tar.name) != tar.sha256]
    if not suspect:
        return ()
    found = await of_whole([into / tar.name for tar in suspect])
    return [tar for tar in suspect if found.get(tar.name) != tar.sha256]


async def _receive(cluster: Cluster, work: Work, paths: Collection[Path], patience: Patience, pass_on: PassOn) -> bool:
    """Copy all; whether that took more than one try."""
    names, into = [path.name for path in paths], next(iter(paths)).parent
    arrived, resumed = _bytes(paths), False
    while True:
        try:
            async with closing(cluster.fetch(work, names, into)) as lines:
                async for data in lines:
                    await pass_on(data)
            patience.heard()
            return resumed
        except LinkCut as cut:
            resumed = True
            if (now := _bytes(paths)) > arrived:
                arrived = now
                patience.heard()
            await patience.wait(cut)


def _bytes(paths: Collection[Path]) -> int:
    """What has arrived so far."""
    arrived = 0
    for path in paths:
        with contextlib.suppress(OSError):
            arrived += path.stat().st_size
    return arrived
