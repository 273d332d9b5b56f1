"""What the launchers `local` and `slurm` share: a folder for each workflow, and what it says of the workflow.

The folder is named by the workflow's id. What is in it, and why a workflow is begun once, is told in `job.sh`, the
program that both launchers run there.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aogconsole.errors import AogError, LaunchError
from aogconsole.reingestion.messages import Start
from aogconsole.text import clean, decode
from backends.reingestion_ports import Seen

SCRIPT = Path(__file__).with_name("job.sh")
"""The program that a launcher runs in a workflow's folder."""
KEPT = 7 * 86400
"""Seconds for which the folder of a workflow whose end is recorded is kept."""
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_PASSED_ON = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|XDG_\w+|VIRTUAL_ENV|LD_LIBRARY_PATH"
    r"|AOGCONSOLE_\w+|CAPO_\w+|CREDENTIALS_DIRECTORY",
    re.ASCII,
)
_OF_SLURM = re.compile(r"SLURM_\w+", re.ASCII)
"""Not `SBATCH_` and `SQUEUE_`: they would add options behind our back."""

Command = Callable[[Start], Sequence[str]]
"""The words of the program that is a workflow. They never pass through a shell."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Who began a workflow (`started`). `job`: Slurm's number of it, empty for `local`."""

    host: str
    boot: str
    pid: str
    job: str


def environment(given: Mapping[str, str], slurm: bool = False) -> dict[str, str]:
    """What a workflow gets of our environment: no secret that only we need is in it."""
    return {
        name: value
        for name, value in given.items()
        if _PASSED_ON.fullmatch(name) or (slurm and _OF_SLURM.fullmatch(name))
    }


class Unfit(AogError):
    """A start cannot be launched, whenever it is tried: the item is to blame, or the configured command."""


def words(command: Command, start: Start) -> list[str]:
    """The program's words, and so that the id is one of ours. Raises Unfit."""
    if not _ID.fullmatch(start.workflow_id):
        raise Unfit(f"{clean(start.workflow_id[:80])!r} is not a workflow's id")
    try:
        found = list(command(start))
        if not found or not found[0] or any(b"\0" in os.fsencode(word) for word in found):
            raise Unfit("the workflow's command is empty or holds a NUL")
        return found
    except UnicodeEncodeError:
        raise Unfit("the workflow's command holds characters that no program can be given") from None
    except Unfit:
        raise
    except AogError as error:
        raise Unfit(str(error), error.hint) from error
    except (KeyError, ValueError) as error:
        raise Unfit(f"the workflow's command cannot be made: {error!r}"[:200]) from error


def place(folder: Path, workflow_id: str) -> Path | None:
    """A workflow's folder; None when this is no id of ours, so that nothing was ever launched by it."""
    return folder / workflow_id if _ID.fullmatch(workflow_id) else None


def make(folder: Path, workflow_id: str) -> Path:
    """Make a workflow's folder unless it is there. Raises LaunchError."""
    path = folder / workflow_id
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise LaunchError(
            f"the folder {path} cannot be made: {error.strerror}", "see reingestion.workdir and its disk"
        ) from error
    return path


def mark(path: Path) -> Mark | None:
    """Who began the workflow; None: nobody did. Raises OSError."""
    try:
        lines = decode((path / "started").read_bytes()[:4096]).split("\n")
    except FileNotFoundError:
        return None
    return Mark(*(clean(line) for line in [*lines, "", "", "", ""][:4]))


def ended(path: Path) -> Seen | None:
    """How the workflow ended; None while it has not told. Raises OSError."""
    try:
        status = (path / "exit").read_bytes()[:20].strip()
    except FileNotFoundError:
        return None
    return Seen("done") if status == b"0" else Seen("failed", because(path, status.decode("ascii", "replace")))


def because(path: Path, status: str) -> str:
    """Why it failed: the last line of its log, else its exit status."""
    last = last_line(path)
    what = f"exit status {status}"
    if status.isdecimal() and 128 < int(status) < 128 + 65:
        what = f"ended by signal {int(status) - 128}"
        last = f"{what}: {last}" if last else ""
    return last or what


def last_line(path: Path) -> str:
    """The last line of the log, made safe and short; of ours the sentence, not the indented hint below it."""
    with contextlib.suppress(OSError), (path / "log").open("rb") as log:
        log.seek(0, os.SEEK_END)
        log.seek(max(0, log.tell() - 8192))
        lines = [line.rstrip() for line in decode(log.read()).splitlines() if line.strip()]
        if lines[1:] and lines[-1].startswith("  ") and lines[-2].startswith("aogconsole: "):
            lines.pop()
        if lines:
            return clean(lines[-1].strip()).removeprefix("aogconsole: ")[:300]
    return ""


def lock_held(path: Path) -> bool:
    """Whether a job, or the workflow that it left behind, lives on this machine. Raises OSError."""
    try:
        lock = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def void(path: Path, why: str) -> bool:
    """Take the mark of a workflow that was never begun, so that nobody begins it any more, and note why it failed.
    False: somebody has begun it. Raises OSError."""
    mine = path / f"started.{os.getpid()}.void"
    mine.write_text("nobody\n\n\n\n", encoding="ascii")
    try:
        os.link(mine, path / "started")
    except FileExistsError:
        return False
    finally:
        mine.unlink()
    with (path / "log").open("a", encoding="utf-8") as log:
        log.write(f"{why}\n")
    (path / "exit.tmp").write_text("1\n", encoding="ascii")
    (path / "exit.tmp").rename(path / "exit")
    return True


def forget(folder: Path, workflow_ids: Collection[str], kept: float = KEPT) -> None:
    """Note that these workflows' end is recorded, and delete folders for which that was noted `kept` seconds ago."""
    for workflow_id in workflow_ids:
        path = place(folder, workflow_id)
        if path is not None:
            with contextlib.suppress(OSError):
                os.close(os.open(path / "recorded", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    oldest = time.time() - kept
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not _ID.fullmatch(entry.name) or not entry.is_dir(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError):
                if (Path(entry) / "recorded").stat().st_mtime < oldest:
                    shutil.rmtree(entry)


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command told. `status` None: it was ended because it took too long."""

    status: int | None
    out: str
    err: str


async def run(argv: Sequence[str], given: Mapping[str, str], patience: float, folder: Path | None = None) -> Ran:
    """Run a command within `patience` seconds. Raises LaunchError when it cannot be begun, so that it did nothing."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(given), cwd=folder
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise LaunchError(f"{argv[0]} cannot be run: {why}") from error
    try:
        async with asyncio.timeout(patience):
            out, err = await process.communicate()
        return Ran(process.returncode, decode(out), decode(err))
    except TimeoutError:
        return Ran(None, "", f"{argv[0]} did not answer within {patience:g} s")
    finally:
        process._transport.close()  # type: ignore[attr-defined]  # ends it, and lets go of pipes that others hold
