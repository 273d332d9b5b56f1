"""A window on a run's growing output file: its lines as clean text, whatever the file holds and however big it is.

Opens at the end at once; a thread of its own finds where the lines begin (`LineIndex`), searches and filters
(`Matches`) and keeps up with the file. Nothing of the text stays in memory: 8 bytes a line do.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from aogconsole.errors import Conflict, StorageError
from aogconsole.staging.logindex import LineIndex, OpenFile
from aogconsole.staging.logscan import Matches
from aogconsole.staging.logtimes import Arrivals
from aogconsole.text import clean, clean_lines, decode

POLL, SLOW = 0.1, 0.4
"""Seconds between two looks at the file while there is nothing to do, and when it has not changed for REST."""
REST = 2.0
"""Seconds."""
LONGEST = 4000
"""Characters shown of a line; the rest is counted."""
PAGE = 1 << 18
"""Bytes read at once for a page of lines that follow each other."""
PIECE = 1 << 20


def shown(data: bytes, length: int) -> str:
    """A line as it is shown: `data` are its first bytes, `length` all of them without the line's end."""
    if len(data) > LONGEST:
        head = data.decode("utf-8", "surrogateescape")[:LONGEST].encode("utf-8", "surrogateescape")
    else:
        head = data
    text = clean(decode(head).expandtabs())
    return text if len(head) >= length else f"{text} [... {length - len(head):,} more bytes]"


class LogFile:
    """The lines of a log between the numbers `first` and `end`, for one reader; close it when it is no longer shown.

    A line keeps its number for as long as `generation` stays the same: while the top of the file is still being looked
    for, `first` falls. A file that is truncated or replaced begins a new generation (one that was truncated and has
    grown beyond its old size between two looks is not noticed). The file may not be there yet. Errors of the disk are
    told in `trouble`, and it is tried again. Every method returns at once, and may be called while the thread works.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self.ready = False
        """Whether it was looked at: from then on, no lines means an empty or a missing file."""
        self.trouble = ""
        self.tell: Callable[[], None] | None = None
        """Called in the thread when there is something new."""
        self._index: LineIndex | None = None
        self._arrivals = Arrivals(path)
        self._asked: deque[Matches] = deque()
        self._matches: list[Matches] = []
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"log {path.name}", daemon=True)
        self._thread.start()

    @property
    def first(self) -> int:
        """Number of the first line known: 0 or less."""
        return self._index.first if self._index else 0

    @property
    def end(self) -> int:
        """Number after the last line."""
        return self._index.end if self._index else 0

    @property
    def whole(self) -> int:
        """Number after the last line that has ended."""
        return self._index.whole if self._index else 0

    @property
    def complete(self) -> bool:
        """Whether the top of the file is reached: `first` is then its first line."""
        return self._index is None or self._index.complete

    @property
    def size(self) -> int:
        """Bytes read so far, from the top of the file."""
        return self._index.scanned if self._index else 0

    def line(self, number: int) -> str:
        """One line, clean, at most LONGEST characters of it; empty when there is none with that number."""
        return self.page([number])[0]

    def page(self, numbers: Sequence[int]) -> list[str]:
        """Several lines, in one read where they follow each other; numbers ascend."""
        index = self._index
        if index is None:
            return [""] * len(numbers)
        spans = [(index.start(n), index.stop(n)) if index.first <= n < index.end else (0, 0) for n in numbers]
        begin, end = (spans[0][0], spans[-1][1]) if spans else (0, 0)
        try:
            block = index.file.read(begin, end) if end - begin <= PAGE else None
            return [_line(index.file, start, stop, block, begin) for start, stop in spans]
        except OSError as error:
            self.trouble = _why(error)
            return [""] * len(numbers)

    def arrived(self, numbers: Sequence[int]) -> list[float | None]:
        """When the lines' first bytes arrived here, in Unix time to about a second; None where it is not known."""
        index, at = self._index, self._arrivals.at
        if index is None:
            return [None] * len(numbers)
        return [at(index.start(n)) if index.first <= n < index.end else None for n in numbers]

    def locate(self, offset: int) -> int | None:
        """The line that holds a byte of the file; None while it is not known, or beyond the end."""
        index = self._index
        if index is None or not index.start(index.first) <= offset < index.scanned:
            return None
        return index.at(offset)

    def matching(self, *wanted: tuple[str, bool]) -> Matches | None:
        """Begin to look for the lines with a text, or with (text, True) without it; None while there is no file."""
        index = self._index
        if index is None:
            return None
        matches = Matches(index, wanted)
        self._asked.append(matches)
        self._wake.set()
        return matches

    def close(self) -> None:
        """End the thread, which may take a moment that nobody needs to wait for."""
        self._closed = True
        self._wake.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _run(self) -> None:
        known: object = None
        changed = time.monotonic()
        while not self._closed:
            try:
                size = self._look()
                self.ready = True
                again = time.monotonic() + POLL
                while not self._closed and self._step(size):
                    if time.monotonic() >= again:
                        self._wake.set()
                        break
            except OSError as error:
                self.trouble = _why(error)
            now = (self.generation, self.ready, self.trouble, self.first, self.end, self.size)
            if now != known:
                known, changed = now, time.monotonic()
                if self.tell:
                    self.tell()
            self._wake.wait(POLL if time.monotonic() - changed < REST else SLOW)
            self._wake.clear()

    def _look(self) -> int:
        """See whether the file is there, another, or shorter; returns its size."""
        named: os.stat_result | None = None
        with contextlib.suppress(FileNotFoundError):
            named = os.stat(self.path)
        index = self._index
        if index:
            now = index.file.stat()
            another = named is not None and (named.st_ino, named.st_dev) != (now.st_ino, now.st_dev)
            if not another and now.st_size >= index.scanned:
                self._arrivals.refresh()
                return now.st_size
        if named is None and index is None:
            return 0
        file = index.file if index and named is None else OpenFile(self.path)
        self._arrivals = Arrivals(self.path)
        self._arrivals.refresh()
        self._index = LineIndex(file)
        self.trouble = ""
        self.generation += 1
        return file.stat().st_size

    def _step(self, size: int) -> bool:
        """A little of everything there is to do, the newest lines first; whether there is more."""
        index = self._index
        if index is None:
            return False
        if index.extend(size):
            return True
        while self._asked:
            self._matches.append(self._asked.popleft())
        self._matches = [one for one in self._matches if one.index is index and not one.cancelled]
        more = not index.complete and index.reach_back()
        for one in tuple(self._matches):
            more = one.step() or more
        return more


