"""The engine without a screen: `serve`, and `pause`, `resume`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import click

from aogconsole.cli.common import METRICS, Session, as_json, emit, say
from aogconsole.cli.service import FORM, at_the_end, prepare
from aogconsole.errors import AogError
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal

STAND_BY = 0.5
"""Seconds between tries to take over."""
STUCK = 5.0
"""Seconds after which an engine that was told to end, and did not, is stuck."""


@click.command("serve")
@click.option("--until-idle", is_flag=True, help="End when nothing is left that the engine could do.")
@click.option("--attached", is_flag=True, help="End when standard input does: how a console starts its engine.")
@METRICS
@click.pass_obj
def serve_command(session: Session, *, until_idle: bool, attached: bool, metrics: str | None) -> int:
    """Run the engine: intake, checks, staging, letters, retention. Ends with 0 on SIGTERM."""
    prepare(("asyncssh", "oracledb", "imap_tools"), logging.WARNING, "%(message)s" if attached else FORM)
    journal = session.acting()
    actor = Actor.engine()
    _required(session)
    try:
        with _measured(session, metrics):
            asyncio.run(_serve(session, journal, actor, until_idle=until_idle, attached=attached))
    except BaseExceptionGroup as group:
        found = first_of_ours(group)
        if found is None:
            raise
        raise found from None
    return 0


def _measured(session: Session, metrics: str | None) -> contextlib.AbstractContextManager[str | None]:
    if metrics is None:
        return contextlib.nullcontext()
    from aogconsole.metrics import desk

    return desk(metrics, session.config.journal_path)


def _required(session: Session) -> None:
    """Everything that can be known to be wrong before the first step."""
    config = session.config
    config.need("mail.inbox", "mail.outgoing", "archive.dsn", "staging.host")
    for key in ("archive.password", "mail.inbox_password", "mail.outgoing_password"):
        config.secret(key)


def first_of_ours(group: BaseExceptionGroup[Any]) -> AogError | None:
    """The error of ours that ended the engine, out of the group its loops leave."""
    ours, _ = group.split(AogError)
    while isinstance(ours, BaseExceptionGroup):
        ours = ours.exceptions[0]  # type: ignore[assignment]
    return ours


async def _serve(session: Session, journal: Journal, actor: Actor, *, until_idle: bool, attached: bool) -> None:
    from aogconsole.engine.lock import EngineLock
    from aogconsole.engine.loop import Engine
    from aogconsole.site import bench

    log = logging.getLogger("aogconsole")
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main is not None  # noqa: S101
    at_the_end(main.cancel)
    tell: Callable[[str], None] = _attach(loop, main) if attached else _keep_quiet
    lock = EngineLock(session.config.journal_path, shared=bool(session.config.settings.journal.group))
    try:
        if not lock.take(actor):
            log.info("standing by: the engine runs as %s", lock.holder())
            tell("standing by")
        while not lock.take(actor):
            await asyncio.sleep(STAND_BY)
        log.info("the engine runs on %s", session.config.journal_path)
        tell("running")
        engine = Engine(bench(session.config, journal, actor))
        engine.recover()
        await engine.run(until_idle=until_idle)
    except asyncio.CancelledError:
        log.info("stopped; runs on the staging host go on")
    finally:
        lock.give_up()
        journal.close()


def _keep_quiet(_state: str) -> None:
    """Nobody asks for the state."""


def _attach(loop: asyncio.AbstractEventLoop, main: asyncio.Task[Any]) -> Callable[[str], None]:
    """End with the console, whose end of our standard input is open while it lives; gives how to tell it our state."""
    # a console that is stopped does not read: it misses messages then, and the engine goes on
    os.set_blocking(sys.stderr.fileno(), False)

    def wait_for_the_end() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(main.cancel)
        time.sleep(STUCK)
        os._exit(1)

    threading.Thread(target=wait_for_the_end, name="console", daemon=True).start()

    def tell(state: str) -> None:
        with contextlib.suppress(OSError):
            print(state, flush=True)

    return tell


@click.command("pause")
@as_json
@click.pass_obj
def pause_command(session: Session, *, json_: bool) -> None:
    """Let the engine take no new step (maintenance); runs go on."""
    _pause(session, on=True, json_=json_)


@click.command("resume")
@as_json
@click.pass_obj
def resume_command(session: Session, *, json_: bool) -> None:
    """Let the engine take steps again."""
    _pause(session, on=False, json_=json_)


def _pause(session: Session, *, on: bool, json_: bool) -> None:
    journal, desk = session.desk()
    desk.pause(on=on)
    if json_:
        emit({"paused": journal.meta("paused") or None})
    else:
        say("the engine is paused; runs go on" if on else "the engine goes on")
