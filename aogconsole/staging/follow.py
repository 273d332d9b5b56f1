"""Following a run: its output, byte for byte, into its file here, for as long as the run lasts.

The file is the truth: its size is the offset to go on from, and the transcript is a function of its bytes. So whoever
follows may be killed at any moment, and the next one goes on exactly there. Beside it lies only when its bytes arrived
(`aogconsole.staging.logtimes`), which nothing depends on.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from aogconsole.errors import Conflict, StagingError, StorageError
from aogconsole.staging.logtimes import ArrivalWriter
from aogconsole.staging.transcript import Milestone, Transcript
from aogconsole.tasks import obey
from backends.ports import RemoteRun, StagingHost

GATHER = 0.02
"""Seconds in which small pieces gather to one write: a thread's step costs more than writing them."""
REPORT = 0.1
"""Seconds between two reports when much comes."""
HEARTBEAT = 1.0
"""Seconds between two reports when nothing comes; also the longest that bytes stay unsynced."""
PIECE = 1 << 20
AHEAD = 16 << 20
"""Bytes received and not yet written at which receiving waits for the disk."""
FIRST_WAIT, LONGEST_WAIT = 0.1, 30.0
"""Seconds before a broken line is tried again, doubled each time."""

T = TypeVar("T")


class Heard(Protocol):
    """Told what a run has said: about ten times a second while it speaks, once a second while it is silent."""

    def __call__(self, milestones: tuple[Milestone, ...], size: int, lines: int, /) -> None:
        """All milestones so far, the bytes in the file, the lines read.

        What is read may be a little ahead of what is in the file; after a crash the same is told again, in order.
        """
        ...


class Follower:
    """Follows one run. One object for one call of `follow`."""

    def __init__(
        self,
        host: StagingHost,
        token: str,
        file: Path,
        transcript: Transcript,
        heard: Heard,
        line: Callable[[str], None] = lambda why: None,
        *,
        mode: int = 0o600,
    ) -> None:
        """`transcript`: fresh; it reads what is in `file` first. `mode`: of a new file.

        `line` is told why the line broke, and "" when it is back. What a callback raises ends the following.
        """
        self._host = host
        self._token = token
        self._file = _RunFile(file, mode)
        self._transcript = transcript
        self._milestones: tuple[Milestone, ...] = ()
        self._heard = heard
        self._line = line
        self._broken = ""
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="follow")
        self._syncing: asyncio.Future[None] | None = None
        self._sync_due = 0.0
        self._pending: list[bytes] = []
        self._ahead = 0
        self._came, self._room = asyncio.Event(), asyncio.Event()
        self._reported, self._untold = 0.0, False

    async def follow(self) -> RemoteRun:
        """Follow until the host says that the run is over and its whole log is here; the transcript is then closed.

        Returns how the host has the run: `exited`, `lost`, or `absent` (then what is here is all there is).
        A line that breaks is tried again for ever. Cancel at any time. Raises StorageError when the file cannot be
        written (what it has is right, follow again later) and Conflict when another process follows the run.
        """
        try:
            await self._in_thread(self._file.open)
            await self._read_back()
            run = await self._until_over()
            self._transcript.close()
            await self._in_thread(self._file.sync)
            self._report()
            return run
        finally:
            try:
                if self._syncing:
                    await _uninterrupted(self._syncing)
            finally:
                try:
                    await self._in_thread(self._file.close)
                finally:
                    self._threads.shutdown(wait=False)
                    obey()  # a disk that fails here must not take the place of being told to end

    async def _read_back(self) -> None:
        while self._transcript.bytes < self._file.size:
            self._feed(await self._in_thread(partial(self._file.read, self._transcript.bytes)))
        self._report()

    async def _until_over(self) -> RemoteRun:
        failures = 0
        while True:
            before = self._file.size
            try:
                run = await self._host.status(self._token)
                self._tell_line("")
                if self._is_over(run):
                    return run
                if run.log_bytes or run.state != "starting":
                    await self._copy()
            except StagingError as error:
                self._tell_line(str(error))
                failures = 0 if self._file.size > before else failures + 1
                await self._pause(_wait(failures))
            else:
                failures = 0
                if self._file.size == before:
                    await self._pause(FIRST_WAIT)

    def _is_over(self, run: RemoteRun) -> bool:
        """Whether nothing is left to fetch. Raises StorageError when we have more than the host ever said."""
        if run.state == "absent":
            return True
        if run.log_bytes < self._file.size:
            raise StorageError(
                f"{self._file.path} has {self._file.size} bytes, but the run's log on the staging host {run.log_bytes}",
                "move the file away: the log is then fetched anew",
            )
        return run.state in ("exited", "lost") and run.log_bytes == self._file.size

    async def _copy(self) -> None:
        """What one channel brings, into the file. Raises StagingError when the line breaks; what came is written."""
        receiver = asyncio.create_task(self._receive())
        receiver.add_done_callback(lambda _: self._came.set())
        try:
            while self._pending or not receiver.done():
                await self._store()
        finally:
            receiver.cancel()
            await asyncio.gather(receiver, return_exceptions=True)
        receiver.result()

    async def _receive(self) -> None:
        pieces = self._host.log(self._token, self._file.size)
        try:
            async for piece in pieces:
                self._feed(piece)
                self._pending.append(piece)
                self._ahead += len(piece)
                self._came.set()
                if self._ahead >= AHEAD:
                    self._room.clear()
                    await self._room.wait()
        finally:
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()

    async def _store(self) -> None:
        """Write what has come, or see that nothing comes for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REPORT if self._untold else HEARTBEAT):
                await self._came.wait()
        self._came.clear()
        pieces, self._pending, size, self._ahead = self._pending, [], self._ahead, 0
        self._room.set()
        if pieces:
            await self._in_thread(partial(self._file.append, pieces))
            self._untold = True
        self._sync_beside()
        if time.monotonic() - self._reported >= (REPORT if self._untold else HEARTBEAT):
            self._report()
        if 0 < size < PIECE:
            await asyncio.sleep(GATHER)

    def _sync_beside(self) -> None:
        """Sync about once a second while writing goes on. Raises what the last one did."""
        if self._syncing and self._syncing.done():
            self._syncing.result()
            self._syncing = None
        if self._file.unsynced and not self._syncing and time.monotonic() >= self._sync_due:
            self._sync_due = time.monotonic() + HEARTBEAT
            self._syncing = asyncio.get_running_loop().run_in_executor(self._threads, self._file.sync)

    def _feed(self, piece: bytes) -> None:
        if self._transcript.feed(piece):
            self._milestones = self._transcript.milestones

    def _report(self) -> None:
        self._reported, self._untold = time.monotonic(), False
        self._heard(self._milestones, self._file.size, self._transcript.lines)

    def _tell_line(self, why: str) -> None:
        if why != self._broken:
            self._broken = why
            self._line(why)

    async def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, HEARTBEAT))
            self._report()

    async def _in_thread(self, step: Callable[[], T]) -> T:
        return await _uninterrupted(asyncio.get_running_loop().run_in_executor(self._threads, step))


async def _uninterrupted(step: asyncio.Future[T]) -> T:
    """The result of a thread's step; waited for when cancelled too, so that nobody meets a half-made one."""
    cancelled: asyncio.CancelledError | None = None
    while not step.done():
        try:
            await asyncio.wait({step})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled from (None if step.cancelled() else step.exception())
    return step.result()


