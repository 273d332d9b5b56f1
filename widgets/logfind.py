"""Search and filter of a log pane: what is looked for, what was found, and where to go next."""

from __future__ import annotations

from widgets.logtext import LogText, Matches


class LogFinder:
    """Of one text at a time; the filter and the search outlive it. Hits are lines that the filter lets through."""

    def __init__(self) -> None:
        self.filter, self.inverse, self.search = "", False, ""
        self.found: Matches | None = None
        """The lines that the filter lets through; None without one."""
        self._hits: Matches | None = None
        self._text: LogText | None = None
        self._step = 0

    def use(self, text: LogText | None) -> None:
        """Another text."""
        self._text = text
        self.set_filter(self.filter, inverse=self.inverse)

    def set_filter(self, text: str, *, inverse: bool) -> None:
        """Let only the lines with a text through, or with `inverse` those without; an empty text: all."""
        self.filter, self.inverse = text, inverse
        self.found = self._begin(self.found, [(text, inverse)] if text else [])
        self.set_search(self.search)

    def set_search(self, text: str) -> None:
        """Look for a text; empty for none."""
        self.search, self._step = text, 0
        kept = [(self.filter, self.inverse)] if self.filter else []
        self._hits = self._begin(self._hits, [(text, False), *kept] if text else [])

    def _begin(self, before: Matches | None, wanted: list[tuple[str, bool]]) -> Matches | None:
        if before:
            before.cancel()
        return self._text.matching(*wanted) if self._text and wanted else None

    @property
    def seeking(self) -> bool:
        """Whether a hit is wanted that is not known yet."""
        return bool(self._step)

    def seek(self, step: int) -> None:
        """The next hit is wanted, or with -1 the one before; `target` tells it."""
        self._step = step

    def target(self, after: int, before: int) -> tuple[int | None, str]:
        """The hit wanted: the first at line `after` or below, or the last above line `before`; and what is to be said.

        None while it is not known, or when there is none.
        """
        hits, step = self._hits, self._step
        if hits is None:
            self._step = 0
            return None, ""
        if step > 0 and hits.low > after and not hits.done:
            return None, ""
        rank = hits.rank(after) if step > 0 else hits.rank(before) - 1
        said = ""
        if not hits.first <= rank < hits.end:
            if not hits.done:
                return None, ""
            if hits.first == hits.end:
                self._step = 0
                return None, "not found"
            rank, said = (hits.first if step > 0 else hits.end - 1), "wrapped around"
        try:
            number = hits.line(rank)
        except IndexError:  # the last line has just ceased to be one: at the next look
            return None, ""
        self._step = 0
        return number, said

    def states(self, current: int | None) -> list[str]:
        """Search and filter in words, with how much they found; `current`: the current line."""
        told = []
        if self.search:
            told.append(f"/{self.search} {self._place(current) or _counted(self._hits)}".rstrip())
        if self.filter:
            told.append(f"{'not ' if self.inverse else ''}&{self.filter} {_counted(self.found)}".rstrip())
        return told

    def _place(self, current: int | None) -> str:
        hits = self._hits
        if hits is None or current is None or not hits.done:
            return ""
        rank = hits.rank(current)
        try:
            on_hit = rank < hits.end and hits.line(rank) == current
        except IndexError:
            return ""
        return f"{rank - hits.first + 1:,} of {hits.end - hits.first:,}" if on_hit else ""


def _counted(found: Matches | None) -> str:
    """How many, and how far the scan is."""
    if found is None:
        return ""
    count = f"({found.end - found.first:,})"
    return count if found.done else f"{count} {found.fraction:.0%}".replace("%", " %")
