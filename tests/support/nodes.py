"""A private cluster: real OpenSSH servers on 127.0.0.2, .3 and .4, each a node with processes and a home of its own.

libnss-wrapper names the account. Each node has a folder of working directories of its own, at the same path on all (a
mount name space, which takes root); else, and with `shared`, they share it, as on a network file system.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from aogconsole.stagecalms.job import Node
from backends.cluster import ClusterSettings
from tests.support.accounts import dropping, passwd, python_account
from tests.support.sshd import SSHD, WRAPPERS, make_keys

ACCOUNT = "arcproc"
NODES = ("arcp1.hq.eso.org", "arcp9.hq.eso.org", "arcp-rhel5.hq.eso.org")
"""The last is the one for old projects."""

CALIBRATOR = """#!/bin/sh
# leaves an MS of each execution block, of FILES files; waits for GATE, ends with STATUS
echo "calibrator $*"
echo "$$" >>"$HOME/calibrators"
until [ -z "${GATE-}" ] || [ -e "$GATE" ]; do sleep 0.05; done
shift 2
for block; do
    mkdir -p "$block.ms.split.cal/ANTENNA"
    head -c "${SIZE:-20000}" /dev/urandom >"$block.ms.split.cal/table.dat"
    echo "$block" >"$block.ms.split.cal/ANTENNA/table.info"
