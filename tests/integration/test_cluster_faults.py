"""Nodes that are dead, full or strange, and links that break or freeze: the cluster over OpenSSH and rsync."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from aogconsole.errors import AogError, ConfigError, InvalidId, OutsideError
from aogconsole.stagecalms.generating import closing
from aogconsole.stagecalms.job import TAR, Generation, Node, Work
from aogconsole.stagecalms.nodeside import Verb, render
from backends.cluster import ClusterSettings, SshCluster
from backends.cluster_ports import LinkCut, NodeRefused
from backends.cluster_ssh import failure, home_options
from tests.contract.cluster_cases import BLOCKS, CASES, Bench, within
from tests.support.nodes import ACCOUNT, NODES, ClusterSite, new_token
from tests.support.proxy import TcpProxy
from tests.support.sshd import make_keys

NewSite = Callable[..., ClusterSite]
TOKEN = "0123456789abcdef" * 2


def bench_of(site: ClusterSite, folder: Path, **changes: object) -> Bench:
    """A bench for these nodes."""
    return Bench(SshCluster(site.settings(**changes)), site, folder)


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
    await within(5, lambda: not children(site))


# -- choosing --------------------------------------------------------------------------------------------------------


async def test_why_nodes_are_skipped(new_cluster_site: NewSite, tmp_path: Path) -> None:
    """Each with its line, in the order of the configuration, within one time limit."""
    site = new_cluster_site(NODES[:2])
    with silent_port() as silent:
        names = add_hosts(site, "arcp1", closed=unused(), silent=silent, unheard=silent)
        make_keys(site.folder, "other_host")
        known = (site.folder / "known_hosts").read_text().splitlines()
        stranger = (site.folder / "other_host.pub").read_text().split()
        known[1] = f"{NODES[1]} {stranger[0]} {stranger[1]}"
        (site.folder / "known_hosts").write_text("\n".join(known) + "\n")
        nodes = (*names, Node("nowhere.invalid"), Node(NODES[1]), Node(NODES[0]))
        bench = bench_of(site, tmp_path, nodes=nodes, probe_timeout=3.0)
        began = time.monotonic()
        work = await bench.place()
        assert time.monotonic() - began < 9
    assert work
    assert work.node.name == "arcp1"
    assert bench.told == [
        "Node closed is skipped: refused",
        "Node silent is skipped: no answer within 3 s",
        "Node unheard is skipped: no answer within 3 s",
        "Node nowhere.invalid is skipped: unknown host",
        f"Node {NODES[1]} is skipped: host key changed",
    ]
    await no_children(site)


async def test_no_node_at_all(new_cluster_site: NewSite, tmp_path: Path) -> None:
    """Too little room, no folder, a node that died: none is taken, and nothing made."""
    site = new_cluster_site(NODES[:2])
    site.nodes["arcp9"].kill()
    bench = bench_of(site, tmp_path, need=10**18)
    assert await bench.place() is None
    beginning, has, end = bench.told[0].rpartition("has ")[0], bench.told[0].split()[-2], bench.told[0][-3:]
    assert (beginning, end) == (f"Node {NODES[0]} is skipped: needs 1000000000.0 GB, ", " GB")
    assert abs(float(has) - shutil.disk_usage(site.nodes["arcp1"].work).free / 1e9) < 5
    assert bench.told[1:] == [f"Node {NODES[1]} is skipped: refused"]
    assert bench.noted == []
    site.workdir_path.rmdir()
    bench = bench_of(site, tmp_path)
    assert await bench.place() is None
    assert bench.told[0] == f"Node {NODES[0]} is skipped: has no folder {site.workdir}"


async def test_the_next_best_node(new_cluster_site: NewSite, tmp_path: Path) -> None:
    """When the directory cannot be made on the chosen one; each try was noted before."""
    site = new_cluster_site(NODES[:2])
    bench = bench_of(site, tmp_path)
    flag = site.nodes["arcp1"].home / "flag"
    for node in site.nodes.values():
        first_fails = f'mkdir() {{ command mkdir {flag} 2>/dev/null && return 1; command mkdir "$@"; }}'
        (node.home / ".bashrc").write_text(f'{first_fails}; export -f mkdir; sh() {{ bash --posix "$@"; }}\n')
    work = await bench.place()
    assert work
    skipped, taken = (noted.node for noted in bench.noted)
    assert taken == work.node != skipped
    assert len(bench.told) == 1
    assert bench.told[0].startswith(f"Node {skipped} is skipped: a directory cannot be made in")
    assert bench.directories() == ["WORK11018"]


async def test_old_projects(cluster_site: ClusterSite, tmp_path: Path) -> None:
    """Go to the nodes for them; where there is none, nowhere."""
    bench = bench_of(cluster_site, tmp_path)
    work = await bench.place(old=True)
    assert work
    assert str(work.node) == NODES[-1]
    bench = bench_of(cluster_site, tmp_path, rhel5_nodes=())
    assert await bench.place(old=True) is None


async def test_many_nodes_some_dead(new_cluster_site: NewSite, tmp_path: Path) -> None:
    """One time limit for all."""
    site = new_cluster_site(NODES[:1])
    with silent_port() as silent:
        dead = {f"dead{place}": silent for place in range(4)}
        nodes = add_hosts(site, "arcp1", **dead, **{f"live{place}": 0 for place in range(12)})
        bench = bench_of(site, tmp_path, nodes=nodes, probe_timeout=5.0)
        began = time.monotonic()
        assert await bench.place()
        assert time.monotonic() - began < 9
    assert bench.told == [f"Node dead{place} is skipped: no answer within 5 s" for place in range(4)]


async def test_a_folder_that_no_command_can_hold(cluster_site: ClusterSite) -> None:
    """Is a fault of the configuration."""
    cluster = SshCluster(cluster_site.settings())
    for folder in ("/a b", "/a/../b", "/a'b", "/$HOME", "a"):
        with pytest.raises(ConfigError):
            await cluster.place(type(cluster_site.workdir)(folder) / "WORK12345", TOKEN, old=False, tell=print)


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
        assert (await bench.fetched(work, names)).endswith(b"speedup is 1.00\n") or there >= size
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
    assert "FAILED: tee" in log
    assert log.endswith(f"ERROR: {BLOCKS[1]}.ms.split.cal cannot be packed.\n")
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


# -- strange nodes ---------------------------------------------------------------------------------------------------


async def test_a_login_that_talks(new_cluster_site: NewSite, tmp_path: Path) -> None:
    """What it prints is no part of an answer, nor of a log."""
    site = new_cluster_site(NODES[:1])
    (site.nodes["arcp1"].home / ".bashrc").write_text(
        "echo 'Welcome to arcp1'; printf 'no line end'; echo; echo hm >&2\n"
    )
    bench = bench_of(site, tmp_path)
    work = await bench.begun(bench.generation())
    assert (await bench.log(work)).startswith(b"calibrator")
    assert (await bench.cluster.state(work)).status == 0


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        ("echo 'This account is not available.' >&2; exit 1", "not available"),
        ("yes", "without end"),
        ("exit 0", "broke"),
    ],
)
async def test_a_login_that_is_none(new_cluster_site: NewSite, tmp_path: Path, profile: str, why: str) -> None:
    """Is told, in bounded time."""
    site = new_cluster_site(NODES[:1])
    (site.nodes["arcp1"].home / ".bashrc").write_text(profile + "\n")
    bench = bench_of(site, tmp_path, nodes=(Node(NODES[0]),))
    with pytest.raises((NodeRefused, LinkCut), match=why):
        await bench.cluster.state(Work(Node(NODES[0]), site.workdir / "WORK12345", TOKEN))
    await no_children(site)


@pytest.mark.parametrize("name", ["whole_way", "lost_when_killed"])
async def test_bash_for_sh(cluster_site: ClusterSite, tmp_path: Path, name: str) -> None:
    """As on Red Hat's systems."""
    for node in cluster_site.nodes.values():
        programs = node.home / "bin"
        programs.mkdir()
        (programs / "sh").symlink_to("/bin/bash")
        (node.home / ".bashrc").write_text("PATH=$HOME/bin:$PATH\n")
    await CASES[name](bench_of(cluster_site, tmp_path))


