"""The archive at its worst: refused log-ins, Oracle's errors, silent and broken lines. Never a no, never a hang."""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import oracledb
import pytest

from aogconsole.errors import ArchiveError
from aogconsole.ids import AccountId, MousUid, ProjectCode
from backends.oracle import OracleArchive, OracleSettings
from backends.oracle_line import CODES
from backends.ports import ArchiveAnswer
from tests.support.oracle import Fault, TestArchive

QUESTION = MousUid.parse("uid___A002_X788a57_X29"), AccountId("pi1"), None
TIMEOUT = 0.5
BOUND = 2 * TIMEOUT + 1.5
"""Log-in, statement and its grace, and what a machine under load adds."""


async def refusal(
    settings: OracleSettings, within: float = 30.0, adapter: type[OracleArchive] = OracleArchive
) -> ArchiveError:
    """The error that asking gives, in time, while the event loop stays free."""
    beats: list[float] = []

    async def ticker() -> None:
        while True:
            beats.append(time.monotonic())
            await asyncio.sleep(0.01)

    heart = asyncio.create_task(ticker())
    started = time.monotonic()
    try:
        with pytest.raises(ArchiveError) as caught:
            await adapter(settings).ask(*QUESTION)
    finally:
        heart.cancel()
    assert time.monotonic() - started < within
    assert max((after - before for before, after in pairwise(beats)), default=0.0) < 0.4
    assert caught.value.hint
    assert str(caught.value).isprintable()
    told = "".join(traceback.format_exception(caught.value)) + repr(settings)
    assert settings.password not in told
    return caught.value


class Forgiving(OracleArchive):
    """Wrong: takes an error for an answer without rows."""

    async def ask(self, mous: MousUid, account: AccountId, project: ProjectCode | None) -> ArchiveAnswer:
        try:
            return await super().ask(mous, account, project)
        except ArchiveError:
            return ArchiveAnswer((), "", 0)


class Blocking(OracleArchive):
    """Wrong: holds the event loop."""

    async def ask(self, mous: MousUid, account: AccountId, project: ProjectCode | None) -> ArchiveAnswer:
        await asyncio.sleep(0.05)
        time.sleep(0.6)  # noqa: ASYNC251
        return await super().ask(mous, account, project)


@pytest.mark.parametrize("wrong", [Forgiving, Blocking])
async def test_wrong_adapter_is_caught(archive: TestArchive, wrong: type[OracleArchive]) -> None:
    """The check that all tests here use notices an adapter that hides errors, and one that blocks."""
    archive.faults.append(Fault(ora=942))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await refusal(archive.settings(), adapter=wrong)


