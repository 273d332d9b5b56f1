"""More around the nodes of tests/support/nodes.py: names that lead nowhere, and the programs that speak to nodes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aogconsole.stagecalms.job import Node
from tests.support.nodes import NODES, ClusterSite


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield listener.getsockname()[1]


def add_hosts(site: ClusterSite, model: str, **ports: int) -> tuple[Node, ...]:
    """More names in ssh_config, each the model node with another port of 127.0.0.1, or (0) its own."""
    entry = site.nodes[model].host_entry()
    more = ""
    for name, port in ports.items():
        lines = entry.replace(f"Host {NODES[0]}", f"Host {name}", 1)
        if port:
            lines = lines.replace(f"Port {site.nodes[model].port}", f"Port {port}").replace("127.0.0.2", "127.0.0.1")
        more += lines
    site.ssh_config.write_text(site.ssh_config.read_text() + more)
    return tuple(Node(name) for name in ports)


def unused() -> int:
    """A port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port


def children(site: ClusterSite) -> list[str]:
    """Programs that speak to these nodes, whoever is their parent by now."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (path / "cmdline").read_bytes().split(b"\0")
            if words[0] in {b"ssh", b"rsync"} and any(bytes(site.ssh_config) in word for word in words):
                found.append(words[0].decode())
    return found


async def no_children(site: ClusterSite) -> None:
    """Until none is left: what is killed takes a moment to go."""
    async with asyncio.timeout(5):
        while children(site):
            await asyncio.sleep(0.02)
