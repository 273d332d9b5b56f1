"""The console as a process in a terminal: signals, a terminal that goes away, Ctrl+Z, and programs run in its place.

Textual leaves these to the program: SIGTERM and SIGHUP would kill it with the terminal as it is, and a stop would keep
the engine lock with a process that does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shlex
import signal
import sys
import threading
from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Sequence
from functools import partial
from typing import Any

from textual.app import App, SuspendNotSupported
from textual.drivers import linux_driver
from textual.drivers.linux_driver import LinuxDriver

from aogconsole.attached import AttachedEngine
from aogconsole.errors import OutsideError, UsageError

ENDS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
LONGEST_END = 20
"""Seconds to end in; more than the engine has. Then the kernel ends it: a loop that waits for a terminal, stopped with
Ctrl+S or behind a frozen link, cannot."""


class TerminalDriver(LinuxDriver):
    """Textual's driver, to which a terminal that has gone away is no fault.

    Its thread that writes would die of it, and the app then wait for ever in a queue that nobody empties. Its thread
    that reads would die of a byte that is no UTF-8: a key or a paste in Latin-1.
    """

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self._file: Any = Forgiving(sys.__stderr__)

    def run_input_thread(self) -> None:
        """Read the keys; U+FFFD stands for what cannot be read."""
        # Textual makes its decoder in there, from this name, and has no other place to say so
        vars(linux_driver)["getincrementaldecoder"] = _forgiving_decoder
        super().run_input_thread()


class Forgiving:
    """A file to write to; what it does not take is lost."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.fileno = file.fileno

    def write(self, text: str) -> None:
        """Write, or not."""
        with contextlib.suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        """Flush, or not."""
        with contextlib.suppress(OSError):
            self._file.flush()


def _forgiving_decoder(encoding: str) -> partial[IncrementalDecoder]:
    return partial(getincrementaldecoder(encoding), "replace")


def install_early_signals(app: App[Any]) -> None:
    """Before `install_signals`: a signal would end the process with the terminal as Textual is just making it.

    `app.exit` has to wait until it can be obeyed.
    """
    for number in ENDS:
        signal.signal(number, lambda given, _frame: app.exit(return_code=128 + given))


def install_signals(app: App[Any], loop: asyncio.AbstractEventLoop) -> None:
    """End the app in good order, with exit code 128 and the signal's number, on a signal or when its terminal is gone.

    Call it when the app is mounted, so that it counts before what a driver has set. Does nothing without a terminal.
    """
    if app.is_headless:
        return

    def end(number: int) -> None:
        signal.alarm(LONGEST_END)
        if terminal_gone():
            _write_nowhere()
        if not loop.is_closed():
            loop.call_soon_threadsafe(lambda: app.exit(return_code=128 + number))

    def wait_for_the_end() -> None:
        _hang_up_poll().poll()
        end(signal.SIGHUP)

    for number in ENDS:
        # not the loop's own: that would come to nothing, also the alarm, while the loop waits for the terminal
        signal.signal(number, lambda given, _frame: end(given))
    threading.Thread(target=wait_for_the_end, name="terminal", daemon=True).start()


def terminal_gone() -> bool:
    """Whether the other end of standard input, a terminal's or a web server's, is there no more."""
    return bool(_hang_up_poll().poll(0))


def why_not_suspend(app: App[Any]) -> str:
    """Why this process cannot be stopped by Ctrl+Z; empty when it can: a shell started it that will bring it back."""
    parent = os.getppid()
    if app.is_web or os.getsid(parent) != os.getsid(0) or os.getpgid(parent) == os.getpgrp():
        return "No shell is waiting here that could bring the console back."
    return ""


async def suspend(app: App[Any], engine: AttachedEngine | None) -> None:
    """Give up the engine, stop the process as Ctrl+Z does; once it is continued, start the engine again.

    Ask `why_not_suspend` first. The engine is given up so that another process can take over: nobody sees this one.
    """
    if engine is not None:
        await engine.stop()
    app.action_suspend_process()  # comes back when the process is continued
    if engine is not None:
        engine.start()


def program(*names: str, usual: str) -> list[str]:
    """The words of the first of these variables that is set, such as EDITOR. Raises UsageError."""
    given = next((name for name in names if os.environ.get(name, "").strip()), "")
    try:
        return shlex.split(os.environ[given]) if given else [usual]
    except ValueError as error:
        raise UsageError(f"${given} cannot be read: {error}", "put its quotes right") from None


def run_in_place(app: App[Any], argv: Sequence[str]) -> int:
    """Give the terminal to a program (a pager, an editor) until it ends; its exit status. The engine goes on.

    It holds the loop: nothing of the console may be painted meanwhile. Raises OutsideError when it cannot be started.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the program now
    try:
        with app.suspend():
            # unlike subprocess it can give the program the usual way to take a signal that we ignore
            pid = os.posix_spawnp(argv[0], list(argv), os.environ, setsigdef=[signal.SIGINT])
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except SuspendNotSupported:
        raise OutsideError("there is no terminal here to run it in", "a browser has none") from None
    except OSError as error:
        raise OutsideError(f"{argv[0]}: {error.strerror or error}", "is it installed, and in PATH?") from error
    finally:
        signal.signal(signal.SIGINT, before)


def _hang_up_poll() -> select.poll:
    poll = select.poll()
    poll.register(0, 0)  # no event but those that always count: hung up, error, closed
    return poll


def _write_nowhere() -> None:
    """What is still printed on the way out is no fault either."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
