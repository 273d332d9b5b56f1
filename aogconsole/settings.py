"""Every setting, once: its section, name, type, default and what it is for.

The configuration's contract is design section 6. The template of `config init`, the table in the docs and the
checks of `config.load` are made from these classes. Of a dataclass they have the fields only, and the rest from one
base: what dataclasses write themselves would be compiled at every start of a verb.
"""

from __future__ import annotations

import functools
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from typing import Any, Literal, get_type_hints


class Section:
    """Made once, by keywords; does not change."""

    def __init__(self, **values: Any) -> None:
        for one in fields(self):  # type: ignore[arg-type]
            if one.name in values:
                value = values.pop(one.name)
            else:
                value = one.default_factory() if one.default_factory is not MISSING else one.default
            object.__setattr__(self, one.name, value)
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(values)}")

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")


@functools.cache
def declared(section: type[Section]) -> list[tuple[Field[Any], Any]]:
    """What a section has, each with its type: settings, or further sections."""
    types = get_type_hints(section)
    return [(one, types[one.name]) for one in fields(section)]  # type: ignore[arg-type]


def setting(
    default: Any,
    doc: str,
    *,
    path: bool = False,
    secret: bool = False,
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """Declare one setting. `path`: relative to the file's folder; `secret`: a reference, never the secret itself."""
    given = {"doc": doc, "path": path, "secret": secret, "least": least, "most": most}
    return field(default=default, metadata=given)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Journal(Section):
    """Where everything is kept."""

    path: str = setting("", "the journal; terminal logs lie beside it in runs/", path=True)
    group: str = setting("", "a group of operators that shares the journal (files 0660, folder 2770)")
    syslog: str = setting("/dev/log", 'socket that gets the head of the history; "" for none', path=True)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Archive(Section):
    """The ALMA archive over Oracle Net, read only."""

    dsn: str = setting("", "host:1521/SERVICE")
    user: str = setting("AOG_RO", "the archive account")
    password: str = setting("", "reference to its password", secret=True)
    timeout: float = setting(10.0, "seconds: connect, and each statement", least=0.1)
    queries: str = setting("", "folder of .sql files that replace ours, by name", path=True)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Staging(Section):
    """The staging host, over SSH."""

    host: str = setting("almasciencedev.hq.eso.org", "the staging host")
    port: int = setting(22, "its SSH port", least=1, most=65535)
    user: str = setting("arcdistribution", "the account there")
    key: str = setting("", "private key; the agent otherwise", path=True)
    known_hosts: str = setting("known_hosts", "file with the host's key", path=True)
    root: str = setting(".aogconsole", "folder of the runs on the staging host")
    remote: Literal["forced", "plain"] = setting("forced", "aogremote behind a forced command, or plain commands")
    command: str = setting("stagecalms.sh", "the staging command")
    slots: int = setting(2, "runs at a time", least=1, most=6)
    retention_days: int = setting(
        28, "days until staged data are deleted, where the run does not say", least=1, most=999_999
    )
    url_prefixes: tuple[str, ...] = setting(
        ("http://almascience.eso.org/arcdistribution/", "https://almascience.eso.org/arcdistribution/"),
        "a link is mailed only when it begins with one of these",
    )
    warn_days: int = setting(3, "days before deletion at which the console warns", least=0)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Mail(Section):
    """The mailbox of requests, and the way of letters."""

    inbox: str = setting("", "imaps://user@host/INBOX, imap://..., or maildir:PATH")
    inbox_password: str = setting("", "reference to the mailbox's password", secret=True)
    outgoing: str = setting("", "smtp://user@host:587, smtps://..., or maildir:PATH (filed, not sent)")
    outgoing_password: str = setting("", "reference to the mail server's password", secret=True)
    ca: str = setting("", "file of certificates to trust for both", path=True)
    address: str = setting("aog@eso.org", "our own address")
    expert: str = setting("dpetry@eso.org", "who investigates failures")
    senders: tuple[str, ...] = setting(("*@eso.org",), "who may request (patterns of addresses)")
    authserv: str = setting("", "server whose DMARC pass is asked for; From is forgeable")
    cc_refusals: bool = setting(False, "refusals get the link letter's CC too")
    poll: float = setting(60.0, "seconds between looks into the mailbox", least=0.1)
    since: str = setting("", "YYYY-MM-DD: mail received before is left alone (for an old mailbox)")
    letters: str = setting("", "folder of letter texts that replace ours, by name", path=True)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Policy(Section):
    """What needs a person."""

    stage: Literal["ask", "auto"] = setting("ask", "auto: stage what is entitled without asking")
    send: Literal["ask", "auto"] = setting("ask", "auto: send letters without asking")
    timezone: str = setting("UTC", "whose calendar says which day a request came")


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Console(Section):
    """The screen."""

    clipboard: Literal["auto", "osc52", "tmux", "desktop", "off"] = setting(
        "auto", "how copied text reaches the operator's clipboard"
    )
    bell: bool = setting(True, "ring when a run ended or a request needs a person")
    keys: tuple[str, ...] = setting((), 'other keys for actions, as "request.stage=S"')


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Metadata(Section):
    """The metadata database of the re-ingestion."""

    dsn: str = setting("", "postgresql://user@host/database, or sqlite:PATH (embedded)")
    password: str = setting("", "reference to its password", secret=True)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Broker(Section):
    """RabbitMQ."""

    url: str = setting("", "amqp://user@host:5672/vhost, amqps://..., or memory: (embedded, one process)")
    password: str = setting("", "reference to its password", secret=True)
    ca: str = setting("", "file of certificates to trust (amqps)", path=True)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Sites(Section):
    """Where each workflow is launched (routing key SITE.start)."""

    execution_block: str = setting("NAASC", "site of execution blocks' workflows (Charlottesville)")
    calibration: str = setting("DSOC", "site of calibrations' workflows (New Mexico)")
    vlba: str = setting("DSOC", "site of the VLBA's workflows")


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Workflows(Section):
    """What the workflows are called (eventName of the command)."""

    execution_block: str = setting("AlmaExecutionBlockReingestion", "workflow of an execution block")
    calibration: str = setting("AlmaCalibrationReingestion", "workflow of a calibration")
    vlba: str = setting("VlbaReingestion", "workflow of a VLBA item")


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Reingestion(Section):
    """QueueLoader and QueueRunner."""

    capo_profile: str = setting("", "CAPO profile to read settings from")
    interval: float = setting(3600.0, "seconds between the loader's cycles", least=1)
    execblock_overlap: float = setting(43200.0, "seconds of look-back for execution blocks", least=0)
    calibration_overlap: float = setting(172800.0, "seconds of look-back for calibrations", least=0)
    limit: int = setting(4, "workflows at once", least=1)
    attempts: int = setting(3, "launches of one item before it is dead", least=1)
    retry_delay: float = setting(60.0, "seconds before a failed item's next attempt; doubled for each", least=0)
    lease: float = setting(60.0, "seconds a runner may be silent before another looks after its launches", least=1)
    vlba_limit: int = setting(4, "VLBA workflows at once", least=1)
    vlba_per_project: int = setting(1, "VLBA workflows of one project at once", least=1)
    vlba_query: str = setting("", "file of a query on the metadata database: uid, project, source_time", path=True)
    launcher: Literal["amqp", "slurm", "local"] = setting("amqp", "how workflows are launched")
    workdir: str = setting("", "folder of launched workflows (slurm: shared); beside the journal when unset", path=True)
    command: tuple[str, ...] = setting((), "what slurm and local run, before KIND UID; this program when unset")
    sbatch: tuple[str, ...] = setting((), "options for sbatch, as --partition=batch")
    complete_type: str = setting(
        "edu.nrao.archive.workflow.messaging.events.WorkflowComplete", "type of the event of a workflow's success"
    )
    failed_type: str = setting(
        "edu.nrao.archive.workflow.messaging.events.WorkflowFailed", "type of the event of its failure"
    )
    sites: Sites = field(default_factory=Sites)
    workflows: Workflows = field(default_factory=Workflows)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Ngas(Section):
    """NGAS, where ASDMs are."""

    url: str = setting("", "http://host:7777; RETRIEVE?file_id=... is added")
    asdm: str = setting(
        "{uid}/{table}.xml", "file_id of an ASDM's XML files; without {table}: of one tar file that holds them"
    )
    timeout: float = setting(60.0, "seconds without a byte", least=0.1)


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Stagecalms(Section):
    """The staging command, on the staging host."""

    nodes: tuple[str, ...] = setting(("arcp1.hq.eso.org", "arcp9.hq.eso.org"), "cluster nodes: host, or host:port")
    node_user: str = setting("arcproc", "the account there")
    rhel5_nodes: tuple[str, ...] = setting(("arcp-rhel5.hq.eso.org",), "nodes for old CASA versions")
    rhel5_before: str = setting("2013", "project year before which they are used")
    workdir: str = setting("/opsw/work/pipeproc/autopipeline/tmp", "folder of the working directories")
    web_root: str = setting("/var/www/html/arcdistribution/preview", "folder of the staged data")
    url: str = setting("http://almascience.eso.org/arcdistribution/preview", "its address")
    calibrator: str = setting("", "command: PROJECT MOUS EB...; leaves <EB>.ms.split.cal")
    engine: Literal["ssh", "slurm"] = setting("ssh", "how jobs reach a node")
    rhel5_calibrator: str = setting("", "the command on the RHEL5 nodes, where it is another one")
    blocks: str = setting("", "command: MOUS; prints a line 'EB QA0STATUS' for each execution block; else [archive]")
    ssh_config: str = setting("", "OpenSSH client configuration for the nodes; the account's own when unset", path=True)
    probe_timeout: float = setting(10.0, "seconds a node has to answer when one is chosen", least=0.1)
    room: float = setting(1.0, "GB that must be free for working directories on a node", least=0)
    patience: float = setting(120.0, "seconds without a node before its run has failed", least=0)
    sbatch: tuple[str, ...] = setting((), "options for sbatch, as --partition=batch")
    sbatch_rhel5: tuple[str, ...] = setting((), "options for sbatch for old projects, as --constraint=rhel5")


@dataclass(init=False, repr=False, eq=False, match_args=False)
class Settings(Section):
    """The whole configuration."""

    journal: Journal = field(default_factory=Journal)
    archive: Archive = field(default_factory=Archive)
    staging: Staging = field(default_factory=Staging)
    mail: Mail = field(default_factory=Mail)
    policy: Policy = field(default_factory=Policy)
    console: Console = field(default_factory=Console)
    metadata: Metadata = field(default_factory=Metadata)
    broker: Broker = field(default_factory=Broker)
    reingestion: Reingestion = field(default_factory=Reingestion)
    ngas: Ngas = field(default_factory=Ngas)
    stagecalms: Stagecalms = field(default_factory=Stagecalms)
