"""The window on a run's output file: right lines at the right numbers, clean, while the file does what files do."""

from __future__ import annotations

import contextlib
import os
import random
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aogconsole.errors import Conflict, StorageError
from aogconsole.staging import logindex
from aogconsole.staging.follow import _RunFile
from aogconsole.staging.logfile import LONGEST, LogFile, export
from aogconsole.staging.logindex import LineIndex, OpenFile
from aogconsole.staging.logscan import Matches
from aogconsole.staging.logtimes import Arrivals, ArrivalWriter, times_path
from aogconsole.text import clean

HOSTILE = b"\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\x00\xe2\x80\xae\xc2\x9b\xff tab\there\x7f"
UNSAFE = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80\xae")


def until(true: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[LogFile]:
    """A log file that was looked at."""
    log = LogFile(path)
    try:
        until(lambda: log.ready)
        yield log
    finally:
        log.close()
        log.join()


def texts(log: LogFile) -> list[str]:
    """Every line, once the whole file is indexed."""
    until(lambda: log.complete)
    return log.page(range(log.first, log.end))


def split(data: bytes) -> list[bytes]:
    """What the lines are, the plain way."""
    return [line.rstrip(b"\r\n") for line in data.splitlines(True)]


def lines_of(index: LineIndex) -> list[bytes]:
    """Every line of an index."""
    return [index.file.read(index.start(n), index.stop(n)).rstrip(b"\r\n") for n in range(index.first, index.end)]


@given(st.lists(st.text("ab\r\n", max_size=12).map(str.encode), max_size=6), st.integers(1, 9))
def test_lines_however_the_bytes_come(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], step: int) -> None:
    """Any bytes, appended in any pieces and read in any steps, towards both sides: the lines are those of the whole."""
    path = tmp_path_factory.mktemp("log") / "1.log"
    path.write_bytes(parts[0] if parts else b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logindex, "CHUNK", step)
        index = LineIndex(OpenFile(path))
        for part in parts[1:]:
            with path.open("ab") as file:
                file.write(part)
            while index.extend(path.stat().st_size):
                pass
            index.reach_back()
        while index.extend(path.stat().st_size):
            pass
        while not index.complete:
            index.reach_back()
    data = path.read_bytes()
    assert lines_of(index) == split(data)
    for offset in range(len(data)):
        line = index.at(offset)
        assert index.start(line) <= offset < index.stop(line)


@given(
    st.text("ab\n", max_size=40).map(str.encode),
    st.lists(st.tuples(st.sampled_from(["a", "ab", "B", "bb"]), st.booleans()), min_size=1, max_size=2),
)
def test_matches_are_those_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, wanted: list[tuple[str, bool]]
) -> None:
    """Whatever is there when the scan begins and comes after it, in small steps: exactly the matching lines, ranked."""
    path = tmp_path_factory.mktemp("log") / "1.log"
    half = len(data) // 2
    path.write_bytes(data[:half])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logindex, "CHUNK", 3)
        patch.setattr("aogconsole.staging.logscan.CHUNK", 3)
        index = LineIndex(OpenFile(path))
        found = Matches(index, wanted)
        found.step()
        path.write_bytes(data)
        while index.extend(len(data)) or found.step() or (not index.complete and (index.reach_back() or True)):
            pass
    assert found.done
    want = [line for line in split(data) if all((text.encode() in line) != inverse for text, inverse in wanted)]
    lines = [found.line(rank) for rank in range(found.first, found.end)]
    assert [index.file.read(index.start(n), index.stop(n)).rstrip(b"\n") for n in lines] == want
    for number in range(index.first, index.end):
        rank = found.rank(number)
        assert rank == found.end or found.line(rank) >= number
        assert rank == found.first or found.line(rank - 1) < number


def test_a_file_that_comes_and_grows(tmp_path: Path) -> None:
    """Nothing at first, then lines as they are written; a CR LF cut in two is one line's end."""
    path = tmp_path / "1.log"
    with opened(path) as log:
        assert (log.first, log.end, log.complete, log.generation) == (0, 0, True, 0)
        with path.open("ab", buffering=0) as file:
            file.write(b"one\ntwo\r")
            until(lambda: log.end - log.first == 2)
            assert texts(log) == ["one", "two"]
            file.write(b"\nthree")
            until(lambda: log.end - log.first == 3)
            assert (log.whole - log.first, texts(log)) == (2, ["one", "two", "three"])
            file.write(b" is longer\n50 %\r100 %\r")
            until(lambda: log.end - log.first == 5)
            assert texts(log) == ["one", "two", "three is longer", "50 %", "100 %"]


