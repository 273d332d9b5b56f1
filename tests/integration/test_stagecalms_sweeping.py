"""What killed runs left is removed by the next: over real OpenSSH, and where no server can time it by a script."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from aogconsole.errors import OutsideError
from aogconsole.ids import MousUid, ProjectCode
from aogconsole.stagecalms import sweeping
from aogconsole.stagecalms.job import Generation, Job, Work
from aogconsole.stagecalms.records import Record, Records
from aogconsole.stagecalms.sweeping import sweep
from backends.cluster import SshCluster
from backends.cluster_ports import NodeRefused
from tests.support.nodes import ClusterSite, new_token
from tests.support.scriptedcluster import ScriptedCluster

MOUS = "uid___A002_X788a57_X29"
PROJECT = "2012.1.00357.S"
BLOCK = "uid___A002_X7e4988_X1f2"
SECONDS = 20.0


class Host:
    """A staging host on which runs were killed, each at another step."""

    def __init__(self, folder: Path) -> None:
        self.web_root = folder / "web"
        self.web_root.mkdir()
        self.records = Records(folder / "root")
        self.told: list[str] = []

    def begin(self, *, complete: bool = False) -> Record:
        """A run with its record and its staging directory."""
        token = new_token()
        directory = self.web_root / token
        record = self.records.create(Job.parse(PROJECT, MOUS, "15270", token), directory)
        directory.mkdir(mode=0o755 if complete else 0o700)
        (directory / "stagecalms.log").write_text("log")
        return record

    async def sweep(self, cluster: SshCluster | ScriptedCluster, seconds: float = SECONDS) -> None:
        """As the next start does."""
        await sweep(Records(self.records._folder.parent), cluster, self.web_root, self.told.append, seconds)

    def left(self) -> int:
        """How many records there are."""
        return len(list(self.records._folder.glob("*.json")))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """One whose runs were killed long ago."""
    monkeypatch.setattr(sweeping, "DOUBT", 0.0)
    return Host(tmp_path)


@pytest.fixture
def cluster(cluster_site: ClusterSite) -> SshCluster:
    """The nodes."""
    return SshCluster(cluster_site.settings())


async def place(cluster: SshCluster, record: Record, site: ClusterSite, name: str, number: int) -> Work:
    """Have a working directory made on this node, as a run does."""
    wanted = site.workdir / f"WORK{number}"
    record.intend(wanted)
    return await cluster.make(Work(site.nodes[name].node, wanted, record.job.token), record.making)


async def work(cluster: SshCluster, work: Work, site: ClusterSite) -> None:
    """Begin a worker that does not end."""
    calibrator = f"GATE={site.folder}/never {site.calibrator}"
    await cluster.begin(work, Generation(calibrator, ProjectCode(PROJECT), MousUid(MOUS), (BLOCK,)))


async def killed_everywhere(host: Host, cluster: SshCluster, site: ClusterSite) -> dict[str, Record]:
    """Runs that were killed at each step, on two nodes."""
    records = {name: host.begin() for name in ("recorded", "intending", "making", "made", "placed", "failed")}
    records["complete"] = host.begin(complete=True)
    records["intending"].intend(site.workdir / "WORK10001")
    records["making"].making(Work(site.nodes["arcp1"].node, site.workdir / "WORK10002", records["making"].job.token))
    await place(cluster, records["made"], site, "arcp9", 10003)
    for number, name in enumerate(("placed", "failed", "complete"), 10004):
        made = await place(cluster, records[name], site, "arcp1" if name == "failed" else "arcp9", number)
        records[name].placed(made)
        if name != "complete":
            await work(cluster, made, site)
    records["failed"].fail()
    for record in records.values():
        record.close()
    return records


def check_swept(host: Host, site: ClusterSite, records: dict[str, Record]) -> None:
    """Nothing works, and only what shall stay is there."""
    for node in site.nodes.values():
        assert node.workers() == []
    assert site.nodes["arcp9"].directories() == []
    assert site.nodes["arcp1"].directories() == ["WORK10005"]
    assert {path.name for path in host.web_root.iterdir()} == {
        records[name].job.token for name in ("failed", "complete")
    }
    assert host.left() == 0


async def test_each_step_is_swept(host: Host, cluster: SshCluster, cluster_site: ClusterSite) -> None:
    """Workers ended, directories removed but those of the failed run, the served directory untouched."""
    records = await killed_everywhere(host, cluster, cluster_site)
    await host.sweep(cluster)
    check_swept(host, cluster_site, records)
    assert len(host.told) == 10
    assert all(line.isprintable() for line in host.told)
    host.told.clear()
    await host.sweep(cluster)
    assert host.told == [], "again: nothing"


async def test_two_that_sweep_at_once(host: Host, cluster: SshCluster, cluster_site: ClusterSite) -> None:
    """Each thing is done once, by one of them; a run that lives is not touched by either."""
    living = host.begin()
    made = await place(cluster, living, cluster_site, "arcp-rhel5", 20000)
    living.placed(made)
    await work(cluster, made, cluster_site)
    records = await killed_everywhere(host, cluster, cluster_site)
    await asyncio.gather(*(host.sweep(cluster) for _ in range(3)))
    assert len(host.told) == 10
    assert host.left() == 1
    assert (await cluster.state(made)).state == "running"
    assert (host.web_root / living.job.token).exists()
    living.close()
    await host.sweep(cluster)
    check_swept(host, cluster_site, records)


async def test_a_dead_node_is_swept_when_it_is_back(host: Host, cluster: SshCluster, cluster_site: ClusterSite) -> None:
    """The others are swept now; its records stay, and are told at each start."""
    records = await killed_everywhere(host, cluster, cluster_site)
    cluster_site.nodes["arcp9"].kill()
    await host.sweep(cluster)
    assert host.left() == 3
    assert cluster_site.nodes["arcp1"].directories() == ["WORK10005"]
    assert cluster_site.nodes["arcp1"].workers() == []
    assert [line for line in host.told if "arcp9.hq.eso.org stays for now" in line]
    cluster_site.nodes["arcp9"].start()
    cluster_site.write_config()
    await host.sweep(cluster)
    check_swept(host, cluster_site, records)


async def test_a_directory_that_comes_late_is_swept_by_the_next(
    host: Host, cluster: SshCluster, cluster_site: ClusterSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was killed just now, while a slow node was about to make its directory."""
    monkeypatch.setattr(sweeping, "DOUBT", 60.0)
    record = host.begin()
    wanted = Work(cluster_site.nodes["arcp1"].node, cluster_site.workdir / "WORK10000", record.job.token)
    record.making(wanted)
    record.close()
    await host.sweep(cluster)
    assert not record.directory.exists()
    await cluster.make(wanted)
    await host.sweep(cluster)
    assert cluster_site.nodes["arcp1"].directories() == []
    assert host.left() == 1
    monkeypatch.setattr(sweeping, "DOUBT", 0.0)
    await host.sweep(cluster)
    assert host.left() == 0


