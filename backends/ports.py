"""The outside world as the services see it: small Protocols, and the values that cross them.

Adapters raise `OutsideError` (one of its subclasses) when they could not ask: that is *unknown*, never a no.
Every call is bounded in time by its adapter. Nothing here imports a library of a server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from aogconsole.ids import AccountId, MousUid, ProjectCode, Ticket

# ── the ALMA archive ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ArchiveRow:
    """One row of the entitlement statement: which fact it speaks of, and its columns (see the .sql file)."""

    fact: str
    values: Mapping[str, str | int | datetime | None]


@dataclass(frozen=True)
class ArchiveAnswer:
    """All rows of one entitlement statement, and how they were got."""

    rows: tuple[ArchiveRow, ...]
    query_version: str
    """First 12 hex digits of the SHA-256 of the statement's text."""
    took_ms: int
    """From connecting to the last row, by the monotonic clock."""


class Archive(Protocol):
    """The ALMA archive (Oracle), read only. One connection and one statement per question."""

    async def ask(self, mous: MousUid, account: AccountId, project: ProjectCode | None) -> ArchiveAnswer:
        """All facts that the entitlement decision needs. Raises ArchiveError."""
        ...

    async def ping(self) -> str:
        """Log in, ask nothing that matters; returns the server's version. Raises ArchiveError."""
        ...


# ── the staging host ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Hello:
    """What the staging host says of itself."""

    host: str
    user: str
    operator: str
    boot_id: str
    journal: str
    """Id of the journal that owns the run folder; empty while nobody does."""
    slots: int
    time: int
    """The host's clock, seconds since 1970: shown beside ours by `doctor`, never compared for decisions."""
    disk_free: int
    """Bytes free where the run folder is."""
    web_free: int | None
    """Bytes free under the web root; None when it is not there."""
    tools: Mapping[str, bool]
    """flock, setsid, tail, and the staging command itself: found or not."""
    kill_user_processes: bool
    """logind's KillUserProcesses=yes: detached runs would die at log-out."""
    filesystem: str = ""
    """Type of the run folder's file system ("nfs" is no place for locks)."""


@dataclass(frozen=True)
class StartAnswer:
    """What became of a start. `busy` left nothing behind; `already` means this token was started before."""

    outcome: Literal["started", "already", "busy"]
    ours: int = 0
    """Slots taken by our runs (of `busy`)."""
    foreign: int = 0
    """stagecalms runs started by hand (of `busy`)."""


RemoteState = Literal["absent", "starting", "running", "exited", "lost"]


@dataclass(frozen=True)
class RemoteRun:
    """One run as the staging host has it. `absent`: the token was never started (or its folder is gone)."""

    token: str
    state: RemoteState
    log_bytes: int = 0
    exit_status: int | None = None
    ended_ago: int | None = None
    """Seconds between its end and this answer, both by the host's clock; None when it has not ended or is not told."""
    slot: int | None = None
    """Slot number from 0."""
    pid: int | None = None
    boot_id: str = ""
    stopped_by: str = ""
    """Operator who asked for the stop; empty when nobody did."""
    why: str = ""
    """Of `lost`: what the host knows (`reboot`, `killed`)."""


@dataclass(frozen=True)
class ForeignRun:
    """A stagecalms that somebody started by hand: shown and counted, never touched."""

    pid: int
    command: str
    """Its command line, shortened; untrusted text."""


@dataclass(frozen=True)
class HostRuns:
    """Everything that runs on the staging host, and what room there is for more."""

    runs: tuple[RemoteRun, ...]
    """Ours that have not ended, lost ones too."""
    foreign: tuple[ForeignRun, ...]
    free: int
    """How many more may be started now: slots, less ours, less those started by hand; not below 0."""
    room: int
    """Bytes free for logs and, where the web root is there, for staged data: the lesser of the two."""


@dataclass(frozen=True)
class StagedDirectory:
    """A directory of staged data below the web root."""

    name: str
    """32 hex digits. Whoever has it can download: a secret in logs."""
    kept: bool
    """It holds a `.donotremove`."""
    since: int | None = None
    """Seconds since 1970 by the host's clock: from then on its days are counted."""