def test_tells_when_there_is_something_new(tmp_path: Path) -> None:
    """Each time, and not while nothing is."""
    path = tmp_path / "1.log"
    with opened(path) as log:
        told: list[int] = []
        log.tell = lambda: told.append(log.size)
        for count in (1, 2):
            with path.open("ab") as file:
                file.write(b"more\n")
            until(lambda count=count: told[-1:] == [5 * count])  # type: ignore[misc]


def test_truncated_and_replaced(tmp_path: Path) -> None:
    """A shorter file, and another of the same name, begin anew; one that is deleted stays readable."""
    path = tmp_path / "1.log"
    path.write_bytes(b"old\n" * 100)
    with opened(path) as log:
        until(lambda: log.generation == 1)
        path.write_bytes(b"new\n")
        until(lambda: log.generation == 2)
        assert texts(log) == ["new"]
        (tmp_path / "other").write_bytes(b"another, longer\nof two lines\n")
        (tmp_path / "other").rename(path)
        until(lambda: log.generation == 3)
        assert texts(log) == ["another, longer", "of two lines"]
        path.unlink()
        path.touch()
        until(lambda: log.generation == 4)
        assert texts(log) == []


def test_opens_a_long_log_at_its_end(tmp_path: Path) -> None:
    """The last lines are there at once, the numbers of lines stay while the top is looked for, and are right then."""
    path, count = tmp_path / "1.log", 300_000
    path.write_bytes(b"".join(b"%07d a line of a long calibration's log, as long as most\n" % n for n in range(count)))
    with opened(path) as log:
        assert log.end > log.first
        known = {n: log.line(n) for n in range(log.end - 5, log.end)}
        assert log.line(log.end - 1)[:7] == f"{count - 1:07}"
        until(lambda: log.complete)
        assert log.end - log.first == count
        assert all(log.line(n) == text for n, text in known.items())
        assert [log.line(log.first + n)[:7] for n in (0, 12345, 299_999)] == ["0000000", "0012345", "0299999"]
        assert log.locate(61 * 1000) is not None


def test_a_line_of_40_megabytes(tmp_path: Path) -> None:
    """Of a huge line only its beginning is read and shown, with how much more there is; search finds its end."""
    path = tmp_path / "1.log"
    noise = random.Random(1).randbytes(1 << 20).translate(None, b"\r\n") * 40
    path.write_bytes(b"before\n" + noise + b"Needle\nafter\n" + b"\xc3\xa9" * 5000)
    with opened(path) as log:
        until(lambda: log.complete)
        assert log.end - log.first == 4
        line = log.line(log.first + 1)
        assert clean(line) == line
        assert re.search(r" \[\.\.\. [0-9,]{10} more bytes]$", line)
        assert log.line(log.first + 3) == "\xe9" * LONGEST + " [... 2,000 more bytes]"
        found = log.matching(("needle", False))
        assert found
        until(lambda: found.done)
        assert [found.line(rank) for rank in range(found.first, found.end)] == [log.first + 1]


def test_nothing_hostile_leaves(tmp_path: Path) -> None:
    """Control, format and broken bytes of a line come out as visible text: from a line, a page and an export."""
    path = tmp_path / "1.log"
    path.write_bytes(HOSTILE + b"\n" + bytes(range(256)) + b"\n")
    with opened(path) as log:
        for line in texts(log):
            assert clean(line) == line
    assert export(path, tmp_path / "out") == 4
    assert not UNSAFE.search((tmp_path / "out").read_bytes())
    assert UNSAFE.search(HOSTILE)  # the search itself finds what it should


def test_filter_is_live(tmp_path: Path) -> None:
    """Matches grow with the file; an unterminated line counts while it matches; a capital letter makes case matter."""
    path = tmp_path / "1.log"
    path.write_bytes(b"an Error\nfine\nerror again\n")
    with opened(path) as log, path.open("ab", buffering=0) as file:
        until(lambda: log.complete and log.end > log.first)
        found, exact, without = (log.matching((text, False)) for text in ("error", "Error", "fine"))
        assert found
        assert exact
        assert without
        until(lambda: found.done and exact.done and without.done)
        assert [one.end - one.first for one in (found, exact, without)] == [2, 1, 1]
        file.write(b"an ERR")
        until(lambda: log.end - log.first == 4)
        file.write(b"OR")
        until(lambda: found.end - found.first == 3)
        file.write(b"\nfine\n")
        until(lambda: without.end - without.first == 2)
        assert log.line(found.line(found.end - 1)) == "an ERROR"
        assert found.end - found.first == 3
        inverse = log.matching(("error", True))
        assert inverse
        until(lambda: inverse.done)
        assert [log.line(inverse.line(rank)) for rank in range(inverse.first, inverse.end)] == ["fine", "fine"]


