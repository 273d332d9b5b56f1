"""A run's progress in the journal: milestones with the time each came, bytes, lines, and silence.

Progress is no change of state, so it leaves no history row; it is written about once a second.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import timedelta
from statistics import median
from typing import Any

from aogconsole import times
from aogconsole.engine.bench import Bench
from aogconsole.journal.store import encode
from aogconsole.requests.request import State
from aogconsole.staging.transcript import Milestone

EVERY = 1.0
"""Seconds between two writes of a run's progress; a new milestone is written at once."""
QUIET = 600.0
"""Seconds of silence that are usual for any run, whatever earlier ones did."""
SILENT = "has said nothing"
"""Stands in the request's reason until the run speaks again."""
EARLIER = "select longest_silence from run where state = 'succeeded' order by ended_at desc limit 20"
COLUMN_OF = {
    "url": ("url", "url"),
    "node": ("node", "node"),
    "host": ("host", "host"),
    "workdir": ("workdir", "directory"),
}
"""Milestones whose value has a column of its own: kind, and the value's name."""


class Recorder:
    """Records one run's progress."""

    def __init__(self, bench: Bench, run: int) -> None:
        self._bench = bench
        self._run = run
        row = bench.journal.fetch("run", run)
        self._kept: list[dict[str, Any]] = json.loads(row["milestones"])
        self._longest = float(row["longest_silence"])
        self._bytes = int(row["log_bytes"])
        self._heard = time.monotonic()
        self._written = 0.0
        usual = [float(one["longest_silence"]) for one in bench.journal.all(EARLIER)]
        self._too_long = 3 * max(median(usual) if usual else 0.0, QUIET)
        self._told = SILENT in bench.journal.fetch("request", row["request"])["why"]

    def progress(self, milestones: Sequence[Milestone], size: int, lines: int, *, last: bool = False) -> None:
        """Take what has come so far; `last` writes it whatever the time."""
        clock = time.monotonic()
        grown = size != self._bytes
        if grown:
            self._longest = max(self._longest, clock - self._heard)
            self._heard, self._bytes = clock, size
            if self._told:
                self._speaks()
        fresh = milestones[len(self._kept) :]
        if not fresh and not last and clock - self._written < EVERY:
            return
        if clock - self._heard > self._too_long and not self._told:
            self._silent(clock - self._heard)
        if not (grown or fresh or last):
            return
        at = times.now_text()
        self._kept += [
            {"kind": one.kind, "text": one.text, "values": dict(one.values), "offset": one.offset, "at": at}
            for one in fresh
        ]
        self._write(fresh, size, lines, at)
        self._written = clock

    def _write(self, fresh: Sequence[Milestone], size: int, lines: int, at: str) -> None:
        values: dict[str, Any] = {
            "milestones": encode(self._kept), "log_bytes": size, "log_lines": lines,
            "longest_silence": self._longest, "last_output_at": at,
        }  # fmt: skip
        for one in fresh:
            if one.kind in COLUMN_OF:
                column, name = COLUMN_OF[one.kind]
                values.setdefault(column, one.values[name])
        journal = self._bench.journal
        with journal.transaction():
            names = ", ".join(f"{name} = ?" for name in values)
            journal.connection.execute(f"update run set {names} where id = ?", (*values.values(), self._run))  # noqa: S608

    def _silent(self, seconds: float) -> None:
        """A run silent for three times the usual needs a person; it is left running."""
        self._told = True
        self._change(
            "silent", f"run {self._run} {SILENT} for {timedelta(seconds=int(seconds))}: look at it, or stop it"
        )

    def _speaks(self) -> None:
        self._told = False
        self._change("speaks", "")

    def _change(self, verb: str, why: str) -> None:
        bench = self._bench
        request = bench.journal.fetch("run", self._run)["request"]
        bench.journal.change(
            "request", request, bench.actor, verb, origins={State.STAGING}, target=State.STAGING, why=why
        )
