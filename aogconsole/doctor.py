"""The doctor: every connection and account setting tried, each with what to do about it.

Acts on nothing: it logs in, looks, and leaves. A journal's claim on the run folder is not made here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aogconsole import reingestionsite, site, times
from aogconsole.config import Config
from aogconsole.engine.lock import EngineLock
from aogconsole.errors import AogError, ConfigError
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal
from aogconsole.reingestion.item import Queue
from aogconsole.reingestion.messages import OUR_EVENTS
from backends.ports import Hello

ROOM = 1 << 30
"""Bytes that should be free."""
SKEW = 60
"""Seconds the staging host's clock may differ before it confuses people."""
LIMIT = 60.0
"""Seconds for each check."""


@dataclass(frozen=True)
class Finding:
    """One thing that was tried."""

    check: str
    ok: bool
    detail: str
    hint: str = ""


def found(check: str, ok: bool, detail: str, hint: str = "") -> Finding:
    """A finding; what is right needs no hint."""
    return Finding(check, ok, detail, "" if ok else hint)


async def examine(config: Config, actor: Actor) -> list[Finding]:
    """Try everything, side by side."""
    desk = _has_desk(config)
    looks = [
        ("journal", True, lambda: _journal(config)),
        ("archive", desk or config.settings.archive.dsn, lambda: _archive(config, desk=desk)),
        ("staging host", desk, lambda: _staging(config, actor)),
        ("inbox", desk, lambda: _inbox(config)),
        ("outgoing mail", desk, lambda: _outgoing(config)),
    ]
    groups = await asyncio.gather(
        *(_guarded(check, look) if wanted else _left_out(check) for check, wanted, look in looks),
        *(_guarded(check, look) for check, look in _reingestion(config)),
    )
    return [finding for group in groups for finding in group]


def _has_desk(config: Config) -> bool:
    """Whether this machine is for the request desk too: where anything of one is, what is missing of it is a fault.

    For re-ingestion only: nothing of mail or the staging host is set, and there is no journal."""
    given = config.settings
    theirs = any(
        key.startswith(("mail.", "staging.")) and one.source != "default" for key, one in config.values.items()
    )
    reingestion = given.metadata.dsn or given.broker.url or given.reingestion.capo_profile
    return theirs or config.journal_path.exists() or not reingestion


async def _left_out(check: str) -> list[Finding]:
    return [Finding(check, ok=True, detail="not configured: this machine is for re-ingestion only")]


