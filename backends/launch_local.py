"""Workflows as detached processes of this machine: `reingestion.launcher = "local"`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Collection, Mapping
from pathlib import Path

from aogconsole.errors import LaunchError
from aogconsole.reingestion.messages import Start
from aogconsole.text import clean
from backends import launch_job as job
from backends.reingestion_ports import Launch, Seen


class LocalLauncher:
    """A session of its own for each workflow: it outlives the runner and the terminal.

    `folder`: on a local disk, one folder per workflow in it. `command`: the words to run. `environ`: what the
    workflow's environment is chosen from, ours unless given. `patience`: seconds for a start.
    """

    name = "local"

    def __init__(
        self, folder: Path, command: job.Command, *, environ: Mapping[str, str] | None = None, patience: float = 20.0
    ) -> None:
        self.local_to = socket.gethostname()
        self._folder, self._command, self._patience = folder.absolute(), command, patience
        self._environment = job.environment(os.environ if environ is None else environ)

    async def launch(self, start: Start, site: str) -> Launch:
        """Start it unless it was started before. `site` makes no difference: it is here. Raises LaunchError."""
        try:
            words = job.words(self._command, start)
        except job.Unfit as error:
            return Launch("refused", str(error))
        path = await asyncio.to_thread(job.make, self._folder, start.workflow_id)
        argv = ["setsid", "-f", "/bin/sh", str(job.SCRIPT), "local", str(path), *words]
        told = await job.run(argv, self._environment, self._patience, path)
        return await asyncio.to_thread(_came_to, path, told)

    async def look(self, workflow_ids: Collection[str]) -> Mapping[str, Seen]:
        """How these are; of one that was begun on another machine nothing is known."""
        return await asyncio.to_thread(lambda: {one: self._look(one) for one in workflow_ids})

    async def forget(self, workflow_ids: Collection[str]) -> None:
        """Their folders, logs included, are deleted a week after this."""
        await asyncio.to_thread(job.forget, self._folder, tuple(workflow_ids))

    def _look(self, workflow_id: str) -> Seen:
        path = job.place(self._folder, workflow_id)
        if path is None:
            return Seen("absent")
        try:
            return _see(path, self.local_to)
        except OSError as error:
            return Seen("unknown", f"{path} cannot be read: {error.strerror}")


def _came_to(path: Path, told: job.Ran) -> Launch:
    """What the answer means: the mark proves a start. Raises LaunchError when it is not there after the job's end."""
    words = clean((told.out.strip() or told.err.strip())[:300])
    try:
        if job.mark(path):
            return Launch("started", "" if words == "started" else "it was started before")
        if told.status is None or job.lock_held(path):
            return Launch("unknown", words or "its job has not begun in time")
    except OSError as error:
        return Launch("unknown", f"{path} cannot be read: {error.strerror}")
    raise LaunchError(words or f"the job in {path} ended without a word", "see reingestion.workdir and its disk")


def _see(path: Path, host: str) -> Seen:
    """The mark is read before the lock and the exit status after it: so a mark without both is a workflow's that was
    killed, and what begins while we look is looked at again."""
    while True:
        mark = job.mark(path)
        if mark and mark.host != host:
            return job.ended(path) or Seen("unknown", f"it was launched on {mark.host}")
        if job.lock_held(path):
            return Seen("running")
        if seen := job.ended(path):
            return seen
        if mark:
            return Seen("failed", _killed(mark, path))
        if job.mark(path) is None:
            return Seen("absent")


def _killed(mark: job.Mark, path: Path) -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    why = "killed" if mark.boot == boot else "the machine restarted"
    last = job.last_line(path)
    return f"{why}; the last it said: {last}" if last else why
