"""A widget that keeps the focus. To be named before the widget that it is."""

from __future__ import annotations

from typing import Self


class Steady:
    """Keeps the focus while there is no room for it: the window is one cell high for a moment.

    Textual gives the focus of what is hidden to another, and tells it late: it may have been gone back to by then.
    """

    def blur(self) -> Self:
        """Textual calls this when it is hidden."""
        return self
