"""The checksum of a file, computed while it is still being written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

from aogconsole.tasks import in_thread

CHUNK = 1 << 20
PATIENT = 19
"""Niceness of the thread, which ends with its files."""
POLL = 0.02
"""Seconds between looks at a file that does not grow."""


class Digests:
    """SHA-256 of files as rsync brings them, a file after the other, in a thread (`run`)."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._arrived = threading.Event()
        self._stopped = threading.Event()

    def arrived(self) -> None:
        """All files are whole now."""
        self._arrived.set()

    def stop(self) -> None:
        """Give up soon."""
        self._stopped.set()
        self._arrived.set()

    def run(self) -> dict[str, str]:
        """The checksums by name. None of what is missing, cannot be read, or was changed behind the reader. Blocks.

        It takes what processor time the copy leaves: on a host with few processors it would slow it down otherwise.
        """
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PATIENT)
        found: dict[str, str] = {}
        for path in self._paths:
            try:
                digest = self._of(path)
            except OSError:
                continue
            if digest is not None:
                found[path.name] = digest
        return found

    def _of(self, path: Path) -> str | None:
        while not path.exists():
            if self._arrived.wait(POLL) and not path.exists():
                return None
        sha256, read_to_end_at = hashlib.sha256(), -1
        with path.open("rb", buffering=0) as file:
            while not self._stopped.is_set():
                whole = self._arrived.is_set()  # asked before the read: what comes after it may be the last
                written = os.fstat(file.fileno()).st_mtime_ns
                if data := file.read(CHUNK):
                    sha256.update(data)
                    read_to_end_at = -1
                    continue
                if read_to_end_at not in (-1, written):
                    return None  # what was read already has been written anew
                read_to_end_at = written
                if whole:
                    return sha256.hexdigest() if _is_still(file.fileno(), path) else None
                self._arrived.wait(POLL)
        return None


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one with this name: rsync may have put another in its place."""
    return os.path.samestat(os.fstat(descriptor), path.stat())


async def of_whole(paths: list[Path]) -> dict[str, str]:
    """The checksums of files that nobody writes any more, by name; none of what cannot be read."""
    digests = Digests(paths)
    digests.arrived()
    try:
        return await in_thread(digests.run)
    finally:
        digests.stop()
