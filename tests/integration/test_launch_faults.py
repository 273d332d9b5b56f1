"""What goes wrong around launches: reboots, other hosts, a Slurm controller that is killed, commands that hang."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aogconsole.errors import ConfigError, LaunchError
from backends import launch_job
from backends.launch_local import LocalLauncher
from backends.launch_slurm import SlurmLauncher, checked
from tests.support.launching import GATED, Ground, new_start, surely, until
from tests.support.slurm import Slurm


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Ground]:
    """A place for local launches."""
    place = Ground("local", tmp_path)
    yield place
    place.close()


@pytest.fixture
def cluster(tmp_path: Path, slurm: Slurm) -> Iterator[Ground]:
    """A place for launches by Slurm."""
    place = Ground("slurm", tmp_path, slurm)
    yield place
    place.close()


def at(ground: Ground) -> Slurm:
    """The cluster's servers."""
    assert ground.slurm
    return ground.slurm


# ── local ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_after_a_restart_it_failed(local: Ground) -> None:
    """Its mark is of another boot, and no exit status is there."""
    launcher, start = local.launcher(), new_start("echo halfway; kill -9 $PPID")
    name = start.workflow_id
    await launcher.launch(start, "NAASC")
    assert (await until(launcher, [name]))[name].why == "killed; the last it said: halfway"
    mark = local.job(name) / "started"
    host, _, *rest = mark.read_text().split("\n")
    mark.write_text("\n".join([host, "an-earlier-boot", *rest]))
    assert (await launcher.look([name]))[name].why == "the machine restarted; the last it said: halfway"


async def test_of_another_host_nothing_is_known(local: Ground) -> None:
    """Unless it left its exit status."""
    launcher, start = local.launcher(), new_start(GATED)
    assert isinstance(launcher, LocalLauncher)
    name = start.workflow_id
    await launcher.launch(start, "NAASC")
    launcher.local_to = "elsewhere"
    seen = (await launcher.look([name]))[name]
    assert (seen.state, seen.why) == ("unknown", f"it was launched on {os.uname().nodename}")
    local.open_gate()
    assert (await until(launcher, [name]))[name].state == "done"


async def test_it_outlives_who_launched_it(local: Ground) -> None:
    """The launching process's whole session is hung up and killed; the workflow runs on to its end."""
    start = new_start(GATED)
    child = local.process(start)
    await asyncio.to_thread(child.communicate, "go\n")
    for number in (signal.SIGHUP, signal.SIGKILL):
        with pytest.raises(ProcessLookupError):
            os.killpg(child.pid, number)  # nothing of ours is left in it
    launcher = local.launcher()
    assert (await launcher.look([start.workflow_id]))[start.workflow_id].state == "running"
    local.open_gate()
    assert (await until(launcher, [start.workflow_id]))[start.workflow_id].state == "done"


async def test_a_terminated_workflow_tells_its_end(local: Ground) -> None:
    """TERM at the job goes on to the workflow, and its exit status is kept."""
    start = new_start('trap "echo told to end; exit 9" TERM; touch "$here/trapped"; ' + GATED)
    launcher, name = local.launcher(), start.workflow_id
    await launcher.launch(start, "NAASC")
    while not (local.base / "trapped").exists():
        await asyncio.sleep(0.01)
    os.kill(int((local.job(name) / "started").read_text().split("\n")[2]), signal.SIGTERM)
    seen = (await until(launcher, [name]))[name]
    assert (seen.state, seen.why) == ("failed", "told to end")


