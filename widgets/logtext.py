"""What a log pane needs of the text it shows. Pure; `aogconsole.staging.logfile` has the real one.

Everything here returns at once: who reads files does so elsewhere. Every line has passed `text.clean`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class Matches(Protocol):
    """The lines that have a text: ranks from `first` up to `end`, of which both may move while a rank stays."""

    @property
    def first(self) -> int:
        """Rank of the first match known; it falls while the scan goes on."""
        ...

    @property
    def end(self) -> int:
        """Rank after the last match; it grows with the file."""
        ...

    @property
    def low(self) -> int:
        """Every line from this number on was looked at."""
        ...

    @property
    def done(self) -> bool:
        """Whether every line was looked at."""
        ...

    @property
    def fraction(self) -> float:
        """How much was looked at, 0 to 1."""
        ...

    def line(self, rank: int, /) -> int:
        """The number of the line with this rank. Raises IndexError."""
        ...

    def rank(self, line: int, /) -> int:
        """Rank of the first match at this line or after it."""
        ...

    def cancel(self) -> None:
        """Nobody wants more of it."""
        ...


class LogText(Protocol):
    """A growing text: lines with numbers from `first` up to `end`; a line keeps its number within a generation."""

    tell: Callable[[], None] | None
    """To be called, in any thread, when there is something new; who shows the text sets it."""

    @property
    def generation(self) -> int:
        """Changes when the text is another one."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it is known what there is."""
        ...

    @property
    def complete(self) -> bool:
        """Whether `first` is the top of the text."""
        ...

    @property
    def trouble(self) -> str:
        """Why it cannot be read; empty when it can."""
        ...

    @property
    def first(self) -> int:
        """Number of the first line known; it falls until `complete`."""
        ...

    @property
    def end(self) -> int:
        """Number after the last line."""
        ...

    @property
    def whole(self) -> int:
        """Number after the last line that cannot change any more."""
        ...

    @property
    def size(self) -> int:
        """Bytes known."""
        ...

    def page(self, numbers: Sequence[int], /) -> list[str]:
        """The lines with these numbers, ascending; empty where there is none."""
        ...

    def arrived(self, numbers: Sequence[int], /) -> list[float | None]:
        """When these lines came, in Unix time."""
        ...

    def locate(self, offset: int, /) -> int | None:
        """The line that holds a byte."""
        ...

    def matching(self, *wanted: tuple[str, bool]) -> Matches | None:
        """Look for the lines that have these texts, or with True have them not."""
        ...


class Rows:
    """The lines that are shown, in order: all, or those of a filter."""

    def __init__(self, text: LogText, found: Matches | None = None) -> None:
        self.text = text
        self.found = found

    @property
    def first(self) -> int:
        """The first row."""
        return self.text.first if self.found is None else self.found.first

    @property
    def end(self) -> int:
        """After the last row."""
        return self.text.end if self.found is None else self.found.end

    def number(self, row: int) -> int:
        """The line in a row; after the last line when there is none."""
        if self.found is None:
            return row
        try:
            return self.found.line(row)
        except IndexError:
            return self.text.end

    def row(self, number: int) -> int:
        """The row of a line, or of the next one that is shown."""
        return number if self.found is None else self.found.rank(number)
