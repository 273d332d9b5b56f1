"""What a launcher owes: a workflow begins once however often it is launched, and its end is seen.

Both that keep a folder are tried with real processes and a real Slurm; starts are counted by the workflow itself. A
job program without its guard shows that the counting catches.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from aogconsole.errors import ConfigError, LaunchError
from aogconsole.reingestion.messages import Start
from backends import launch_job
from backends.launch_job import Command
from backends.reingestion_ports import Launcher
from tests.support.launching import GATED, Ground, go, new_start, ready, surely, until

HOSTILE = [
    "uid://A002/X1/X2", "$(touch pwned)", "`touch pwned`", "'; touch pwned; '", '"; touch pwned; "', "-rf", "--wrap=id",
    "a b\tc", "line\nend\r", "", "%j%A", "\\", "*", "~", "héllo 😀 \u202e", "\x1b]0;x\x07", "\udcff", "x" * 5000,
]  # fmt: skip


@pytest.fixture(params=["local", "slurm"])
def ground(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """A place to launch in, by each launcher."""
    place = Ground(request.param, tmp_path, request.getfixturevalue("slurm") if request.param == "slurm" else None)
    yield place
    place.close()


async def check_once(ground: Ground, launcher: Launcher) -> None:
    """Launched at the same time and again, while it runs and when it has ended: it began once."""
    start = new_start(GATED)
    name = start.workflow_id
    launches = await asyncio.gather(*(launcher.launch(start, "NAASC") for _ in range(3)))
    launches.append(await ground.launcher().launch(start, "NAASC"))
    while not ground.starts(name):
        await asyncio.sleep(0.02)
    ground.open_gate()
    assert (await until(launcher, [name]))[name].state == "done"
    launches.append(await launcher.launch(start, "NAASC"))
    assert {one.outcome for one in launches} == {"started"}
    while ground.pids(name):
        await asyncio.sleep(0.02)
    assert ground.starts(name) == 1


async def test_it_begins_once(ground: Ground) -> None:
    """However often it is launched."""
    await check_once(ground, ground.launcher())


async def test_it_is_absent_then_runs_then_is_done(ground: Ground) -> None:
    """As another runner sees it, too; what was never launched stays absent beside it."""
    start, other = new_start(GATED), new_start()
    name = start.workflow_id
    launcher, watcher = ground.launcher(), ground.launcher()
    assert {one.state for one in (await watcher.look([name, other.workflow_id])).values()} == {"absent"}
    assert not ground.folder.exists(), "looking makes nothing"
    assert (await launcher.launch(start, "NAASC")).outcome == "started"
    assert (await watcher.look([name]))[name].state == "running"
    ground.open_gate()
    assert (await until(watcher, [name]))[name].state == "done"
    assert (await watcher.look([other.workflow_id]))[other.workflow_id].state == "absent"
    assert (ground.job(name).stat().st_mode & 0o777, ground.folder.stat().st_mode & 0o777) == (0o700, 0o700)


async def test_a_job_without_its_guard_is_caught(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The same check fails when the job neither takes its lock nor looks whether it was begun."""
    text = launch_job.SCRIPT.read_text()
    careless = re.sub(r"\|\| leave$|take_lock$", "", text, flags=re.MULTILINE)
    careless = careless.replace('ln "$mine" started', 'ln -f "$mine" started')
    assert careless.count("leave") < text.count("leave")
    script = tmp_path / "careless.sh"
    script.write_text(careless)
    monkeypatch.setattr(launch_job, "SCRIPT", script)
    with pytest.raises(AssertionError):
        await check_once(ground, ground.launcher())


async def test_five_processes_launch_it(ground: Ground) -> None:
    """All are told that it started; it began once."""
    start = new_start()
    children = [ground.process(start) for _ in range(5)]
    await ready(children)
    for child in children:
        go(child)
    told = [(await asyncio.to_thread(child.communicate))[0].strip() for child in children]
    assert set(told) == {"started"}
    assert (await until(ground.launcher(), [start.workflow_id]))[start.workflow_id].state == "done"
    assert ground.starts() == 1