async def test_a_full_disk_refuses(local: Ground, tmp_path: Path) -> None:
    """A job that cannot write its mark never begins, and says so; with room it begins."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "flock").write_text("#!/bin/sh\nexit 0\n")
    (tools / "ln").write_text("#!/bin/sh\nexit 1\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    start = new_start()
    broken = local.launcher(environ={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"})
    with pytest.raises(LaunchError, match="the start cannot be noted"):
        await broken.launch(start, "NAASC")
    assert (await broken.look([start.workflow_id]))[start.workflow_id].state == "absent"
    assert (await local.launcher().launch(start, "NAASC")).outcome == "started"
    await until(broken, [start.workflow_id])
    assert local.starts() == 1


# ── Slurm ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_controller_is_killed_while_it_takes_jobs(cluster: Ground) -> None:
    """At a random moment among submissions; what it forgot is launched again: each begins once, and ends."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    starts = [new_start("sleep 0.1") for _ in range(12)]
    names = [start.workflow_id for start in starts]
    launcher = cluster.launcher(patience=5.0)
    tasks = [asyncio.create_task(launcher.launch(start, "NAASC")) for start in starts]
    await asyncio.sleep(random.Random(seed).uniform(0.01, 0.15))
    at(cluster).kill_controller()
    print(await asyncio.gather(*tasks, return_exceptions=True))
    at(cluster).start_controller()

    async def settle(number: int) -> None:
        while (seen := (await launcher.look([names[number]]))[names[number]]).state not in {"done", "failed"}:
            if seen.state == "absent":
                await surely(launcher, starts[number])
            await asyncio.sleep(0.05)

    async with asyncio.timeout(40):
        await asyncio.gather(*map(settle, range(len(starts))))
    seen = await launcher.look(names)
    began = [cluster.starts(name) for name in names]
    assert max(began) == 1
    assert all(count == 1 for count, name in zip(began, names, strict=True) if seen[name].state == "done")
    assert [one.why for one in seen.values() if one.state == "failed" and "Slurm" not in one.why] == []


async def test_the_controller_is_killed_while_it_runs(cluster: Ground) -> None:
    """Its signs of life say that it runs, and its exit status that it is done: also to a controller that forgot it.

    What is launched meanwhile was not sent, and it says so; when the controller is back it is launched, once.
    """
    launcher = cluster.launcher(silence=2.0)
    start, silent, late = new_start(GATED), new_start(GATED), new_start()
    name, lost, meanwhile = start.workflow_id, silent.workflow_id, late.workflow_id
    await asyncio.gather(launcher.launch(start, "NAASC"), launcher.launch(silent, "NAASC"))
    while cluster.starts() < 2:
        await asyncio.sleep(0.02)
    at(cluster).kill_controller()
    assert {one.state for one in (await launcher.look([name, lost])).values()} == {"running"}
    with pytest.raises(LaunchError, match=r"^squeue: .*Unable to contact slurm controller"):
        await launcher.launch(late, "NAASC")
    assert (await launcher.look([meanwhile]))[meanwhile].state == "unknown"
    for pid in cluster.pids(lost):
        os.kill(pid, signal.SIGKILL)
    assert (await until(launcher, [lost], ["unknown"]))[lost].why.startswith("squeue: ")
    cluster.open_gate()
    assert (await until(launcher, [name]))[name].state == "done"
    at(cluster).start_controller()
    assert (await launcher.look([meanwhile]))[meanwhile].state == "absent"
    await surely(launcher, late)
    assert (await until(launcher, [lost]))[lost].state == "failed"
    assert (await launcher.launch(start, "NAASC")).why == "it was started before"
    assert (await until(launcher, [meanwhile]))[meanwhile].state == "done"
    assert [cluster.starts(one) for one in (name, lost, meanwhile)] == [1, 1, 1]


async def test_a_job_that_waits_takes_its_place(cluster: Ground) -> None:
    """Held in Slurm's queue it is running, and says why it waits; cancelled there it failed, for good."""
    launcher, start = cluster.launcher(options=["--hold"]), new_start()
    name = start.workflow_id
    assert (await launcher.launch(start, "NAASC")).outcome == "started"
    seen = (await until(launcher, [name], ["running"]))[name]
    assert seen.why == "it waits in Slurm: JobHeldUser"
    at(cluster).run("scancel", f"--name=aog-{name}")
    seen = (await until(launcher, [name]))[name]
    assert (seen.state, "before the workflow began: CANCELLED" in seen.why) == ("failed", True)
    assert (await cluster.launcher().launch(start, "NAASC")).outcome == "started"
    assert (await launcher.look([name]))[name] == seen
    assert cluster.starts() == 0


