"""A private PostgreSQL on 127.0.0.1, a fresh database with our tables per test. By itself:

    python -m tests.support.postgres [--fsync] [--empty]

prints its DSN (the password is `canary-metadata-password`) and serves until it is ended.

As root it runs as `nobody`, else as the caller; it ends with the process that started it. `postgres_server` serves a
whole test process; tests that stop or kill a server start one of their own (`frail_postgres`).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from backends.metadata import open_metadata
from backends.metadata_postgres import PostgresMetadata

USER, PASSWORD = "aog", "canary-metadata-password"
_TEMPLATE = "aog_template"
_FAST = {
    "fast": ("fsync=off", "synchronous_commit=off", "full_page_writes=off"),
    "frail": ("fsync=off",),  # what is committed survives the end of its processes, though not of the machine
    "earnest": (),
}
_OPTIONS = ("listen_addresses=127.0.0.1", "shared_buffers=64MB", "max_connections=60", "autovacuum_naptime=10")


@dataclass
class PostgresServer:
    """The running server."""

    root: Path
    user: int
    group: int
    port: int
    mode: str
    process: subprocess.Popen[bytes] | None = None
    databases: int = field(default=0)

    def dsn(self, database: str, user: str = USER) -> str:
        """Over TCP; the password is apart (`PASSWORD`)."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def admin(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement as the server's administrator, over its socket."""
        with psycopg.connect(
            host=str(self.root), port=self.port, user="postgres", dbname=database, autocommit=True
        ) as line:
            cursor = line.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self, template: str = "template0") -> str:
        """A new database of `USER`'s; its name."""
        self.databases += 1
        name = f"metadata_{self.databases}"
        self.admin(f"create database {name} template {template} owner {USER} strategy file_copy")
        if template == _TEMPLATE:  # each is another installation
            self.admin("update reingestion_meta set value = gen_random_uuid() where key = 'installation'", name)
        return name

    def drop(self, name: str) -> None:
        """Whoever still uses it is thrown out."""
        self.admin(f"drop database if exists {name} with (force)")

    def start(self) -> None:
        """Start it, at the same port, and wait until it answers."""
        options = [*_OPTIONS, *_FAST[self.mode], f"port={self.port}", f"unix_socket_directories={self.root}"]
        as_user = {"user": self.user, "group": self.group, "extra_groups": []} if os.geteuid() == 0 else {}
        with (self.root / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(_binaries() / "postgres"), "-D", str(self.root / "data"),
                 *(word for option in options for word in ("-c", option))],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
                start_new_session=True, **as_user,  # type: ignore[call-overload]
            )  # fmt: skip
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(psycopg.OperationalError):
                self.admin("select 1")
                return
            time.sleep(0.02)
        raise RuntimeError(f"PostgreSQL did not start: {(self.root / 'server.log').read_text()[-2000:]}")

    @property
    def runs(self) -> bool:
        """Whether it does."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """End it as its administrator does in a hurry: open transactions are undone, lines closed."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it and its children without a word, as a loss of power does."""
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            for child in self._children():  # each leads a session of its own
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            self._end(signal.SIGKILL)
            (self.root / "data" / "postmaster.pid").unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All its processes stand still: lines stay open, and nobody answers."""
        assert self.process
        stopped = [self.process.pid, *self._children()]
        try:
            for one in stopped:
                os.kill(one, signal.SIGSTOP)
            yield
        finally:
            for one in stopped:
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGCONT)

    def _children(self) -> list[int]:
        assert self.process
        told = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(one) for one in told.read_text().split()] if told.exists() else []

    def _end(self, by: signal.Signals) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(by)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None


@contextmanager
def running(mode: str = "fast") -> Iterator[PostgresServer]:
    """A server: `fast`, `frail` (may be killed) or `earnest` (with fsync)."""
    root = Path(tempfile.mkdtemp(prefix="pg-"))
    server = None
    # when this process is killed its end of the pipe is closed, and the server is ended
    watch = subprocess.Popen(
        ["sh", "-c", 'cat; kill -QUIT "$(head -n 1 "$0")"', str(root / "data" / "postmaster.pid")],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        server = _made(root, mode)
        server.start()
        server.admin(f"create role {USER} login password '{PASSWORD}'")
        yield server
    finally:
        if server:
            server._end(signal.SIGQUIT)
        watch.communicate()
        shutil.rmtree(root, ignore_errors=True)


@dataclass
class Database:
    """One database of a server, with our tables unless it was made without."""

    server: PostgresServer
    name: str
    password: str = PASSWORD

    @property
    def dsn(self) -> str:
        """Its address, without the password."""
        return self.server.dsn(self.name)

    @property
    def full_dsn(self) -> str:
        """With the password."""
        return self.dsn.replace("@", f":{PASSWORD}@", 1)

    def open(self, timeout: float = 30.0) -> PostgresMetadata:
        """Our adapter on it."""
        opened = open_metadata(self.dsn, PASSWORD, timeout=timeout)
        assert isinstance(opened, PostgresMetadata)
        return opened

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement in it, from outside."""
        return self.server.admin(statement, self.name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of this test process, with a template that has our tables. Never stop it."""
    if not _found():
        pytest.fail("PostgreSQL is not installed (Debian: postgresql)")
    with running() as server:
        with_tables(server)
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[Database]:
    """A fresh database with our tables."""
    name = postgres_server.create(_TEMPLATE)
    yield Database(postgres_server, name)
    postgres_server.drop(name)


@pytest.fixture
def empty_postgres(postgres_server: PostgresServer) -> Iterator[Database]:
    """A fresh database without any table."""
    name = postgres_server.create()
    yield Database(postgres_server, name)
    postgres_server.drop(name)


@pytest.fixture(scope="session")
def _spare_postgres() -> Iterator[PostgresServer]:
    if not _found():
        pytest.fail("PostgreSQL is not installed (Debian: postgresql)")
    with running("frail") as server:
        with_tables(server)
        yield server


@pytest.fixture
def frail_postgres(_spare_postgres: PostgresServer) -> Iterator[Database]:
    """A fresh database on a second server that the test may stop, kill and freeze."""
    name = _spare_postgres.create(_TEMPLATE)
    yield Database(_spare_postgres, name)
    if not _spare_postgres.runs:
        _spare_postgres.start()
    _spare_postgres.drop(name)


@pytest.fixture
async def metadata(postgres: Database) -> AsyncIterator[PostgresMetadata]:
    """Our adapter on a fresh database."""
    opened = postgres.open()
    yield opened
    await opened.close()


def with_tables(server: PostgresServer) -> None:
    """Make the template."""
    server.admin(f"create database {_TEMPLATE} owner {USER} template template0")

    async def migrate() -> None:
        made = open_metadata(server.dsn(_TEMPLATE), PASSWORD)
        await made.migrate()
        await made.close()

    with ThreadPoolExecutor(1) as thread:  # a loop may be running in this one
        thread.submit(lambda: asyncio.run(migrate())).result()


def _made(root: Path, mode: str) -> PostgresServer:
    user, group = (os.getuid(), os.getgid()) if os.geteuid() else pwd.getpwnam("nobody")[2:4]
    os.chown(root, user, group)
    as_user = {"user": user, "group": group, "extra_groups": []} if os.geteuid() == 0 else {}
    subprocess.run(
        [str(_binaries() / "initdb"), "-D", str(root / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8",
         "--locale=C.UTF-8", "--no-sync"],
        check=True, capture_output=True, cwd="/", env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        **as_user,  # type: ignore[call-overload]
    )  # fmt: skip
    (root / "data" / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    return PostgresServer(root, user, group, port, mode)


def _found() -> list[Path]:
    return sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda one: int(one.parts[-3]))


def _binaries() -> Path:
    return _found()[-1].parent


def main() -> None:
    """Serve by itself."""
    parser = argparse.ArgumentParser(description="A private PostgreSQL for tests and trials.")
    parser.add_argument("--fsync", action="store_true", help="as in earnest")
    parser.add_argument("--empty", action="store_true", help="without our tables")
    given = parser.parse_args()
    with running("earnest" if given.fsync else "fast") as server:
        if not given.empty:
            with_tables(server)
        print(server.dsn(server.create("template0" if given.empty else _TEMPLATE)), flush=True)
        ends = {signal.SIGINT, signal.SIGTERM}
        for one in ends:
            signal.signal(one, signal.SIG_DFL)  # a shell that puts it into the background has one ignored
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
