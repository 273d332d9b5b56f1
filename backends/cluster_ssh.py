"""Commands on cluster nodes by the system's OpenSSH: its configuration, its keys, its known_hosts.

A connection for each command. One that is shared (ControlMaster) would save some 50 ms each, but what hangs in it hangs
all: so a shared one is neither made nor used.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import pwd
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aogconsole.stagecalms.job import Node
from aogconsole.stagecalms.nodeside import HAIL, HAILING, Verb, render
from aogconsole.text import clean, decode
from backends.cluster_ports import LinkCut, NodeRefused

CHUNK = 262144
COMPLAINT = 16384
"""Bytes of a child's standard error that are kept: the last ones."""
ANSWER_LIMIT = 1 << 20
"""Bytes; no answer but a log is longer."""
NOISE = 65536
"""Bytes that a node's login may print above the answer."""
TALKS = "its login prints to standard output, which rsync does not stand"
"""Why a node is not chosen: our own verbs find their answer below such noise, but the copy would fail."""
SSH_FAILED = 255
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None).prctl

REASONS = {
    "reset by peer": "connection reset",
    "closed by remote host": "connection closed",
    "Connection refused": "refused",
    "timed out": "no answer",
    "not responding": "no answer",
    "No route to host": "no route",
    "Could not resolve hostname": "unknown host",
    "Host key verification failed": "host key",
    "IDENTIFICATION HAS CHANGED": "host key changed",
    "Permission denied": "login refused",
}
"""What OpenSSH says, and the short reason; a later one outweighs an earlier one."""


@dataclass(frozen=True)
class SshClient:
    """How a node is spoken to. Times in seconds."""

    user: str
    config: str = ""
    """Path of an OpenSSH client configuration that replaces the account's own."""
    connect_timeout: float = 10
    verb_timeout: float = 60
    alive_interval: int = 5
    alive_count: int = 3
    """A link that is silent for interval times count is cut."""

    def options(self) -> list[str]:
        """Without the node. StrictHostKeyChecking and the keys are the configuration's."""
        asked = {
            "BatchMode": "yes",
            "ConnectTimeout": max(1, round(self.connect_timeout)),
            "ServerAliveInterval": self.alive_interval,
            "ServerAliveCountMax": self.alive_count,
            "LogLevel": "ERROR",
            "ControlMaster": "no",
            "ControlPath": "none",
            "ClearAllForwardings": "yes",
            "ForwardAgent": "no",
        }
        options = [word for name, value in asked.items() for word in ("-o", f"{name}={value}")]
        return [*options, "-F", self.config] if self.config else [*options, *home_options(os.environ)]

    def argv(self, node: Node) -> list[str]:
        """To begin a command on the node with."""
        port = ["-p", str(node.port)] if node.port else []
        return ["ssh", "-T", *self.options(), *port, "-l", self.user, "--", node.host]

    async def preferring(self, node: Node, option: str, sign: str) -> list[str]:
        """An option with its algorithms as configured for the node, but those with this sign first."""
        argv = [*self.argv(node)[:-2], "-G", "--", node.host]
        lines: list[str] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.verb_timeout), child(argv) as asked:
                asked.stdin.close()
                lines = decode(await _whole(asked.stdout)).splitlines()
        for name, _, value in (line.partition(" ") for line in lines):
            if name == option.lower():
                return ["-o", f"{option}={','.join(sorted(value.split(','), key=lambda one: sign not in one))}"]
        return []

    async def ask(
        self, node: Node, verb: Verb, *words: str, limit: float | None = None, options: Sequence[str] = ()
    ) -> list[tuple[str, str]]:
        """The answer's lines, key and value. Raises LinkCut, NodeRefused; `limit` in seconds."""
        limit = limit or self.verb_timeout
        try:
            async with asyncio.timeout(limit), self.session(node, verb, *words, options=options) as stdout:
                answer = await _whole(stdout)
        except TimeoutError:
            raise LinkCut(f"{node} gave no answer within {limit:g} s", "no answer") from None
        lines = decode(answer).splitlines()
        if not lines or lines.pop() != ".":
            raise NodeRefused(f"{node} answered to {verb} what we do not understand", "half an answer")
        return [(key, value) for key, _, value in (line.partition(" ") for line in lines)]

    @contextlib.asynccontextmanager
    async def session(
        self, node: Node, verb: Verb, *words: str, options: Sequence[str] = ()
    ) -> AsyncIterator[asyncio.StreamReader]:
        """A verb under way: its output, to be read to the end. Raises on leaving when it failed."""
        text = render(verb, *words).encode()
        argv = self.argv(node)
        async with child([argv[0], *options, *argv[1:], "sh -s"]) as running:
            running.stdin.write(HAILING.encode())
            try:
                async with asyncio.timeout(self.connect_timeout + self.alive_interval):
                    hailed, noise = await _hailed(node, running.stdout)
            except TimeoutError:
                raise LinkCut(f"{node} gave no answer within {self.connect_timeout:g} s", "no answer") from None
            if not hailed:
                running.stdin.close()
                status = await running.status() or SSH_FAILED
                raise failure(node, status, await running.complaint() or decode(noise))
            if noise and verb == "probe":
                raise NodeRefused(f"{node}: {TALKS}", TALKS)
            running.stdin.write(text)
            running.stdin.close()
            yield running.stdout
            if status := await running.status():
                raise failure(node, status, await running.complaint())


