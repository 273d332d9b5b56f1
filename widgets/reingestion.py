"""The re-ingestion panel: the queue of observations to be ingested anew, in as many lines as it has."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from textual.content import Content
from textual.widgets import Static

from aogconsole.reingestionboard import ReingestionBoard
from widgets.reingestionlines import PanelLine, panel
from widgets.status import Tab
from widgets.steady import Steady

STYLES: Final = {
    "": "", "bad": "bold $text-error", "warn": "bold $text-warning", "strong": "bold", "dim": "$text-muted",
}  # fmt: skip
TITLE: Final = "Re-ingestion"


class Reingestion(Steady, Static, can_focus=True):
    """Two lines; more when it has the focus, or the whole screen."""

    DEFAULT_CSS = """
    Reingestion {
        height: 3; padding: 0 1; border: round $border-blurred; border-title-color: $text; text-wrap: nowrap;
        &.live { height: 4; }
        &.live:focus { height: 16; max-height: 45%; }
        &:focus { border: round $border; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__("None is configured.", id=id, markup=False)
        self.border_title = TITLE
        self._board = ReingestionBoard()
        self._now: datetime | None = None
        self._painted: list[PanelLine] = []

    @property
    def tab(self) -> Tab:
        """What the line of tabs says of it."""
        trouble = bool(self._board.trouble)
        return Tab((f"{TITLE} !", "Re-ing. !", "!") if trouble else (TITLE, "Re-ing.", ""), trouble)

    def show(self, board: ReingestionBoard, now: datetime) -> None:
        """Show a board; called again as time goes on. Painted only when the words differ."""
        self._board, self._now = board, now
        self.set_class(board.configured, "live")
        self.set_class(bool(board.trouble), "trouble")
        title = f"{TITLE} · {board.trouble} !" if board.trouble else f"{TITLE} · paused" if board.paused else TITLE
        if title != self.border_title:
            self.border_title = Content(title)
        self._paint()

    def on_resize(self) -> None:
        """As much as fits now."""
        self._paint()

    def _paint(self) -> None:
        if self._now is None:
            return
        lines = panel(self._board, self._now, self.size.width, max(self.size.height, 1))
        if lines != self._painted:
            self._painted = lines
            words = [Content.assemble(*((text, STYLES[style]) for text, style in line)) for line in lines]
            self.update(Content("\n").join(words), layout=False)
