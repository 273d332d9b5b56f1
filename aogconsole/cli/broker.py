"""The verb `broker`: what re-ingestion needs at the message broker, and what was put aside there."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from aogconsole import times
from aogconsole.cli.common import Session, as_json, emit, say, table
from aogconsole.config import Config, masked
from aogconsole.errors import ConfigError
from aogconsole.text import clean, decode

SHOWN = 100
"""Characters of a message in the table."""


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


@broker_command.command("dead")
@click.option("--site", "sites", multiple=True, metavar="SITE", help="Also the dead letters of this site's commands.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="The oldest N of each queue."
)
@as_json
@click.pass_obj
def dead_command(session: Session, sites: tuple[str, ...], limit: int, *, json_: bool) -> None:
    """Show the dead letters: which messages, why and since when. They stay where they are."""
    queues = asyncio.run(_dead(session.config, sites, limit))
    if json_:
        emit({"broker": masked(session.config.settings.broker.url), "queues": queues})
        return
    letters = [(one["queue"], letter) for one in queues for letter in one["letters"]]
    if letters:
        columns = ("id", "reason", "at")
        rows = [[queue, *(letter[key] for key in columns), _short(letter["body"])] for queue, letter in letters]
        table(("queue", *columns, "message"), rows)
    for one in queues:
        if one["messages"] > len(one["letters"]):
            say(f"{one['queue']} has {one['messages']}; these are the oldest (--limit)")
    if not letters:
        say(f"no dead letters in {', '.join(one['queue'] for one in queues)}")


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


async def _dead(config: Config, sites: tuple[str, ...], limit: int) -> list[dict[str, Any]]:
    from aogconsole import reingestionsite
    from aogconsole.reingestion.messages import OUR_EVENTS
    from backends.topology import dead, plan, site_plan

    queues = [*plan(OUR_EVENTS).queues, *(one for site in dict.fromkeys(sites) for one in site_plan(site).queues)]
    broker = reingestionsite.broker(config)
    if config.settings.broker.url.startswith("memory:"):
        raise ConfigError("a broker within one process shows its messages to no other", "set broker.url to amqp://...")
    found = []
    try:
        await broker.ping()  # a broker that is not there is told at once
        for queue in queues:
            depth = await broker.depth(dead(queue))
            letters = await broker.dead_letters(queue, limit)
            found.append({
                "queue": dead(queue),
                "messages": max(depth, len(letters)),
                "letters": [
                    {"id": clean(one.id), "reason": one.reason or None, "at": one.at and times.text(one.at),
                     "size": one.size, "body": clean(decode(one.body))}
                    for one in letters
                ],
            })  # fmt: skip
    finally:
        await broker.close()
    return found
