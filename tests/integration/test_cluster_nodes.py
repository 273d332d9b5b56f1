"""Which node is chosen, nodes that are strange, and what is said to OpenSSH and by it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aogconsole.errors import AogError, ConfigError, InvalidId
from aogconsole.stagecalms.job import Generation, Node, Work
from aogconsole.stagecalms.nodeside import Verb, render
from backends.cluster import ClusterSettings, SshCluster
from backends.cluster_ports import LinkCut, NodeRefused
from backends.cluster_ssh import SshClient, failure, home_options
from tests.contract.cluster_cases import BLOCKS, CASES, bench_of
from tests.support.clustering import add_hosts, no_children, silent_port, unused
from tests.support.nodes import NODES, ClusterSite
from tests.support.sshd import make_keys

NewSite = Callable[..., ClusterSite]
TOKEN = "0123456789abcdef" * 2

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
        bench = bench_of(site, tmp_path, nodes=nodes, probe_timeout=7.0)
        began = time.monotonic()
        work = await bench.place()
        assert time.monotonic() - began < 14, "one after the other"
    assert work, bench.told
    assert work.node.name == "arcp1"
    assert bench.told == [
        "Node closed is skipped: refused",
        "Node silent is skipped: no answer within 7 s",
        "Node unheard is skipped: no answer within 7 s",
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


async def test_what_may_have_been_made_is_not_used_as_well(
    cluster_site: ClusterSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is lost: the next node makes another, so that the first can be removed wherever it is seen."""
    ask = SshClient.ask
    cuts: list[Node] = []

    async def cut(client: SshClient, node: Node, verb: Verb, *words: str, **more: Any) -> list[tuple[str, str]]:
        answer = await ask(client, node, verb, *words, **more)
        if verb == "make" and not cuts:
            cuts.append(node)
            raise LinkCut(f"{node} is gone", "gone")
        return answer

    monkeypatch.setattr(SshClient, "ask", cut)
    bench = bench_of(cluster_site, tmp_path)
    work = await bench.place()
    assert work == bench.noted[1]
    assert cuts == [bench.noted[0].node] != [work.node]
    assert bench.noted[0].directory != work.directory
    await bench.cluster.remove(bench.noted[0])
    assert bench.directories() == [work.directory.name]


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
        assert time.monotonic() - began < 18, "one after the other"
    assert bench.told == [f"Node dead{place} is skipped: no answer within 5 s" for place in range(4)]


async def test_a_folder_that_no_command_can_hold(cluster_site: ClusterSite) -> None:
    """Is a fault of the configuration."""
    cluster = SshCluster(cluster_site.settings())
    for folder in ("/a b", "/a/../b", "/a'b", "/$HOME", "a"):
        with pytest.raises(ConfigError):
            await cluster.place(type(cluster_site.workdir)(folder) / "WORK12345", TOKEN, old=False, tell=print)


# -- strange nodes ---------------------------------------------------------------------------------------------------


async def test_a_login_that_talks(new_cluster_site: NewSite, tmp_path: Path) -> None:
    """What it prints is no part of an answer, nor of a log."""
    site = new_cluster_site(NODES[:1])
    (site.nodes["arcp1"].home / ".bashrc").write_text(
        "echo 'Welcome to arcp1'; printf 'no line end'; echo; echo hm >&2\n"
    )
    bench = bench_of(site, tmp_path)
    assert isinstance(bench.cluster, SshCluster)
    work = await bench.cluster.make(Work(Node(NODES[0]), site.workdir / "WORK12345", TOKEN))
    await bench.cluster.begin(work, bench.generation())
    assert (await bench.log(work)).startswith(b"calibrator")
    assert (await bench.cluster.state(work)).status == 0
    await bench.cluster.remove(work)


@pytest.mark.parametrize("noise", ["echo Welcome", "echo", "printf '\\033]0;arcp1\\007'"])
async def test_a_node_that_no_copy_could_be_had_from(new_cluster_site: NewSite, tmp_path: Path, noise: str) -> None:
    """What a login prints is rsync's first answer: such a node is told and not chosen, and from another all comes."""
    site = new_cluster_site(NODES[:2])
    site.nodes["arcp1"].home.joinpath(".bashrc").write_text(noise + "\n")
    bench = bench_of(site, tmp_path)
    await CASES["whole_way"](bench)
    why = "its login prints to standard output, which rsync does not stand"
    assert bench.told == [f"Node {NODES[0]} is skipped: {why}"]


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        ("echo 'This account is not available.' >&2; exit 1", "not available"),
        ("echo 'This account is not available.'; exit 1", "not available"),
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


OLD_TOOLS = {
    "sync": '[ $# -eq 0 ] || echo "sync: ignoring all arguments" >&2; exec /bin/sync',
    "tar": 'case " $* " in *" --sort"*) echo "tar: unrecognized option" >&2; exit 64 ;; esac; exec /bin/tar "$@"',
    "setsid": 'case $1 in -*) echo "usage: setsid program" >&2; exit 1 ;; esac; exec /usr/bin/setsid "$@"',
    "flock": 'case $1 in -s | -n | -sn | -w) ;; -*) exit 64 ;; esac; exec /usr/bin/flock "$@"',
}
"""What those of RHEL5 (2007) do not know: words for sync, `--sort`, `setsid -f`, `flock -E` and on."""


@pytest.mark.parametrize("name", ["whole_way", "ended_with_all_it_began", "packs_what_may_only_be_read"])
async def test_old_tools(new_cluster_site: NewSite, tmp_path: Path, name: str) -> None:
    """They do, and say nothing between the calibrator's lines."""
    site = new_cluster_site(NODES[:1])
    programs = site.nodes["arcp1"].home / "bin"
    programs.mkdir()
    for tool, text in OLD_TOOLS.items():
        (programs / tool).write_text(f"#!/bin/sh\n{text}\n")
        (programs / tool).chmod(0o755)
    (site.nodes["arcp1"].home / ".bashrc").write_text("PATH=$HOME/bin:$PATH\n")
    await CASES[name](bench_of(site, tmp_path))


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize(
    ("tool", "fails", "said"),
    [
        ("tar", "echo 'tar: x: Cannot open: Permission denied' >&2; exit 2", "tar: x: Cannot open: Permission denied"),
        ("tar", "exit 2", "tar failed"),
        ("tee", 'cat >"$1"; exit 1', "tee failed"),
        ("sha256sum", "cat >/dev/null; exit 1", "sha256sum failed"),
    ],
)
async def test_what_cannot_be_packed(
    new_cluster_site: NewSite, tmp_path: Path, shell: str, tool: str, fails: str, said: str
) -> None:
    """One line says why, in the program's own words if it has any; nothing of the shell's stands between."""
    site = new_cluster_site(NODES[:1])
    programs = site.nodes["arcp1"].home / "bin"
    programs.mkdir()
    (programs / "sh").symlink_to(f"/bin/{shell}")
    (programs / tool).write_text(f"#!/bin/dash\n{fails}\n")
    (programs / tool).chmod(0o755)
    (site.nodes["arcp1"].home / ".bashrc").write_text("PATH=$HOME/bin:$PATH\n")
    bench = bench_of(site, tmp_path)
    work = await bench.begun(bench.generation())
    log = (await bench.log(work)).decode()
    assert log.splitlines()[2:] == [said, f"ERROR: {BLOCKS[0]}.ms.split.cal cannot be packed."]
    assert (await bench.cluster.state(work)).status == 1


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
