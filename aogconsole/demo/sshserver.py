"""SSH servers on loopback, in a thread of their own: what the embedded site's staging host and nodes have in common.

They behave as OpenSSH does: a command is a process with pipes, a client that goes away closes these, and no more.
What a command has started and detached outlives it, the server, and this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh

from aogconsole.tasks import cancelled

CHUNK = 65536
COMING = 2.0
"""Seconds at the end for clients that are just coming in: as soon as they are known they are cut like the others."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a command asked for over SSH becomes."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    """Whole: nothing of this process is added."""
    folder: Path
    """Where it starts."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One server: what it runs, its key, and who may come in."""

    login: Callable[[str], Login]
    """Of the command as it was sent; empty for a shell."""
    host_key: Path
    client_key: Path
    """The private key, of which the public half is let in."""
    takes_input: bool = False
    """Whether commands read what the client sends; else they read nothing."""


class LoopbackServers:
    """Servers in one thread with one event loop. A context manager; `ports` is known within."""

    def __init__(self, name: str, machines: Mapping[str, Machine]) -> None:
        """`name`: of the thread."""
        self._machines = dict(machines)
        self._name = name
        self._doors: list[socket.socket] = []
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._serving: dict[asyncio.Task[None], int] = {}
        self.ports: Mapping[str, int] = {}
        """Of 127.0.0.1, by machine."""

    def __enter__(self) -> Self:
        """Raises OSError when it cannot listen."""
        ready: Future[Mapping[str, int]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), name=self._name, daemon=True)
        self._thread.start()
        self.ports = ready.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    async def _run(self, ready: Future[Mapping[str, int]]) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(_told)
        logging.getLogger("asyncssh").setLevel(logging.ERROR)
        servers: list[asyncssh.SSHAcceptor] = []
        try:
            for machine in self._machines.values():
                servers.append(await self._listen(machine))
        except BaseException as error:
            for door in self._doors:
                door.close()
            ready.set_exception(error)
            return
        ready.set_result({name: server.get_port() for name, server in zip(self._machines, servers, strict=True)})
        await self._ended.wait()
        for door in self._doors:
            self._loop.remove_reader(door)
        await asyncio.sleep(0)  # who has come in is let in: asyncio forgets one whose server closes in that very turn
        for server in servers:
            server.close()
        await self._cut()
        patience = self._loop.time() + COMING
        while late := asyncio.all_tasks() - {asyncio.current_task()}:  # of a client that was just coming in
            await asyncio.wait(late, timeout=0.02)
            await self._cut()
            if self._loop.time() > patience:
                await cancelled(late)
        for server in servers:
            await server.wait_closed()

    async def _cut(self) -> None:
        for connection in (cut := list(self._connections)):
            connection.abort()
        for connection in cut:
            await connection.wait_closed()  # so that no client takes what follows for its command's end
        for child in self._serving.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # logs that are being followed
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _listen(self, machine: Machine) -> asyncssh.SSHAcceptor:
        key = asyncssh.read_private_key(machine.client_key).export_public_key().decode()
        door = socket.create_server(("127.0.0.1", 0))
        self._doors.append(door)
        return await asyncssh.listen(
            sock=door,
            server_host_keys=[machine.host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(key),
            password_auth=False,
            kbdint_auth=False,
            agent_forwarding=False,
            allow_pty=False,
            server_factory=lambda: _Coming(self._come),
            process_factory=partial(self._serve, machine),
            encoding=None,
        )

    def _come(self, connection: asyncssh.SSHServerConnection) -> None:
        self._connections.add(connection)
        closing = asyncio.ensure_future(connection.wait_closed())
        closing.add_done_callback(lambda _: self._connections.discard(connection))

    async def _serve(self, machine: Machine, channel: asyncssh.SSHServerProcess[bytes]) -> None:
        """One command of a client, to its end."""
        login = machine.login(channel.command or "")
        ours, theirs = socket.socketpair()
        with theirs:
            child = subprocess.Popen(  # noqa: ASYNC220  # asyncio's would be killed with its pipes
                login.argv, env=login.environment, cwd=login.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                stdin=theirs.fileno() if machine.takes_input else subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._serving[task] = child.pid
        closed = asyncio.create_task(channel.wait_closed())  # cancelled it would leave coroutines of asyncssh's
        feeding = asyncio.create_task(_fed(channel, ours))
        try:
            with contextlib.suppress(asyncssh.Error, OSError):
                await channel.redirect(stdout=child.stdout, stderr=child.stderr)
                await _told_whole(channel, closed)
            status = await _end_of(child)
            with contextlib.suppress(asyncssh.Error, OSError):
                channel.exit(status if status >= 0 else 128 - status)
        finally:
            del self._serving[task]
            feeding.cancel()
            await asyncio.gather(closed, feeding, return_exceptions=True)


class _Coming(asyncssh.SSHServer):
    """Tells of a client before it has logged in: it too must be cut at the end."""

    def __init__(self, come: Callable[[asyncssh.SSHServerConnection], None]) -> None:
        self._come = come

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Called by asyncssh."""
        self._come(conn)


def make_key(file: Path) -> None:
    """A private key, for its owner alone; one that is there stays."""
    if not file.exists():
        file.touch(0o600)
        file.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())


def known_host(name: str, host_key: Path) -> str:
    """A line of known_hosts for a machine with this private key."""
    return f"{name} {asyncssh.read_private_key(host_key).export_public_key().decode().strip()}\n"


def put(file: Path, text: str, mode: int = 0o644) -> None:
    """Write a file that is whole at any moment: whoever runs or reads it goes on with the old one."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(mode)
    fresh.rename(file)


def _told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncssh writes once more to a client that has just gone: nothing to tell on an operator's screen."""
    if not isinstance(context.get("exception"), BrokenPipeError | ConnectionResetError):
        loop.default_exception_handler(context)


async def _fed(channel: asyncssh.SSHServerProcess[bytes], target: socket.socket) -> None:
    """Give a command what the client sends, to its end: asyncssh's redirection loses some when a pipe is full."""
    _, writer = await asyncio.open_connection(sock=target)
    try:
        with contextlib.suppress(asyncssh.Error, asyncssh.BreakReceived, asyncssh.SignalReceived, OSError):
            while data := await channel.stdin.read(CHUNK):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()


async def _told_whole(channel: asyncssh.SSHServerProcess[bytes], closed: asyncio.Task[None]) -> None:
    """Wait until the client has all of the output, or is gone: asyncssh's drain does not end with the connection."""
    sent = asyncio.create_task(_drained(channel))
    await asyncio.wait([sent, closed], return_when=asyncio.FIRST_COMPLETED)
    sent.cancel()
    await asyncio.gather(sent, return_exceptions=True)


async def _drained(channel: asyncssh.SSHServerProcess[bytes]) -> None:
    await channel.stdout.drain()
    await channel.stderr.drain()


async def _end_of(child: subprocess.Popen[bytes]) -> int:
    """The exit status of a process, without a thread that waits for it."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    descriptor = os.pidfd_open(child.pid)
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return child.wait()
