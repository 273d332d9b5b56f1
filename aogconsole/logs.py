"""The runs' output at the screen: which file a pane shows, a log on the whole screen, copying, export, the pager."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from aogconsole import boards, times
from aogconsole.board import Slot
from aogconsole.errors import AogError, OutsideError
from aogconsole.jobcontrol import program, run_in_place
from aogconsole.staging.logfile import LogFile, export, write_clean
from widgets.dialogs import Ask
from widgets.logpane import LogPane
from widgets.status import Said

if TYPE_CHECKING:
    from aogconsole.app import Console

EVERY = 1.0
"""Seconds between two looks at how a run is whose log has the whole screen."""


class LogScreen(ModalScreen[None]):
    """One run's output on the whole screen."""

    DEFAULT_CSS = """
    LogScreen { background: $background; }
    LogScreen LogPane { width: 1fr; height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,escape", "close", "close"),
        Binding("question_mark", "app.pane_help", "help"),
    ]

    def __init__(self, slot: Slot) -> None:
        super().__init__()
        self._slot = slot

    def compose(self) -> ComposeResult:
        """The pane, and what is said of what it is asked for."""
        yield LogPane(self._slot, id="log")
        yield Said()

    @property
    def pane(self) -> LogPane:
        """The pane."""
        return self.query_one(LogPane)

    def on_mount(self) -> None:
        """Nothing else to type into."""
        self.pane.focus()

    @on(LogPane.Zoom)
    def action_close(self) -> None:
        """Go back; once, however often the key is pressed."""
        if self.app.screen is self:
            self.dismiss()


class Logs:
    """Gives the panes their files, and does what they ask for."""

    def __init__(self, app: Console) -> None:
        self._app = app
        self._open: dict[LogPane, tuple[Path, LogFile]] = {}

    def show(self, pane: LogPane, slot: Slot) -> None:
        """Show a slot in a pane; its file is opened when it is another."""
        known = self._open.get(pane)
        if slot.log is not None and (known is None or known[0] != slot.log):
            self._forget(pane)
            file = LogFile(slot.log)
            self._open[pane] = slot.log, file
            pane.text = file
        pane.slot = slot

    def _forget(self, pane: LogPane) -> None:
        known = self._open.pop(pane, None)
        if known is not None:
            known[1].close()

    def close(self) -> None:
        """Close every file."""
        for pane in list(self._open):
            self._forget(pane)

    async def open(self, run: int) -> None:
        """A run's log on the whole screen, until it is closed. Raises UsageError."""
        slot = await self._slot(run)
        screen, closed = LogScreen(slot), asyncio.Event()
        await self._app.push_screen(screen, lambda _: closed.set())
        pane = screen.pane
        try:
            while not closed.is_set():
                self.show(pane, slot)
                pane.tick(times.now())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EVERY if slot.active else None):
                        await closed.wait()
                with contextlib.suppress(OutsideError):  # the main screen tells that the journal cannot be read
                    slot = await self._slot(run)
        finally:
            self._forget(pane)

    async def _slot(self, run: int) -> Slot:
        return await self._app.lookups.read(lambda journal: boards.slot_of(journal, "", journal.fetch("run", run)))

    # ── what panes ask for ───────────────────────────────────────────────────────────────────────────────────

    async def export(self, run: int, path: Path) -> None:
        """Write the whole log into a file that the operator names."""
        app = self._app
        about = ["The whole of it, cleaned."]
        question = Ask(f"Export the log of run {run}", about, "File", initial=f"run{run}.log", required="name the file")
        name = await app.push_screen_wait(question)
        if not name:
            return
        app.say("The log is being written ...")
        target = Path(name)
        with contextlib.suppress(RuntimeError):  # ~somebody who has no account here: a name like any other
            target = target.expanduser()
        try:
            target = target.absolute()
            lines = await asyncio.to_thread(export, path, target)
        except OSError as error:  # the folder that we are in was removed
            app.say(f"The log cannot be exported: {error.strerror or error}", error=True)
        except AogError as error:
            app.say(f"{error}. {error.hint}", error=True)
        else:
            app.record(f"log {run} > {target}", f"{lines} lines")
            app.say(f"{lines} lines are written to {target}.")

    async def pager(self, run: int, path: Path) -> None:
        """The whole log, clean, in $PAGER."""
        app = self._app
        app.say("The log is being made ready for the pager ...")
        try:
            argv = program("PAGER", usual="less")
            with tempfile.NamedTemporaryFile("wb", prefix=f"aogconsole.run{run}.", suffix=".log") as file:  # mode 0600
                lines = await asyncio.to_thread(_write, path, Path(file.name))
                run_in_place(app, [*argv, file.name])
        except OSError as error:
            app.say(f"The log cannot be shown: {error.strerror or error}", error=True)
        except AogError as error:
            app.say(f"{error}. {error.hint}", error=True)
        else:
            app.say(f"{lines} lines were in the pager.")


def _write(path: Path, target: Path) -> int:
    with target.open("wb") as file:
        return write_clean(path, file)
