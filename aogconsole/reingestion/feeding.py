"""Taking messages for free places, and claiming their rows.

A place is reserved before a message is taken, so that a message is not held where it cannot be launched; the claim
counts again, under the table's lock. What is taken and cannot be claimed yet (the limit was lowered, the database is
away) is held, and tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from aogconsole.errors import OutsideError
from aogconsole.reingestion import messages
from aogconsole.reingestion.item import Item, Queue, State
from aogconsole.reingestion.launching import Launching
from aogconsole.reingestion.messages import Malformed, Work
from aogconsole.reingestion.station import Station, now
from aogconsole.tasks import unless
from backends.broker_ports import Delivery

log = logging.getLogger("aogconsole")
BATCH = 200
"""Messages taken at once, at the most."""
AHEAD = 1000
"""Launches not recorded yet, at the most, before more is taken."""
LONGEST_TAKE = 5.0
"""Seconds to wait for messages with places reserved."""
Key = tuple[int, int]
"""Id and attempt: what a message is about. Two messages may be about the same."""


class Feeding:
    """Feeds one queue's launches."""

    def __init__(self, station: Station, queue: Queue, launching: Launching) -> None:
        self._station = station
        self._queue = queue
        self._table = station.tracking[queue]
        self._launching = launching
        self._alarm = station.alarm()
        self._held: dict[Key, tuple[Work, tuple[Delivery, ...]]] = {}
        self._doubtful: set[Key] = set()
        """A claim failed and may have been made all the same."""
        self._misread: dict[Key, str] = {}
        """Of what is held: what is wrong with its message, which is in the dead letters by now."""
        self.places = 0
        """Reserved at the last look."""

    @property
    def holding(self) -> int:
        """Messages that are taken and not claimed."""
        return len(self._held)

    async def step(self) -> None:
        """Take and claim once, or wait for a free place. Raises OutsideError; messages that are held stay so."""
        station = self._station
        if await self._must_wait():
            return
        rules = station.rules
        limits = rules.limits[self._queue]
        wanted = min(BATCH, limits.total)
        self.places = await self._table.reserve(station.owner, wanted, limits, now(), rules.lease)
        if not self.places and not self._held:  # what is held is tried all the same: others may reserve all, for long
            await station.sleep(station.pace.poll, self._alarm)
            return
        room = self.places - len(self._held)
        if room > 0:
            within = 0.0 if self._held else min(rules.lease.total_seconds() / 3, LONGEST_TAKE)
            await self._take(room, within)
        if self._held and not station.halted.is_set():
            await self._claim()

    async def _must_wait(self) -> bool:
        """Wait while nothing may be taken; whether that was so."""
        station = self._station
        rest = station.rest_until - asyncio.get_running_loop().time()
        if station.paused or rest > 0 or self._launching.busy >= AHEAD:
            await self.give_back()
            await station.sleep(min(station.pace.poll, rest) if rest > 0 else station.pace.poll, self._alarm)
            return True
        return False

    async def give_back(self) -> None:
        """Give the reservation back: others may use the places."""
        if self.places:
            lease = self._station.rules.lease
            limits = self._station.rules.limits[self._queue]
            self.places = await self._table.reserve(self._station.owner, 0, limits, now(), lease)

    async def _take(self, most: int, within: float) -> None:
        broker = self._station.outside.broker
        taken = await unless(self._station.halted, broker.take(self._queue.messages, most, within))
        for delivery in taken or ():
            try:
                work = messages.work(delivery.body)
            except Malformed as error:
                log.warning("a message in %s goes to the dead letters: %s", self._queue.messages, error)
                self._station.counted["malformed messages"] += 1
                await broker.reject(delivery)
                if (about := error.about) is not None:  # it is claimed as any other, and fails in place of its launch
                    key = about.id, about.attempt
                    if key not in self._held:
                        self._held[key], self._misread[key] = (about, ()), str(error)
            else:
                key = work.id, work.attempt
                self._misread.pop(key, None)
                _, before = self._held.get(key, (work, ()))
                self._held[key] = work, (*before, delivery)

    async def _claim(self) -> None:
        """Claim what is held. What is ours is launched, what is spent acknowledged, what is too much held."""
        station, rules = self._station, self._station.rules
        held = dict(list(self._held.items())[:BATCH])
        try:
            claims = await self._table.claim(
                [work for work, _ in held.values()], station.owner, rules.limits[self._queue], now(), rules.lease
            )
        except OutsideError:
            self._doubtful.update(held)  # perhaps it was made, and only its answer is lost
            raise
        self._begin(claims.launching)
        if claims.apart:
            station.ring()
        # only now: when this cannot be asked, what is claimed must be launched all the same
        found = await self._ours_all_the_same(claims.stale)
        self._begin(found)
        spent = {(one.id, one.attempt) for one in (*claims.stale, *claims.apart)} - {_key(one) for one in found}
        done_with = [message for key in spent for message in self._spend(key)]
        if done_with:
            await station.outside.broker.ack(done_with)
        if claims.full:
            await station.sleep(station.pace.poll, self._alarm)

    def _begin(self, ours: Sequence[Item]) -> None:
        """Launch what we have claimed."""
        misread = {one.id: self._misread[_key(one)] for one in ours if _key(one) in self._misread}
        self._launching.begin(ours, {one.id: self._spend(_key(one)) for one in ours}, misread)
        self._station.counted["claimed"] += len(ours)
        self.places = max(0, self.places - len(ours))

    def _spend(self, key: Key) -> tuple[Delivery, ...]:
        self._doubtful.discard(key)
        self._misread.pop(key, None)
        return self._held.pop(key)[1]

    async def _ours_all_the_same(self, stale: Sequence[Work]) -> list[Item]:
        """Of rows that are not queued any more: those that we claimed without hearing of it."""
        doubtful = [one for one in stale if (one.id, one.attempt) in self._doubtful]
        if not doubtful:
            return []
        rows = {row.id: row for row in await self._table.get([one.id for one in doubtful])}
        return [
            row for one in doubtful
            if (row := rows.get(one.id)) is not None
            and row.state is State.LAUNCHING and row.owner == self._station.owner and row.attempt == one.attempt
            and (self._queue, row.id) not in self._station.launching
        ]  # fmt: skip


def _key(item: Item) -> Key:
    return item.id, item.attempt
