"""An IMAP mailbox as the inbox. It is opened read-only and mails are peeked at: nothing in it changes."""

from __future__ import annotations

import asyncio
import imaplib
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

from imap_tools import BaseMailBox, ImapToolsError, MailBox, MailBoxStartTls, MailBoxUnencrypted
from imap_tools.errors import MailboxFolderSelectError, MailboxLoginError

from aogconsole.errors import ConfigError, MailError, MailLoginRefused
from aogconsole.requests.mail import MailLimits
from aogconsole.tasks import in_thread
from aogconsole.text import clean
from backends.ports import RawMail

_T = TypeVar("_T")
_SILENCE = 20.0
"""Seconds a connection may be silent."""
_WHOLE = 180.0
"""Seconds one step may take: log-in, listing, or one mail."""
_REFUSALS = 3
"""Mails in a row that cannot be got: then it is not the mails."""
_UID = re.compile(rb"\bUID (\d+)")
_SIZE = re.compile(rb"\bRFC822\.SIZE (\d+)")
_QUOTED = re.compile(rb'\bBODY\[\](?:<\d+>)? "((?:[^"\\]|\\.)*)"')
"""A short or empty mail may come as a quoted string."""
_DATE = re.compile(rb'\bINTERNALDATE "([^"]+)"')


@dataclass(frozen=True)
class _Address:
    """Where the mailbox is, read from `imaps://user@host:port/FOLDER`."""

    tls: bool
    """TLS from the first byte; STARTTLS otherwise, and nothing on loopback."""
    host: str
    port: int
    user: str
    folder: str

    @classmethod
    def parse(cls, url: str) -> _Address:
        try:
            parts = urlsplit(url)
            port = parts.port or (993 if parts.scheme == "imaps" else 143)
        except ValueError as error:
            raise ConfigError(f"the inbox is no URL: {clean(str(error))}", _URL_HINT) from error
        if parts.scheme not in ("imap", "imaps") or not parts.hostname or not parts.username:
            raise ConfigError("the inbox is no IMAP URL with a user and a host", _URL_HINT)
        if parts.password is not None:
            raise ConfigError("the inbox's URL holds a password", "put it into a file that inbox_password names")
        folder = unquote(parts.path.strip("/")) or "INBOX"
        return cls(parts.scheme == "imaps", parts.hostname, port, unquote(parts.username), folder)

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user, folder = quote(self.user, safe=""), quote(self.folder, safe="/")
        return f"imap{'s' if self.tls else ''}://{user}@{host}:{self.port}/{folder}"


_URL_HINT = "write it like imaps://aog@imap.example.org/INBOX, the user percent-encoded"


@dataclass(frozen=True)
class _Fetched:
    received_at: datetime
    raw: bytes
    size: int


class ImapInbox:
    """The mails of one IMAP mailbox, in order of their UIDs.

    `url`: `imaps://user@host[:port]/FOLDER`, or `imap://` (STARTTLS unless on loopback). `ca`: file of the
    authorities to trust; those of the system without it. `limit`: bytes read of a mail. Raises ConfigError.
    """

    def __init__(self, url: str, password: str, ca: str | None = None, limit: int = MailLimits().size) -> None:
        self._address = _Address.parse(url)
        self.name = str(self._address)
        self._password = password
        self._ca = ca
        self._limit = limit
        self._hard: set[str] = set()
        """Mails that could not be got: asked for after all others."""

    async def unseen(self, known: Collection[str], cursor: str) -> AsyncIterator[RawMail]:
        """Mails beyond the cursor (`imap:UIDVALIDITY:UID`) that are not known; all of them when UIDVALIDITY changed.

        A mail that the server cannot give out (Dovecot even hangs up) holds up no other; MailError follows at the end.
        """
        names = known if isinstance(known, Set) else frozenset(known)
        session, refused, trouble = _Session(self._address, self._ca), 0, None
        try:
            validity = await session.call(partial(session.open, self._password))
            after = int(cursor.rpartition(":")[2]) if cursor.startswith(f"imap:{validity}:") else 0
            listing = [(f"imap:{validity}:{uid}", uid) for uid in await session.call(lambda: session.uids(after))]
            for source, uid in sorted(listing, key=lambda one: one[0] in self._hard):
                if source in names:
                    continue
                try:
                    fetched = await session.call(partial(session.fetch, uid, self._limit))
                except MailError as error:
                    self._hard.add(source)
                    refused, trouble = refused + 1, error
                    await session.close()
                    session = _Session(self._address, self._ca)
                    if refused == _REFUSALS or await session.call(partial(session.open, self._password)) != validity:
                        break
                    continue
                refused = 0
                self._hard.discard(source)
                if fetched:
                    yield RawMail(source, fetched.received_at, fetched.raw, fetched.size)
            if trouble:
                raise trouble
        finally:
            await session.close()

    async def ping(self) -> str:
        """Log in and open the mailbox; returns a sentence. Raises MailError."""
        session = _Session(self._address, self._ca)
        try:
            await session.call(partial(session.open, self._password))
            return f"{clean(self.name)} opened, {session.count} mails"
        finally:
            await session.close()


