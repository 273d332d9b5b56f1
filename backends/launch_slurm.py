"""Workflows as Slurm's batch jobs: `reingestion.launcher = "slurm"`.

A job that Slurm accepted may be run twice, forgotten by a controller that was killed, or run although nobody heard so.
Therefore the job guards itself (`job.sh`): of all jobs of one workflow one begins it. What Slurm says of them, and what
the job leaves in its folder, is put together here; where both are silent the answer is `unknown`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aogconsole.errors import ConfigError, LaunchError
from aogconsole.reingestion.messages import Start
from aogconsole.text import clean
from backends import launch_job as job
from backends.reingestion_ports import Launch, Seen

_OVER = frozenset({"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
                   "PREEMPTED", "REVOKED", "TIMEOUT"})  # fmt: skip
"""Slurm's states of jobs that will not run any more (squeue(1), job state codes)."""
_OURS = ("job-name", "output", "error", "input", "open-mode", "parsable", "quiet", "requeue", "no-requeue", "chdir",
         "array", "wait", "test-only", "wrap", "clusters", "uid", "gid", "help", "usage", "version")  # fmt: skip
"""Options of sbatch(1) that are not a site's to give: a workflow could no longer be found, or begun once."""
_OPTION = re.compile(r"--([a-z][a-z0-9-]*)(=.*)?", re.DOTALL)
_AT_ONCE = 100
"""Workflows that are asked about in one command."""
_DOWN = "is Slurm's controller up, and SLURM_CONF right?"
_MAYBE = re.compile(r"timed out|zero bytes|reset by peer|communication", re.IGNORECASE)
"""sbatch's words when the controller may have taken the job although it did not say so."""


@dataclass(frozen=True, slots=True)
class Job:
    """One of Slurm's jobs."""

    number: str
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class Traces:
    """What a workflow's folder tells. `silent`: seconds since the job last showed that it lives, by the clock of
    the file system; `submitted`: seconds since it was last given to sbatch, None when it never was."""

    ended: Seen | None
    mark: job.Mark | None
    silent: float
    submitted: float | None


