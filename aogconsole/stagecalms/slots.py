"""At most so many staging commands at once on this host, whoever starts them: by aogremote's own slots.

A slot is a file `<root>/slot.N` that its holder has locked; aogremote hands on the descriptor of the one it took
(AOG_SLOT_FD). Who was started by hand takes one as aogremote does: with `<root>/lock` held, so that two that look never
meet, and leaving room for commands of the same name that take no slot, such as a site's former ones.

The slot is the process's own, and is not handed on to the programs it starts: what these leave behind, an ssh that
hangs, would keep it for ever, and what works on a node holds no lock of this host anyway. Whoever starts next sweeps
that before it asks for a slot.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aogconsole.errors import StorageError
from aogconsole.stagecalms.records import make_folder
from aogconsole.text import clean

POLL = 0.5
"""Seconds between looks for a free slot. No slot's file stays open meanwhile: aogremote counts who has one open."""
HANDED_ON = "AOG_SLOT_FD"
_SLOT = re.compile("slot[.](0|[1-9][0-9]{0,3})", re.ASCII)
_SHELLS = re.compile("(a|ba|da|m?k|k|z|c|tc)?sh[0-9.]*", re.ASCII)

File = tuple[int, int]
"""Device and inode."""


@asynccontextmanager
async def slot(root: Path, slots: int, tell: Callable[[str], None], command: str = "") -> AsyncIterator[None]:
    """Hold one of the host's slots. None is free: `tell` that once, and wait until one is.

    `root`: the folder of the runs, absolute. `command`: `staging.command`; room is left for what runs by its name
    without taking a slot. Raises StorageError.
    """
    with _explained(root):
        held = _handed_on(root)
        if held is None:
            held = await _wait(root, slots, tell, Path(command).name)
    try:
        yield
    finally:
        os.close(held)


@contextlib.contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"no slot can be taken in {clean(str(root))}: {error.strerror}",
            "is staging.root writable for this account?",
        ) from error


def _file(descriptor: int) -> File:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _slot_files(root: Path) -> frozenset[File]:
    found = set()
    for path in root.iterdir():
        if _SLOT.fullmatch(path.name):
            with contextlib.suppress(OSError):
                status = path.lstat()
                found.add((status.st_dev, status.st_ino))
    return frozenset(found)


def _handed_on(root: Path) -> int | None:
    """The descriptor that aogremote handed on; None when it is no slot of this root, or another has it locked."""
    given = os.environ.pop(HANDED_ON, "")
    if not re.fullmatch("[0-9]{1,6}", given, re.ASCII) or int(given) <= 2:
        return None
    descriptor = int(given)
    try:
        if _file(descriptor) not in _slot_files(root):
            return None
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nothing happens when it is ours
    except OSError:
        return None
    os.set_inheritable(descriptor, False)
    return descriptor


async def _wait(root: Path, slots: int, tell: Callable[[str], None], name: str) -> int:
    folder = root / "stagecalms"
    make_folder(folder)
    # open for as long as we wait: so that others see that we take a slot, and leave no room for us beside it
    waiting = os.open(folder / "waiting", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    told = False
    try:
        while (held := _take(root, slots, _file(waiting), name)) is None:
            if not told:
                tell(f"{slots} staging commands are running on this host: waiting until one has ended ...")
                told = True
            await asyncio.sleep(POLL)
        return held
    finally:
        os.close(waiting)


def _take(root: Path, slots: int, waiting: File, name: str) -> int | None:
    """A locked slot's descriptor; None while there is none, or somebody else is looking."""
    looking = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    free: list[int] = []
    try:
        fcntl.flock(looking, fcntl.LOCK_EX | fcntl.LOCK_NB)
        taken = 0
        # more than ours may be there, of a configuration with more
        numbers = {int(found[1]) for path in root.iterdir() if (found := _SLOT.fullmatch(path.name))}
        for number in sorted(numbers | set(range(slots))):
            descriptor = os.open(root / f"slot.{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            free.append(descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(free.pop())
                taken += 1
        foreign = _foreign(_slot_files(root) | {waiting}, name)
        return free.pop(0) if free and taken + foreign < slots else None
    except BlockingIOError:
        return None
    finally:
        for descriptor in [*free, looking]:
            os.close(descriptor)


# -- commands that take no slot ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Process:
    parent: int
    session: int
    command: bool = False
    """Is it of this account, and a staging command: by its program, or as an interpreter's script?"""
    counted: bool = False
    """Does it hold a slot, or wait for one?"""


def _foreign(files: frozenset[File], name: str) -> int:
    """How many staging commands of this account run that neither hold a slot nor wait for one: the topmost ones."""
    processes = dict(_processes(files, name))
    holding = {os.getpid()} | {pid for pid, process in processes.items() if process.counted}
    # a script that calls the command that takes the slot is no other run
    counted = holding.union(*(_above(processes, pid) for pid in holding))
    return sum(
        process.command
        and pid not in counted
        and process.session not in holding
        and not any(processes[above].command for above in _above(processes, pid))
        for pid, process in processes.items()
    )


def _above(processes: dict[int, _Process], pid: int) -> Iterator[int]:
    seen = {pid}
    while (known := processes.get(pid)) and (pid := known.parent) in processes and pid not in seen:
        seen.add(pid)
        yield pid


def _processes(files: frozenset[File], name: str) -> Iterator[tuple[int, _Process]]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError, IndexError, ValueError):  # it has ended meanwhile
            fields = (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            if fields[0] in "ZX":
                continue
            process = _Process(int(fields[1]), int(fields[3]))
            if folder.stat().st_uid == os.geteuid():
                words = [os.fsdecode(word) for word in (folder / "cmdline").read_bytes().split(b"\0")[:-1]]
                process.command = is_command(words, name)
                process.counted = _has_open(folder, files)
            yield int(folder.name), process


def _has_open(folder: Path, files: frozenset[File]) -> bool:
    for descriptor in (folder / "fd").iterdir():
        with contextlib.suppress(OSError):
            status = descriptor.stat()
            if (status.st_dev, status.st_ino) in files:
                return True
    return False


def is_command(words: list[str], name: str) -> bool:
    """Whether a command line runs the staging command: as its program, or as the script of a shell, python or perl.

    The same as aogremote's `runs_command`.
    """
    if not (words and name):
        return False
    program, *rest = words
    if Path(program).name == name:
        return True
    kind = _interpreter(Path(program).name.removeprefix("-"))
    waiting = iter(rest)
    for word in waiting if kind else ():
        if word == "--":
            return Path(next(waiting, "")).name == name
        if _takes_a_value(kind, word):
            next(waiting, "")
        elif _runs_no_script(kind, word):
            return False
        elif not (word[:1] in "-+" and len(word) > 1):
            return Path(word).name == name
    return False


def _interpreter(name: str) -> str:
    if _SHELLS.fullmatch(name):
        return "shell"
    return next((kind for kind in ("python", "perl") if name.startswith(kind)), "")


def _takes_a_value(kind: str, word: str) -> bool:
    if kind == "shell":
        return word in {"--rcfile", "--init-file"} or bool(re.fullmatch(r"[-+][^-cs]*[oO]", word))
    return word in ({"-W", "-X"} if kind == "python" else {"-I"})


def _runs_no_script(kind: str, word: str) -> bool:
    if word.startswith("--") or word[:1] != "-" or (kind == "perl" and word[1:2] in set("CDIMVdmx")):
        return False
    if kind == "python":
        return word[-1] in "cm"
    return bool(set(word[1:]) & set("cs" if kind == "shell" else "eE"))
