"""A private Slurm of one node: slurmctld, slurmd and munged on 127.0.0.1, each stopped by its process id.

One serves a whole test process; it runs as the caller (root or not) and starts jobs of the caller.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.sshd import unused_port

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
PROGRAMS = {name: shutil.which(name, path=_PATH) for name in ("munged", "slurmctld", "slurmd", "sbatch", "squeue")}
_CONFIG = """\
ClusterName=aogtest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={root}/munge/s
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MailProg=/bin/true
MinJobAge=300
KillWait=1
MessageTimeout=1
SlurmdParameters=config_overrides
CommunicationParameters=NoCtldInAddrAny
NodeName={host} NodeAddr=127.0.0.1 CPUs=24 Boards=1 SocketsPerBoard=1 CoresPerSocket=24 ThreadsPerCore=1 \
RealMemory=500 State=UNKNOWN
PartitionName=arc Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class Slurm:
    """The running servers. `environment` is what a client needs beside PATH."""

    root: Path
    port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    restarts: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """For clients: an environment of nothing but this."""
        return {"PATH": _PATH, "HOME": str(self.root), "LANG": "C.UTF-8", "SLURM_CONF": str(self.root / "slurm.conf")}

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A client's command, such as squeue."""
        return subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, timeout=30, check=False, cwd=self.root
        )

    def kill_controller(self) -> None:
        """SIGKILL slurmctld; jobs run on, and what it had not saved is forgotten."""
        controller = self.processes.pop("slurmctld")
        controller.kill()
        controller.wait()

    def start_controller(self) -> None:
        """Start slurmctld and wait until it answers.

        A controller that was killed gives the numbers of jobs that it forgot to others, and drains the node when it
        then hears of both: the numbers go on at another place.
        """
        with (self.root / "slurm.conf").open("a") as file:
            self.restarts += 1
            file.write(f"FirstJobId={1000 * self.restarts}\n")
        self._start("slurmctld", "-D", "-f", str(self.root / "slurm.conf"))
        self._until(self._listens, "slurmctld does not listen")
        self._until(lambda: self.run("squeue", "--noheader").returncode == 0, "slurmctld does not answer")
        self.processes["slurmd"].send_signal(signal.SIGHUP)  # to register now, and not at the next ping

    def cancel_all(self) -> None:
        """End every job, and wait until none is left."""
        if "slurmctld" not in self.processes:
            self.start_controller()
        self.run("scancel", "--me", "--signal=KILL", "--full")
        self.run("scancel", "--me")
        self._until(lambda: not self.run("squeue", "--noheader").stdout.strip(), "jobs do not end")

    def start(self) -> None:
        """Start all three, and wait until the node takes jobs."""
        munge = self.root / "munge"
        self._start(
            "munged", "--foreground", "--force", f"--socket={munge}/s", f"--key-file={munge}/key",
            f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed",
        )  # fmt: skip
        self._until((munge / "s").exists, "munged does not start")
        host = _host()
        self._start("slurmctld", "-D", "-f", str(self.root / "slurm.conf"))
        self._until(self._listens, "slurmctld does not listen")
        self._start("slurmd", "-D", "-f", str(self.root / "slurm.conf"), "-N", host)
        self._until(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%T").stdout, "the node is not idle")

    def stop(self) -> None:
        """End the servers, the node's first, and what is left of the jobs with it."""
        for name in ("slurmctld", "slurmd", "munged"):
            if process := self.processes.pop(name, None):
                process.send_signal(signal.SIGKILL if name == "slurmctld" else signal.SIGTERM)  # it takes a second
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1)
                process.kill()
                process.wait()
        self._end_steps()

    def _end_steps(self) -> None:
        """Jobs' own servers, which wait for ever for a controller that forgot them."""
        mark = f"SLURM_CONF={self.root / 'slurm.conf'}".encode()
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                ours = mark in path.read_bytes().split(b"\0")
                if ours and path.with_name("comm").read_text() == "slurmstepd\n":
                    os.kill(int(path.parent.name), signal.SIGKILL)

    def _listens(self) -> bool:
        """Asking before would cost a client's pause of a second."""
        with socket.socket() as line:
            return line.connect_ex(("127.0.0.1", self.port)) == 0

    def _start(self, name: str, *words: str) -> None:
        with (self.root / f"{name}.out").open("ab") as out:
            self.processes[name] = subprocess.Popen(
                [str(PROGRAMS[name]), *words],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def _until(self, there: Callable[[], bool], trouble: str) -> None:
        end = time.monotonic() + 30
        while not there():
            dead = [name for name, process in self.processes.items() if process.poll() is not None]
            if dead or time.monotonic() > end:
                words = "".join(path.read_text(errors="replace")[-600:] for path in self.root.glob("*.out"))
                raise RuntimeError(f"Slurm: {trouble}; ended: {dead}; {words}")
            time.sleep(0.02)


def _host() -> str:
    return socket.gethostname().split(".")[0]


def _furnish(root: Path) -> Slurm:
    root.chmod(0o755)
    for name in ("state", "spool", "munge"):
        (root / name).mkdir(mode=0o755)
    (root / "munge" / "key").write_bytes(secrets.token_bytes(1024))
    (root / "munge" / "key").chmod(0o600)
    port = unused_port()
    config = _CONFIG.format(root=root, host=_host(), user=getpass.getuser(), controller=port, node=unused_port())
    (root / "slurm.conf").write_text(config)
    return Slurm(root, port)


@pytest.fixture(scope="session")
def slurm_server() -> Iterator[Slurm]:
    """The servers, for the whole test process."""
    if missing := [name for name, path in PROGRAMS.items() if not path]:
        pytest.fail(f"Slurm is not installed: {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge)")
    for attempt in range(3):
        server = _furnish(Path(tempfile.mkdtemp(prefix="aog-slurm-", dir="/tmp")))
        try:
            server.start()
            break
        except RuntimeError as error:  # a port was taken meanwhile
            server.stop()
            shutil.rmtree(server.root)
            if attempt == 2:
                pytest.fail(str(error))
    yield server
    server.cancel_all()
    server.stop()
    shutil.rmtree(server.root)


@pytest.fixture
def slurm(slurm_server: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """The servers with no job of an earlier test, and `SLURM_CONF` in our environment."""
    monkeypatch.setenv("SLURM_CONF", slurm_server.environment["SLURM_CONF"])
    if "slurmctld" not in slurm_server.processes:
        slurm_server.start_controller()
    yield slurm_server
    slurm_server.cancel_all()
