"""The cluster whose nodes its own scheduler gives: `stagecalms.engine = "slurm"`.

A job that makes nothing (`holder.sh`) is given to Slurm; the node that it gets is then used by ssh, as with the engine
`ssh`, and checked as there, but for room, which is the scheduler's matter. The job runs the worker, so that it is
within what the job was granted, and ends when the working directory is gone or the worker has failed.

A run's jobs carry its name: they are looked for before one is submitted, and ended by it. Of several, which a
controller that was killed may cause, one takes the directory (see `holder.sh`) and the others are ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aogconsole.errors import InvalidId, LaunchError, OutsideError
from aogconsole.stagecalms.job import Generation, Node, Work
from backends.cluster import ClusterSettings, SshCluster, another
from backends.cluster_ports import Making, NodeRefused, Packed, Tell, WorkState
from backends.slurm_queue import DOWN, SlurmJob, SlurmQueue

WAITING = "Waiting for the cluster's scheduler to give a node ..."
_JOBS = 8
"""Jobs given to Slurm for one run, those included that got a node which cannot be used."""
_NODES = 5
"""Nodes that cannot be used, one after the other, before no more are asked for."""


@dataclass(frozen=True, slots=True)
class SlurmSettings:
    """How Slurm is asked. Times in seconds."""

    sbatch: tuple[str, ...] = ()
    """Options for sbatch, each `--name` or `--name=value`."""
    sbatch_rhel5: tuple[str, ...] = ()
    """Further ones for old projects."""
    patience: float = 120.0
    """For which the controller may be silent while a node is waited for."""
    answer: float = 30.0
    """For each of Slurm's commands."""
    pause: float = 10.0
    """The longest between two questions while a job waits for its node."""
    quiet: float = 5.0
    """For which a job waits in the queue before it is told."""
    grace: float = 5.0
    """For which a job that may have been submitted, or was there, is waited for before another is submitted."""
    begin: float = 60.0
    """For the job to begin the worker that was put into its directory."""
    environ: Mapping[str, str] | None = None
    """What the environment of Slurm's commands and of the job is chosen from; ours when None."""


class SlurmCluster:
    """The nodes, given by Slurm and used by ssh; implements `backends.cluster_ports.Cluster`.

    A job runs as the account that submits it: `ssh.user` must be that account (of the same number) on the nodes, else
    the job cannot see the working directory, and `begin` says so. Raises ConfigError for options of sbatch that are
    not a site's to give.
    """

    def __init__(self, ssh: ClusterSettings, slurm: SlurmSettings | None = None) -> None:
        self._settings, self._slurm = ssh, slurm or SlurmSettings()
        self._ssh = SshCluster(ssh)
        self._queue = SlurmQueue(
            self._slurm.sbatch,
            self._slurm.sbatch_rhel5,
            patience=self._slurm.answer,
            environ=self._slurm.environ,
        )

    async def place(
        self, work: PurePosixPath, token: str, *, old: bool, tell: Tell, making: Making | None = None
    ) -> Work | None:
        """Wait for a node, for hours if need be, and make the working directory there.

        A node that cannot be used is told, given back and not taken again. Whoever gives up waiting leaves no job.
        Raises NodeRefused when Slurm refuses or ends the job, OutsideError when it does not answer.
        """
        found = None
        try:
            found = await self._place(work, token, old, tell, making)
        finally:
            if found is None:
                await self._let_go(token)
        return found

    async def forget(self, token: str) -> None:
        """End the jobs of a run, wherever they wait. Raises OutsideError when that is not known to have happened."""
        if why := await self._queue.cancel(token, 2):
            raise OutsideError(f"the job of a run cannot be ended: {why}", DOWN)

    async def begin(self, work: Work, generation: Generation) -> None:
        """Put the worker into the directory, and wait until the job has begun it.

        Raises NodeRefused when the job is over, or does not begin it.
        """
        await self._ssh.begin_held(work, generation)
        end, pause = time.monotonic() + self._slurm.begin, 0.1
        while (await self._ssh.state(work)).state == "made":
            jobs = await self._queue.jobs(work.token)
            over = not isinstance(jobs, str) and jobs and all(job.over for job in jobs)
            if over and (await self._ssh.state(work)).state == "made":
                raise NodeRefused(f"the cluster's scheduler ended the job before the work began{_ended(jobs)}")
            if time.monotonic() > end:
                raise NodeRefused(
                    f"the job on {work.node.name} does not begin the work in {work.directory}",
                    "is stagecalms.node_user the account that submits, and the folder the same for jobs and for ssh?",
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)

    def follow(self, work: Work, offset: int) -> AsyncIterator[bytes]:
        """The worker's log from a byte on, until it has ended."""
        return self._ssh.follow(work, offset)

    async def state(self, work: Work) -> WorkState:
        """How the worker is; of a lost one also what Slurm says."""
        told = await self._ssh.state(work)
        if told.state != "lost":
            return told
        with contextlib.suppress(LaunchError):
            if why := _ended(await self._queue.jobs(work.token)):
                return dataclasses.replace(told, why=f"the cluster's scheduler ended its job{why}")
        return told

    async def packed(self, work: Work) -> Sequence[Packed]:
        """The tars that a worker has left."""
        return await self._ssh.packed(work)

    def fetch(self, work: Work, names: Collection[str], into: Path) -> AsyncIterator[bytes]:
        """Copy tars by rsync, yielding its lines; the node stays ours meanwhile."""
        return self._ssh.fetch(work, names, into)

    async def end(self, work: Work) -> None:
        """End the worker; its job ends by that, a little later, so that a directory can still be removed by ssh.

        When the node cannot be reached, or not in time, the job is ended by Slurm, and the worker with it.
        """
        try:
            await self._ssh.end(work)
        except (OutsideError, asyncio.CancelledError):
            await self._let_go(work.token)
            raise

    async def remove(self, work: Work) -> None:
        """Remove the directory; its job ends by that, and is ended by Slurm when it does not."""
        await self._ssh.remove(work)
        await self._let_go(work.token, 2)

    async def _place(
        self, work: PurePosixPath, token: str, old: bool, tell: Tell, making: Making | None
    ) -> Work | None:
        wait = _Wait(self._queue, self._slurm, work.parent, token, old, tell)
        for _ in range(_NODES):
            if not (job := await wait.for_node()):
                return None
            node = self._node(job.node, old)
            one = dataclasses.replace(self._settings, nodes=(node,), rhel5_nodes=(node,), need=0)
            found = await SshCluster(one).place(work, token, old=old, tell=tell, making=making)
            if found:
                return found
            await wait.give_back(job)
            work = another(work)  # see SshCluster.place
        return None

    def _node(self, name: str, old: bool) -> Node:
        """The configured node of this name in Slurm, for its domain and port; else just that name."""
        usual, rhel5 = self._settings.nodes, self._settings.rhel5_nodes
        for node in (*rhel5, *usual) if old else (*usual, *rhel5):
            if name in {node.name, node.host}:
                return node
        try:
            return Node.parse(name)
        except InvalidId as error:
            raise NodeRefused(f"the cluster's scheduler gave what is no node: {error}") from None

    async def _let_go(self, token: str, seconds: float = 0) -> None:
        """End a run's jobs that do not end by themselves within so many, as far as Slurm hears it soon."""
        with contextlib.suppress(OutsideError, TimeoutError):
            async with asyncio.timeout(seconds + 4):
                if not (seconds and await self._queue.leave(token, seconds)):
                    await self._queue.cancel(token, 1)


