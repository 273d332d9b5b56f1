"""Copied texts on their way to the operator's clipboard."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from textual import on
from textual.app import App

from aogconsole.errors import AogError
from aogconsole.remembered import state_folder
from aogconsole.settings import Console as ConsoleSettings
from widgets.logpane import LogPane

if TYPE_CHECKING:
    from backends.clipboard import Clipboard
    from widgets.dialogs import CopyRequest


class Copying(App[int]):
    """An app whose copied texts take the ladder of `backends.clipboard`; it is said where each went."""

    copy_settings = ConsoleSettings()

    if TYPE_CHECKING:

        def say(self, text: str, *, error: bool = False) -> None:
            """Say one sentence; the console's."""

    def write(self, sequence: str) -> None:
        """To the terminal, as it is."""
        if self._driver is not None and not self.is_headless:
            self._driver.write(sequence)
            self._driver.flush()

    @functools.cached_property
    def _copier(self) -> Clipboard:
        from backends.clipboard import Clipboard

        return Clipboard(self.copy_settings.clipboard, self.write, state_folder())

    async def copy(self, text: str, what: str) -> None:
        """Copy a text, and say where it went."""
        try:
            copied = await self._copier.copy(text)
        except (AogError, OSError) as error:
            self._say_on_top(f"{error}. {getattr(error, 'hint', '')}", error=True)
        else:
            lines = f"{copied.lines} line{'s' if copied.lines != 1 else ''}"
            self._say_on_top(f"{what[:1].upper()}{what[1:]}: {lines} copied to {copied.where}.")

    def _say_on_top(self, sentence: str, *, error: bool = False) -> None:
        """Say it, and on the page that covers where it is said."""
        from widgets.dialogs import Dialog  # not before the first frame

        self.say(sentence, error=error)
        if isinstance(self.screen, Dialog):
            self.screen.tell(sentence, error=error)

    def copy_to_clipboard(self, text: str) -> None:
        """Textual calls this for what was selected with the mouse; its own way is lost in tmux and screen."""
        self.run_worker(self.copy(text, "Selection"), name="copy", group="copy")

    async def on_copy_request(self, event: CopyRequest) -> None:
        """A dialog or a page wants a text copied."""
        await self.copy(event.text, event.what)

    @on(LogPane.Copied)
    async def _copy_log(self, event: LogPane.Copied) -> None:
        left_out = f", {event.left_out} left out" if event.left_out else ""
        await self.copy(event.text, f"Log{left_out}")
