"""The verb `broker`: what re-ingestion needs at the message broker."""

from __future__ import annotations

import asyncio

import click

from aogconsole.cli.common import Session, as_json, emit, say
from aogconsole.config import Config, masked


@click.group("broker")
def broker_command() -> None:
    """The message broker of the re-ingestion (RabbitMQ)."""


@broker_command.command("declare")
@click.option(
    "--site",
    "sites",
    multiple=True,
    metavar="SITE",
    help="Also the queue of this site's commands, for our own workflow serve there.",
)
@as_json
@click.pass_obj
def declare_command(session: Session, sites: tuple[str, ...], *, json_: bool) -> None:
    """Make the exchanges, queues and bindings that are not there yet. Safe to repeat."""
    session.may_act()
    lines = asyncio.run(_declare(session.config, sites))
    if json_:
        emit({"broker": masked(session.config.settings.broker.url), "declared": lines})
        return
    for line in lines:
        say(line)


async def _declare(config: Config, sites: tuple[str, ...]) -> list[str]:
    from aogconsole import reingestionsite

    broker = reingestionsite.broker(config)
    try:
        await broker.ping()  # a broker that is not there is told at once
        lines = await broker.declare()
        for site in dict.fromkeys(sites):
            lines += await broker.declare_site(site)
    finally:
        await broker.close()
    return lines
