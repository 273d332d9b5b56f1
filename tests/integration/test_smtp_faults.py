"""The mail server over TLS, with a log-in, out of reach, and gone in the middle of a long letter."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from aogconsole.errors import ConfigError, MailError
from backends.ports import Deferred, OutgoingMail, Refused, Sent
from backends.smtp import SmtpOutbox, SmtpSettings
from tests.support.smtp import DROP, HANG, PASSWORD, USER, Certificates, SmtpServer, make_certificates, smtp_server

SHORT = OutgoingMail("<1@b>", "aog@eso.org", ("a@b",), b"Subject: x\r\n\r\n.x\r\n")
LONG = OutgoingMail("<1@b>", "aog@eso.org", ("a@b",), b"Subject: x\r\n\r\n" + b"a line of the log\r\n" * 1_000_000)

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


def settings(server: SmtpServer, **changes: Any) -> SmtpSettings:
    """Plain settings for a private server, with changes."""
    return SmtpSettings(**{"host": server.host, "port": server.port, "tls": "none", "timeout": 5, **changes})


async def why_deferred(outbox: SmtpOutbox) -> tuple[str, str]:
    """Why the letter is deferred, which `ping` says too, with a hint; no intent was recorded."""
    commits: list[int] = []
    outcome = await outbox.send(SHORT, lambda: commits.append(1))
    assert isinstance(outcome, Deferred)
    with pytest.raises(MailError) as caught:
        await outbox.ping()
    assert (str(caught.value), commits) == (outcome.why, [])
    assert PASSWORD not in outcome.why
    return outcome.why, caught.value.hint


# ── connection and log-in ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_tls_and_login(tls: str, certificates: Certificates) -> None:
    """Over STARTTLS or TLS at once, with the site's authority and the right password, the letter goes."""
    secure: dict[str, Any] = {tls: certificates.context}
    with smtp_server(login=True, **secure) as server:
        outbox = SmtpOutbox(settings(server, tls=tls, ca=certificates.ca, user=USER, password=PASSWORD))
        assert await outbox.send(SHORT, lambda: None) == Sent("250 2.0.0 queued")
        assert [letter.data for letter in server.accepted] == [SHORT.data]
        assert f"answers over TLSv1.3, logged in as {USER}" in await outbox.ping()


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("trust", ["other", "system"])
async def test_wrong_authority(
    tls: str, trust: str, certificates: Certificates, other_certificates: Certificates
) -> None:
    """A certificate of an authority that we do not trust: nothing is sent, not even the password."""
    ca = other_certificates.ca if trust == "other" else None
    secure: dict[str, Any] = {tls: certificates.context}
    with smtp_server(login=True, **secure) as server:
        why, hint = await why_deferred(SmtpOutbox(settings(server, tls=tls, ca=ca, user=USER, password=PASSWORD)))
        assert "certificate" in why
        assert "mail.ca" in hint
        assert "AUTH" not in server.commands


async def test_certificate_of_another_host(tmp_path: Path) -> None:
    """A trusted certificate that names another host is not this server's."""
    elsewhere = make_certificates(tmp_path, host="127.0.0.2")
    with smtp_server(starttls=elsewhere.context) as server:
        why, _ = await why_deferred(SmtpOutbox(settings(server, tls="starttls", ca=elsewhere.ca)))
        assert "IP address mismatch" in why


async def test_no_starttls() -> None:
    """A server that offers no STARTTLS where it is wanted gets neither password nor letter."""
    with smtp_server(login=True) as server:
        why, _ = await why_deferred(SmtpOutbox(settings(server, tls="starttls", user=USER, password=PASSWORD)))
        assert "STARTTLS" in why
        assert "AUTH" not in server.commands


async def test_plain_server_behind_smtps() -> None:
    """TLS at once towards a server that speaks plainly fails with a hint at the kind of port."""
    with smtp_server() as server:
        why, hint = await why_deferred(SmtpOutbox(settings(server, tls="implicit")))
        assert "secure connection" in why
        assert "smtps://" in hint


async def test_wrong_password() -> None:
    """A refused log-in names the user, never the password, and where to correct it; the letter waits."""
    with smtp_server(login=True) as server:
        why, hint = await why_deferred(SmtpOutbox(settings(server, user=USER, password="wrong" + PASSWORD)))
        assert f"refuses the log-in of {USER}: 535" in why
        assert "outgoing_password" in hint


async def test_login_not_offered() -> None:
    """A server without log-in, where one is configured, is no place for the letter."""
    with smtp_server() as server:
        why, _ = await why_deferred(SmtpOutbox(settings(server, user=USER, password=PASSWORD)))
        assert "AUTH" in why


