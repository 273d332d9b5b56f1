"""Where the lines of a growing file begin, found from its end towards both sides.

A line ends with LF, CR LF or CR, as `aogconsole.staging.transcript` counts them. Lines are numbered from the first one
that was found near the end: those before it have negative numbers. So a line keeps its number for ever, and nothing
jumps when the top of the file is reached; only then is a line's number in the file known: `number - first`.

One thread extends an index; others read it at any time (what they read was appended before it is counted).
The file is read with `pread`, never mapped: a mapped file that is truncated under us kills the process.
"""

from __future__ import annotations

import os
import weakref
from array import array
from bisect import bisect_left, bisect_right
from itertools import accumulate, islice

CHUNK = 1 << 17
"""Bytes per step: a quarter of a millisecond, so that a step never keeps the screen's thread waiting."""


class OpenFile:
    """A file opened for reading; closed when nobody holds it any more."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises OSError."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes there; fewer when the file is shorter. Raises OSError."""
        return os.pread(self._descriptor, max(stop - start, 0), start)

    def stat(self) -> os.stat_result:
        """Of the open file, whatever its name points to now."""
        return os.fstat(self._descriptor)


class LineIndex:
    """The lines of a file between `first` and `end`; the last may be unterminated. 8 bytes a line."""

    def __init__(self, file: OpenFile) -> None:
        """Finds the last line that begins within the file as it is now: quick unless that line is very long."""
        self.file = file
        size = file.stat().st_size
        self._reached = size
        self._before = array("Q")  # of lines -1, -2, ...
        self._from = array("Q")  # of lines 0, 1, ..., and of the one that has not begun yet
        while self._reached and not self._before:
            self.reach_back()
        self._from.append(self._before.pop(0) if self._before else 0)
        self._scanned = self._from[0]
        self._after_cr = 0 < size == self._scanned and file.read(size - 1, size) == b"\r"

    @property
    def first(self) -> int:
        """Number of the first line known: 0 or less."""
        return -len(self._before)

    @property
    def whole(self) -> int:
        """Number after the last line that has ended."""
        return len(self._from) - 1

    @property
    def end(self) -> int:
        """Number after the last line, which may go on."""
        whole = len(self._from) - 1
        return whole + (self._scanned > self._from[whole])

    @property
    def complete(self) -> bool:
        """Whether the top of the file is reached."""
        return not self._reached

    @property
    def scanned(self) -> int:
        """Byte up to which the lines are known."""
        return self._scanned

    @property
    def reached(self) -> int:
        """Byte from which on the lines are known."""
        return self._reached

    def start(self, line: int) -> int:
        """Byte at which a line begins."""
        return self._from[line] if line >= 0 else self._before[-line - 1]

    def stop(self, line: int) -> int:
        """Byte after a line's end."""
        return self.start(line + 1) if line + 1 < len(self._from) else self._scanned

    def at(self, offset: int) -> int:
        """The line that holds a byte. The byte must be `start(first)` or after it."""
        if offset >= self._from[0]:
            return min(bisect_right(self._from, offset) - 1, self.end - 1)
        return -bisect_left(self._before, -offset, key=int.__neg__) - 1

    def extend(self, size: int) -> bool:
        """Read on up to `size`, one step; whether there is more."""
        chunk = self.file.read(self._scanned, min(size, self._scanned + CHUNK))
        if not chunk:
            return False
        at = self._scanned
        if self._after_cr and chunk.startswith(b"\n"):
            self._from[-1] += 1  # a CR LF cut in two: its CR has ended the line
            self._scanned += 1
            at, chunk = at + 1, chunk[1:]
        pieces = chunk.splitlines(True)
        self._after_cr = chunk.endswith(b"\r")
        if pieces and not pieces[-1].endswith((b"\n", b"\r")):
            pieces.pop()
        # before the lines are counted: `end` must never pass over the bytes between them
        self._from.extend(islice(accumulate(map(len, pieces), initial=at), 1, None))
        self._scanned = at + len(chunk)
        return self._scanned < size

    def reach_back(self) -> bool:
        """Read one step towards the top; whether there is more."""
        stop = self._reached
        start = max(stop - CHUNK, 0)
        data = self.file.read(start, stop + 1)
        chunk = data[: stop - start]
        begins = list(accumulate(map(len, chunk.splitlines(True)), initial=start))
        if not chunk.endswith(b"\n") and not (chunk.endswith(b"\r") and data[len(chunk) :] != b"\n"):
            begins.pop()  # the line goes on beyond this chunk, or its CR LF does
        begins.reverse()
        if start and begins:
            begins.pop()  # where this chunk begins: told with the chunk before it
        self._before.extend(begins)
        self._reached = start
        return start > 0
