"""Staged data: the day each directory is deleted, the warning before, and keeping one longer.

The clean-up itself is the staging host's (`stagecalms --expire`); a directory is told as gone when its day is over and
the host no longer has it. A `.donotremove` may also be put there by hand, as the staging command says: the host is
asked now and then.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

from aogconsole.engine.bench import Bench
from aogconsole.errors import Conflict, OutsideError
from backends.ports import StagingHost

LOOK_AGAIN = 600.0
"""Seconds between looks at what the host keeps, and has deleted."""
HELD = "select * from run where deleted_on is not null and gone = 0"


class Retention:
    """The retention step."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._look_at = 0.0

    async def step(self) -> None:
        """Do what operators asked to keep, warn, and see what is gone."""
        bench, trouble = self._bench, None
        if bench.host is None or bench.paused:
            return
        for run in bench.journal.all(HELD):
            if run["keep_wanted"] is not None:
                try:
                    await self._keep(run, bench.host)
                except Conflict:
                    pass  # asked otherwise meanwhile: the next step does that
                except OutsideError as error:  # a directory that is not there any more must not stop the others
                    trouble = trouble or error
        if time.monotonic() >= self._look_at:
            try:
                await self._look(bench.host)
            except OutsideError as error:
                trouble = trouble or error
        self._warn()
        if trouble:
            raise trouble

    def _warn(self) -> None:
        bench = self._bench
        for run in bench.journal.all(HELD):
            left = bench.book.days_left(run)
            if left is None or run["kept"]:
                continue
            if left <= bench.settings.staging.warn_days and not run["warned"]:
                why = f"the data of run {run['id']} will be deleted on {run['deleted_on']}"
                self._change(run, "warn", why=why, warned=1)

    async def _keep(self, run: Any, host: StagingHost) -> None:
        wanted = bool(run["keep_wanted"])
        await host.keep(directory(run["url"]), wanted)
        verb = "kept" if wanted else "not_kept"
        self._change(run, verb, seen=run["version"], kept=int(wanted), keep_wanted=None)

    async def _look(self, host: StagingHost) -> None:
        """See what is gone, and what is kept that we did not keep."""
        runs = self._bench.journal.all(HELD)
        if not runs:
            return
        there = {one.name: one for one in await host.staged()}
        self._look_at = time.monotonic() + LOOK_AGAIN
        for run in runs:
            found = there.get(directory(run["url"]))
            left = self._bench.book.days_left(run)
            with contextlib.suppress(Conflict):  # somebody asked for something meanwhile: the next look tells
                if found is None and left is not None and left < 0:
                    self._change(run, "deleted", seen=run["version"], gone=1, keep_wanted=None)
                elif found is not None and found.kept != bool(run["kept"]) and run["keep_wanted"] is None:
                    verb, what = ("kept", "put there") if found.kept else ("not_kept", "taken away")
                    why = f"its .donotremove was {what} on the staging host"
                    self._change(run, verb, seen=run["version"], why=why, kept=int(found.kept))

    def _change(self, run: Any, verb: str, why: str = "", **values: Any) -> None:
        bench = self._bench
        bench.journal.change("run", run["id"], bench.actor, verb, origins={"succeeded"}, target=None, why=why, **values)


def directory(url: str) -> str:
    """The staged directory's name: the last part of its address."""
    return url.rstrip("/").rsplit("/", 1)[-1]