class Line:
    """A TCP line to the archive that can be frozen: nothing passes any more, and nobody is told."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.frozen = asyncio.Event()
        self.opened = 0
        self.closed = asyncio.Event()
        """Set when our side of a connection has been closed by the client."""

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> None:
        """Pass bytes on; with `limit` only the first so many, then freeze."""
        while data := await reader.read(65536):
            if limit is not None and len(data) >= limit:
                writer.write(data[:limit])
                self.frozen.set()
            if not self.frozen.is_set():
                writer.write(data)
                limit = None if limit is None else limit - len(data)
        self.closed.set()
        writer.close()


@asynccontextmanager
async def line_to(archive: TestArchive, limit: int | None = None) -> AsyncIterator[tuple[Line, OracleSettings]]:
    """A line to the archive, and settings that use it. `limit`: bytes from the server before it freezes."""
    line = Line(archive.port)
    tasks: set[asyncio.Task[None]] = set()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line.opened += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", archive.port)
        tasks.add(asyncio.create_task(line.carry(reader, far_writer, None)))
        tasks.add(asyncio.create_task(line.carry(far_reader, writer, limit)))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    dsn = f"127.0.0.1:{server.sockets[0].getsockname()[1]}/ALMA"
    try:
        yield line, replace(archive.settings(TIMEOUT), dsn=dsn)
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_wrong_password(archive: TestArchive) -> None:
    """A wrong password is named as such, with the warning that further tries lock the account."""
    error = await refusal(replace(archive.settings(), password="another-canary"))
    assert "user or password of AOG_RO" in str(error)
    assert "locked" in error.hint
    assert archive.statements == []


@pytest.mark.parametrize(
    ("code", "words"),
    [(28000, "is locked"), (28001, "has expired"), (1045, "may not log in"), (1033, "starting"), (12516, "ORA-12516")],
)
async def test_refused_login(archive: TestArchive, code: int, words: str) -> None:
    """Accounts that are locked, expired or without grants are told apart, and so is a database that is not up."""
    archive.login_error = code
    assert words in str(await refusal(archive.settings()))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (942, "does not see one of the tables"),
        (1031, "may not read"),
        (904, "lacks a column"),
        (1013, "did not answer"),
        (3113, "closed the connection"),
        (1, "ORA-00001"),
    ],
)
async def test_statement_error(archive: TestArchive, code: int, words: str) -> None:
    """An error of the statement says what is missing; the next check has a connection of its own and succeeds."""
    archive.faults.append(Fault(ora=code))
    assert words in str(await refusal(archive.settings()))
    assert (await OracleArchive(archive.settings()).ask(*QUESTION)).rows


async def test_missing_table_and_column(archive: TestArchive) -> None:
    """The same from tables that are really not as they should be."""
    archive.load("alter table account drop column preferredarc;")
    assert "lacks a column" in str(await refusal(archive.settings()))
    archive.load("drop table dp_delegation;")
    assert "does not see" in str(await refusal(archive.settings()))


async def test_dropped_line(archive: TestArchive) -> None:
    """A line that the server closes under the statement is an error at once."""
    archive.faults.append(Fault(drop=True))
    assert "closed the connection" in str(await refusal(archive.settings(), 5.0))


async def test_nobody_listens() -> None:
    """An archive that is down cannot be reached; its host and the reason are named."""
    with TestArchive("") as gone:
        settings = gone.settings()
    error = str(await refusal(settings))
    assert "127.0.0.1 cannot be reached" in error
    assert "111" in error


async def test_unknown_host(archive: TestArchive) -> None:
    """A host name that nobody knows is told as such."""
    settings = replace(archive.settings(TIMEOUT), dsn="archive.invalid:1521/ALMA")
    error = str(await refusal(settings, BOUND))
    assert "archive.invalid" in error


async def test_native_encryption() -> None:
    """An archive that insists on native encryption is asked all the same: the driver speaks it since version 26."""
    with TestArchive(encryption="required") as archive:
        assert (await OracleArchive(archive.settings()).ask(*QUESTION)).rows


@pytest.mark.parametrize("code", CODES)
def test_words_for_errors(code: str) -> None:
    """Every error that we know becomes one sentence with its code, and a hint."""
    issue = SimpleNamespace(full_code=code, message=f"{code}: raw \x1b words\nmore")
    error = OracleArchive(OracleSettings("db.example.org:1521/X", "AOG_RO", "p"))._explained(oracledb.Error(issue))
    assert str(error).endswith(f"({code}).")
    assert "{" not in str(error) + error.hint
    assert error.hint


@pytest.mark.parametrize(
    ("code", "words"),
    [(12514, "does not know the service"), (12505, "does not know the SID"), (12516, "refuses the connection")],
)
async def test_listener_refuses(code: int, words: str) -> None:
    """What the listener says before any log-in: the service is unknown, or it takes nobody now."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        text = f"(DESCRIPTION=(ERR={code})(ERROR_STACK=(ERROR=(CODE={code})(EMFI=4))))".encode()
        tns_refuse = b"\x04"
        header = (12 + len(text)).to_bytes(2) + bytes(2) + tns_refuse + bytes(3)
        writer.write(header + b"\x22\x00" + len(text).to_bytes(2) + text)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        dsn = f"127.0.0.1:{server.sockets[0].getsockname()[1]}/ALMA"
        assert words in str(await refusal(OracleSettings(dsn, "AOG_RO", "canary-word", 5.0)))


