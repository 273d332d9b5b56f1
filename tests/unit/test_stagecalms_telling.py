"""What is said reaches standard output and the log as it is, whatever becomes of either."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from aogconsole.errors import StorageError
from aogconsole.stagecalms import telling
from aogconsole.stagecalms.telling import BACKLOG, PIECE, Teller


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its reading and its writing end."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def read(pipe: tuple[int, int]) -> bytes:
    """All that was written."""
    os.close(pipe[1])
    with open(pipe[0], "rb", closefd=False) as file:
        return file.read()


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """No file of this process grows beyond so many bytes: as if its disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_lines_and_bytes(pipe: tuple[int, int], tmp_path: Path) -> None:
    """Bytes are passed on unchanged, a line of ours begins a line; the log has the same."""
    teller = Teller(pipe[1], terminal=False)
    teller.keep(tmp_path / "log")
    teller.say("one")
    await teller.pass_on(b"\xff\x1b[2J\r\n")
    await teller.pass_on(b"no end")
    await teller.pass_on(b"")
    teller.say("two\x1b\nthree")
    teller.kept()
    assert teller.close(5)
    expected = b"one\n\xff\x1b[2J\r\nno end\ntwo\\x1b\\x0athree\n"
    assert read(pipe) == expected
    assert (tmp_path / "log").read_bytes() == expected


async def test_a_terminal_gets_it_safe(pipe: tuple[int, int], tmp_path: Path) -> None:
    """However the bytes are split: a letter, or a line's end, in two pieces is one."""
    teller = Teller(pipe[1], terminal=True)
    teller.keep(tmp_path / "log")
    hostile = "é\r\n\x1b[31m\ta\rb\u202e\n".encode() + b"\xff\n"
    for byte in hostile:
        await teller.pass_on(bytes([byte]))
    teller.kept()
    assert teller.close(5)
    assert read(pipe).decode() == "é\n\\x1b[31m\ta\\x0db\\u202e\n\\xff\n"
    assert (tmp_path / "log").read_bytes() == hostile


async def test_nobody_reads(pipe: tuple[int, int], tmp_path: Path) -> None:
    """It goes on, keeps the log, and tells at the end."""
    teller = Teller(pipe[1], terminal=False)
    teller.keep(tmp_path / "log")
    os.close(pipe[0])
    for _ in range(20):
        await teller.pass_on(b"x" * BACKLOG)
    teller.say("end")
    teller.kept()
    assert not teller.close(5)
    assert (tmp_path / "log").stat().st_size == 20 * BACKLOG + 5


async def test_a_slow_reader(pipe: tuple[int, int]) -> None:
    """One line of ours never waits; the calibrator's do beyond a backlog that no log has, until somebody reads on."""
    teller = Teller(pipe[1], terminal=False)
    await teller.pass_on(b"x" * BACKLOG)
    slow = asyncio.ensure_future(teller.pass_on(b"y" * BACKLOG))
    done, _ = await asyncio.wait([slow], timeout=0.2)
    assert not done
    teller.say("ours")
    assert not teller.close(0.1)
    reading = asyncio.create_task(asyncio.to_thread(take, pipe[0], 2 * BACKLOG + 6))
    async with asyncio.timeout(10):
        await slow
        assert (await reading).endswith(b"y\nours\n")


@pytest.mark.parametrize("terminal", [False, True])
async def test_nobody_reads_for_long(pipe: tuple[int, int], tmp_path: Path, *, terminal: bool) -> None:
    """Nothing waits for that, and nothing is left out when somebody reads again."""
    teller = Teller(pipe[1], terminal=terminal)
    teller.keep(tmp_path / "log")
    said = bytearray()
    for number in range(40):
        data = "a calibrator's long line é\r\x1b".encode() * 5_000 + b"%d" % number
        async with asyncio.timeout(20):
            await teller.pass_on(data[:-100_004])
            await teller.pass_on(data[-100_004:])
        teller.say("ours")
        said += data + b"\nours\n"
    teller.kept()
    teller.say("end")
    assert not teller.close(0)
    shown = said.replace(b"\r", b"\\x0d").replace(b"\x1b", b"\\x1b") if terminal else said
    seen = await asyncio.to_thread(take, pipe[0], len(shown) + 4)
    assert seen == shown + b"end\n"
    assert (tmp_path / "log").read_bytes() == said


async def test_a_log_that_cannot_be_read_again(pipe: tuple[int, int], tmp_path: Path) -> None:
    """It is told at the end that not all was written."""
    teller = Teller(pipe[1], terminal=False)
    teller.keep(tmp_path / "log")
    for _ in range(3):
        await teller.pass_on(b"x" * (BACKLOG + 1))
    os.truncate(tmp_path / "log", 5)
    teller.say("end")
    reading = asyncio.create_task(asyncio.to_thread(read_on, pipe[0]))
    assert not await asyncio.to_thread(teller.close, 5)
    os.close(pipe[1])
    assert len(await reading) < 3 * BACKLOG


@pytest.mark.parametrize("hurry", [(), (15,)])
async def test_a_reader_that_takes_its_time(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, hurry: tuple[int, ...]
) -> None:
    """It is waited for as long as it takes something; not when there is a reason to hurry."""
    teller = Teller(pipe[1], terminal=False)
    await teller.pass_on(b"x" * (16 + 20) * PIECE)
    ticks = itertools.count()

    def clock() -> float:
        os.read(pipe[0], PIECE)
        return next(ticks) * 0.3

    with monkeypatch.context() as patched:
        patched.setattr(telling, "time", SimpleNamespace(monotonic=clock))
        assert teller.close(3, hurry) is (not hurry)
    assert (next(ticks) > 15) is (not hurry)


def read_on(descriptor: int) -> bytes:
    """All until the other end is closed."""
    with open(descriptor, "rb", closefd=False) as file:
        return file.read()


def take(descriptor: int, size: int) -> bytes:
    """So many bytes."""
    taken = b""
    while len(taken) < size:
        taken += os.read(descriptor, 1 << 20)
    return taken


async def test_a_log_whose_disk_is_full_for_a_while(pipe: tuple[int, int], tmp_path: Path) -> None:
    """Nothing of it is lost."""
    teller = Teller(pipe[1], terminal=False)
    teller.keep(tmp_path / "log")
    with files_limited_to(5):
        for number in range(5):
            teller.say(f"line {number}")
    assert (tmp_path / "log").read_bytes() == b"line "
    teller.kept()
    assert (tmp_path / "log").read_bytes() == b"line 0\nline 1\nline 2\nline 3\nline 4\n"
    assert teller.close(5)


async def test_a_log_whose_disk_stays_full(pipe: tuple[int, int], tmp_path: Path) -> None:
    """It is no log: what lacks a part is not taken for whole."""
    teller = Teller(pipe[1], terminal=False)
    teller.keep(tmp_path / "log")
    with files_limited_to(5):
        teller.say("line 0")
        with pytest.raises(StorageError, match="cannot be kept"):
            teller.kept()
    assert teller.close(5)
    assert read(pipe) == b"line 0\n"
