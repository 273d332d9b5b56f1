"""A private staging host: real OpenSSH on 127.0.0.1 with an account, run folder and staging command of its own.

libnss-wrapper names the account, so none is made. As root the server runs as `nobody`, else as the caller.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import asyncssh
import pytest

from aogconsole.staging.remote import render_aogremote
from tests.support.accounts import account, dropping, passwd, python_account

if TYPE_CHECKING:
    from backends.ssh import SshSettings

ACCOUNT = "arcdistribution"
OPERATOR = "tester"
WRAPPERS = sorted(Path("/usr/lib").glob("*/libnss_wrapper.so*"))
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

QUICK = """#!/bin/bash
echo "The staging directory of $*"
"""


@dataclass
class StagingSite:
    """One staging host. `command` is a name no other site has, for runs by hand are counted by name."""

    folder: Path
    port: int = 0
    command: str = field(default_factory=lambda: f"stagecalms-{secrets.token_hex(4)}.sh")
    log: list[str] = field(default_factory=list)
    """The server's own words."""
    server: subprocess.Popen[str] | None = None
    ids: tuple[int, int] = field(default_factory=account)
    """The account's user and group."""

    @property
    def home(self) -> Path:
        """The account's home."""
        return self.folder / "home"

    @property
    def root(self) -> Path:
        """The run folder."""
        return self.home / ".aogconsole"

    @property
    def web_root(self) -> Path:
        """Where staged data appear."""
        return self.folder / "web"

    @property
    def known_hosts(self) -> Path:
        """The right known_hosts."""
        return self.folder / "known_hosts"

    def key(self, remote: Literal["forced", "plain"]) -> Path:
        """The client's key: one is bound to the forced command, the other to nothing."""
        return self.folder / f"client_{remote}"

    def settings(self, remote: Literal["forced", "plain"] = "forced", port: int = 0) -> SshSettings:
        """Settings of an adapter for this host, through another port when a proxy is between."""
        from backends.ssh import SshSettings

        if port:
            line = self.known_hosts.read_text().replace(f":{self.port} ", f":{port} ")
            known_hosts = self.folder / f"known_hosts.{port}"
            known_hosts.write_text(line)
        return SshSettings(
            host="127.0.0.1",
            port=port or self.port,
            user=ACCOUNT,
            key=str(self.key(remote)),
            known_hosts=str(known_hosts if port else self.known_hosts),
            command=self.command,
            web_root=str(self.web_root),
            remote=remote,
            operator=OPERATOR,
        )

    def install(self, text: str = QUICK) -> Path:
        """Make this program the staging command."""
        path = self.home / "bin" / self.command
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(0o755)
        fresh.rename(path)
        return path

    def run_log(self, token: str) -> bytes:
        """The log as the host has it."""
        return (self.root / token / "log").read_bytes()

    def as_account(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a program as the account, as an operator's login would; ended with the site."""
        drop = dropping(*self.ids)
        environment = {"HOME": str(self.home), "PATH": f"{os.environ['PATH']}:{self.home}/bin"}
        return subprocess.Popen(
            [*drop, *argv],
            env=environment,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def processes(self) -> list[int]:
        """Processes of this site's account, by the home in their environment."""
        mark = b"HOME=" + os.fsencode(self.home)
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found

    def connections(self) -> list[int]:
        """The server's processes for its connections: sshd has a monitor and a session for each."""
        assert self.server
        parents = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                name, _, rest = path.read_text().rpartition(") ")
                if "(sshd" in name:
                    parents[int(path.parent.name)] = int(rest.split()[1])
        found = [self.server.pid]
        for above in found:
            found += [pid for pid, parent in parents.items() if parent == above]
        return found[1:]

    def kill(self, pid: int) -> None:
        """SIGKILL one process of the account, and wait until it is gone or a zombie."""
        _kill(pid)
        with contextlib.suppress(OSError):
            while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z":
                time.sleep(0.005)

    def start(self) -> None:
        """Start the server, on the same port as before if there was one, and wait until it listens."""
        for _ in range(20):
            port = self.port or unused_port()
            if self._listen(port):
                self.port = port
                key = (self.folder / "host_ed25519.pub").read_text().split()
                self.known_hosts.write_text(f"[127.0.0.1]:{port} {key[0]} {key[1]}\n")
                return
        pytest.fail("sshd does not start: " + "".join(self.log[-5:]))

    def _listen(self, port: int) -> bool:
        drop = dropping(*self.ids)
        self.server = subprocess.Popen(
            [*drop, str(SSHD), "-D", "-e", "-f", str(self.folder / "sshd_config"), "-o", f"Port={port}"],
            env={
                "PATH": os.environ["PATH"],
                "LD_PRELOAD": str(WRAPPERS[0]),
                "NSS_WRAPPER_PASSWD": str(self.folder / "passwd"),
                "NSS_WRAPPER_GROUP": str(self.folder / "group"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        words = self.server.stderr
        assert words
        for line in words:
            self.log.append(line)
            if line.startswith("Server listening on"):
                threading.Thread(target=lambda: self.log.extend(words), daemon=True).start()
                return True
        self.server.wait()
        return False

    def stop(self) -> None:
        """Kill the server with its connections, not the runs."""
        if self.server:
            for pid in [*self.connections(), self.server.pid]:
                _kill(pid)
            self.server.wait()

    def close(self) -> None:
        """End everything of this site."""
        self.stop()
        while left := self.processes():
            for pid in left:
                _kill(pid)
            time.sleep(0.01)
        shutil.rmtree(self.folder)

    def hand_over(self) -> None:
        """Give the host's files to the account; the client's keys stay ours."""
        if os.geteuid() != 0:
            return
        uid, gid = self.ids
        for path in (
            self.home,
            self.web_root,
            self.folder / "host_ed25519",
            *self.home.rglob("*"),
            *self.web_root.iterdir(),
        ):
            os.chown(path, uid, gid)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def unused_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port


def make_keys(folder: Path, *names: str, kind: str = "ssh-ed25519") -> None:
    """Key pairs of these names, without passphrase."""
    for name in names:
        key = asyncssh.generate_private_key(kind, name)
        key.write_private_key(folder / name)
        key.write_public_key(folder / f"{name}.pub")
        (folder / name).chmod(0o600)


def _furnish(site: StagingSite, slots: int) -> None:
    folder = site.folder
    folder.chmod(0o711)
    for path in (site.home, site.web_root):
        path.mkdir(mode=0o755)
    make_keys(folder, "host_ed25519", "client_forced", "client_plain")
    aogremote = site.home / "aogremote"
    aogremote.write_text(render_aogremote(slots=slots, command=site.command, web_root=str(site.web_root)))
    aogremote.chmod(0o755)
    forced, plain = (site.key(remote).with_suffix(".pub").read_text() for remote in ("forced", "plain"))
    restriction = f'restrict,command="{aogremote} --operator {OPERATOR}"'
    (folder / "authorized_keys").write_text(f"{restriction} {forced}{plain}")
    uid, gid = site.ids
    (folder / "passwd").write_text(passwd(ACCOUNT, uid, gid, "staging", site.home))
    (folder / "group").write_text(f"{ACCOUNT}:x:{gid}:\n")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nHostKey {folder}/host_ed25519\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nAuthenticationMethods publickey\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n"
        "MaxSessions 10\nMaxStartups 50:30:100\nAcceptEnv LANG LC_*\nPrintMotd no\nLogLevel VERBOSE\n"
    )
    for path in folder.iterdir():
        if path.suffix == ".pub" or path.name in {"passwd", "group", "authorized_keys", "sshd_config"}:
            path.chmod(0o644)
    site.install()
    site.hand_over()


@pytest.fixture
def new_staging_site() -> Iterator[Callable[..., StagingSite]]:
    """A maker of staging hosts: `new_staging_site(slots=2)`; all are ended with the test.

    `python`: the account may run this Python.
    """
    if not (SSHD and WRAPPERS):
        pytest.skip("needs openssh-server and libnss-wrapper")
    with contextlib.ExitStack() as ends:

        def make(slots: int = 2, *, python: bool = False) -> StagingSite:
            ids = python_account() if python else account()
            site = StagingSite(Path(tempfile.mkdtemp(prefix="aog-sshd-", dir="/tmp")), ids=ids)
            ends.callback(site.close)
            _furnish(site, slots)
            site.start()
            return site

        yield make


@pytest.fixture
def staging_site(new_staging_site: Callable[..., StagingSite]) -> StagingSite:
    """One staging host with two slots."""
    return new_staging_site()
