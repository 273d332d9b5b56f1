"""Parsing of mails in a process of its own, so that no mail can stop the console (reliability trap 11)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import asdict
from types import TracebackType
from typing import Self

from aogconsole.errors import OutsideError
from aogconsole.requests.mail import MailLimits, ParsedMail, salvage

SECONDS = 8
"""A mail that takes longer is given up; with the start of a new process that stays under 10 s."""
_START_SECONDS = 30
_WORKER = "aogconsole.mailworker"
_STOPPED = (asyncio.IncompleteReadError, ConnectionError)
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")
"""All that the worker gets of our environment, which may hold secrets."""


class MailParser:
    """Parses mails, one at a time, in a long-lived worker process, which is replaced when a mail stops it.

    `async with MailParser(limits) as parser: mail = await parser.parse(raw)`
    """

    def __init__(self, limits: MailLimits = MailLimits(), seconds: int = SECONDS) -> None:  # noqa: B008
        self.limits = limits
        self.seconds = seconds
        self._lock = asyncio.Lock()
        self._worker: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start the worker; raises OutsideError when it does not start."""
        async with self._lock:
            await self._started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the worker."""
        async with self._lock:
            await self._kill()

    @property
    def pid(self) -> int | None:
        """Of the worker; None while there is none."""
        return self._worker.pid if self._worker else None

    async def parse(self, raw: bytes, size: int | None = None) -> ParsedMail:
        """Read a mail, whatever its bytes, in bounded time. `size`: its full size when `raw` is its first part.

        A mail that takes too long, or stops the worker, comes back with what its headers say and a sentence in
        `problems`. Raises OutsideError only when no worker can be started.
        """
        full = len(raw) if size is None else size
        raw = raw[: self.limits.size]
        async with self._lock:
            await self._started()
            try:
                async with asyncio.timeout(self.seconds):
                    return await self._ask_twice(raw, full)
            except TimeoutError:
                why = f"reading it took longer than {self.seconds} s"
            except _STOPPED:
                why = "it stopped the program that reads mails"
            except BaseException:
                await self._kill()
                raise
            await self._kill()
        return salvage(raw, full, why)

    async def _ask_twice(self, raw: bytes, size: int) -> ParsedMail:
        try:
            return await self._ask(await self._started(), raw, size)
        except _STOPPED:
            # It may have died before this mail came: only a new one says whether the mail is to blame.
            await self._kill()
            return await self._ask(await self._started(), raw, size)

    async def _ask(self, worker: asyncio.subprocess.Process, raw: bytes, size: int) -> ParsedMail:
        assert worker.stdin  # noqa: S101
        worker.stdin.write(len(raw).to_bytes(8) + size.to_bytes(8) + raw)
        await worker.stdin.drain()
        return ParsedMail.from_json(json.loads(await self._answer(worker)))

    async def _started(self) -> asyncio.subprocess.Process:
        if self._worker and self._worker.returncode is None:
            return self._worker
        settings = json.dumps({"limits": asdict(self.limits), "seconds": self.seconds})
        try:
            # -P: a file in the current folder must not be imported in place of a module.
            self._worker = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _WORKER, settings),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl+C and Ctrl+Z in the console's terminal are not meant for it
            )
            async with asyncio.timeout(_START_SECONDS):
                await self._answer(self._worker)
        except (OSError, asyncio.IncompleteReadError) as error:
            await self._kill()
            hint = f"try: {sys.executable} -P -m {_WORKER} '{settings}' </dev/null"
            raise OutsideError("the program that reads mails does not start", hint) from error
        except BaseException:
            await self._kill()
            raise
        return self._worker

    async def _answer(self, worker: asyncio.subprocess.Process) -> bytes:
        assert worker.stdout  # noqa: S101
        return await worker.stdout.readexactly(int.from_bytes(await worker.stdout.readexactly(8)))

    async def _kill(self) -> None:
        worker, self._worker = self._worker, None
        if worker and worker.returncode is None:
            worker.kill()
            await worker.wait()
