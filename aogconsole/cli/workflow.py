"""The verb `workflow`: an execution block's, a calibration's, and the server of a site's start commands."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from aogconsole import times
from aogconsole.cli.common import METRICS, Session, as_json, emit, say
from aogconsole.cli.service import at_the_end, briefly, measured, prepare
from aogconsole.config import Config
from aogconsole.errors import ConfigError
from aogconsole.ids import MousUid

if TYPE_CHECKING:
    from aogconsole.reingestion.ingested import Command
    from aogconsole.reingestion.workflows.telling import Teller
    from backends.broker_ports import Broker
    from backends.ingest_ports import Ingest
    from backends.reingestion_ports import Metadata

SERVER_TELLS = 10.0
"""Seconds that a server tries to publish an event before it goes on; its next look tries again."""

WORKFLOW_ID = click.option(
    "--workflow-id", metavar="ID", help="The id it was started under: it begins once, and its end is published."
)


@click.group("workflow")
def workflow_command() -> None:
    """What the runner launches: fill the metadata database from NGAS and the archive."""


@workflow_command.command("execution-block")
@click.argument("uid")
@WORKFLOW_ID
@as_json
@click.pass_obj
def execution_block(session: Session, uid: str, workflow_id: str | None, *, json_: bool) -> int:
    """Read an execution block's ASDM out of NGAS into execution_blocks and what belongs to it."""
    config, block = _acting(session), MousUid.parse(uid)

    async def work(_metadata: Metadata, store: Ingest) -> dict[str, Any]:
        from aogconsole import reingestionsite as site
        from aogconsole.reingestion.workflows.execution_block import BlockSources, ingest_block

        sources = BlockSources(site.ngas(config), config.settings.ngas.asdm, site.news(config))
        return await ingest_block(block, sources, store, times.now())

    document = asyncio.run(_carried_out(config, work, workflow_id, {"kind": "execution_block", "uid": block.database}))
    if json_:
        emit(document)
        return 0
    say(f"{document['uid']}: MOUS {document['mous'] or 'unknown'}, {document['antennas']} antennas, "
        f"bands {', '.join(document['bands']) or 'unknown'}, {document['sources']} sources, {document['scans']} scans, "
        f"{document['subscans']} subscans; {document['calibration_status'] or 'not marked'}")  # fmt: skip
    _say_notes(document)
    return 0


@workflow_command.command("calibration")
@click.argument("mous")
@WORKFLOW_ID
@as_json
@click.pass_obj
def calibration(session: Session, mous: str, workflow_id: str | None, *, json_: bool) -> int:
    """Read what the archive holds of a MOUS into calibrations, and mark its execution blocks Calibrated."""
    config, uid = _acting(session), MousUid.parse(mous)

    async def work(metadata: Metadata, store: Ingest) -> dict[str, Any]:
        from aogconsole.reingestion.workflows.calibration import ingest_calibration
        from aogconsole.reingestionsite import news

        return await ingest_calibration(uid, news(config), store, metadata, times.now())

    document = asyncio.run(_carried_out(config, work, workflow_id, {"kind": "calibration", "uid": uid.database}))
    if json_:
        emit(document)
        return 0
    say(f"{document['mous']}: {document['files']} files, {document['science_files']} of them science, "
        f"{len(document['execution_blocks'])} execution blocks; {document['calibration_status'] or 'not marked'}"
        )  # fmt: skip
    _say_notes(document)
    return 0


@workflow_command.command("serve")
@click.option("--site", help="Whose start commands; [reingestion.sites] execution_block unless given.")
@click.option("--limit", type=click.IntRange(1, 1000), help="Workflows at once; [reingestion] limit unless given.")
@METRICS
@click.pass_obj
def serve(session: Session, site: str | None, limit: int | None, metrics: str | None) -> int:
    """Run the workflows that start commands ask for at a site, each once. Ends with 0 on SIGTERM."""
    prepare(("pika", "psycopg"))
    config = _acting(session)
    given = config.settings.reingestion
    asyncio.run(_serve(config, site or given.sites.execution_block, limit or given.limit, metrics))
    return 0


def _acting(session: Session) -> Config:
    session.may_act()
    session.config.sound()
    return session.config


def _say_notes(document: dict[str, Any]) -> None:
    for note in document["notes"]:
        say(f"  {note}")


async def _carried_out(
    config: Config,
    work: Callable[[Metadata, Ingest], Awaitable[dict[str, Any]]],
    workflow_id: str | None,
    about: dict[str, str],
) -> dict[str, Any]:
    from aogconsole import reingestionsite as site
    from aogconsole.reingestion.workflows.running import carried_out

    metadata, store = site.ingest(config)
    broker = site.broker(config) if workflow_id and not _embedded(config) else None
    try:
        if not workflow_id:
            await metadata.migrate()
            return await work(metadata, store)
        teller = _teller(config, broker) if broker else None
        return await carried_out(metadata.migrate, lambda: work(metadata, store), workflow_id, store, teller, about)
    finally:
        await briefly(metadata.close(), *([broker.close()] if broker else []))


def _embedded(config: Config) -> bool:
    """A broker within another process hears nothing from this one: there the launcher's look finds the end."""
    return config.settings.broker.url.startswith("memory:")


def _teller(config: Config, broker: Broker, within: float = 60.0) -> Teller:
    from aogconsole import reingestionsite as site
    from aogconsole.reingestion.workflows.telling import Teller

    return Teller(broker, site.sender(), site.event_types(config), within)


async def _serve(config: Config, name: str, limit: int, metrics: str | None) -> None:
    from aogconsole import reingestionsite as site
    from aogconsole.reingestion.workflows.serving import Server, Serving

    if _embedded(config):
        raise ConfigError("a broker within one process has no commands for another", "set broker.url to amqp://...")
    given = config.settings.reingestion.workflows
    workflows = {given.execution_block: "execution-block", given.calibration: "calibration"}
    program = (sys.executable, "-P", "-m", "aogconsole", "--config", str((config.file or config.folder).absolute()))

    def words(command: Command) -> tuple[str, ...]:
        return (*program, "workflow", command.workflow, command.uid, f"--workflow-id={command.workflow_id}")

    (metadata, store), broker = site.ingest(config), site.broker(config)
    try:
        server = Server(
            Serving(name, limit, workflows, words), metadata.migrate, broker, store,
            _teller(config, broker, SERVER_TELLS),
        )  # fmt: skip
        at_the_end(server.stop)
        with measured(metrics, metadata, broker):
            logging.getLogger("aogconsole.workflow").info("serving %s, %d workflows at once", name, limit)
            await server.run()
    finally:
        await briefly(broker.close(), metadata.close())
