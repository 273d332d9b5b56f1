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
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aogconsole.errors import StorageError
from aogconsole.text import clean, clean_lines

BACKLOG = 4 << 20
"""Bytes that may wait for a slow reader in memory; what comes then is read from the log when it is its turn."""
UNKEPT = 64 << 20
"""Bytes of the log that are held while its disk is full."""
CHUNK = 65536
"""Bytes of the log that are read at once."""
PIECE = 4096
"""Bytes that are written at once: a slow reader is seen to take something."""


@dataclass
class _Part:
    """A part of the log that is still to be shown."""

    start: int
    end: int


class Teller:
    """Writes the transcript in a thread of its own: a terminal that is stopped (Ctrl+S) stops neither work nor signals.

    A reader that goes away, or reads nothing, does not stop the work either. `terminal`: what comes from the calibrator
    is made safe.
    """

    def __init__(self, output: int, *, terminal: bool) -> None:
        self._output = output
        self._terminal = terminal
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._carriage = ""
        self._within_line = False
        self._waiting: queue.SimpleQueue[bytes | _Part] = queue.SimpleQueue()
        """No bytes at all are the end."""
        self._growing: _Part | None = None
        """The last that waits, if it is a part of the log."""
        self._lock = threading.Lock()
        self._backlog = 0
        self._taken = 0
        self._deaf = self._lost = False
        self._log: int | None = None
        self._reading = -1
        self._size = 0
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
        self._show(data)
        while self._backlog > BACKLOG and not self._deaf and not self._is_kept():
            await asyncio.sleep(0.02)

    def keep(self, path: Path) -> None:
        """From now on the transcript is kept in this new file too. Raises OSError."""
        self._log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._reading = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

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

    def close(self, seconds: float, hurry: Sequence[object] = ()) -> bool:
        """Whether all was written. Waits for a slow reader until it has taken nothing for so long.

        Not beyond this time at all when there is something in `hurry`: a signal that came meanwhile.
        """
        self._waiting.put(b"")
        taken, end = self._taken, time.monotonic() + seconds
        while self._thread.is_alive() and (left := end - time.monotonic()) > 0:
            self._thread.join(min(left, 0.1))
            if self._taken > taken and not hurry:
                taken, end = self._taken, time.monotonic() + seconds
        if self._thread.is_alive():
            return False
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1
        return not (self._deaf or self._lost)

    def _is_kept(self) -> bool:
        """Whether the log has all that was said."""
        return self._log is not None and not self._unkept

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
                written = os.write(self._log, self._unkept)
                self._size += written
                del self._unkept[:written]
        except OSError as error:  # tried again with the next line: a disk may be full for a while
            self._fault = error

    def _show(self, data: bytes) -> None:
        """What was just kept, if anything is."""
        if not data:
            return
        with self._lock:
            if self._backlog <= BACKLOG or not self._is_kept():
                self._growing = None
                self._backlog += len(data)
                self._waiting.put(data)
            elif self._growing:
                self._growing.end = self._size
            else:
                self._growing = _Part(self._size - len(data), self._size)
                self._waiting.put(self._growing)

    def _write_on(self) -> None:
        while item := self._waiting.get():
            if isinstance(item, bytes):
                self._write(item)
                with self._lock:
                    self._backlog -= len(item)
                continue
            with self._lock:
                if self._growing is item:
                    self._growing = None
            for start in range(item.start, item.end, CHUNK):
                self._write(self._read(start, min(CHUNK, item.end - start)))

    def _read(self, start: int, size: int) -> bytes:
        data = b""
        with contextlib.suppress(OSError):
            data = os.pread(self._reading, size, start)
        self._lost = self._lost or len(data) < size
        return data

    def _write(self, data: bytes) -> None:
        left = memoryview(self._safe(data) if self._terminal else data)
        while left and not self._deaf:
            try:
                written = os.write(self._output, left[:PIECE])
                self._taken += written
                left = left[written:]
            except BlockingIOError:
                with contextlib.suppress(OSError):
                    select.select([], [self._output], [], 1.0)
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.EIO, errno.EBADF):  # nobody reads any more, for good
                    self._deaf = True
                self._lost = True
                return
