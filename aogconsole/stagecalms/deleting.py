"""Staged directories are deleted: by descriptors, so that no link leads out of one, and never across a mount."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from aogconsole.text import clean

PREFIX = ".deleting-"
"""Before the name of a directory that is being deleted: nobody finds it by its address any more."""
KEEP = ".donotremove"
"""Who puts this into a staged directory keeps it, whatever it is: a file, a directory, a link."""
MOUNTS = Path("/proc/self/mountinfo")
_Error = tuple[type[BaseException], BaseException, TracebackType]


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[int]:
    """A descriptor of a folder; a link as its name is followed. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def kept(folder: int, name: str) -> bool:
    """Whether a directory in `folder` holds a KEEP. Raises OSError when that cannot be seen."""
    try:
        os.lstat(f"{name}/{KEEP}", dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


def mounted(folder: int, name: str) -> bool:
    """Whether something is mounted in a directory, or on it."""
    path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
    with MOUNTS.open(encoding="utf-8", errors="surrogateescape") as lines:
        points = [_unescaped(line.split(" ", 5)[4]) for line in lines]
    return any(point == path or point.startswith(f"{path}/") for point in points)


def _unescaped(point: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), point)


def delete(folder: int, name: str) -> list[str]:
    """Delete a directory in `folder` with all that is in it. Returns what could not be, a few words each.

    What can be deleted is, whatever else cannot; directories of ours in it that are closed to us are opened. It is
    closed itself (0700) before anything in it is deleted: one that is not has lost nothing yet. Raises OSError when it
    is no directory, or not ours to close.
    """
    if mounted(folder, name):
        return [f"{clean(name)}: something is mounted there"]
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)
    if troubles := _remove(folder, name):
        _open_up(folder, name)
        troubles = _remove(folder, name)
    return troubles


def _remove(folder: int, name: str) -> list[str]:
    troubles: list[str] = []

    def note(_: object, path: str, error: _Error) -> None:
        what = error[1]
        if not isinstance(what, FileNotFoundError):
            troubles.append(f"{clean(path)}: {what.strerror if isinstance(what, OSError) else what}")

    try:
        shutil.rmtree(name, onerror=note, dir_fd=folder)
    except RecursionError:
        troubles.append(f"{clean(name)}: too many directories in each other")
    return troubles


def _open_up(folder: int, name: str) -> None:
    """Let the account list and change every directory of its own below a directory, so far as that can be."""
    with contextlib.suppress(OSError, RecursionError):
        for _, names, _, within in os.fwalk(name, dir_fd=folder):
            for one in names:
                with contextlib.suppress(OSError):
                    _open(within, one)


def _open(within: int, name: str) -> None:
    """By a descriptor that needs no right to read, so that no link is followed."""
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
    try:
        if is_directory_of_ours(os.fstat(descriptor)):
            os.chmod(f"/proc/self/fd/{descriptor}", 0o700)
    finally:
        os.close(descriptor)


def is_directory_of_ours(status: os.stat_result) -> bool:
    """A directory, no link to one, of this account."""
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