def _line(file: OpenFile, start: int, stop: int, block: bytes | None, begin: int) -> str:
    """The line in those bytes of the file, of which `block` may be read already."""
    if block is None:
        head = file.read(start, min(stop, start + 4 * LONGEST))
        end = file.read(max(stop - 2, start), stop)
    else:
        head = block[start - begin : stop - begin]
        end = head[-2:]
    length = stop - start - (2 if end == b"\r\n" else end[-1:] in (b"\n", b"\r"))
    return shown(head[:length], length)


def _why(error: OSError) -> str:
    return clean(error.strerror or error.__class__.__name__)


def write_clean(path: Path, target: BinaryIO) -> int:
    """Write the whole log as clean text: UTF-8, each line ended by LF, tabs kept. Returns how many lines.

    Memory is bounded whatever the file holds. Raises OSError, of either file.
    """
    newlines = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("backslashreplace"), translate=True)
    lines, ended = 0, True
    with path.open("rb") as source:
        while True:
            piece = source.read(PIECE)
            text = newlines.decode(piece, final=not piece)
            if text:
                ended = text.endswith("\n")
                lines += text.count("\n")
                target.write(clean_lines(text).encode())
            if not piece:
                break
    if not ended:
        target.write(b"\n")
    return lines + (not ended)


def export(path: Path, target: Path, *, raw: bool = False) -> int:
    """The whole log at `path`, whatever the filter, as a new file `target` of mode 0600; returns how many lines.

    Clean text; with `raw` the bytes as they came. Raises Conflict when `target` exists, StorageError when a file
    cannot be read or written; nothing is left then.
    """
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise Conflict(f"{clean(str(target))} exists already", "give another name: no file is overwritten") from None
    except OSError as error:
        raise StorageError(f"{clean(str(target))} cannot be written: {_why(error)}", "give another name") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            return _copy(path, file) if raw else write_clean(path, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            target.unlink()
        raise StorageError(f"the log could not be exported: {_why(error)}", "is the disk full?") from error


def _copy(path: Path, target: BinaryIO) -> int:
    """The bytes as they are; returns how many lines."""
    lines, last = 0, b""
    with path.open("rb") as source:
        while piece := source.read(PIECE):
            target.write(piece)
            lines += piece.count(b"\n") + piece.count(b"\r") - (last + piece).count(b"\r\n")
            last = piece[-1:]
    return lines + (last not in (b"", b"\n", b"\r"))
