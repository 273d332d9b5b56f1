"""Putting re-ingestion together from the configuration: which adapter stands behind each of its ports.

Like `aogconsole.site`, for the loader, the runner and the workflows. Adapters are imported where they are built.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from aogconsole.capo import Watcher
from aogconsole.config import Config, located, reloaded
from aogconsole.errors import ConfigError, UsageError
from aogconsole.journal.history import Actor
from aogconsole.reingestion.item import Item, Kind, Queue
from aogconsole.reingestion.messages import Sender, Start
from backends.broker_ports import Broker
from backends.ingest_ports import Ingest
from backends.reingestion_ports import ArchiveNews, Launcher, Limits, Metadata, Ngas

WORKFLOW_ID = "AOG_WORKFLOW_ID"
"""Environment variable in which a site's own command finds the id of its workflow."""


def metadata(config: Config) -> Metadata:
    """The metadata database. Raises ConfigError when it is not configured."""
    from backends.metadata import open_metadata

    config.need("metadata.dsn")
    return open_metadata(metadata_dsn(config), config.secret("metadata.password"))


def metadata_dsn(config: Config) -> str:
    """Where it is; the path of `sqlite:PATH` is relative to the configuration's folder."""
    dsn = config.settings.metadata.dsn
    if not dsn.startswith("sqlite:"):
        return dsn
    return f"sqlite:{located(dsn.removeprefix('sqlite:'), 'metadata.dsn', config.folder)}"


def ingest(config: Config) -> tuple[Metadata, Ingest]:
    """The metadata database, and the store of the workflows in it, which is closed with it. Raises ConfigError."""
    from backends.ingest import IngestStore
    from backends.metadata import open_metadata

    config.need("metadata.dsn")
    opened = open_metadata(metadata_dsn(config), config.secret("metadata.password"), "aogconsole workflow")
    return opened, IngestStore(opened.store)


def broker(config: Config, timeout: float = 10.0) -> Broker:
    """The broker; `timeout`: seconds for each call. Raises ConfigError when it is not configured."""
    config.need("broker.url")
    given = config.settings.broker
    if given.url.startswith("memory:"):
        from backends.memory_broker import MemoryBroker

        return MemoryBroker.shared(given.url.removeprefix("memory:"))
    from backends.rabbitmq import RabbitBroker

    try:
        return RabbitBroker(given.url, password=config.secret("broker.password"), ca=given.ca, timeout=timeout)
    except ConfigError as error:
        raise ConfigError(f"broker.url: {error}", error.hint) from None


def news(config: Config) -> ArchiveNews:
    """The archive's news. Raises ConfigError when the archive is not configured."""
    from backends.oracle import OracleSettings
    from backends.oracle_news import OracleNews

    config.need("archive.dsn", "archive.user")
    given = config.settings.archive
    queries = Path(given.queries) if given.queries else None
    return OracleNews(OracleSettings(
        given.dsn, given.user, config.secret("archive.password"), given.timeout, queries
    ))  # fmt: skip


def ngas(config: Config) -> Ngas:
    """NGAS. Raises ConfigError when it is not configured."""
    from backends.ngas import HttpNgas

    config.need("ngas.url")
    given = config.settings.ngas
    return HttpNgas(given.url, given.timeout)


def launcher(config: Config, through: Broker) -> Launcher:
    """What launches workflows; `through`: the broker, for the commands of `amqp`. Raises ConfigError."""
    of = ("execution_block", "calibration")
    config.need(*(f"reingestion.{section}.{one}" for section in ("sites", "workflows") for one in of))
    given = config.settings.reingestion
    if given.launcher == "amqp":
        from backends.launch_amqp import AmqpLauncher

        return AmqpLauncher(through, sender())
    if given.launcher == "slurm":
        from backends.launch_slurm import SlurmLauncher

        return SlurmLauncher(launch_folder(config), command(config), given.sbatch)
    from backends.launch_local import LocalLauncher

    return LocalLauncher(launch_folder(config), command(config))


def launch_folder(config: Config) -> Path:
    """The folder of what `slurm` and `local` launch: `reingestion.workdir`, or `workflows` beside the journal."""
    given = config.settings.reingestion.workdir
    return Path(given) if given else config.journal_path.absolute().parent / "workflows"


def command(config: Config) -> Callable[[Start], Sequence[str]]:
    """What `slurm` and `local` run for a start.

    Unset, this program: `workflow execution-block|calibration UID --workflow-id ID`. A site's own
    `reingestion.command` gets KIND (with a dash) and UID as its last words, and the id in the environment.
    """
    own = config.settings.reingestion.command
    program = (sys.executable, "-P", "-m", "aogconsole")
    named = ("--config", str(config.file.absolute())) if config.file else ()

    def words(start: Start) -> Sequence[str]:
        kind, uid = start.metadata["kind"].replace("_", "-"), start.metadata["uid"]
        if own:
            return ("env", f"{WORKFLOW_ID}={start.workflow_id}", *own, kind, uid)
        if start.metadata["queue"] != Queue.ALMA:
            raise ConfigError(
                f"there is no workflow of our own for the queue {start.metadata['queue']}",
                "set reingestion.command, or reingestion.launcher to amqp",
            )
        return (*program, *named, "workflow", kind, uid, "--workflow-id", start.workflow_id)

    return words


def watcher(config: Config) -> Watcher:
    """The configuration as loader and runner ask for it each round: `fresh()` reads it again when it has changed."""
    return Watcher(config, lambda: reloaded(config))


def limits(config: Config, queue: Queue) -> Limits:
    """How many workflows of a queue may run at once. Raises ConfigError."""
    config.sound()
    given = config.settings.reingestion
    return Limits(given.limit) if queue is Queue.ALMA else Limits(given.vlba_limit, given.vlba_per_project)


def start_of(config: Config, item: Item, queue: Queue) -> tuple[Start, str]:
    """The command that starts a claimed item's workflow, and the site where. Raises ConfigError."""
    if item.workflow_id is None:
        raise UsageError(f"item {item.id} is not claimed", "claim it before it is launched")
    key = "vlba" if queue is Queue.VLBA else "calibration" if item.kind is Kind.CALIBRATION else "execution_block"
    config.need(f"reingestion.workflows.{key}", f"reingestion.sites.{key}")
    given = config.settings.reingestion
    named = {
        "item": str(item.id), "attempt": str(item.attempt), "kind": item.kind.value, "uid": item.uid,
        "version": item.version, "project": item.project or "", "queue": queue.value,
    }  # fmt: skip
    start = Start(item.workflow_id, str(getattr(given.workflows, key)), named)
    return start, str(getattr(given.sites, key))


def sender() -> Sender:
    """Who speaks in our commands and events: this account on this host."""
    user, _, host = Actor.current("").who.partition("@")
    return Sender(user, host)


def event_types(config: Config) -> tuple[str, str]:
    """The types of the events of a workflow's success and of its failure. Raises ConfigError."""
    config.need("reingestion.complete_type", "reingestion.failed_type")
    given = config.settings.reingestion
    if given.complete_type == given.failed_type:
        raise ConfigError("reingestion.complete_type and failed_type are the same", "give each a type of its own")
    return given.complete_type, given.failed_type
