"""The engine as the console's child: started, watched, started again when it dies, ended with the console.

It is `aogconsole serve --attached` in a session of its own, so that nothing the terminal does reaches it. Its standard
input is a pipe that only we hold: when that ends, also because we were killed, it ends. On its standard output it
tells its state, one word or two a line; on standard error what it has to say. Two threads read them, so that the
engine is heard while the console waits for a pager.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from aogconsole.errors import ConfigError
from aogconsole.text import clean, decode

State = Literal["starting", "standing by", "running", "stopped", "failed"]
GRACE = 10.0
"""Seconds to end in, before it is killed."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds before it is started again; doubled each time it dies at once."""
STEADY = 60.0
"""Seconds after which it did not die at once."""
LONGEST_LINE = 4096
COMPLAINT = "aogconsole: "


def command(config: Path | None) -> list[str]:
    """The words that start the engine with this configuration; what lies in the current folder is no part of it."""
    given = ["--config", str(config)] if config else []
    return [sys.executable, "-P", "-m", "aogconsole", *given, "serve", "--attached"]


class AttachedEngine:
    """The engine child. Its `state` and `why` may be looked at any time, from any thread."""

    def __init__(self, argv: Sequence[str], on_line: Callable[[str], None]) -> None:
        """`on_line` gets each line it says, cleaned, and what becomes of it; from another thread than the caller's."""
        self._argv, self._on_line = list(argv), on_line
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._ending = threading.Event()
        self.state: State = "stopped"
        self.why = ""
        """Why it failed, in a sentence; empty otherwise."""

    @property
    def pid(self) -> int | None:
        """Its process id, while it lives."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start it, and keep it going until `stop`. Does nothing when that is so already."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._ending.clear()
        self.state, self.why = "starting", ""
        self._thread = threading.Thread(target=self._keep_going, name="engine", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End it and wait until it has ended; after `GRACE` seconds it is killed. The engine lock is free then."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.to_thread(self._end, thread)

    def _end(self, thread: threading.Thread) -> None:
        with self._guard:  # from here on none is started
            self._ending.set()
            process = self._process
        if process is not None:
            _hang_up(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            _kill(process)  # a no-op when it has ended
        thread.join()
        self.state = "stopped"

    def _keep_going(self) -> None:
        wait = FIRST_WAIT
        while not self._ending.is_set():
            began = time.monotonic()
            code = self._once()
            if self._ending.is_set():
                break
            self.state = "failed"
            if code == ConfigError.exit_code:
                self._on_line(f"the engine does not start: {self.why}")
                break
            wait = FIRST_WAIT if time.monotonic() - began > STEADY else min(wait, LONGEST_WAIT)
            self._on_line(f"the engine has ended: {self.why}; it is started again in {wait:g} s")
            self._ending.wait(wait)
            wait *= 2

    def _once(self) -> int:
        """One life of it; its exit status."""
        with self._guard:
            if self._ending.is_set():
                return 0
            self.state = "starting"
            try:
                self._process = process = subprocess.Popen(
                    self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                self.why = clean(f"{self._argv[0]}: {error.strerror or error}")
                return -1
        said: list[str] = []
        listener = threading.Thread(target=self._listen, args=(process, said), name="engine says", daemon=True)
        listener.start()
        assert process.stdout is not None  # noqa: S101
        with process.stdout as stream:
            for line in iter(lambda: stream.readline(LONGEST_LINE), b""):
                match line.strip():
                    case b"standing by":
                        self.state, self.why = "standing by", ""
                    case b"running":
                        self.state, self.why = "running", ""
        code = process.wait()
        listener.join()
        _hang_up(process)
        if code or not self._ending.is_set():
            self.why = _why(said, code)
        return code

    def _listen(self, process: subprocess.Popen[bytes], said: list[str]) -> None:
        assert process.stderr is not None  # noqa: S101
        with process.stderr as stream:
            for line in iter(lambda: stream.readline(LONGEST_LINE), b""):
                text = clean(decode(line).rstrip("\n"))
                said[:] = [*said[-9:], text]
                self._on_line(text)


def _why(said: Sequence[str], code: int) -> str:
    """The sentence it complained with last, and its hint; else its last line; else how it ended."""
    for number in reversed(range(len(said))):
        if said[number].startswith(COMPLAINT):
            hint = "".join(f" ({line.strip()})" for line in said[number + 1 : number + 2])
            return said[number].removeprefix(COMPLAINT) + hint
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return said[-1] if code and said else f"it ended with {code}"


def _hang_up(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101
    with contextlib.suppress(OSError):
        process.stdin.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
