"""A private broker: real RabbitMQ on 127.0.0.1, a virtual host per test.

One broker serves all the processes of a test run: the first that has tests for it starts it, and a watcher ends it
when the last one is gone, however it went. Tests that kill or freeze a broker get a second one, each alone with it. As
root it runs as `nobody`, else as the caller. The system's own broker, where one runs, is not touched.
"""

from __future__ import annotations

import base64
import fcntl
import http.client
import json
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import pytest

from tests.support.rabbitmq_watch import started

BIN = Path(os.environ.get("RABBIT_BIN", "/usr/lib/rabbitmq/bin"))
USER, PASSWORD = "aog", "pa:ss/w@rd%41 #"
_CONFIG = """\
listeners.tcp.default = 127.0.0.1:{port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {http}
management.rates_mode = none
default_user = {user}
default_pass = {password}
default_vhost = /
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GB
log.file.level = warning
"""


def _stopped(pid: int) -> bool:
    """Whether all of its threads stand still: the signal alone does not say so."""
    return all(
        task.read_text().rpartition(")")[2].split()[0] in "tT" for task in Path(f"/proc/{pid}/task").glob("*/stat")
    )


@dataclass(frozen=True)
class Node:
    """One broker: its folder and its ports."""

    root: Path
    port: int
    http: int
    dist: int
    epmd: int

    # ── its life ──

    def start(self, within: float = 60.0) -> None:
        """Start it, or nothing if it runs; back when it takes connections."""
        if self.running():
            return
        if not self._alive("epmd"):
            self._launch("epmd", "/usr/bin/epmd", "-port", str(self.epmd))
        _until(lambda: _open(self.epmd), 10, "epmd")
        server = self._launch("node", str(BIN / "rabbitmq-server"))
        _until(lambda: server.poll() is not None or (_open(self.port) and _open(self.http)), within, "the broker")
        if server.poll() is not None:
            raise RuntimeError(f"the broker ended: {(self.root / 'node.out').read_text()[-2000:]}")

    def running(self) -> bool:
        """Whether it runs."""
        return self._alive("node")

    def signal(self, number: signal.Signals) -> None:
        """SIGKILL, SIGSTOP, SIGCONT, SIGTERM; for SIGKILL and SIGTERM back when it is gone."""
        pid, _, start = (self.root / "node.pid").read_text().partition(" ")
        if started(int(pid)) == start:
            os.kill(int(pid), number)
        if number == signal.SIGSTOP:
            _until(lambda: _stopped(int(pid)), 30, "the broker to stand still")
        if number in (signal.SIGKILL, signal.SIGTERM):
            _until(lambda: not self.running(), 30, "the end of the broker")

    def ctl(self, *words: str) -> str:
        """`rabbitmqctl`; takes more than a second."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [str(BIN / "rabbitmqctl"), "-q", *words], check=True, capture_output=True, text=True, cwd=self.root,
            env=self._environment(), timeout=60, **_as_service(),
        )  # fmt: skip
        return done.stdout

    def _alive(self, name: str) -> bool:
        file = self.root / f"{name}.pid"
        if not file.exists():
            return False
        pid, _, start = file.read_text().partition(" ")
        with suppress(ChildProcessError):
            os.waitpid(int(pid), os.WNOHANG)  # a child of ours that was killed is no zombie
        return bool(start) and started(int(pid)) == start

    def _launch(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        with (self.root / f"{name}.out").open("ab") as output:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self._environment(),
                start_new_session=True, cwd=self.root, **_as_service(),
            )  # fmt: skip
        (self.root / f"{name}.pid").write_text(f"{process.pid} {started(process.pid)}")
        return process

    def _environment(self) -> dict[str, str]:
        root, loopback = self.root, "-kernel inet_dist_use_interface {127,0,0,1}"
        return {
            "PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "HOME": str(root),
            "RUNNING_UNDER_SYSTEMD": "1",  # the script becomes the server: one process id
            "RABBITMQ_CONF_ENV_FILE": f"{root}/none.conf", "RABBITMQ_NODENAME": "aog@localhost",
            "RABBITMQ_MNESIA_BASE": f"{root}/mnesia", "RABBITMQ_LOG_BASE": f"{root}/log",
            "RABBITMQ_CONFIG_FILE": f"{root}/rabbitmq.conf", "RABBITMQ_ADVANCED_CONFIG_FILE": f"{root}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{root}/enabled_plugins",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{root}/config", "RABBITMQ_PID_FILE": f"{root}/erlang.id",
            "RABBITMQ_FEATURE_FLAGS_FILE": f"{root}/feature_flags", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port), "RABBITMQ_DIST_PORT": str(self.dist),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{loopback} +S 2:2 +sbwt none", "RABBITMQ_CTL_ERL_ARGS": loopback,
            "ERL_EPMD_PORT": str(self.epmd), "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_CRASH_DUMP_SECONDS": "0",
        }  # fmt: skip

    # ── its management API ──

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call the management API; what it answers."""
        line = http.client.HTTPConnection("127.0.0.1", self.http, timeout=30)
        proof = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        heads = {"Authorization": f"Basic {proof}", "Content-Type": "application/json"}
        try:
            line.request(method, f"/api/{path}", None if body is None else json.dumps(body), heads)
            answer = line.getresponse()
            text = answer.read()
        finally:
            line.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:300]!r}")
        return json.loads(text) if text else None

    def vhost(self) -> Vhost:
        """A fresh virtual host."""
        name = f"t/{secrets.token_hex(4)}"
        self.api("PUT", f"vhosts/{quote(name, safe='')}", {})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.api("PUT", f"permissions/{quote(name, safe='')}/{USER}", everything)
        return Vhost(self, name)