# -- words -----------------------------------------------------------------------------------------------------------

GENERATION = ("detached", "cal", "2012.1.00357.S", "uid___A002_X1_X2", "uid___A002_X1_X3")
REFUSED: list[tuple[Verb, *tuple[str, ...]]] = [
    ("make", "/w/WORK123", TOKEN),
    ("make", "/w/WORK012345", TOKEN),
    ("make", "/w/../WORK12345", TOKEN),
    ("make", "w/WORK12345", TOKEN),
    ("make", "/w w/WORK12345", TOKEN),
    ("make", "/w/$(touch x)/WORK12345", TOKEN),
    ("make", "/w/WORK12345", TOKEN[1:]),
    ("make", "/w/WORK12345", TOKEN.upper()),
    ("remove", "/", TOKEN),
    ("remove", "/w/WORK12345/", TOKEN),
    ("remove", "/w/WORK12345x", TOKEN),
    ("remove", "/w/WORK12345"),
    ("follow", "/w/WORK12345", TOKEN, "-1"),
    ("follow", "/w/WORK12345", TOKEN, "1; touch x"),
    ("begin", "/w/WORK12345", TOKEN, *GENERATION[:4]),
    ("begin", "/w/WORK12345", TOKEN, "eval", *GENERATION[1:]),
    ("begin", "/w/WORK12345", TOKEN, "held", "", *GENERATION[2:]),
    ("begin", "/w/WORK12345", TOKEN, *GENERATION, "uid___A002_X1_X3/../x"),
    ("begin", "/w/WORK12345", TOKEN, *GENERATION, "--all"),
    ("begin", "/w/WORK12345", TOKEN, "detached", "cal", "2012.1.00357.S;x", *GENERATION[3:]),
    ("probe", "relative"),
    ("probe", "/w", "x"),
]


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
def test_words_are_checked_again_on_the_node(tmp_path: Path, shell: str) -> None:
    """Whatever came so far is refused there, with status 2, and nothing is done."""
    for words in REFUSED:
        ran = subprocess.run(
            [*shell.split(), "-s"],
            input=render(*words),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, ran.stdout) == (2, ""), (words, ran)
    assert list(tmp_path.iterdir()) == []