async def test_a_name_that_can_be_none() -> None:
    """A misspelt host is not found; it is no archive that answers oddly."""
    error = await refusal(OracleSettings("archive..example.org:1521/X", "AOG_RO", "canary-word", 5.0))
    assert "cannot be found" in str(error)
    assert "[archive] dsn" in error.hint


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_something_else_listens(answer: bytes) -> None:
    """A server that accepts and says nothing, or is no Oracle, is given up within the time-out."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        dsn = f"127.0.0.1:{server.sockets[0].getsockname()[1]}/ALMA"
        await refusal(OracleSettings(dsn, "AOG_RO", "canary-word", TIMEOUT), BOUND)


@pytest.mark.parametrize("limit", [1, 30, 300, 2000, 3000])
async def test_frozen_in_login(archive: TestArchive, limit: int) -> None:
    """A line that freezes anywhere in the log-in is given up within the time-out, and closed."""
    async with line_to(archive, limit) as (line, settings):
        assert "did not answer" in str(await refusal(settings, BOUND))
        async with asyncio.timeout(5):
            await line.closed.wait()


async def test_frozen_after_login(archive: TestArchive) -> None:
    """A line that freezes under the statement is cut soon after the time-out, and the next check succeeds."""
    async with line_to(archive) as (line, settings):
        archive.faults.append(Fault(hang=True))
        asking = asyncio.create_task(refusal(settings, BOUND))
        while not archive.statements:
            await asyncio.sleep(0.01)
        line.frozen.set()
        assert "did not answer" in str(await asking)
        async with asyncio.timeout(5):
            await line.closed.wait()
        line.frozen.clear()
        assert (await OracleArchive(settings).ask(*QUESTION)).rows
        assert line.opened == 2


async def test_hanging_server(archive: TestArchive) -> None:
    """A server that takes the statement and never answers is given up soon after the time-out."""
    archive.faults.append(Fault(hang=True))
    assert "did not answer" in str(await refusal(archive.settings(TIMEOUT), BOUND))


async def test_slow_server(archive: TestArchive) -> None:
    """A server that is slower than the time-out is unknown; one that is faster is not."""
    archive.faults.extend([Fault(delay=TIMEOUT + 0.2), Fault(delay=0.1)])
    assert "did not answer" in str(await refusal(archive.settings(TIMEOUT), BOUND))
    assert (await OracleArchive(archive.settings(TIMEOUT)).ask(*QUESTION)).rows


@pytest.mark.parametrize("timeout", [TIMEOUT, 10.0])
async def test_frozen_at_log_off(archive: TestArchive, timeout: float) -> None:
    """A line that freezes once the answer is there costs a moment, not the answer."""
    async with line_to(archive) as (line, settings):
        adapter = OracleArchive(replace(settings, timeout=timeout))
        log_off = adapter._log_off

        async def freeze_before_log_off(connection: oracledb.AsyncConnection) -> None:
            line.frozen.set()
            await log_off(connection)

        adapter._log_off = freeze_before_log_off  # type: ignore[method-assign]
        started = time.monotonic()
        assert (await adapter.ask(*QUESTION)).rows
        assert time.monotonic() - started < BOUND
        async with asyncio.timeout(5):
            await line.closed.wait()


async def test_cancelled(archive: TestArchive) -> None:
    """A check that is cancelled lets go at once, and leaves no connection and no stray task behind."""
    async with line_to(archive) as (line, settings):
        archive.faults.append(Fault(hang=True))
        task = asyncio.create_task(OracleArchive(replace(settings, timeout=30)).ask(*QUESTION))
        while not archive.statements:
            await asyncio.sleep(0.01)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 1.0
        async with asyncio.timeout(5):
            await line.closed.wait()
            while [stray for stray in asyncio.all_tasks() if "backends/oracle" in repr(stray)]:
                await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_before_the_driver_sends(
    archive: TestArchive, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is cancelled in any of the turns of the loop that the driver needs to send ends cancelled. The line that was
    cut under the driver ended the process with a segmentation fault."""
    adapter, begun = OracleArchive(archive.settings()), asyncio.Event()
    guarded = adapter._guarded

    async def told(connection: oracledb.AsyncConnection, call: Coroutine[Any, Any, Any]) -> object:
        begun.set()
        return await guarded(connection, call)

    monkeypatch.setattr(adapter, "_guarded", told)
    asking = asyncio.create_task(adapter.ask(*QUESTION))
    await begun.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    monkeypatch.undo()
    assert (await adapter.ask(*QUESTION)).rows


async def test_cancelled_at_any_turn(archive: TestArchive) -> None:
    """Cancelled anywhere else: in the log-in, between the parts of a long answer, at the log-off."""
    dice, settings = random.Random(3), archive.settings()
    for _ in range(60):
        asking = asyncio.create_task(OracleArchive(settings).ask(*QUESTION))
        for _ in range(dice.randrange(1500)):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait({asking})
        assert asking.cancelled() or asking.result().rows


async def test_errors_of_many(archive: TestArchive) -> None:
    """Checks in trouble do not disturb those beside them."""
    archive.faults.extend([Fault(ora=942), Fault(drop=True), Fault(hang=True)])
    adapter = OracleArchive(archive.settings(TIMEOUT * 2))
    found = await asyncio.gather(*(adapter.ask(*QUESTION) for _ in range(12)), return_exceptions=True)
    assert sum(isinstance(answer, ArchiveError) for answer in found) == 3
    assert len(found) == 12


async def test_an_answer_that_the_driver_cannot_read(archive: TestArchive, tmp_path: Path) -> None:
    """Bytes that break the driver's own decoding are an archive that could not be asked, not a crash."""
    text_in_a_number = "select :account as id, :mous as fact, :project as value from dual"
    (tmp_path / "entitlement.sql").write_text(text_in_a_number)
    error = await refusal(archive.settings(queries=tmp_path))
    assert "cannot read" in str(error), error
