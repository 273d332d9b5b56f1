"""`stagecalms --expire`: staged directories whose days are over are deleted, unless somebody wants to keep them.

A directory's age is its own modification time, the moment its last file was put there. Only what is surely a staging
directory of this account is deleted: everything else below the web root is left, and told.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from aogconsole.errors import ConfigError
from aogconsole.stagecalms.deleting import KEEP, PREFIX, delete, is_directory_of_ours, kept, mounted, opened
from aogconsole.stagecalms.job import TOKEN
from aogconsole.text import clean

DAY = 86400
Done = Literal["deleted", "would delete", "kept", "left", "failed"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What was done with an entry of the web root, and why."""

    name: str
    done: Done
    """`failed`: it should have been deleted, and is there still, maybe in part."""
    why: str

    @property
    def line(self) -> str:
        """As printed."""
        return f"{self.done} {clean(self.name)}: {clean(self.why)}"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the web root as it is looked at."""

    name: str
    status: os.stat_result
    kept: bool
    """It holds a `.donotremove`."""
    mounted: bool
    """Something is mounted in it."""


def expire(web_root: Path, days: int, live: Collection[str], now: datetime, *, dry_run: bool) -> Iterator[Decision]:
    """Delete what is older than `days`, an entry of the web root after the other. `live`: tokens of runs that live.

    With `dry_run` nothing is changed. Raises ConfigError when there is no web root.
    """
    try:
        with opened(web_root) as folder:
            for name in sorted(os.listdir(folder)):
                with contextlib.suppress(FileNotFoundError):  # it has gone meanwhile
                    yield _expire(folder, name, days, live, now, dry_run=dry_run)
    except OSError as error:
        raise ConfigError(
            f"the web root {clean(str(web_root))} cannot be read: {error.strerror}", "see stagecalms.web_root"
        ) from error


def decide(entry: Entry, days: int, live: Collection[str], now: datetime) -> Decision:
    """What to do with an entry: `would delete`, or it stays. Pure."""

    def stays(why: str, done: Done = "left") -> Decision:
        return Decision(entry.name, done, why)

    token = entry.name.removeprefix(PREFIX)
    if not TOKEN.fullmatch(token):
        return stays("its name is not a staging directory's")
    if not stat.S_ISDIR(entry.status.st_mode):
        return stays("a link" if stat.S_ISLNK(entry.status.st_mode) else "no directory")
    if entry.status.st_uid != os.geteuid():
        return stays("it belongs to another account")
    if token in live:
        return stays("a run is working on it")
    if entry.kept:
        return stays(f"{KEEP} is in it", "kept")
    # in seconds: no calendar holds what a file system can
    age = now.timestamp() - entry.status.st_mtime
    told = _age(entry.status, age, days)
    if age < 0:
        return stays(f"{told}, which is to come: see the host's clock")
    if _date(entry.status.st_mtime) is None:
        return stays(f"{told}, which cannot be right")
    if entry.mounted:
        return stays("something is mounted in it")
    if entry.name != token:
        return Decision(entry.name, "would delete", "its deletion was not finished")
    if age < days * DAY:
        return stays(told)
    return Decision(entry.name, "would delete", told)


def _age(status: os.stat_result, age: float, days: int) -> str:
    at = _date(status.st_mtime)
    date = f"{status.st_mtime:.0f} seconds from 1970" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"
    told = f"{'staged' if _served(status) else 'incomplete since'} {date}"
    if age < 0 or at is None:
        return told
    past = int(age // DAY)
    return f"{told}, {past} {'day' if past == 1 else 'days'} ago, kept {days}"


def _date(seconds: float) -> datetime | None:
    """None of a time before the year 1, or after 9999."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _served(status: os.stat_result) -> bool:
    """Complete: others than the account may read it."""
    return bool(status.st_mode & 0o077)


def _expire(folder: int, name: str, days: int, live: Collection[str], now: datetime, *, dry_run: bool) -> Decision:
    try:
        entry = _look(folder, name)
    except FileNotFoundError:
        raise
    except OSError as error:
        return Decision(name, "failed", f"it cannot be looked at: {error.strerror}")
    decision = decide(entry, days, live, now)
    if dry_run:
        return decision
    try:
        if decision.done == "kept" and name.startswith(PREFIX) and _served(entry.status):
            os.rename(name, name.removeprefix(PREFIX), src_dir_fd=folder, dst_dir_fd=folder)
            return Decision(name, "kept", f"{decision.why}; its deletion had not begun, and it is put back")
        return _delete(folder, entry, decision) if decision.done == "would delete" else decision
    except FileNotFoundError:  # another expiry was quicker
        raise
    except OSError as error:
        return Decision(name, "failed", f"{decision.why}; cannot be deleted: {error.strerror}")


def _look(folder: int, name: str) -> Entry:
    status = os.lstat(name, dir_fd=folder)
    ours = is_directory_of_ours(status) and bool(TOKEN.fullmatch(name.removeprefix(PREFIX)))
    return Entry(name, status, ours and kept(folder, name), ours and mounted(folder, name))


def _delete(folder: int, entry: Entry, decision: Decision) -> Decision:
    """Take it out of reach, look once more whether somebody wants to keep it, and delete it."""
    name = entry.name
    doomed = f"{PREFIX}{name.removeprefix(PREFIX)}"
    if name != doomed:
        # who puts a .donotremove there from now on finds no such directory
        os.rename(name, doomed, src_dir_fd=folder, dst_dir_fd=folder)
        if kept(folder, doomed):
            os.rename(doomed, name, src_dir_fd=folder, dst_dir_fd=folder)
            return Decision(name, "kept", f"{KEEP} is in it")
    troubles = delete(folder, doomed)
    if troubles:
        more = f", and {len(troubles) - 1} more" if troubles[1:] else ""
        return Decision(name, "failed", f"{decision.why}; not deleted whole: {troubles[0]}{more}")
    return Decision(name, "deleted", decision.why)
