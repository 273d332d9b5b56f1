"""What runs that were killed have left, here and on the nodes, is removed before the next run begins.

Of a run that told its failure only the processes are ended: its directories stay, as its last lines said. A staging
directory that is served is complete, and never touched. What cannot be reached now stays noted, for the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from aogconsole.errors import AogError
from aogconsole.stagecalms.deleting import PREFIX, delete, is_directory_of_ours, kept, opened
from aogconsole.stagecalms.job import Node, Work
from aogconsole.stagecalms.records import Record, Records
from aogconsole.text import clean
from backends.cluster_ports import Cluster, NodeRefused

Tell = Callable[[str], None]
REMOVING = 900.0
"""Seconds for a working directory, on a node that answers: many files, and hundreds of GB."""
DOUBT = 60.0
"""Seconds in which a node may still be doing what a run that was killed then had asked it for: to make a directory."""


async def sweep(records: Records, cluster: Cluster, web_root: Path, tell: Tell, seconds: float) -> None:
    """Clean up after every run that is dead, on all nodes side by side. What is done is told, and what cannot be.

    A node that does not answer within `seconds` is given up; the removal of much on one that does may take longer.
    """
    found = records.abandoned()
    for trouble in records.troubles:
        tell(trouble)
    try:
        left = defaultdict[Node, list[tuple[Record, Work]]](list)
        for record in found:
            for work in record.works:
                left[work.node].append((record, work))
        here = [record for record in found if _sweep_here(record, web_root, tell)]
        async with asyncio.TaskGroup() as group:
            for node, works in left.items():
                group.create_task(_sweep_node(node, works, cluster, tell, seconds))
            waiting = [record for record in here if record.work is None and record.intended is not None]
            forgotten = group.create_task(_forget(waiting, cluster, tell, seconds))
        for record in here:
            if not record.works and (record not in waiting or record in forgotten.result()):
                record.done()
    finally:
        for record in found:
            record.close()


def _sweep_here(record: Record, web_root: Path, tell: Tell) -> bool:
    """Remove a staging directory that is not complete. Returns whether nothing is left to do."""
    token = record.job.token
    if record.failed:
        return True
    if record.directory != web_root / token:
        tell(f"{clean(str(record.directory))}, of a killed run, is not in {clean(str(web_root))} and stays.")
        return False
    try:
        with opened(web_root) as folder:
            return _remove(folder, token, tell)
    except OSError as error:
        tell(f"{clean(str(record.directory))}, of a killed run, stays for now: {error.strerror}.")
        return False


def _remove(folder: int, token: str, tell: Tell) -> bool:
    doomed = f"{PREFIX}{token}"
    with contextlib.suppress(FileNotFoundError):
        status = os.lstat(token, dir_fd=folder)
        if not is_directory_of_ours(status) or status.st_mode & 0o077 or kept(folder, token):
            return True
        os.rename(token, doomed, src_dir_fd=folder, dst_dir_fd=folder)
        tell(f"Left by a killed run, removed: the incomplete staging directory {token}.")
    try:
        status = os.lstat(doomed, dir_fd=folder)
        # an open one is the expiry's, that has taken nothing from it yet, and may put it back
        if not is_directory_of_ours(status) or status.st_mode & 0o077 or kept(folder, doomed):
            return True
    except FileNotFoundError:
        return True
    troubles = delete(folder, doomed)
    for trouble in troubles[:3]:
        tell(f"Left by a killed run, and cannot be removed: {trouble}.")
    return not troubles


async def _sweep_node(
    node: Node, works: Sequence[tuple[Record, Work]], cluster: Cluster, tell: Tell, seconds: float
) -> None:
    """One after the other, until the node is not to be reached any more."""
    try:
        for record, work in works:
            stays = record.failed and work == record.work
            try:
                async with asyncio.timeout(seconds):
                    await cluster.end(work)
                if not stays:
                    async with asyncio.timeout(REMOVING):
                        await cluster.remove(work)
            except NodeRefused as error:  # it answers: what else is there may go
                tell(f"{clean(str(work.directory))}, of a killed run, stays for now: {clean(str(error))}.")
                continue
            if record.work is None and 0 <= time.time() - record.noted < DOUBT:
                continue  # it may come yet: looked for once more by the next start
            record.gone(work)
            what = "nothing works any more for" if stays else "removed:"
            tell(f"Left by a run for MOUS {record.job.mous}, {what} {clean(str(work.directory))} on {node}.")
    except TimeoutError:
        tell(f"Node {node} does not answer in time: what a killed run left there stays for now.")
    except (AogError, OSError) as error:  # no ssh is here, or no more processes
        tell(f"What an earlier run left on node {node} stays for now: {clean(str(error))}.")


async def _forget(waiting: Sequence[Record], cluster: Cluster, tell: Tell, seconds: float) -> list[Record]:
    """End what was asked for before a node was known. Returns the records of which nothing is left there."""
    done: list[Record] = []
    try:
        async with asyncio.timeout(seconds):
            for record in waiting:
                await cluster.forget(record.job.token)
                done.append(record)
    except TimeoutError:
        tell(f"The cluster does not answer within {seconds:g} s: a killed run's job there stays for now.")
    except (AogError, OSError) as error:
        tell(f"A killed run's job stays for now: {clean(str(error))}.")
    return done
