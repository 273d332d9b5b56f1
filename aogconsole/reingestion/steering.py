"""What an operator does to re-ingestion: requeue, defer, drop, add, run the loader now, pause.

The only way in for the command line and the console. Each change is made only while the row still is as it was
seen; who comes second is told who was first. Every one leaves its event, with the account and the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from aogconsole import times
from aogconsole.errors import Conflict, UsageError
from aogconsole.ids import MousUid
from aogconsole.reingestion.item import (
    ACTIVE,
    TRANSITIONS,
    Change,
    Found,
    Item,
    Kind,
    Queue,
    State,
    deferred,
    dropped,
    requeued,
    version_of,
)
from aogconsole.text import clean
from backends.reingestion_ports import Event, Metadata, Note, Tracking

PAUSED = "paused"
"""The note that stops loader and runners: {"paused": true, "by": ..., "why": ...}."""
LOADER = "loader"
"""What wakes the loader, and the note of its last cycle."""
IN_BULK = frozenset(
    {State.DEFERRED, State.LAUNCH_UNKNOWN, State.DONE, State.FAILED, State.DEAD, State.DO_NOT_CALIBRATE, State.DROPPED}
)
"""What a person may send again all at once: neither what is on its way, nor what runs."""
REQUEUABLE = IN_BULK | {State.RUNNING}
"""What a person may send again: one whose workflow ended while nobody was told keeps its place until then."""
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""`not_before` of what is put aside until somebody requeues it."""
BATCH = 500
LONGEST = 200
"""Characters of a name or version."""


