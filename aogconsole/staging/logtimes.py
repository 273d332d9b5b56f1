"""When the lines of a run's output arrived here: a small file beside the log, `N.times` beside `N.log`.

It holds pairs of 16 bytes (a byte's offset in the log, and the Unix time at which that byte was written here), at most
one a second, so a line's time is right to about a second. Output that was printed while we were away has the time at
which it was fetched. It is a comfort: the log is right without it, and a missing, torn or stale one does no harm.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from array import array
from bisect import bisect_right
from pathlib import Path

_PAIR = struct.Struct("<Qd")
EVERY = 1.0
"""Least seconds between two pairs."""


def times_path(log: Path) -> Path:
    """The file of arrival times beside a log."""
    return log.with_suffix(".times")


class ArrivalWriter:
    """Writes the pairs; for the one process that holds the log's lock. Errors are swallowed: see above."""

    def __init__(self, log: Path, size: int, mode: int) -> None:
        """Goes on after the pairs that are there and within the log's `size`; `mode` of a new file."""
        self._descriptor = -1
        self._due = 0.0
        self._count = 0
        with contextlib.suppress(OSError):
            path = times_path(log)
            try:
                self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
                os.fchmod(self._descriptor, mode)
            except FileExistsError:
                self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            self._count = os.fstat(self._descriptor).st_size // _PAIR.size
            while self._count and self._offset(self._count - 1) >= size:
                self._count -= 1  # of bytes that were lost with the power: they will come again
            os.ftruncate(self._descriptor, self._count * _PAIR.size)

    def _offset(self, number: int) -> int:
        return int(_PAIR.unpack(os.pread(self._descriptor, _PAIR.size, number * _PAIR.size))[0])

    def note(self, offset: int) -> None:
        """The byte at `offset` is being written now."""
        now = time.monotonic()
        if now < self._due or self._descriptor < 0:
            return
        self._due = now + EVERY
        with contextlib.suppress(OSError):
            pair = _PAIR.pack(offset, time.time())
            self._count += os.pwrite(self._descriptor, pair, self._count * _PAIR.size) == _PAIR.size

    def sync(self) -> None:
        """Onto the disk."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.fdatasync(self._descriptor)

    def close(self) -> None:
        """No more comes."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Arrivals:
    """Reads the pairs as they come; 16 bytes of memory for each second with output."""

    def __init__(self, log: Path) -> None:
        self._path = times_path(log)
        self._offsets = array("Q")
        self._times = array("d")

    def refresh(self) -> None:
        """Read what is new; a file that became shorter is read anew. A missing one is empty."""
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < len(self._times) * _PAIR.size:
                    self._offsets, self._times = array("Q"), array("d")
                file.seek(len(self._times) * _PAIR.size)
                new = file.read(size - file.tell())
        except OSError:
            return
        for offset, moment in _PAIR.iter_unpack(new[: len(new) // _PAIR.size * _PAIR.size]):
            self._offsets.append(
                max(offset, self._offsets[-1]) if self._offsets else offset
            )  # in order, whatever it has
            self._times.append(moment)

    def at(self, offset: int) -> float | None:
        """Unix time at which the byte arrived; None when it is not known."""
        offsets = self._offsets
        number = bisect_right(offsets, offset) - 1
        return self._times[number] if 0 <= number < len(self._times) else None
