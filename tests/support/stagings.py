"""A staging host on which stagecalms is run by hand, and what must hold on it and on the nodes at every moment."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aogconsole
from tests.support.calibrating import Calibrator, check_served
from tests.support.nodes import ACCOUNT, NODES, ClusterNode, ClusterSite

PROJECT = "2019.1.00357.S"
COMPLETED = re.compile(r"^Staging of calibrated MS\(s\) for \S+ (\S+) helpdesk ticket #\d+ completed$", re.MULTILINE)
FAILED = re.compile(r"^Failed[.] Please investigate  (\S+) and ", re.MULTILINE)
STAYS = re.compile(r"^The working directory (\S+) on the EU ARC cluster was not removed[.]$", re.MULTILINE)
COMMAND = "from aogconsole.stagecalms.command import main; main()"
TOKEN = re.compile(r"^The staging directory will be accessible at \S+/([0-9a-f]{32})$", re.MULTILINE)
URL = "http://almascience.eso.org/arcdistribution/preview"

CONFIG = """
[staging]
root = "{root}"
slots = 2
[stagecalms]
nodes = [{nodes}]
node_user = "{user}"
rhel5_nodes = []
rhel5_before = ""
workdir = "{workdir}"
web_root = "{web_root}"
url = "{url}"
calibrator = {calibrator}
blocks = {blocks}
ssh_config = "{ssh_config}"
probe_timeout = 8
room = 0.002
patience = {patience}
"""


def mous(number: int) -> str:
    """One of many MOUSs."""
    return f"uid___A001_X{number:x}_X29"


def blocks_of(uid: str, count: int = 2) -> list[str]:
    """Its execution blocks."""
    return [f"uid___A002_{uid.split('_')[4]}_X{1 + number:x}" for number in range(count)]


@dataclass
class Ended:
    """How one stagecalms ended."""

    status: int
    out: str
    err: str

    @property
    def token(self) -> str | None:
        """The staging directory's name, when it came to have one."""
        found = TOKEN.search(self.out)
        return found[1] if found else None

    @property
    def completed(self) -> bool:
        """Whether it told its completion block."""
        return bool(COMPLETED.search(self.out))

    @property
    def stays(self) -> list[str]:
        """The working directories that it said to leave."""
        return STAYS.findall(self.out)

    def __str__(self) -> str:
        return f"exit {self.status}\n{self.out}\n--- standard error\n{self.err}"


@dataclass
class Running:
    """One stagecalms, from its start to its end; its output is read as it comes."""

    uid: str
    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    more: asyncio.Condition = field(default_factory=asyncio.Condition)
    readers: list[asyncio.Task[None]] = field(default_factory=list)

    async def read(self, stream: asyncio.StreamReader, into: list[str]) -> None:
        """Keep the lines."""
        while line := await stream.readline():
            into.append(line.decode("utf-8", "backslashreplace"))
            async with self.more:
                self.more.notify_all()
        async with self.more:
            self.more.notify_all()

    async def reaches(self, count: int, seconds: float = 60) -> None:
        """Until it has printed so many lines, or has ended."""
        async with asyncio.timeout(seconds), self.more:
            await self.more.wait_for(lambda: len(self.lines) >= count or self.readers[0].done())

    async def prints(self, text: str, seconds: float = 60) -> None:
        """Until it has printed a line with this text."""
        async with asyncio.timeout(seconds), self.more:
            await self.more.wait_for(lambda: any(text in line for line in self.lines) or self.readers[0].done())
        assert any(text in line for line in self.lines), "".join(self.lines)

    def kill(self) -> None:
        """SIGKILL, to it alone: what it started is left to itself."""
        with contextlib.suppress(ProcessLookupError):  # it may just have ended
            if self.process.returncode is None:
                os.kill(self.process.pid, signal.SIGKILL)

    async def end(self, seconds: float = 90) -> Ended:
        """Wait for its end; its output may be held open by what it started, and is not waited for long."""
        async with asyncio.timeout(seconds):
            status = await self.process.wait()
        _, late = await asyncio.wait(self.readers, timeout=10)
        for task in late:
            task.cancel()
        return Ended(status, "".join(self.lines), "".join(self.errors))