class _Session:
    """One connection. Its methods block, and run in a thread by `call`, which bounds them and explains errors."""

    def __init__(self, address: _Address, ca: str | None) -> None:
        self._address = address
        self._ca = ca
        self._box: BaseMailBox | None = None
        self._usable = False
        self.count = 0

    async def call(self, step: Callable[[], _T]) -> _T:
        self._usable = False
        try:
            async with asyncio.timeout(_WHOLE):
                result = await in_thread(step)
        except (OSError, imaplib.IMAP4.error, ImapToolsError, TypeError, ValueError) as error:  # of odd answers too
            raise self._explained(error) from error
        self._usable = True
        return result

    def open(self, password: str) -> int:
        """Connect, log in, open the folder read-only; returns its UIDVALIDITY."""
        address = self._address
        if not address.tls and address.loopback:
            self._box = MailBoxUnencrypted(address.host, address.port, timeout=_SILENCE)
        else:
            kind = MailBox if address.tls else MailBoxStartTls
            self._box = kind(address.host, address.port, timeout=_SILENCE, ssl_context=self._context())
        self._log_in(self._box, password)
        _, counted = self._box.folder.set(address.folder, readonly=True)
        self.count = int(counted[0])
        _, validity = self._box.client.response("UIDVALIDITY")
        return int(validity[0])

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._ca)
        except (OSError, ssl.SSLError) as error:
            words = clean(error.strerror or str(error))
            raise ConfigError(f"mail.ca cannot be used: {words}", "name a readable PEM file of authorities") from error

    def _log_in(self, box: BaseMailBox, password: str) -> None:
        user = self._address.user
        if user.isascii() and password.isascii():
            box.login(user, password, initial_folder=None)
            return
        try:
            box.login_utf8(user, password, initial_folder=None)
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error as error:
            raise MailboxLoginError(("NO", [str(error)]), "OK") from error

    def uids(self, after: int) -> list[int]:
        """The UIDs beyond `after`, in order. The server looks into no mail for that."""
        if not self.count:
            return []
        found = (_UID.search(line) for line in self._fetched(f"{after + 1}:*", "(UID)") if isinstance(line, bytes))
        # "N:*" always has the last mail, even when its UID is below N.
        return sorted(uid for one in found if one and (uid := int(one[1])) > after)

    def fetch(self, uid: int, limit: int) -> _Fetched | None:
        """A mail, of its bytes the first `limit`; None when it is gone."""
        parts = self._fetched(str(uid), f"(RFC822.SIZE INTERNALDATE BODY.PEEK[]<0.{limit}>)")
        literals = [part[1] for part in parts if isinstance(part, tuple)]
        told = b" ".join(part[0] if isinstance(part, tuple) else part or b"" for part in parts)
        if quoted := None if literals else _QUOTED.search(told):
            literals.append(re.sub(rb"\\(.)", rb"\1", quoted[1]))
            told = told.replace(quoted[0], b"")
        size, date = _SIZE.search(told), _DATE.search(told)
        if not (literals and size and date):
            return None
        raw, arrived = literals[0], parsedate_to_datetime(date[1].decode("ascii")).astimezone(UTC)
        return _Fetched(arrived, raw, max(int(size[1]), len(raw)) if len(raw) >= limit else len(raw))

    async def close(self) -> None:
        """Log out; cut the connection after a failure, when a thread may still wait for an answer."""
        if self._box is None:
            return
        client = self._box.client
        with suppress(OSError, imaplib.IMAP4.error):
            if self._usable:
                async with asyncio.timeout(_SILENCE):
                    await in_thread(client.logout)
            else:
                client.sock.shutdown(socket.SHUT_RDWR)

    def _fetched(self, uids: str, what: str) -> list[bytes | tuple[bytes, bytes]]:
        assert self._box  # noqa: S101
        status, data = self._box.client.uid("FETCH", uids, what)
        if status != "OK":
            raise imaplib.IMAP4.error(f"FETCH: {status}")
        return data

    def _explained(self, error: Exception) -> MailError:
        place = f"{clean(self._address.host)}:{self._address.port}"
        words = clean(str(error)[:200])
        if "TLS not supported" in words:
            return MailError(f"{place} offers no STARTTLS", "use imaps:// in mail.inbox")
        match error:
            case ssl.SSLCertVerificationError():
                why = clean(error.verify_message)
                return MailError(f"the certificate of {place} is not trusted: {why}", "name its authority in mail.ca")
            case ssl.SSLError():
                return MailError(f"{place} does not speak TLS with us: {words}", "look at the port, and imaps or imap")
            case TimeoutError():
                return MailError(f"{place} does not answer in time", "try again later; look at the network")
            case socket.gaierror():
                return MailError(f"the host {clean(self._address.host)} is unknown", "look at mail.inbox, and at DNS")
            case MailboxLoginError():
                return MailLoginRefused(
                    f"{place} refuses the log-in of {clean(self._address.user)}",
                    "look at the user in mail.inbox and at the password",
                )
            case MailboxFolderSelectError():
                return MailError(f"{place} has no mailbox {clean(self._address.folder)}", "look at mail.inbox")
            case imaplib.IMAP4.abort():
                return MailError(f"the connection to {place} was lost: {words}", "try again later")
            case OSError():
                return MailError(f"{place} cannot be reached: {clean(error.strerror or words)}", "is the server up?")
            case _:
                return MailError(f"{place} answered what we do not understand: {words}", "look at the server")
