"""The cluster of the embedded site: nodes that are SSH servers on loopback, for OpenSSH's `ssh` and for rsync.

What a node is asked runs by its `sh`. Nodes share the folder of the working directories, as on a parallel file system,
and the calibrator; each has a home of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self

from aogconsole.config import to_toml
from aogconsole.demo.sshserver import Login, LoopbackServers, Machine, known_host, make_key, put
from aogconsole.errors import ConfigError, UsageError

USER = "arcproc"
NODES = ("arcp1.hq.eso.org", "arcp9.hq.eso.org")
RHEL5_NODES = ("arcp-rhel5.hq.eso.org",)
PROGRAMS = {"ssh": "openssh-client", "rsync": "rsync"}
"""What the staging command calls, and the packages that have it."""
PATH = re.compile("[0-9A-Za-z_./+@=,:-]{1,500}", re.ASCII)
"""What the nodes take for the folder of the working directories."""
MARK = "AOG_DEMO"
"""A variable of every process on the nodes: the demo's folder."""
KILLS = 20
"""Looks for processes that were begun while the others were killed."""
SETTINGS = """\
[stagecalms]
nodes = {nodes}
node_user = {user}
rhel5_nodes = {rhel5_nodes}
rhel5_before = "2012"
workdir = {workdir}
web_root = {web_root}
calibrator = {calibrator}
ssh_config = "cluster/ssh_config"
room = 0.05
patience = 600
"""
"""The configuration's part. A run waits for its node when the demo ends, and finds it again with the next start."""
HOST = """\
Host {name}
    HostName 127.0.0.1
    Port {port}
    HostKeyAlias {name}
"""
CLIENT = """\
Host *
    IdentityFile {key}
    IdentitiesOnly yes
    IdentityAgent none
    UserKnownHostsFile {known}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    KexAlgorithms curve25519-sha256
"""


class DemoNodes:
    """The cluster in a folder. A context manager; `ssh_config` is whole within."""

    def __init__(self, folder: Path, runs: Path, speed: float) -> None:
        """`runs`: what the calibrator says of each MOUS (day/runs.txt). `speed`: 1 is the pace of a demonstration.

        Raises ConfigError when a program is missing, UsageError when the folder's path cannot be a working directory's.
        """
        if not PATH.fullmatch(str(folder)):
            raise UsageError(
                f"a demo cannot be in {str(folder)!r}: a working directory's path has no blanks or special letters",
                "name another folder with --dir, or with TMPDIR",
            )
        self._folder, self._root = folder, folder / "cluster"
        self.programs = tuple(found_programs())
        """What the staging command calls."""
        folders = (str(program.parent) for program in self.programs)
        self._path = os.pathsep.join(dict.fromkeys([*os.defpath.split(os.pathsep), *folders]))
        self.workdir = self._root / "work"
        self.ssh_config = self._root / "ssh_config"
        self.calibrator = self._root / "calibrate.sh"
        self._client_key = self._root / "client_ed25519"
        self._install(runs, speed)
        machines = {
            name: Machine(partial(self._login, name), self._host_key(name), self._client_key, takes_input=True)
            for name in (*NODES, *RHEL5_NODES)
        }
        self._servers = LoopbackServers("cluster", machines)

    def _install(self, runs: Path, speed: float) -> None:
        """Make the nodes' homes and keys, and the calibrator that all of them see."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        make_key(self._client_key)
        for name in (*NODES, *RHEL5_NODES):
            self._home(name).mkdir(exist_ok=True)
            make_key(self._host_key(name))
        supplied = files("aogconsole.demo").joinpath("calibrate.sh").read_text("utf-8")
        put(self.calibrator, supplied)  # one that runs goes on with the old one
        shutil.copyfile(runs, self._root / "runs.txt")
        put(self._root / "pace", f"{max(1, round(1000 / speed))}\n")

    def _home(self, name: str) -> Path:
        return self._root / name.partition(".")[0]

    def _host_key(self, name: str) -> Path:
        return self._root / f"{name.partition('.')[0]}_ed25519"

    def __enter__(self) -> Self:
        """Raises OSError when it cannot listen."""
        self._servers.__enter__()
        put(self._root / "known_hosts", "".join(known_host(name, self._host_key(name)) for name in self._servers.ports))
        hosts = "".join(HOST.format(name=name, port=port) for name, port in self._servers.ports.items())
        client = CLIENT.format(key=_quoted(self._client_key), known=_quoted(self._root / "known_hosts"))
        put(self.ssh_config, hosts + client)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._servers.__exit__(kind, error, trace)

    def _login(self, name: str, command: str) -> Login:
        home = self._home(name)
        return Login(("/bin/sh", "-c", command or "true"), self._environment(home), home)

    def _environment(self, home: Path) -> Mapping[str, str]:
        """What a login there sees: nothing of this process but the language."""
        return {
            "HOME": str(home), "LOGNAME": USER, "USER": USER, "SHELL": "/bin/sh", "PATH": self._path,
            "LANG": os.environ.get("LANG", "C.UTF-8"), MARK: str(self._folder),
        }  # fmt: skip

    def settings(self, web_root: Path) -> str:
        """Its part of the configuration; `web_root`: the staging host's."""
        return SETTINGS.format(
            nodes=to_toml(NODES), user=to_toml(USER), rhel5_nodes=to_toml(RHEL5_NODES),
            workdir=to_toml(str(self.workdir)), web_root=to_toml(str(web_root)),
            calibrator=to_toml(f"bash {shlex.quote(str(self.calibrator))}"),
        )  # fmt: skip

    def end_workers(self) -> None:
        """Kill what is left on the nodes: processes that were begun there, and their children."""
        for _ in range(KILLS):
            left = _marked(f"{MARK}={self._folder}")
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not left:
                return


def found_programs() -> list[Path]:
    """The programs that the staging command calls. Raises ConfigError."""
    found = {program: shutil.which(program) for program in PROGRAMS}
    if missing := [program for program, path in found.items() if path is None]:
        packages = " ".join(PROGRAMS[program] for program in missing)
        raise ConfigError(
            f"the demo's staging command needs {' and '.join(missing)}, not found on PATH",
            f"in a clone `bash .ci/demo` installs what is missing; else: apt-get install {packages}",
        )
    return [Path(path) for path in found.values() if path]


def _quoted(path: Path) -> str:
    """As ssh_config takes it."""
    return '"{}"'.format(str(path).replace("%", "%%"))


def _marked(mark: str) -> list[int]:
    """Our processes with this variable in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if os.fsencode(mark) in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found
