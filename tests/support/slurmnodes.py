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
"""Slurm's name of the node, which is configured with its domain."""


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

    def numbers(self) -> list[str]:
        """Of Slurm's jobs that have not ended."""
        return self.slurm.run("squeue", "--noheader", "--format=%i").stdout.split()

    @property
    def environment(self) -> dict[str, str]:
        """For Slurm's commands."""
        usual = self.slurm.environment
        return {**usual, "PATH": f"{self.programs}:{usual['PATH']}"}

    def of_another(self) -> dict[str, str]:
        """For Slurm's commands as an account has them that is not the node's; for root alone."""
        folder = self.programs.with_name("others")
        folder.mkdir()
        self.install(folder, (65534, 65534) if self.node.home.stat().st_uid == 0 else (0, 0))
        return {**self.environment, "PATH": f"{folder}:{self.environment['PATH']}"}

    def install(self, folder: Path, ids: tuple[int, int] | None = None) -> None:
        """Put Slurm's commands there, as the account has them: with its configuration, and quick at the end."""
        settings = f"SLURM_CONF={self.slurm.environment['SLURM_CONF']} AOG_REMOVED=1"
        drop = ""
        if os.geteuid() == 0:
            account = self.node.home.stat()
            uid, gid = ids or (account.st_uid, account.st_gid)
            # sbatch reads the script that it is given, which may be below a home that is root's
            reads = "--inh-caps=+dac_read_search --ambient-caps=+dac_read_search" if uid else ""
            drop = f"setpriv --reuid={uid} --regid={gid} --clear-groups {reads}"
        for name in ("sbatch", "squeue", "scancel"):
            program = folder / name
            program.write_text(f'#!/bin/sh\nexec {drop} env {settings} {shutil.which(name)} "$@"\n')
            program.chmod(0o755)

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
        words = f"slurm_script {self.nodes.workdir}"
        found = subprocess.run(["pgrep", "-f", words], capture_output=True, text=True, check=False)
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
    site = SlurmSite(new_cluster_site(names=[f"{NODE}.hq.eso.org"], shared=True), slurm, tmp_path / "slurm")
    site.programs.mkdir()
    site.install(site.programs)
    yield site
    if "slurmctld" not in slurm.processes:
        slurm.start_controller()
    site.open_partition()
    for number in site.numbers():
        slurm.run("scancel", "--signal=KILL", "--full", number)
        slurm.run("scancel", number)
