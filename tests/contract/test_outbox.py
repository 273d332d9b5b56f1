"""The outbox's contract: every outcome tells the truth about what the world accepted.

One suite over both adapters. Each case is a world (a mail server with a script, or a Maildir in some state), the
outcome it must give, and how many letters are there afterwards; `lies` holds what is true of every outcome, and a
careless outbox shows that it catches.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path

import aiosmtplib
import pytest

from aogconsole.errors import Conflict, MailError
from aogconsole.requests.letters import LetterRules, Original, link
from aogconsole.requests.message import finish
from backends.outbox_maildir import MaildirOutbox
from backends.ports import (
    Ambiguous,
    Committing,
    Deferred,
    Outbox,
    OutgoingMail,
    PartlyRefused,
    Refused,
    SendOutcome,
    Sent,
)
from backends.smtp import SmtpOutbox, SmtpSettings
from tests.support.smtp import DROP, HANG, QUEUE_AND_DROP, smtp_server

USER, HELPER, EXPERT = "user@uni.example", "helper@eso.org", "dpetry@eso.org"
NOW = datetime(2026, 11, 21, 14, 2, 11, tzinfo=UTC)
PATIENCE = 0.2
"""Seconds per step towards servers that hang, and never answer however long one waits."""


def letter(text: str = "{url}\n.\n..dots\nFrom {days}") -> OutgoingMail:
    """A link letter to three recipients, with lines that begin with dots."""
    rules = LetterRules("aog@eso.org", EXPERT, ("*@eso.org",), templates={"link": text})
    request = Original("<req@eso.org>", (), "ALMA: REQUEST", HELPER, ("aog@eso.org",), (EXPERT,), "", NOW)
    done = finish(link(request, USER, "http://x.example/1", 28, rules), "<1.abc@eso.org>", NOW, "1 ab", rules)
    return OutgoingMail(done.message_id, done.sender, done.recipients, done.data)


@dataclass
class Commits:
    """Counts the calls of `committing`, and what was there at the first."""

    there: Callable[[], int]
    seen: list[int] = field(default_factory=list)

    def __call__(self) -> None:
        self.seen.append(self.there())


@dataclass(frozen=True)
class Found:
    """A letter that the world has: its bytes with CRLF, and the recipients it will reach."""

    data: bytes
    recipients: tuple[str, ...]


def lies(mail: OutgoingMail, certain: bool, outcome: SendOutcome, found: list[Found], commits: Commits) -> list[str]:
    """What an outcome claims and the world denies."""
    wrong = []
    if len(found) > 1:
        wrong.append("the letter is there more than once")
    if any(one.data != mail.data for one in found):
        wrong.append("another letter than ours is there")
    if len(commits.seen) > 1:
        wrong.append("the intent was recorded more than once")
    if any(commits.seen) or (found and not commits.seen):
        wrong.append("the letter was there before the intent was recorded")
    match outcome:
        case Sent():
            told: set[str] | None = set(mail.recipients)
        case PartlyRefused(refused):
            told = set(mail.recipients) - set(refused)
        case Deferred() | Refused():
            told = set()
        case Ambiguous():
            told = None
            if certain or not commits.seen:
                wrong.append("ambiguous, where it cannot be")
    if told is not None and {address for one in found for address in one.recipients} != told:
        wrong.append(f"{type(outcome).__name__}, but {len(found)} letters are there")
    return wrong


# ── SMTP ─────────────────────────────────────────────────────────────────────────────────────────────────────

ALL = {f"RCPT {address}": "550 5.1.1 no such user" for address in (USER, HELPER, EXPERT)}
SCRIPTS: dict[str, tuple[dict[str, str], type, int]] = {
    "all is well": ({}, Sent, 1),
    "multi-line answers": ({"dot": "250-first\r\n250-second\r\n250 third"}, Sent, 1),
    "one recipient refused": ({f"RCPT {EXPERT}": "550 5.1.1 no such user"}, PartlyRefused, 1),
    "all recipients refused": (ALL, Refused, 0),
    "refused and later": ({**ALL, f"RCPT {EXPERT}": "451 4.7.1 greylisted"}, Deferred, 0),
    "one recipient later": ({f"RCPT {HELPER}": "451 4.7.1 greylisted"}, Deferred, 0),
    "busy at a recipient": ({f"RCPT {HELPER}": "421 4.3.2 closing"}, Deferred, 0),
    "sender later": ({"MAIL": "451 4.7.1 later"}, Deferred, 0),
    "sender refused": ({"MAIL": "550 5.7.1 not you"}, Refused, 0),
    "no service": ({"greeting": "554 5.3.2 no service"}, Deferred, 0),
    "no EHLO": ({"EHLO": "550 who?"}, Deferred, 0),
    "DATA later": ({"DATA": "451 4.3.0 later"}, Deferred, 0),
    "DATA refused": ({"DATA": "554 5.7.1 no"}, Refused, 0),
    "letter later": ({"dot": "451 4.3.0 later"}, Deferred, 0),
    "letter later, and closing": ({"dot": "421 4.3.2 closing"}, Deferred, 0),
    "letter refused": ({"dot": "554 5.6.0 spam"}, Refused, 0),
    "drop at greeting": ({"greeting": DROP}, Deferred, 0),
    "drop at EHLO": ({"EHLO": DROP}, Deferred, 0),
    "drop at MAIL": ({"MAIL": DROP}, Deferred, 0),
    "drop at RCPT": ({f"RCPT {USER}": DROP}, Deferred, 0),
    "drop after RCPT": ({"DATA": DROP}, Deferred, 0),
    "drop in a short letter": ({"data": DROP}, Ambiguous, 0),
    "drop after the dot": ({"dot": DROP}, Ambiguous, 0),
    "drop after the dot, queued": ({"dot": QUEUE_AND_DROP}, Ambiguous, 1),
    "drop at QUIT": ({"QUIT": DROP}, Sent, 1),
    "odd answer at QUIT": ({"QUIT": "500 what?"}, Sent, 1),
    "hang at greeting": ({"greeting": HANG}, Deferred, 0),
    "hang at EHLO": ({"EHLO": HANG}, Deferred, 0),
    "hang at MAIL": ({"MAIL": HANG}, Deferred, 0),
    "hang at RCPT": ({f"RCPT {EXPERT}": HANG}, Deferred, 0),
    "hang at DATA": ({"DATA": HANG}, Deferred, 0),
    "hang in a short letter": ({"data": HANG}, Ambiguous, 0),
    "hang after the dot": ({"dot": HANG}, Ambiguous, 0),
    "hang at QUIT": ({"QUIT": HANG}, Sent, 1),
    "garbage at greeting": ({"greeting": "HTTP/1.1 400 Bad Request"}, Deferred, 0),
    "garbage at MAIL": ({"MAIL": "?"}, Deferred, 0),
    "garbage at RCPT": ({f"RCPT {HELPER}": "\x1b[2J"}, Deferred, 0),
    "garbage at DATA": ({"DATA": "250 thanks"}, Deferred, 0),
    "garbage after the dot": ({"dot": "thanks"}, Ambiguous, 0),
    "odd code after the dot": ({"dot": "354 more"}, Ambiguous, 0),
    "huge answer at RCPT": ({f"RCPT {USER}": "550 " + "x" * 100_000}, Deferred, 0),
    "huge answer after the dot": ({"dot": "x" * 100_000}, Ambiguous, 0),
    "endless answer": ({"MAIL": "250-x\r\n" * 20_000}, Deferred, 0),
}


@dataclass
class World:
    """An outbox, and a look at what it brought about."""

    outbox: Outbox
    found: Callable[[], list[Found]]


@contextmanager
def smtp_world(script: dict[str, str], make: Callable[[SmtpSettings], Outbox] = SmtpOutbox) -> Iterator[World]:
    """A mail server with a script, and an outbox that talks to it."""
    with smtp_server(script) as server:
        hangs = next((stage for stage, answer in script.items() if answer == HANG), None)
        # long enough to come as far as the stage that hangs, on a busy machine too
        timeout = 5.0 if hangs is None else 0.5 if hangs in ("data", "dot", "QUIT") else PATIENCE
        outbox = make(SmtpSettings(server.host, server.port, "none", timeout=timeout))
        yield World(outbox, lambda: [Found(one.data, one.recipients) for one in server.accepted])


async def sent_once(world: World, mail: OutgoingMail) -> tuple[SendOutcome, list[str]]:
    """Send one letter; the outcome, and its lies."""
    commits = Commits(lambda: len(world.found()))
    outcome = await asyncio.wait_for(world.outbox.send(mail, commits), 30)
    return outcome, lies(mail, world.outbox.certain, outcome, world.found(), commits)


@pytest.mark.parametrize("case", SCRIPTS)
async def test_smtp(case: str) -> None:
    """Whatever the mail server does: the outcome that the case must have, and no lie in it."""
    script, kind, number = SCRIPTS[case]
    with smtp_world(script) as world:
        outcome, wrong = await sent_once(world, letter())
        assert wrong == []
        assert (type(outcome), len(world.found())) == (kind, number)


async def test_refused_recipients_are_named() -> None:
    """A partial refusal tells which address, and the server's words."""
    with smtp_world({f"RCPT {EXPERT}": "550-5.1.1 no\r\n550 such user"}) as world:
        outcome, _ = await sent_once(world, letter())
        assert outcome == PartlyRefused({EXPERT: "550 5.1.1 no such user"})


