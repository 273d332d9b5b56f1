"""What is kept beside the tracking tables (`reingestion_ports.Metadata`), the same for both databases."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from uuid import UUID, uuid4

from aogconsole.errors import MetadataError
from aogconsole.reingestion.item import Queue
from aogconsole.text import clean
from backends.metadata_session import Session, Store, ids_json, migrations, read_time, storable
from backends.metadata_tracking import TableTracking
from backends.reingestion_ports import Note


def read_version(value: str | None, known: int) -> int:
    """The version of our tables by what they say of it; 0 where they say nothing. Raises MetadataError for what is no
    version, and for a later program's."""
    if value is None:
        return 0
    if not re.fullmatch("[0-9]{1,9}", value, re.ASCII):
        raise MetadataError(
            f"The metadata database says that its tables are of version '{clean(value[:40])}', which is none.",
            "put the row `schema` of reingestion_meta right, or restore the database",
        )
    if int(value) > known:
        raise MetadataError(
            f"The metadata database's tables are of version {int(value)}, and this program knows {known}.",
            "install the newer aogconsole here too",
        )
    return int(value)


class Tables:
    """Notes, marks, and the tracking tables; what differs between the databases is their `store`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sql = store.dialect.statements("metadata")
        self._id: UUID | None = None

    @property
    def store(self) -> Store:
        """For others who keep their tables there."""
        return self._store

    async def installation(self) -> UUID:
        """This installation's random id, made with the tables."""
        if self._id is None:
            self._id = UUID(await self._value("installation"))
        return self._id

    def tracking(self, queue: Queue) -> TableTracking:
        """One queue's table."""
        return TableTracking(self._store, queue, self.installation)

    async def note(self, key: str, value: Mapping[str, object], now: datetime) -> None:
        """Keep a note, in place of the one before."""
        text = json.dumps(value, separators=(",", ":"), default=str)

        async def work(session: Session) -> None:
            await session.rows(self._sql["note"], key=key, value=text, at=now)
            await self._tell(session, "note")

        await self._store.write(work)

    async def notes(self) -> Mapping[str, Note]:
        """All notes."""

        async def work(session: Session) -> Mapping[str, Note]:
            rows = await session.rows(self._sql["notes"])
            return {key: Note(key, json.loads(value), read_time(at) or datetime.min) for key, value, at in rows}  # noqa: DTZ901

        return await self._store.read(work)

    async def wake(self, what: str) -> None:
        """Wake who waits for `what`."""

        async def work(session: Session) -> None:
            await self._tell(session, what)

        await self._store.write(work)

    async def marks(self, mous: Collection[str]) -> Mapping[str, tuple[str | None, str | None]]:
        """Of those of these MOUSs that `alma_ouses` has: calibration_status and the version it came with."""

        async def work(session: Session) -> Mapping[str, tuple[str | None, str | None]]:
            rows = await session.rows(self._sql["marks"], rows=ids_json(mous))
            return {uid: (status, version) for uid, status, version in rows}

        return await self._store.read(work) if mous else {}

    async def mark(self, mous: str, status: str | None, version: str, now: datetime) -> bool:
        """Mark a MOUS (it is entered when it is not there) and its execution blocks, unless a newer version has."""

        async def work(session: Session) -> bool:
            values = {"mous": storable(mous), "status": status}
            made = await session.rows(self._sql["mark"], version=version, now=now, **values)
            if made:
                await session.rows(self._sql["mark_blocks"], **values)
            return bool(made)

        return await self._store.write(work)

    async def vlba_news(self, query: str) -> list[tuple[str, str | None, datetime | None]]:
        """What a site's query finds for the VLBA's queue. It stands within ours: what is no question is refused."""
        theirs = query.strip().rstrip(";")
        asked = f"select uid, project, source_time from (\n{theirs}\n) as news where uid is not null"  # noqa: S608

        async def work(session: Session) -> list[tuple[str, str | None, datetime | None]]:
            rows = await session.rows(asked)
            return [(str(uid), None if project is None else str(project), _moment(at)) for uid, project, at in rows]

        return await self._store.read(work)

    async def _value(self, key: str) -> str:
        async def work(session: Session) -> str:
            rows = await session.rows(self._sql["value"], key=key)
            if not rows:
                raise MetadataError(
                    f"The metadata database's tables lack their {key}.", "`aogconsole loader --once` makes it"
                )
            return str(rows[0][0])

        return await self._store.read(work)

    async def _tell(self, session: Session, what: str) -> None:
        """Wake others when this transaction is committed: a counter that is seen by polling, and what it has more."""
        await session.rows(self._sql["count_up"], key=f"woken.{what}")
        if notify := self._store.dialect.fragments.get("notify"):
            await session.rows(notify, what=what)

    async def _made(self, session: Session) -> None:
        """The tables are there and of our version now; inside the transaction that made them."""
        await session.rows(self._sql["set_value"], key="schema", value=str(len(self._migrations())))
        if not await session.rows(self._sql["value"], key="installation"):
            await session.rows(self._sql["set_value"], key="installation", value=str(uuid4()))

    def _migrations(self) -> list[str]:
        return migrations(self._store.dialect.name)


def _moment(value: object) -> datetime | None:
    """A time of a site's own table: a timestamp or ISO text, UTC where it names no zone. Raises MetadataError."""
    try:
        at = value if isinstance(value, datetime | None) else datetime.fromisoformat(str(value))
    except ValueError:
        raise MetadataError(
            f"'{clean(str(value)[:40])}' is not a time.", "source_time must be a timestamp, or text in ISO 8601"
        ) from None
    return at if at is None else at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
