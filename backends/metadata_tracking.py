"""One queue's tracking table (`reingestion_ports.Tracking`), the same for both databases.

Every change goes through `_change`: it is made only while the row is as it was seen, and leaves its event row in the
same transaction. Rows are locked in the order of their ids, so that two who change the same rows never wait for
each other in a circle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from aogconsole.reingestion.item import ENDED, Change, Found, Item, Kind, Queue, State, dropped, sent
from aogconsole.reingestion.messages import Work
from backends.metadata_claims import share_out
from backends.metadata_session import (
    LONGEST,
    Row,
    Session,
    Store,
    Value,
    ids_json,
    item,
    read_time,
    rows_json,
    storable,
)
from backends.reingestion_ports import Claims, Event, Hour, Limits

OUTDATED: Final = "a newer version took its place"


class TableTracking:
    """`reingestion_ports.Tracking` on either database."""

    def __init__(self, store: Store, queue: Queue, installation: Callable[[], Awaitable[UUID]]) -> None:
        self.queue = queue
        self._store = store
        self._installation = installation
        self._sql = store.dialect.statements("tracking", table=queue.table)

    async def newest(self, kind: Kind, until: datetime | None = None) -> datetime | None:
        """The latest source time of a kind's rows; of those that are not after `until`, when that is given."""
        [[latest]] = await self._ask("newest", kind=kind.value, until=until or datetime.max.replace(tzinfo=UTC))
        return read_time(latest)

    async def add(self, found: Sequence[Found], by: str, now: datetime) -> int:
        """Enter what is not there; a newer version drops older ones that were not launched.

        One that comes later than a newer version is dropped only while that one is still to be launched: what is
        launched already may not have seen what the archive shows now."""
        if not found:
            return 0
        rows = rows_json(_new_row(one, place, now) for place, one in enumerate(found))

        async def work(session: Session) -> int:
            new = [item(row) for row in await session.rows(self._sql["add"], rows=rows)]
            await self._record(session, [(None, one, by, one.reason) for one in new], now)
            added = rows_json({"id": one.id, "kind": one.kind.value, "uid": one.uid} for one in new)
            old = [item(row) for row in await session.rows(self._sql["outdated"], rows=added)] if new else []
            await self._change(session, [Change(one, dropped(one, OUTDATED, now), by, OUTDATED) for one in old], now,
                               held=True)  # fmt: skip
            return len(new)

        return await self._store.write(work)

    async def unknown(self, keys: Sequence[tuple[Kind, str, str]]) -> list[tuple[Kind, str, str]]:
        """Those of these (kind, uid, version) that have no row yet."""
        given = [{"kind": kind.value, "uid": uid, "version": version} for kind, uid, version in keys]
        rows = await self._ask("unknown", rows=rows_json({**one, "place": n} for n, one in enumerate(given)))
        return [(Kind(kind), uid, version) for kind, uid, version in rows]

    async def known(self, keys: Sequence[tuple[Kind, str, str]]) -> list[Item]:
        """The rows with these (kind, uid, version), by id."""
        given = rows_json({"kind": kind.value, "uid": uid, "version": version} for kind, uid, version in keys)
        found = await self._ask("known", rows=given) if keys else []
        return await self.get({number for [number] in found if number is not None})

    async def to_judge(self, kind: Kind, now: datetime, after: int, most: int) -> list[Item]:
        """Deferred rows whose time has come, by id, from id `after` (exclusive) on."""
        return await self._items("to_judge", kind=kind.value, now=now, after=after, most=most)

    async def move(self, changes: Sequence[Change], now: datetime) -> list[Item]:
        """Make the changes whose row still is as it was before; those made, as they are now."""

        async def work(session: Session) -> list[Item]:
            return await self._change(session, changes, now)

        return await self._store.write(work) if changes else []

    async def send(
        self, publish: Callable[[Sequence[Item]], Awaitable[Collection[int]]], by: str, now: datetime, most: int,
        limits: Limits,
    ) -> tuple[int, int]:  # fmt: skip
        """Send up to `most` due rows, oldest first, and mark the confirmed ones queued in the same transaction."""

        async def work(session: Session) -> tuple[int, int]:
            name = "sendable" if limits.per_project is None else "sendable_apart"
            values: dict[str, Value] = {} if limits.per_project is None else {"per_project": limits.per_project}
            due = [item(row) for row in await session.rows(self._sql[name], now=now, most=most, **values)]
            if not due:
                return 0, 0
            confirmed = {one.id for one in due}.intersection(await publish([sent(one, now) for one in due]))
            if confirmed:  # in the database's own words, as `sent` says it: thousands of rows, which it has locked
                rows = ids_json(sorted(confirmed))
                await session.rows(self._sql["sent_events"], rows=rows, queue=self.queue.value, by=by, now=now)
                await session.rows(self._sql["sent"], rows=rows, now=now)
            return len(due), len(confirmed)

        return await self._store.write(work, once=True)

    async def lost(self, before: datetime, most: int) -> list[Item]:
        """Rows queued before a time, oldest first."""
        return await self._items("lost", before=before, most=most)

    async def due(self, now: datetime) -> datetime | None:
        """When the next row is to be sent, at least `now`; None when there is none."""
        rows = await self._ask("due")
        return max(read_time(rows[0][0]) or now, now) if rows else None

    async def reserve(self, runner: str, most: int, limits: Limits, now: datetime, lease: timedelta) -> int:
        """Places that this runner may take messages for, in place of what it had reserved."""

        async def work(session: Session) -> int:
            await self._alone(session)
            taken = sum((await self._taken(session)).values())
            places = max(0, min(most, limits.total - taken - await self._others(session, runner, now)))
            await session.rows(self._sql["release"], queue=self.queue.value, runner=runner, now=now)
            if places:
                await session.rows(
                    self._sql["reserve"], queue=self.queue.value, runner=runner, places=places, until=now + lease
                )
            return places

        return await self._store.write(work)

    async def claim(
        self, wanted: Sequence[Work], runner: str, limits: Limits, now: datetime, lease: timedelta
    ) -> Claims:
        """Make rows that are queued for just these attempts `launching`, within the limits, under one lock."""
        if not wanted:
            return Claims()
        installation = await self._installation()
        keys = rows_json({"id": one.id, "attempt": one.attempt} for one in wanted)

        async def work(session: Session) -> Claims:
            # a message may come before its sender has committed: wait for that, or the row would seem not to be queued;
            # and before the lock on the places: a sender that is frozen holds up nobody else's
            await session.rows(self._sql["hold"], rows=ids_json({one.id for one in wanted}))
            await self._alone(session)
            taken = await self._taken(session)
            total = limits.total - await self._others(session, runner, now)
            rows = [item(row) for row in await session.rows(self._sql["wanted"], rows=keys)]
            share = share_out(wanted, rows, taken, Limits(total, limits.per_project))
            changes = share.changes(self.queue, installation, runner, now, lease)
            made = await self._change(session, changes, now, held=True)
            ours = tuple(one for one in made if one.state is State.LAUNCHING)
            if ours:
                await session.rows(self._sql["use"], queue=self.queue.value, runner=runner, used=len(ours))
            return Claims(ours, share.full, share.apart, share.stale)

        return await self._store.write(work)

    async def renew(self, runner: str, ids: Collection[int], until: datetime) -> None:
        """Keep the leases of what this runner launches. No state changes, so no event is left."""

        async def work(session: Session) -> None:
            await session.rows(self._sql["renew"], runner=runner, rows=ids_json(ids), until=until)

        if ids:
            await self._store.write(work)

    async def active(self) -> list[Item]:
        """Launching, launch_unknown, running; oldest first."""
        return await self._items("active")

    async def of_workflow(self, workflow_ids: Collection[str]) -> list[Item]:
        """The rows with these workflow ids."""
        return await self._items("of_workflow", rows=ids_json(workflow_ids)) if workflow_ids else []

    async def get(self, ids: Collection[int]) -> list[Item]:
        """Rows by id, in its order."""
        return await self._items("get", rows=ids_json(ids)) if ids else []

    async def items(
        self, states: Collection[State] = (), kind: Kind | None = None, text: str = "", most: int = 1000
    ) -> list[Item]:
        """Rows, newest first; `text` is part of uid (in either spelling), project or reason."""
        values: dict[str, Value] = {"most": most}
        which = ["1 = 1"]
        if kind is not None:
            which.append("kind = :kind")
            values["kind"] = kind.value
        if text:
            which.append(self._sql["containing"])
            values["text"] = storable(text.lower())
        found: list[Item] = []
        for state in states or (None,):  # one by one: each finds its newest rows through the index
            part = [*which, "state = :state"] if state else which
            more: dict[str, Value] = {**values, "state": state.value} if state else values
            statement = self._sql["items"].replace("{which}", " and ".join(part))
            found += map(item, await self._rows(statement, **more))
        return sorted(found, key=lambda one: -one.id)[:most]

    async def events(self, item: int) -> list[Event]:  # the port's name of it
        """A row's history, oldest first."""
        rows = await self._ask("events", queue=self.queue.value, item=item)
        return [
            Event(number, one, _known(at), by, State(before) if before else None, State(after), attempt, why)
            for number, one, at, by, before, after, attempt, why in rows
        ]

    async def counts(self) -> Mapping[Kind, Mapping[State, int]]:
        """Rows by kind and state; of every kind, those states that occur."""
        counts: dict[Kind, dict[State, int]] = {kind: {} for kind in Kind}
        for kind, state, number in await self._ask("counts", queue=self.queue.value):
            counts[Kind(kind)][State(state)] = int(number)
        return counts

    async def oldest_waiting(self) -> datetime | None:
        """Since when the longest waiting row waits (or is queued)."""
        [[since]] = await self._ask("oldest_waiting", queue=self.queue.value)
        return read_time(since)

    async def hours(self, since: datetime) -> list[Hour]:
        """What happened per hour; hours in which nothing did are left out."""
        rows = await self._ask("hours", queue=self.queue.value, since=since)
        return [Hour(_known(begins), *map(int, numbers)) for begins, *numbers in rows]

    async def _rows(self, statement: str, **values: Value) -> list[Row]:
        async def work(session: Session) -> list[Row]:
            return await session.rows(statement, **values)

        return await self._store.read(work)

    async def _ask(self, name: str, **values: Value) -> list[Row]:
        return await self._rows(self._sql[name], **values)

    async def _items(self, name: str, **values: Value) -> list[Item]:
        return [item(row) for row in await self._ask(name, **values)]

    async def _alone(self, session: Session) -> None:
        """One at a time counts places and takes them, of all runners everywhere."""
        if self._store.dialect.lock:
            await session.rows(self._store.dialect.lock, name=self.queue.table)

    async def _taken(self, session: Session) -> dict[str, int]:
        return {project: int(number) for project, number in await session.rows(self._sql["taken"])}

    async def _others(self, session: Session, runner: str, now: datetime) -> int:
        [[places]] = await session.rows(self._sql["others"], queue=self.queue.value, runner=runner, now=now)
        return int(places)

    async def _change(
        self, session: Session, changes: Sequence[Change], now: datetime, *, held: bool = False
    ) -> list[Item]:
        """`held`: this transaction has locked their rows before."""
        made: list[Item] = []
        while changes:
            first: dict[int, Change] = {}
            later = [one for one in changes if first.setdefault(one.before.id, one) is not one]
            made += await self._change_each(session, first, now, held=held)
            changes = later  # a second change of the same row builds on the first
        return made

    async def _change_each(
        self, session: Session, changes: Mapping[int, Change], now: datetime, *, held: bool
    ) -> list[Item]:
        if not held and len(changes) > 1:
            await session.rows(self._sql["hold"], rows=ids_json(changes))
        rows = rows_json(_changed_row(one) for one in changes.values())
        after = {one.id: one for one in map(item, await session.rows(self._sql["change"], rows=rows))}
        made = [(change, after[number]) for number, change in changes.items() if number in after]
        await self._record(session, [(one.before.state, now_is, one.by, one.why) for one, now_is in made], now)
        return [one for _, one in made]

    async def _record(
        self, session: Session, made: Iterable[tuple[State | None, Item, str, str]], now: datetime
    ) -> None:
        rows: list[Mapping[str, Value]] = [
            {"queue": self.queue.value, "item": after.id, "at": now, "by": by, "before": before and before.value,
             "after": after.state.value, "attempt": after.attempt, "why": why[:LONGEST], "place": place}
            for place, (before, after, by, why) in enumerate(made)
        ]  # fmt: skip
        if rows:
            await session.rows(self._sql["record"], rows=rows_json(rows))


def _new_row(found: Found, place: int, now: datetime) -> Mapping[str, Value]:
    return {"kind": found.kind.value, "uid": found.uid, "version": found.version, "project": found.project,
            "source_time": found.source_time, "state": found.state.value, "reason": found.reason[:LONGEST],
            "created_at": now, "finished_at": now if found.state in ENDED else None, "place": place}  # fmt: skip


def _changed_row(change: Change) -> Mapping[str, Value]:
    old, new = change.before, change.after
    return {"new_id": old.id, "old_state": old.state.value, "old_attempt": old.attempt, "new_project": new.project,
            "new_state": new.state.value, "new_attempt": new.attempt, "new_reason": new.reason[:LONGEST],
            "new_workflow_id": new.workflow_id, "new_owner": new.owner, "new_lease_until": new.lease_until,
            "new_not_before": new.not_before, "new_queued_at": new.queued_at, "new_started_at": new.started_at,
            "new_finished_at": new.finished_at, "new_first_attempt": new.first_attempt}  # fmt: skip


def _known(value: object) -> datetime:
    time = read_time(value)
    assert time is not None, "the column is not null"  # noqa: S101
    return time