@dataclass(frozen=True)
class Vhost:
    """A virtual host of a test's own, on a broker that others use too."""

    node: Node
    name: str
    user: str = USER
    password: str = PASSWORD

    @property
    def url(self) -> str:
        """Where it is, without the password."""
        return f"amqp://{quote(self.user, safe='')}@127.0.0.1:{self.node.port}/{quote(self.name, safe='')}"

    def as_user(self, configure: str, write: str, read: str) -> Vhost:
        """The same by a fresh user that may do just this (regular expressions)."""
        user, password = f"u-{secrets.token_hex(4)}", secrets.token_hex(8)
        self.node.api("PUT", f"users/{user}", {"password": password, "tags": ""})
        allowed = {"configure": configure, "write": write, "read": read}
        self.node.api("PUT", f"permissions/{quote(self.name, safe='')}/{user}", allowed)
        return Vhost(self.node, self.name, user, password)

    def remove(self) -> None:
        """Take it away, with all its queues."""
        with suppress(RuntimeError):
            self.node.api("DELETE", f"vhosts/{quote(self.name, safe='')}")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start at once, beside the first tests, what later ones need: a broker takes six seconds."""
    if session.config.option.collectonly:
        return
    needed = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    for fixture, name in (("rabbitmq_node", "common"), ("_frail_node", "frail")):
        if fixture in needed:
            run = _run_folder(session.config._tmp_path_factory)  # type: ignore[attr-defined]
            threading.Thread(target=_start_early, args=(run, name), name=f"rabbitmq-{name}", daemon=True).start()


_EARLY: list[ExitStack] = []
"""Our shares of the brokers that were started early: for as long as this process lives."""


def _start_early(run: Path, name: str) -> None:
    held = ExitStack()
    _EARLY.append(held)
    with suppress(pytest.fail.Exception, RuntimeError, OSError):  # the fixture tries again, and tells
        held.enter_context(_shared(run, name))


@pytest.fixture(scope="session")
def rabbitmq_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The broker of this test run."""
    with _shared(_run_folder(tmp_path_factory), "common") as node:
        yield node


@pytest.fixture
def rabbitmq(rabbitmq_node: Node) -> Iterator[Vhost]:
    """A fresh virtual host on the run's broker: never stop or freeze that one."""
    vhost = rabbitmq_node.vhost()
    yield vhost
    vhost.remove()


