"""The lines of a log that have a text, or have it not: found from the end of the file first, kept up as it grows."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from aogconsole.staging.logindex import CHUNK, LineIndex


class _Test(NamedTuple):
    needle: bytes
    fold: bool
    inverse: bool


class Matches:
    """Numbers of the matching lines, in their order, as ranks from `first` up to `end`; 4 bytes a match.

    Ranks, like the numbers of lines, stay what they are: rank 0 is the first match after where the scan began, and
    those before it are negative. An unterminated last line that matches is the last rank, for as long as it does.
    Texts are searched literally in the file's bytes. Without a capital letter in one, ASCII case does not matter.
    """

    def __init__(self, index: LineIndex, wanted: Sequence[tuple[str, bool]]) -> None:
        """`wanted`: texts, none empty, that a line must have, or with True must not have. Found by calls of `step`."""
        self.index = index
        self._tests = tuple(
            _Test(text.encode("utf-8", "surrogateescape"), text == text.lower(), inverse) for text, inverse in wanted
        )
        self._before = array("i")  # 2,147,483,647 lines are enough
        self._from = array("i")
        self._low = self._high = index.whole  # scanned between
        self._last: tuple[int, int, list[bool]] = (
            -1,
            0,
            [],
        )  # unterminated line: number, read up to, which texts it has
        self._seen: tuple[int, int, int | None] = (0, 0, None)  # told together, so that no reader sees half a step
        self._cancelled = False

    @property
    def first(self) -> int:
        """Rank of the first match so far: 0 or less."""
        return -self._seen[0]

    @property
    def end(self) -> int:
        """Rank after the last match."""
        _, count, last = self._seen
        return count + (last is not None)

    @property
    def low(self) -> int:
        """Every line from this number on was looked at, but for the very newest."""
        return self._low

    @property
    def done(self) -> bool:
        """Whether every line that is there was looked at."""
        index = self.index
        return index.complete and self._low == index.first and self._high == index.whole

    @property
    def fraction(self) -> float:
        """How much of the file was looked at, 0 to 1."""
        index = self.index
        return 1.0 if self.done else (index.start(self._high) - index.start(self._low)) / max(index.scanned, 1)

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants more of it."""
        return self._cancelled

    def cancel(self) -> None:
        """Look no further."""
        self._cancelled = True

    def line(self, rank: int) -> int:
        """Number of the line with a rank between `first` and `end`."""
        if rank < 0:
            return self._before[-rank - 1]
        if rank < len(self._from):
            return self._from[rank]
        last = self._seen[2]
        if last is None:
            raise IndexError(rank)
        return last

    def rank(self, line: int) -> int:
        """Rank of the first match at that line or after it; `end` when there is none."""
        before, count, last = self._seen
        found = bisect_left(self._from, line, 0, count)
        if not found and (back := bisect_right(self._before, -line, 0, before, key=int.__neg__)):
            return -back
        return found + (found == count and last is not None and last < line)

    def step(self) -> bool:
        """Look at some more lines, the newest first; whether there is more to look at."""
        index = self.index
        if self._high < index.whole:
            stop = self._batch(self._high, index.whole)
            self._from.extend(self._found(self._high, stop))
            self._high = stop
        elif self._low > index.first:
            start = self._batch_back(self._low)
            self._before.extend(reversed(self._found(start, self._low)))
            self._low = start
        last = self._unterminated() if self._high == index.whole else None
        self._seen = (len(self._before), len(self._from), last)
        return self._high < index.whole or self._low > index.first

    def _batch(self, line: int, stop: int) -> int:
        """The line up to which a step goes: about CHUNK bytes, at least one line."""
        index = self.index
        return min(max(index.at(index.start(line) + CHUNK), line + 1), stop)

    def _batch_back(self, line: int) -> int:
        index = self.index
        start = index.start(line) - CHUNK
        if start <= index.start(index.first):
            return index.first
        return min(index.at(start) + 1, line - 1)

    def _found(self, line: int, stop: int) -> list[int]:
        """The matching lines from `line` up to `stop`."""
        begin, end = self.index.start(line), self.index.start(stop)
        found = list(range(line, stop))
        if stop == line + 1:
            return found if all(self._within(test, begin, end) != test.inverse for test in self._tests) else []
        read = self.index.file.read(begin, end)
        for needle, fold, inverse in self._tests:
            data = read.lower() if fold else read
            if needle in data:
                texts = data.splitlines()
                found = [n for n in found if n - line < len(texts) and (needle in texts[n - line]) != inverse]
            elif not inverse:  # most often
                return []
        return found

    def _within(self, test: _Test, start: int, stop: int) -> bool:
        """Whether the text is in those bytes of one line, which may be very long."""
        while start < stop and not self._cancelled:
            data = self.index.file.read(start, min(stop, start + CHUNK + len(test.needle) - 1))
            if test.needle in (data.lower() if test.fold else data):
                return True
            start += CHUNK
        return False

    def _unterminated(self) -> int | None:
        """The unterminated last line, when it matches; only what is new of it is read."""
        index = self.index
        line, stop = index.whole, index.scanned
        start = index.start(line)
        if stop <= start:
            return None
        known, upto, has = self._last
        if known != line:
            upto, has = start, [False] * len(self._tests)
        has = [
            had or self._within(test, max(upto - len(test.needle) + 1, start), stop)
            for had, test in zip(has, self._tests, strict=True)
        ]
        self._last = (line, stop, has)
        return line if all(had != test.inverse for had, test in zip(has, self._tests, strict=True)) else None
