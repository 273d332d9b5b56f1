"""Letters leave by SMTP, and every way a sending can end is told apart (reliability F7).

aiosmtplib does the talking; the transaction is driven step by step, so that we know at each moment whether the
letter may have been accepted. Not before its last line, the lone dot, was handed to the connection: a line broken
earlier is a definite no, a line broken later is ambiguous, until the server answers.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPSenderRefused,
)
from aiosmtplib.protocol import SMTPProtocol

from aogconsole.errors import ConfigError, MailError
from aogconsole.requests.addresses import is_address
from aogconsole.text import clean
from backends.ports import Ambiguous, Committing, Deferred, OutgoingMail, PartlyRefused, Refused, SendOutcome, Sent

_LATE = 10
"""The server may take this many times longer to accept a whole letter than to answer a command (RFC 5321, 4.5.3.2)."""
_PORTS = {"smtp": 587, "smtps": 465}


@dataclass(frozen=True)
class SmtpSettings:
    """Where the mail server is, and how to talk to it."""

    host: str
    port: int = 587
    tls: Literal["implicit", "starttls", "none"] = "starttls"
    user: str | None = None
    password: str = field(default="", repr=False)
    ca: Path | None = None
    """PEM file of the certificates to trust instead of the system's."""
    timeout: float = 60
    """Seconds for each step; ten times that for the letter itself."""
    helo: str | None = None
    """Our own name for EHLO; the host's name when it has a domain, an address literal otherwise."""

    @classmethod
    def from_url(cls, url: str, password: str = "", ca: Path | None = None) -> Self:
        """Read `smtp://user@host:587` (STARTTLS, unless loopback or `?starttls=never`) or `smtps://` (TLS at once).

        The user is percent-encoded. Raises ConfigError.
        """
        hint = "write smtp://user@host:587, or smtps://user@host:465; the password is a setting of its own"
        try:
            parts = urlsplit(url)
            options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ConfigError("mail.outgoing is not a URL", hint) from None
        wrong = parts.password is not None or parts.path not in ("", "/") or parts.fragment
        if parts.scheme not in _PORTS or not host or wrong or options not in ({}, {"starttls": ["never"]}):
            raise ConfigError("mail.outgoing is not the URL of a mail server", hint)
        tls: Literal["implicit", "starttls", "none"] = "none" if options or _is_loopback(host) else "starttls"
        if parts.scheme == "smtps":
            tls = "implicit"
        user = unquote(parts.username) if parts.username else None
        return cls(host, port or _PORTS[parts.scheme], tls, user, password, ca)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class SmtpOutbox:
    """An Outbox that hands letters to a mail server, one connection per letter."""

    certain = False

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._server = f"{settings.host}:{settings.port}"

    async def send(self, mail: OutgoingMail, committing: Committing) -> SendOutcome:
        """Hand one letter over; `committing` is called right before DATA, and what it raises is passed on."""
        if why := _unsafe(mail):
            return Refused(why)
        try:
            client = await self._connect()
        except MailError as error:
            return Deferred(str(error))
        try:
            outcome = await self._transaction(client, mail, committing)
        except BaseException:
            _cut(client.transport)
            raise
        await self._leave(client)
        return outcome

    async def ping(self) -> str:
        """Connect, log in and leave; returns a sentence. Raises MailError."""
        client = await self._connect()
        secure = client.get_transport_info("ssl_object") if client.is_connected else None
        await self._leave(client)
        how = f"over {secure.version()}" if secure else "without encryption"
        who = f", logged in as {self._settings.user}" if self._settings.user else ""
        return f"{self._server} answers {how}{who}"

    # ── the connection ───────────────────────────────────────────────────────────────────────────────────────

    async def _connect(self) -> SMTP:
        """Connect, secure the connection, log in. Raises MailError."""
        its = self._settings
        name = its.helo or socket.gethostname()
        try:
            client = SMTP(
                hostname=its.host,
                port=its.port,
                username=its.user,
                password=its.password if its.user else None,
                local_hostname=name if "." in name else "[127.0.0.1]",
                timeout=None,
                use_tls=its.tls == "implicit",
                start_tls=its.tls == "starttls",
                tls_context=None if its.tls == "none" else await asyncio.to_thread(_trust, its.ca),
            )
            async with self._patience():
                await client.connect()
                if client.is_ehlo_or_helo_needed:
                    await client.ehlo()
        except (SMTPException, OSError, ValueError) as error:
            raise self._explained(error) from error
        return client

    def _explained(self, error: Exception) -> MailError:
        causes = [error, error.__cause__]
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
            why = next(cause.verify_message for cause in causes if isinstance(cause, ssl.SSLCertVerificationError))
            return MailError(
                f"the certificate of the mail server {self._server} is not to be trusted: {clean(why)}",
                "name the site's certificate authority in mail.ca, and the server as its certificate does",
            )
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            return MailError(
                f"no secure connection to the mail server {self._server}: {_words(error)}",
                "look at mail.ca, and whether the port wants TLS at once (smtps://) or STARTTLS (smtp://)",
            )
        match error:
            case SMTPAuthenticationError():
                return MailError(
                    f"the mail server {self._server} refuses the log-in of {self._settings.user}: {_words(error)}",
                    "correct the user in mail.outgoing, or mail.outgoing_password",
                )
            case TimeoutError():
                return MailError(
                    f"the mail server {self._server} did not answer in {self._settings.timeout:g} s",
                    "look whether it runs, and whether a firewall is in between",
                )
        return MailError(f"the mail server {self._server} cannot be used: {_words(error)}", "look at mail.outgoing")

    async def _leave(self, client: SMTP) -> None:
        """Say QUIT when there is still somebody to say it to; what comes of it no longer matters."""
        transport = client.transport
        with suppress(SMTPException, OSError):
            async with asyncio.timeout(min(self._settings.timeout, 2)):
                await client.quit()
        _cut(transport)

    def _patience(self, times: int = 1) -> asyncio.Timeout:
        # not aiosmtplib's own time limit: its `asyncio.wait_for` can swallow a cancellation (Python 3.11)
        return asyncio.timeout(times * self._settings.timeout)

    # ── the transaction ──────────────────────────────────────────────────────────────────────────────────────

    async def _transaction(self, client: SMTP, mail: OutgoingMail, committing: Committing) -> SendOutcome:
        try:
            refused = await self._envelope(client, mail)
        except (SMTPException, OSError) as error:
            _cut(client.transport)
            return Deferred(f"{self._server}, before the letter was handed over: {_words(error)}")
        if not isinstance(refused, dict):
            return refused
        committing()
        outcome = await self._data(client, mail.data)
        return PartlyRefused(refused) if refused and isinstance(outcome, Sent) else outcome

    async def _envelope(self, client: SMTP, mail: OutgoingMail) -> dict[str, str] | Deferred | Refused:
        """Name sender and recipients: the refused ones, when the letter may go on without them, or why it may not."""
        size = [f"size={len(mail.data)}"] if client.supports_extension("size") else []
        try:
            async with self._patience():
                await client.mail(mail.sender, options=size)
        except SMTPSenderRefused as error:
            return _definite(error.code, f"a letter from {mail.sender} is refused: {_words(error)}")
        refused: dict[str, str] = {}
        for address in mail.recipients:
            try:
                async with self._patience():
                    await client.rcpt(address)
            except SMTPRecipientRefused as error:
                if error.code // 100 == 5:
                    refused[address] = _words(error)
                    continue
                with suppress(SMTPException, OSError):
                    async with self._patience():
                        await client.rset()
                return Deferred(f"{address}: {_words(error)}")
        if len(refused) < len(mail.recipients):
            return refused
        return Refused("; ".join(f"{address}: {words}" for address, words in refused.items()))

    async def _data(self, client: SMTP, data: bytes) -> SendOutcome:
        protocol, transport = client.protocol, client.transport
        if protocol is None:
            return Deferred(f"{self._server} left before the letter was handed over")
        try:
            async with self._patience():
                answer = await client.execute_command(b"DATA")
            if answer.code != 354:
                return _definite(answer.code, f"{self._server} wants no letter: {answer.code} {_line(answer.message)}")
            async with self._patience(_LATE):
                await _write(protocol, transport, _stuffed(data))
            protocol.write(b".\r\n")
        except (SMTPException, OSError) as error:
            _cut(transport)
            return Deferred(f"{self._server}, before the letter was complete: {_words(error)}")
        try:
            async with self._patience(_LATE):
                answer = await protocol.read_response()
        except (SMTPException, OSError) as error:
            _cut(transport)
            return Ambiguous(f"{self._server} got the whole letter, and gave no clear answer: {_words(error)}")
        words = f"{answer.code} {_line(answer.message)}"
        match answer.code // 100:
            case 2:
                return Sent(words)
            case 4 | 5:
                return _definite(answer.code, f"{self._server} does not take the letter: {words}")
        return Ambiguous(f"{self._server} got the whole letter, and gave no clear answer: {words}")


