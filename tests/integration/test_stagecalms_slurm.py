"""The engine `slurm`: a real scheduler gives the node, its job runs the worker, and nothing of either is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from aogconsole.errors import ConfigError, OutsideError
from aogconsole.ids import MousUid, ProjectCode
from aogconsole.stagecalms.job import Generation, Work
from backends.cluster_ports import Cluster, NodeRefused, WorkState
from backends.cluster_slurm import WAITING
from backends.slurm_queue import SlurmQueue, job_name
from tests.integration.test_stagecalms import BLOCK, SAYS, Host, constant, expected
from tests.support.nodes import new_token
from tests.support.slurmnodes import NODE, SlurmSite


def generation(site: SlurmSite, words: str = "") -> Generation:
    """One execution block, by the usual calibrator or another command."""
    command = words or str(site.nodes.calibrator)
    return Generation(command, ProjectCode.parse("2012.1.00357.S"), MousUid.parse("uid___A002_X788a57_X29"), (BLOCK,))


async def place(site: SlurmSite, cluster: Cluster, token: str, told: list[str] | None = None) -> Work:
    """A node, and a directory there."""
    tell = (told if told is not None else []).append
    work = await cluster.place(PurePosixPath(site.nodes.workdir) / "WORK11018", token, old=False, tell=tell)
    assert work, told
    return work


async def until(there: Callable[[], object], seconds: float = 20) -> None:
    """Wait for it."""
    async with asyncio.timeout(seconds):
        while not there():
            await asyncio.sleep(0.02)


async def over(cluster: Cluster, work: Work) -> WorkState:
    """How the worker is, when it runs no more."""
    async with asyncio.timeout(30):
        while (state := await cluster.state(work)).state == "running":
            await asyncio.sleep(0.05)
    return state


async def test_a_job_holds_the_node_until_the_directory_is_gone(slurm_site: SlurmSite, tmp_path: Path) -> None:
    """It runs the worker with the environment of ssh, stays while tars are fetched, and goes."""
    site, token, told = slurm_site, new_token(), list[str]()
    cluster = site.cluster(quiet=60.0)
    work = await place(site, cluster, token, told)
    assert (work.node.host, told, site.living(token)) == (site.node.name, [], ["RUNNING"])
    given = generation(site, f"env >>$HOME/environment; {site.nodes.calibrator}")
    await cluster.begin(work, given)
    await cluster.begin(work, given)
    log = b"".join([piece async for piece in cluster.follow(work, 0)])
    assert b"Done. Please find results" in log
    assert (await over(cluster, work)).status == 0
    assert site.node.calibrators() == 1
    names = {line.partition("=")[0] for line in (site.node.home / "environment").read_text().splitlines()}
    assert "SSH_CONNECTION" in names
    assert "SLURM_JOB_ID" in names
    assert site.living(token) == ["RUNNING"]
    tars = await cluster.packed(work)
    fetched = b"".join([line async for line in cluster.fetch(work, [tar.name for tar in tars], tmp_path)])
    assert tars[0].name.encode() in fetched
    assert (tmp_path / tars[0].name).stat().st_size == tars[0].size
    await cluster.remove(work)
    assert site.living(token) == []
    await cluster.remove(work)
    await cluster.forget(token)
    assert site.node.directories() == []
    await until(lambda: site.states(token) == ["COMPLETED"])


@contextlib.asynccontextmanager
async def waiting(site: SlurmSite, cluster: Cluster, token: str, told: list[str]) -> AsyncIterator[asyncio.Task[Work]]:
    """A run that waits in the queue of a scheduler that starts nothing."""
    site.close_partition()
    task = asyncio.create_task(place(site, cluster, token, told))
    await until(lambda: task.done() or site.living(token) == ["PENDING"])
    yield task
    assert task.done()


async def test_the_queue_is_waited_in_and_left(slurm_site: SlurmSite) -> None:
    """For as long as it takes; told once; who gives up leaves no job."""
    site, token, told = slurm_site, new_token(), list[str]()
    cluster = site.cluster(pause=0.1)
    async with waiting(site, cluster, token, told) as task:
        await until(lambda: told)
        assert site.living(token) == ["PENDING"]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert told == [WAITING]
    assert site.states(token) == ["CANCELLED"]


async def test_a_waiting_job_that_others_end_is_no_node(slurm_site: SlurmSite) -> None:
    """What Slurm says of it is told; the next run with the name is not held up by it."""
    site, token = slurm_site, new_token()
    async with waiting(site, site.cluster(pause=0.1), token, []) as task:
        site.slurm.run("scancel", f"--name={job_name(token)}")
        with pytest.raises(NodeRefused, match=r"ended the job before it got a node: [0-9]+ is CANCELLED"):
            await task
    site.open_partition()
    work = await place(site, site.cluster(), token)
    assert site.living(token) == ["RUNNING"]
    await site.cluster().remove(work)


async def test_a_killed_run_s_job_is_ended_by_its_name(slurm_site: SlurmSite) -> None:
    """All of them; again: nothing happens."""
    site, token = slurm_site, new_token()
    site.close_partition()
    queue = SlurmQueue((), (), patience=10, environ=site.environment)
    for _ in range(2):
        assert await queue.submit(site.nodes.workdir, token, old=False, without=[]) == ""
    assert site.living(token) == ["PENDING"] * 2
    cluster = site.cluster()
    await cluster.forget(token)
    await cluster.forget(token)
    assert site.living(token) == []


async def check_one_job(site: SlurmSite, cluster: Cluster) -> None:
    """A run has one job when it has its node."""
    token = new_token()
    work = await place(site, cluster, token)
    try:
        assert site.living(token) == ["RUNNING"]
    finally:
        await cluster.remove(work)


def deaf(site: SlurmSite, then: str) -> None:
    """sbatch submits, and then does this."""
    shim, real = site.programs / "sbatch", site.programs / "sbatch.real"
    if shim.exists():
        shim.rename(real)
    else:
        real.symlink_to("/usr/bin/sbatch")
    shim.write_text(f'#!/bin/sh\n"{real}" "$@" >/dev/null\n{then}\n')
    shim.chmod(0o755)


async def test_a_lost_answer_of_sbatch_leaves_one_job(slurm_site: SlurmSite) -> None:
    """It is found by its name."""
    deaf(slurm_site, "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv' >&2; exit 1")
    await check_one_job(slurm_site, slurm_site.cluster())


async def test_a_second_job_is_caught(slurm_site: SlurmSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same check fails when jobs are not looked for by name."""

    async def blind(_queue: SlurmQueue, number: str) -> None:
        """Ends nothing."""

    deaf(slurm_site, f'"{slurm_site.programs}/sbatch.real" "$@"')
    await check_one_job(slurm_site, slurm_site.cluster())  # of two, one is ended
    monkeypatch.setattr(SlurmQueue, "cancel_one", blind)
    with pytest.raises(AssertionError):
        await check_one_job(slurm_site, slurm_site.cluster())


