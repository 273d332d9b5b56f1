"""What comes from the keyboard: keys typed ahead, which are meant for the question that is being prepared, not for the
panes; and pasted text, which is made safe before any widget has it."""

from __future__ import annotations

from collections import deque
from typing import Any

from textual.app import App
from textual.events import DescendantFocus, Event, Key, Paste
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Input
from textual.worker import Worker

from aogconsole.text import pasted

OPENING = ("app.do(", "look_for(", "search")
"""How the actions begin whose keys may open something: a screen, or a line to type in."""
LEAVING = ("enter", "escape")
"""The keys that leave a line to type in below a pane."""
PATIENCE = 0.5
"""Seconds that keys wait at the most: then they go where the focus is."""


class TypeAhead(App[int]):
    """Holds keys between a key that opens something and what it opens, and between one that leaves a line and the pane.

    Textual sends each key to what has the focus when it is read, not when the key before it has been acted on.
    """

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self._held: list[Key | Paste] | None = None
        self._again: deque[Key | Paste] = deque()  # released, and not yet come by again
        self._to_type = True
        self._patience: Timer | None = None

    def hold_keys(self, *, to_type: bool = True) -> None:
        """From now on keys wait, until something was opened, or what was begun has ended.

        `to_type`: a line to type in ends the waiting, when it gets the focus; otherwise anything else that gets it.
        """
        if self._held is None:
            self._held, self._to_type = [], to_type
            self._patience = self.set_timer(PATIENCE, self.release_keys)
            self.screen_change_signal.subscribe(self, self._opened, immediate=True)

    def release_keys(self) -> None:
        """Those that waited go where the focus is now."""
        held, self._held = self._held, None
        if self._patience is not None:
            self._patience.stop()
        for key in held or ():
            self._come_again(key)

    def _come_again(self, key: Key | Paste) -> None:
        self._again.append(key)
        self.post_message(key)

    async def on_event(self, event: Event) -> None:
        """Textual calls this with every event; one that is forwarded comes by again."""
        if isinstance(event, Key | Paste) and not event.is_forwarded:
            if isinstance(event, Paste):
                event.text = pasted(event.text)
            if self._again and event is not self._again[0]:  # typed behind those that were released
                self._come_again(event)
                return
            if self._again:
                self._again.popleft()
            if self._held is not None:
                self._held.append(event)
                return
            if isinstance(event, Key) and self.opens(event.key):
                self.hold_keys()
            elif isinstance(event, Key) and event.key in LEAVING and getattr(self.focused, "below", False):
                self.hold_keys(to_type=False)
        await super().on_event(event)

    def opens(self, key: str) -> bool:
        """Whether a key may open something now; `release_keys` is then to be called when it did not."""
        active = self.screen.active_bindings.get(key)
        return active is not None and active.binding.action.startswith(OPENING)

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """A line to type in was opened, or left; that another pane was gone to before says nothing."""
        if isinstance(event.widget, Input) is self._to_type:
            self.release_keys()

    def _opened(self, screen: Screen[Any]) -> None:
        screen.call_after_refresh(self.release_keys)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """What was begun has ended without opening anything."""
        if event.worker.is_finished:
            self.release_keys()
