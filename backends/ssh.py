"""The staging host over SSH: aogremote's verbs, behind a forced command or sent along.

One TCP connection, a channel for each verb. A line that breaks means *unknown* (asyncssh then ends a command normally,
without an exit status: reliability trap 1), so every verb may be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

import asyncssh

from aogconsole.errors import ConfigError, HostKeyChanged, HostKeyUnknown, StagingError
from aogconsole.ids import MousUid, ProjectCode, Ticket
from aogconsole.staging.remote import render_aogremote
from aogconsole.text import clean, decode
from backends.aogremote import parse_hello, parse_list, parse_run, parse_staged, parse_start
from backends.ports import Hello, HostRuns, RemoteRun, StagedDirectory, StartAnswer

CHANNELS = 8
"""At once on one connection: OpenSSH's MaxSessions is 10, and it counts a closed one for a moment longer.

Each run that is followed takes one for as long as it lasts: `staging.slots` must stay below.
"""
OPEN_ATTEMPTS = 5
CHUNK = 262144
ANSWER_LIMIT = 4 << 20
"""Bytes; no answer but a log is longer."""
CIPHERS = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr"]
"""In the order of speed here; all are what OpenSSH offers."""
HOST_KEYS = "+ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-256,rsa-sha2-512"
"""After the kinds that known_hosts has, so that a host that now has another kind is told to be changed."""


@dataclass(frozen=True)
class SshSettings:
    """Where the staging host is and how to speak to it: section [staging] of the configuration. Times in seconds."""

    host: str
    port: int
    user: str
    key: str | None
    """Path of the private key; None: the agent's."""
    known_hosts: str
    root: str = ".aogconsole"
    slots: int = 2
    command: str = "stagecalms.sh"
    web_root: str = ""
    remote: Literal["forced", "plain"] = "forced"
    """With "forced" the host's own settings hold, not root, slots, command, web_root and operator of these."""
    operator: str = ""
    connect_timeout: float = 10
    verb_timeout: float = 60
    keepalive_interval: float = 5
    keepalive_count: int = 3
    """A line that is silent for interval times count is broken."""