async def test_options_that_slurm_or_we_refuse(slurm_site: SlurmSite) -> None:
    """A sentence each."""
    with pytest.raises(ConfigError, match=r"stagecalms[.]sbatch_rhel5: --job-name is set by"):
        slurm_site.cluster(sbatch_rhel5=("--job-name=x",))
    told: list[str] = []
    with pytest.raises(NodeRefused, match=r"refuses the job: sbatch: .*partition"):
        await place(slurm_site, slurm_site.cluster(sbatch=("--partition=nix",)), new_token(), told)
    cluster = slurm_site.cluster(sbatch_rhel5=("--constraint=nix",))
    with pytest.raises(NodeRefused, match=r"refuses the job: sbatch: .*feature"):
        await cluster.place(slurm_site.nodes.workdir / "WORK11018", new_token(), old=True, tell=told.append)
    assert told == []


async def test_nodes_to_leave_out_are_the_site_s_and_ours(slurm_site: SlurmSite) -> None:
    """In one option, for sbatch takes the last only."""
    shim = slurm_site.programs / "sbatch"
    shim.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{slurm_site.programs}/words"\n')
    queue = SlurmQueue(("--exclude=n1,n2", "--mem=1"), (), patience=10, environ=slurm_site.environment)
    assert await queue.submit(slurm_site.nodes.workdir, new_token(), old=False, without=["n7"]) == ""
    words = (slurm_site.programs / "words").read_text().splitlines()
    assert [word for word in words if word.startswith(("--exclude", "--mem"))] == ["--mem=1", "--exclude=n1,n2,n7"]


