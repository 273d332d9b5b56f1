"""The outside world of re-ingestion: tracking table, launchers, the archive's news, NGAS. Protocols only.

Like `backends.ports`: adapters raise an `OutsideError` when they could not ask or act, and bound every call in time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol
from uuid import UUID

from aogconsole.reingestion.ingested import ProductFile
from aogconsole.reingestion.item import Change, Found, Item, Kind, Queue, State
from aogconsole.reingestion.messages import Start, Work

# ── the tracking table ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may run at once: workflows in all, and of one project (None: no such limit)."""

    total: int
    per_project: int | None = None


@dataclass(frozen=True, slots=True)
class Claims:
    """What became of messages that a runner wanted to launch."""

    launching: tuple[Item, ...] = ()
    """Ours now."""
    full: tuple[Work, ...] = ()
    """No place is free: hold the message, try again."""
    apart: tuple[Work, ...] = ()
    """One of its project runs: the row waits again, and the message is spent."""
    stale: tuple[Work, ...] = ()
    """The row is no longer queued for this attempt: the message is spent."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of an item's history (`reingestion_event`)."""

    number: int
    item: int
    at: datetime
    by: str
    before: State | None
    after: State
    attempt: int
    why: str


@dataclass(frozen=True, slots=True)
class Hour:
    """What happened in one hour: rows found, sent, done, failed (or dead)."""

    begins: datetime
    found: int = 0
    sent: int = 0
    done: int = 0
    failed: int = 0


class Tracking(Protocol):
    """One queue's tracking table. Every change leaves its event row in the same transaction. Raises MetadataError."""

    queue: Queue

    async def newest(self, kind: Kind, until: datetime | None = None) -> datetime | None:
        """The latest source time of a kind's rows; of those that are not after `until`, when that is given."""
        ...

    async def add(self, found: Sequence[Found], by: str, now: datetime) -> int:
        """Enter what is not there by (kind, uid, version). A newer version drops older ones that were not launched
        (deferred, waiting, queued, failed: "a newer version took its place"); one that comes later than a newer one
        is dropped only while that is not launched either. Gives how many rows are new."""
        ...

    async def unknown(self, keys: Sequence[tuple[Kind, str, str]]) -> list[tuple[Kind, str, str]]:
        """Those of these (kind, uid, version) that have no row yet."""
        ...

    async def known(self, keys: Sequence[tuple[Kind, str, str]]) -> list[Item]:
        """The rows with these (kind, uid, version), by id."""
        ...

    async def to_judge(self, kind: Kind, now: datetime, after: int, most: int) -> list[Item]:
        """Deferred rows whose time has come, by id, from id `after` (exclusive) on."""
        ...

    async def move(self, changes: Sequence[Change], now: datetime) -> list[Item]:
        """Make the changes whose row still is as it was before (state and attempt); those made, as they are now."""
        ...

    async def send(
        self, publish: Callable[[Sequence[Item]], Awaitable[Collection[int]]], by: str, now: datetime, most: int,
        limits: Limits,
    ) -> tuple[int, int]:  # fmt: skip
        """Send up to `most` due rows (waiting, failed), oldest first, and mark them queued in the same transaction.

        `publish` gets them as they will be (`item.sent`) and gives the ids of those that are confirmed; the others
        stay as they were. With a limit per project no project gets more messages than it has places left (queued
        and active ones counted). Gives how many were taken, and how many are sent. Others that send at the same
        time skip the rows we hold."""
        ...

    async def lost(self, before: datetime, most: int) -> list[Item]:
        """Rows queued before a time, oldest first: for a rebuild when the work queue is empty."""
        ...

    async def due(self, now: datetime) -> datetime | None:
        """When the next row is to be sent: the earliest `not_before` of what is sendable, at least `now`."""
        ...

    async def reserve(self, runner: str, most: int, limits: Limits, now: datetime, lease: timedelta) -> int:
        """Places that this runner may take messages for (0 to `most`), in place of what it had reserved: the limit
        less what is active and what other runners' unexpired reservations hold."""
        ...

    async def claim(
        self, wanted: Sequence[Work], runner: str, limits: Limits, now: datetime, lease: timedelta
    ) -> Claims:
        """Make rows that are queued for just these attempts `launching`, within the limits counted over all runners
        under one lock. A claimed place leaves the runner's reservation."""
        ...

    async def renew(self, runner: str, ids: Collection[int], until: datetime) -> None:
        """Keep the leases of what this runner launches."""
        ...

    async def active(self) -> list[Item]:
        """Launching, launch_unknown, running; oldest first."""
        ...

    async def of_workflow(self, workflow_ids: Collection[str]) -> list[Item]:
        """The rows with these workflow ids."""
        ...

    async def get(self, ids: Collection[int]) -> list[Item]:
        """Rows by id."""
        ...

    async def items(
        self, states: Collection[State] = (), kind: Kind | None = None, text: str = "", most: int = 1000
    ) -> list[Item]:
        """Rows, newest first; `text` is part of uid (in either spelling), project or reason."""
        ...

    async def events(self, item: int) -> list[Event]:
        """A row's history, oldest first."""
        ...

    async def counts(self) -> Mapping[Kind, Mapping[State, int]]:
        """Rows by kind and state; cheap with a million rows."""
        ...

    async def oldest_waiting(self) -> datetime | None:
        """Since when the longest waiting row waits (or is queued)."""
        ...

    async def hours(self, since: datetime) -> list[Hour]:
        """What happened per hour, from the events."""
        ...


