"""The demo's cluster nodes, by OpenSSH's client: what runs there, and what is left when the demo ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncssh
import pytest

from aogconsole.demo import nodes as module
from aogconsole.demo.nodes import NODES, RHEL5_NODES, DemoNodes
from aogconsole.demo.sshserver import Login, LoopbackServers, Machine, make_key
from aogconsole.errors import ConfigError, UsageError

RUNS = Path(module.__file__).with_name("day") / "runs.txt"


def wait(true: Callable[[], object]) -> None:
    """Look until it is so."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "it never was so"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[DemoNodes]:
    """A cluster."""
    with DemoNodes(tmp_path, RUNS, 1000) as made:
        try:
            yield made
        finally:
            made.end_workers()


def ssh(nodes: DemoNodes, node: str, command: str) -> list[str]:
    """A command line."""
    return ["ssh", "-F", str(nodes.ssh_config), "-o", "BatchMode=yes", "-l", "arcproc", "--", node, command]


def ask(nodes: DemoNodes, node: str, command: str, words: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A command to its end."""
    return subprocess.run(ssh(nodes, node, command), input=words, capture_output=True, timeout=30, check=False)


def detached(nodes: DemoNodes) -> int:
    """The pid of a process on a node that outlives its connection."""
    began = "setsid sh -c 'echo $$; exec sleep 1000 >/dev/null' </dev/null 2>/dev/null & wait -n 2>/dev/null; sleep 0.1"
    with subprocess.Popen(ssh(nodes, NODES[0], began), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as client:
        assert client.stdout
        pid = int(client.stdout.readline())
        client.kill()
    return pid


def test_a_node_does_what_it_is_asked(nodes: DemoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words, input, output and exit status as over OpenSSH; a home of its own; nothing of our environment."""
    monkeypatch.setenv("AOG_SECRET", "hush")
    for node in (*NODES, *RHEL5_NODES):
        done = ask(nodes, node, "sh -s -- a 'b c'", b'printf "%s|" "$@" "$PWD"; echo oh >&2; env; exit 7')
        home = tmp_path / "cluster" / node.partition(".")[0]
        assert done.returncode == 7
        assert done.stdout.startswith(f"a|b c|{home}|".encode())
        assert done.stderr == b"oh\n"
        assert b"hush" not in done.stdout
    assert ask(nodes, NODES[0], "kill -9 $$").returncode == 128 + signal.SIGKILL
    assert ask(nodes, NODES[0], "wc -c", bytes(3_000_000)).stdout.split() == [b"3000000"]


def test_what_nobody_reads_ends_nothing(nodes: DemoNodes) -> None:
    """Input that a command leaves, and a client that goes away: the next is served."""
    assert ask(nodes, NODES[0], "exit 3", bytes(3_000_000)).returncode == 3
    with subprocess.Popen(ssh(nodes, NODES[0], "yes"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout
        assert client.stdout.read(2) == b"y\n"
        client.kill()
    assert ask(nodes, NODES[0], "echo there").stdout == b"there\n"


def test_workers_are_ended_and_nothing_else(nodes: DemoNodes) -> None:
    """What was begun on the nodes is killed, also detached; other processes, and another demo's, are left alone."""
    others = {**os.environ, module.MARK: f"{nodes.workdir}/other"}
    with subprocess.Popen(["sleep", "1000"], env=others) as other:
        worker = detached(nodes)
        assert alive(worker)
        nodes.end_workers()
        wait(lambda: not alive(worker))
        assert alive(other.pid)
        other.kill()


def test_the_end_of_the_nodes_is_a_cut_link(tmp_path: Path) -> None:
    """A client that follows something is told by ssh's own status; a worker goes on; our terminal stays clean."""
    program = f"""
import sys
from pathlib import Path
from aogconsole.demo.nodes import DemoNodes
with DemoNodes(Path({str(tmp_path)!r}), Path({str(RUNS)!r}), 1):
    print("ready", flush=True)
    sys.stdin.readline()
"""
    cluster = tmp_path / "cluster"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        assert server.stdin
        assert server.stdout
        assert server.stdout.readline() == b"ready\n"
        made = DemoNodes.__new__(DemoNodes)
        made.ssh_config = cluster / "ssh_config"
        worker = detached(made)
        following = subprocess.Popen(ssh(made, NODES[1], "echo $$; tail -f /dev/null"), stdout=subprocess.PIPE)
        assert following.stdout
        shell = int(following.stdout.readline())
        _, said = server.communicate(b"\n", 20)
        assert following.wait(20) == 255
        following.stdout.close()
        wait(lambda: not alive(shell))
        assert alive(worker)
        os.kill(worker, signal.SIGKILL)
        assert said == b""


@pytest.mark.parametrize("name", ["a b", "ä", "a'b", "a;b"])
def test_a_folder_that_no_node_takes_is_told(tmp_path: Path, name: str) -> None:
    """One sentence, and nothing is made."""
    with pytest.raises(UsageError, match="a demo cannot be in"):
        DemoNodes(tmp_path / name, RUNS, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_program_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name, and the package that has it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "ssh").touch(0o755)
    with pytest.raises(ConfigError, match="needs rsync, not found") as told:
        DemoNodes(tmp_path, RUNS, 1)
    assert "apt-get install rsync" in told.value.hint


def test_clients_that_come_in_at_the_end_are_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """Whenever the servers end, no client waits for them, and no task of theirs is left behind."""
    dice = random.Random(1)
    for name in ("host", "client"):
        make_key(tmp_path / name)
    shell = Machine(lambda _: Login(["/bin/cat"], {}, tmp_path), tmp_path / "host", tmp_path / "client", True)

    async def come(port: int) -> None:
        with contextlib.suppress(asyncssh.Error, OSError):
            async with asyncssh.connect(
                "127.0.0.1", port, known_hosts=None, client_keys=[str(tmp_path / "client")], config=None
            ) as line:
                await line.run("cat")

    async def all_come(port: int) -> None:
        await asyncio.gather(*(come(port) for _ in range(4)))

    for _ in range(10):
        with LoopbackServers("servers", {"one": shell}) as servers:
            clients = threading.Thread(target=asyncio.run, args=(all_come(servers.ports["one"]),), daemon=True)
            clients.start()
            clients.join(dice.uniform(0, 0.12))
        clients.join(20)
        assert not clients.is_alive()
        gc.collect()
    assert "destroyed" not in caplog.text
    assert not [str(one.message) for one in recwarn if "never awaited" in str(one.message)]
