"""Search in a log whose last line is still being written."""

from __future__ import annotations

from collections.abc import Callable

from widgets.logfind import LogFinder


class Passing:
    """The one match is gone between the look at how many there are and the look at which: a line went on."""

    first, end, low, done, fraction = 0, 1, 0, True, 1.0

    def __init__(self) -> None:
        self.lines: list[int] = []

    def line(self, rank: int, /) -> int:
        """Its number."""
        return self.lines[rank]

    def rank(self, _line: int, /) -> int:
        """The first."""
        return 0

    def cancel(self) -> None:
        """Not needed."""


class Text:
    """A text in which something was looked for."""

    generation, ready, complete, trouble, first, end, whole, size = 1, True, True, "", 0, 1, 0, 10

    def __init__(self) -> None:
        self.matches = Passing()
        self.tell: Callable[[], None] | None = None

    def matching(self, *_wanted: tuple[str, bool]) -> Passing:
        """Its lines."""
        return self.matches

    def page(self, numbers: object) -> list[str]:
        """Not needed."""
        return []

    def arrived(self, numbers: object) -> list[float | None]:
        """Not needed."""
        return []

    def locate(self, _offset: int) -> int | None:
        """Not needed."""
        return None


def test_a_hit_that_passes_is_looked_for_again() -> None:
    """The line that was found last has gone on and is none any more: nothing fails, and the next look finds one."""
    text, finder = Text(), LogFinder()
    finder.use(text)
    finder.set_search("x")
    finder.seek(1)
    assert finder.target(0, 0) == (None, "")
    assert finder.seeking
    assert finder.states(0) == ["/x (1)"]
    text.matches.lines.append(7)
    assert finder.target(0, 0) == (7, "")
    assert not finder.seeking
