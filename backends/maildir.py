"""A Maildir as the inbox. Reading changes nothing in it; marks as seen are other programs' business."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Collection, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aogconsole.errors import MailError
from aogconsole.requests.mail import MailLimits
from aogconsole.text import clean
from backends.ports import RawMail

_FOLDERS = ("new", "cur")
"""In this order: a mail moved from new to cur meanwhile is then seen twice, never missed."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, order=True)
class _Found:
    arrived: int
    """Nanoseconds since 1970."""
    name: str
    folder: str
    source: str


class MaildirInbox:
    """The mails of a Maildir in order of arrival; `path` holds `new` and `cur`."""

    def __init__(self, path: Path, limit: int = MailLimits().size) -> None:
        self.path = path
        self.name = f"maildir:{path}"
        self._limit = limit

    async def unseen(self, known: Collection[str], cursor: str = "") -> AsyncIterator[RawMail]:
        """Mails whose source (`maildir:BASENAME`) is not known. `cursor` is not needed: arrival is no strict order.

        A file that cannot be read holds up no other; MailError follows at the end. MailError at once when the
        folder is no Maildir or cannot be read.
        """
        names = known if isinstance(known, Set) else frozenset(known)
        unreadable = ""
        for found in await asyncio.to_thread(self._new, names):
            try:
                mail = await asyncio.to_thread(self._read, found)
            except FileNotFoundError:
                continue  # moved or deleted meanwhile; what was moved is found under its new name next time
            except OSError as error:
                unreadable = unreadable or f"{clean(str(self.path / found.folder / found.name))}: {error.strerror}"
                continue
            if mail:
                yield mail
        if unreadable:
            raise MailError(f"a mail cannot be read: {unreadable}", "give this account the right to read it")

    async def ping(self) -> str:
        """Count the mails; returns a sentence. Raises MailError."""
        count = await asyncio.to_thread(lambda: len(self._new(frozenset())))
        return f"{count} mails in the Maildir {clean(str(self.path))}"

    def _new(self, known: Set[str]) -> list[_Found]:
        found: dict[str, _Found] = {}
        for folder in _FOLDERS:
            try:
                with _Folder(self.path / folder) as descriptor, os.scandir(descriptor) as entries:
                    for entry in entries:
                        source = "maildir:" + entry.name.partition(":")[0]
                        if source in known or entry.name.startswith("."):
                            continue
                        with suppress(FileNotFoundError):
                            status = entry.stat(follow_symlinks=False)
                            if stat.S_ISREG(status.st_mode):
                                found[source] = _Found(status.st_mtime_ns, entry.name, folder, source)
            except OSError as error:
                raise self._unusable(folder, error) from error
        return sorted(found.values())

    def _unusable(self, folder: str, error: OSError) -> MailError:
        path = clean(str(self.path))
        if isinstance(error, PermissionError):
            return MailError(f"the Maildir {path} may not be read", f"give this account the right to read {path}")
        if isinstance(error, FileNotFoundError | NotADirectoryError) or self.path.joinpath(folder).is_symlink():
            return MailError(
                f"{path} is no Maildir: it has no folder {folder}", "name the folder that holds new and cur"
            )
        return MailError(f"the Maildir {path} cannot be read: {error.strerror}", "look at the file system")

    def _read(self, found: _Found) -> RawMail | None:
        with _Folder(self.path / found.folder) as folder:
            file = os.fdopen(os.open(found.name, _FILE, dir_fd=folder), "rb")
        with file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return None
            arrived = datetime.fromtimestamp(status.st_mtime, UTC)
            return RawMail(found.source, arrived, file.read(self._limit), status.st_size)


class _Folder:
    """A folder's descriptor, opened without following a link, closed at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._descriptor = os.open(self._path, _FOLDER)
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
