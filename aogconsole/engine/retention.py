"""Staged data: the day each directory is deleted, the warning before, and keeping one longer.

The clean-up itself is the staging host's; a directory is told as gone when its day is over and the host no
longer has it.
"""

from __future__ import annotations

from typing import Any

from aogconsole.engine.bench import Bench
from aogconsole.errors import OutsideError

HELD = "select * from run where deleted_on is not null and gone = 0"


class Retention:
    """The retention step."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    async def step(self) -> None:
        """Do what operators asked to keep, warn, and see what is gone."""
        bench = self._bench
        if bench.host is None or bench.paused:
            return
        over = []
        for run in bench.journal.all(HELD):
            if run["keep_wanted"] is not None:
                await self._keep(run)
            left = bench.book.days_left(run)
            if left is None or run["kept"]:
                continue
            if left <= bench.settings.staging.warn_days and not run["warned"]:
                why = f"the data of run {run['id']} will be deleted on {run['deleted_on']}"
                self._change(run, "warn", why=why, warned=1)
            if left < 0:
                over.append(run)
        if over:
            await self._gone(over)

    async def _keep(self, run: Any) -> None:
        assert self._bench.host is not None  # noqa: S101
        wanted = bool(run["keep_wanted"])
        try:
            await self._bench.host.keep(directory(run["url"]), wanted)
        except OutsideError as error:
            self._bench.seen("staging", False, str(error))
            raise
        self._change(run, "kept" if wanted else "not_kept", kept=int(wanted), keep_wanted=None)

    async def _gone(self, over: list[Any]) -> None:
        assert self._bench.host is not None  # noqa: S101
        there = {one.name for one in await self._bench.host.staged()}
        for run in over:
            if directory(run["url"]) not in there:
                self._change(run, "deleted", gone=1)

    def _change(self, run: Any, verb: str, why: str = "", **values: Any) -> None:
        bench = self._bench
        bench.journal.change("run", run["id"], bench.actor, verb, origins={"succeeded"}, target=None, why=why, **values)


def directory(url: str) -> str:
    """The staged directory's name: the last part of its address."""
    return url.rstrip("/").rsplit("/", 1)[-1]