class SshStagingHost:
    """ports.StagingHost over SSH. Belongs to one event loop."""

    def __init__(self, settings: SshSettings) -> None:
        self._settings = settings
        self._connection: asyncssh.SSHClientConnection | None = None
        self._connecting: asyncio.Task[asyncssh.SSHClientConnection] | None = None
        self._channels = asyncio.Semaphore(CHANNELS)
        self._program = b""
        if settings.remote == "plain":
            self._program = render_aogremote(
                settings.operator, settings.root, settings.slots, settings.command, settings.web_root
            ).encode()

    async def hello(self, journal: str = "") -> Hello:
        """See ports.StagingHost."""
        return parse_hello(await self._ask("hello", *([journal] if journal else [])))

    async def start(self, token: str, project: ProjectCode, mous: MousUid, ticket: Ticket) -> StartAnswer:
        """See ports.StagingHost. When it raises, ask for the status or repeat it: the token is started once."""
        return parse_start(await self._ask("start", token, str(project), str(mous), str(ticket)))

    async def status(self, token: str) -> RemoteRun:
        """See ports.StagingHost."""
        return parse_run(await self._ask("status", token))

    async def list(self) -> HostRuns:
        """See ports.StagingHost."""
        return parse_list(await self._ask("list"))

    async def stop(self, token: str) -> RemoteRun:
        """See ports.StagingHost. Takes up to 15 s."""
        return parse_run(await self._ask("stop", token))

    async def staged(self) -> tuple[StagedDirectory, ...]:
        """See ports.StagingHost."""
        return parse_staged(await self._ask("staged"))

    async def keep(self, directory: str, keep: bool) -> None:
        """See ports.StagingHost."""
        await self._ask("keep", directory, *([] if keep else ["off"]))

    async def log(self, token: str, offset: int) -> AsyncGenerator[bytes, None]:
        """See ports.StagingHost. Pieces of up to 256 KiB; reading slowly slows the sender down."""
        async with self._channels:
            with _explained():
                async with asyncio.timeout(self._settings.verb_timeout):
                    process = await self._open("log", token, str(offset))
                try:
                    while piece := await process.stdout.read(CHUNK):
                        yield piece
                    complaint = await process.stderr.read(CHUNK)
                    async with asyncio.timeout(self._settings.verb_timeout):
                        await process.wait_closed()
                finally:
                    process.close()
                _check(process.exit_status, complaint)

    async def close(self) -> None:
        """See ports.StagingHost."""
        if self._connecting:
            self._connecting.cancel()
        if self._connection:
            self._connection.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.connect_timeout):
                    await self._connection.wait_closed()
            self._connection.abort()

    async def _ask(self, *words: str) -> str:
        with _explained():
            async with asyncio.timeout(self._settings.verb_timeout), self._channels:
                process = await self._open(*words)
                try:
                    answer, complaint = await asyncio.gather(_whole(process.stdout), _whole(process.stderr))
                    await process.wait_closed()
                finally:
                    process.close()
        _check(process.exit_status, complaint)
        return decode(answer)

    async def _open(self, *words: str) -> asyncssh.SSHClientProcess[bytes]:
        """Open a channel for a verb. One that is refused, or of a connection found broken, carried nothing: again."""
        command = " ".join(words)
        if self._program:
            command = f"sh -s -- {command}"
        for attempt in range(1, OPEN_ATTEMPTS + 1):
            connection = await self._connected()
            try:
                process = await connection.create_process(command, encoding=None)
                break
            except (asyncssh.Error, OSError):
                if attempt == OPEN_ATTEMPTS:
                    raise
                if not connection.is_closed():
                    await asyncio.sleep(attempt / 10)
        # a host that has already answered listens no more; its exit status says the rest
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(self._program)
            process.stdin.write_eof()
        return process

    async def _connected(self) -> asyncssh.SSHClientConnection:
        """The connection; those who come while it is being made wait for the same one."""
        if self._connection and not self._connection.is_closed():
            return self._connection
        if not self._connecting or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> asyncssh.SSHClientConnection:
        wanted = self._settings
        known = _read_known_hosts(wanted.known_hosts)
        where = clean(f"{wanted.host}:{wanted.port}")
        try:
            async with asyncio.timeout(2 * wanted.connect_timeout), contextlib.AsyncExitStack() as agent:
                self._connection = await asyncssh.connect(
                    wanted.host,
                    wanted.port,
                    username=wanted.user,
                    client_keys=[_read_key(wanted.key)] if wanted.key else await _agent_keys(agent),
                    agent_path=None,
                    agent_forwarding=False,
                    preferred_auth="publickey",
                    known_hosts=known,
                    server_host_key_algs=HOST_KEYS,
                    config=None,
                    encryption_algs=CIPHERS,
                    connect_timeout=wanted.connect_timeout,
                    login_timeout=wanted.connect_timeout,
                    keepalive_interval=wanted.keepalive_interval,
                    keepalive_count_max=wanted.keepalive_count,
                )
        except asyncssh.HostKeyNotVerifiable as error:
            raise _host_key_error(known, wanted) from error
        except asyncssh.PermissionDenied as error:
            raise StagingError(
                f"the staging host {where} refuses the login of {clean(wanted.user)}",
                "compare staging.user, and the key of staging.key or the agent, with the account's authorized_keys",
            ) from error
        except ConnectionRefusedError as error:
            raise StagingError(
                f"nothing listens at the staging host {where}", "is its sshd running, and staging.port right?"
            ) from error
        except TimeoutError as error:
            raise StagingError(
                f"the staging host {where} does not answer", "is it up, and reachable from this machine?"
            ) from error
        except ValueError as error:
            raise ConfigError(
                f"the settings of [staging] cannot be used: {clean(str(error))}", "correct them"
            ) from error
        except (asyncssh.Error, OSError) as error:
            raise StagingError(
                f"the staging host {where} cannot be reached: {clean(str(error))}",
                "is staging.host right?",
            ) from error
        return self._connection