@dataclass
class StagingHost:
    """The account's folder, web root and configuration, in `folder`, beside the nodes of `site`."""

    folder: Path
    site: ClusterSite
    calibrator: Calibrator
    nodes: Sequence[str] = NODES[:-1]
    patience: float = 20.0
    command: str = COMMAND
    """What Python runs."""
    enter: Sequence[str] = ()
    """What a run is started by, to be in another mount name space or under a limit."""
    seen: Path | None = None
    """The web root as we see it, where runs see another."""
    checked: set[str] = field(default_factory=set)
    """Served directories that were looked at and are right."""

    def __post_init__(self) -> None:
        for path in (self.folder, self.home, self.web_root):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        self.configure()

    @property
    def home(self) -> Path:
        """The account's."""
        return self.folder / "home"

    @property
    def web_root(self) -> Path:
        """As it is configured."""
        return self.folder / "web"

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "config.toml"

    def configure(self) -> None:
        """Write the configuration."""
        blocks = self.folder / "blocks.py"
        blocks.write_text(
            "import sys\nx = sys.argv[1].split('_')[4]\n"
            "for n in range(1, 3):\n    print(f'uid___A002_{x}_X{n:x} Pass')\n"
        )
        self.config.write_text(
            CONFIG.format(
                root=self.home / "runs", nodes=", ".join(f'"{node}"' for node in self.nodes), user=ACCOUNT,
                workdir=self.site.workdir, web_root=self.web_root, url=URL,
                calibrator=_toml(self.calibrator.command), ssh_config=self.site.ssh_config, patience=self.patience,
                blocks=_toml(shlex.join([sys.executable, "-I", str(blocks)])),
            )
        )  # fmt: skip

    async def start(self, uid: str, ticket: int = 15270) -> Running:
        """Start it, as an operator does, in the account's login."""
        process = await asyncio.create_subprocess_exec(
            *self.enter, sys.executable, "-c", self.command, "--config", str(self.config), PROJECT, uid, str(ticket),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=self.home, start_new_session=True, env=self.environment,
        )  # fmt: skip
        running = Running(uid, process)
        assert process.stdout
        assert process.stderr
        for stream, into in ((process.stdout, running.lines), (process.stderr, running.errors)):
            running.readers.append(asyncio.ensure_future(running.read(stream, into)))
        return running

    @property
    def environment(self) -> dict[str, str]:
        """Of the account's login."""
        code = str(Path(aogconsole.__file__).parents[1])
        return {"HOME": str(self.home), "PATH": os.environ["PATH"], "PYTHONPATH": code}

    async def run(self, uid: str, seconds: float = 90) -> Ended:
        """One to its end."""
        return await (await self.start(uid)).end(seconds)

    def close(self) -> None:
        """End what a test has left running."""
        for pid in _with_home(self.home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # -- what must hold ------------------------------------------------------------------------------------------

    def directories(self) -> list[Path]:
        """All that is in the web root, as we see it."""
        return sorted((self.seen or self.web_root).iterdir())

    def served(self) -> dict[str, Path]:
        """Directories that the web server serves, by name."""
        return {path.name: path for path in self.directories() if path.stat().st_mode & 0o077}

    def unserved(self) -> set[str]:
        """Names of the others."""
        return {path.name for path in self.directories()} - set(self.served())

    def check(self, ended: Ended, uid: str) -> None:
        """Either a complete served directory, or none served; and its words say the same."""
        token, served = ended.token, self.served()
        for name in sorted(set(served) - self.checked):
            found = {path.name.partition(".")[0] for path in served[name].glob("*.tar")}
            assert found == set(blocks_of(uid)), f"{name} {sorted(found)}\n{ended}"
            check_served(served[name], sorted(found), self.folder / "scratch")
            self.checked.add(name)
        assert not ended.completed or token in served, str(ended)
        if ended.status >= 0:
            assert (ended.status == 0) == ended.completed == (token in served), str(ended)
            assert ended.completed or FAILED.search(ended.out), str(ended)
            assert all(line.startswith("stagecalms: ") for line in ended.err.splitlines()), str(ended)

    async def check_swept(self, failed: Sequence[Ended] = (), seconds: float = 10) -> None:
        """After the next start: nothing is left but what the failure blocks of `failed` named."""
        stay = {Path(path).name for ended in failed for path in ended.stays}
        tokens = {ended.token for ended in failed if FAILED.search(ended.out)}
        end = time.monotonic() + seconds
        while left := self._left(stay, tokens):
            assert time.monotonic() < end, f"left behind: {left}"
            await asyncio.sleep(0.05)

    def _left(self, stay: set[str], tokens: set[str | None]) -> list[str]:
        left = [f"process {pid} of the staging host" for pid in _with_home(self.home)]
        left += [f"calibrator {pid}" for pid in self.calibrator.living()]
        left += [f"unserved {name}" for name in sorted(self.unserved() - tokens)]
        for node in self.site.nodes.values():
            left += [f"process {pid} of {node.name}" for pid in node.workers()]
            left += [f"{name} on {node.name}" for name in directories(node) if name not in stay]
        return left


def directories(node: ClusterNode) -> list[str]:
    """What is in a node's folder of working directories, as the node sees it."""
    return sorted(os.listdir(seen_by(node)))


def seen_by(node: ClusterNode) -> Path:
    """The node's folder of working directories, through its name space while it lives."""
    return Path(f"/proc/{node.server.pid}/root{node.workdir}") if node.server and node.mount else node.work


def _with_home(home: Path) -> list[int]:
    """Processes that live with this home in their environment."""
    mark, found = b"HOME=" + os.fsencode(home), []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            zombie = (path / "stat").read_text().rpartition(") ")[2][0] in "ZX"
            if not zombie and mark in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
    return found


def _toml(text: str) -> str:
    assert "'''" not in text, text
    return f"'''{text}'''"
