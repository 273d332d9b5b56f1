"""What becomes of an error that nobody expected: a file for those who maintain the program, a few lines for operators.

The file has the traceback without the values of variables, the versions, and the last actions: no secret can be in
it but one that stands in an error's message, and those in addresses are taken out. The screen tells only the kind and
the place. The exit code is `CRASHED`.
"""

from __future__ import annotations

import asyncio
import io
import os
import platform
import re
import sqlite3
import tempfile
import threading
import traceback
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from textual.app import App
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.worker import WorkerFailed

from aogconsole import times
from aogconsole.jobcontrol import TerminalDriver, terminal_gone
from aogconsole.remembered import state_folder
from aogconsole.text import clean_lines

CRASHED = 70
"""Exit code: an internal fault (EX_SOFTWARE of sysexits.h)."""
IN_ADDRESS = r"(://[^/@:\s]*:)[^\s'\"]+@"
"""In an address: `scheme://user:password@host`."""
LIBRARIES = ("aogconsole", "textual", "rich", "asyncssh", "oracledb", "sqlite-utils")
OURS = r"/(aogconsole/(?!crash\.py)|widgets/|backends/)"
ACTIONS = 20


class Crash(App[int]):
    """An app whose unexpected errors end in a file. Errors of its messages, timers, workers and threads end the app;
    those of a stray asyncio task are written down and told, and it goes on."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self._last_actions: deque[str] = deque(maxlen=ACTIONS)

    def get_driver_class(self) -> type[Driver]:
        """Textual asks for it; in a terminal it is ours."""
        usual = super().get_driver_class()
        return TerminalDriver if usual is LinuxDriver else usual

    async def run_action(self, action: Any, *words: Any, **options: Any) -> bool:
        """Run an action, and remember its name for the file."""
        name = action if isinstance(action, str) else ".".join(action[:2])
        self._last_actions.append(f"{times.now_text()}  {name}")
        return await super().run_action(action, *words, **options)

    async def _on_load(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self._stray)
        self._others_hook, threading.excepthook = threading.excepthook, self._in_thread

    async def _on_unmount(self) -> None:
        threading.excepthook = self._others_hook

    async def _shutdown(self) -> None:
        """An error while the app takes its leave comes out here, where nobody catches it."""
        try:
            await super()._shutdown()
        except Exception as error:
            self._handle_exception(error)
            if self._driver is not None:
                self._driver.close()
            self._print_error_renderables()

    def _handle_exception(self, error: Exception) -> None:
        """Textual calls this with every error that nobody caught. A test's pilot gets the error itself."""
        self._return_code = CRASHED
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
            # the terminal wraps it: a path that is broken into lines cannot be copied
            self._exit_renderables[:] = [Text(self._told(error), no_wrap=True, overflow="ignore")]
        self._close_messages_no_wait()

    def panic(self, *renderables: Any) -> None:
        """Textual calls this when its thread that reads the keyboard has died."""
        if self._exit or terminal_gone():
            return
        told = io.StringIO()
        Console(file=told, width=120, color_system=None).print(*renderables)
        self._handle_exception(RuntimeError(told.getvalue()))

    def _stray(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error of a task that nobody waits for, or of a callback of the loop."""
        error = context.get("exception")
        if isinstance(error, Exception) and self._exception is None:
            self.notify(self._told(error, stopped=False), severity="error", markup=False)

    def _in_thread(self, hook: threading.ExceptHookArgs) -> None:
        """A thread that has died leaves a screen that is no longer true: end."""
        error, loop = hook.exc_value, self._loop
        if isinstance(error, Exception) and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._handle_exception, error)

    def _told(self, error: BaseException, *, stopped: bool = True) -> str:
        """Write the file; what the operator is told."""
        if isinstance(error, WorkerFailed):
            error = error.error
        text = report(error, list(self._last_actions), f"{self.size.width}x{self.size.height}")
        head = "aogconsole has stopped" if stopped else "Something went wrong"
        advice = "Runs on the staging host go on. Start it again, and hand that file to its maintainers."
        return clean_lines(f"{head}: {place(error)}\n  {keep(text)}\n" + (f"  {advice}" if stopped else ""))


def place(error: BaseException) -> str:
    """The kind of an error and its place, in our own files where it can be. Not its message: that may hold data."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if re.search(OURS, frame.filename)]
    for frame in (ours or frames)[-1:]:
        return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"
    return type(error).__name__


def report(error: BaseException, actions: Sequence[str], size: str) -> str:
    """The file's text."""
    terminal = {name: os.environ.get(name, "") for name in ("TERM", "COLORTERM", "TERM_PROGRAM", "LANG")}
    places = ", ".join(name for name in ("TMUX", "STY", "SSH_CONNECTION") if name in os.environ)
    lines = [
        f"aogconsole stopped at {times.now_text()}", "",
        *(f"{name} {_version(name)}" for name in LIBRARIES),
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.platform()}",
        f"terminal {size} {terminal}{f', in {places}' if places else ''}", "",
        "last actions:", *(f"  {action}" for action in actions), "",
        *"".join(traceback.format_exception(error)).splitlines(),
    ]  # fmt: skip
    return clean_lines(re.sub(IN_ADDRESS, r"\1***@", "\n".join(lines))) + "\n"


def keep(text: str) -> str:
    """Write the file (mode 0600) into the state folder, where that is not possible into one for temporary files."""
    name = f"crash-{times.now().strftime('%Y%m%dT%H%M%SZ')}-{os.getpid()}.txt"
    trouble: Exception | None = None
    for make in (state_folder, lambda: Path(tempfile.mkdtemp(prefix="aogconsole."))):
        try:
            path = make() / name
            descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "a", encoding="utf-8") as file:
                file.write(text)
            return f"What happened is written to {path}"
        except (OSError, RuntimeError) as error:
            trouble = error
    return f"What happened could not be written to a file: {trouble}"


def _version(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "is not installed"