async def _hailed(node: Node, stdout: asyncio.StreamReader) -> tuple[bool, bytes]:
    """Whether the node's shell answered, and what its login printed above that."""
    noise, endless = b"", False
    try:
        while len(noise) < NOISE and (line := await stdout.readline()):
            if line.rstrip().endswith(HAIL.encode()):  # the login may have left its line open
                return True, noise + line.rstrip().removesuffix(HAIL.encode())
            noise += line
    except ValueError:
        endless = True
    if endless or len(noise) >= NOISE:
        raise NodeRefused(f"{node} prints without end at a login", "its login prints without end")
    return False, noise


async def _whole(stream: asyncio.StreamReader) -> bytes:
    """All of an answer, or its beginning when it is longer than any can be."""
    answer = b""
    while len(answer) < ANSWER_LIMIT and (piece := await stream.read(CHUNK)):
        answer += piece
    return answer


def failure(node: Node, status: int, complaint: str) -> LinkCut | NodeRefused:
    """What a command's end means; the hint is the short reason. OpenSSH's own status is 255."""
    lines = [line for line in complaint.splitlines() if line.strip()]
    last = clean(lines[-1][:300]) if lines else ""
    if status in {SSH_FAILED, -signal.SIGTERM, -signal.SIGKILL}:
        why = ""
        for sign, reason in REASONS.items():
            if sign in complaint:
                why = reason
        text = f"{node} cannot be spoken to: {last or 'the connection broke'}"
        kind = NodeRefused if why.startswith("host key") else LinkCut
        return kind(text, why or last or "the connection broke")
    last = last.removeprefix("stagecalms: ") or f"a command ended with status {status}"
    return NodeRefused(f"{node}: {last}", last)


def home_options(environment: Mapping[str, str]) -> list[str]:
    """OpenSSH takes the home from the passwd entry; where $HOME is another, its .ssh is meant."""
    home = environment.get("HOME", "")
    with contextlib.suppress(KeyError):
        if not home or Path(home) == Path(pwd.getpwuid(os.getuid()).pw_dir):
            return []
    folder = Path(home, ".ssh")
    config, known = folder / "config", folder / "known_hosts"
    options = ["-F", str(config)] if config.is_file() else []
    # a file that the configuration names itself would be outweighed
    if known.is_file() and not (options and "userknownhostsfile" in config.read_text("utf-8", "replace").lower()):
        options += ["-o", f'UserKnownHostsFile="{known}"']
    keys = [key for key in sorted(folder.glob("id_*")) if key.suffix != ".pub" and key.is_file()]
    return [*options, *(word for key in keys for word in ("-o", f'IdentityFile="{key}"'))]


@dataclass(frozen=True)
class Child:
    """A program under way, its three streams ours."""

    process: Process
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    _complaint: asyncio.Task[bytes]

    async def status(self) -> int:
        """Its exit status, when it has ended; negative for a signal."""
        return await self.process.wait()

    async def complaint(self) -> str:
        """The end of its standard error; what is there when something it left behind keeps that open."""
        await asyncio.wait([self._complaint], timeout=5)
        return decode(self._complaint.result()) if self._complaint.done() else ""


@contextlib.asynccontextmanager
async def child(argv: Sequence[str], **environment: str) -> AsyncIterator[Child]:
    """Run a program, with more in its environment; it is killed when it is left, and when we are."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        limit=CHUNK,
        env={**os.environ, **environment},
        process_group=0,  # a terminal's ^C is for us: we may have to speak to the node again
        preexec_fn=functools.partial(_end_with, os.getpid()),
    )
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if not (stdin and stdout and stderr):
        raise RuntimeError("a child without its pipes")
    complaint = asyncio.create_task(_tail(stderr))
    try:
        yield Child(process, stdin, stdout, complaint)
    finally:
        complaint.cancel()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # rsync has its ssh and a second self there
        ended = asyncio.ensure_future(process.wait())
        try:
            # closing a transport looks for the exit status behind asyncio's back, which then tells on standard error
            # that it has lost it: so the end comes first
            await asyncio.wait([ended], timeout=1)
        finally:
            # closes the pipes, which something left behind may hold
            process._transport.close()  # type: ignore[attr-defined]
            await asyncio.shield(asyncio.gather(ended, complaint, return_exceptions=True))


def _end_with(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was killed before it could be heard of
        os._exit(1)


async def _tail(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while piece := await stream.read(CHUNK):
        kept = (kept + piece)[-COMPLAINT:]
    return kept
