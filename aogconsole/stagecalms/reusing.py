"""Tars that are staged already: found, held, and linked into the new staging directory."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aogconsole.errors import StorageError
from aogconsole.stagecalms import served, words
from aogconsole.stagecalms.choice import Block
from aogconsole.stagecalms.digest import of_whole
from aogconsole.stagecalms.generating import PassOn
from aogconsole.stagecalms.job import TAR
from aogconsole.tasks import in_thread
from aogconsole.text import clean, decode

LINKING_SECONDS = 600.0
"""Linking takes no time; a file system that hangs is given up after so long."""
_LINKED = re.compile(rb"hf[^ ]* +(?=[^ ])")
_FOLDER = re.compile(rb"[.c]d[^ ]* ")


async def find(
    web_root: Path, directory: Path, blocks: Sequence[Block], tell: Callable[[str], None]
) -> Mapping[str, str] | None:
    """Checksums of the tars by name, when all are there (they are held then); None after the first that is not."""
    directories = served.complete(web_root)
    found: dict[str, str] = {}
    for block in blocks:
        name = f"{block.uid}{TAR}"
        digest = await _held(directories, directory, name)
        if digest is None:
            tell(words.not_staged(block.uid))
            served.let_go(directory)
            return None
        tell(words.staged_already(block.uid))
        found[name] = digest
    return found


async def _held(directories: Sequence[Path], directory: Path, name: str) -> str | None:
    """The checksum of a tar that is held now.

    One that is not what its `SHA256SUMS` says is passed over, and one of which nothing is noted unless it has its end.
    """
    for tar in served.candidates(directories, name):
        noted, held = served.noted_sum(tar), served.hold(tar, directory)
        if held is None:
            continue
        if noted is not None or await in_thread(functools.partial(has_its_end, held)):
            digest = (await of_whole([held])).get(name)
            if digest is not None and noted in (None, digest):
                return digest
        held.unlink()
    return None


def has_its_end(tar: Path) -> bool:
    """Whether a tar holds something and was not cut: what follows its last member is a block of zeros. Blocks."""
    try:
        with tarfile.open(tar, "r:") as members, tar.open("rb") as file:
            for _ in members:  # reads the headers only
                pass
            file.seek(members.offset)
            return members.offset > 0 and file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    except (OSError, tarfile.TarError, ValueError, OverflowError):
        return False


async def link(directory: Path, pass_on: PassOn) -> None:
    """Link what is held into the directory, by rsync with its own lines. Raises StorageError."""
    argv = [
        "rsync", "-v", "-i", "-i", "--no-human-readable", "--recursive", "--times", "--omit-dir-times",
        f"--link-dest={served.FOUND}", f"./{served.FOUND}/", "./",
    ]  # fmt: skip
    try:
        async with asyncio.timeout(LINKING_SECONDS):
            process = await asyncio.create_subprocess_exec(
                *argv, cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            try:
                output, messages = await process.communicate()
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        for line in output.splitlines(keepends=True):
            if not _FOLDER.match(line):
                await pass_on(_LINKED.sub(b"", line, count=1))
        if process.returncode != 0:
            last = (decode(messages).strip().splitlines() or [f"exit status {process.returncode}"])[-1]
            raise StorageError(f"the staged tars cannot be linked: {clean(last)[:300]}", "see the web root's disk")
        served.let_go(directory)
    except TimeoutError:
        raise StorageError("linking the staged tars took too long", "see the web root's file system") from None
    except OSError as error:
        raise StorageError(f"the staged tars cannot be linked: {error.strerror}", "is rsync installed?") from None
