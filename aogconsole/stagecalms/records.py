"""What a run notes on the staging host before it makes anything, so that whoever starts next can clean up after it.

`<root>/stagecalms/` holds, for each run that has not ended in order,
    TOKEN.json   what it is about to make and has made: written whole (tmp, fsync, rename); read as untrusted words
    TOKEN.lock   locked by the run, or by who sweeps after it, while it lives: an flock, which no death outlives
and `UID.mous`, locked by the run that stages this MOUS, and `lock`, held while locks are tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from aogconsole.errors import InvalidId, StorageError
from aogconsole.ids import MousUid
from aogconsole.stagecalms.job import TOKEN, WORK, Job, Node, Work
from aogconsole.text import clean

POLL = 0.5
"""Seconds between tries for a MOUS that another run has."""
LIMIT = 65536
"""Bytes; no record is longer."""


class Record:
    """A run's record, locked for us until it is closed. Each change is on the disk when its method returns."""

    def __init__(self, records: Records, lock: int, job: Job, directory: Path) -> None:
        self._records = records
        self._lock = lock
        self.job = job
        self.directory = directory
        """The staging directory; its name is the token."""
        self.intended: PurePosixPath | None = None
        """The working directory that the run wanted first."""
        self.works: tuple[Work, ...] = ()
        """Every working directory that was asked for, and so may be there."""
        self.work: Work | None = None
        """The one that is."""
        self.failed = False
        """The run told that it failed, and that its directories stay."""
        self.noted = 0.0
        """When its last words were written, of one that was read: seconds since 1970."""

    def intend(self, directory: PurePosixPath) -> None:
        """A node is about to be looked for, and maybe asked of a scheduler."""
        self.intended = directory
        self._write()

    def making(self, work: Work) -> None:
        """A node is about to be asked for this directory: `cluster_ports.Making`."""
        if work not in self.works:
            self.works = (*self.works, work)
            self._write()

    def placed(self, work: Work) -> None:
        """The working directory has been made."""
        self.work = work
        self.works = (*(one for one in self.works if one != work), work)
        self._write()

    def fail(self) -> None:
        """The run has failed; who sweeps ends its processes and leaves its two directories."""
        self.failed = True
        self._write()

    def gone(self, work: Work) -> None:
        """A working directory is not, or no longer, there: nobody needs to look for it again."""
        self.works = tuple(one for one in self.works if one != work)
        self.work = None if self.work == work else self.work
        self._write()

    def done(self) -> None:
        """Nothing is left of the run but what shall stay.

        Of directories that were asked for before a cut and that nobody has seen since, the record remains, for the
        next sweep.
        """
        unsure = tuple(one for one in self.works if one != self.work)
        if unsure:
            self.works, self.work = unsure, None
            self._write()
        else:
            self._records.unlink(self.job.token)
        self.close()

    def close(self) -> None:
        """Let go of it. A record that is not done is of a run that was killed."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _write(self) -> None:
        job = self.job
        told = {
            "project": str(job.project),
            "mous": str(job.mous),
            "ticket": str(job.ticket),
            "directory": str(self.directory),
            "intended": None if self.intended is None else str(self.intended),
            "works": [[str(one.node), str(one.directory)] for one in self.works],
            "placed": None if self.work is None else self.works.index(self.work),
            "failed": self.failed,
        }
        self._records.write(job.token, json.dumps(told))


class Records:
    """The records below a run folder, `root`. Raises StorageError when they cannot be written."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "stagecalms"
        self.troubles: list[str] = []
        """What `abandoned` could not read: a sentence each."""

    def create(self, job: Job, directory: Path) -> Record:
        """A new run's record; nothing has been made yet."""
        with self._explained():
            record = Record(self, self._new_lock(f"{job.token}.lock"), job, directory)
            record._write()
            return record

    def abandoned(self) -> list[Record]:
        """Records whose run is dead, locked for us; no two that sweep get the same. What is no record stays."""
        found = []
        self.troubles = []
        with self._explained(), self._trying():
            self._tidy()
            for path in sorted(self._folder.glob("*.json")):
                lock = None
                try:
                    token = _token(path)
                    if (lock := _try(self._folder / f"{token}.lock", create=True)) is not None:
                        found.append(self._read(path, token, lock))
                        lock = None
                except FileNotFoundError:  # done meanwhile
                    with contextlib.suppress(FileNotFoundError):
                        (self._folder / f"{token}.lock").unlink()
                except (OSError, ValueError, RecursionError) as error:
                    self.troubles.append(
                        f"the record {clean(path.name)} in {clean(str(self._folder))} is left: {clean(str(error))}"
                    )
                finally:
                    if lock is not None:
                        os.close(lock)
        return found

    def live(self) -> frozenset[str]:
        """Tokens of runs that live, and of those that somebody is sweeping."""
        if not self._folder.is_dir():
            return frozenset()
        with self._explained(), self._trying():
            return frozenset(
                path.stem for path in self._folder.glob("*.lock") if TOKEN.fullmatch(path.stem) and _held(path)
            )

    @asynccontextmanager
    async def mous(self, mous: MousUid, waiting: Callable[[], None]) -> AsyncIterator[None]:
        """Be the only run of this host that stages this MOUS; `waiting` is called once when another is."""
        path, told = self._folder / f"{mous.mail}.mous", False
        with self._explained():
            self._make_folder()
            while (lock := _try(path, create=True)) is None:
                if not told:
                    waiting()
                    told = True
                await asyncio.sleep(POLL)
        try:
            yield
        finally:
            # who waits for this file sees that it is gone, and makes another
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(lock)

    def write(self, token: str, text: str) -> None:
        """Put a record on the disk, whole."""
        path = self._folder / f"{token}.json"
        fresh = self._folder / f"{token}.tmp"
        with self._explained():
            with contextlib.suppress(FileNotFoundError):
                fresh.unlink()
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            fresh.rename(path)
            self._sync()

    def unlink(self, token: str) -> None:
        """Forget a record, and last its lock's file."""
        with self._explained():
            for kind in ("tmp", "json", "lock"):
                with contextlib.suppress(FileNotFoundError):
                    (self._folder / f"{token}.{kind}").unlink()
            self._sync()

    def _tidy(self) -> None:
        """Remove the locks of runs that were killed before they had a record, or after it was removed."""
        for path in self._folder.glob("*.lock"):
            if TOKEN.fullmatch(path.stem) and not path.with_suffix(".json").exists() and not _held(path):
                with contextlib.suppress(OSError):
                    path.with_suffix(".tmp").unlink(missing_ok=True)
                    path.unlink()

    def _read(self, path: Path, token: str, lock: int) -> Record:
        text, noted = _text(path)
        told = json.loads(text)
        if not isinstance(told, dict):
            raise InvalidId("it is no object")
        record = Record(self, lock, _job(told, token), _directory(told, token))
        record.intended = None if told.get("intended") is None else _work_directory(told["intended"])
        record.works = tuple(_works(told.get("works"), token))
        placed = told.get("placed")
        if placed is not None:
            if type(placed) is not int or not 0 <= placed < len(record.works):
                raise ValueError("placed is none of works")
            record.work = record.works[placed]
        record.failed = told.get("failed") is True
        record.noted = noted
        return record

    def _new_lock(self, name: str) -> int:
        self._make_folder()
        with self._trying():
            lock = _try(self._folder / name, create=True)
        if lock is None:
            raise StorageError("another run has the same token", "start it again")
        return lock

    def _make_folder(self) -> None:
        make_folder(self._folder)

    @contextlib.contextmanager
    def _trying(self) -> Iterator[None]:
        """Held for the moment in which locks are tried, so that a try of one is not taken for a holder by another."""
        self._make_folder()
        descriptor = _open(self._folder / "lock", os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"the records of {clean(str(self._folder))} cannot be kept: {error.strerror}",
                "is staging.root writable for this account, and its disk not full?",
            ) from error

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Have a folder and those above it; what is made is for this account alone, whatever the umask. Raises OSError."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