class SlurmLauncher:
    """One batch job per workflow, named `aog-` and its id.

    `folder`: on a file system that the nodes share, one folder per workflow in it. `command`: the words to run on the
    node. `options`: the site's for sbatch, each `--name` or `--name=value`. `environ`: what the environment of Slurm's
    commands and of the workflow is chosen from, ours unless given. In seconds, `patience`: for each of Slurm's
    commands; `beat`: between the signs of life that a job gives; `silence`: without one after which a job that Slurm
    does not know is over; `grace`: for which a job that Slurm accepted and does not know may still be about to begin.
    Raises ConfigError for options that are not a site's to give.
    """

    name = "slurm"
    local_to = ""

    def __init__(
        self,
        folder: Path,
        command: job.Command,
        options: Sequence[str] = (),
        *,
        environ: Mapping[str, str] | None = None,
        patience: float = 30.0,
        beat: float = 10.0,
        silence: float = 300.0,
        grace: float = 60.0,
    ) -> None:
        self._folder, self._command, self._options = folder.absolute(), command, checked(options)
        self._environment = job.environment(os.environ if environ is None else environ, slurm=True)
        self._environment["AOG_BEAT"] = f"{beat:g}"
        self._patience, self._beat, self._silence, self._grace = patience, beat, silence, grace

    async def launch(self, start: Start, site: str) -> Launch:
        """Submit it unless it was. `site` makes no difference: it is where the controller is. Raises LaunchError."""
        try:
            words = job.words(self._command, start)
            path = await asyncio.to_thread(job.make, self._folder, start.workflow_id)
            traces = await asyncio.to_thread(_traces, path, 0.0)
        except job.Unfit as error:
            return Launch("refused", str(error))
        except OSError as error:
            return Launch("unknown", f"the folder of the workflow cannot be read: {error.strerror}")
        if traces.ended or traces.mark:
            return Launch("started", "it was started before")
        jobs = await self._jobs([start.workflow_id])
        if isinstance(jobs, str):  # nothing is sent now: it may only be there from before
            if traces.submitted is None:
                raise LaunchError(jobs, _DOWN)
            return Launch("unknown", jobs)
        if number := _living(jobs.get(start.workflow_id, [])):
            return Launch("started", f"it was submitted before, as Slurm's job {number}")
        return await self._submit(start.workflow_id, path, words)

    async def look(self, workflow_ids: Collection[str]) -> Mapping[str, Seen]:
        """How these are, by their folders and Slurm's list of jobs."""
        paths = {one: path for one in workflow_ids if (path := job.place(self._folder, one))}
        seen = {one: Seen("absent") for one in workflow_ids if one not in paths}
        seen |= await asyncio.to_thread(_ended, paths)
        rest = {one: path for one, path in paths.items() if one not in seen}
        jobs = await self._jobs(rest)
        return seen | await asyncio.to_thread(self._look_into, rest, jobs)

    async def forget(self, workflow_ids: Collection[str]) -> None:
        """Their folders, logs included, are deleted a week after this."""
        await asyncio.to_thread(job.forget, self._folder, tuple(workflow_ids))

    async def _submit(self, workflow_id: str, path: Path, words: Sequence[str]) -> Launch:
        argv = [
            "sbatch", "--export=ALL", "--nodes=1", "--ntasks=1", *self._options,
            "--parsable", "--no-requeue", "--open-mode=append", f"--job-name={_name(workflow_id)}",
            f"--chdir={path}", f"--output={str(path).replace('%', '%%')}/slurm.log",
            str(job.SCRIPT), "slurm", str(path), *words,
        ]  # fmt: skip
        await asyncio.to_thread(_note, path, "")
        told = await job.run(argv, self._environment, self._patience)
        if told.status == 0 and (number := re.search(r"^([0-9]+)(;\S*)?\s*\Z", told.out, re.MULTILINE)):
            with contextlib.suppress(LaunchError):
                await asyncio.to_thread(_note, path, f"{number[1]}\n")
            return Launch("started", f"Slurm's job {number[1]}")
        jobs = await self._jobs([workflow_id])
        why = f"sbatch: {_sentence(told)}"
        if isinstance(jobs, str):
            return Launch("unknown", f"{why}; {jobs}")
        if taken := _living(jobs.get(workflow_id, [])):
            return Launch("started", f"Slurm's job {taken}")
        if told.status in {0, None} or _MAYBE.search(told.err):
            return Launch("unknown", why)
        raise LaunchError(why, "see reingestion.sbatch, and what the account may do in Slurm")

    async def _jobs(self, workflow_ids: Collection[str]) -> Mapping[str, list[Job]] | str:
        """Slurm's jobs of these workflows, ended ones included while it remembers them; or why it cannot say."""
        found: dict[str, list[Job]] = defaultdict(list)
        every = list(workflow_ids)
        for first in range(0, len(every), _AT_ONCE):
            names = ",".join(_name(one) for one in every[first : first + _AT_ONCE])
            argv = ["squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%r|%j", f"--name={names}"]
            try:
                told = await job.run(argv, self._environment, self._patience)
            except LaunchError as error:
                return str(error)
            if told.status != 0:
                return f"squeue: {_sentence(told)}"
            for line in told.out.splitlines():
                if line.count("|") >= 3:
                    number, state, rest = line.split("|", 2)
                    reason, _, name = rest.rpartition("|")
                    found[name.strip().removeprefix("aog-")].append(Job(number.strip(), state, clean(reason)))
        return found

    def _look_into(self, paths: Mapping[str, Path], jobs: Mapping[str, list[Job]] | str) -> dict[str, Seen]:
        """The folders after Slurm: what ended while it was asked has left its exit status before its job was over."""
        found: dict[str, Seen] = {}
        if not paths:
            return found
        now = _clock(self._folder)
        for one, path in paths.items():
            try:
                told = _traces(path, now)
                known = jobs if isinstance(jobs, str) else jobs.get(one, [])
                found[one] = told.ended or self._judge(told, known, path)
            except OSError as error:
                found[one] = Seen("unknown", f"{path} cannot be read: {error.strerror}")
        return found

    def _judge(self, told: Traces, jobs: Sequence[Job] | str, path: Path) -> Seen:
        if isinstance(jobs, str):  # Slurm cannot be asked
            return Seen("running") if told.mark and told.silent < 3 * self._beat else Seen("unknown", jobs)
        for one in jobs:
            if one.state not in _OVER:
                waits = one.state == "PENDING" and one.reason not in {"", "None"}
                return Seen("running", f"it waits in Slurm: {one.reason}" if waits else "")
        if told.mark:
            return self._begun(told.mark, told, jobs, path)
        for one in jobs:
            if one.state != "COMPLETED":
                why = f"Slurm ended job {one.number} before the workflow began: {_ending(one)}"
                return Seen("failed", why) if job.void(path, why) else Seen("unknown", "it begins just now")
        if jobs:
            return Seen("unknown", f"Slurm says that job {jobs[0].number} is complete, and it left no trace yet")
        if told.submitted is None:
            return Seen("absent")
        if told.submitted < self._grace:
            return Seen("unknown", "it was submitted a moment ago, and Slurm does not know its job")
        return Seen("absent", "it was submitted, and Slurm does not know its job")

    def _begun(self, mark: job.Mark, told: Traces, jobs: Sequence[Job], path: Path) -> Seen:
        """It began, its job is over or unknown, and no exit status is there."""
        if told.silent < 3 * self._beat:  # a controller that was killed may have given its number to another job
            return Seen("running", f"Slurm does not show its job {mark.job} as running, but it gives signs of life")
        for one in jobs:
            if one.number == mark.job:  # its exit status is the workflow's
                if one.state == "COMPLETED":
                    return Seen("done")
                why, last = f"Slurm ended it: {_ending(one)}", job.last_line(path)
                return Seen("failed", f"{why}; {last}" if last else why)
        if told.silent < self._silence:
            return Seen("unknown", f"Slurm does not know its job {mark.job}, and it gives no sign of life just now")
        return Seen("failed", f"Slurm does not know its job {mark.job}, and it gives no sign of life ({mark.host})")