def test_export(tmp_path: Path) -> None:
    """The whole log, private, counted as the console counts; never over a file; nothing is left of one that failed."""
    path, target = tmp_path / "1.log", tmp_path / "out"
    path.write_bytes(b"one\r\n50 %\r100 %\r\nhalf \xff")
    assert export(path, target) == 4
    assert target.read_bytes() == b"one\n50 %\n100 %\nhalf \\xff\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert export(path, tmp_path / "raw", raw=True) == 4
    assert (tmp_path / "raw").read_bytes() == path.read_bytes()
    with pytest.raises(Conflict):
        export(path, target)
    with pytest.raises(StorageError):
        export(tmp_path / "none.log", tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_arrival_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line's time is that of its first byte; a restart goes on, a torn pair and lost bytes are dropped."""
    log, clock = tmp_path / "1.log", iter([1000.0, 1001.5, 1007.0, 1010.0])
    monkeypatch.setattr("aogconsole.staging.logtimes.EVERY", 0.0)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    writer = ArrivalWriter(log, 0, 0o640)
    writer.note(0)
    writer.note(50)
    writer.sync()
    writer.close()
    assert stat.S_IMODE(times_path(log).stat().st_mode) == 0o640
    with times_path(log).open("ab") as file:
        file.write(b"torn")
    read = Arrivals(log)
    read.refresh()
    assert [read.at(n) for n in (0, 49, 50, 10_000)] == [1000.0, 1000.0, 1001.5, 1001.5]
    again = ArrivalWriter(log, 50, 0o640)  # the bytes from 50 on were lost
    again.note(50)
    again.note(80)
    again.close()
    fresh = Arrivals(log)
    fresh.refresh()
    assert [fresh.at(n) for n in (10, 60, 80)] == [1000.0, 1007.0, 1010.0]
    none = Arrivals(tmp_path / "2.log")
    none.refresh()
    assert none.at(0) is None


def test_arrival_of_lines(tmp_path: Path) -> None:
    """A log shows the times beside it, and none where there are none."""
    path = tmp_path / "1.log"
    path.write_bytes(b"one\ntwo\n")
    writer = ArrivalWriter(path, 8, 0o600)
    writer.note(4)
    writer.close()
    with opened(path) as log:
        first, second = log.arrived([log.first, log.first + 1])
        assert first is None
        assert second is not None
        assert abs(second - time.time()) < 60


def test_the_follower_writes_them(tmp_path: Path) -> None:
    """Who writes a run's file notes when, with the file's mode, and goes on after a restart."""
    path = tmp_path / "7.log"
    for line in (b"one\n", b"two\n"):
        file = _RunFile(path, 0o640)
        file.open()
        file.append([line])
        file.sync()
        file.close()
    assert stat.S_IMODE(times_path(path).stat().st_mode) == 0o640
    assert times_path(path).stat().st_size == 32
    with opened(path) as log:
        one, two = log.arrived([log.first, log.first + 1])
        assert one is not None
        assert two is not None
        assert time.time() - 60 < one <= two <= time.time()


def test_a_follower_without_a_place_for_times(tmp_path: Path) -> None:
    """What stands in the times' way does not stand in the log's."""
    path = tmp_path / "7.log"
    times_path(path).mkdir()
    file = _RunFile(path, 0o600)
    file.open()
    file.append([b"one\n"])
    file.sync()
    file.close()
    assert path.read_bytes() == b"one\n"


def test_closes_its_file(tmp_path: Path) -> None:
    """A closed log holds no descriptor and no thread."""
    path = tmp_path / "1.log"
    path.write_bytes(b"one\n")
    before = len(os.listdir("/proc/self/fd"))
    with opened(path) as log:
        assert texts(log) == ["one"]
    del log
    assert len(os.listdir("/proc/self/fd")) == before
