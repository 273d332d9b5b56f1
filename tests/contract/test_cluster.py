"""What every Cluster owes, tried on real nodes over OpenSSH. Another engine adds its bench to ENGINES."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path, PurePosixPath

import pytest

from aogconsole.stagecalms.job import Work
from backends.cluster import SshCluster
from backends.cluster_ports import Making, Tell
from tests.contract.cluster_cases import CASES, Bench
from tests.support.nodes import ClusterSite

ENGINES: dict[str, Callable[[pytest.FixtureRequest, ClusterSite, Path], AbstractContextManager[Bench]]] = {
    "ssh": lambda _, site, folder: nullcontext(Bench(SshCluster(site.settings()), site, folder)),
}


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, cluster_site: ClusterSite, tmp_path: Path) -> object:
    """A cluster by each engine."""
    with ENGINES[request.param](request, cluster_site, tmp_path) as made:
        yield made


@pytest.mark.parametrize("name", CASES)
async def test_cluster(bench: Bench, name: str) -> None:
    """Each of the cases."""
    await CASES[name](bench)


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