async def test_a_second_job_of_the_same_number_does_not_begin(cluster: Ground) -> None:
    """Slurm ran it again, or its controller forgot the number: it ends without a word of success."""
    launcher, start = cluster.launcher(), new_start()
    name = start.workflow_id
    await launcher.launch(start, "NAASC")
    await until(launcher, [name])
    number = (cluster.job(name) / "started").read_text().split("\n")[3]
    argv = ["/bin/sh", str(launch_job.SCRIPT), "slurm", str(cluster.job(name)), *cluster.command(start)]
    again = await launch_job.run(argv, {**os.environ, "SLURM_JOB_ID": number}, 10)
    assert (again.status, again.out, cluster.starts()) == (75, "already\n", 1)


async def test_what_slurm_refuses_is_refused(cluster: Ground) -> None:
    """With its words."""
    with pytest.raises(LaunchError, match=r"^sbatch: Batch job submission failed: Invalid partition name specified$"):
        await cluster.launcher(options=["--partition=nope"]).launch(new_start(), "NAASC")


_LATE = """#!/bin/sh
PATH={path}
sbatch "$@"
echo "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received" >&2
exit 1
"""


async def test_an_answer_that_is_lost_is_looked_for(cluster: Ground, tmp_path: Path) -> None:
    """sbatch says that it failed, although the job was taken: it is found. Without an answer in time it is unknown."""
    for name, text in (("late", _LATE), ("hangs", "#!/bin/sh\nexec sleep 60\n")):
        (tmp_path / name).mkdir()
        sbatch = tmp_path / name / "sbatch"
        sbatch.write_text(text.format(path=os.environ["PATH"]))
        sbatch.chmod(0o755)
    start, other = new_start("sleep 0.3"), new_start()
    paths = {name: {**os.environ, "PATH": f"{tmp_path / name}:{os.environ['PATH']}"} for name in ("late", "hangs")}
    launch = await cluster.launcher(environ=paths["late"]).launch(start, "NAASC")
    assert (launch.outcome, launch.why.startswith("Slurm's job ")) == ("started", True)
    begun = time.monotonic()
    launch = await cluster.launcher(environ=paths["hangs"], patience=0.5).launch(other, "NAASC")
    assert (launch.outcome, launch.why) == ("unknown", "sbatch: sbatch did not answer within 0.5 s")
    assert time.monotonic() - begun < 5
    launcher = cluster.launcher()
    await surely(launcher, other)
    seen = await until(launcher, [start.workflow_id, other.workflow_id])
    assert [one.state for one in seen.values()] == ["done", "done"], seen
    assert [cluster.starts(one.workflow_id) for one in (start, other)] == [1, 1]


async def test_without_slurm_it_is_refused(tmp_path: Path) -> None:
    """No command of Slurm's on this machine: a sentence, nothing launched."""
    launcher = SlurmLauncher(tmp_path / "jobs", lambda start: ["true"], environ={"PATH": str(tmp_path)})
    with pytest.raises(LaunchError, match=r"^squeue cannot be run: No such file or directory$"):
        await launcher.launch(new_start(), "NAASC")


@pytest.mark.parametrize("option", [
    "", "-p", "partition=x", "--", "--job-name=x", "--job=x", "--wrap=id", "--wra=id", "--array=1-9", "--output=/etc/x",
    "--no-requeue", "--wait", "--Partition=x", "--a b", "--mem=1\0", "--clusters=all",
])  # fmt: skip
def test_options_that_are_no_sites_are_refused(option: str) -> None:
    """Those that are none, and those on which the guard or the search for a job depend."""
    with pytest.raises(ConfigError, match=r"^reingestion\.sbatch: "):
        checked([option])


def test_options_of_a_site() -> None:
    """They are passed on as they are."""
    given = ("--partition=batch", "--time=12:00:00", "--mem=4G", "--account=aog", "--exclusive", "--comment=a b; $(id)")
    assert checked(given) == given
