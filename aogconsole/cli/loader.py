"""The verb `loader`: QueueLoader."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aogconsole import times
from aogconsole.cli.common import METRICS, Session, as_json, emit, say
from aogconsole.cli.service import at_the_end, briefly, measured, prepare
from aogconsole.config import Config
from aogconsole.errors import OutsideError, UsageError
from aogconsole.reingestion.item import Kind, Queue

if TYPE_CHECKING:
    from aogconsole.reingestion.loader import Loader, LoaderRules, Pace, Summary

log = logging.getLogger("aogconsole")


@click.command("loader")
@click.option("--once", is_flag=True, help="One cycle, then end.")
@click.option("--from", "since", metavar="DATE", help="The first cycle looks back to this day (or time): a back-fill.")
@METRICS
@as_json
@click.pass_obj
def loader_command(session: Session, *, once: bool, since: str | None, metrics: str | None, json_: bool) -> int:
    """Run QueueLoader: find what is new in the archive, send what is due. One works, others stand by."""
    session.may_act()
    if json_ and not once:
        raise UsageError("--json is for one cycle", "use it with --once")
    begin = _time(since) if since is not None else None
    prepare(("pika", "psycopg", "oracledb"))
    summary = asyncio.run(serve(session.config, begin, once=once, metrics=metrics))
    if summary is None:
        return 0
    if json_:
        emit(summary.document())
    else:
        say("paused: nothing was looked for" if summary.paused else summary.sentence())
        for error in summary.errors:
            say(f"  {error}")
    return OutsideError.exit_code if summary.errors else 0


def _time(text: str) -> datetime:
    try:
        time = times.parse(text)
    except ValueError:
        raise UsageError(f"'{text}' is not a date", "write it as 2026-11-21, or 2026-11-21T14:00:00Z") from None
    if time > times.now():
        raise UsageError(f"{times.text(time)} is to come", "--from names a day that is past")
    return time


async def serve(
    config: Config, since: datetime | None = None, *, once: bool = False, metrics: str | None = None,
    pace: Pace | None = None,
) -> Summary | None:  # fmt: skip
    """Run one loader until a signal ends it (None), or one cycle: its summary."""
    from aogconsole import reingestionsite as site
    from aogconsole.reingestion.loader import Loader, Outside

    config.sound()
    watcher = site.watcher(config)
    metadata, broker = site.metadata(config), site.broker(config)
    try:
        outside = Outside(metadata, broker, site.news(config))
        by = f"loader@{socket.gethostname()}:{os.getpid()}"
        loader = Loader(outside, lambda: rules(watcher.fresh()), by, since=since, pace=pace)
        with measured(metrics, metadata, broker):
            return await _until_ended(loader, once=once)
    finally:
        await briefly(broker.close(), metadata.close())


async def _until_ended(loader: Loader, *, once: bool) -> Summary | None:
    main = asyncio.current_task()
    assert main is not None  # noqa: S101
    at_the_end(main.cancel)
    try:
        if once:
            return await loader.once()
        await loader.run()
    except asyncio.CancelledError:
        main.uncancel()
        log.info("stopped")
    finally:
        at_the_end(lambda: None)  # what is left is short
    return None


def rules(config: Config) -> LoaderRules:
    """What a loader asks the configuration for."""
    from aogconsole import reingestionsite as site
    from aogconsole.reingestion.loader import LoaderRules

    given = config.settings.reingestion
    overlaps = {
        Kind.EXECUTION_BLOCK: timedelta(seconds=given.execblock_overlap),
        Kind.CALIBRATION: timedelta(seconds=given.calibration_overlap),
    }
    query = Path(given.vlba_query) if given.vlba_query else None
    return LoaderRules(given.interval, overlaps, {queue: site.limits(config, queue) for queue in Queue}, query)