@dataclass(frozen=True, slots=True)
class Note:
    """What the pair tells the console, kept in the database: `paused`, the loader's last cycle, the last event."""

    key: str
    value: Mapping[str, object]
    at: datetime


class Metadata(Protocol):
    """The metadata database: the tracking tables, the notes beside them, and what the workflows fill."""

    async def migrate(self) -> None:
        """Make or bring up to date our tables; refuse a schema newer than ours. One at a time, safe to repeat."""
        ...

    async def installation(self) -> UUID:
        """This installation's random id, made with the tables: part of every workflow id."""
        ...

    def tracking(self, queue: Queue) -> Tracking:
        """One queue's table."""
        ...

    def alone(self, name: str) -> AbstractAsyncContextManager[Alone]:
        """A lock of this name, on a connection of its own; the loader's. Given up when the block or we end."""
        ...

    async def note(self, key: str, value: Mapping[str, object], now: datetime) -> None:
        """Keep a note, in place of the one before."""
        ...

    async def notes(self) -> Mapping[str, Note]:
        """All notes."""
        ...

    async def wake(self, what: str) -> None:
        """Wake who waits for `what` (PostgreSQL: NOTIFY)."""
        ...

    def changes(self) -> AsyncIterator[str]:
        """What has been woken, as it comes: `loader` (run now), `queue` (rows changed), `note` (a note was kept).
        Polled beneath: never relied on alone."""
        ...

    async def marks(self, mous: Collection[str]) -> Mapping[str, tuple[str | None, str | None]]:
        """Of those of these MOUSs that `alma_ouses` has: calibration_status and the version it came with."""
        ...

    async def mark(self, mous: str, status: str | None, version: str, now: datetime) -> bool:
        """Mark a MOUS, and its execution blocks that are there (later ones get it when they come), unless a newer
        version has marked it; whether it did."""
        ...

    async def vlba_news(self, query: str) -> list[tuple[str, str | None, datetime | None]]:
        """What a site's query on this database finds for the VLBA's queue: its columns uid, project, source_time."""
        ...

    async def ping(self) -> str:
        """Log in and look; a sentence."""
        ...

    async def close(self) -> None:
        """End all connections."""
        ...


class Alone(Protocol):
    """A lock that may be taken by one process."""

    async def take(self) -> bool:
        """Try; True when it is ours."""
        ...

    async def held(self) -> bool:
        """Whether it still is ours: the connection lives."""
        ...


