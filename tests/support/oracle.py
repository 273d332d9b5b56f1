"""A private ALMA archive: the embedded site's, with faults to order and the base data of the tests. By itself:

    python -m tests.support.oracle SCHEMA.sql [MORE.sql ...] [--port 0] [--database FILE] [--user U --password P]

prints its DSN and serves until it is ended. With --database others may change the data meanwhile.
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest
from seerdb.server import BackendError, Server

from aogconsole.demo.archive import SqliteArchive
from backends.oracle import OracleSettings

SCHEMA = Path(__file__).with_name("alma_test_schema.sql")


@dataclass(frozen=True)
class Fault:
    """What one statement meets instead of, or before, its answer."""

    ora: int | None = None
    """An ORA error of this code."""
    delay: float = 0.0
    """Seconds before the answer."""
    drop: bool = False
    """The server closes the line."""
    hang: bool = False
    """The server says nothing more until the archive is closed."""


class _Dropped(BaseException):
    """Passes by seerdb's own handling of errors, so that the line is closed without a word."""


class _Server(Server):
    def _handle(self, client: socket.socket, addr: tuple[str, int]) -> None:
        with suppress(_Dropped):
            super()._handle(client, addr)


class TestArchive(SqliteArchive):
    """An archive with its own data, user and faults. A context manager; any number may run at once."""

    __test__ = False
    server_class = _Server

    def __init__(
        self,
        sql: str | None = None,
        *,
        user: str = "AOG_RO",
        password: str = "canary-archive-password",  # noqa: S107
        port: int = 0,
        database: str = ":memory:",
        encryption: str = "accepted",
    ) -> None:
        self.statements: list[str] = []
        """Every statement that arrived, as it came."""
        self.faults: deque[Fault] = deque()
        """Met by the next statements, one each."""
        self.login_error: int | None = None
        """An ORA code that every log-in with the right password meets."""
        self.logins = 0
        """How many there were."""
        self.closing = threading.Event()
        script = SCHEMA.read_text("utf-8") if sql is None else sql
        super().__init__(script, user=user, password=password, port=port, database=database, encryption=encryption)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        super().__exit__(kind, error, trace)

    def settings(self, timeout: float = 10.0, queries: Path | None = None) -> OracleSettings:
        """Settings that log in here."""
        return OracleSettings(self.dsn, self.user, self.password, timeout, queries)

    def logged_in(self) -> None:
        """Count it, and refuse it when that was ordered."""
        self.logins += 1
        if self.login_error:
            raise BackendError("refused", ora_code=self.login_error)

    def asked(self, sql: str) -> None:
        """Keep the statement, and let it meet the fault that was ordered for it."""
        self.statements.append(sql)
        fault = self.faults.popleft() if self.faults else Fault()
        if fault.hang:
            self.closing.wait()
        time.sleep(fault.delay)
        if fault.drop:
            raise _Dropped
        if fault.ora:
            raise BackendError("injected", ora_code=fault.ora)


@pytest.fixture
def archive() -> Iterator[TestArchive]:
    """The test archive with its base data: one member OUS, its PI `pi1`, delegee `del1`, and `other`."""
    with TestArchive() as running:
        yield running


def main() -> None:
    """Serve by itself."""
    parser = argparse.ArgumentParser(description="A private ALMA archive for tests and trials.")
    parser.add_argument("scripts", nargs="*", type=Path, help="SQL files; none for a database that is filled already")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--database", default=":memory:", help="SQLite file, kept")
    parser.add_argument("--user", default="AOG_RO")
    parser.add_argument("--password", default="canary-archive-password")
    given = parser.parse_args()
    script = "\n".join(path.read_text("utf-8") for path in given.scripts)
    with TestArchive(
        script, user=given.user, password=given.password, port=given.port, database=given.database
    ) as running:
        print(running.dsn, flush=True)
        try:
            running.closing.wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