async def test_launching_processes_are_killed(ground: Ground) -> None:
    """With SIGKILL, at random moments, alone or with its commands: launched again it begins once, and ends."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    starts = [new_start("sleep 0.05") for _ in range(12)]
    children = [ground.process(start) for start in starts]
    await ready(children)
    for number, child in enumerate(children):
        go(child)
        await asyncio.sleep(chance.uniform(0, 0.03))
        (os.killpg if number % 2 else os.kill)(child.pid, signal.SIGKILL)
    launcher = ground.launcher()
    await asyncio.gather(*(surely(launcher, start) for start in starts))
    seen = await until(launcher, [start.workflow_id for start in starts])
    assert {one.state for one in seen.values()} == {"done"}
    assert [ground.starts(start.workflow_id) for start in starts] == [1] * len(starts)


def _killer(folder: Path, number: int, after: bool) -> str:
    """A PATH whose n-th program (of those with which a job makes its marks) kills the job, before or after its work."""
    folder.mkdir()
    for name in ("flock", "sync", "ln", "rm", "mv"):
        shim = folder / name
        shim.write_text(
            f'#!/bin/sh\nPATH={os.environ["PATH"]}\necho >>"{folder}/count"\n'
            f'if [ "$(wc -l <"{folder}/count")" -eq {number} ]; then\n'
            f'{name if after else ":"} "$@"\nkill -9 "$PPID"\nexit 1\nfi\nexec {name} "$@"\n'
        )
        shim.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


async def test_the_job_is_killed_at_each_of_its_steps(ground: Ground, tmp_path: Path) -> None:
    """Its mark and its end are made of steps; killed before or after any, it never begins twice, and what is absent
    never began."""

    async def one(number: int, after: bool) -> None:
        start = new_start("sleep 0.05")
        name = start.workflow_id
        paths = _killer(tmp_path / f"{number}{after}", number, after)
        with contextlib.suppress(LaunchError):  # killed before its mark
            await ground.launcher(environ={**os.environ, "PATH": paths}).launch(start, "NAASC")
        seen = (await until(launcher, [name], ("absent", "done", "failed")))[name]
        began = ground.starts(name)
        if seen.state == "absent":
            assert began == 0
            await surely(launcher, start)
            assert (await until(launcher, [name]))[name].state == "done"
            assert ground.starts(name) == 1
        else:
            assert (await launcher.launch(start, "NAASC")).outcome == "started"
            assert (await launcher.look([name]))[name].state == seen.state
            assert ground.starts(name) == began <= 1
            assert seen.state == "failed" or began == 1

    launcher = ground.launcher()
    await asyncio.gather(*(one(number, after) for number in range(1, 11) for after in (False, True)))


async def test_how_it_ends_is_seen(ground: Ground) -> None:
    """Done, failed with the last line that it said, made safe and short; or its exit status; or the signal."""
    deeds = {
        "exit 0": "",
        "echo first; echo 'no such ASDM' >&2; exit 4": "no such ASDM",
        "printf 'aogconsole: NGAS is away\\n  try again\\n'; exit 4": "NGAS is away",
        "printf '\\033[2Jx\\n\\n'; exit 1": "\\x1b[2Jx",
        "exit 3": "exit status 3",
        "echo one; kill -9 $$": "ended by signal 9: one",
        "head -c 100000 /dev/zero | tr '\\0' x; exit 1": "x" * 300,
    }
    launcher = ground.launcher()
    begun = [(new_start(deed), reason) for deed, reason in deeds.items()]
    await asyncio.gather(*(launcher.launch(start, "NAASC") for start, _ in begun))
    seen = await until(launcher, [start.workflow_id for start, _ in begun])
    told = [seen[start.workflow_id] for start, _ in begun]
    assert [one.why for one in told] == [reason for _, reason in begun]
    assert [one.state for one in told] == ["done"] + ["failed"] * 6


async def test_its_words_reach_no_shell(ground: Ground, tmp_path: Path) -> None:
    """Whatever a row holds comes to the workflow as it is; what no program can be given begins nothing."""
    keep = 'printf "%s\\0" "$@" >"$here/words"'
    launcher = ground.launcher(lambda start: [*ground.command(start), *HOSTILE])
    start = new_start(keep)
    await launcher.launch(start, "NAASC")
    assert (await until(launcher, [start.workflow_id]))[start.workflow_id].state == "done"
    assert (tmp_path / "words").read_bytes().split(b"\0")[4:-1] == [os.fsencode(word) for word in HOSTILE]
    assert not list(tmp_path.rglob("pwned"))
    for uid in ("\0", "a\0b", "\ud800"):
        start = new_start(uid=uid)
        assert (await ground.launcher().launch(start, "NAASC")).outcome == "refused"
        assert (await launcher.look([start.workflow_id]))[start.workflow_id].state == "absent"


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "x/y", "-rf", "A" * 36, "١" * 36, "a\n", "é"])
async def test_what_is_no_id_is_refused(ground: Ground, name: str) -> None:
    """It makes no folder, and is absent."""
    launcher = ground.launcher()
    launch = await launcher.launch(replace(new_start(), workflow_id=name), "NAASC")
    assert launch.outcome == "refused"
    assert "is not a workflow's id" in launch.why
    assert (await launcher.look([name]))[name].state == "absent"
    await launcher.forget([name])
    assert not ground.folder.exists()


async def test_what_cannot_be_launched_is_refused(ground: Ground) -> None:
    """A command that cannot be made; a folder that cannot is no fault of the item's. One sentence, nothing began."""

    def refuse(error: Exception) -> Command:
        def command(start: Start) -> Sequence[str]:
            raise error

        return command

    for error, words in ((ConfigError("no command for vlba"), "no command for vlba"), (KeyError("uid"), "'uid'")):
        launch = await ground.launcher(refuse(error)).launch(new_start(), "NAASC")
        assert (launch.outcome, words in launch.why) == ("refused", True)
    assert (await ground.launcher(lambda start: []).launch(new_start(), "NAASC")).outcome == "refused"
    ground.folder.write_text("a file")
    with pytest.raises(LaunchError, match="cannot be made"):
        await ground.launcher().launch(new_start(), "NAASC")
    assert ground.starts() == 0