# -- locks ---------------------------------------------------------------------------------------------------------


def _open(path: Path, flags: int = 0) -> int:
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o600)


def _try(path: Path, *, create: bool = False) -> int | None:
    """A locked descriptor of the file that has this name now; None when another has it."""
    while True:
        descriptor = _open(path, os.O_CREAT if create else 0)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(path.lstat(), os.fstat(descriptor)):
                    mine, descriptor = descriptor, -1
                    return mine
        except BlockingIOError:
            return None
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def _held(path: Path) -> bool:
    try:
        lock = _try(path)
    except OSError:
        return False
    if lock is None:
        return True
    os.close(lock)
    return False


# -- a record's words ------------------------------------------------------------------------------------------------


def _token(path: Path) -> str:
    if not TOKEN.fullmatch(path.stem):
        raise ValueError("its name is no token")
    return path.stem


def _text(path: Path) -> tuple[str, float]:
    """A record's text, and when it was written."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise ValueError("it is not a file of this account alone")
        whole = file.read(LIMIT + 1)
    if len(whole) > LIMIT:
        raise ValueError("it is too long")
    return whole.decode("utf-8"), status.st_mtime


def _word(told: Mapping[str, Any], key: str) -> str:
    if not isinstance(value := told.get(key), str):
        raise InvalidId(f"it has no {key}")
    return value


def _job(told: Mapping[str, Any], token: str) -> Job:
    return Job.parse(_word(told, "project"), _word(told, "mous"), _word(told, "ticket"), token)


def _directory(told: Mapping[str, Any], token: str) -> Path:
    path = Path(_word(told, "directory"))
    if not _plain(path) or path.name != token:
        raise ValueError("its directory is not its token's")
    return path


def _work_directory(word: object) -> PurePosixPath:
    path = PurePosixPath(word if isinstance(word, str) else "")
    if not _plain(path) or not WORK.fullmatch(path.name):
        raise ValueError("it names a directory that is no working directory")
    return path


def _plain(path: PurePosixPath | Path) -> bool:
    return path.is_absolute() and ".." not in path.parts and str(path).isprintable()


def _works(told: object, token: str) -> Iterator[Work]:
    if not isinstance(told, list):
        raise InvalidId("it has no works")
    for one in told:
        match one:
            case [str(node), directory]:
                yield Work(Node.parse(node), _work_directory(directory), token)
            case _:
                raise ValueError("one of its works is none")
