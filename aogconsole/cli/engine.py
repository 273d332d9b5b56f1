"""The engine without a screen: `serve`, and `pause`, `resume`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import Any

import click

from aogconsole.cli.common import Session, as_json, emit, say
from aogconsole.errors import AogError
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal

ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STAND_BY = 0.5
"""Seconds between tries to take over."""


@click.command("serve")
@click.option("--until-idle", is_flag=True, help="End when nothing is left that the engine could do.")
@click.pass_obj
def serve_command(session: Session, *, until_idle: bool) -> int:
    """Run the engine: intake, checks, staging, letters, retention. Ends with 0 on SIGTERM."""
    for number in ENDS:
        signal.signal(number, lambda *_: sys.exit(0))  # until the loop has its own
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for noisy in ("asyncssh", "oracledb", "imap_tools"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    journal = session.acting()
    actor = Actor.engine()
    _required(session)
    try:
        asyncio.run(_serve(session, journal, actor, until_idle=until_idle))
    except BaseExceptionGroup as group:
        found = first_of_ours(group)
        if found is None:
            raise
        raise found from None
    return 0


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


async def _serve(session: Session, journal: Journal, actor: Actor, *, until_idle: bool) -> None:
    from aogconsole.engine.lock import EngineLock
    from aogconsole.engine.loop import Engine
    from aogconsole.site import bench

    log = logging.getLogger("aogconsole")
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main is not None  # noqa: S101
    for number in ENDS:
        loop.add_signal_handler(number, main.cancel)
    lock = EngineLock(session.config.journal_path, shared=bool(session.config.settings.journal.group))
    try:
        if not lock.take(actor):
            log.info("standing by: the engine runs as %s", lock.holder())
        while not lock.take(actor):
            await asyncio.sleep(STAND_BY)
        log.info("the engine runs on %s", session.config.journal_path)
        engine = Engine(bench(session.config, journal, actor))
        engine.recover()
        await engine.run(until_idle=until_idle)
    except asyncio.CancelledError:
        log.info("stopped; runs on the staging host go on")
    finally:
        lock.give_up()
        journal.close()


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