async def test_missing_authority_file(tmp_path: Path) -> None:
    """A CA file that is not there is said, and nothing is sent."""
    with smtp_server() as server:
        why, _ = await why_deferred(SmtpOutbox(settings(server, tls="starttls", ca=tmp_path / "none.pem")))
        assert "No such file" in why
        assert server.commands == []


async def test_unreachable() -> None:
    """Nobody listens: deferred, with the server's name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        why, _ = await why_deferred(SmtpOutbox(SmtpSettings("127.0.0.1", port, "none")))
    assert f"127.0.0.1:{port}" in why


async def test_silent_server() -> None:
    """A server that never greets is given up after the time limit, and the reason is the time."""
    with smtp_server({"greeting": HANG}) as server:
        why, _ = await why_deferred(SmtpOutbox(settings(server, timeout=0.2)))
        assert "did not answer in 0.2 s" in why


async def test_hostile_words_are_cleaned() -> None:
    """What a server says is shown on one line, shortened, without its controls."""
    with smtp_server({"MAIL": "550-\x1b]0;owned\x07\r\n550 " + "x" * 1000}) as server:
        outcome = await SmtpOutbox(settings(server)).send(SHORT, lambda: None)
        assert isinstance(outcome, Refused)
        assert "550 \\x1b]0;owned\\x07 xxx" in outcome.why
        assert outcome.why.isprintable()
        assert len(outcome.why) < 300


# ── a long letter ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("what", [DROP, HANG])
async def test_broken_in_a_long_letter(what: str) -> None:
    """The line breaks, or stands still, while the letter is under way: its end never left us, so it may go again."""
    with smtp_server({"data": what}) as server:
        commits: list[int] = []
        outcome = await SmtpOutbox(settings(server, timeout=0.2)).send(LONG, lambda: commits.append(1))
        assert isinstance(outcome, Deferred)
        assert "before the letter was complete" in outcome.why
        assert (server.accepted, commits) == ([], [1])


async def test_too_long_for_the_server() -> None:
    """A server that tells its limit refuses a longer letter by its size, before a byte of it has gone."""
    with smtp_server(limit=1000) as server:
        outcome = await SmtpOutbox(settings(server)).send(LONG, lambda: pytest.fail("nothing may be committed"))
        assert "552" in str(outcome)
        assert server.commands == ["EHLO", "MAIL", "QUIT"]


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled(turns: int) -> None:
    """A sending that is cancelled ends at once, whatever it waits for, and leaves nothing behind."""
    with smtp_server({"dot": HANG}) as server:
        begun = asyncio.Event()
        sending = asyncio.create_task(SmtpOutbox(settings(server)).send(SHORT, begun.set))
        await begun.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        sending.cancel()
        done, _ = await asyncio.wait({sending}, timeout=2)
        assert done == {sending}
        assert sending.cancelled()
        assert len(asyncio.all_tasks()) == 1


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://aog@smtp.example.org:587", ("smtp.example.org", 587, "starttls", "aog")),
        ("smtp://smtp.example.org:25?starttls=never", ("smtp.example.org", 25, "none", None)),
        ("smtp://127.0.0.1:1025", ("127.0.0.1", 1025, "none", None)),
        ("smtp://localhost", ("localhost", 587, "none", None)),
        ("smtp://[::1]:1025", ("::1", 1025, "none", None)),
        ("smtps://aog%40eso.org@smtp.example.org", ("smtp.example.org", 465, "implicit", "aog@eso.org")),
    ],
)
def test_settings_from_url(url: str, expected: tuple[object, ...]) -> None:
    """A URL tells server, port, kind of TLS and user."""
    made = SmtpSettings.from_url(url, PASSWORD)
    assert (made.host, made.port, made.tls, made.user) == expected
    assert PASSWORD not in repr(made)


@pytest.mark.parametrize(
    "url",
    [
        *("imap://x", "smtp://", "smtp://h:x", "smtp://h:99999", "smtp://a:pass-w0rd@h", "smtp://h?tls=no", ""),
        *("smtp://h?starttls=maybe", "smtp://[::1", "smtp://h#x", "smtp://h/x", "maildir:/x"),
    ],
)
def test_wrong_urls(url: str) -> None:
    """What is not the URL of a mail server, or holds a password, is an error that does not repeat it."""
    with pytest.raises(ConfigError) as caught:
        SmtpSettings.from_url(url)
    assert PASSWORD not in str(caught.value) + caught.value.hint
