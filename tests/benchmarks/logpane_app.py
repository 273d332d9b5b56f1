"""The screen under measurement: a counter that a key raises, and two panes of a kind on two growing files.

    python -m tests.benchmarks.logpane_app KIND FILE FILE

KIND: `logpane` (ours), `log` and `richlog` (Textual's, fed ten times a second), `one` (ours, a single pane).
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Label, Log, RichLog

from aogconsole.board import Slot
from aogconsole.staging.logfile import LogFile
from widgets.logpane import LogPane

HERTZ = 10


class Measured(App[None]):
    """A counter and two panes."""

    CSS = "Label { height: 1; } Horizontal > * { width: 1fr; }"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [("K", "count", "count")]

    def __init__(self, kind: str, files: list[Path]) -> None:
        super().__init__()
        self._kind = kind
        self._files = files
        self._read = [0] * len(files)
        self._count = 0
        self._label = Label("K=000000", markup=False)
        self._panes: list[Widget] = []

    def compose(self) -> ComposeResult:
        """The counter above, the panes below."""
        yield self._label
        make: Callable[[], Widget] | None = {"log": Log, "richlog": RichLog}.get(self._kind)
        for name in "AB"[: len(self._files)]:
            slot = Slot(name, 1, 1, "20001", "uid___A001_X1590_X30ac", "running", started_at=datetime.now(UTC))
            self._panes.append(make() if make else LogPane(slot))
        with Horizontal():
            yield from self._panes

    def on_mount(self) -> None:
        """Give the panes their text."""
        for pane, path in zip(self._panes, self._files, strict=True):
            if isinstance(pane, LogPane):
                pane.text = LogFile(path)
        if not isinstance(self._panes[0], LogPane):
            self.set_interval(1 / HERTZ, self._feed)
        self._panes[0].focus()
        gc.freeze()

    def _feed(self) -> None:
        """What has come, into Textual's own widgets."""
        for number, (pane, path) in enumerate(zip(self._panes, self._files, strict=True)):
            with path.open("rb") as file:
                file.seek(self._read[number])
                data = file.read()
            data = data[: data.rfind(b"\n") + 1]
            self._read[number] += len(data)
            lines = data.decode().splitlines()
            if isinstance(pane, Log):
                pane.write_lines(lines)
            elif isinstance(pane, RichLog):
                for line in lines:
                    pane.write(line)

    def action_count(self) -> None:
        """The key whose paint is waited for."""
        self._count += 1
        self._label.update(f"K={self._count:06d}", layout=False)


if __name__ == "__main__":
    Measured(sys.argv[1], [Path(word) for word in sys.argv[2:]]).run()