async def test_a_forgotten_job_is_submitted_again(slurm_site: SlurmSite) -> None:
    """By a controller that lost its jobs while one waited."""
    site, token = slurm_site, new_token()
    async with waiting(site, site.cluster(pause=0.2, patience=60.0), token, []) as task:
        forgotten = site.numbers()
        site.slurm.kill_controller()
        for path in (site.slurm.root / "state").glob("job_state*"):
            path.unlink()
        await asyncio.to_thread(site.slurm.start_controller)
        site.open_partition()
        work = await task
    assert site.states(token) == ["RUNNING"]
    assert site.numbers() != forgotten
    await site.cluster().remove(work)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has jobs of another account")
async def test_another_account_s_job_is_told(slurm_site: SlurmSite) -> None:
    """It cannot see the working directory."""
    cluster = slurm_site.cluster(environ=slurm_site.of_another(), begin=1.0)
    work = await place(slurm_site, cluster, new_token())
    with pytest.raises(NodeRefused, match=r"does not begin the work in .*/WORK11018") as caught:
        await cluster.begin(work, generation(slurm_site))
    assert "node_user" in caught.value.hint
    await cluster.remove(work)


async def test_a_node_that_cannot_be_used_is_given_back(slurm_site: SlurmSite) -> None:
    """It is told, and not taken again: when there is no other, there is none."""
    site, token, told = slurm_site, new_token(), list[str]()
    site.node.kill()
    work = PurePosixPath(site.nodes.workdir) / "WORK11018"
    assert await site.cluster(quiet=60.0).place(work, token, old=False, tell=told.append) is None
    assert told == [f"Node {site.node.name} is skipped: refused"]
    assert site.living(token) == []


async def test_a_job_is_cancelled_under_its_worker(slurm_site: SlurmSite) -> None:
    """Before it begins: it says so. Later: the worker is gone, and Slurm's word is told."""
    site, cluster, token = slurm_site, slurm_site.cluster(), new_token()
    work = await place(site, cluster, token)
    site.slurm.run("scancel", f"--name={job_name(token)}")
    await until(lambda: not site.holders())
    with pytest.raises(NodeRefused, match="ended the job before the work began"):
        await cluster.begin(work, generation(site))
    await cluster.end(work)
    token = new_token()
    work = await place(site, cluster, token)
    await cluster.begin(work, generation(site, f"GATE=/nowhere {site.nodes.calibrator}"))
    await until(site.node.calibrators)
    worker = int((site.node.work / work.directory.name / ".stagecalms/pid").read_text().split()[0])
    os.killpg(worker, signal.SIGKILL)
    assert await over(cluster, work) == WorkState("lost", None, (await cluster.state(work)).log)
    site.slurm.run("scancel", f"--name={job_name(token)}")
    await until(lambda: not site.living(token))
    assert "the cluster's scheduler ended its job: " in (await cluster.state(work)).why


async def test_an_ended_worker_s_job_goes(slurm_site: SlurmSite) -> None:
    """By the worker's end; and by Slurm, when the node cannot be reached."""
    site, cluster = slurm_site, slurm_site.cluster()
    works = [await place(site, cluster, new_token()) for _ in range(2)]
    for work in works:
        await cluster.begin(work, generation(site, f"GATE=/nowhere {site.nodes.calibrator}"))
    await until(lambda: site.node.calibrators() == 2)
    await cluster.end(works[0])
    assert (await cluster.state(works[0])).state in {"lost", "ended"}
    site.nodes.route(NODE, "127.0.0.1", 9)
    with pytest.raises(OutsideError):
        await cluster.end(works[1])
    assert site.living(works[1].token) == []
    await until(lambda: not site.holders(), 40)
    site.nodes.route(NODE)
    for work in works:
        await cluster.remove(work)
    assert site.node.workers() == []


@pytest.fixture
def host(slurm_site: SlurmSite) -> Host:
    """A staging host that submits to Slurm."""
    node = [slurm_site.node.name]
    settings: dict[str, Any] = {"engine": "slurm", "nodes": node, "rhel5_nodes": node, "patience": 60}
    made = Host(slurm_site.nodes, settings)
    (made.home / "bin").mkdir()
    slurm_site.install(made.home / "bin")
    return made


