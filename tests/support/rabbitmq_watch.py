"""Ends a private broker when nobody uses it any more: `rabbitmq_watch.py FOLDER`.

Who uses the broker holds a shared lock on `users.lock`, which the kernel takes back when its process ends, however
it ends. So this waits for the lock alone, kills what the `*.pid` files name, and removes the folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path


def started(pid: int) -> str:
    """When a process started, in ticks since boot: with its id that names it for ever. Empty: it is gone.

    One that only waits to be asked for its exit status, by another process of the run that started it, is gone too.
    """
    with suppress(OSError):
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else rest[18]
    return ""


def end(root: Path) -> None:
    """Kill what the pid files name, each only if it still is the process that was started."""
    for file in root.glob("*.pid"):
        pid, _, start = file.read_text().partition(" ")
        if start and started(int(pid)) == start:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def main(root: Path) -> None:
    """Wait until nobody is left."""
    with (root / "users.lock").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_EX)
        (root / "ended").touch()
        end(root)
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