# ── launchers ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Launch:
    """What a launcher came to. `started`: it runs, proved. `refused`: definitely not. `unknown`: neither."""

    outcome: Literal["started", "refused", "unknown"]
    why: str = ""
    blameless: bool = False
    """Refused for what is wrong at its site and not with the item: that attempt does not count."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A workflow as its launcher sees it. `unknown`: it cannot be asked (amqp never can). `absent`: never started."""

    state: Literal["absent", "running", "done", "failed", "unknown"]
    why: str = ""


class Launcher(Protocol):
    """Starts workflows, each id once however often it is called."""

    name: str
    local_to: str
    """The host that alone can look at what it started; empty: any."""

    async def launch(self, start: Start, site: str) -> Launch:
        """Start it at a site. Never raises for what may have started it; raises an OutsideError when it surely did
        not start and what is wrong is not the item's (the broker is away): that attempt does not count."""
        ...

    async def look(self, workflow_ids: Collection[str]) -> Mapping[str, Seen]:
        """How these are."""
        ...

    async def forget(self, workflow_ids: Collection[str]) -> None:
        """Their end is recorded: what is kept of them may go (their logs stay for a week)."""
        ...


# ── the archive's news ───────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class NewExecutionBlock:
    """A row of AQUA_V_EXECBLOCK. Time aware UTC."""

    uid: str
    project: str | None
    ended: datetime


@dataclass(frozen=True, slots=True)
class NewProducts:
    """A MOUS with product files newer than a time; `newest`: the latest CREATION_DATE of all of its files."""

    mous: str
    newest: datetime


@dataclass(frozen=True, slots=True)
class ProductFacts:
    """What the archive holds for one MOUS, for the checks of the seed."""

    mous: str
    project: str | None
    science: int
    """Files of class `science`."""
    scripts: tuple[str, ...]
    """Names of files of class `script` that may be custom calibration scripts (`rules` decides, case-sensitive)."""


@dataclass(frozen=True, slots=True)
class Structure:
    """Where an execution block belongs, by the archive: AQUA_V_EXECBLOCK and SCHED_BLOCK_STATUS."""

    execution_block: str
    scheduling_block: str | None
    session: str | None
    project: str | None
    mous: str | None
    started: datetime | None
    ended: datetime | None
    qa0: str | None


class ArchiveNews(Protocol):
    """The ALMA archive, asked for what is new; in batches, so that the cost follows the new rows. ArchiveError."""

    async def ping(self) -> str:
        """Log in, and try every question on what cannot be; a sentence."""
        ...

    def execution_blocks(self, since: datetime | None) -> AsyncIterator[Sequence[NewExecutionBlock]]:
        """Those whose ENDTIME is at or after a time (None: all), oldest first, in batches."""
        ...

    def products(self, since: datetime | None) -> AsyncIterator[Sequence[NewProducts]]:
        """MOUSs with a product file created at or after a time (None: all), oldest first, in batches."""
        ...

    async def facts(self, mous: Sequence[str]) -> Mapping[str, ProductFacts]:
        """The facts of these MOUSs (`uid://`); one without any file is there with none."""
        ...

    async def structure(self, execution_blocks: Sequence[str]) -> Mapping[str, Structure]:
        """Where these execution blocks belong; one that the archive does not have is missing."""
        ...

    async def execution_blocks_of(self, mous: str) -> list[str]:
        """The execution blocks of a MOUS."""
        ...

    async def product_files(self, mous: str) -> list[ProductFile]:
        """The product files of a MOUS, each once."""
        ...


# ── NGAS ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Ngas(Protocol):
    """NGAS over HTTP."""

    def retrieve(self, file_id: str) -> AsyncIterator[bytes]:
        """A file's bytes as they come (RETRIEVE). Raises NgasError; NgasMissing when it has no such file."""
        ...

    async def ping(self) -> str:
        """Ask for its STATUS; a sentence."""
        ...