def checked(options: Sequence[str], key: str = "reingestion.sbatch") -> tuple[str, ...]:
    """A site's options for sbatch, configured by `key`.

    Raises ConfigError for one that is no option, or not a site's to give.
    """
    for option in options:
        words = _OPTION.fullmatch(option)
        if not words or "\0" in option:
            raise ConfigError(f"{key}: {clean(option)!r} is not an option", "write each as --name or --name=value")
        if any(own.startswith(words[1]) for own in _OURS):  # sbatch takes abbreviations
            raise ConfigError(f"{key}: --{words[1]} is set by aogconsole itself", "leave it out")
    return tuple(options)


def _ended(paths: Mapping[str, Path]) -> dict[str, Seen]:
    """Those that have left their exit status."""
    found = {}
    for one, path in paths.items():
        with contextlib.suppress(OSError):
            if told := job.ended(path):
                found[one] = told
    return found


def _traces(path: Path, now: float) -> Traces:
    """Raises OSError. The exit status is read last: what has one had a mark before."""
    mark, submitted = job.mark(path), _changed(path / "submitted")
    shown = max(_changed(path / "started") or 0.0, _changed(path / "alive") or 0.0)
    return Traces(job.ended(path), mark, now - shown, None if submitted is None else now - submitted)


def _clock(folder: Path) -> float:
    """The time of the file system that holds the folder, which the signs of life carry too; else our own."""
    with contextlib.suppress(OSError):
        clock = folder / "clock"
        clock.touch(mode=0o600)
        os.utime(clock)
        return clock.stat().st_mtime
    return time.time()


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _note(path: Path, text: str) -> None:
    """That it is given to sbatch, and as which job it was taken. Raises LaunchError."""
    try:
        with (path / "submitted").open("a", encoding="ascii") as file:
            file.write(text)
        os.utime(path / "submitted")
    except OSError as error:
        raise LaunchError(f"{path} cannot be written: {error.strerror}") from error


def _name(workflow_id: str) -> str:
    return f"aog-{workflow_id}"


def _living(jobs: Sequence[Job]) -> str:
    return next((one.number for one in jobs if one.state not in _OVER), "")


def _ending(one: Job) -> str:
    return one.state if one.reason in {"", "None"} else f"{one.state} ({one.reason})"


def _sentence(told: job.Ran) -> str:
    """The last thing a command said."""
    lines = [line for line in told.err.splitlines() if line.strip()]
    status = "ended without a word" if told.status == 0 else f"exit status {told.status}"
    return clean(re.sub(r"^\w+: error: ", "", lines[-1]).strip())[:200] if lines else status