def _wait(failures: int) -> float:
    """Seconds before the next try after so many in a row that failed."""
    return min(FIRST_WAIT * 2.0 ** min(failures, 16), LONGEST_WAIT) * random.uniform(0.5, 1)  # noqa: S311


class _RunFile:
    """The file of a run's output, locked against a second writer. Every method may raise StorageError."""

    def __init__(self, path: Path, mode: int) -> None:
        self.path = path
        self._mode = mode
        self._descriptor = -1
        self._arrivals: ArrivalWriter | None = None
        self.size = 0
        self.unsynced = False

    def open(self) -> None:
        """Open or make it. Raises Conflict when somebody else has it."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        with self._explained():
            try:
                self._descriptor = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, self._mode)
                os.fchmod(self._descriptor, self._mode)
            except FileExistsError:
                self._descriptor = os.open(self.path, flags)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict(f"another process is following {self.path}", "look who holds the engine lock") from None
            self.size = os.fstat(self._descriptor).st_size
        self._arrivals = ArrivalWriter(self.path, self.size, self._mode)

    def read(self, offset: int) -> bytes:
        """Some bytes from there."""
        with self._explained():
            piece = os.pread(self._descriptor, PIECE, offset)
        if not piece:
            raise StorageError(f"{self.path} became shorter while it was read", "who else writes to it?")
        return piece

    def append(self, pieces: list[bytes]) -> None:
        """Write at the end; on an error what was written stays, and is right."""
        if self._arrivals:
            self._arrivals.note(self.size)
        with self._explained():
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    self.unsynced = True
                    written = os.write(self._descriptor, rest)
                    self.size += written
                    rest = rest[written:]

    def sync(self) -> None:
        """Onto the disk."""
        self.unsynced = False
        with self._explained():
            os.fdatasync(self._descriptor)
        if self._arrivals:
            self._arrivals.sync()

    def close(self) -> None:
        """Sync what is not, and close, unless it is."""
        if self._descriptor < 0:
            return
        try:
            if self.unsynced:
                self.sync()
        finally:
            os.close(self._descriptor)
            self._descriptor = -1
            if self._arrivals:
                self._arrivals.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"the run's file {self.path} cannot be used: {error.strerror}",
                "free the disk, or make the folder writable: the output stays on the staging host and is fetched then",
            ) from error
