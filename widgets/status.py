"""The lines around the panes: title with the connection lights, tabs of a small screen, what was said, the keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from aogconsole.board import Board, Light, Slot

DOTS = {True: ("●", "$text-success"), False: ("x", "bold $text-error"), None: ("-", "$foreground-muted")}
"""A light is told by its form, not by its colour alone."""
QUIET = frozenset({"broker", "metadata"})
"""Lights that a small screen shows only when they are bad: there is the panel too."""
LEAST = 10
"""Cells in which it still makes sense to say who runs the engine."""


class Title(Static):
    """What the console is connected to, who runs the engine, and the time. The first line."""

    DEFAULT_CSS = """
    Title { height: 1; background: $panel; color: $foreground; padding: 0 1; }
    Title.trouble { background: $error-muted; color: $text-error; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, markup=False)
        self._painted: object = None
        self._told: tuple[Board, str, datetime, bool] | None = None

    def show(self, board: Board, engine: str, now: datetime, *, read_only: bool, trouble: bool) -> None:
        """`engine` in words; `trouble`: something failed that nobody has seen. What does not fit is left out."""
        self.set_class(trouble, "trouble")
        self._told = board, engine, now, read_only
        self._paint(*self._told)

    def on_resize(self) -> None:
        """What fits now."""
        if self._told is not None:
            self._paint(*self._told)

    def _paint(self, board: Board, engine: str, now: datetime, read_only: bool) -> None:
        width = (self.size or self.app.size).width - 2  # shown before it is laid out, too
        clock = now.strftime("%H:%M UTC")
        painted = board.lights, board.needs, engine, clock, read_only, width
        if painted == self._painted:  # asked every second
            return
        self._painted = painted
        shown = [light for light in board.lights if width > 90 or light.ok is False or light.name not in QUIET]
        lights = Content("  " if width > 90 else " ").join([_light(light) for light in shown])
        left = Content.assemble(
            "AOG console" if width > 90 else "AOG", "  READ-ONLY" if read_only else "", "  ", lights
        )
        needs = f"{board.needs} need you" if board.needs else ""
        whole = left
        for right in ([needs, engine, clock], [engine, clock], [engine]):
            words = "  ".join(word for word in right if word)
            room = width - left.cell_length - cell_len(words)
            if room >= 2:
                whole = Content.assemble(left, " " * room, words)
                break
        else:
            room = max(width - left.cell_length - 2, 0)
            if cell_len(engine) > room > LEAST:  # a reason may be long; that there is no engine is told always
                whole = Content.assemble(left, "  ", set_cell_size(engine, room - 1), "…")
        self.update(whole, layout=False)


def _light(light: Light) -> Content:
    dot, style = DOTS[light.ok]
    return Content.assemble(f"{light.name} ", (dot, style))


class Tab(NamedTuple):
    """What a tab says behind its number."""

    wordings: tuple[str, ...]
    """From the longest to the shortest; that has what needs a person, too."""
    trouble: bool = False
    phase: bool = False
    """Whether only a slot's phase is lost with the shorter ones: those are taken first."""


class Tabs(Static):
    """The panes by their number; on a small screen one at a time is seen, and this says what is in the others."""

    DEFAULT_CSS = """
    Tabs { height: 1; padding: 0 1; background: $surface; }
    """

    class Wanted(Message):
        """A tab was clicked."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, markup=False)
        self._painted = Content("")
        self._told: tuple[Sequence[Tab], int] = (), 0
        self._ends: list[int] = []

    def show(self, tabs: Sequence[Tab], current: int) -> None:
        """A tab for each pane; `current` counts from 0. They become shorter until all fit."""
        self._told = tabs, current
        parts, end = [], 1
        self._ends = []
        for number, (tab, text) in enumerate(zip(tabs, self._fitting(tabs), strict=True)):
            style = "reverse bold" if number == current else "bold $text-error" if tab.trouble else "$foreground-muted"
            parts.append(Content.styled(text, style))
            end += cell_len(text)
            self._ends.append(end)
        words = Content("").join(parts)
        if not words.is_same(self._painted):
            self._painted = words
            self.update(words, layout=False)

    def _fitting(self, tabs: Sequence[Tab]) -> list[str]:
        """Each tab's text; as long as they are too long, the longest gives way, phases first."""
        width = self.size.width or self.app.size.width - 2  # shown before it is laid out, too
        left = [list(tab.wordings) for tab in tabs]
        while True:
            texts = [f" {number} {words[0]}".rstrip() + " " for number, words in enumerate(left, 1)]
            longer = [place for place, words in enumerate(left) if len(words) > 1]
            if not longer or sum(map(cell_len, texts)) <= width:
                return texts
            del left[max(longer, key=lambda place: (tabs[place].phase, cell_len(texts[place])))][0]

    def on_resize(self) -> None:
        """As much as fits now."""
        self.show(*self._told)

    def on_click(self, event: Click) -> None:
        """Ask for the clicked one."""
        for number, end in enumerate(self._ends):
            if event.x < end:
                self.post_message(self.Wanted(number))
                return


def queue_tab(needs: int) -> Tab:
    """The tab of the requests, so many of which need a person."""
    return Tab((f"Requests · {needs} need you", f"Requests · {needs} !", f"{needs} !") if needs else ("Requests", ""))


def slot_tab(slot: Slot) -> Tab:
    """The tab of a slot: `A generating`, `B free`."""
    if slot.trouble:
        return Tab((f"{slot.name} ! {slot.state}", f"{slot.name} !"), trouble=True, phase=True)
    phase = (slot.phase or slot.state) if slot.active else "free"
    return Tab((f"{slot.name} {phase}", f"{slot.name} {phase.partition(' ')[0]}", slot.name), phase=True)


class Said(Static):
    """What the console did last, or why it did not; stays until the next."""

    DEFAULT_CSS = """
    Said { height: auto; max-height: 3; padding: 0 1; color: $text-muted; }
    Said.error { color: $text-error; text-style: bold; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, markup=False)

    def say(self, text: str, *, error: bool = False) -> None:
        """One sentence."""
        self.set_class(error, "error")
        self.update(("! " if error else "") + text)


class Keys(Static):
    """The footer: up to eight keys and what they do now; those that are not possible are dim."""

    DEFAULT_CSS = """
    Keys { height: 1; padding: 0 1; background: $panel; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id, markup=False)
        self._keys: list[tuple[str, str, bool]] = []
        self._painted = Content("")

    def show(self, keys: Sequence[tuple[str, str, bool]]) -> None:
        """Key, label, and whether it is possible.

        Where they do not all fit, those that are not possible give way, then those in the middle.
        """
        self._keys = list(keys)
        shown = self._keys[:]
        while len(shown) > 2 and sum(len(key) + len(label) + 3 for key, label, _ in shown) - 2 > self.size.width - 2:
            dim = [place for place, (_, _, possible) in enumerate(shown[:-2]) if place and not possible]
            del shown[dim[-1] if dim else -3 if len(shown) > 3 else 1]
        parts = [
            Content.assemble((key, "bold $text-accent"), f" {label}")
            if possible
            else Content.styled(f"{key} {label}", "$foreground-disabled")
            for key, label, possible in shown
        ]
        words = Content("  ").join(parts)
        if not words.is_same(self._painted):
            self._painted = words
            self.update(words, layout=False)

    def on_resize(self) -> None:
        """As many as fit now."""
        self.show(self._keys)