def _check(status: int | None, complaint: bytes) -> None:
    """Raise unless a verb ended with 0."""
    said = clean(decode(complaint.strip().rpartition(b"\n")[2][:300])).removeprefix("aogremote: ")
    match status:
        case 0:
            return
        case None:
            raise StagingError("the staging host's answer is not complete: the line broke", "ask again")
        case 2:
            raise StagingError(
                f"the staging host refuses the words: {said}",
                'is aogremote there of this version, and staging.remote ("forced" or "plain") as the account has it?',
            )
        case 126 | 127:
            raise StagingError(
                f"the staging host finds no aogremote: {said}",
                'set up the forced command, or staging.remote = "plain"',
            )
        case _:
            raise StagingError(f"the staging host says: {said or f'exit status {status}'}", "see doctor, and the host")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """A line that breaks, or is silent, as a StagingError."""
    try:
        yield
    except TimeoutError as error:
        raise StagingError("the staging host does not answer in time", "ask again; look at the host's load") from error
    except (asyncssh.Error, OSError) as error:
        raise StagingError(f"the line to the staging host broke: {clean(str(error))}", "ask again") from error


async def _whole(stream: asyncssh.SSHReader[bytes]) -> bytes:
    answer = bytearray()
    while piece := await stream.read(CHUNK):
        answer += piece
        if len(answer) > ANSWER_LIMIT:
            raise StagingError("the staging host's answer does not end", "is it aogremote that answers?")
    return bytes(answer)


def _read_known_hosts(path: str) -> asyncssh.SSHKnownHosts:
    try:
        return asyncssh.read_known_hosts(path)
    except OSError as error:
        raise ConfigError(
            f"staging.known_hosts {clean(path)} cannot be read: {error.strerror}",
            "put the staging host's key there (ssh-keyscan), after comparing it with the host's own",
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"staging.known_hosts {clean(path)} is damaged: {clean(str(error))}", "correct the line"
        ) from error


def _read_key(path: str) -> asyncssh.SSHKey:
    try:
        return asyncssh.read_private_key(path)
    except OSError as error:
        raise ConfigError(
            f"staging.key {clean(path)} cannot be read: {error.strerror}", "name a readable private key there"
        ) from error
    except asyncssh.KeyImportError as error:
        if "passphrase" in str(error).lower():
            raise ConfigError(
                f"staging.key {clean(path)} is protected by a passphrase",
                "load it into the agent (ssh-add) and leave staging.key out, or use a key without",
            ) from error
        raise ConfigError(f"staging.key {clean(path)} is not a private key", "name a private key there") from error


async def _agent_keys(stack: contextlib.AsyncExitStack) -> list[asyncssh.SSHKeyPair]:
    """The agent's keys; the agent stays connected as long as `stack`, to sign."""
    hint = "set staging.key, or start the agent and load the key (ssh-add)"
    try:
        agent = await stack.enter_async_context(asyncssh.connect_agent())
        keys = list(await agent.get_keys())
    except (OSError, ValueError) as error:
        raise ConfigError("staging.key is not set and no SSH agent answers", hint) from error
    if not keys:
        raise ConfigError("staging.key is not set and the SSH agent holds no key", hint)
    return keys


def _host_key_error(known: asyncssh.SSHKnownHosts, wanted: SshSettings) -> StagingError:
    """asyncssh raises the same for an unknown and for a changed host key: known_hosts tells which."""
    where = clean(f"{wanted.host}:{wanted.port}")
    try:
        address = str(ip_address(wanted.host))
    except ValueError:
        address = ""
    if any(known.match(wanted.host, address, wanted.port)):
        return HostKeyChanged(
            f"the staging host {where} shows another key than {clean(wanted.known_hosts)} has",
            "somebody may be listening: ask the host's administrator; only if the key was really changed, replace it",
        )
    return HostKeyUnknown(
        f"the key of the staging host {where} is not in {clean(wanted.known_hosts)}",
        "add it (ssh-keyscan) after comparing it with the host's own",
    )
