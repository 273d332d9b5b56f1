"""When log panes look at their texts: some times a second while anything is new, not at all while nothing is."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from typing import Protocol

from textual.timer import Timer
from textual.widget import Widget

HERTZ, HERTZ_OVER_SSH = 10, 5
"""Paints a second, at most."""


class Beaten(Protocol):
    """A pane that is told when to look."""

    def stirs(self) -> bool:
        """Whether there may be something new."""
        ...

    def look(self) -> None:
        """Paint what is new."""
        ...


class Beat:
    """The beat of panes beside each other, which are painted in one frame: a key waits for one paint, not for two."""

    def __init__(self) -> None:
        self._panes: Sequence[Beaten] = ()
        self._timer: Timer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asleep = False

    def start(self, first: Widget, panes: Sequence[Beaten]) -> None:
        """Begin; ends with the first pane."""
        self._panes, self._loop = panes, asyncio.get_running_loop()
        hertz = HERTZ_OVER_SSH if os.environ.get("SSH_CONNECTION") else HERTZ
        self._timer = first.set_interval(1 / hertz, self._tick)

    def news(self) -> None:
        """A text has something new. May be called in any thread, and when all of this has ended."""
        if self._asleep and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.wake)

    def wake(self) -> None:
        """Go on, in the loop's thread: something was done to a pane."""
        self._asleep = False
        if self._timer is not None:
            self._timer.resume()

    def _tick(self) -> None:
        if not self._looked():
            self._asleep = True  # before the last look, so that no news come unheard in between
            if not self._looked() and self._timer is not None:
                self._timer.pause()
            else:
                self._asleep = False

    def _looked(self) -> bool:
        stirring = [pane for pane in self._panes if pane.stirs()]
        for pane in stirring:
            pane.look()
        return bool(stirring)