class _Wait:
    """One run's waiting for a node."""

    def __init__(
        self, queue: SlurmQueue, slurm: SlurmSettings, folder: PurePosixPath, token: str, old: bool, tell: Tell
    ) -> None:
        self._queue, self._slurm = queue, slurm
        self._folder, self._token, self._old, self._tell = folder, token, old, tell
        self._without: list[str] = []
        self._spent: set[str] = set()
        """Jobs that we ended ourselves."""
        self._submitted = 0
        self._told = False

    async def for_node(self) -> SlurmJob | None:
        """The job, as soon as it has a node; None when there is no other node than those that cannot be used."""
        begun = heard = time.monotonic()
        there = begun - self._slurm.grace  # when a job was, or may have been, last there
        pause, why = 0.1, ""
        while True:
            jobs = await self._queue.jobs(self._token)
            now = time.monotonic()
            if isinstance(jobs, str):
                why = jobs
            else:
                if not self._submitted:  # what an earlier waiting left
                    self._spent |= {job.number for job in jobs if job.over}
                heard = now
                if job := await self._granted(jobs):
                    return job
                if self._living(jobs):
                    there = now
                elif now - there >= self._slurm.grace:
                    there, pause = now, 0.1
                    try:
                        why = await self._submit() or why
                    except NodeRefused:
                        if not self._without:
                            raise
                        return None  # no other node is left
            if now - heard > self._slurm.patience:
                raise OutsideError(f"the cluster's scheduler does not answer: {why}", DOWN)
            if now - begun >= self._slurm.quiet and not self._told:
                self._told = True
                self._tell(WAITING)
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, self._slurm.pause)

    async def give_back(self, job: SlurmJob) -> None:
        """End a job whose node cannot be used, and take no other there."""
        self._without.append(job.node)
        self._spent.add(job.number)
        await self._queue.cancel_one(job.number)

    def _living(self, jobs: Sequence[SlurmJob]) -> list[SlurmJob]:
        return [job for job in jobs if not job.over and job.number not in self._spent]

    async def _granted(self, jobs: Sequence[SlurmJob]) -> SlurmJob | None:
        """The job that has its node; others, which a lost answer caused, are ended. Raises NodeRefused."""
        living = self._living(jobs)
        running = next((job for job in living if job.state == "RUNNING" and job.node), None)
        if running:
            for job in living:
                if job is not running:
                    self._spent.add(job.number)
                    await self._queue.cancel_one(job.number)
            return running
        ended = [job for job in jobs if job.over and job.number not in self._spent]
        if ended and not living:
            raise NodeRefused(f"the cluster's scheduler ended the job before it got a node{_ended(ended)}")
        return None

    async def _submit(self) -> str:
        self._submitted += 1
        if self._submitted > _JOBS:
            raise OutsideError(f"the cluster's scheduler lost {_JOBS} jobs", DOWN)
        return await self._queue.submit(self._folder, self._token, old=self._old, without=self._without)


def _ended(jobs: Sequence[SlurmJob] | str) -> str:
    """What is said of the last of these that is over: `: 12 is CANCELLED`. COMPLETING: it is being ended."""
    if isinstance(jobs, str):
        return ""
    last = next((job for job in reversed(jobs) if job.over), None)
    return f": {last.number} is {last}" if last else ""
