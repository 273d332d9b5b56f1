"""The staging host: an SSH server on loopback whose one key may do what aogremote does, and nothing else.

It behaves as OpenSSH with a forced command does: whatever is asked runs `aogremote` with SSH_ORIGINAL_COMMAND, and a
client that goes away closes the command's pipes, no more. Started runs are processes of their own and outlive it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh

from aogconsole.staging.remote import render_aogremote

ACCOUNT = "arcdistribution"
GRACE = 20
"""Seconds a stopped run has, at the most; aogremote kills before that."""


class DemoStagingHost:
    """A staging host in a folder. A context manager: the server has a thread and an event loop of its own.

    So neither it nor the console waits for the other; what runs long (`sh`, and the runs) are processes.
    """

    def __init__(self, folder: Path, runs: Path, speed: float) -> None:
        """`runs`: what a run of each MOUS does (day/runs.txt). `speed`: 1 is the pace of a demonstration."""
        self._folder = folder
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._serving: dict[asyncio.Task[None], int] = {}
        self.home = folder / "home"
        self.web_root = folder / "web"
        self.client_key = folder / "client_ed25519"
        self.known_hosts = folder / "known_hosts"
        self.port = 0
        # runs by hand are counted by the command's name: another demo's must not be taken for one
        name = f"stagecalms-{hashlib.sha256(bytes(folder)).hexdigest()[:8]}.sh"
        self._install(name, runs, speed)
        self._aogremote = self.home / "bin" / "aogremote"
        self._aogremote.write_text(
            render_aogremote("demo", command=f"bin/{name}", web_root=str(self.web_root)), encoding="utf-8"
        )

    def _install(self, name: str, runs: Path, speed: float) -> None:
        """Make the account's home: its programs, and the keys when they are not there yet."""
        program = self.home / "bin"
        for made in (program, self.web_root):
            made.mkdir(parents=True, exist_ok=True)
        fresh = program / "stagecalms.new"
        fresh.write_bytes(files("aogconsole.demo").joinpath("stagecalms.sh").read_bytes())
        fresh.chmod(0o755)
        fresh.rename(program / name)  # a run that goes on keeps the old one
        shutil.copyfile(runs, program / "runs.txt")
        (program / "pace").write_text(f"{max(1, round(1000 / speed))}\n")
        for path in (self.client_key, self._folder / "host_ed25519"):
            if not path.exists():
                key = asyncssh.generate_private_key("ssh-ed25519")
                path.touch(0o600)
                path.write_bytes(key.export_private_key())

    def __enter__(self) -> Self:
        ready: Future[int] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), name="staging host", daemon=True)
        self._thread.start()
        self.port = ready.result()
        key = asyncssh.read_private_key(self._folder / "host_ed25519").export_public_key().decode().strip()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {key}\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    async def _run(self, ready: Future[int]) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(_told)
        logging.getLogger("asyncssh").setLevel(logging.ERROR)
        key = asyncssh.read_private_key(self.client_key).export_public_key().decode()
        try:
            server = await asyncssh.listen(
                "127.0.0.1",
                0,
                server_host_keys=[self._folder / "host_ed25519"],
                authorized_client_keys=asyncssh.import_authorized_keys(key),
                password_auth=False,
                kbdint_auth=False,
                agent_forwarding=False,
                allow_pty=False,
                acceptor=self._connections.add,
                process_factory=self._serve,
                encoding=None,
            )
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(server.get_port())
        await self._ended.wait()
        server.close()
        for connection in self._connections:
            connection.abort()
        for child in self._serving.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # logs that are being followed
        await asyncio.gather(*self._serving, return_exceptions=True)
        await server.wait_closed()

    async def _serve(self, channel: asyncssh.SSHServerProcess[bytes]) -> None:
        """One command of a client, to its end."""
        child = subprocess.Popen(  # noqa: ASYNC220  # asyncio's would be killed with its pipes
            ["sh", str(self._aogremote)], env=self._environment(channel.command or ""), cwd=self.home,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._serving[task] = child.pid
        try:
            with contextlib.suppress(asyncssh.Error, OSError):
                await channel.redirect(stdout=child.stdout, stderr=child.stderr)
                await _first_of(_drained(channel), channel.wait_closed())
            status = await _end_of(child)
            with contextlib.suppress(asyncssh.Error, OSError):
                channel.exit(status)
        finally:
            del self._serving[task]

    def _environment(self, command: str) -> dict[str, str]:
        """What a login of the account sees: nothing of this process but the language."""
        return {
            "HOME": str(self.home), "LOGNAME": ACCOUNT, "USER": ACCOUNT, "SHELL": "/bin/sh", "PATH": os.defpath,
            "LANG": os.environ.get("LANG", "C.UTF-8"), "SSH_ORIGINAL_COMMAND": command,
        }  # fmt: skip

    def live_runs(self) -> list[str]:
        """The tokens of runs that have not ended."""
        root = self.home / ".aogconsole"
        return [path.parent.name for path in root.glob("*/pid") if not (path.parent / "exit").exists()]

    def stop_runs(self) -> None:
        """End every run that goes on: its own process group, no other."""
        stops = [
            subprocess.Popen(
                ["sh", str(self._aogremote)], env=self._environment(f"stop {token}"), cwd=self.home,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for token in self.live_runs()
        ]  # fmt: skip
        for stop in stops:
            stop.wait(GRACE)


def _told(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncssh writes once more to a client that has just gone: nothing to tell on an operator's screen."""
    if not isinstance(context.get("exception"), BrokenPipeError):
        loop.default_exception_handler(context)


async def _drained(channel: asyncssh.SSHServerProcess[bytes]) -> None:
    await channel.stdout.drain()
    await channel.stderr.drain()


async def _first_of(*waits: Coroutine[Any, Any, None]) -> None:
    """Wait for one of them; asyncssh's drain does not end with a connection that is lost."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
