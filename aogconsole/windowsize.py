"""The size of the terminal's window, of which the last word counts."""

from __future__ import annotations

from textual.app import App
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Resize
from textual.geometry import Size


class WindowSize(App[int]):
    """An app that is as large as its terminal also after sizes that followed each other at once.

    Textual's signal handler reads the size and then tells it; interrupted in between by the next signal, it tells the
    older size last.
    """

    def on_resize(self, event: Resize) -> None:
        """Paint everything, and look whether this is still the size.

        Sizes that came and went at once are not seen, but have cost the terminal what it had.
        """
        self.screen.refresh()
        driver = self._driver
        # where the terminal tells its size in its input, it does so in order
        if isinstance(driver, LinuxDriver) and not driver._in_band_window_resize:
            now = Size(*driver._get_terminal_size())
            if now != event.size:
                self.post_message(Resize(now, now))
