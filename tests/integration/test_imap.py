"""The IMAP inbox against a real Dovecot."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aogconsole.errors import ConfigError, MailError
from backends.imap import ImapInbox
from backends.ports import RawMail
from tests.support.dovecot import ImapMailbox

MAIL = b"From: helper@eso.org\r\nTo: aog@eso.org\r\nSubject: %s\r\nMessage-ID: <%s@eso.org>\r\n\r\nDear AOG\r\n"


def numbered(number: int) -> bytes:
    """A mail of its own."""
    return MAIL % (b"mail %d" % number, b"m%d" % number)


async def read(inbox: ImapInbox, cursor: str = "", known: frozenset[str] = frozenset()) -> list[RawMail]:
    """Everything unseen."""
    return [mail async for mail in inbox.unseen(known, cursor)]


def state_of(folder: Path) -> str:
    """Names and bytes of all mails in a Maildir."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*/*")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


async def test_reads_new_mails_once_and_in_order(imap_mailbox: ImapMailbox) -> None:
    """Mails come in the order of their UIDs with the server's time; the cursor leaves out what was read."""
    inbox = ImapInbox(imap_mailbox.url, imap_mailbox.password)
    assert await read(inbox) == []
    imap_mailbox.deliver(numbered(1), arrived=1_700_000_000)
    first = await read(inbox)
    assert [mail.raw for mail in first] == [numbered(1)]
    assert first[0].received_at == datetime.fromtimestamp(1_700_000_000, UTC)
    assert first[0].size == len(numbered(1))
    imap_mailbox.deliver(numbered(2))
    imap_mailbox.deliver(numbered(3))
    more = await read(inbox, first[0].source)
    assert {mail.raw for mail in more} == {numbered(2), numbered(3)}
    assert await read(inbox, more[-1].source) == []
    assert await read(inbox, "", frozenset(mail.source for mail in first + more)) == []


async def test_reading_changes_nothing(imap_mailbox: ImapMailbox) -> None:
    """No mail is marked as seen or changed."""
    imap_mailbox.deliver(numbered(1))
    inbox = ImapInbox(imap_mailbox.url, imap_mailbox.password)
    await read(inbox)
    before = state_of(imap_mailbox.maildir)
    assert len(await read(inbox)) == 1
    assert "1 mails" in await inbox.ping()
    assert state_of(imap_mailbox.maildir) == before
    assert not [path for path in (imap_mailbox.maildir / "cur").iterdir() if path.name.partition(":2,")[2]]


async def test_a_mail_that_the_server_cannot_give_out_holds_up_no_other(imap_mailbox: ImapMailbox) -> None:
    """One whose name lies about its size makes Dovecot hang up: the others come all the same, and then the error."""
    for number in range(1, 8):
        imap_mailbox.deliver(numbered(number), arrived=1_700_000_000 + number)
    for path in sorted((imap_mailbox.maildir / "new").iterdir())[:4]:
        path.rename(path.with_name(f"{path.name},S=5"))
    inbox, got = ImapInbox(imap_mailbox.url, imap_mailbox.password), set[bytes]()

    async def look() -> None:
        async for mail in inbox.unseen(frozenset(), ""):
            got.add(mail.raw)

    for _ in range(2):  # four in a row are more than it takes for the mails' fault: they come last the next time
        with pytest.raises(MailError):
            await look()
    assert got == {numbered(number) for number in (5, 6, 7)}


async def test_another_uidvalidity_reads_everything_again(imap_mailbox: ImapMailbox) -> None:
    """After a change of UIDVALIDITY the old cursor and the old keys say nothing."""
    for number in range(3):
        imap_mailbox.deliver(numbered(number))
    inbox = ImapInbox(imap_mailbox.url, imap_mailbox.password)
    before = await read(inbox)
    imap_mailbox.renumber()
    after = await read(inbox, before[-1].source, frozenset(mail.source for mail in before))
    assert sorted(mail.raw for mail in after) == sorted(mail.raw for mail in before)
    assert not {mail.source for mail in before} & {mail.source for mail in after}


async def test_an_oversized_mail_is_read_in_part(imap_mailbox: ImapMailbox) -> None:
    """Only the first bytes are fetched; the full size is told."""
    imap_mailbox.deliver(numbered(1) + b"x" * 100_000)
    imap_mailbox.deliver(b"")
    inbox = ImapInbox(imap_mailbox.url, imap_mailbox.password, limit=500)
    mails = {mail.size: mail.raw for mail in await read(inbox)}
    assert {size: len(raw) for size, raw in mails.items()} == {len(numbered(1)) + 100_000: 500, 0: 0}


