"""A place where workflows are launched for tests, and a process that launches one and can be killed meanwhile.

The workflow is a program that notes from outside that it began: one line in `starts` each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aogconsole.errors import LaunchError
from aogconsole.reingestion.messages import Start
from backends.launch_job import Command
from backends.launch_local import LocalLauncher
from backends.launch_slurm import SlurmLauncher
from backends.reingestion_ports import Launch, Launcher, Seen

if TYPE_CHECKING:
    from tests.support.slurm import Slurm

ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = """\
here=$1 id=$2 uid=$3 deed=$4
echo "$id" >>"$here/starts"
eval "$deed"
"""
GATED = 'until [ -e "$here/gate" ]; do sleep 0.02; done'
"""A workflow that runs until the gate is open."""


@dataclass
class Ground:
    """One folder of launches, by one launcher."""

    kind: str
    base: Path
    slurm: Slurm | None = None
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The launcher's folder; its name holds what could be taken for a pattern or two words."""
        return self.base / "jobs 50%j"

    def command(self, start: Start) -> Sequence[str]:
        """The workflow's words."""
        program = self.base / "workflow.sh"
        if not program.exists():
            program.write_text(_PROGRAM)
        return ["/bin/sh", str(program), str(self.base), start.workflow_id, start.metadata["uid"], start.metadata["do"]]

    def launcher(self, command: Command | None = None, **given: Any) -> Launcher:
        """A new launcher, as another runner would have."""
        words = command or self.command
        if self.kind == "local":
            return LocalLauncher(self.folder, words, **given)
        return SlurmLauncher(self.folder, words, **{"beat": 0.2, "silence": 3.0, "grace": 1.0, **given})

    def job(self, workflow_id: str) -> Path:
        """A workflow's folder."""
        return self.folder / workflow_id

    def starts(self, workflow_id: str = "") -> int:
        """How often a workflow (or any) began."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.base / "starts").read_text().splitlines()
            return lines.count(workflow_id) if workflow_id else len(lines)
        return 0

    def open_gate(self) -> None:
        """Let the gated workflows end."""
        (self.base / "gate").touch()

    def process(self, start: Start) -> subprocess.Popen[str]:
        """A process that says `ready`, launches when told to go, and says what came of it."""
        words = [self.kind, str(self.base), start.workflow_id, start.metadata["uid"], start.metadata["do"]]
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.support.launching", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
        )  # fmt: skip
        self.children.append(child)
        return child

    def pids(self, workflow_id: str) -> list[int]:
        """Processes that have the id among their words: the job and the workflow."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if workflow_id.encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def close(self) -> None:
        """End what is left of launching processes and workflows."""
        self.open_gate()
        for child in self.children:
            child.kill()
            child.communicate()
        names = {path.name for path in self.folder.glob("*-*-*-*-*")}
        end = time.monotonic() + 5
        while time.monotonic() < end and (left := [pid for name in names for pid in self.pids(name)]):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def new_start(do: str = ":", uid: str = "uid://A002/X1/X2") -> Start:
    """A start with an id of its own."""
    return Start(str(uuid.uuid4()), "AlmaExecutionBlockReingestion", {"uid": uid, "kind": "execution_block", "do": do})


def go(child: subprocess.Popen[str]) -> None:
    """Tell a launching process that is ready to launch."""
    assert child.stdin
    child.stdin.write("go\n")
    child.stdin.flush()


async def ready(children: Collection[subprocess.Popen[str]]) -> None:
    """Wait until all launching processes are."""
    for child in children:
        assert child.stdout
        assert await asyncio.to_thread(child.stdout.readline) == "ready\n"


async def until(
    launcher: Launcher, ids: Collection[str], among: Collection[str] = ("done", "failed")
) -> Mapping[str, Seen]:
    """How these workflows are, as soon as all are in one of these states."""
    async with asyncio.timeout(30):
        while True:
            seen = await launcher.look(ids)
            if all(one.state in among for one in seen.values()):
                return seen
            await asyncio.sleep(0.02)


async def surely(launcher: Launcher, start: Start) -> Launch:
    """Launch until it is proved, as a runner does: what is unknown is looked at before it is launched again."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(LaunchError):
                launch = await launcher.launch(start, "NAASC")
                if launch.outcome == "started":
                    return launch
            while (await launcher.look([start.workflow_id]))[start.workflow_id].state == "unknown":
                await asyncio.sleep(0.05)


async def _main(kind: str, base: str, workflow_id: str, uid: str, do: str) -> None:
    launcher = Ground(kind, Path(base)).launcher()
    print("ready", flush=True)
    sys.stdin.readline()
    launch = await launcher.launch(Start(workflow_id, "any", {"uid": uid, "do": do}), "NAASC")
    print(launch.outcome, flush=True)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
