"""The staging host: an SSH server on loopback whose one key may do what aogremote does, and nothing else.

It behaves as OpenSSH with a forced command does: whatever is asked runs `aogremote` with SSH_ORIGINAL_COMMAND, and a
client that goes away closes the command's pipes, no more. Started runs are processes of their own and outlive it.
The command that they run is the real one, with the site's configuration.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from aogconsole.demo.sshserver import Login, LoopbackServers, Machine, known_host, make_key, put
from aogconsole.staging.remote import render_aogremote

ACCOUNT = "arcdistribution"
NAME = "staging host"
GRACE = 20
"""Seconds a stopped run has, at the most; aogremote kills before that."""
PROGRAM = """\
#!/bin/sh
'''exec' {python} -P "$0" "$@"
' '''
import sys

from aogconsole.stagecalms.command import main

sys.argv[1:1] = ["--config", {config!r}]
sys.exit(main())
"""
"""The staging command as pip installs one: sh reads how to start Python, which reads the rest. So its process has its
name, by which aogremote counts those that were started by hand."""


class DemoStagingHost:
    """A staging host in a folder. A context manager: the server has a thread and an event loop of its own.

    So neither it nor the console waits for the other; what runs long (`sh`, and the runs) are processes.
    """

    def __init__(self, folder: Path, config: Path, called: Iterable[Path] = ()) -> None:
        """`config`: the staging command's. `called`: programs it needs to find, wherever a login's PATH leads."""
        self._folder = folder
        self.home = folder / "home"
        self.web_root = folder / "web"
        self.client_key = folder / "client_ed25519"
        self.known_hosts = folder / "known_hosts"
        self._host_key = folder / "host_ed25519"
        # runs by hand are counted by the command's name: another demo's must not be taken for one
        name = f"stagecalms-{hashlib.sha256(bytes(folder)).hexdigest()[:8]}.sh"
        self.command = self.home / "bin" / name
        """The program that a run starts."""
        self._aogremote = self.home / "bin" / "aogremote"
        self._install(config, called)
        self._server = LoopbackServers(NAME, {NAME: Machine(self._login, self._host_key, self.client_key)})

    def _install(self, config: Path, called: Iterable[Path]) -> None:
        """Make the account's home: its programs, and the keys when they are not there yet."""
        for made in (self.home / "bin", self.web_root):
            made.mkdir(parents=True, exist_ok=True)
        put(self.command, PROGRAM.format(python=shlex.quote(sys.executable), config=str(config)), 0o755)
        put(self._aogremote, render_aogremote("demo", command=f"bin/{self.command.name}", web_root=str(self.web_root)))
        for program in called:
            link = self.home / "bin" / program.name
            link.unlink(missing_ok=True)
            link.symlink_to(program)
        for key in (self.client_key, self._host_key):
            make_key(key)

    @property
    def port(self) -> int:
        """Of 127.0.0.1, while it runs."""
        return self._server.ports[NAME]

    def __enter__(self) -> Self:
        """Raises OSError when it cannot listen."""
        self._server.__enter__()
        put(self.known_hosts, known_host(f"[127.0.0.1]:{self.port}", self._host_key))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    def _login(self, command: str) -> Login:
        return Login(("sh", str(self._aogremote)), self._environment(command), self.home)

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