@pytest.fixture(scope="session")
def _frail_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with _shared(_run_folder(tmp_path_factory), "frail") as node:
        yield node


@pytest.fixture
def frail_rabbitmq(_frail_node: Node) -> Iterator[Vhost]:
    """A fresh virtual host on a broker that this test alone uses meanwhile, and may kill, freeze and start again."""
    with (_frail_node.root / "alone.lock").open("a") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        _frail_node.start()
        yield _frail_node.vhost()
        _frail_node.signal(signal.SIGCONT)


def _run_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder that all the processes of this run share."""
    own = factory.getbasetemp()
    return own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own


@contextmanager
def _shared(run: Path, name: str) -> Iterator[Node]:
    """A broker that all the processes of a run use: started by the first."""
    if not (BIN / "rabbitmq-server").exists():
        pytest.fail(f"rabbitmq-server is not installed in {BIN}")
    with (run / f"rabbitmq-{name}.lock").open("a") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        node, users = _there(run / f"rabbitmq-{name}.json") or _started(run / f"rabbitmq-{name}.json")
    with users:
        yield node


def _there(note: Path) -> tuple[Node, IO[str]] | None:
    """The broker that runs already, and our share of it."""
    if not note.exists():
        return None
    known = json.loads(note.read_text())
    node = Node(Path(known.pop("root")), **known)
    with suppress(OSError):
        users = (node.root / "users.lock").open("a")
        fcntl.flock(users, fcntl.LOCK_SH)
        if not (node.root / "ended").exists() and node.root.exists():
            return node, users
        users.close()
    return None


def _started(note: Path) -> tuple[Node, IO[str]]:
    fault: Exception | None = None
    for _ in range(3):  # a free port may be taken before the server binds it
        node = Node(_folder(), *_free_ports(4))
        _configure(node)
        users = (node.root / "users.lock").open("a")
        fcntl.flock(users, fcntl.LOCK_SH)
        watcher = [sys.executable, str(Path(__file__).with_name("rabbitmq_watch.py")), str(node.root)]
        subprocess.Popen(watcher, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         start_new_session=True, cwd="/")  # fmt: skip
        try:
            node.start()
        except (RuntimeError, OSError) as error:
            fault = error
            users.close()
            continue
        note.write_text(json.dumps({"root": str(node.root), "port": node.port, "http": node.http, "dist": node.dist,
                                    "epmd": node.epmd}))  # fmt: skip
        return node, users
    pytest.fail(f"RabbitMQ did not start: {fault}")


def _folder() -> Path:
    root = Path(tempfile.mkdtemp(prefix="mq-"))
    for name in ("mnesia", "log", "config"):
        (root / name).mkdir()
    return root


def _configure(node: Node) -> None:
    root = node.root
    (root / "rabbitmq.conf").write_text(_CONFIG.format(port=node.port, http=node.http, user=USER, password="first"))
    (root / "advanced.config").write_text(f'[{{rabbit, [{{default_pass, <<"{PASSWORD}">>}}]}}].\n')
    (root / "none.conf").write_text("")
    (root / "enabled_plugins").write_text("[rabbitmq_management].\n")
    cookie = root / ".erlang.cookie"
    cookie.write_text(secrets.token_hex(16))
    cookie.chmod(0o400)
    if os.geteuid() == 0:
        owner = pwd.getpwnam("nobody")
        for path in (root, *root.iterdir()):
            os.chown(path, owner.pw_uid, owner.pw_gid)


def _as_service() -> dict[str, Any]:
    """How a server is started: never as root."""
    if os.geteuid():
        return {}
    owner = pwd.getpwnam("nobody")
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


def _free_ports(many: int) -> list[int]:
    sockets = [socket.socket() for _ in range(many)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _until(true: Callable[[], object], within: float, what: str) -> None:
    end = time.monotonic() + within
    while not true():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} took longer than {within:g} s")
        time.sleep(0.02)
