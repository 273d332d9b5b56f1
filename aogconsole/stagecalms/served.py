"""The staging directory: closed (0700) while it is being filled, opened (0755) as the very last act."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from aogconsole.errors import StorageError
from aogconsole.stagecalms.job import TOKEN

README, SUMS, LOG = "_README.txt", "SHA256SUMS", "stagecalms.log"
FOUND = ".found"
"""Folder within the staging directory that holds tars found elsewhere until they are linked."""
_SUM = re.compile(r"([0-9a-f]{64}) [ *](\S+)", re.ASCII)


def make(web_root: Path, token: str) -> Path:
    """The directory, new and closed. Raises StorageError."""
    directory = web_root / token
    try:
        directory.mkdir(mode=0o700)
        directory.chmod(0o700)
        _sync(web_root)
    except OSError as error:
        raise StorageError(
            f"the staging directory {directory} cannot be made: {error.strerror}", "see stagecalms.web_root"
        ) from None
    return directory


def complete(web_root: Path) -> list[Path]:
    """Directories that are served, the newest first: ours, named by a token, no links, not closed."""
    found: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError), os.scandir(web_root) as entries:
        for entry in entries:
            if not TOKEN.fullmatch(entry.name):
                continue
            with contextlib.suppress(OSError):
                state = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and state.st_mode & 0o077:
                    found.append((state.st_mtime, Path(entry)))
    return [path for _, path in sorted(found, reverse=True)]


def candidates(directories: Iterable[Path], name: str) -> Iterator[Path]:
    """Tars of this name in such directories: files of ours, not empty."""
    for directory in directories:
        with contextlib.suppress(OSError):
            state = (directory / name).lstat()
            if stat.S_ISREG(state.st_mode) and state.st_uid == os.geteuid() and state.st_size:
                yield directory / name


def noted_sum(tar: Path) -> str | None:
    """What `SHA256SUMS` beside a staged tar says of it; None when it says nothing."""
    with contextlib.suppress(OSError, UnicodeDecodeError), (tar.parent / SUMS).open(encoding="ascii") as lines:
        for line in lines:
            if (found := _SUM.fullmatch(line.rstrip("\n"))) and found[2] == tar.name:
                return found[1]
    return None


def hold(tar: Path, directory: Path) -> Path | None:
    """Link a found tar into our directory, where no expiry reaches it; None when it has just gone."""
    folder = directory / FOUND
    held = folder / tar.name
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        os.link(tar, held, follow_symlinks=False)
        if not stat.S_ISREG(held.lstat().st_mode):
            held.unlink()
            return None
    except OSError:
        return None
    return held


def let_go(directory: Path) -> None:
    """Remove what was held."""
    folder = directory / FOUND
    with contextlib.suppress(FileNotFoundError):
        for held in list(folder.iterdir()):
            held.unlink()
        folder.rmdir()


def write(directory: Path, readme: str, sums: Mapping[str, str]) -> None:
    """`_README.txt` and `SHA256SUMS`. Raises OSError."""
    (directory / README).write_text(readme, "utf-8")
    (directory / SUMS).write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)), "ascii")


def tidy(directory: Path, tars: Iterable[str]) -> None:
    """Remove what rsync or we left beside the tars; what else is there was put there by a person. Raises OSError."""
    let_go(directory)
    for tar in tars:
        for left in directory.glob(f".{tar}.*"):
            left.unlink()


def settle(directory: Path) -> None:
    """Give every file of ours its mode, and all to the disk; takes a while. Raises OSError.

    What is another account's, such as a `.donotremove` of root, is not ours to change, and not needed.
    """
    for path in sorted(directory.iterdir()):
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid():
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        except OSError as error:  # of a descriptor it names no file
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            os.close(descriptor)
    _sync(directory)


def publish(directory: Path) -> None:
    """From now on it is served. Raises OSError."""
    directory.chmod(0o755)
    with contextlib.suppress(OSError):  # it is served already: what the disk has is a question of seconds
        _sync(directory)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