def test_words_that_no_line_can_hold() -> None:
    """Are not sent."""
    for word in ("a\nb", "a\0b", "\x1b[2J"):
        with pytest.raises(InvalidId):
            render("begin", word)


@pytest.mark.parametrize("shell", ["dash", "bash --posix"])
async def test_calibrators_that_are_command_lines(new_cluster_site: NewSite, tmp_path: Path, shell: str) -> None:
    """With quotes, variables and several commands; the words come after it, whole."""
    site = new_cluster_site(NODES[:1])
    (site.nodes["arcp1"].home / ".bashrc").write_text(f'sh() {{ {shell} "$@"; }}\n')
    bench = bench_of(site, tmp_path)
    usual = bench.generation()
    command = "X='a  b'; printf '%s|' \"$X\" $((1 + 1)) `echo c` ${LC_ALL-none}; umask; printf '%s|'"
    work = await bench.begun(Generation(command, usual.project, usual.mous, usual.blocks))
    said = f"a  b|2|c|none|0022\n{usual.project}|{usual.mous}|{'|'.join(BLOCKS)}|"
    assert (await bench.log(work)).decode().startswith(said)


# -- OpenSSH's words and settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said", "kind", "hint"),
    [
        (255, "ssh: connect to host a port 22: Connection refused\r\n", LinkCut, "refused"),
        (255, "Connection timed out during banner exchange", LinkCut, "no answer"),
        (255, "Timeout, server a not responding.", LinkCut, "no answer"),
        (255, "arcproc@a: Permission denied (publickey).", LinkCut, "login refused"),
        (255, "No ED25519 host key is known for a.\nHost key verification failed.", NodeRefused, "host key"),
        (255, "", LinkCut, "the connection broke"),
        (255, "x\x1b[2Jy", LinkCut, "x\\x1b[2Jy"),
        (1, "stagecalms: has no rsync\n", NodeRefused, "has no rsync"),
        (127, "", NodeRefused, "a command ended with status 127"),
    ],
)
def test_what_openssh_says(status: int, said: str, kind: type[AogError], hint: str) -> None:
    """A short reason; only a broken line is worth another try."""
    problem = failure(Node("a"), status, said)
    assert (type(problem), problem.hint) == (kind, hint)


def test_another_home(tmp_path: Path) -> None:
    """OpenSSH asks passwd for it: where $HOME is another, what is there is named."""
    assert home_options({}) == []
    assert home_options({"HOME": str(Path("~").expanduser())}) in ([], home_options({"HOME": os.environ["HOME"]}))
    home = tmp_path / "a home"
    folder = home / ".ssh"
    folder.mkdir(parents=True)
    assert home_options({"HOME": str(home)}) == []
    for name in ("known_hosts", "id_rsa", "id_rsa.pub", "id_ed25519"):
        (folder / name).touch()
    keys = ["-o", f'IdentityFile="{folder}/id_ed25519"', "-o", f'IdentityFile="{folder}/id_rsa"']
    known = ["-o", f'UserKnownHostsFile="{folder}/known_hosts"']
    assert home_options({"HOME": str(home)}) == [*known, *keys]
    (folder / "config").write_text("Host *\n UserKnownHostsFile /elsewhere\n")
    assert home_options({"HOME": str(home)}) == ["-F", str(folder / "config"), *keys]
    asked = subprocess.run(["ssh", *known, *keys, "-G", "a"], capture_output=True, text=True, check=True).stdout
    assert f"userknownhostsfile {folder}/known_hosts\n" in asked
    assert f"identityfile {folder}/id_rsa\n" in asked


def test_settings_are_openssh_s_to_give() -> None:
    """The check of host keys is never named, so that it is what the configuration and OpenSSH have."""
    options = " ".join(ClusterSettings((Node("a"),), "arcproc").client().argv(Node("::1", 2222)))
    assert "StrictHostKeyChecking" not in options
    assert options.startswith("ssh -T -o BatchMode=yes")
    assert options.endswith("-p 2222 -l arcproc -- ::1")
