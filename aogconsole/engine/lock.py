"""The engine lock: of all processes on one journal, one takes steps; the others stand by and take over.

An `flock` beside the journal: the kernel gives it up when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from aogconsole import times
from aogconsole.journal.history import Actor
from aogconsole.journal.store import storage
from aogconsole.text import clean


class EngineLock:
    """Held by the process whose engine takes steps."""

    def __init__(self, journal: Path, *, shared: bool = False) -> None:
        """`shared`: the journal is a group's, so every member may take the lock."""
        self.path = journal.with_name(journal.name + ".engine")
        self._mode = 0o660 if shared else 0o600
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process holds it."""
        return self._descriptor is not None

    def take(self, actor: Actor) -> bool:
        """Try to take it; never waits."""
        if self._descriptor is not None:
            return True
        with storage(self.path):
            descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, self._mode)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid():
                    os.fchmod(descriptor, self._mode)  # the umask took some away, or the group came later
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                holder = {"who": actor.who, "via": actor.via, "since": times.now_text(), "pid": os.getpid()}
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(holder).encode(), 0)
            except OSError as error:  # of a full disk too: closing gives the lock back
                os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    return False
                raise
            self._descriptor = descriptor
            return True

    def give_up(self) -> None:
        """Let another process take it."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> str:
        """Who holds it, for the title and `doctor`; empty when nobody does."""
        told = self._told()
        if told is None:
            return ""
        try:
            return clean(f"{told['who']} ({told['via']}) since {told['since']}")
        except KeyError:
            return "somebody"

    def holder_pid(self) -> int | None:
        """The process that holds it; None when nobody does, or when it has not told yet."""
        pid = (self._told() or {}).get("pid")
        return pid if isinstance(pid, int) else None

    def _told(self) -> dict[str, Any] | None:
        """What the holder wrote; None when nobody holds it."""
        if self._descriptor is None and not self._taken():
            return None
        try:
            told = json.loads(self.path.read_bytes() or b"{}")
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}

    def _taken(self) -> bool:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False