class Steering:
    """One operator's verbs on one queue. `who`: the account, `anna@aog1`. Raises MetadataError."""

    def __init__(self, metadata: Metadata, queue: Queue, who: str) -> None:
        self._metadata = metadata
        self._tracking: Tracking = metadata.tracking(queue)
        self._who = who

    async def item(self, number: int) -> Item:
        """One row. Raises UsageError when there is none."""
        found = await self._tracking.get([number])
        if not found:
            raise UsageError(
                f"there is no item {number} in the {self._tracking.queue.value.upper()} queue",
                "`aogconsole reingestion items` lists them; --queue names the other queue",
            )
        return found[0]

    async def history(self, number: int) -> tuple[Item, list[Event]]:
        """One row, and what became of it from the beginning."""
        return await self.item(number), await self._tracking.events(number)

    # ── one row ──────────────────────────────────────────────────────────────────────────────────────────────

    async def requeue(self, number: int, why: str, seen: Item | None = None) -> Item:
        """Have it sent again, with all its attempts before it; `seen`: only if it still is so. Raises Conflict."""
        return await self._change(number, why, seen, REQUEUABLE, "requeued", lambda row: requeued(row, why))

    async def defer(self, number: int, why: str, until: datetime | None = None, seen: Item | None = None) -> Item:
        """Put it aside until a time, or (None) until somebody requeues it. Raises Conflict."""
        if until is not None and until <= times.now():
            raise UsageError(f"{times.text(until)} is past", "name a time to come, or none")
        states = {state for state, then in TRANSITIONS.items() if State.DEFERRED in then}
        return await self._change(number, why, seen, states, "deferred", lambda row: deferred(row, why, until or NEVER))

    async def drop(self, number: int, why: str, seen: Item | None = None) -> Item:
        """Have it never sent. Raises Conflict."""
        states = {state for state, then in TRANSITIONS.items() if State.DROPPED in then}
        return await self._change(
            number, why, seen, states, "dropped", lambda row: dropped(row, why, times.now())
        )  # fmt: skip

    async def _change(
        self, number: int, why: str, seen: Item | None, states: frozenset[State] | set[State], verb: str,
        after: Callable[[Item], Item],
    ) -> Item:  # fmt: skip
        reason(why)
        row = await self.item(number)
        stale = seen is not None and (seen.state, seen.attempt) != (row.state, row.attempt)
        if stale or row.state not in states:
            raise await self._conflict(row, verb)
        made = await self._tracking.move([Change(row, after(row), self._who, why)], times.now())
        if not made:
            raise await self._conflict(await self.item(number), verb)
        await self._metadata.wake("queue")
        return made[0]

    async def _conflict(self, row: Item, verb: str) -> Conflict:
        events = await self._tracking.events(row.id)
        last = events[-1] if events else None
        by = f" since {times.text(last.at)} by {last.by}" + (f": {last.why}" if last.why else "") if last else ""
        hint = "wait until it ends" if row.state in ACTIVE else "look at it again, then decide"
        return Conflict(clean(f"item {row.id} is {row.state}{by}; so it cannot be {verb}"), hint)

    # ── many ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def requeue_all(self, state: State, why: str, kind: Kind | None = None) -> int:
        """Requeue all that are in a state; how many. What changes meanwhile is left alone."""
        reason(why)
        if state not in IN_BULK:
            raise UsageError(f"what is {state} cannot be requeued at once", f"one of {', '.join(sorted(IN_BULK))}")
        count = 0
        while rows := await self._tracking.items([state], kind, most=BATCH):
            changes = [Change(row, requeued(row, why), self._who, why) for row in rows]
            made = await self._tracking.move(changes, times.now())
            if not made:
                break
            count += len(made)
        if count:
            await self._metadata.wake("queue")
        return count

    async def add(self, kind: Kind, uid: str, project: str | None, version: str | None) -> Item:
        """Enter an item by hand, to be sent as it is: no check of the archive is made. Raises Conflict when it is
        there in this version; without a version it is a new one."""
        uid = self._uid(uid)
        named(project or "", "project")
        version = version_of(datetime.now(UTC)) if version is None else named(version, "version")
        # without a time of the archive: where the loader's look-back begins stays as it is
        found = Found(kind, uid, version, project, None, State.WAITING, "")
        now = datetime.now(UTC)
        new = await self._tracking.add([found], self._who, now)
        (row,) = await self._tracking.known([(kind, uid, version)])
        if not new:
            raise Conflict(
                clean(f"{uid} is there already in this version, as item {row.id}, which is {row.state}"),
                f"`aogconsole reingestion requeue {row.id} --why ...` sends it again",
            )
        await self._metadata.wake("queue")
        return row

    def _uid(self, uid: str) -> str:
        if self._tracking.queue is Queue.ALMA:
            return MousUid.parse(uid).database
        if not named(uid, "name"):
            raise UsageError("the name is empty", "give it with --uid")
        return uid

    # ── the pair ─────────────────────────────────────────────────────────────────────────────────────────────

    async def run_loader(self) -> Mapping[str, Note]:
        """Wake the loader now; gives the notes as they were before. Raises Conflict when it is paused."""
        notes = await self._metadata.notes()
        if (note := notes.get(PAUSED)) and paused(note):
            why = f" since {times.text(note.at)} by {note.value.get('by')}: {note.value.get('why')}".removesuffix(": ")
            raise Conflict(clean(f"re-ingestion is paused{why}; so the loader looks for nothing"), "let it go on first")
        await self._metadata.wake(LOADER)
        return notes

    async def pause(self, why: str = "", *, on: bool = True) -> Note:
        """Loader and runners take nothing new (what runs goes on), or do again. Raises Conflict when they do."""
        before = (await self._metadata.notes()).get(PAUSED)
        if paused(before) == on:
            who = f" since {times.text(before.at)} by {before.value.get('by')}" if before else ""
            raise Conflict(clean(f"re-ingestion is {'paused already' if on else 'not paused'}{who}"), "look again")
        value = {"paused": on, "by": self._who, "why": clean(why)}
        now = datetime.now(UTC)
        await self._metadata.note(PAUSED, value, now)
        for what in ("queue", LOADER) if not on else ("queue",):
            await self._metadata.wake(what)
        return Note(PAUSED, value, now)


def paused(note: Note | None) -> bool:
    """Whether the note says that nothing new is taken."""
    return bool(note and note.value.get("paused"))


def reason(why: str) -> str:
    """A reason that says something. Raises UsageError."""
    if not why.strip():
        raise UsageError("the reason is missing", "give it with --why: it stands in the history")
    return _utf8(why, "the reason")


def named(text: str, what: str) -> str:
    """A name as a column may hold it. Raises UsageError."""
    _utf8(text, f"the {what}")
    if len(text) > LONGEST or not text.isprintable() or text != text.strip():
        raise UsageError(f"the {what} '{clean(text[:80])}' is none", f"up to {LONGEST} printable characters")
    return text


def _utf8(text: str, what: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} is not valid UTF-8", "type it again") from None
    if "\x00" in text:
        raise UsageError(f"{what} holds a NUL character", "type it again")
    return text
