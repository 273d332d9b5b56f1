"""NGAS over HTTP: files streamed, never held; each answer checked before it is believed.

NGAS answers with an XML document of its own (`NgamsStatus`) where it fails, mostly with status 400, sometimes with
200: a body that begins so is an answer about the file and never the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from aogconsole.errors import ConfigError, NgasError, NgasMissing
from aogconsole.text import clean, decode

_CHUNK: Final = 1 << 16
_REDIRECTS: Final = 3
_TOLD: Final = 1 << 14
"""Bytes of a failure's document that are looked at."""
_STATUS: Final = re.compile(rb"^\s*(?:<\?xml[^>]{0,200}\?>\s*)?<NgamsStatus\b")
_MESSAGE: Final = re.compile(r'\bMessage="([^"]{0,2000})"')
_MISSING: Final = re.compile(
    r"NGAMS_ER_UNAVAIL_FILE|not (?:available|found)|does not exist|unknown file", re.IGNORECASE
)
_LATER: Final = "try again later; if it stays so, ask NGAS' administrator"


class HttpNgas:
    """`reingestion_ports.Ngas` over HTTP.

    `timeout`: seconds without a byte, and for the connection; `total`: seconds for a whole file; `largest`: bytes.
    """

    def __init__(self, url: str, timeout: float = 60.0, total: float = 3600.0, largest: int = 1 << 37) -> None:
        self._url = _checked(url)
        self._timeout = timeout
        self._times = aiohttp.ClientTimeout(total=total, sock_connect=timeout, sock_read=timeout)
        self._largest = largest

    async def retrieve(self, file_id: str) -> AsyncIterator[bytes]:
        """See the port. What comes in less than it promises, or more than `largest`, raises NgasError."""
        name = clean(file_id[:200])
        received = 0
        try:
            async with self._session() as session, self._asked(session, "RETRIEVE", file_id=file_id) as answer:
                await self._believed(answer, name)
                first = True
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    if first and _STATUS.match(chunk):
                        raise _refused(name, answer.status, decode(chunk[:_TOLD]))
                    first = False
                    received += len(chunk)
                    if received > self._largest:
                        raise NgasError(f"{name} in NGAS is larger than {self._largest} bytes.", "look at it there")
                    yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._explained(error, name, received) from error

    async def ping(self) -> str:
        """See the port."""
        try:
            async with self._session() as session, self._asked(session, "STATUS") as answer:
                body = await answer.content.read(_TOLD)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._explained(error, "its status", 0) from error
        if not _STATUS.match(body):
            raise NgasError(f"What answers at {self._shown} is no NGAS (HTTP {answer.status}).", "check [ngas] url")
        return f"NGAS answers at {self._shown}"

    def _session(self) -> aiohttp.ClientSession:
        # identity: the length that the server tells is that of the file; no cookies, no proxy of the environment
        return aiohttp.ClientSession(
            timeout=self._times, headers={"Accept-Encoding": "identity"}, auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(), trust_env=False,
        )  # fmt: skip

    def _asked(
        self, session: aiohttp.ClientSession, command: str, **query: str
    ) -> aiohttp.client._RequestContextManager:
        return session.get(self._url / command % query, max_redirects=_REDIRECTS)

    async def _believed(self, answer: aiohttp.ClientResponse, name: str) -> None:
        if answer.status != 200:
            raise _refused(name, answer.status, decode(await answer.content.read(_TOLD)))
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise NgasError(f"NGAS sends {name} compressed, which was not asked for.", "look at what stands before it")
        if (answer.content_length or 0) > self._largest:
            raise NgasError(f"{name} in NGAS is larger than {self._largest} bytes.", "look at it there")

    @property
    def _shown(self) -> str:
        return clean(f"{self._url.host}:{self._url.port}")

    def _explained(self, error: Exception, name: str, received: int) -> NgasError:
        match error:
            case aiohttp.TooManyRedirects():
                return NgasError(f"NGAS at {self._shown} sends us round in circles for {name}.", _LATER)
            case aiohttp.InvalidURL():
                return NgasError(f"NGAS at {self._shown} sends us to what is no address for {name}.", _LATER)
            case TimeoutError():
                return NgasError(f"NGAS at {self._shown} is silent: no answer within {self._timeout:g} s.", _LATER)
            case aiohttp.ClientConnectorError():
                number = error.os_error.errno
                what = os.strerror(number) if number and number > 0 else clean(str(error.os_error.strerror))
                return NgasError(f"NGAS at {self._shown} cannot be reached: {what}.", "check [ngas] url, " + _LATER)
            case _:
                return NgasError(f"NGAS at {self._shown} broke off in {name} after {received} bytes.", _LATER)


def _checked(url: str) -> URL:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or "@" in url:
        raise ConfigError("ngas.url is no address of NGAS", "write it as http://host:7777, without user and password")
    return URL(url.rstrip("/"))


def _refused(name: str, status: int, body: str) -> NgasError:
    found = _MESSAGE.search(body)
    said = clean(found[1][:300]) if found else f"HTTP {status}"
    if status in {404, 410} or (found and _MISSING.search(found[1])):
        return NgasMissing(f"NGAS has no file {name}: {said}", "look in the archive whether it was ever there")
    return NgasError(f"NGAS did not give {name}: {said}", _LATER)
