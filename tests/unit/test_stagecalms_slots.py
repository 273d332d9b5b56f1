"""The host's slots: which descriptor is honoured, who waits, and which commands take a place without a slot."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aogconsole.errors import StorageError
from aogconsole.stagecalms import slots as module
from aogconsole.stagecalms.slots import HANDED_ON, is_command, slot
from tests.integration.test_ssh_aogremote import DOES_NOT_RUN, RUNS

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often; nothing is handed on."""
    monkeypatch.setattr(module, "POLL", 0.01)
    monkeypatch.delenv(HANDED_ON, raising=False)


def locked(path: Path) -> int:
    """A descriptor of a file, locked."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def free(root: Path) -> list[str]:
    """Slots' files that nobody has locked."""
    found = []
    for path in sorted(root.glob("slot.*")):
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found.append(path.name)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)
    return found


async def most_at_once(root: Path, count: int, slots: int) -> tuple[int, list[str]]:
    """How many of so many that start together ran at once, and what was told."""
    inside, most = 0, 0
    told: list[str] = []

    async def one() -> None:
        nonlocal inside, most
        async with slot(root, slots, told.append):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.03)
            inside -= 1

    await asyncio.gather(*(one() for _ in range(count)))
    return most, told


@pytest.mark.parametrize("slots", [1, 2, 3])
async def test_never_more_than_the_slots(tmp_path: Path, slots: int) -> None:
    """Who waits is told once, and gets one; then all are free."""
    root = tmp_path / "home" / "root"
    most, told = await most_at_once(root, 6, slots)
    assert most == slots
    assert len(told) == 6 - slots
    assert set(told) == {f"{slots} staging commands are running on this host: waiting until one has ended ..."}
    assert free(root) == [f"slot.{number}" for number in range(slots)]


async def test_slots_of_a_former_configuration_count(tmp_path: Path) -> None:
    """Two are asked for, and one runs in the fourth of four."""
    held = locked(tmp_path / "slot.3")
    assert (await most_at_once(tmp_path, 3, 2))[0] == 1
    os.close(held)
    assert (await most_at_once(tmp_path, 4, 2))[0] == 2


async def test_what_aogremote_hands_on_is_the_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are taken, one by us: no other is asked for; no child gets it, and afterwards it is free."""
    others = [locked(tmp_path / f"slot.{number}") for number in (0, 1)]
    monkeypatch.setenv(HANDED_ON, str(others[1]))
    os.set_inheritable(others[1], True)
    async with slot(tmp_path, 2, pytest.fail):
        assert free(tmp_path) == []
        assert not os.get_inheritable(others[1])
        assert HANDED_ON not in os.environ
    assert free(tmp_path) == ["slot.1"]
    os.close(others[0])


@pytest.fixture
def strange(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Words that may be handed on, and are no slot of ours."""
    (tmp_path / "elsewhere").mkdir()
    taken = locked(tmp_path / "slot.1")
    descriptors = {
        "of another root": locked(tmp_path / "elsewhere" / "slot.0"),
        "of another file": locked(tmp_path / "slot.x"),
        "locked by another": os.open(tmp_path / "slot.1", os.O_RDWR),
        "of a slot that was made anew": locked(tmp_path / "slot.0"),
        "no file": os.open(tmp_path, os.O_RDONLY),
    }
    (tmp_path / "slot.0").unlink()
    words = {"closed": "999", "no number": "seven", "standard output": "1", "negative": "-1", "huge": "9" * 40}
    yield {name: str(descriptor) for name, descriptor in descriptors.items()} | words
    for descriptor in (taken, *descriptors.values()):
        os.close(descriptor)


async def test_a_word_that_is_no_slot_is_ignored(
    tmp_path: Path, strange: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot is taken as if nothing was said."""
    for name, word in strange.items():
        monkeypatch.setenv(HANDED_ON, word)
        async with slot(tmp_path, 2, pytest.fail):
            assert free(tmp_path) == [], name
        assert free(tmp_path) == ["slot.0"], name


async def test_who_is_cancelled_while_waiting_leaves_nothing(tmp_path: Path) -> None:
    """The slots are as they were, and no descriptor stays open."""
    held = locked(tmp_path / "slot.0")
    before = len(os.listdir("/proc/self/fd"))
    waiting = asyncio.create_task(most_at_once(tmp_path, 1, 1))
    while not (tmp_path / "stagecalms" / "waiting").exists():
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(held)
    assert free(tmp_path) == ["slot.0"]


async def test_a_umask_opens_no_folder(tmp_path: Path) -> None:
    """A root that the first start makes is for this account alone, as aogremote makes it."""
    before = os.umask(0o002)
    try:
        assert await most_at_once(tmp_path / "above" / "root", 1, 2) == (1, [])
    finally:
        os.umask(before)
    for path in (tmp_path / "above", tmp_path / "above" / "root"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


async def test_a_root_that_cannot_be_written(tmp_path: Path) -> None:
    """One sentence, and a hint."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="no slot can be taken") as caught:
        await most_at_once(tmp_path / "file", 1, 2)
    assert "staging.root" in caught.value.hint


def test_what_is_a_run_of_the_command() -> None:
    """The same as what aogremote counts."""
    assert [is_command(argv, "stagecalms.sh") for argv in (*RUNS, *DOES_NOT_RUN)] == [
        *(True for _ in RUNS),
        *(False for _ in DOES_NOT_RUN),
    ]
    assert not is_command([], "stagecalms.sh")
    assert not is_command(["sh", ""], "")


async def test_room_is_left_for_a_command_that_takes_no_slot(tmp_path: Path) -> None:
    """A site's former command of the same name; its subshells are no others."""
    command = tmp_path / f"former-{tmp_path.name}-{os.getpid()}.sh"
    command.write_text("#!/bin/sh\n( echo up; exec sleep 60 )\ntrue\n")
    command.chmod(0o755)
    told: list[str] = []

    async def take(slots: int) -> None:
        async with slot(tmp_path, slots, told.append, f"/somewhere/{command.name}"):
            pass

    processes = []
    for slots in (2, 3):
        process = await asyncio.create_subprocess_exec(command, stdout=subprocess.PIPE, start_new_session=True)
        processes.append(process)
        assert process.stdout
        await process.stdout.readline()
        await take(slots)
        assert not told
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await take(2)
    assert len(told) == 1
    for process in processes:
        os.killpg(process.pid, 9)
        await process.wait()
    await take(1)


async def test_slots_without_locks_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests notice slots that anybody gets."""
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with pytest.raises(AssertionError):
        await test_never_more_than_the_slots(tmp_path, 2)