async def test_silent_nodes_take_one_time_limit(host: Host, cluster: SshCluster, cluster_site: ClusterSite) -> None:
    """Two nodes that accept connections and say nothing, two directories each: given up together."""
    for number, name in enumerate(["arcp1", "arcp9"] * 2, 10000):
        record = host.begin()
        record.placed(await place(cluster, record, cluster_site, name, number))
        record.close()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for name in ("arcp1", "arcp9"):
            cluster_site.route(name, *silent.getsockname())
        began = time.monotonic()
        await host.sweep(cluster, 1)
        assert time.monotonic() - began < 4
    assert host.left() == 4
    assert len([line for line in host.told if "does not answer in time" in line]) == 2
    assert not list(host.web_root.iterdir()), "what is here does not wait for them"
    for name in ("arcp1", "arcp9"):
        cluster_site.route(name)
    await host.sweep(cluster)
    assert host.left() == 0


async def test_a_job_that_cannot_be_ended_stays_noted(host: Host, tmp_path: Path) -> None:
    """It was asked for and no node is known: until the scheduler answers."""
    record = host.begin()
    record.intend(PurePosixPath("/w/WORK10000"))
    record.close()
    cluster = ScriptedCluster(tmp_path)

    def down(call: str) -> None:
        raise OutsideError("Slurm does not answer")

    cluster.meanwhile = down
    await host.sweep(cluster)
    assert host.left() == 1
    assert host.told[-1] == "A killed run's job stays for now: Slurm does not answer."
    cluster.meanwhile = lambda _: None
    await host.sweep(cluster)
    assert host.left() == 0
    assert cluster.calls == ["forget", "forget"]


async def test_what_cannot_be_removed_is_in_nobodys_way(host: Host, tmp_path: Path) -> None:
    """A directory with files of others, say: those of other runs on that node go all the same."""
    cluster = ScriptedCluster(tmp_path)
    for number in (10000, 10001):
        record = host.begin()
        record.placed(Work(cluster.node, PurePosixPath(f"/w/WORK{number}"), record.job.token))
        record.close()

    def first_removal(call: str) -> None:
        if call == "remove" and cluster.calls.count("remove") == 1:
            raise NodeRefused("it cannot be removed whole", "whole")

    cluster.meanwhile = first_removal
    await host.sweep(cluster)
    assert cluster.calls.count("remove") == 2
    assert host.left() == 1
    assert len([line for line in host.told if line.endswith("stays for now: it cannot be removed whole.")]) == 1


