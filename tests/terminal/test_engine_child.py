"""The engine as the console's child: it stands by, takes over, comes back, and never outlives the console."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aogconsole import attached
from aogconsole.attached import AttachedEngine, State
from aogconsole.engine.lock import EngineLock
from aogconsole.journal.history import Actor
from tests.terminal.conftest import CONFIG

CONSOLE = """
import asyncio, sys
from pathlib import Path
from aogconsole.attached import AttachedEngine, command

async def main():
    engine = AttachedEngine(command(Path(sys.argv[1])), lambda line: None)
    engine.start()
    while engine.state != "running":
        await asyncio.sleep(0.02)
    print(engine.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
"""The smallest console: it has an engine."""


def lock_of(config: Path) -> EngineLock:
    """The engine lock of its journal."""
    return EngineLock(config.with_name("journal.db"))


async def until(true: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process, also one that is not our child, runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Heard(AttachedEngine):
    """An engine child of the test's, with all it said."""

    def __init__(self, argv: list[str]) -> None:
        self.lines: list[str] = []
        super().__init__(argv, self.lines.append)

    async def becomes(self, state: State) -> None:
        """Wait for a state."""
        await until(lambda: self.state == state, f"{self.state}, not {state}: {self.lines}")


async def test_it_runs_stands_by_and_takes_over(config: Path) -> None:
    """The first has the lock and is named by it; the second takes over when the first has been stopped."""
    lock = lock_of(config)
    first, second = Heard(attached.command(config)), Heard(attached.command(config))
    first.start()
    await first.becomes("running")
    assert lock.holder_pid() == first.pid
    assert f"engine {first.pid}" in lock.holder()
    second.start()
    await second.becomes("standing by")
    told = "standing by: the engine runs as"
    await until(lambda: any(line.startswith(told) for line in second.lines), "it is not told who runs it")
    before = time.monotonic()
    await first.stop()
    assert (first.state, first.pid, first.why) == ("stopped", None, "")
    await second.becomes("running")
    assert time.monotonic() - before < 5
    assert lock.holder_pid() == second.pid
    await second.stop()
    assert (lock.holder(), lock.holder_pid()) == ("", None)


async def test_it_can_be_stopped_and_started_again(config: Path) -> None:
    """As Ctrl+Z does, and at any moment of its start."""
    engine = Heard(attached.command(config))
    await engine.stop()
    engine.start()
    engine.start()
    await engine.stop()
    assert engine.pid is None
    engine.start()
    await engine.becomes("running")
    await engine.stop()
    assert lock_of(config).holder() == ""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_one_that_dies_comes_back(config: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed from outside: it is told why it ended, and another takes its place."""
    monkeypatch.setattr(attached, "FIRST_WAIT", 0.1)
    engine = Heard(attached.command(config))
    engine.start()
    await engine.becomes("running")
    first = engine.pid
    assert first is not None
    os.kill(first, number)
    await until(lambda: engine.state == "running" and engine.pid not in (first, None), "it does not come back")
    why = "killed by SIGKILL" if number == signal.SIGKILL else "it ended with 0"
    assert f"the engine has ended: {why}; it is started again in 0.1 s" in engine.lines
    await engine.stop()


async def test_a_wrong_configuration_is_told_and_not_tried_again(config: Path) -> None:
    """Exit code 3: the sentence and the hint are the reason, and a restart would not mend it."""
    config.write_text("[mail]\ninbox = 'maildir:inbox'\n")
    engine = Heard(attached.command(config))
    engine.start()
    await until(lambda: any("does not start" in line for line in engine.lines), "nothing is told")
    assert engine.state == "failed"
    assert engine.why.startswith("mail.outgoing is not set (set it in")
    await until(lambda: not engine._thread or not engine._thread.is_alive(), "it is tried again")
    config.write_text(CONFIG)
    engine.start()
    await engine.becomes("running")
    assert engine.why == ""
    await engine.stop()


async def test_what_it_says_cannot_act_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Escapes are visible, a line without an end is taken in pieces, and a program that is not there is a sentence."""
    monkeypatch.setattr(attached, "FIRST_WAIT", 0.05)
    program = "import sys; sys.stderr.write('\\x1b]52;c;eA==\\x07 and\\n' + 'x' * 10000); sys.exit(4)"
    engine = Heard([sys.executable, "-c", program])
    engine.start()
    await until(lambda: sum("has ended" in line for line in engine.lines) > 1, "it is not started again")
    await engine.stop()
    assert engine.lines[0] == "\\x1b]52;c;eA==\\x07 and"
    assert all(len(line) <= 2 * attached.LONGEST_LINE for line in engine.lines)
    missing = Heard(["/not/there"])
    missing.start()
    await missing.becomes("failed")
    assert missing.why == "/not/there: No such file or directory"
    await missing.stop()


async def test_one_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that ignores the end of its input is killed with its process group after a while."""
    monkeypatch.setattr(attached, "GRACE", 0.3)
    engine = Heard([sys.executable, "-c", "print('running', flush=True)\nimport time; time.sleep(600)"])
    engine.start()
    await engine.becomes("running")
    pid = engine.pid
    assert pid is not None
    await engine.stop()
    assert not alive(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
async def test_it_never_outlives_the_console(config: Path, number: int) -> None:
    """Whatever kills the console: the engine ends, and another console's engine has taken over within 5 s."""
    console = subprocess.Popen([sys.executable, "-c", CONSOLE, str(config)], stdout=subprocess.PIPE)  # noqa: ASYNC220
    assert console.stdout is not None
    pid = int(await asyncio.to_thread(console.stdout.readline))
    other = Heard(attached.command(config))
    other.start()
    await other.becomes("standing by")
    before = time.monotonic()
    console.send_signal(number)
    console.wait()
    await other.becomes("running")
    assert time.monotonic() - before < 5
    await until(lambda: not alive(pid), "it is left behind")
    await other.stop()


async def test_a_stuck_engine_ends_with_the_console_too(config: Path) -> None:
    """Its loop hangs, so it cannot end in good order: it does so hard, and the lock is free."""
    program = (
        "import sys, time\nfrom aogconsole.cli import engine\nengine.STUCK = 0.3\n"
        "from aogconsole.engine.loop import Engine\n"
        "Engine.recover = lambda self: time.sleep(600)\n"
        "from aogconsole.cli.root import main\nmain()"
    )
    argv = [sys.executable, "-c", program, "--config", str(config), "serve", "--attached"]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
    assert child.stdin is not None
    assert child.stdout is not None
    assert await asyncio.to_thread(child.stdout.readline) == b"running\n"
    assert lock_of(config).holder_pid() == child.pid
    child.stdin.close()
    assert await asyncio.to_thread(child.wait, 10) == 1
    assert lock_of(config).holder() == ""


def test_a_console_that_does_not_read_does_not_stop_its_engine(config: Path) -> None:
    """A stopped console leaves the pipe full: messages are lost, the engine goes on and ends when told to."""
    program = (
        "import logging\nfrom aogconsole.engine.loop import Engine\n"
        "Engine.recover = lambda self: [logging.info('x' * 1000) for _ in range(1000)]\n"
        "Engine.run = lambda self, **_: __import__('asyncio').sleep(600, print('past it', flush=True))\n"
        "from aogconsole.cli.root import main\nmain()"
    )
    argv = [sys.executable, "-c", program, "--config", str(config), "serve", "--attached"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() + child.stdout.readline() == b"running\npast it\n"
        child.stdin.close()
        assert child.wait(10) in (0, 120)


def test_the_lock_of_an_older_version_has_no_process(tmp_path: Path) -> None:
    """A holder that did not write its process id, or nothing that can be read, is still a holder."""
    lock, looker = EngineLock(tmp_path / "j"), EngineLock(tmp_path / "j")
    assert looker.holder_pid() is None
    assert lock.take(Actor("ann@aog1", "cli 1"))
    assert looker.holder_pid() == lock.holder_pid() == os.getpid()
    for content, told in (
        ('{"who": "a", "via": "b", "since": "c"}', "a (b) since c"), ("[]", "somebody"), ("", "somebody"),
        ('{"pid": "7"}', "somebody"),
    ):  # fmt: skip
        lock.path.write_text(content)
        assert (looker.holder_pid(), looker.holder()) == (None, told)
    lock.give_up()


def test_a_group_that_came_later_shares_the_lock(tmp_path: Path) -> None:
    """A lock from before `journal.group` was set is opened to the group by its owner."""
    lock = EngineLock(tmp_path / "j")
    assert lock.take(Actor.current("serve"))
    lock.give_up()
    assert lock.path.stat().st_mode & 0o777 == 0o600
    shared = EngineLock(tmp_path / "j", shared=True)
    assert shared.take(Actor.current("serve"))
    shared.give_up()
    assert lock.path.stat().st_mode & 0o777 == 0o660