class CarelessOutbox(SmtpOutbox):
    """What one writes first: any trouble means "try again", and the intent is recorded when all is over."""

    def __init__(self, settings: SmtpSettings) -> None:
        super().__init__(settings)
        self._where = settings

    async def send(self, mail: OutgoingMail, committing: Committing) -> SendOutcome:
        """Send, and hope."""
        its = self._where
        client = aiosmtplib.SMTP(hostname=its.host, port=its.port, timeout=its.timeout, start_tls=False)
        try:
            async with client:
                await client.sendmail(mail.sender, mail.recipients, mail.data)
        except (aiosmtplib.SMTPException, OSError) as error:
            return Deferred(str(error))
        committing()
        return Sent()


@pytest.mark.parametrize("case", ["all is well", "one recipient refused", "drop after the dot, queued"])
async def test_a_careless_outbox_is_caught(case: str) -> None:
    """The suite sees the letter sent without a recorded intent, the unnoticed refusal, and the letter sent twice."""
    with smtp_world(SCRIPTS[case][0], CarelessOutbox) as world:
        _, wrong = await sent_once(world, letter())
        assert wrong != []


# ── Maildir ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def filed(tmp_path: Path) -> Path:
    """Where a Maildir will be; it is not there yet."""
    return tmp_path / "filed"


