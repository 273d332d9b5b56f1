"""The smallest app with the console's life cycle: `small_console.py [CONFIG]`; a CONFIG brings an engine."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.widgets import Static

from aogconsole import jobcontrol
from aogconsole.attached import AttachedEngine, command
from aogconsole.crash import Crash
from aogconsole.windowsize import WindowSize


class SmallConsole(Crash, WindowSize):
    """Each key does one thing of the life cycle."""

    BINDINGS: ClassVar = [
        ("z", "stop", ""), ("p", "page", ""), ("q", "quit", ""), ("b", "paint", ""), ("f", "flood", ""),
        *((key, f"crash('{key}')", "") for key in "xwtk"),
    ]  # fmt: skip

    def compose(self) -> ComposeResult:
        """One line, and what the engine does."""
        yield Static("READY", id="line", markup=False)
        yield Static("", id="engine")

    def on_mount(self) -> None:
        """Start it all."""
        jobcontrol.LONGEST_END = int(os.environ.get("AOG_TEST_LONGEST_END", jobcontrol.LONGEST_END))
        jobcontrol.install_signals(self, asyncio.get_running_loop())
        config = next(iter(sys.argv[1:]), "")
        self.engine = AttachedEngine(command(Path(config)), lambda _line: None) if config else None
        if self.engine:
            self.engine.start()
            self.set_interval(0.05, self.show_engine)

    async def on_unmount(self) -> None:
        """End it all."""
        if "AOG_TEST_FAIL" in os.environ:
            raise RuntimeError(os.environ["AOG_TEST_FAIL"])
        if self.engine:
            await self.engine.stop()
        if "AOG_TEST_ENDED" in os.environ:
            Path(os.environ["AOG_TEST_ENDED"]).write_text("in good order")

    def show_engine(self) -> None:
        """What the engine does."""
        assert self.engine
        self.query_one("#engine", Static).update(f"engine {self.engine.state} {self.engine.pid}")

    async def action_stop(self) -> None:
        """Ctrl+Z."""
        why = jobcontrol.why_not_suspend(self)
        if why:
            self.query_one("#line", Static).update(why)
        else:
            await jobcontrol.suspend(self, self.engine)
            self.query_one("#line", Static).update("AGAIN")

    def action_page(self) -> None:
        """A program in our place."""
        status = jobcontrol.run_in_place(self, os.environ["PAGER"].split())
        self.query_one("#line", Static).update(f"it ended with {status}")

    def action_paint(self) -> None:
        """Paint for ever, more than any terminal takes."""
        self.set_interval(0.001, lambda: self.query_one("#line", Static).update(os.urandom(3000).hex()))

    def action_flood(self) -> None:
        """Paint more than a terminal takes that does not read: the loop waits for it."""
        assert self._driver
        Path(os.environ["XDG_STATE_HOME"], "flooding").touch()
        for _ in range(100):
            self._driver.write("x" * 100_000)

    def action_crash(self, key: str) -> None:
        """Fail: here, in a worker, in a thread, in a task that nobody waits for."""
        password = "secret-of-a-variable"

        def fail() -> None:
            raise RuntimeError(f"at \x1b]52;c;eA==\x07 imap://aog:hunter2@host/ ({len(password)})")

        async def fail_later() -> None:
            fail()

        match key:
            case "w":
                self.run_worker(fail, thread=True)
            case "t":
                threading.Thread(target=fail).start()
            case "k":
                self.stray = asyncio.ensure_future(fail_later())
                del self.stray
            case _:
                fail()


if __name__ == "__main__":
    app = SmallConsole()
    app.run()
    sys.exit(app.return_code)
