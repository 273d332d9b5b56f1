"""Letters are filed into a Maildir instead of being sent.

The file's name comes from the Message-ID, and whoever files looks for it first: a letter is filed once, however
often and from however many processes it is tried, and whatever the mail reader has renamed it to since. Never
ambiguous, unless somebody takes a letter out of the Maildir between a crash and the resumption.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import ParamSpec, TypeVar

from aogconsole.errors import MailError
from backends.ports import Committing, Deferred, OutgoingMail, SendOutcome, Sent

_PATIENCE = 30.0
"""Seconds for each visit to the disk: a hanging network file system must not stop the letters silently."""
P = ParamSpec("P")
T = TypeVar("T")
_PARTS = ("tmp", "new", "cur")


class MaildirOutbox:
    """An Outbox that files letters; the envelope's recipients stand in the letter's own headers."""

    certain = True

    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, mail: OutgoingMail, committing: Committing) -> SendOutcome:
        """File one letter; `committing` is called before it appears, and not for one that is there already."""
        name = sha256(mail.message_id.encode()).hexdigest()[:40] + ".aogconsole"
        held = await self._visit(self._write, name, mail.data)
        if not isinstance(held, FileIO):
            return held
        with held:
            committing()
            return await self._visit(self._publish, name)

    async def ping(self) -> str:
        """Look whether letters can be filed; changes nothing. Raises MailError."""
        folders = [self._path / part for part in _PARTS if (self._path / part).exists()]
        if len(folders) < len(_PARTS):
            folders.append(self._path if self._path.exists() else self._path.parent)
        for folder in folders:
            if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
                raise MailError(f"letters cannot be filed in {folder}", "make it a folder that this account may write")
        return f"letters are filed in {self._path}"

    async def _visit(self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Deferred:
        """Go to the disk in a thread, for a limited time; what goes wrong there says itself."""
        try:
            async with asyncio.timeout(_PATIENCE):
                return await asyncio.to_thread(step, *args, **kwargs)
        except BlockingIOError:
            return Deferred("another process is filing this letter")
        except TimeoutError:
            return Deferred(f"the Maildir {self._path} did not answer in {_PATIENCE:g} s")
        except OSError as error:
            return Deferred(f"the Maildir {self._path} cannot be written: {error.strerror or error}")

    def _write(self, name: str, data: bytes) -> FileIO | Sent:
        """Write the letter to tmp/ and return the file, locked; or find that it is in the Maildir already."""
        self._path.mkdir(mode=0o700, exist_ok=True)
        for part in _PARTS:
            (self._path / part).mkdir(mode=0o700, exist_ok=True)
        waiting = self._waiting(name)
        file = FileIO(os.open(waiting, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _same(file, waiting):
                raise BlockingIOError
            if not self._filed(name):
                _fill(file, data)
                return file
        except BlockingIOError:
            file.close()
            raise
        except OSError:
            waiting.unlink()
            file.close()
            raise
        waiting.unlink()
        file.close()
        _sync(self._path / "new")
        return Sent("filed before")

    def _publish(self, name: str) -> Sent:
        self._waiting(name).rename(self._path / "new" / name)
        _sync(self._path / "new")
        return Sent(f"filed as {name}")

    def _waiting(self, name: str) -> Path:
        # one per account: what another operator's killed attempt left is not ours to open
        return self._path / "tmp" / f"{name}.{os.getuid()}"

    def _filed(self, name: str) -> bool:
        """Look in new/ first: readers move letters from there to cur/, never back, and add flags after the name."""
        if (self._path / "new" / name).exists():
            return True
        with os.scandir(self._path / "cur") as entries:
            return any(entry.name.startswith(name) for entry in entries)


def _same(file: FileIO, path: Path) -> bool:
    """Whether the path still leads to the open file: another process may have published it before our lock."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _fill(file: FileIO, data: bytes) -> None:
    # lines of a file in a Maildir end with a line feed alone
    rest = memoryview(data.replace(b"\r\n", b"\n"))
    file.truncate(0)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