async def test_without_ssh_the_sweep_fails_nothing(host: Host, tmp_path: Path) -> None:
    """The run that sweeps says itself what is missing; what is on the node stays noted."""
    record = host.begin()
    record.placed(Work(ScriptedCluster(tmp_path).node, PurePosixPath("/w/WORK10000"), record.job.token))
    record.close()
    cluster = ScriptedCluster(tmp_path)

    def missing(call: str) -> None:
        raise FileNotFoundError(2, "No such file or directory", "ssh")

    cluster.meanwhile = missing
    await host.sweep(cluster)
    assert host.left() == 1
    assert "No such file or directory: 'ssh'" in host.told[-1]


def kept(directory: Path, _: Path) -> None:
    """One that somebody has marked."""
    directory.mkdir(mode=0o700)
    (directory / ".donotremove").touch()


ODD: dict[str, Callable[[Path, Path], object]] = {
    "a link": lambda directory, outside: directory.symlink_to(outside),
    "a file": lambda directory, _: directory.write_text("x"),
    "kept": kept,
    "served": lambda directory, _: directory.mkdir(mode=0o755),
    "served to a group": lambda directory, _: directory.mkdir(mode=0o750),
}


@pytest.mark.parametrize("kind", ODD)
async def test_what_is_no_incomplete_directory_stays(host: Host, tmp_path: Path, kind: str) -> None:
    """Links, files, what somebody keeps, what is served; the record is done."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    (outside / "precious").touch()
    record = host.begin()
    (record.directory / "stagecalms.log").unlink()
    record.directory.rmdir()
    ODD[kind](record.directory, outside)
    record.close()
    await host.sweep(ScriptedCluster(tmp_path))
    assert record.directory.lstat()
    assert (outside / "precious").exists()
    assert host.left() == 0


async def test_a_directory_elsewhere_is_not_followed(host: Host, tmp_path: Path) -> None:
    """The record names a directory of this token below another root: it stays, and the record too."""
    token = new_token()
    elsewhere = tmp_path / token
    elsewhere.mkdir(mode=0o700)
    host.records.create(Job.parse(PROJECT, MOUS, "1", token), elsewhere).close()
    await host.sweep(ScriptedCluster(tmp_path))
    assert elsewhere.exists()
    assert host.left() == 1
    assert host.told == [f"{elsewhere}, of a killed run, is not in {host.web_root} and stays."]


async def test_a_removal_that_was_cut_off_is_finished(host: Host, tmp_path: Path) -> None:
    """Whoever sweeps may be killed too."""
    record = host.begin()
    record.directory.rename(host.web_root / f".deleting-{record.job.token}")
    record.close()
    await host.sweep(ScriptedCluster(tmp_path))
    assert not list(host.web_root.iterdir())
    assert host.left() == 0


@pytest.mark.parametrize("kind", ["open", "kept"])
async def test_what_the_expiry_may_put_back_stays(host: Host, tmp_path: Path, kind: str) -> None:
    """A complete one that was just put out of reach, or one that somebody has marked in that moment."""
    record = host.begin()
    doomed = host.web_root / f".deleting-{record.job.token}"
    record.directory.rename(doomed)
    if kind == "open":
        doomed.chmod(0o755)
    else:
        (doomed / ".donotremove").touch()
    record.close()
    await host.sweep(ScriptedCluster(tmp_path))
    assert (doomed / "stagecalms.log").exists()
    assert host.left() == 0


@pytest.mark.parametrize("careless", ["ends nothing", "keeps no failed one"])
async def test_a_careless_one_is_caught(
    host: Host, cluster: SshCluster, cluster_site: ClusterSite, careless: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These tests notice a sweep that leaves processes, or takes what shall stay."""
    if careless == "ends nothing":

        async def nothing(_: Work) -> None:
            pass

        monkeypatch.setattr(cluster, "end", nothing)
    else:
        monkeypatch.setattr(Record, "fail", lambda _: None)
        monkeypatch.setattr(sweeping, "_sweep_here", lambda *_: True)
    records = await killed_everywhere(host, cluster, cluster_site)
    await host.sweep(cluster)
    with pytest.raises(AssertionError):
        check_swept(host, cluster_site, records)
