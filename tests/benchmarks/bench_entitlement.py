"""An entitlement check beside a bare `select 1 from dual`, each with a connection of its own.

    python -m tests.benchmarks.bench_entitlement [ROUNDS]

Prints the median of each over rounds that take turns, their ratio, and the statements that a check sends after the
log-in. The requirement: at most 1.5, and exactly one. The archive runs in a process of its own.

Three binds, ten columns and seven rows are 1.25 times the bare question before any table is read: the wire is Python
there. A server that reads the statement's words anew each time, as Oracle does not, gives a higher ratio.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import oracledb

from aogconsole.ids import AccountId, MousUid, ProjectCode
from backends.oracle import OracleArchive, OracleSettings
from tests.support.oracle import SCHEMA, TestArchive

if TYPE_CHECKING:
    from collections.abc import Iterator

WARM_UP = 5
QUESTION = MousUid.parse("uid___A002_X788a57_X29"), AccountId("del1"), ProjectCode("2012.1.00357.S")


@contextmanager
def archive_process() -> Iterator[OracleSettings]:
    """The test archive in a process of its own."""
    password = "canary-archive-password"
    command = [sys.executable, "-m", "tests.support.oracle", str(SCHEMA), "--password", password]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield OracleSettings(process.stdout.readline().strip(), "AOG_RO", password)
        finally:
            process.terminate()


async def bare(settings: OracleSettings) -> None:
    """The least that a question to Oracle takes."""
    connection = await oracledb.connect_async(user=settings.user, password=settings.password, dsn=settings.dsn)
    with connection.cursor() as cursor:
        await cursor.execute("select 1 from dual")
        await cursor.fetchall()
    await connection.close()


async def timed(act: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    await act()
    return (time.perf_counter() - started) * 1000


async def statements_of_a_check() -> int:
    """Statements that one check sends, counted by the archive."""
    with TestArchive() as archive:
        await OracleArchive(archive.settings()).ask(*QUESTION)
        return len(archive.statements)


async def main(rounds: int) -> int:
    """Measure and print; 1 when the requirement is missed."""
    with archive_process() as settings:
        adapter = OracleArchive(settings)
        checks: list[float] = []
        bares: list[float] = []
        ways: list[tuple[list[float], Callable[[], Awaitable[object]]]] = [
            (checks, lambda: adapter.ask(*QUESTION)),
            (bares, lambda: bare(settings)),
        ]
        for _ in range(rounds + WARM_UP):
            for took, way in ways:
                took.append(await timed(way))
            ways.reverse()  # the archive still tidies up after the one before
    check, plain = statistics.median(checks[WARM_UP:]), statistics.median(bares[WARM_UP:])
    statements = await statements_of_a_check()
    print(
        f"check {check:.2f} ms, bare {plain:.2f} ms, ratio {check / plain:.2f} (at most 1.5); statements {statements}"
    )
    return int(check / plain > 1.5 or statements != 1)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)))
