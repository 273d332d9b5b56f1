"""A private cluster whose one node is given by a private Slurm and reached by real OpenSSH under Slurm's name of it.

As root both sshd and the jobs run as the same account, as the engine needs it: Slurm's commands are run as that one.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backends.cluster_slurm import SlurmCluster, SlurmSettings
from backends.slurm_queue import job_name
from tests.support.nodes import ClusterNode, ClusterSite
from tests.support.slurm import Slurm

NODE = socket.gethostname().partition(".")[0]
"""Slurm's name of the node, and ours."""


@dataclass
class SlurmSite:
    """The node, and Slurm, with which a staging host submits."""

    nodes: ClusterSite
    slurm: Slurm
    programs: Path
    """Slurm's commands as the account."""

    @property
    def node(self) -> ClusterNode:
        """The only one."""
        return self.nodes.nodes[NODE]

    @property
    def environment(self) -> dict[str, str]:
        """For Slurm's commands."""
        usual = self.slurm.environment
        return {**usual, "PATH": f"{self.programs}:{usual['PATH']}", "AOG_MADE": "20", "AOG_BEGUN": "20"}

    def cluster(self, **changes: Any) -> SlurmCluster:
        """An adapter as another stagecalms has it; `changes` of SlurmSettings."""
        usual: dict[str, Any] = {"environ": self.environment, "patience": 20.0, "quiet": 0.3, "grace": 1.0}
        settings = self.nodes.settings(nodes=(self.node.node,), rhel5_nodes=(self.node.node,))
        return SlurmCluster(settings, SlurmSettings(**{**usual, **changes}))

    def states(self, token: str = "") -> list[str]:
        """Slurm's states of a run's jobs, or of all."""
        name = [f"--name={job_name(token)}"] if token else []
        return self.slurm.run("squeue", "--noheader", "--states=all", "--format=%T", *name).stdout.split()

    def living(self, token: str = "") -> list[str]:
        """Of those that wait or run."""
        return [state for state in self.states(token) if state in {"PENDING", "RUNNING", "CONFIGURING"}]

    def holders(self) -> list[int]:
        """Processes that are jobs."""
        found = subprocess.run(["pgrep", "-f", str(self.nodes.workdir)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def close_partition(self) -> None:
        """No job starts until it is opened."""
        self.slurm.run("scontrol", "update", "partitionname=arc", "state=down")

    def open_partition(self) -> None:
        """Jobs start."""
        self.slurm.run("scontrol", "update", "partitionname=arc", "state=up")


@pytest.fixture
def slurm_site(slurm: Slurm, new_cluster_site: Callable[..., ClusterSite], tmp_path: Path) -> Iterator[SlurmSite]:
    """One node, idle."""
    site = SlurmSite(new_cluster_site(names=[NODE], shared=True), slurm, tmp_path / "slurm")
    site.programs.mkdir()
    if os.geteuid() == 0:
        account = site.node.home.stat()
        drop = f"setpriv --reuid={account.st_uid} --regid={account.st_gid} --clear-groups"
        for name in ("sbatch", "squeue", "scancel"):
            shim = site.programs / name
            shim.write_text(f'#!/bin/sh\nexec {drop} {shutil.which(name)} "$@"\n')
            shim.chmod(0o755)
    yield site
    if "slurmctld" not in slurm.processes:
        slurm.start_controller()
    site.open_partition()
    for number in slurm.run("squeue", "--noheader", "--format=%i").stdout.split():
        slurm.run("scancel", "--signal=KILL", "--full", number)
        slurm.run("scancel", number)
