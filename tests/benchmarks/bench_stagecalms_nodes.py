"""Choosing one of 50 nodes of which 5 are dead, in how many time limits?

    python -m tests.benchmarks.bench_stagecalms_nodes [LIMIT] [LIVE] [DEAD]

The live ones are three OpenSSH servers under many names; of the dead ones some refuse, some accept and never speak, and
some begin to speak (through a proxy that then freezes). Beside it a choice among the live ones alone, and one of one
node. Ends with 1 when a live node was skipped or a dead one was not told, or when the choice took longer than one
limit and what a cluster of one node takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import PurePosixPath

from aogconsole.stagecalms.job import Node
from backends.cluster import SshCluster
from tests.support.nodes import ClusterSite, clusters, new_token
from tests.support.proxy import TcpProxy


@contextlib.asynccontextmanager
async def dead(site: ClusterSite, count: int) -> AsyncIterator[list[tuple[str, int]]]:
    """Addresses of so many: in turns one that refuses, one that never speaks, one that freezes."""
    first = next(iter(site.nodes.values()))
    async with contextlib.AsyncExitStack() as ends:
        found: list[tuple[str, int]] = []
        for number in range(count):
            if number % 3 == 2:
                proxy = await ends.enter_async_context(TcpProxy(first.port, first.address))
                proxy.up.clear()  # its greeting comes, and nothing after it
                found.append(("127.0.0.1", proxy.port))
                continue
            closed = socket.socket()
            ends.callback(closed.close)
            closed.bind(("127.0.0.1", 0))
            if number % 3 == 1:
                closed.listen(10)
            found.append(closed.getsockname())
        yield found


def name_all(site: ClusterSite, live: int, gone: Sequence[tuple[str, int]]) -> tuple[list[Node], list[Node]]:
    """Add names for all to ssh_config; the live nodes and the dead ones."""
    real, entries = list(site.nodes.values()), []
    for number in range(live):
        node = real[number % len(real)]
        entries.append(node.host_entry().replace(f"Host {node.name}\n", f"Host live{number}\n", 1))
    for number, (address, port) in enumerate(gone):
        entry = real[0].host_entry().replace(f"Host {real[0].name}\n", f"Host dead{number}\n", 1)
        entry = entry.replace(f"HostName {real[0].address}\n", f"HostName {address}\n")
        entries.append(entry.replace(f"Port {real[0].port}\n", f"Port {port}\n"))
    site.ssh_config.write_text(site.ssh_config.read_text() + "".join(entries))
    return [Node(f"live{number}") for number in range(live)], [Node(f"dead{number}") for number in range(len(gone))]


async def choose(site: ClusterSite, nodes: Sequence[Node], limit: float) -> tuple[float, list[str]]:
    """Seconds that it took, and what it told."""
    cluster, told = SshCluster(site.settings(nodes=tuple(nodes), probe_timeout=limit)), list[str]()
    begun = time.perf_counter()
    work = await cluster.place(PurePosixPath(site.workdir) / "WORK11018", new_token(), old=False, tell=told.append)
    seconds = time.perf_counter() - begun
    assert work
    await cluster.remove(work)
    return seconds, told


async def main(limit: float, live: int, gone: int) -> int:
    """Measure and print."""
    with clusters() as make:
        site = make()
        async with dead(site, gone) as addresses:
            living, others = name_all(site, live, addresses)
            alone, _ = await choose(site, living[:1], limit)
            healthy, _ = await choose(site, living, limit)
            mixed = [*living[: live // 2], *others, *living[live // 2 :]]
            whole, told = await choose(site, mixed, limit)
    for line in told:
        print(line)
    print(f"1 node: {alone:.2f} s; {live} live nodes: {healthy:.2f} s; with {gone} dead ones: {whole:.2f} s")
    print(f"{(whole - alone) / limit:.2f} of one limit ({limit:g} s)")
    right = len(told) == gone and all("dead" in line for line in told)
    return 0 if right and whole <= 1.05 * limit + alone else 1


if __name__ == "__main__":
    words = sys.argv[1:4]
    sys.exit(
        asyncio.run(
            main(
                float(words[0]) if words else 10.0,
                int(words[1]) if len(words) > 1 else 45,
                int(words[2]) if len(words) > 2 else 5,
            )
        )
    )
