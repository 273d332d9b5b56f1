"""The engine `slurm`: a real scheduler gives the node, its job runs the worker, and nothing of either is left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path, PurePosixPath

import pytest

from aogconsole.errors import ConfigError, OutsideError
from aogconsole.ids import MousUid, ProjectCode
from aogconsole.stagecalms.job import Generation, Work
from backends.cluster_ports import Cluster, NodeRefused, WorkState
from backends.cluster_slurm import WAITING, SlurmCluster
from backends.slurm_queue import SlurmQueue, job_name
from tests.support.nodes import new_token
from tests.support.slurmnodes import SlurmSite

BLOCK = "uid___A002_X7e4988_X1f2"


def generation(site: SlurmSite, words: str = "") -> Generation:
    """One execution block, by the usual calibrator or another command."""
    command = words or str(site.nodes.calibrator)
    return Generation(command, ProjectCode.parse("2012.1.00357.S"), MousUid.parse("uid___A002_X788a57_X29"), (BLOCK,))


async def place(site: SlurmSite, cluster: Cluster, token: str, told: list[str] | None = None) -> Work:
    """A node, and a directory there."""
    tell = (told if told is not None else []).append
    work = await cluster.place(PurePosixPath(site.nodes.workdir) / "WORK11018", token, old=False, tell=tell)
    assert work, told
    return work


async def until(there: Callable[[], object], seconds: float = 20) -> None:
    """Wait for it."""
    async with asyncio.timeout(seconds):
        while not there():
            await asyncio.sleep(0.02)


async def over(cluster: Cluster, work: Work) -> WorkState:
    """How the worker is, when it runs no more."""
    async with asyncio.timeout(30):
        while (state := await cluster.state(work)).state == "running":
            await asyncio.sleep(0.05)
    return state


async def test_a_job_holds_the_node_until_the_directory_is_gone(slurm_site: SlurmSite, tmp_path: Path) -> None:
    """It runs the worker with the environment of ssh, stays while tars are fetched, and goes."""
    site, token, told = slurm_site, new_token(), list[str]()
    cluster = site.cluster(quiet=60.0)
    work = await place(site, cluster, token, told)
    assert (work.node.name, told, site.living(token)) == (site.node.name, [], ["RUNNING"])
    given = generation(site, f"env >>$HOME/environment; {site.nodes.calibrator}")
    await cluster.begin(work, given)
    await cluster.begin(work, given)
    log = b"".join([piece async for piece in cluster.follow(work, 0)])
    assert b"Done. Please find results" in log
    assert (await over(cluster, work)).status == 0
    assert site.node.calibrators() == 1
    names = {line.partition("=")[0] for line in (site.node.home / "environment").read_text().splitlines()}
    assert "SSH_CONNECTION" in names
    assert "SLURM_JOB_ID" in names
    assert site.living(token) == ["RUNNING"]
    tars = await cluster.packed(work)
    fetched = b"".join([line async for line in cluster.fetch(work, [tar.name for tar in tars], tmp_path)])
    assert tars[0].name.encode() in fetched
    assert (tmp_path / tars[0].name).stat().st_size == tars[0].size
    await cluster.remove(work)
    assert site.living(token) == []
    await cluster.remove(work)
    await cluster.forget(token)
    assert site.node.directories() == []
    await until(lambda: not site.holders())
