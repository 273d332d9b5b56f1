"""The real console's life: signals, Ctrl+Z, `kill -9`, two of them on one journal, a browser."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from tests.support.terminal import Terminal
from tests.terminal.test_engine_child import alive, lock_of, until
from tests.terminal.test_signals import within
from tests.terminal.test_web import seen, serving

HERE = "engine here"


def console(config: Path) -> list[str]:
    """The words that start it."""
    return [sys.executable, "-P", "-m", "aogconsole", "--config", str(config)]


def state(config: Path) -> dict[str, str]:
    """Its environment: a state folder of its own."""
    return {"XDG_STATE_HOME": str(config.with_name("state"))}


def start(config: Path) -> Terminal:
    """It in a terminal."""
    return Terminal(console(config), env=state(config), cols=120, rows=30)


def engine(config: Path) -> int:
    """The process that has the engine."""
    pid = lock_of(config).holder_pid()
    assert pid is not None
    return pid


def crashes(config: Path) -> list[Path]:
    """Files of crashes."""
    return list(config.parent.glob("state/aogconsole/crash-*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(config: Path, number: int) -> None:
    """Its exit code, its terminal, its engine and the lock."""
    with start(config) as terminal:
        terminal.wait_for(HERE)
        child = engine(config)
        terminal.signal(number)
        assert terminal.wait_exit() == 128 + number, terminal.text
        assert terminal.restored(), terminal.left_behind()
    assert (alive(child), lock_of(config).holder(), crashes(config)) == (False, "", [])


def test_a_terminal_that_goes_away_ends_it(config: Path) -> None:
    """As when an SSH connection breaks."""
    with start(config) as terminal:
        terminal.wait_for(HERE)
        child = engine(config)
        terminal.hang_up()
        assert terminal.wait_exit() == 128 + signal.SIGHUP
    assert (alive(child), lock_of(config).holder(), crashes(config)) == (False, "", [])


def test_ctrl_z_gives_up_the_engine_and_fg_takes_it_again(config: Path) -> None:
    """Under a shell, as an operator does it."""
    with Terminal(["bash", "--norc", "-i"], env={**state(config), "PS1": "shell> "}, cols=120, rows=30) as terminal:
        terminal.wait_for("shell>")
        terminal.send(shlex.join(console(config)), "enter")
        terminal.wait_for(HERE)
        child = engine(config)
        terminal.send("ctrl+z")
        terminal.wait_for("Stopped")
        assert (alive(child), lock_of(config).holder()) == (False, "")
        assert "alternate screen" not in terminal.left_behind()
        terminal.send("fg", "enter")
        terminal.wait_for(HERE)
        assert engine(config) != child
        terminal.send("ctrl+q")
        terminal.wait_for(lambda screen: screen.rstrip().endswith("shell>"))
        assert lock_of(config).holder() == ""


def test_when_one_console_is_killed_the_other_takes_over(config: Path) -> None:
    """`kill -9` of the one with the engine: nothing of it is left, and the other one has the engine within 5 s."""
    with start(config) as first, start(config) as second:
        within(20, lambda: HERE in first.text or HERE in second.text)
        one, other = (first, second) if HERE in first.text else (second, first)
        other.wait_for("engine ")
        child = engine(config)
        killed = time.monotonic()
        one.signal(signal.SIGKILL)
        other.wait_for(HERE, 5)
        assert time.monotonic() - killed < 5
        assert engine(config) != child
        within(5, lambda: not alive(child))
        other.send("ctrl+q")
        assert other.wait_exit() == 0, other.text
        assert other.restored(), other.left_behind()


def test_when_its_engine_is_killed_another_is_started(config: Path) -> None:
    """The screen goes on, and has an engine again."""
    with start(config) as terminal:
        terminal.wait_for(HERE)
        child = engine(config)
        os.kill(child, signal.SIGKILL)
        within(15, lambda: lock_of(config).holder_pid() not in (child, None))
        terminal.wait_for(HERE)


async def test_in_a_browser_it_is_the_same(config: Path) -> None:
    """The page's socket gets the console, with its engine, which ends with it."""
    async with serving(config.parent, console(config)) as web, aiohttp.ClientSession(web.base) as visitor:
        async with visitor.ws_connect(f"/ws?key={web.key}&width=120&height=30") as terminal:
            await seen(terminal, b"AOG console")
            await seen(terminal, HERE.encode())
            child = engine(config)
        await until(lambda: not alive(child), "the engine is left behind")
