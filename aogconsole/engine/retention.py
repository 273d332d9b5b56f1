"""Staged data: the day each directory is deleted, the warning before, and keeping one longer.

The clean-up itself is the staging host's; a directory is told as gone when its day is over and the host no
longer has it.
"""

from __future__ import annotations

import time
from typing import Any

from aogconsole.engine.bench import Bench
from aogconsole.errors import Conflict, OutsideError
from backends.ports import StagingHost

LOOK_AGAIN = 600.0
"""Seconds between looks at whether data whose day is over have been deleted."""
HELD = "select * from run where deleted_on is not null and gone = 0"


class Retention:
    """The retention step."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._look_at = 0.0

    async def step(self) -> None:
        """Do what operators asked to keep, warn, and see what is gone."""
        bench, over, trouble = self._bench, [], None
        if bench.host is None or bench.paused:
            return
        for run in bench.journal.all(HELD):
            if run["keep_wanted"] is not None:
                try:
                    await self._keep(run, bench.host)
                    continue  # what is read of it here is no longer true
                except Conflict:
                    continue  # asked otherwise meanwhile: the next step does that
                except OutsideError as error:  # a directory that is not there any more must not stop the others
                    trouble = trouble or error
            left = bench.book.days_left(run)
            if left is None or run["kept"]:
                continue
            if left <= bench.settings.staging.warn_days and not run["warned"]:
                why = f"the data of run {run['id']} will be deleted on {run['deleted_on']}"
                self._change(run, "warn", why=why, warned=1)
            if left < 0:
                over.append(run)
        if over and time.monotonic() >= self._look_at:
            await self._gone(over, bench.host)
            self._look_at = time.monotonic() + LOOK_AGAIN
        if trouble:
            raise trouble

    async def _keep(self, run: Any, host: StagingHost) -> None:
        wanted = bool(run["keep_wanted"])
        await host.keep(directory(run["url"]), wanted)
        verb = "kept" if wanted else "not_kept"
        self._change(run, verb, seen=run["version"], kept=int(wanted), keep_wanted=None)

    async def _gone(self, over: list[Any], host: StagingHost) -> None:
        there = {one.name for one in await host.staged()}
        for run in over:
            if directory(run["url"]) not in there:
                self._change(run, "deleted", gone=1, keep_wanted=None)

    def _change(self, run: Any, verb: str, why: str = "", **values: Any) -> None:
        bench = self._bench
        bench.journal.change("run", run["id"], bench.actor, verb, origins={"succeeded"}, target=None, why=why, **values)


def directory(url: str) -> str:
    """The staged directory's name: the last part of its address."""
    return url.rstrip("/").rsplit("/", 1)[-1]
