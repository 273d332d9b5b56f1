"""An outside that does what the test says, at the very moment the engine waits for it: for races no server can time.

Only the ports are scripted; journal, desk and engine steps are the real ones. `meanwhile` is called while a call is
under way, so what it does falls between the engine's decision and its answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aogconsole.errors import MailError
from aogconsole.ids import AccountId, MousUid, ProjectCode, Ticket
from backends.ports import (
    ArchiveAnswer,
    ArchiveRow,
    Committing,
    Hello,
    HostRuns,
    OutgoingMail,
    RawMail,
    RemoteRun,
    SendOutcome,
    Sent,
    StagedDirectory,
    StartAnswer,
)

Meanwhile = Callable[[str], None]
"""What happens while a call is under way; gets the call's name. It may raise, and then the call does."""


def nothing(call: str) -> None:
    """Nothing happens meanwhile."""


@dataclass
class Archive:
    """An archive in which everybody is the PI of everything, and all is delivered."""

    meanwhile: Meanwhile = nothing
    asked: list[str] = field(default_factory=list)

    async def ask(self, mous: MousUid, account: AccountId, project: ProjectCode | None) -> ArchiveAnswer:
        """See ports.Archive."""
        self.asked.append(str(mous))
        self.meanwhile("ask")
        person: dict[str, str | int | datetime | None]
        person = {"account_id": account.value, "request_handler_id": 1, "email": "pi@example.org", "active": "T"}
        rows = (
            ArchiveRow("asked", {"value": str(project)}),
            ArchiveRow("asa", {"value": str(project), **person}),
            ArchiveRow("state", {"value": "Delivered"}),
            ArchiveRow("account", person),
            ArchiveRow("pi", {"value": str(project), **person}),
            ArchiveRow("delivery", {"value": "d", **person, "release_date": None}),
        )
        return ArchiveAnswer(rows, "0" * 12, 1)

    async def ping(self) -> str:
        """See ports.Archive."""
        return "1"


@dataclass
class Host:
    """A staging host with two free slots, on which nothing ever ends."""

    meanwhile: Meanwhile = nothing
    busy: bool = False
    started: list[tuple[str, str, str]] = field(default_factory=list)
    kept: list[tuple[str, bool]] = field(default_factory=list)
    there: tuple[StagedDirectory, ...] = ()
    asked_for_staged: int = 0

    async def hello(self, journal: str = "") -> Hello:
        """See ports.StagingHost."""
        return Hello("host", "user", "", "boot", journal, 2, 0, 1 << 40, None, {}, False)

    async def start(self, token: str, project: ProjectCode, mous: MousUid, ticket: Ticket) -> StartAnswer:
        """See ports.StagingHost."""
        self.meanwhile("start")
        if self.busy:
            return StartAnswer("busy", 0, 2)
        self.started.append((str(project), str(mous), str(ticket)))
        return StartAnswer("started")

    async def status(self, token: str) -> RemoteRun:
        """See ports.StagingHost."""
        return RemoteRun(token, "running" if self.started else "absent", slot=0)

    async def list(self) -> HostRuns:
        """See ports.StagingHost."""
        self.meanwhile("list")
        return HostRuns((), (), 2, 1 << 40)

    async def log(self, token: str, offset: int) -> AsyncIterator[bytes]:
        """See ports.StagingHost."""
        for _ in ():
            yield b""

    async def stop(self, token: str) -> RemoteRun:
        """See ports.StagingHost."""
        self.meanwhile("stop")
        return RemoteRun(token, "running")

    async def staged(self) -> tuple[StagedDirectory, ...]:
        """See ports.StagingHost."""
        self.asked_for_staged += 1
        return self.there

    async def keep(self, directory: str, keep: bool) -> None:
        """See ports.StagingHost."""
        self.meanwhile(f"keep {directory}")
        self.kept.append((directory, keep))

    async def close(self) -> None:
        """See ports.StagingHost."""


@dataclass
class Outbox:
    """A mail server that accepts everything."""

    meanwhile: Meanwhile = nothing
    certain: bool = False
    sent: list[OutgoingMail] = field(default_factory=list)

    async def send(self, mail: OutgoingMail, committing: Committing) -> SendOutcome:
        """See ports.Outbox."""
        self.meanwhile("connect")
        committing()
        self.sent.append(mail)
        self.meanwhile("answer")
        return Sent("250")

    async def ping(self) -> str:
        """See ports.Outbox."""
        return "1"


@dataclass
class Inbox:
    """A mailbox; what is `unreadable` in it comes as an error after the others."""

    name: str = "imap://aog@host/INBOX"
    mails: dict[str, bytes] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    cursors: list[str] = field(default_factory=list)

    async def unseen(self, known: Collection[str], cursor: str) -> AsyncIterator[RawMail]:
        """See ports.Inbox."""
        self.cursors.append(cursor)
        for source, raw in self.mails.items():
            if source not in {*known, *self.unreadable} and source > cursor:
                yield RawMail(source, datetime(2026, 11, 21, tzinfo=UTC), raw, len(raw))
        if self.unreadable:
            raise MailError("a mail cannot be read")

    async def ping(self) -> str:
        """See ports.Inbox."""
        return "fine"