async def test_a_program_that_is_not_there_is_a_failure(ground: Ground) -> None:
    """Of the workflow, with the shell's words as reason."""
    launcher, start = ground.launcher(lambda start: ["/nowhere/workflow"]), new_start()
    assert (await launcher.launch(start, "NAASC")).outcome == "started"
    seen = (await until(launcher, [start.workflow_id]))[start.workflow_id]
    assert seen.state == "failed"
    assert "/nowhere/workflow: not found" in seen.why


async def test_its_environment_is_chosen(ground: Ground) -> None:
    """A secret in the runner's environment stays there; the site's settings come along, and nothing else is open."""
    given = {**os.environ, "AOG_SECRET": "canary", "PGPASSWORD": "canary", "AOGCONSOLE_CONFIG": "/c.toml",
             "CAPO_PROFILE": "naasc", "LC_ALL": "C.UTF-8", "SQUEUE_PARTITION": "x", "SBATCH_HOLD": "1"}  # fmt: skip
    launcher = ground.launcher(environ=given)
    start = new_start('cd "$here"; env >env; ls -l /proc/$$/fd >fds; cut -d" " -f6 /proc/$$/stat >sid; umask >mask')
    with (ground.base / "inherited").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        await launcher.launch(start, "NAASC")
    assert (await until(launcher, [start.workflow_id]))[start.workflow_id].state == "done"
    told = (ground.base / "env").read_text()
    assert "canary" not in told
    assert set(told.splitlines()) >= {"AOGCONSOLE_CONFIG=/c.toml", "CAPO_PROFILE=naasc", "LC_ALL=C.UTF-8"}
    assert "inherited" not in (ground.base / "fds").read_text()
    assert int((ground.base / "sid").read_text()) != os.getsid(0)
    mask = os.umask(0)
    os.umask(mask)
    assert int((ground.base / "mask").read_text(), 8) == mask
    assert ground.starts() == 1


async def test_a_killed_workflow_is_seen(ground: Ground) -> None:
    """The job and its workflow killed together: failed, never begun again. The job alone: its workflow runs on."""
    launcher = ground.launcher()
    start, lonely = new_start(f"echo halfway; {GATED}"), new_start("kill -9 $PPID; sleep 0.3; echo end")
    names = [start.workflow_id, lonely.workflow_id]
    await asyncio.gather(launcher.launch(start, "NAASC"), launcher.launch(lonely, "NAASC"))
    while not ground.starts(names[0]):
        await asyncio.sleep(0.02)
    if ground.slurm:
        assert not ground.slurm.run("scancel", f"--name=aog-{names[0]}").stderr
    else:
        for pid in ground.pids(names[0]):
            os.kill(pid, signal.SIGKILL)
    seen = await until(launcher, names)
    assert {one.state for one in seen.values()} == {"failed"}
    assert re.match(r"killed|Slurm ended it: CANCELLED|ended by signal (9|15)", seen[names[0]].why)
    if not ground.slurm:  # Slurm's TERM leaves time for other last words
        assert seen[names[0]].why.endswith("halfway")
    assert (await launcher.launch(start, "NAASC")).outcome == "started"
    assert [ground.starts(name) for name in names] == [1, 1]


async def test_folders_are_forgotten_after_a_week(ground: Ground) -> None:
    """The log stays for a week after the end was recorded; what is not recorded, or no folder of ours, stays."""
    launcher = ground.launcher()
    old, fresh, open_one = (new_start("echo words") for _ in range(3))
    names = [start.workflow_id for start in (old, fresh, open_one)]
    for start in (old, fresh, open_one):
        await launcher.launch(start, "NAASC")
    await until(launcher, names)
    other = ground.folder / "notes"
    other.mkdir()
    outside = ground.base / "outside"
    outside.mkdir()
    (outside / "recorded").touch()
    link = ground.folder / new_start().workflow_id
    link.symlink_to(outside)
    await launcher.forget(names[:2])
    long_ago = time.time() - launch_job.KEPT - 60
    for marked in (ground.job(names[0]) / "recorded", outside / "recorded"):
        os.utime(marked, (long_ago, long_ago))
    await launcher.forget([])
    assert [ground.job(name).exists() for name in names] == [False, True, True]
    assert (ground.job(names[1]) / "log").read_text() == "words\n"
    assert other.exists()
    assert (outside / "recorded").exists()
