"""The finished strips of a log's lines: cut or wrapped to the width, with their times, and what is searched for lit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import accumulate

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from rich.style import Style
from textual.cache import LRUCache
from textual.strip import Strip

from widgets.logtext import Rows

STRIPS = 1000
"""Lines whose finished strips are kept."""
_UNKNOWN = "--:--:-- "


class LogPainter:
    """Makes strips, and keeps them until something changes how they look."""

    def __init__(self) -> None:
        self.wrap = False
        self.times = False
        self.left = 0
        """Cells that are moved out of view to the left."""
        self.width = 0
        self.style = self._hit = self._time = Style.null()
        self._needle: re.Pattern[str] | None = None
        self._strips: LRUCache[int, tuple[Strip, ...]] = LRUCache(STRIPS)
        self._key: tuple[object, ...] = ()

    def forget(self) -> None:
        """The lines are others."""
        self._strips.clear()

    def light(self, needle: str) -> None:
        """Light a text in the lines; empty for none. Without a capital letter in it, case does not matter."""
        flags = re.IGNORECASE if needle == needle.lower() else re.NOFLAG
        self._needle = re.compile(re.escape(needle), flags) if needle else None
        self.forget()

    def use(self, width: int, style: Style, hit: Style, time: Style) -> None:
        """Once per frame: other styles, or another shape, need other strips."""
        key = (width, style, hit, time, self.left, self.wrap, self.times)
        if key != self._key:
            self._key = key
            self.width, self.style, self._hit, self._time = width, style, style + hit, time
            self.forget()

    def strips(self, rows: Rows, places: Sequence[int]) -> list[tuple[Strip, ...]]:
        """The strips of some rows, which ascend: one or more each."""
        numbers = [rows.number(place) for place in places]
        found = [self._strips.get(number) for number in numbers]
        missing = [number for number, strips in zip(numbers, found, strict=True) if strips is None]
        if not missing:
            return [strips for strips in found if strips is not None]
        whole = rows.text.whole  # before the text is read: a line that may have grown since is not kept
        texts = rows.text.page(missing)
        times = rows.text.arrived(missing) if self.times else [None] * len(missing)
        made = {number: self._finish(text, moment) for number, text, moment in zip(missing, texts, times, strict=True)}
        for number in missing:
            if number < whole:
                self._strips[number] = made[number]
        return [made[number] if strips is None else strips for number, strips in zip(numbers, found, strict=True)]

    def _finish(self, text: str, moment: float | None) -> tuple[Strip, ...]:
        """The rows of one line: cut or wrapped to the width, with its time and what is searched for.

        In terms of text as far as it goes, for each operation on a strip makes seven caches.
        """
        width, style = self.width, self.style
        head: list[Segment] = []
        if self.times:
            known = f"{datetime.fromtimestamp(moment, UTC):%H:%M:%S} " if moment is not None else _UNKNOWN
            head = [Segment(known, self._time)]
        room = max(width - (len(_UNKNOWN) if head else 0), 2)
        hits = [found.span() for found in self._needle.finditer(text)] if self._needle else []
        rows = []
        for start, stop in cuts(text, room, self.left, wrap=self.wrap):
            piece = text[start:stop]
            pad = room - (len(piece) if piece.isascii() else cell_len(piece))
            segments = self._lit(text, start, stop, hits) if hits else [Segment(piece, style)]
            strip = Strip([*head, *segments, Segment(" " * pad, style)], room + len(_UNKNOWN) * bool(head))
            rows.append(strip if strip.cell_length == width else strip.crop(0, width))
            head = head and [Segment(" " * len(_UNKNOWN), style)]
        return tuple(rows)

    def _lit(self, text: str, start: int, stop: int, hits: list[tuple[int, int]]) -> list[Segment]:
        """A part of a line with the hits in it lit."""
        segments, at = [], start
        for begin, end in hits:
            if begin < stop and end > start:
                segments += [Segment(text[at : max(begin, at)], self.style)]
                segments += [Segment(text[max(begin, at) : min(end, stop)], self._hit)]
                at = min(end, stop)
        return [segment for segment in [*segments, Segment(text[at:stop], self.style)] if segment.text]


def cuts(text: str, width: int, left: int, *, wrap: bool) -> list[tuple[int, int]]:
    """From where to where the rows of a line go, of at most `width` cells (2 or more); no wide character is cut.

    Without `wrap` one row, `left` cells from the line's beginning.
    """
    if text.isascii():
        return [(at, at + width) for at in range(0, len(text) or 1, width)] if wrap else [(left, left + width)]
    if wrap:
        ends = list(accumulate(map(len, chop_cells(text, width))))
        return list(zip([0, *ends], ends, strict=False))
    start = len(chop_cells(text, left)[0]) if left > 1 else 0
    return [(start, start + len(next(iter(chop_cells(text[start:], width)), "")))]