async def _guarded(check: str, look: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    try:
        async with asyncio.timeout(LIMIT):
            return await look()
    except AogError as error:
        return [Finding(check, ok=False, detail=str(error), hint=error.hint)]
    except TimeoutError:
        return [
            Finding(check, ok=False, detail=f"no answer within {LIMIT:.0f} s", hint="is something frozen in between?")
        ]


async def _journal(config: Config) -> list[Finding]:
    path = config.journal_path
    if not path.exists():
        parent = next(one for one in (path.parent, *path.parents) if one.exists())
        ok = os.access(parent, os.W_OK)
        return [found("journal", ok, f"{path} is not there yet", f"{parent} is not writable for you")]
    journal = Journal.open(path, read_only=True)
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    shared = path.parent.stat().st_mode & 0o022 and not config.settings.journal.group
    free = shutil.disk_usage(path.parent).free
    holder = EngineLock(path).holder()
    journal.close()
    return [
        found("journal", writable, str(path), "the file and its folder must be writable for you"),
        found("journal: folder", not shared, str(path.parent), "others can write there: chmod 700"),
        found("journal: disk", free > ROOM, f"{free >> 20} MiB free", "make room"),
        found("engine", bool(holder), holder or "no engine runs", "start `aogconsole serve`, or a console"),
    ]


async def _archive(config: Config, *, desk: bool) -> list[Finding]:
    """What the desk asks, and what re-ingestion does; one after the other, for a wrong password locks the account."""
    tried = [Finding("archive", ok=True, detail=await site.archive(config).ping())] if desk else []
    if config.settings.metadata.dsn and config.settings.archive.dsn:
        tried += await _guarded("archive: news", lambda: _news(config))
    return tried


async def _news(config: Config) -> list[Finding]:
    return [Finding("archive: news", ok=True, detail=await reingestionsite.news(config).ping())]


async def _inbox(config: Config) -> list[Finding]:
    return [Finding("inbox", ok=True, detail=await site.inbox(config).ping())]


async def _outgoing(config: Config) -> list[Finding]:
    return [Finding("outgoing mail", ok=True, detail=await site.outbox(config).ping())]


def _reingestion(config: Config) -> list[tuple[str, Callable[[], Awaitable[list[Finding]]]]]:
    """Re-ingestion's connections: only those that are configured, for not every site has it."""
    given = config.settings
    looks = [
        ("capo", given.reingestion.capo_profile, lambda: _capo(config)),
        ("metadata", given.metadata.dsn, lambda: _metadata(config)),
        ("broker", given.broker.url, lambda: _broker(config)),
        ("ngas", given.ngas.url, lambda: _ngas(config)),
    ]
    # what is wrong with CAPO is told once
    return [(check, look) for check, wanted, look in looks if wanted and (check == "capo" or not config.capo_problem)]


async def _capo(config: Config) -> list[Finding]:
    config.sound()
    there = ", ".join(str(file) for file in config.watched[1:] if file.exists())
    return [Finding("capo", ok=True, detail=there)]


async def _metadata(config: Config) -> list[Finding]:
    metadata = reingestionsite.metadata(config)
    try:
        return [Finding("metadata", ok=True, detail=await metadata.ping())]
    finally:
        await metadata.close()


async def _broker(config: Config) -> list[Finding]:
    broker = reingestionsite.broker(config)
    try:
        told = await broker.ping()
        if not config.settings.broker.url.startswith("memory:"):  # that one is another process' own
            for queue in (*(one.messages for one in Queue), OUR_EVENTS):
                await broker.depth(queue)
        return [Finding("broker", ok=True, detail=told)]
    finally:
        await broker.close()


async def _ngas(config: Config) -> list[Finding]:
    return [Finding("ngas", ok=True, detail=await reingestionsite.ngas(config).ping())]


async def _staging(config: Config, actor: Actor) -> list[Finding]:
    if not config.settings.staging.host:
        raise ConfigError("staging.host is not set", "set it")
    host = site.staging_host(config, actor)
    try:
        hello = await host.hello()
    finally:
        await host.close()
    return _staging_findings(hello, config)


def _staging_findings(hello: Hello, config: Config) -> list[Finding]:
    skew = hello.time - int(times.now().timestamp())
    missing = [tool for tool, found in hello.tools.items() if not found]
    free = hello.disk_free if hello.web_free is None else min(hello.disk_free, hello.web_free)
    network = hello.filesystem.startswith(("nfs", "cifs", "smb", "afs"))
    ours = _owner(hello, config)
    clean_up = "yes" if hello.kill_user_processes else "no"
    web_root = config.values["stagecalms.web_root"]
    keeps = hello.web_free is not None
    return [
        found("staging host", True, f"{hello.user}@{hello.host}, {hello.slots} slots"),
        found("staging host: tools", not missing, ", ".join(hello.tools), f"not found: {', '.join(missing)}"),
        found("staging host: logind", not hello.kill_user_processes, f"KillUserProcesses={clean_up}",
              "detached runs would die at log-out: loginctl enable-linger"),
        found("staging host: disk", free > ROOM, f"{free >> 20} MiB free", "make room before staging"),
        found("staging host: run folder", not network, hello.filesystem or "local",
              "locks need a local disk: set staging.root to one"),
        found("staging host: clock", abs(skew) <= SKEW, f"{skew:+d} s from ours", "set up NTP on both"),
        found("staging host: owner", ours, hello.journal or "nobody yet",
              "another journal's engine uses this run folder: use that journal, or another staging.root"),
        # a site may do without `keep`: only a folder that it named must be there
        found("staging host: web root", keeps or web_root.source == "default",
              f"{web_root.value}{'' if keeps else ' is not there: `keep` cannot work'}",
              "set stagecalms.web_root (or --web-root of aogremote)"),
    ]  # fmt: skip


def _owner(hello: Hello, config: Config) -> bool:
    if not hello.journal:
        return True
    if not config.journal_path.exists():
        return False
    journal = Journal.open(config.journal_path, read_only=True)
    try:
        return hello.journal == journal.id
    finally:
        journal.close()
