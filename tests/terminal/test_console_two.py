"""Two consoles on one journal, an engine that changes hands, and a console that may only look."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from aogconsole.engine.lock import EngineLock
from tests.support.consoles import PROGRAM, SOON, Console, Day, counts, day, look
from tests.support.terminal import Terminal
from tests.terminal.test_engine_child import alive

ENTITLED = "select id from request where ticket = '20001' and state = 'entitled'"
TAKEOVER = 5.0
"""Seconds until another engine goes on."""


def within(seconds: float, console: Terminal, true: Callable[[str], object]) -> float:
    """Wait for the screen; how long it took. Raises TimeoutError."""
    begin = time.monotonic()
    console.wait_for(true, seconds)
    return time.monotonic() - begin


def all_read(site: Day, console: Console) -> None:
    """Wait until every mail is read and checked, and is on the screen."""
    waiting = "select 1 from request where state in ('received', 'checking')"
    console.until(lambda: len(site.all("select 1 from mail")) == 20 and not site.all(waiting), "mails")
    console.wait_for(lambda text: counts(text) == (18, 18))


def test_two_consoles_on_one_journal(tmp_path: Path) -> None:
    """What one does the other sees within a second; staged in both, there is one run, and it is said who was first."""
    with day(tmp_path, speed=20) as site, site.console() as one, site.console(cols=160, rows=40) as two:
        all_read(site, one)
        all_read(site, two)
        assert sum("engine here" in console.text for console in (one, two)) == 1
        one.choose("20001")
        two.choose("20001")
        request = site.all(ENTITLED)[0]["id"]
        two.signal(signal.SIGSTOP)  # what it shows is out of date now
        one.send("s")
        one.wait_for(f"Request {request} is queued")
        two.send("s")
        two.signal(signal.SIGCONT)
        two.wait_for(lambda text: "! " in two.said and f"{request}" in two.said)
        assert re.search(r"@\S+|is queued|is staging|acted first", two.said), two.said
        one.choose("15270")
        two.choose("20005")
        one.send("s")
        one.wait_for(lambda text: counts(text) == (18, 16))
        within(SOON, two, lambda text: counts(text) == (18, 16))
        two.until(lambda: len(site.all("select 1 from run")) == 2, "runs")
        assert len(site.all("select 1 from run where request = ?", request)) == 1
        staged = site.all("select who from history where verb = 'stage' and entity = ?", request)
        assert len(staged) == 1


def test_the_other_goes_on_when_one_is_killed(tmp_path: Path) -> None:
    """`kill -9` of the console with the engine: the other's engine takes over within five seconds, and says so."""
    with day(tmp_path, speed=20) as site, site.console() as one:
        all_read(site, one)
        one.wait_for("engine here")
        with site.console() as two:
            two.ready()
            assert "engine here" not in two.text
            lock = EngineLock(site.journal)
            engine = lock.holder_pid()
            assert engine is not None
            os.kill(one.pid, signal.SIGKILL)
            within(TAKEOVER + SOON, two, lambda text: "engine here" in text)
            assert not alive(engine)
            two.choose("20001")
            two.send("enter")
            two.until(lambda: site.all("select 1 from run where state = 'running'"), "a run")


def test_an_engine_beside_a_console(tmp_path: Path) -> None:
    """`serve` holds the engine: the console stands by and names it, and takes over when it ends."""
    with day(tmp_path, speed=20) as site:
        serve = subprocess.Popen(
            [*PROGRAM, "--config", str(site.site.config), "serve"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            end = time.monotonic() + 20
            while EngineLock(site.journal).holder_pid() != serve.pid:
                assert time.monotonic() < end
                time.sleep(0.02)
            with site.console(cols=160, rows=40) as console:
                console.wait_for(f"engine {serve.pid}")
                serve.send_signal(signal.SIGTERM)
                assert serve.wait(20) == 0
                within(TAKEOVER + SOON, console, lambda text: "engine here" in text)
        finally:
            serve.kill()
            serve.wait()


def test_ctrl_z_lets_the_other_take_over(tmp_path: Path) -> None:
    """Suspended under a shell: the other console has the engine; `fg` comes back beside it, and does no harm."""
    with day(tmp_path, speed=20) as site:
        home = tmp_path / "shell"
        home.mkdir()
        env = {"PS1": "shell> ", "HOME": str(home), "XDG_STATE_HOME": str(home)}
        with Terminal(["bash", "--norc", "-i"], env=env) as shell, site.console() as other:
            shell.wait_for("shell>")
            other.wait_for("engine here")
            shell.send(shlex.join([*map(str, PROGRAM), "--config", str(site.site.config)]), "enter")
            shell.wait_for("Requests")
            shell.wait_for("engine ")
            other.send("q")
            assert other.wait_exit() == 0
            shell.wait_for("engine here")
            with site.console() as third:
                third.ready()
                shell.send("ctrl+z")
                shell.wait_for("Stopped")
                within(TAKEOVER + SOON, third, lambda text: "engine here" in text)
                third.choose("20001")
                third.send("enter")
                third.until(lambda: site.all("select 1 from run"), "a run")
                shell.send("fg", "enter")
                shell.wait_for(lambda text: counts(text)[0] == 18 and counts(text)[1] < 18)
                assert "engine here" in third.text
                assert "engine here" not in shell.text
                shell.send("q")
                shell.wait_for(lambda text: text.rstrip().endswith("shell>"))
        assert len(site.all("select 1 from run")) == 1


ACTING = ["s", "x", "a", "e", "h", "u", "r", "d", "o", "t", "c", "K", "J", "T", "P", "i", "enter"]


def content(folder: Path) -> dict[str, bytes]:
    """Every file of the journal that holds something."""
    files = [file for file in folder.iterdir() if file.is_file() and not file.name.endswith("-shm")]
    return {file.name: file.read_bytes() for file in files if file.stat().st_size}


def test_read_only_changes_no_byte(tmp_path: Path) -> None:
    """Every key that acts says why it does not; no engine, no clerk's thread, and the journal is what it was."""
    with day(tmp_path, speed=20) as site:
        with site.console() as console:
            all_read(site, console)
            console.press("q")
            assert console.wait_exit() == 0
        folder = site.journal.parent
        before = content(folder)
        with site.console("--read-only", cols=160, rows=40) as console:
            console.wait_for(lambda text: counts(text) == (18, 18))
            console.wait_for("no engine")
            for key in ACTING:
                console.send("l")
                console.wait_for("has not been staged")
                console.send(key)
                console.wait_for("! This console is read-only")
            children = Path(f"/proc/{console.pid}/task/{console.pid}/children").read_text()
            threads = {Path(task, "comm").read_text().strip() for task in Path(f"/proc/{console.pid}/task").iterdir()}
            assert children.split() == []
            assert not any("clerk" in name or "engine" in name for name in threads), threads
            console.press("D")
            console.back()
            console.press("q")
            assert console.wait_exit() == 0
        assert content(folder) == before
        assert not look(site.journal, "select 1 from history where who like '%console%'")
