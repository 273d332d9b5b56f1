"""Slurm's jobs of the staging command, each found by the name that its run gives it.

A controller may be down, forget a job, or take one without saying so: every answer is either what it says, or the
sentence of why it cannot say.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import aogconsole.stagecalms
from aogconsole.errors import OutsideError
from aogconsole.text import clean
from backends import launch_job
from backends.cluster_ports import NodeRefused
from backends.launch_slurm import checked

HOLDER = Path(aogconsole.stagecalms.__file__).with_name("holder.sh")
"""The program that is the job."""
DOWN = "is Slurm's controller up, and SLURM_CONF right?"
_OVER = frozenset({"BOOT_FAIL", "CANCELLED", "COMPLETED", "COMPLETING", "DEADLINE", "FAILED", "NODE_FAIL",
                   "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"})  # fmt: skip
"""Slurm's states of jobs that run nothing any more (squeue(1), job state codes)."""
_UNHEARD = re.compile(r"timed out|zero bytes|reset by peer|contact|communication|did not answer", re.IGNORECASE)
"""Slurm's words when the controller was not heard, whether or not it heard us."""
_NODES = re.compile("--exclude=(.*)", re.DOTALL)
_FOR_US = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|SLURM_\w+|AOG_(MADE|BEGUN|FETCHED|HEARD|REMOVED)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """One of a run's jobs."""

    number: str
    state: str
    """As squeue prints it."""
    node: str
    """Empty while it has none."""
    reason: str

    @property
    def over(self) -> bool:
        """Whether it runs nothing any more."""
        return self.state in _OVER

    def __str__(self) -> str:
        return self.state if self.reason in {"", "None"} else f"{self.state} ({self.reason})"


def digest(token: str) -> str:
    """What stands for a token where others can read it: a job's name and words."""
    return hashlib.sha256(token.encode()).hexdigest()


def job_name(token: str) -> str:
    """The name of a run's jobs. Everybody on the cluster sees it, and whoever has the token can download."""
    return f"stagecalms-{digest(token)[:32]}"


class SlurmQueue:
    """Slurm's commands, each within `patience` seconds, with the site's `options` for sbatch.

    `environ`: what the environment of the commands, and of the job, is chosen from; ours unless given. Raises
    ConfigError for options that are not a site's to give.
    """

    def __init__(
        self, options: Sequence[str], old: Sequence[str], *, patience: float, environ: Mapping[str, str] | None = None
    ) -> None:
        self._options = checked(options, "stagecalms.sbatch")
        self._old = checked(old, "stagecalms.sbatch_rhel5")
        self._patience = patience
        given = os.environ if environ is None else environ
        self._environment = {name: value for name, value in given.items() if _FOR_US.fullmatch(name)}

    async def jobs(self, token: str) -> Sequence[SlurmJob] | str:
        """A run's jobs, ended ones included while Slurm remembers them; or why it cannot say. Raises LaunchError."""
        argv = ["squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%N|%r", f"--name={job_name(token)}"]
        told = await launch_job.run(argv, self._environment, self._patience)
        if told.status != 0:
            return f"squeue: {_sentence(told)}"
        found = []
        for line in told.out.splitlines():
            number, state, node, reason = (line.split("|", 3) + [""] * 3)[:4]
            if number.strip():
                found.append(SlurmJob(clean(number.strip()), clean(state.strip()), clean(node.strip()), clean(reason)))
        return found

    async def submit(self, folder: PurePosixPath, token: str, *, old: bool, without: Sequence[str]) -> str:
        """Give a run's job to Slurm, for any node but those; what it said when it may not have been heard, or empty.

        Never left half done: who gives up waiting waits for this. Raises NodeRefused and LaunchError.
        """
        options = [*self._options, *(self._old if old else ())]
        if without:
            kept = [found[1] for one in options if (found := _NODES.fullmatch(one))]
            options = [one for one in options if not _NODES.fullmatch(one)]
            options.append(f"--exclude={','.join([*kept, *without])}")
        argv = [
            "sbatch", "--export=ALL", "--ntasks=1", *options,
            "--nodes=1", "--parsable", "--no-requeue", f"--job-name={job_name(token)}", "--chdir=/",
            "--output=/dev/null", str(HOLDER), str(folder), digest(token),
        ]  # fmt: skip
        task = asyncio.create_task(launch_job.run(argv, self._environment, self._patience))
        try:
            told = await asyncio.shield(task)
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError, OutsideError):
                await asyncio.wait_for(task, 2)
            raise
        if told.status == 0:
            return ""
        why = f"sbatch: {_sentence(told)}"
        if told.status is None or _UNHEARD.search(told.err):
            return why
        raise NodeRefused(f"the cluster's scheduler refuses the job: {why}", "see stagecalms.sbatch")

    async def cancel(self, token: str, seconds: float) -> str:
        """End a run's jobs; empty when none is left within so many seconds, else why that is not known."""
        end = time.monotonic() + seconds
        while True:
            told = await launch_job.run(
                ["scancel", "--me", "--quiet", f"--name={job_name(token)}"], self._environment, self._patience
            )
            jobs = await self.jobs(token)
            if not isinstance(jobs, str) and all(job.over for job in jobs):
                return ""
            if time.monotonic() > end:
                return jobs if isinstance(jobs, str) else f"scancel: {_sentence(told)}"
            await asyncio.sleep(0.2)

    async def leave(self, token: str, seconds: float) -> bool:
        """Whether a run's jobs end by themselves within so many seconds; False too when that is not known."""
        end = time.monotonic() + seconds
        while not isinstance(jobs := await self.jobs(token), str):
            if all(job.over for job in jobs):
                return True
            if time.monotonic() > end:
                return False
            await asyncio.sleep(0.1)
        return False

    async def cancel_one(self, number: str) -> None:
        """End one job, as far as Slurm hears it."""
        await launch_job.run(["scancel", "--quiet", number], self._environment, self._patience)


def _sentence(told: launch_job.Ran) -> str:
    """The last thing a command said."""
    lines = [line for line in told.err.splitlines() if line.strip()]
    status = "ended without a word" if told.status == 0 else f"exit status {told.status}"
    return clean(re.sub(r"^\w+: error: ", "", lines[-1]).strip())[:200] if lines else status