async def test_tls_with_an_own_authority(imap_mailbox: ImapMailbox) -> None:
    """With the authority named the mailbox is read over TLS; without it, its certificate is not trusted."""
    imap_mailbox.deliver(numbered(1))
    inbox = ImapInbox(imap_mailbox.tls_url, imap_mailbox.password, str(imap_mailbox.server.ca))
    assert len(await read(inbox)) == 1
    with pytest.raises(MailError, match="is not trusted") as caught:
        await read(ImapInbox(imap_mailbox.tls_url, imap_mailbox.password))
    assert "mail.ca" in caught.value.hint
    for unusable in ("/absent.pem", __file__):
        with pytest.raises(ConfigError, match=r"mail\.ca cannot be used"):
            await read(ImapInbox(imap_mailbox.tls_url, imap_mailbox.password, unusable))


async def test_starttls_beyond_loopback(imap_mailbox: ImapMailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """`imap://` changes to TLS before the password is said, and checks the certificate, unless on loopback."""
    monkeypatch.setattr("backends.imap._Address.loopback", False)
    inbox = ImapInbox(imap_mailbox.url, imap_mailbox.password, str(imap_mailbox.server.ca))
    assert "opened" in await inbox.ping()
    with pytest.raises(MailError, match="is not trusted"):
        await ImapInbox(imap_mailbox.url, imap_mailbox.password).ping()


async def test_faults_are_told_apart(imap_mailbox: ImapMailbox) -> None:
    """A wrong password, a missing mailbox, a server that is not there or speaks no TLS: one sentence each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"imap://aog@127.0.0.1:{free.getsockname()[1]}/INBOX"
        cases = {
            "refuses the log-in of aog": (imap_mailbox.url, "wrong pässword"),
            "refuses the log-in": (imap_mailbox.url, "wrong"),
            "has no mailbox Absent": (imap_mailbox.url.replace("INBOX", "Absent"), imap_mailbox.password),
            "cannot be reached": (closed, "x"),
            "is unknown": ("imaps://aog@imap.invalid/INBOX", "x"),
            "does not speak TLS": (imap_mailbox.url.replace("imap:", "imaps:"), "x"),
        }
        for sentence, (url, password) in cases.items():
            with pytest.raises(MailError, match=sentence) as caught:
                await ImapInbox(url, password).ping()
            assert caught.value.hint
            assert "\n" not in str(caught.value)
            assert password == "x" or password not in str(caught.value)


def test_a_silent_server_holds_up_no_exit() -> None:
    """Whoever is cancelled while the server says nothing is gone; the time-out is for those who wait."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        inbox = ImapInbox(f"imap://aog@127.0.0.1:{silent.getsockname()[1]}/INBOX", "x")

        async def give_up() -> None:
            asking = asyncio.create_task(inbox.ping())
            line, _ = await asyncio.to_thread(silent.accept)
            asking.cancel()
            await asyncio.wait({asking})
            lines.append(line)

        lines: list[socket.socket] = []
        loop = threading.Thread(target=asyncio.run, args=(give_up(),), daemon=True)
        loop.start()
        loop.join(10)
        assert not loop.is_alive()
        lines.pop().close()


@pytest.fixture
async def silent_port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A port whose server accepts and says nothing; the time-outs are short."""
    monkeypatch.setattr("backends.imap._SILENCE", 0.3)

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closing.wait()
        writer.close()

    closing = asyncio.Event()
    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    closing.set()
    server.close()
    await server.wait_closed()


async def test_a_silent_server_is_given_up(silent_port: int) -> None:
    """A server that accepts and never answers costs the time-out, not the console."""
    with pytest.raises(MailError, match="does not answer in time"):
        await asyncio.wait_for(ImapInbox(f"imap://aog@127.0.0.1:{silent_port}/INBOX", "x").ping(), 10)


@pytest.mark.parametrize(
    "url",
    ["imap://", "http://aog@host/INBOX", "imaps://host/INBOX", "imaps://u:secret@host/INBOX", "imaps://u@host:x/"],
)
def test_a_wrong_url_is_a_configuration_error(url: str) -> None:
    """Said before any connection, and never with the password in the sentence."""
    with pytest.raises(ConfigError) as caught:
        ImapInbox(url, "x")
    assert caught.value.hint
    assert "secret" not in str(caught.value)


def test_the_name_is_canonical() -> None:
    """The inbox's key names user, host, port and folder, percent-encoded, and no password."""
    assert ImapInbox("imaps://aog%40eso.org@imap.eso.org", "x").name == "imaps://aog%40eso.org@imap.eso.org:993/INBOX"