def nothing_left(site: SlurmSite, host: Host) -> None:
    """No process, directory or job."""
    host.nothing_left()
    assert site.living() == []


def test_the_same_request_has_the_same_output(slurm_site: SlurmSite, host: Host) -> None:
    """Line by line; the node is told by its own name."""
    told = host.stage()
    named = {"chosen: arcpN": f"chosen: {NODE}", "arcpN.hq.eso.org": slurm_site.node.name}
    lines = expected("success.txt", SAYS)
    for name, ours in named.items():
        lines = [line.replace(name, ours) for line in lines]
    assert [constant(line) for line in told.lines if line != WAITING] == lines
    assert told.messages == b""
    host.served(told, BLOCK)
    nothing_left(slurm_site, host)


def gated(site: SlurmSite, host: Host) -> Path:
    """The calibrator waits for this file."""
    gate = site.nodes.folder / "gate"
    host.settings["calibrator"] = f"GATE={gate} {site.nodes.calibrator}"
    return gate


async def test_the_controller_is_killed_now_and_then(slurm_site: SlurmSite, host: Host) -> None:
    """Before the job is submitted, while its worker runs, and before the clean-up: all is staged."""
    site, gate = slurm_site, gated(slurm_site, host)
    site.slurm.kill_controller()
    with pytest.raises(OutsideError, match=r"the cluster's scheduler does not answer: .*controller"):
        await place(site, site.cluster(patience=0.3), new_token())
    with pytest.raises(OutsideError, match=r"cannot be ended: .*controller"):
        await site.cluster().forget(new_token())
    run = host.start()
    assert run.stdout
    told = b"".join(iter(run.stdout.readline, b"Looking for cluster node with low load ...\n"))
    await asyncio.to_thread(site.slurm.start_controller)
    await until(site.node.calibrators, 40)
    site.slurm.kill_controller()
    gate.touch()
    ended = await asyncio.to_thread(host.end, run)
    assert (ended.status, told.count(b"\n")) == (0, 1), ended
    host.nothing_left()
    assert site.holders() == []


def started(host: Host, site: SlurmSite, calibrators: int) -> subprocess.Popen[bytes]:
    """A run whose worker has begun its calibrator."""
    run = host.start()
    asyncio.run(until(lambda: site.node.calibrators() >= calibrators or run.poll() is not None, 40))
    assert run.poll() is None, host.end(run)
    return run


def test_a_job_that_is_cancelled_has_failed(slurm_site: SlurmSite, host: Host) -> None:
    """With the failure block; its directory stays."""
    gated(slurm_site, host)
    run = started(host, slurm_site, 1)
    assert slurm_site.living() == ["RUNNING"]
    slurm_site.slurm.run("scancel", *slurm_site.numbers())
    host.end(run).failed()
    assert (slurm_site.node.workers(), slurm_site.living()) == ([], [])
    assert len(slurm_site.node.directories()) == 1


def test_who_is_stopped_in_the_queue_leaves_no_job(slurm_site: SlurmSite, host: Host) -> None:
    """At once, and with the failure block."""
    slurm_site.close_partition()
    run = host.start()
    asyncio.run(until(lambda: slurm_site.living() == ["PENDING"]))
    run.terminate()
    host.end(run).failed(work=False)
    assert slurm_site.living() == []


def test_killed_runs_are_swept_by_the_next(slurm_site: SlurmSite, host: Host) -> None:
    """One that waited in the queue, and one whose worker ran."""
    slurm_site.close_partition()
    run = host.start()
    asyncio.run(until(lambda: slurm_site.living() == ["PENDING"]))
    run.kill()
    host.end(run)
    assert slurm_site.living() == ["PENDING"]
    gate = gated(slurm_site, host)
    slurm_site.open_partition()
    run = started(host, slurm_site, 1)
    assert slurm_site.living() == ["RUNNING"]
    run.kill()
    host.end(run)
    assert slurm_site.node.workers()
    gate.touch()
    host.served(host.stage(), BLOCK)
    nothing_left(slurm_site, host)
