"""One run of a workflow: begun once, its end recorded and then told, whatever the end is."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from aogconsole import times
from aogconsole.errors import AogError, Conflict, OutsideError
from aogconsole.reingestion.ingested import Command
from aogconsole.reingestion.messages import Ended
from aogconsole.reingestion.workflows.telling import Teller
from aogconsole.text import clean
from backends.ingest_ports import Ingest

RECORDING = 20.0
"""Seconds that the record of an end is tried for, while the database is away."""
PAUSE = 0.5
NO_SITE = ""
"""Of what no command started and its launcher, or a person, did: it is recorded too, and no site's server minds it."""
Work = Callable[[], Awaitable[dict[str, Any]]]


async def carried_out(
    ready: Callable[[], Awaitable[None]], work: Work, workflow_id: str, store: Ingest, teller: Teller | None,
    metadata: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """Make ready, do it under a workflow's id, and tell its end (to nobody without a teller). Raises what was raised;
    Conflict when another process has begun it; BrokerError when only the telling failed."""
    try:
        await ready()
        kind = metadata.get("kind", "").replace("_", "-")
        await store.take(Command(workflow_id, NO_SITE, kind, metadata.get("uid", ""), metadata), times.now())
        if not await store.begin(workflow_id, own_name()):
            raise Conflict(f"the workflow {clean(workflow_id)} has been begun before", "its first run tells its end")
        document = await work()
    except Conflict:
        raise
    except AogError as error:
        with suppress(OutsideError):  # what went wrong first is what is said
            await ended(Ended(workflow_id, False, str(error), metadata), store, teller)
        raise
    except Exception as error:
        with suppress(OutsideError):
            await ended(Ended(workflow_id, False, f"internal error: {clean(repr(error))}", metadata), store, teller)
        raise
    await ended(Ended(workflow_id, True, "", metadata), store, teller)
    return document


async def ended(end: Ended, store: Ingest, teller: Teller | None) -> None:
    """Record an end, publish its event, and record that. Without the database the event still goes out."""
    await _recorded(store, end)
    if teller is not None:
        await teller.tell(end)
        with suppress(OutsideError):  # a server of the site tells it again, which is harmless
            await store.told(end.workflow_id, times.now())


async def _recorded(store: Ingest, end: Ended) -> None:
    """Record it before it is told, so that nobody else takes its process for killed; a restart of the database is
    waited for."""
    until = time.monotonic() + RECORDING
    while True:
        try:
            return await store.end(end.workflow_id, end.complete, end.reason, times.now())
        except OutsideError:
            if time.monotonic() > until:
                return None
        await asyncio.sleep(PAUSE)


def own_name() -> str:
    """This process, so that it can be told from a later one with its number: `HOST:BOOT:PID:START`."""
    return _name(os.getpid()) or ""


def lives(name: str) -> bool | None:
    """Whether a process of that name lives; None for one of another host, which cannot be seen."""
    host, _, pid, _ = name.split(":") if name.count(":") == 3 else ("", "", "", "")
    if host != socket.gethostname():
        return None
    return pid.isdecimal() and _name(int(pid)) == name


def _name(pid: int) -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        state, *fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in {"Z", "X"} else f"{socket.gethostname()}:{boot}:{pid}:{fields[18]}"
