"""What is said: to standard output, and kept beside the tars."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import errno
import os
import queue
import select
import threading
from pathlib import Path

from aogconsole.errors import StorageError
from aogconsole.text import clean, clean_lines

BACKLOG = 4 << 20
"""Bytes that may wait for a slow reader before the worker's log is no longer read."""
UNKEPT = 64 << 20
"""Bytes of the log that are held while its disk is full."""


class Teller:
    """Writes the transcript in a thread of its own: a terminal that is stopped (Ctrl+S) stops neither work nor signals.

    A reader that goes away does not stop the work either. `terminal`: what comes from the calibrator is made safe.
    """

    def __init__(self, output: int, *, terminal: bool) -> None:
        self._output = output
        self._terminal = terminal
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._carriage = ""
        self._within_line = False
        self._waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._backlog = 0
        self._deaf = self._lost = False
        self._log: int | None = None
        self._unkept = bytearray()
        self._fault: OSError | None = None
        self._thread = threading.Thread(target=self._write_on, name="transcript", daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        """One line of ours; it begins a line, whatever the calibrator left."""
        start = "\n" if self._within_line else ""
        self._within_line = False
        data = f"{start}{clean(line)}\n".encode("utf-8", "backslashreplace")
        self._keep(data)
        self._show(data)

    async def pass_on(self, data: bytes) -> None:
        """Bytes of the calibrator or of rsync, unchanged."""
        if not data:
            return
        self._within_line = not data.endswith(b"\n")
        self._keep(data)
        self._show(self._safe(data) if self._terminal else data)
        while self._backlog > BACKLOG and not self._deaf:
            await asyncio.sleep(0.02)

    def keep(self, path: Path) -> None:
        """From now on the transcript is kept in this new file too. Raises OSError."""
        self._log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def kept(self) -> None:
        """End what is kept. Raises StorageError unless it is whole."""
        if self._log is None:
            return
        self._keep(b"")
        os.close(self._log)
        self._log = None
        if self._unkept:
            why = self._fault.strerror if self._fault else "too much of it is waiting"
            raise StorageError(f"the log cannot be kept beside the tars: {why}", "see the web root's disk")

    def close(self, seconds: float) -> bool:
        """Whether all was written; waits so long at most for a slow reader."""
        self._waiting.put(b"")
        self._thread.join(seconds)
        return not (self._thread.is_alive() or self._deaf or self._lost)

    def _safe(self, data: bytes) -> bytes:
        text = self._carriage + self._decoder.decode(data)
        self._carriage = "\r" if text.endswith("\r") else ""  # its line feed may come with the next bytes
        return clean_lines(text.removesuffix("\r")).encode("utf-8", "backslashreplace")

    def _keep(self, data: bytes) -> None:
        if self._log is None or len(self._unkept) > UNKEPT:
            return
        self._unkept += data
        try:
            while self._unkept:
                del self._unkept[: os.write(self._log, self._unkept)]
        except OSError as error:  # tried again with the next line: a disk may be full for a while
            self._fault = error

    def _show(self, data: bytes) -> None:
        if data:
            with self._lock:
                self._backlog += len(data)
            self._waiting.put(data)

    def _write_on(self) -> None:
        while data := self._waiting.get():
            if not self._deaf:
                self._write(data)
            with self._lock:
                self._backlog -= len(data)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._output, left) :]
            except BlockingIOError:
                with contextlib.suppress(OSError):
                    select.select([], [self._output], [], 1.0)
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.EIO, errno.EBADF):  # nobody reads any more, for good
                    self._deaf = True
                self._lost = True
                return
