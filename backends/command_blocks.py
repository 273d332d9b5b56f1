"""Which execution blocks a MOUS has, as a command of the site tells: `stagecalms.blocks`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from aogconsole.errors import InvalidId, OutsideError
from aogconsole.ids import MousUid
from aogconsole.stagecalms.choice import Block
from aogconsole.text import clean, decode
from backends.oracle_blocks import merged

LARGEST: Final = 1 << 18
"""Bytes of an answer; no MOUS has execution blocks for as many."""
_QA0: Final = re.compile("[A-Za-z][0-9A-Za-z_-]{0,31}", re.ASCII)
_CONTRACT: Final = "it prints a line 'EB QA0STATUS' for each execution block, or 'EB' alone"


class CommandBlocks:
    """`cluster_ports.Blocks` by a command line for the shell, which gets the MOUS (`uid___...`) as one more word.

    It prints `EB [QA0]` lines and ends with 0 within `timeout` seconds; nothing when it knows no such MOUS.
    """

    def __init__(self, command: str, timeout: float = 60.0) -> None:
        self._command = command
        self._timeout = timeout

    async def of(self, mous: MousUid) -> Sequence[Block]:
        """See the port. Raises OutsideError."""
        try:
            async with asyncio.timeout(self._timeout), self._running(mous) as process:
                out, err = await _heard(process)
                status = await process.wait()
        except TimeoutError:
            raise OutsideError(
                f"The command of stagecalms.blocks did not end within {self._timeout:g} s.",
                "try it by hand; processes that it leaves must not keep its output open",
            ) from None
        if status != 0:
            raise OutsideError(f"The command of stagecalms.blocks failed, {_ending(status, err)}.", "try it by hand")
        try:
            return merged(_rows(decode(bytes(out))))
        except InvalidId as error:
            raise OutsideError(
                f"The command of stagecalms.blocks printed what it should not: {error}.", _CONTRACT
            ) from error

    @contextlib.asynccontextmanager
    async def _running(self, mous: MousUid) -> AsyncIterator[asyncio.subprocess.Process]:
        """The command in a process group of its own, which is ended with the block."""
        try:
            process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", f'{self._command} "$@"', "stagecalms.blocks", mous.mail,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise OutsideError(f"The command of stagecalms.blocks cannot be run: {clean(str(error))}.") from error
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            # a transport that is closed before its process has ended complains on standard error
            ended = asyncio.ensure_future(process.wait())
            try:
                await asyncio.wait([ended], timeout=1)
            finally:
                process._transport.close()  # type: ignore[attr-defined]  # lets go of pipes that others hold
                await asyncio.shield(ended)


async def _heard(process: asyncio.subprocess.Process) -> tuple[bytearray, bytearray]:
    """All of its output, and the last of its messages. Raises OutsideError for an output over LARGEST."""
    out, err = bytearray(), bytearray()
    assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018  # both are pipes
    messages = asyncio.ensure_future(_last(process.stderr, err))
    try:
        while some := await process.stdout.read(1 << 16):
            out += some
            if len(out) > LARGEST:
                raise OutsideError(f"The command of stagecalms.blocks printed over {LARGEST} bytes.", _CONTRACT)
        await messages
    finally:
        messages.cancel()
    return out, err


async def _last(stream: asyncio.StreamReader, into: bytearray) -> None:
    """Read to the end, and keep the last bytes."""
    while some := await stream.read(1 << 16):
        into += some
        del into[:-4096]


def _rows(text: str) -> Iterator[tuple[str, str]]:
    """The lines' words; empty lines say nothing. Raises InvalidId."""
    for line in text.splitlines():
        words = line.split()
        if len(words) > 2 or (len(words) == 2 and not _QA0.fullmatch(words[1])):
            raise InvalidId(f"'{clean(line[:120])}' is no line of an execution block")
        if words:
            yield words[0], words[1] if len(words) == 2 else ""


def _ending(status: int, err: bytearray) -> str:
    """How it ended, and the last thing that it said."""
    lines = [line.strip() for line in decode(bytes(err)).splitlines() if line.strip()]
    how = f"exit status {status}" if status >= 0 else f"ended by signal {-status}"
    return f"{how}: {clean(lines[-1][:300]).rstrip('.')}" if lines else how
