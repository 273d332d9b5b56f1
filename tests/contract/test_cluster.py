"""What every Cluster owes, tried on real nodes over OpenSSH. Another engine adds its bench to ENGINES."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path, PurePosixPath

import pytest

from aogconsole.stagecalms.job import Work
from backends.cluster import SshCluster
from backends.cluster_ports import Making, Tell
from tests.contract.cluster_cases import CASES, Bench
from tests.support.nodes import ClusterSite
from tests.support.slurmnodes import SlurmSite


def by_ssh(request: pytest.FixtureRequest, folder: Path) -> Bench:
    """Three nodes, the least loaded of which is taken."""
    site: ClusterSite = request.getfixturevalue("cluster_site")
    return Bench(SshCluster(site.settings()), site, folder)


def by_slurm(request: pytest.FixtureRequest, folder: Path) -> Bench:
    """One node, given by a real scheduler."""
    site: SlurmSite = request.getfixturevalue("slurm_site")
    return Bench(site.cluster(), site.nodes, folder)


ENGINES: dict[str, Callable[[pytest.FixtureRequest, Path], Bench]] = {"ssh": by_ssh, "slurm": by_slurm}


NO_ENGINES = {"big_log", "missing_ms", "empty_ms", "lost_when_restarted", "removes_only_its_own", "no_such_tar",
              "ends_only_its_own", "ended_without_a_note", "packs_what_may_only_be_read"}  # fmt: skip
"""Cases that no engine can make a difference to: tried by ssh only, for a job takes a second or more."""


@pytest.mark.parametrize(
    ("engine", "name"),
    [(engine, name) for name in CASES for engine in ENGINES if {engine, name} - NO_ENGINES != {"slurm"}],
)
async def test_cluster(request: pytest.FixtureRequest, tmp_path: Path, engine: str, name: str) -> None:
    """Each of the cases, by each engine."""
    await CASES[name](ENGINES[engine](request, tmp_path))


class Quick(SshCluster):
    """Broken on purpose: leaves the log when there is something of it."""

    async def follow(self, work: Work, offset: int) -> AsyncIterator[bytes]:
        """The first piece only."""
        async for piece in super().follow(work, offset):
            yield piece
            return


class Careless(SshCluster):
    """Broken on purpose: notes no directory."""

    async def place(
        self, work: PurePosixPath, token: str, *, old: bool, tell: Tell, making: Making | None = None
    ) -> Work | None:
        """Without a note."""
        return await super().place(work, token, old=old, tell=tell)


@pytest.mark.parametrize(("broken", "name"), [(Quick, "passes_the_log_on"), (Careless, "another_number")])
async def test_a_broken_one_is_caught(
    cluster_site: ClusterSite, tmp_path: Path, broken: type[SshCluster], name: str
) -> None:
    """By one of the cases at least."""
    with pytest.raises((AssertionError, IndexError)):
        await CASES[name](Bench(broken(cluster_site.settings()), cluster_site, tmp_path))
