"""A private mail server that misbehaves on order: real SMTP on loopback (aiosmtpd), in a thread of its own.

`with smtp_server({"RCPT bad@example.org": "550 5.1.1 no such user"}) as server:` - a script maps steps to what the
server does there instead of its duty. Steps: `greeting EHLO AUTH MAIL RCPT DATA data dot QUIT` (`data`: in the middle
of the letter; `dot`: after its end), each also as `RCPT address`. What: an answer to give, `DROP`, `HANG`,
or, at `dot`, `QUEUE_AND_DROP`.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DROP, HANG, QUEUE_AND_DROP = "<drop>", "<hang>", "<queue and drop>"
USER, PASSWORD = "aog", "pass-w0rd"


@dataclass(frozen=True)
class Accepted:
    """A letter that the server took: its envelope and its bytes."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes


@dataclass
class SmtpServer:
    """The running server: its address, and what it has accepted so far."""

    host: str = "127.0.0.1"
    port: int = 0
    accepted: list[Accepted] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    """First words of the commands it got, in order."""


class _Session(SMTP):
    """aiosmtpd's server, asking the script before each step."""

    def __init__(self, script: Mapping[str, str], server: SmtpServer, **options: Any) -> None:
        super().__init__(self.Sink(self), hostname="mail.test", ident="private", **options)
        self._script = script
        self._server = server

    async def _handle_client(self) -> None:
        if not await self._misbehave("greeting"):
            await super()._handle_client()

    async def _misbehave(self, *steps: str) -> bool:
        """Do what the script says for the first of the steps it knows; False when it says nothing."""
        what = next((self._script[step] for step in steps if step in self._script), None)
        if what is None:
            return False
        if what == HANG:
            await asyncio.Event().wait()
        if what in (DROP, QUEUE_AND_DROP):
            self._writer.close()
            raise asyncio.CancelledError
        await self.push(what)
        return True

    async def _step(self, name: str, duty: Callable[[str], Awaitable[None]], arg: str) -> None:
        self._server.commands.append(name)
        address = (arg or "").partition("<")[2].partition(">")[0]
        if not await self._misbehave(f"{name} {address}", name):
            await duty(arg)

    async def smtp_EHLO(self, arg: str) -> None:
        await self._step("EHLO", super().smtp_EHLO, arg)

    async def smtp_AUTH(self, arg: str) -> None:
        await self._step("AUTH", super().smtp_AUTH, arg)

    async def smtp_MAIL(self, arg: str) -> None:
        await self._step("MAIL", super().smtp_MAIL, arg)

    async def smtp_RCPT(self, arg: str) -> None:
        await self._step("RCPT", super().smtp_RCPT, arg)

    async def smtp_RSET(self, arg: str) -> None:
        await self._step("RSET", super().smtp_RSET, arg)

    async def smtp_QUIT(self, arg: str) -> None:
        await self._step("QUIT", super().smtp_QUIT, arg)

    async def smtp_DATA(self, arg: str) -> None:
        if "data" in self._script:
            self._server.commands.append("DATA")
            await super().push("354 go ahead")
            await self._reader.read(100)
            await self._misbehave("data")
        await self._step("DATA", super().smtp_DATA, arg)

    class Sink:
        """Takes the letters."""

        def __init__(self, session: _Session) -> None:
            self._session = session

        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
            script, server = self._session._script, self._session._server
            what = script.get("dot", "250 2.0.0 queued")
            if what.startswith("2") or what == QUEUE_AND_DROP:
                letter = Accepted(envelope.mail_from, tuple(envelope.rcpt_tos), envelope.original_content)
                server.accepted.append(letter)
            if what.startswith("<"):
                await self._session._misbehave("dot")
            return what


@contextmanager
def smtp_server(
    script: Mapping[str, str] | None = None,
    *,
    starttls: ssl.SSLContext | None = None,
    implicit: ssl.SSLContext | None = None,
    login: bool = False,
    limit: int = 1 << 25,
) -> Iterator[SmtpServer]:
    """Run a server on a free port of 127.0.0.1; `starttls` and `login` (USER, PASSWORD) are then demanded.

    `limit` is the largest letter it takes, in bytes.
    """
    server = SmtpServer()
    options: dict[str, Any] = {
        "tls_context": starttls,
        "require_starttls": starttls is not None,
        "data_size_limit": limit,
    }
    if login:
        options |= {"authenticator": _authenticate, "auth_required": True, "auth_require_tls": False}
    loop = asyncio.new_event_loop()

    async def listen() -> asyncio.Server:
        return await loop.create_server(
            lambda: _Session(script or {}, server, loop=loop, **options), server.host, 0, ssl=implicit
        )

    thread = threading.Thread(target=loop.run_forever, name="smtp server", daemon=True)
    thread.start()
    listening = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(_end(listening), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end(listening: asyncio.Server) -> None:
    listening.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
    known = isinstance(given, LoginPassword) and (given.login, given.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=known, handled=False)


@dataclass(frozen=True)
class Certificates:
    """An authority's certificate (PEM), and a server's context with a certificate it signed for one host."""

    ca: Path
    context: ssl.SSLContext


def make_certificates(folder: Path, host: str = "127.0.0.1") -> Certificates:
    """Make a certificate authority, and a server certificate for the host (an IP address), in the folder."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _sign("test authority", ca_key, ca_key, None)
    certificate = _sign("mail.test", key, ca_key, host)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(plain + certificate.public_bytes(pem))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    return Certificates(folder / "ca.pem", context)


def _sign(
    name: str, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey, host: str | None
) -> x509.Certificate:
    now = datetime.now(UTC)
    draft = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
    )
    if host is not None:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))])
        draft = draft.add_extension(names, critical=False)
    return draft.sign(issuer_key, hashes.SHA256())


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A private certificate authority, and a server certificate for 127.0.0.1 signed by it."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def other_certificates(tmp_path: Path) -> Certificates:
    """Another authority that nobody trusts."""
    return make_certificates(tmp_path)
