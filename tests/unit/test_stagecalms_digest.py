"""Checksums of files that are still being written."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from aogconsole.stagecalms.digest import CHUNK, Digests

DATA = os.urandom(3 * CHUNK + 5)
SUM = hashlib.sha256(DATA).hexdigest()


class Reader:
    """The reader in its thread, and how far it is."""

    def __init__(self, *paths: Path) -> None:
        self.digests = Digests(list(paths))
        self.found: dict[str, str] = {}
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.found = self.digests.run()

    def has_read(self, path: Path) -> None:
        """Wait until it has read all that is in the file now."""
        end = monotonic() + 10
        while monotonic() < end:
            for descriptor in Path("/proc/self/fd").iterdir():
                try:
                    if descriptor.samefile(path):
                        info = Path(f"/proc/self/fdinfo/{descriptor.name}").read_text()
                        if int(info.split()[1]) == path.stat().st_size:
                            sleep(0.06)  # it looks once more, and finds the end
                            return
                except OSError:
                    continue
            sleep(0.005)
        pytest.fail("the reader does not come to the end")

    def arrived(self) -> dict[str, str]:
        """All is there: the checksums."""
        self.digests.arrived()
        self.thread.join(10)
        return self.found


def test_a_file_that_grows(tmp_path: Path) -> None:
    """One that comes later, piece by piece, after another."""
    first, second = tmp_path / "a", tmp_path / "b"
    reader = Reader(first, second)
    for path in (first, second):
        with path.open("wb", buffering=0) as file:
            for start in range(0, len(DATA), 400_000):
                file.write(DATA[start : start + 400_000])
                reader.has_read(path) if not start else None
    assert reader.arrived() == {"a": SUM, "b": SUM}


def rewritten(path: Path) -> None:
    """A byte at the beginning changes."""
    with path.open("r+b") as file:
        file.write(b"?")


def replaced(path: Path) -> None:
    """Another file takes its name."""
    other = path.with_name("other")
    other.write_bytes(DATA)
    other.rename(path)


def removed(path: Path) -> None:
    """It goes."""
    path.unlink()


@pytest.mark.parametrize("change", [rewritten, replaced, removed])
def test_a_file_that_changes_behind_the_reader(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """There is no checksum of it: it has to be read again."""
    path = tmp_path / "a"
    path.write_bytes(DATA)
    reader = Reader(path)
    reader.has_read(path)
    change(path)
    assert reader.arrived() == {}


def test_a_file_that_never_comes(tmp_path: Path) -> None:
    """No checksum, and no waiting once all has arrived."""
    assert Reader(tmp_path / "a").arrived() == {}


def test_stopped(tmp_path: Path) -> None:
    """The reader gives up soon."""
    (tmp_path / "a").write_bytes(DATA)
    reader = Reader(tmp_path / "a", tmp_path / "b")
    reader.digests.stop()
    reader.thread.join(5)
    assert not reader.thread.is_alive()