def maildir_world(path: Path) -> World:
    """An outbox that files letters there."""
    return World(MaildirOutbox(path), lambda: list(map(_found, [*path.glob("new/*"), *path.glob("cur/*")])))


def _found(file: Path) -> Found:
    data = file.read_bytes()
    head = message_from_bytes(data)
    listed = f"{head['To']},{head['Cc']}".split(",")
    return Found(data.replace(b"\n", b"\r\n"), tuple(address.strip() for address in listed))


def names(path: Path) -> list[str]:
    """All files of a Maildir, those in tmp/ too."""
    return [file.name for file in path.glob("*/*")]


async def file_it(path: Path) -> str:
    """File the letter; the name it got."""
    outcome, wrong = await sent_once(maildir_world(path), letter())
    assert wrong == []
    (name,) = names(path)
    assert outcome == Sent(f"filed as {name}")
    return name


async def is_filed_before(path: Path) -> None:
    """File the letter again: it is found, no intent is recorded, and it is there once."""
    commits = Commits(lambda: 0)
    world = maildir_world(path)
    assert await world.outbox.send(letter(), commits) == Sent("filed before")
    assert (len(names(path)), world.found()[0].data, commits.seen) == (1, letter().data, [])


async def test_maildir_files_once(filed: Path) -> None:
    """The letter is there once, however often it is filed."""
    await file_it(filed)
    await is_filed_before(filed)
    await is_filed_before(filed)


@pytest.mark.parametrize("renamed", ["cur/{}", "cur/{}:2,", "cur/{}:2,RS", "cur/{},S=123,W=130:2,S"])
async def test_maildir_finds_what_a_reader_renamed(filed: Path, renamed: str) -> None:
    """A letter that a mail reader has moved and flagged is still the same letter."""
    name = await file_it(filed)
    (filed / "new" / name).rename(filed / renamed.format(name))
    await is_filed_before(filed)


