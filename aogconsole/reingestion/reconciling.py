"""Looking what became of workflows that nobody told of: whose runner died, or whose event was lost.

On evidence only: the launcher's, never a workflow's age. What the launcher cannot tell stays as it is while a place
is taken for it; a launch that nobody can prove becomes `launch_unknown`, which its event or a person settles.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from aogconsole.reingestion.item import (
    Change,
    Item,
    Queue,
    State,
    claimed,
    done,
    failed,
    given_back,
    running,
    unproved,
)
from aogconsole.reingestion.launching import Launching
from aogconsole.reingestion.listening import forget
from aogconsole.reingestion.station import Rules, Station, host_of, now, sentence
from backends.reingestion_ports import Seen

log = logging.getLogger("aogconsole")
PATIENCE = 10
"""Leases that must pass before what cannot be asked, or contradicts itself, is called so."""
ELSEWHERE = Seen("unknown", "only the host that launched it can look, and no runner there does")
UNASKED = Seen("unknown", "the launcher does not say")


class Reconciling:
    """Looks after one queue's launches and running workflows."""

    def __init__(self, station: Station, queue: Queue, launching: Launching) -> None:
        self._station = station
        self._queue = queue
        self._table = station.tracking[queue]
        self._launching = launching
        self._strange: dict[str, float] = {}
        """Workflows that run by the table and were never started by the launcher: since when, by the loop's clock."""
        self._told: set[str] = set()
        """Workflows of which it was said that nobody can tell."""

    async def step(self) -> None:
        """Look once, then wait. Raises OutsideError."""
        await self.look()
        pace, lease = self._station.pace, self._station.rules.lease.total_seconds()
        await self._station.sleep(min(pace.reconcile, lease / 2))

    async def look(self) -> None:
        """Look at what concerns us, and record what is found."""
        station, rules = self._station, self._station.rules
        rows = [row for row in await self._table.active() if self._concerns(row)]
        seen = await self._seen(rows)
        changes = [change for row in rows if (change := self._change(row, seen, rules)) is not None]
        if not changes:
            return
        made = await self._table.move(changes, now())
        self._launching.begin([row for row in made if row.state is State.LAUNCHING], {}, {})
        ended = [row for row in made if row.state in (State.DONE, State.FAILED, State.DEAD)]
        station.counted.update(f"{row.state} by a look" for row in made)
        if any(row.state is not State.LAUNCHING for row in made):
            station.ring()
        await forget(station, [row.workflow_id for row in ended if row.workflow_id])

    def _concerns(self, row: Item) -> bool:
        """Whether nobody else looks after a row: not one that is being launched by somebody who lives."""
        if row.workflow_id is None or (self._queue, row.id) in self._station.launching:
            return False
        if row.state is State.LAUNCHING:
            return row.lease_until is None or row.lease_until < now()
        return not self._station.blind

    async def _seen(self, rows: Sequence[Item]) -> Mapping[str, Seen]:
        launcher = self._station.outside.launcher
        ids = [row.workflow_id for row in rows if row.workflow_id and not self._elsewhere(row)]
        return await launcher.look(ids) if ids else {}

    def _elsewhere(self, row: Item) -> bool:
        here = self._station.outside.launcher.local_to
        return bool(here) and host_of(row.owner) != here

    def _change(self, row: Item, seen: Mapping[str, Seen], rules: Rules) -> Change | None:
        """What the launcher's word means for a row; None: it stays."""
        found = ELSEWHERE if self._elsewhere(row) else seen.get(row.workflow_id or "", UNASKED)
        by, at = self._station.owner, now()
        if found.state != "absent":
            self._strange.pop(row.workflow_id or "", None)
        match found.state:
            case "done":
                return Change(row, done(row, at), by, "complete, by the launcher; no event was heard")
            case "failed":
                why = sentence(found.why, "the workflow failed and did not say why")
                return Change(row, failed(row, why, at, rules.attempts, rules.retry_delay), by, why)
            case "running":
                return None if row.state is State.RUNNING else Change(row, running(row), by, "it runs")
            case "absent":
                return self._absent(row, rules)
            case "unknown":
                return self._unknown(row, found, rules)

    def _absent(self, row: Item, rules: Rules) -> Change | None:
        """It was never started, says the launcher: the same attempt may be launched (again)."""
        by, at = self._station.owner, now()
        if row.state is State.LAUNCHING:
            if self._station.stopping.is_set():
                return None
            mine = claimed(row, by, row.workflow_id or "", at, rules.lease)
            return Change(row, mine, by, f"{row.owner} left it before it was launched")
        if row.state is State.LAUNCH_UNKNOWN:
            return Change(row, given_back(row, "it was not launched"), by, "it was not launched, says the launcher")
        clock = asyncio.get_running_loop().time()
        if clock - self._strange.setdefault(row.workflow_id or "", clock) < PATIENCE * rules.lease.total_seconds():
            return None  # its folder may be away for a moment only
        why = "it ran, and the launcher knows nothing of it any more"
        return Change(row, failed(row, why, at, rules.attempts, rules.retry_delay), by, why)

    def _unknown(self, row: Item, found: Seen, rules: Rules) -> Change | None:
        """Nobody can tell: an unproved launch, at once where nobody ever can, else after some patience."""
        if row.state is not State.LAUNCHING:
            return None
        waited = row.lease_until is None or now() - row.lease_until > PATIENCE * rules.lease
        why = sentence(found.why, "the launcher does not say")
        if self._station.blind:
            why = "its runner ended before it could record the launch"
        elif not waited:
            if row.workflow_id not in self._told:
                log.warning("item %s of %s waits: %s", row.id, self._queue, why)
            self._told.add(row.workflow_id or "")
            return None
        return Change(row, unproved(row, why), self._station.owner, why)
