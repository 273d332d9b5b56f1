"""Links to nodes that break or freeze, full disks, and who gives up: the cluster over OpenSSH and rsync."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aogconsole.errors import OutsideError
from aogconsole.stagecalms.generating import closing
from aogconsole.stagecalms.job import TAR, Node, Work
from backends.cluster import SshCluster
from backends.cluster_ports import LinkCut, NodeRefused
from tests.contract.cluster_cases import BLOCKS, Bench, bench_of, within
from tests.support.clustering import children, no_children
from tests.support.nodes import ACCOUNT, NODES, ClusterSite, new_token
from tests.support.proxy import TcpProxy

NewSite = Callable[..., ClusterSite]

# -- links -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def behind_proxy(site: ClusterSite, folder: Path, **changes: object) -> AsyncIterator[tuple[Bench, TcpProxy]]:
    """A bench whose only node is reached through a proxy; a silent link is cut after 2 s."""
    node = site.nodes["arcp1"]
    async with TcpProxy(node.port, node.address) as proxy:
        site.route("arcp1", "127.0.0.1", proxy.port)
        yield bench_of(site, folder, **{"nodes": (node.node,), "alive_interval": 1, "alive_count": 2, **changes}), proxy


async def packed_work(bench: Bench, size: int) -> Work:
    """A working directory whose tars, of this size each, are packed."""
    work = await bench.begun(bench.generation(SIZE=size))
    await bench.log(work)
    assert (await bench.cluster.state(work)).status == 0
    return work


async def passed(proxy: TcpProxy, count: int) -> None:
    """Until so many bytes have come from the node."""
    async with asyncio.timeout(30), proxy.moved:
        await proxy.moved.wait_for(lambda: proxy.sent_down >= count)


@pytest.mark.parametrize("fault", ["reset", "freeze", "half_close"])
async def test_a_copy_is_resumed(new_cluster_site: NewSite, tmp_path: Path, fault: str) -> None:
    """What came before the fault is not sent again, and what is there in the end is what was packed."""
    size = 12_000_000
    async with behind_proxy(new_cluster_site(NODES[:1]), tmp_path) as (bench, proxy):
        work = await packed_work(bench, size)
        names = [f"{block}{TAR}" for block in BLOCKS]
        copying = asyncio.create_task(bench.fetched(work, names))
        await passed(proxy, proxy.sent_down + size + size // 2)
        getattr(proxy, fault)()
        with pytest.raises(LinkCut):
            await copying
        proxy.reset()
        before = proxy.sent_down
        there = sum(path.stat().st_size for path in tmp_path.glob("*.tar"))
        assert there > size // 2
        assert b"total size is" in await bench.fetched(work, names)
        assert proxy.sent_down - before < 2 * size - there + size // 2
        for tar in await bench.cluster.packed(work):
            assert hashlib.sha256((tmp_path / tar.name).read_bytes()).hexdigest() == tar.sha256
        await no_children(bench.site)


@pytest.mark.parametrize("fault", ["reset", "freeze", "half_close", "cut", "kill"])
async def test_a_log_is_followed_on(new_cluster_site: NewSite, tmp_path: Path, fault: str) -> None:
    """From the byte where the link broke; the worker does not notice, unless the whole node dies."""
    site = new_cluster_site(NODES[:1])
    async with behind_proxy(site, tmp_path) as (bench, proxy):
        work = await bench.begun(bench.generation(GATE=bench.gate))
        stream = bench.cluster.follow(work, 0)
        heard = await anext(stream)
        getattr(site.nodes["arcp1"] if fault in {"cut", "kill"} else proxy, fault)()
        with pytest.raises(LinkCut):
            async with asyncio.timeout(20):
                await anext(stream)
        proxy.reset()
        if fault == "kill":
            with pytest.raises(LinkCut):
                await bench.cluster.state(work)
            site.nodes["arcp1"].start()
            assert (await bench.cluster.state(work)).state == "lost"
            return
        bench.gate.touch()
        assert (heard + await bench.log(work, len(heard))).endswith(b"current directory.\n")
        assert (await bench.cluster.state(work)).status == 0


async def test_a_frozen_link_is_noticed_by_its_silence(new_cluster_site: NewSite, tmp_path: Path) -> None:
    """A variant that does not look after its links would wait for ever."""
    async with behind_proxy(new_cluster_site(NODES[:1]), tmp_path, alive_interval=0) as (bench, proxy):
        work = await bench.begun(bench.generation(GATE=bench.gate))
        async with closing(bench.cluster.follow(work, 0)) as stream:
            await anext(stream)
            proxy.freeze()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3):
                    await anext(stream)
        await no_children(bench.site)


async def test_given_up_while_it_connects(new_cluster_site: NewSite, tmp_path: Path) -> None:
    """Whoever is killed before the node answered has asked for nothing: no directory appears later."""
    site = new_cluster_site(NODES[:1])
    async with behind_proxy(site, tmp_path) as (bench, proxy):
        for held in (0, 2000):
            proxy.freeze()
            assert isinstance(bench.cluster, SshCluster)
            node = site.nodes["arcp1"].node
            making = asyncio.create_task(bench.cluster.make(Work(node, site.workdir / "WORK12345", new_token())))
            if held:
                proxy.thaw()
                await passed(proxy, proxy.sent_down + held)
                proxy.freeze()
            else:
                connected = proxy.connected
                await within(10, lambda was=connected: proxy.connected > was)  # type: ignore[misc]
            making.cancel()
            await asyncio.wait([making])
            await no_children(site)
            proxy.thaw()
            await within(20, lambda: not site.nodes["arcp1"].workers())
            assert bench.directories() == []


async def test_what_is_given_up_leaves_no_child(new_cluster_site: NewSite, tmp_path: Path) -> None:
    """A copy, a log and a question, each cancelled in the middle."""
    async with behind_proxy(new_cluster_site(NODES[:1]), tmp_path) as (bench, proxy):
        work = await packed_work(bench, 4_000_000)
        names = [f"{block}{TAR}" for block in BLOCKS]
        for call in (bench.fetched(work, names), bench.log(work), bench.cluster.state(work)):
            before = proxy.connected
            task = asyncio.ensure_future(call)
            await within(20, lambda was=before: proxy.connected > was)  # type: ignore[misc]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await no_children(bench.site)


COPYING = """
import asyncio, sys
from pathlib import Path, PurePosixPath
from aogconsole.stagecalms.job import Node, Work
from backends.cluster import ClusterSettings, SshCluster
node, directory, token, user, config, into, *names = sys.argv[1:]
async def main():
    cluster = SshCluster(ClusterSettings((Node(node),), user, ssh_config=config))
    async for line in cluster.fetch(Work(Node(node), PurePosixPath(directory), token), names, Path(into)):
        pass