done
echo 'Done. Please find results in current directory.'
exit "${STATUS:-0}"
"""


def _own_mounts() -> bool:
    """Whether nodes can have mounts of their own."""
    tried = subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True)
    return os.geteuid() == 0 and tried.returncode == 0


@dataclass
class ClusterNode:
    """One node."""

    name: str
    address: str
    folder: Path
    workdir: Path
    """The folder of working directories, as the node sees it."""
    own_mounts: bool = False
    mount: str = ""
    """Options of a tmpfs that is the folder of working directories: `size=4m`."""
    limits: Sequence[str] = ()
    """Options of prlimit for all that runs on the node."""
    port: int = 0
    log: list[str] = field(default_factory=list)
    """The server's own words."""
    server: subprocess.Popen[str] | None = None
    _route: tuple[str, int] | None = None

    @property
    def node(self) -> Node:
        """As configured."""
        return Node(self.name)

    @property
    def home(self) -> Path:
        """The account's home on this node."""
        return self.folder / "home"

    @property
    def work(self) -> Path:
        """The folder of working directories, as we see it."""
        return self.folder / "work" if self.own_mounts else self.workdir

    def directories(self) -> list[str]:
        """What is in the folder of working directories."""
        return sorted(path.name for path in self.work.iterdir())

    def calibrators(self) -> int:
        """How many calibrators of CALIBRATOR's kind ever began here."""
        with contextlib.suppress(FileNotFoundError):
            return len((self.home / "calibrators").read_text().split())
        return 0

    def host_entry(self) -> str:
        """Its part of ssh_config."""
        address, port = self._route or (self.address, self.port)
        return (
            f"Host {self.name}\n  HostName {address}\n  Port {port}\n  HostKeyAlias {self.name}\n"
            f"  IdentityFile {self.folder.parent}/client\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.folder.parent}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
            # the usual one takes 0.15 s of a processor for each connection
            "  KexAlgorithms curve25519-sha256\n"
        )

    def start(self) -> None:
        """Start the server, on the same port as before if there was one, and wait until it listens."""
        for _ in range(20):
            port = self.port or _unused_port(self.address)
            if self._listen(port):
                self.port = port
                return
        pytest.fail("sshd does not start: " + "".join(self.log[-5:]))

    def _listen(self, port: int) -> bool:
        sshd = [str(SSHD), "-D", "-e", "-f", str(self.folder / "sshd_config"), "-o", f"Port={port}"]
        argv = [*dropping(*python_account()), *sshd]
        if self.limits:
            argv = ["prlimit", *self.limits, *argv]
        if self.own_mounts:
            inner, outer = shlex.quote(str(self.workdir)), shlex.quote(str(self.folder / "work"))
            uid, gid = python_account()
            mounting = f"mount --bind {outer} {inner}"
            if self.mount:
                mounting = f"mount -t tmpfs -o {self.mount},uid={uid},gid={gid},mode=755 none {inner}"
            argv = ["unshare", "-m", "sh", "-c", f'{mounting} && exec "$@"', "sh", *argv]
        self.server = subprocess.Popen(
            argv,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
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
        told = self.server.stderr
        assert told
        for line in told:
            self.log.append(line)
            if line.startswith("Server listening on"):
                threading.Thread(target=self._listen_on, args=(told,), daemon=True).start()
                return True
        self.server.wait()
        return False

    def _listen_on(self, told: Any) -> None:
        with contextlib.suppress(ValueError):
            self.log.extend(told)

    def processes(self) -> list[int]:
        """All of this node: by its home in their environment, and the server's own for its connections."""
        mark = b"HOME=" + os.fsencode(self.home)
        found, parents = set(), {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (path / "environ").read_bytes().split(b"\0"):
                    found.add(int(path.name))
            with contextlib.suppress(OSError):
                name, _, rest = (path / "stat").read_text().rpartition(") ")
                if "(sshd" in name:
                    parents[int(path.name)] = int(rest.split()[1])
        above = [self.server.pid] if self.server else []
        for pid in above:
            above += [below for below, parent in parents.items() if parent == pid and below not in above]
        return sorted({*found, *above})

    def workers(self) -> list[int]:
        """Those that the server does not need: sessions' commands, workers, calibrators and what they left."""
        found = []
        for pid in self.processes():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{pid}/stat").read_text()
                if "(sshd" not in stat and stat.rpartition(") ")[2][0] not in "ZX":
                    found.append(pid)
        return found

    def kill(self) -> None:
        """The node dies: server, sessions, workers. Its files stay; `start` brings it back."""
        while left := [pid for pid in self.processes() if _kill(pid)]:
            _wait_gone(left)
        if self.server:
            self.server.wait()
            if self.server.stderr:
                self.server.stderr.close()
            self.server = None

    def cut(self) -> None:
        """Its connections break; the workers go on, and new connections are welcome."""
        server = self.server.pid if self.server else 0
        sshds = [pid for pid in self.processes() if pid != server and _is_sshd(pid)]
        for pid in sshds:
            _kill(pid)


def _is_sshd(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "(sshd" in Path(f"/proc/{pid}/stat").read_text()
    return False


def _kill(pid: int) -> bool:
    """Whether there was something to kill."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX":
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def _wait_gone(pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX":
                time.sleep(0.002)


def _unused_port(address: str) -> int:
    with socket.socket() as chosen:
        chosen.bind((address, 0))
        port: int = chosen.getsockname()[1]
        return port


@dataclass
class ClusterSite:
    """The nodes, and what a staging host needs to speak to them."""

    folder: Path
    nodes: dict[str, ClusterNode] = field(default_factory=dict)
    """By short name: `arcp1`, `arcp9`, `arcp-rhel5`."""

    @property
    def workdir(self) -> PurePosixPath:
        """`stagecalms.workdir`."""
        return PurePosixPath(self.folder / "work")

    @property
    def workdir_path(self) -> Path:
        """The same, for us: the folder itself when the nodes share it."""
        return Path(self.workdir)

    @property
    def ssh_config(self) -> Path:
        """`stagecalms.ssh_config`."""
        return self.folder / "ssh_config"

    @property
    def calibrator(self) -> Path:
        """The command CALIBRATOR: `GATE=/path SIZE=n STATUS=n {site.calibrator}`."""
        return self.folder / "calibrate"

    def settings(self, **changes: Any) -> ClusterSettings:
        """Of an adapter for these nodes."""
        usual: dict[str, Any] = {
            "nodes": tuple(Node(name) for name in NODES[:-1]),
            "rhel5_nodes": (Node(NODES[-1]),),
            "user": ACCOUNT,
            "ssh_config": str(self.ssh_config),
            "need": 1000,
        }
        return ClusterSettings(**{**usual, **changes})

    def of(self, node: Node) -> ClusterNode:
        """The node with this name."""
        return self.nodes[node.name]

    def route(self, name: str, address: str | None = None, port: int = 0) -> None:
        """Lead to this node through a proxy, or straight again; connections that are open stay."""
        self.nodes[name]._route = (address, port) if address else None
        self.write_config()

    def write_config(self) -> None:
        """The ssh_config, whole at every moment."""
        fresh = self.ssh_config.with_suffix(".new")
        fresh.write_text("".join(node.host_entry() for node in self.nodes.values()))
        fresh.rename(self.ssh_config)

    def close(self) -> None:
        """End everything."""
        for node in self.nodes.values():
            node.kill()
        shutil.rmtree(self.folder)


def _furnish(node: ClusterNode, known_hosts: list[str]) -> None:
    folder = node.folder
    for path in (folder, node.home, folder / "work"):
        path.mkdir(mode=0o755)
    make_keys(folder, "host_ed25519")
    key = (folder / "host_ed25519.pub").read_text().split()
    known_hosts.append(f"{node.name} {key[0]} {key[1]}\n")
    uid, gid = python_account()
    (folder / "passwd").write_text(passwd(ACCOUNT, uid, gid, "pipeline", node.home))
    (folder / "group").write_text(f"{ACCOUNT}:x:{gid}:\n")
    (folder / "sshd_config").write_text(
        f"ListenAddress {node.address}\nHostKey {folder}/host_ed25519\nPidFile none\n"
        f"AuthorizedKeysFile {folder.parent}/client.pub\nAuthenticationMethods publickey\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n"
        "MaxStartups 200\nPrintMotd no\nLogLevel VERBOSE\n"
    )
    if os.geteuid() == 0:
        for path in (node.home, folder / "work", folder / "host_ed25519"):
            os.chown(path, uid, gid)


@contextlib.contextmanager
def clusters() -> Iterator[Callable[..., ClusterSite]]:
    """A maker of clusters: `make(mounts={"arcp9": "size=4m"})`; all are ended with the block.

    `shared`: the nodes' folder of working directories is one, which others see too, as on a network file system.
    """
    if not (SSHD and WRAPPERS):
        pytest.fail("needs openssh-server and libnss-wrapper")
    with contextlib.ExitStack() as ends:

        def make(
            names: Sequence[str] = NODES,
            mounts: dict[str, str] | None = None,
            limits: dict[str, Sequence[str]] | None = None,
            shared: bool = False,
        ) -> ClusterSite:
            site = ClusterSite(Path(tempfile.mkdtemp(prefix="aog-nodes-", dir="/tmp")))
            ends.callback(site.close)
            site.folder.chmod(0o755)
            make_keys(site.folder, "client")
            (site.folder / "client.pub").chmod(0o644)
            # OpenSSH takes a key of another owner from root, and from the owner
            os.chown(site.folder / "client", *python_account())
            site.calibrator.write_text(CALIBRATOR)
            site.calibrator.chmod(0o755)
            workdir = Path(site.workdir)
            workdir.mkdir(mode=0o755)
            if os.geteuid() == 0:
                os.chown(workdir, *python_account())
            known_hosts: list[str] = []
            own_mounts = not shared and _own_mounts()
            for place, name in enumerate(names):
                node = ClusterNode(
                    name, f"127.0.0.{place + 2}", site.folder / f"node{place}", workdir, own_mounts=own_mounts
                )
                node.mount = (mounts or {}).get(node.node.name, "")
                node.limits = (limits or {}).get(node.node.name, ())
                _furnish(node, known_hosts)
                site.nodes[node.node.name] = node
                node.start()
            (site.folder / "known_hosts").write_text("".join(known_hosts))
            site.write_config()
            return site

        yield make


@pytest.fixture
def new_cluster_site() -> Iterator[Callable[..., ClusterSite]]:
    """`clusters`, ended with the test."""
    with clusters() as make:
        yield make


@pytest.fixture
def cluster_site(new_cluster_site: Callable[..., ClusterSite]) -> ClusterSite:
    """Three nodes: arcp1, arcp9, and arcp-rhel5 for old projects."""
    return new_cluster_site()


def new_token() -> str:
    """A run's token."""
    return secrets.token_hex(16)
