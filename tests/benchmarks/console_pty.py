"""A program in a pty, read as fast as it writes or at the speed of a link, with the time of what it paints."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support.terminal import environment

ROWS, COLUMNS = 50, 160
KEPT = 400_000
"""Bytes of what was written last."""


class Pty:
    """A program in a terminal. A context manager: at its end the program and its children are killed."""

    def __init__(
        self, argv: Sequence[str | Path], env: Mapping[str, str | None] | None = None, *, link: int = 0
    ) -> None:
        """`link`: bytes a second that are read, 0 for all there are."""
        given = environment(env)
        self.seen, self.written, self._link = bytearray(), 0, link
        self._credit, self._last = 0.0, time.perf_counter()
        self.begun = time.perf_counter()
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
            os.execve(argv[0], [str(word) for word in argv], given)  # noqa: S606

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pump(self, seconds: float) -> bool:
        """Take what comes, once; whether something did."""
        most = self._allowance()
        if not most:
            time.sleep(min(seconds, 0.002))
        elif select.select([self._master], [], [], seconds)[0]:
            data = os.read(self._master, most)
            self._credit -= len(data)
            self.written += len(data)
            self.seen += data
            del self.seen[:-KEPT]
            return True
        return False

    def _allowance(self) -> int:
        if not self._link:
            return 1 << 16
        now = time.perf_counter()
        self._credit = min(self._credit + (now - self._last) * self._link, self._link / 50)
        self._last = now
        return int(self._credit) if self._credit >= 512 else 0

    def rest(self, seconds: float) -> None:
        """Take what comes, for that long."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self.pump(left)

    def settle(self, quiet: float = 0.5) -> None:
        """Take what comes until nothing has for a while."""
        while self.pump(quiet):
            pass

    def wait(self, *wanted: bytes, limit: float = 60.0) -> float:
        """The time when all of these had been written since `seen` was emptied. Raises TimeoutError."""
        end = time.perf_counter() + limit
        while not all(one in self.seen for one in wanted):
            if time.perf_counter() > end:
                raise TimeoutError(f"{wanted!r} is not written in {limit:g} s: {bytes(self.seen[-2000:])!r}")
            self.pump(0.05)
        return time.perf_counter()

    def send(self, keys: bytes) -> float:
        """Type; the time. What was written before is forgotten."""
        self.seen.clear()
        os.write(self._master, keys)
        return time.perf_counter()

    @property
    def children(self) -> list[int]:
        """Processes that it has started."""
        return [int(word) for word in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()] + [
            int(word)
            for task in Path(f"/proc/{self.pid}/task").iterdir()
            if task.name != str(self.pid)
            for word in (task / "children").read_text().split()
        ]

    def close(self) -> None:
        """Kill it."""
        for pid in [*self.children, self.pid]:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._master)


def processor(pid: int) -> float:
    """Seconds of processor time a process has had, to the nanosecond; threads that have ended are left out."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def memory(pid: int) -> float:
    """Megabytes that are resident, pages of mapped files too."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
