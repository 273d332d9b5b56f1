"""Hearing from `archive.events` that workflows ended, and ending their rows: that frees their places.

Events come twice, late, in any order and of workflows that are not ours; whatever they say is acknowledged only when
the table has it. Any number of runners share the queue of events.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from aogconsole.errors import OutsideError
from aogconsole.reingestion import messages
from aogconsole.reingestion.item import ACTIVE, TRANSITIONS, Change, Item, Queue, State, done, failed
from aogconsole.reingestion.messages import OUR_EVENTS, Ended, Malformed
from aogconsole.reingestion.station import Station, now, sentence
from backends.broker_ports import Delivery

log = logging.getLogger("aogconsole")
BATCH = 500
WITHIN = 5.0
"""Seconds to wait for an event."""
ROUNDS = 20
"""Times that a row may change under our hands."""


class Listening:
    """Ends rows by their workflows' events, on both queues' tables."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._held: list[Delivery] = []
        self._bad: list[Delivery] = []
        self._ended: dict[str, Ended] = {}

    @property
    def holding(self) -> int:
        """Events that are taken and not dealt with."""
        return len(self._held) + len(self._bad)

    async def step(self) -> None:
        """Take events and record what they say. Raises OutsideError; events that are held are tried again."""
        broker = self._station.outside.broker
        if not self.holding:
            for delivery in await broker.take(OUR_EVENTS, BATCH, WITHIN):
                (self._held if self._read(delivery) else self._bad).append(delivery)
        while self._bad:
            await broker.reject(self._bad[-1])
            self._bad.pop()
        if self._ended:
            await self._record()
        await broker.ack(self._held)
        self._held = []

    def _read(self, delivery: Delivery) -> bool:
        """Read one event; False for one that is none."""
        try:
            ended = messages.ended(delivery.body, self._station.rules.types)
        except Malformed as error:
            log.warning("an event goes to the dead letters: %s", error)
            self._station.counted["malformed events"] += 1
            return False
        if ended is not None:
            before = self._ended.get(ended.workflow_id)
            if before is None or not before.complete:  # who says both is complete
                self._ended[ended.workflow_id] = ended
        return True

    async def _record(self) -> None:
        station, rows = self._station, dict[Queue, list[Item]]()
        for queue, table in station.tracking.items():
            rows[queue] = await table.of_workflow(list(self._ended))
            await self._end(queue, rows[queue])
        known = {row.workflow_id for found in rows.values() for row in found}
        unknown = self._ended.keys() - known
        if unknown:
            station.counted["events of no row"] += len(unknown)
        self._tell(rows)
        self._ended = {}
        await forget(station, [one for one in known if one is not None])

    async def _end(self, queue: Queue, rows: Sequence[Item]) -> None:
        """End rows of a queue. One that changes meanwhile, as when its launch is recorded, is looked at again."""
        station, table, by = self._station, self._station.tracking[queue], self._station.owner
        for _ in range(ROUNDS):
            changes = [change for row in rows if (change := self._change(row, by)) is not None]
            if not changes:
                return
            made = await table.move(changes, now())
            station.counted.update(one.state.value for one in made)
            if made:
                station.ring()
            left = {one.before.workflow_id for one in changes} - {one.workflow_id for one in made}
            if not left:
                return
            rows = await table.of_workflow([one for one in left if one is not None])
        log.error("rows of %s change too fast to be ended: %s", queue, sorted(row.id for row in rows))

    def _change(self, row: Item, by: str) -> Change | None:
        """What the event means for a row: nothing, when it says what is known, or comes after another attempt."""
        ended, rules = self._ended.get(row.workflow_id or ""), self._station.rules
        if ended is None:
            return None
        if ended.complete:
            if State.DONE not in TRANSITIONS[row.state] or row.state is State.DONE:
                return None
            return Change(row, done(row, now()), by, "complete, by its event")
        if row.state not in ACTIVE:
            return None
        why = sentence(ended.reason, "the workflow failed and did not say why")
        return Change(row, failed(row, why, now(), rules.attempts, rules.retry_delay), by, why)

    def _tell(self, rows: Mapping[Queue, Sequence[Item]]) -> None:
        """Keep the last event for the console."""
        for queue, found in rows.items():
            for row in found[-1:]:
                ended = self._ended[row.workflow_id or ""]
                self._station.last_event = {
                    "queue": queue.value, "item": row.id, "kind": row.kind.value, "uid": row.uid,
                    "workflow_id": ended.workflow_id, "complete": ended.complete,
                }  # fmt: skip


async def forget(station: Station, workflow_ids: Sequence[str]) -> None:
    """Let the launcher clear away what it keeps of ended workflows; that it cannot is no harm."""
    try:
        await station.outside.launcher.forget(workflow_ids)
    except OutsideError as error:
        log.info("the launcher keeps what it has of ended workflows: %s", error)
