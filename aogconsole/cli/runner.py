"""The verb `runner`: QueueRunner."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from aogconsole.cli.common import METRICS, Session
from aogconsole.cli.service import at_the_end, briefly, measured, prepare
from aogconsole.config import Config
from aogconsole.errors import UsageError
from aogconsole.reingestion.item import Queue

if TYPE_CHECKING:
    from aogconsole.reingestion.station import Pace, Rules

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", re.ASCII)
QUEUES = ("alma", "vlba", "both")
log = logging.getLogger("aogconsole")


@click.command("runner")
@click.option("--until-idle", is_flag=True, help="End when nothing is queued, runs or is due soon.")
@click.option("--queue", type=click.Choice(QUEUES), default="both", show_default=True, help="Which work queue to take.")
@click.option("--name", default="runner", show_default=True, help="How it is called; one name for each on a host.")
@METRICS
@click.pass_obj
def runner_command(session: Session, *, until_idle: bool, queue: str, name: str, metrics: str | None) -> int:
    """Run QueueRunner: launch what is in the work queue, within the limit. Any number of them may run."""
    session.may_act()
    if not NAME.fullmatch(name):
        raise UsageError("a runner's name has letters, digits, '.', '_' and '-', at most 40", "give another --name")
    prepare(("pika", "psycopg"))
    queues = tuple(Queue) if queue == "both" else (Queue(queue),)
    asyncio.run(serve(session.config, queues, name, until_idle=until_idle, metrics=metrics))
    return 0


async def serve(
    config: Config, queues: tuple[Queue, ...], name: str, *, until_idle: bool, pace: Pace | None = None,
    metrics: str | None = None,
) -> None:  # fmt: skip
    """Run one runner until SIGTERM, or until nothing is left. `metrics`: where they are served."""
    from aogconsole import reingestionsite as site
    from aogconsole.reingestion.runner import Runner
    from aogconsole.reingestion.station import Outside, Pace, Station

    config.sound()
    watcher, pace = site.watcher(config), pace or Pace()
    metadata, broker = site.metadata(config), site.broker(config)
    try:
        launcher = site.launcher(config, broker)
        outside = Outside(metadata, broker, launcher, lambda item, queue: site.start_of(config, item, queue))
        owner = f"{name}@{socket.gethostname()}:{os.getpid()}"
        station = Station(outside, lambda: rules(watcher.fresh(), pace.lease), owner, queues, pace)
        running = Runner(station)
        at_the_end(running.stop)
        with measured(metrics, metadata, broker, lambda: station.counted):
            log.info("%s runs: %s, launching by %s", owner, ", ".join(queues), launcher.name)
            await running.run(until_idle=until_idle)
        log.info("stopped; workflows that run go on")
    finally:
        await briefly(broker.close(), metadata.close())


def rules(config: Config, lease: float | None = None) -> Rules:
    """What a runner asks the configuration for. `lease`: seconds, in place of the configuration's."""
    from aogconsole import reingestionsite as site
    from aogconsole.reingestion.station import Rules

    given = config.settings.reingestion
    return Rules(
        {queue: site.limits(config, queue) for queue in Queue}, given.attempts, timedelta(seconds=given.retry_delay),
        timedelta(seconds=lease or given.lease), site.event_types(config),
    )  # fmt: skip
