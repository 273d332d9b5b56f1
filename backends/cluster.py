"""The cluster over OpenSSH: the staging command goes to the least loaded node, as the procedure has it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import secrets
import shlex
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aogconsole.errors import ConfigError, OutsideError
from aogconsole.stagecalms import words
from aogconsole.stagecalms.choice import NodeState, least_loaded
from aogconsole.stagecalms.job import TAR, Generation, Node, Work
from aogconsole.stagecalms.nodeside import TARS, is_folder
from aogconsole.text import clean
from backends.cluster_ports import LinkCut, Making, NodeRefused, Packed, Tell, WorkState
from backends.cluster_ssh import SshClient, child

GB = 1e9
NUMBERS = 20
"""Numbers tried for a working directory."""
REMOVING = 900.0
"""Seconds that the removal of a working directory may take: many small files on a slow disk."""
RSYNC_SILENCE = 300
"""Seconds after which rsync gives up: resuming, both sides read what is there before a byte is sent."""
LINK_STATUS = {10, 12, 30, 35, 255}
"""rsync's exit statuses when the line to the node broke."""
_TAR = re.compile(rf"uid___A00[1-9]_X[0-9a-f]{{1,12}}_X[0-9a-f]{{1,12}}{re.escape(TAR)}", re.ASCII)
_SHA256 = re.compile("[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class ClusterSettings:
    """Section [stagecalms] of the configuration, as far as nodes go. Times in seconds."""

    nodes: tuple[Node, ...]
    user: str
    rhel5_nodes: tuple[Node, ...] = ()
    ssh_config: str = ""
    """Path of an OpenSSH client configuration; empty: the account's own."""
    probe_timeout: float = 10
    need: int = 1_000_000_000
    """Bytes that must be free on a node."""
    connect_timeout: float = 10
    verb_timeout: float = 60
    alive_interval: int = 5
    alive_count: int = 3
    """A link that is silent for interval times count is cut."""

    def client(self) -> SshClient:
        """How nodes are spoken to."""
        return SshClient(
            self.user,
            self.ssh_config,
            connect_timeout=self.connect_timeout,
            verb_timeout=self.verb_timeout,
            alive_interval=self.alive_interval,
            alive_count=self.alive_count,
        )


class SshCluster:
    """cluster_ports.Cluster over OpenSSH. Keeps nothing: a connection for each call."""

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings
        self._ssh = settings.client()

    async def place(
        self, work: PurePosixPath, token: str, *, old: bool, tell: Tell, making: Making | None = None
    ) -> Work | None:
        """See cluster_ports.Cluster. A node that cannot make the directory is skipped, and the next best taken."""
        if not is_folder(work):
            raise ConfigError(
                f"{clean(str(work.parent))} cannot be the folder of working directories",
                "stagecalms.workdir is an absolute path without blanks, quotes and other special letters",
            )
        nodes = self._settings.rhel5_nodes if old else self._settings.nodes
        states = await self._probe(nodes, work.parent, tell)
        while node := least_loaded(states, self._settings.need):
            try:
                return await self.make(Work(node, work, token), making)
            except (LinkCut, NodeRefused) as problem:
                tell(words.skipped(node, problem.hint))
                del states[node]
                if isinstance(problem, LinkCut):
                    # it may have been made: in a folder that nodes share this one would be both a leftover and in use
                    work = another(work)
        return None

    async def forget(self, token: str) -> None:
        """See cluster_ports.Cluster. No engine holds anything here."""

    async def make(self, work: Work, making: Making | None = None) -> Work:
        """Make the working directory, or one of another number. Raises LinkCut, NodeRefused."""
        for _ in range(NUMBERS):
            if making:
                making(work)
            answer = await self._ssh.ask(work.node, "make", str(work.directory), work.token)
            if ("made", "taken") not in answer:
                return work
            work = Work(work.node, another(work.directory), work.token)
        raise NodeRefused(f"{work.node} has no number free in {work.directory.parent}", "no number free")

    async def begin(self, work: Work, generation: Generation) -> None:
        """See cluster_ports.Cluster."""
        await self._begin(work, generation, "detached")

    async def begin_held(self, work: Work, generation: Generation) -> None:
        """Leave the worker for a process that waits on the node for `.stagecalms/go`: a scheduler's job.

        It then runs `setsid sh .stagecalms/worker DIRECTORY` with the token in the environment, and what
        `.stagecalms/environment` has. Until then the state is `made`.
        """
        await self._begin(work, generation, "held")

    async def _begin(self, work: Work, generation: Generation, how: str) -> None:
        what = (generation.calibrator, str(generation.project), str(generation.mous), *generation.blocks)
        await self._ssh.ask(work.node, "begin", str(work.directory), work.token, how, *what)

    async def follow(self, work: Work, offset: int) -> AsyncIterator[bytes]:
        """See cluster_ports.Cluster. A link that stays silent beyond its limit is cut, an idle worker is not."""
        async with self._ssh.session(work.node, "follow", str(work.directory), work.token, str(offset)) as stdout:
            while piece := await stdout.read(65536):
                yield piece

    async def state(self, work: Work) -> WorkState:
        """See cluster_ports.Cluster."""
        answer = dict(await self._ssh.ask(work.node, "state", str(work.directory), work.token))
        with _understood(work.node, "state"):
            status = int(answer["exit"]) if "exit" in answer else None
            match answer["state"]:
                case "absent" | "made" | "running" | "lost" as state:
                    return WorkState(state, None, int(answer.get("log", 0)))
                case "exited":
                    return WorkState("ended", status, int(answer["log"]))
            raise ValueError

    async def packed(self, work: Work) -> Sequence[Packed]:
        """See cluster_ports.Cluster."""
        found = []
        with _understood(work.node, "packed"):
            for key, value in await self._ssh.ask(work.node, "packed", str(work.directory), work.token):
                name, size, digest = value.split()
                if key != "tar" or not _TAR.fullmatch(name) or not _SHA256.fullmatch(digest):
                    raise ValueError
                found.append(Packed(name, int(size), digest))
        return found

    async def end(self, work: Work) -> None:
        """See cluster_ports.Cluster."""
        await self._ssh.ask(work.node, "end", str(work.directory), work.token)

    async def remove(self, work: Work) -> None:
        """See cluster_ports.Cluster. Refused while the worker runs."""
        await self._ssh.ask(work.node, "remove", str(work.directory), work.token, limit=REMOVING)

    async def fetch(self, work: Work, names: Collection[str], into: Path) -> AsyncIterator[bytes]:
        """See cluster_ports.Cluster. Raises LinkCut, NodeRefused, and OutsideError for our own disk."""
        argv = await self._rsync(work, names, into)
        # ssh may send the locale along: it is the calibrator's, and only here ours
        async with child(argv, LC_ALL="C") as running:
            running.stdin.close()
            while line := await running.stdout.readline():
                yield line
            if status := await running.status():
                raise _rsync_failure(work.node, status, await running.complaint())

    async def _rsync(self, work: Work, names: Collection[str], into: Path) -> list[str]:
        if not names or not all(_TAR.fullmatch(name) for name in names):
            raise NodeRefused(f"{work.node} is asked for what is no tar", "no tar")
        # what processors do in hardware, first
        fast = await self._ssh.preferring(work.node, "Ciphers", "gcm")
        ssh = [*self._ssh.argv(work.node)[:-2], "-o", "Compression=no", *fast]
        host = f"[{work.node.host}]" if ":" in work.node.host else work.node.host
        sources = [
            f"{'' if place else host}:{work.directory}/{TARS}/{name}" for place, name in enumerate(sorted(names))
        ]
        options = ["-v", "--no-human-readable", "--partial", "--append-verify", f"--timeout={RSYNC_SILENCE}"]
        return ["rsync", "-r", *options, "-e", shlex.join(ssh), "--", *sources, f"{into}/"]

    async def _probe(self, nodes: Collection[Node], folder: PurePosixPath, tell: Tell) -> dict[Node, NodeState]:
        """Those that answered within the time limit and have room; the others are told, in the order given."""
        tasks = {node: asyncio.create_task(self._ask_state(node, folder)) for node in dict.fromkeys(nodes)}
        try:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=self._settings.probe_timeout)
        finally:
            for task in tasks.values():
                task.cancel()
            results = await asyncio.gather(*tasks.values(), return_exceptions=True)
        states = {}
        for node, state in zip(tasks, results, strict=True):
            match state:
                case NodeState(free=free) if free < self._settings.need:
                    tell(words.skipped(node, f"needs {self._settings.need / GB:.1f} GB, has {free / GB:.1f} GB"))
                case NodeState():
                    states[node] = state
                case asyncio.CancelledError():
                    tell(words.skipped(node, f"no answer within {self._settings.probe_timeout:g} s"))
                case OutsideError():
                    tell(words.skipped(node, state.hint))
                case BaseException():
                    raise state
        return states

    async def _ask_state(self, node: Node, folder: PurePosixPath) -> NodeState:
        # of all nodes at once: the usual exchange of keys, safe even from machines to come, takes 0.15 s of a processor
        fast = await self._ssh.preferring(node, "KexAlgorithms", "curve25519-sha256")
        answer = dict(await self._ssh.ask(node, "probe", str(folder), options=fast))
        with _understood(node, "probe"):
            load = float(answer["load"])
            if not 0 <= load < math.inf:
                raise ValueError
            return NodeState(load / max(1, int(answer["cpus"])), int(answer["free"]))


def another(directory: PurePosixPath) -> PurePosixPath:
    """A working directory of another number."""
    return directory.with_name(f"WORK{10_000 + secrets.randbelow(90_000)}")


@contextlib.contextmanager
def _understood(node: Node, verb: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, ValueError):
        raise NodeRefused(
            f"{node} answered to {verb} what we do not understand", "an answer that is not ours"
        ) from None


def _rsync_failure(node: Node, status: int, complaint: str) -> OutsideError:
    lines = [clean(line[:300]) for line in complaint.splitlines() if line.strip()]
    last = lines[-1] if lines else f"rsync ended with status {status}"
    if "Host key verification failed" in complaint:
        return NodeRefused(f"{node} cannot be spoken to: {lines[0]}", "host key")
    if "No space left" in complaint:
        full = next(line for line in lines if "No space left" in line)
        return OutsideError(f"the tars cannot be copied from {node}: {full}", "is the disk full?")
    if status in LINK_STATUS and "not found" not in complaint:
        return LinkCut(f"the copy from {node} broke: {last}", "the connection broke")
    return NodeRefused(f"the tars cannot be copied from {node}: {last}", last)
