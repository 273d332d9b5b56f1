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
        received, way = 0, _Way(self._url, name)
        try:
            async with self._session(way) as session, self._asked(session, "RETRIEVE", file_id=file_id) as answer:
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
            raise self._explained(error, way, received) from error

    async def ping(self) -> str:
        """See the port."""
        way = _Way(self._url, "its status")
        try:
            async with self._session(way) as session, self._asked(session, "STATUS") as answer:
                body = await answer.content.read(_TOLD)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._explained(error, way, 0) from error
        if not _STATUS.match(body):
            raise NgasError(f"What answers at {way.host} is no NGAS (HTTP {answer.status}).", "check [ngas] url")
        return f"NGAS answers at {way.host}"

    def _session(self, way: _Way) -> aiohttp.ClientSession:
        # identity: the length that the server tells is that of the file; no cookies, no proxy of the environment
        return aiohttp.ClientSession(
            timeout=self._times, headers={"Accept-Encoding": "identity"}, auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, trace_configs=[way.traced()],
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

    def _explained(self, error: Exception, way: _Way, received: int) -> NgasError:
        name = way.name
        match error:
            case aiohttp.TooManyRedirects():
                return NgasError(f"NGAS at {way.host} sends us round in circles for {name}.", _LATER)
            case aiohttp.InvalidURL():
                return NgasError(f"NGAS at {way.host} sends us to what is no address for {name}.", _LATER)
            case TimeoutError():
                return NgasError(f"NGAS at {way.host} is silent: no answer within {self._timeout:g} s.", _LATER)
            case aiohttp.ClientConnectorError():
                number = error.os_error.errno
                what = os.strerror(number) if number and number > 0 else clean(str(error.os_error.strerror))
                return NgasError(f"NGAS at {way.host} cannot be reached: {what}.", way.check + _LATER)
            case _:
                return NgasError(f"NGAS at {way.host} broke off in {name} after {received} bytes.", _LATER)


class _Way:
    """Where a request is by now: NGAS sends to the node that has the file."""

    def __init__(self, url: URL, name: str) -> None:
        self.host = _host(url)
        self.name = name
        """What is asked for."""
        self.check = "check [ngas] url, "

    def traced(self) -> aiohttp.TraceConfig:
        """To follow a session's redirects by. Raises NgasError, there, for one that is not to be followed."""
        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(self._sent_on)
        return trace

    async def _sent_on(self, _session: object, _context: object, sent: aiohttp.TraceRequestRedirectParams) -> None:
        try:
            to = sent.response.url.join(URL(sent.response.headers.get("Location", "")))
        except ValueError:
            return  # the client says so
        if to.scheme not in {"http", "https"}:
            kind = clean(to.scheme[:20])
            raise NgasError(f"NGAS at {self.host} sends us to a {kind}: address for {self.name}, not to HTTP.", _LATER)
        if to.host is None or _host(to) == self.host:
            return
        self.check = f"{self.host} sends us there, "
        self.host = _host(to)


def _host(url: URL) -> str:
    return clean(f"{url.host}:{url.port}")


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