async def test_maildir_replaces_a_killed_attempt(filed: Path) -> None:
    """What a killed attempt left in tmp/ is replaced, and nothing of it shows."""
    name = await file_it(filed)
    (filed / "new" / name).unlink()
    left = filed / "tmp" / f"{name}.{os.getuid()}"
    left.write_bytes(b"half a letter" * 1000)
    assert await file_it(filed) == name
    await is_filed_before(filed)


async def test_maildir_many_at_once(filed: Path) -> None:
    """Ten at once file one letter; who came too late says so, and finds it the next time."""
    outbox = maildir_world(filed).outbox
    outcomes = await asyncio.gather(*(outbox.send(letter(), Commits(lambda: 0)) for _ in range(10)))
    assert {type(outcome) for outcome in outcomes} <= {Sent, Deferred}
    await is_filed_before(filed)


async def test_maildir_disk_full(filed: Path) -> None:
    """No room: deferred with the reason, nothing of the letter there, and it is filed once there is room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    big = letter("{url} {days}\n" + "x" * (2 << 20))
    try:
        outcome, wrong = await sent_once(maildir_world(filed), big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert wrong == []
    assert isinstance(outcome, Deferred)
    assert "File too large" in outcome.why
    assert names(filed) == []
    assert (await sent_once(maildir_world(filed), big))[1] == []


async def test_maildir_cannot_be_made(tmp_path: Path) -> None:
    """No folder to make the Maildir in: deferred with the reason; `ping` says so beforehand."""
    filed = tmp_path / "no" / "filed"
    world = maildir_world(filed)
    outcome, wrong = await sent_once(world, letter())
    assert wrong == []
    assert isinstance(outcome, Deferred)
    assert str(filed) in outcome.why
    with pytest.raises(MailError, match="cannot be filed"):
        await world.outbox.ping()


async def test_maildir_ping_changes_nothing(filed: Path, tmp_path: Path) -> None:
    """`ping` tells where letters go, before and after the first one, and leaves nothing behind."""
    outbox = maildir_world(filed).outbox
    assert await outbox.ping() == f"letters are filed in {filed}"
    assert not any(map(names, [tmp_path, filed]))
    await file_it(filed)
    assert await outbox.ping() == f"letters are filed in {filed}"


# ── both ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("which", ["smtp", "maildir"])
async def test_somebody_else_acted(which: str, filed: Path) -> None:
    """When the intent cannot be recorded the error is passed on, and nothing is sent."""

    def conflict() -> None:
        raise Conflict("changed by somebody else")

    with smtp_world({}) as smtp:
        world = smtp if which == "smtp" else maildir_world(filed)
        with pytest.raises(Conflict):
            await world.outbox.send(letter(), conflict)
        assert world.found() == []
        outcome, wrong = await sent_once(world, letter())
        assert (type(outcome), wrong) == (Sent, [])


@pytest.mark.parametrize(
    "mail",
    [
        OutgoingMail("<1@b>", "aog@eso.org", (), b"A: b\r\n\r\nx\r\n"),
        OutgoingMail("<1@b>", "aog@eso.org>\r\nRCPT TO:<x@y", ("a@b",), b"A: b\r\n\r\nx\r\n"),
        OutgoingMail("<1@b>", "aog@eso.org", ("a@b> NOTIFY=NEVER",), b"A: b\r\n\r\nx\r\n"),
        OutgoingMail("<1@b>", "aog@eso.org", ("a@b",), b"A: b\r\n\r\nx\n.\nMAIL FROM:<x@y>\r\n"),
        OutgoingMail("<1@b>", "aog@eso.org", ("a@b",), b"A: b\r\n\r\nx\r.\r\r\n"),
        OutgoingMail("<1@b>", "aog@eso.org", ("a@b",), b"A: b\r\n\r\nx"),
    ],
)
async def test_smtp_smuggling(mail: OutgoingMail) -> None:
    """Addresses or line ends that could say more than one thing to a server are refused before it is called."""
    with smtp_server() as server:
        outbox = SmtpOutbox(SmtpSettings(server.host, server.port, "none"))
        assert isinstance(await outbox.send(mail, Commits(lambda: 0)), Refused)
        assert (server.accepted, server.commands) == ([], [])