class StagingHost(Protocol):
    """aogremote's verbs over SSH. Raises StagingError (HostKeyUnknown, HostKeyChanged)."""

    async def hello(self, journal: str = "") -> Hello:
        """Ask the host who it is. With `journal`, an unowned run folder is claimed for it."""
        ...

    async def start(self, token: str, project: ProjectCode, mous: MousUid, ticket: Ticket) -> StartAnswer:
        """Start the staging command detached, once per token however often this is called."""
        ...

    async def status(self, token: str) -> RemoteRun:
        """How a run is."""
        ...

    async def list(self) -> HostRuns:
        """All runs, those started by hand too."""
        ...

    def log(self, token: str, offset: int) -> AsyncIterator[bytes]:
        """The run's output from byte `offset` on, as it comes; ends when the run's program has ended, or raises."""
        ...

    async def stop(self, token: str) -> RemoteRun:
        """End our own process group, politely then by force; returns how the run then is."""
        ...

    async def staged(self) -> tuple[StagedDirectory, ...]:
        """The staged directories below the web root."""
        ...

    async def keep(self, directory: str, keep: bool) -> None:
        """Put a `.donotremove` into a staged directory, or take it out."""
        ...

    async def close(self) -> None:
        """End the connection; runs go on."""
        ...


# ── mail ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class RawMail:
    """A mail as the mailbox holds it."""

    source: str
    """Key within the inbox, stable over restarts: `imap:UIDVALIDITY:UID`, `maildir:BASENAME`, `file:...`."""
    received_at: datetime
    """IMAP INTERNALDATE or the file's time, aware UTC; never the Date: header."""
    raw: bytes
    """The whole mail, or its first part when it is larger than the limit."""
    size: int
    """Its full size in bytes."""


class Inbox(Protocol):
    """The mailbox requests arrive in. Reading changes nothing in it."""

    name: str
    """Without password; stands in the journal as the inbox's key."""

    def unseen(self, known: Collection[str], cursor: str) -> AsyncIterator[RawMail]:
        """Mails whose source is not among `known`; `cursor` is what the last mail's source was. Raises MailError."""
        ...

    async def ping(self) -> str:
        """Log in and look; returns a sentence. Raises MailError."""
        ...


@dataclass(frozen=True)
class OutgoingMail:
    """A finished letter: the bytes that go out, and the envelope, passed explicitly."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    data: bytes
    """RFC 5322 with CRLF, built and re-parsed by requests.letters."""


@dataclass(frozen=True)
class Sent:
    """Accepted for every recipient."""

    detail: str = ""


@dataclass(frozen=True)
class PartlyRefused:
    """Accepted, but not for all: address to the server's words."""

    refused: Mapping[str, str]


@dataclass(frozen=True)
class Deferred:
    """Definitely not accepted now (4xx, or no connection before the data): the same letter may be tried again."""

    why: str


@dataclass(frozen=True)
class Refused:
    """Definitely not accepted (5xx): a person decides."""

    why: str


@dataclass(frozen=True)
class Ambiguous:
    """The line broke after the data: it may have been accepted. Never again without a person."""

    why: str


SendOutcome = Sent | PartlyRefused | Deferred | Refused | Ambiguous


class Outbox(Protocol):
    """Where letters leave."""

    certain: bool
    """True when a letter can be found again by its Message-ID (Maildir): sending is never ambiguous."""

    async def send(self, mail: OutgoingMail, committing: Committing) -> SendOutcome:
        """Send or file one letter. `committing` is called right before the step after which it may be accepted."""
        ...

    async def ping(self) -> str:
        """Connect and log in, send nothing; returns a sentence. Raises MailError."""
        ...


class Committing(Protocol):
    """Records the intent; after it returned, a crash leaves the letter `ambiguous`."""

    def __call__(self) -> None:
        """Commit the intent; raises when somebody else acted, and then nothing is sent."""
        ...