asyncio.run(main())
"""


async def test_children_end_with_us(new_cluster_site: NewSite, tmp_path: Path) -> None:
    """A killed staging command leaves no rsync and no ssh behind."""
    async with behind_proxy(new_cluster_site(NODES[:1]), tmp_path) as (bench, proxy):
        work = await packed_work(bench, 12_000_000)
        words = (str(work.node), str(work.directory), work.token, ACCOUNT, str(bench.site.ssh_config), str(tmp_path))
        before = proxy.sent_down
        copying = await asyncio.create_subprocess_exec(sys.executable, "-c", COPYING, *words, f"{BLOCKS[0]}{TAR}")
        await passed(proxy, before + 4_000_000)
        proxy.freeze()
        assert set(children(bench.site)) == {"ssh", "rsync"}
        copying.kill()
        await copying.wait()
        await no_children(bench.site)


@pytest.mark.parametrize(("parent", "said"), [("os.getppid()", "begun\n"), ("os.getppid() + 1", "")])
def test_a_child_whose_parent_has_gone_does_not_begin(parent: str, said: str) -> None:
    """Killed between the fork and the child's wish to be told of it."""
    text = f"import os; from backends.cluster_ssh import _end_with; _end_with({parent}); print('begun')"
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=30)
    assert (ran.stdout, ran.returncode) == (said, 0 if said else 1), ran


# -- full disks ------------------------------------------------------------------------------------------------------


async def test_a_full_disk_on_the_node(new_cluster_site: NewSite, tmp_path: Path) -> None:
    """The first tar fits, the second does not: told, the worker's end recorded, no half tar; then all is removed."""
    small = {"mounts": {"arcp1": "size=7m"}} if os.geteuid() == 0 else {"limits": {"arcp1": ["--fsize=2900000"]}}
    site = new_cluster_site(NODES[:1], **small)
    bench = bench_of(site, tmp_path, nodes=(Node(NODES[0]),))
    first, second = (f"{block}.ms.split.cal" for block in BLOCKS)
    text = (
        f"mkdir {first} {second}; head -c 1500000 /dev/urandom >{first}/x; head -c 2800000 /dev/urandom >{second}/x\n"
        f"for n in 1 2 3; do head -c 100000 /dev/urandom >{second}/$n; done"
    )
    work = await bench.begun(bench.script(text))
    log = (await bench.log(work)).decode()
    why, end = log.splitlines()
    assert end == f"ERROR: {second} cannot be packed."
    assert why == f"{second}.tar: No space left on device" or not site.nodes["arcp1"].mount
    assert (await bench.cluster.state(work)).status == 1
    assert [tar.name for tar in await bench.cluster.packed(work)] == [f"{BLOCKS[0]}{TAR}"]
    await bench.cluster.remove(work)
    assert (await bench.cluster.state(work)).state == "absent"


async def test_a_full_disk_here(new_cluster_site: NewSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is no cut link."""
    bench = bench_of(new_cluster_site(NODES[:1]), tmp_path, nodes=(Node(NODES[0]),))
    work = await packed_work(bench, 1000)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "rsync").write_text(
        "#!/bin/sh\necho 'rsync: [receiver] write failed on \"x\": No space left on device (28)' >&2\n"
        "echo 'rsync error: error in file IO (code 11) at receiver.c(381)' >&2\nexit 11\n"
    )
    (programs / "rsync").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with pytest.raises(OutsideError, match="No space left") as raised:
        await bench.fetched(work, [f"{BLOCKS[0]}{TAR}"])
    assert not isinstance(raised.value, LinkCut | NodeRefused)
