"""Re-ingestion put together: what is launched for an item, where, with which words, and within which limits."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aogconsole import config, reingestionsite
from aogconsole.config import Config
from aogconsole.errors import ConfigError, UsageError
from aogconsole.reingestion.item import Item, Kind, Queue, State
from backends.launch_local import LocalLauncher
from backends.launch_slurm import SlurmLauncher
from backends.memory_broker import MemoryBroker
from backends.reingestion_ports import Limits

BLOCK, MOUS, ID = "uid://A002/X1/X2", "uid://A001/X1/X1", "11111111-2222-5333-8444-555555555555"


def item(kind: Kind, uid: str = BLOCK, workflow: str | None = ID) -> Item:
    """A claimed row."""
    now = datetime(2026, 11, 22, tzinfo=UTC)
    return Item(7, kind, uid, "v1", None, now, State.LAUNCHING, 2, "", workflow, "one@host:1", now, None, now, now, now,
                None)  # fmt: skip


def load(folder: Path, text: str = "") -> Config:
    """A configuration."""
    file = folder / "config.toml"
    file.write_text(text)
    return config.load(file, environ={})


def test_a_start_says_what_and_where(tmp_path: Path) -> None:
    """Workflow and site by kind, by queue for the VLBA; the metadata are texts."""
    loaded = load(tmp_path, "[reingestion.sites]\ncalibration = 'X'\n")
    start, site = reingestionsite.start_of(loaded, item(Kind.EXECUTION_BLOCK), Queue.ALMA)
    assert (start.workflow_id, start.workflow, site) == (ID, "AlmaExecutionBlockReingestion", "NAASC")
    assert start.metadata == {"item": "7", "attempt": "2", "kind": "execution_block", "uid": BLOCK, "version": "v1",
                              "project": "", "queue": "alma"}  # fmt: skip
    start, site = reingestionsite.start_of(loaded, item(Kind.CALIBRATION, MOUS), Queue.ALMA)
    assert (start.workflow, site) == ("AlmaCalibrationReingestion", "X")
    start, site = reingestionsite.start_of(loaded, item(Kind.CALIBRATION, "BL286"), Queue.VLBA)
    assert (start.workflow, site, start.metadata["queue"]) == ("VlbaReingestion", "DSOC", "vlba")
    with pytest.raises(UsageError, match="not claimed"):
        reingestionsite.start_of(loaded, item(Kind.CALIBRATION, MOUS, None), Queue.ALMA)
    empty = load(tmp_path, "[reingestion.sites]\nvlba = ''\n")
    with pytest.raises(ConfigError, match=r"reingestion\.sites\.vlba"):
        reingestionsite.start_of(empty, item(Kind.CALIBRATION), Queue.VLBA)


def test_this_program_is_what_is_launched(tmp_path: Path) -> None:
    """Its own workflow, with this configuration and the workflow's id; of the VLBA there is none."""
    loaded = load(tmp_path)
    words = reingestionsite.command(loaded)
    start, _ = reingestionsite.start_of(loaded, item(Kind.EXECUTION_BLOCK), Queue.ALMA)
    assert list(words(start)) == [
        sys.executable, "-P", "-m", "aogconsole", "--config", str(tmp_path / "config.toml"), "workflow",
        "execution-block", BLOCK, "--workflow-id", ID,
    ]  # fmt: skip
    vlba, _ = reingestionsite.start_of(loaded, item(Kind.EXECUTION_BLOCK), Queue.VLBA)
    with pytest.raises(ConfigError, match="no workflow of our own"):
        words(vlba)


def test_a_sites_own_command_gets_kind_uid_and_the_id(tmp_path: Path) -> None:
    """Kind and UID are its last words, whatever is in them; the id is in its environment."""
    show = tmp_path / "show"
    show.write_text('#!/bin/sh\nprintf "%s|" "$AOG_WORKFLOW_ID" "$@"\n')
    show.chmod(0o755)
    loaded = load(tmp_path, f"[reingestion]\ncommand = ['{show}', 'a b']\n")
    for uid in (MOUS, "$(id) `id`; x"):
        start, _ = reingestionsite.start_of(loaded, item(Kind.CALIBRATION, uid), Queue.VLBA)
        done = subprocess.run(reingestionsite.command(loaded)(start), capture_output=True, text=True, check=True)
        assert done.stdout == f"{ID}|a b|calibration|{uid}|"


def test_the_limits_are_the_queues(tmp_path: Path) -> None:
    """In all for ALMA; in all and per project for the VLBA."""
    loaded = load(tmp_path, "[reingestion]\nlimit = 9\nvlba_limit = 3\nvlba_per_project = 2\n")
    assert reingestionsite.limits(loaded, Queue.ALMA) == Limits(9)
    assert reingestionsite.limits(loaded, Queue.VLBA) == Limits(3, 2)


def test_each_launcher_is_the_one_that_is_named(tmp_path: Path) -> None:
    """`local`, `slurm`, `amqp`; the folder of what runs is beside the journal unless it is set."""
    made = {}
    for name in ("local", "slurm", "amqp"):
        loaded = load(tmp_path, f"[journal]\npath = 'state/journal.db'\n[reingestion]\nlauncher = '{name}'\n")
        made[name] = reingestionsite.launcher(loaded, MemoryBroker())
        assert made[name].name == name
    assert isinstance(made["local"], LocalLauncher)
    assert isinstance(made["slurm"], SlurmLauncher)
    assert reingestionsite.launch_folder(loaded) == tmp_path / "state" / "workflows"
    named = load(tmp_path, "[reingestion]\nworkdir = 'shared'\n")
    assert reingestionsite.launch_folder(named) == tmp_path / "shared"


def test_what_is_not_configured_is_named(tmp_path: Path) -> None:
    """Each part, by its key; the types of the two events must differ."""
    loaded = load(tmp_path)
    for build, key in (
        (reingestionsite.metadata, "metadata.dsn"), (reingestionsite.broker, "broker.url"),
        (reingestionsite.news, "archive.dsn"), (reingestionsite.ngas, "ngas.url"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{key} is not set"):
            build(loaded)
    with pytest.raises(ConfigError, match="are the same"):
        reingestionsite.event_types(load(tmp_path, "[reingestion]\ncomplete_type = 'x'\nfailed_type = 'x'\n"))
    assert reingestionsite.event_types(loaded)[0].endswith("WorkflowComplete")


def test_sqlite_is_relative_to_the_configuration(tmp_path: Path) -> None:
    """As every path; a home too. PostgreSQL's address is as it stands."""
    assert (
        reingestionsite.metadata_dsn(load(tmp_path, "[metadata]\ndsn = 'sqlite:a.db'\n")) == f"sqlite:{tmp_path}/a.db"
    )
    dsn = "postgresql://u@h/d"
    assert reingestionsite.metadata_dsn(load(tmp_path, f"[metadata]\ndsn = '{dsn}'\n")) == dsn