async def _write(protocol: SMTPProtocol, transport: asyncio.BaseTransport | None, data: bytes) -> None:
    """Hand all of it to the connection, and wait until the last byte has left us, or the connection is lost."""
    if isinstance(transport, asyncio.WriteTransport):
        transport.set_write_buffer_limits(0)
    protocol.write(data)
    await protocol._drain_helper()


def _cut(transport: asyncio.BaseTransport | None) -> None:
    """End the connection at once: nothing that still waits to be written goes out."""
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


def _stuffed(data: bytes) -> bytes:
    """A dot that begins a line is doubled, so that no line but ours is a lone dot."""
    return (b"\r\n" + data).replace(b"\r\n.", b"\r\n..")[2:]


def _trust(ca: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)


def _unsafe(mail: OutgoingMail) -> str:
    """Why the letter is never handed to anybody; empty when nothing is wrong with it."""
    for address in (mail.sender, *mail.recipients):
        if not is_address(address):
            return f"'{clean(address[:80])}' is not a mail address"
    if not mail.recipients:
        return "the letter has no recipient"
    ends = {mail.data.count(b"\r\n"), mail.data.count(b"\r"), mail.data.count(b"\n")}
    if len(ends) > 1 or not mail.data.endswith(b"\r\n"):
        return "the letter's lines do not all end as mail wants it"
    return ""


def _definite(code: int, why: str) -> Deferred | Refused:
    return Refused(why) if code // 100 == 5 else Deferred(why)


def _words(error: Exception) -> str:
    """What the server, or the system, said; untrusted, so cleaned and shortened."""
    if isinstance(error, SMTPResponseException):
        code = f"{error.code} " if error.code > 0 else ""
        return code + _line(error.message)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return _line(str(error)) or type(error).__name__


def _line(text: str) -> str:
    return clean(" ".join(text.split()))[:200]
