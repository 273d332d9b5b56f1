"""The life cycle, part by part, in a real terminal: one that goes away or hangs, a pager, crashes."""

from __future__ import annotations

import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.terminal import Terminal
from tests.terminal.test_engine_child import alive, lock_of

APP = [sys.executable, "-P", str(Path(__file__).with_name("small_console.py"))]
CRASHED = 70


def start(folder: Path, *argv: str | Path, **env: str) -> Terminal:
    """The small console in a terminal."""
    state = {"XDG_STATE_HOME": str(folder), "AOG_TEST_ENDED": str(folder / "ended")}
    return Terminal([*APP, *argv], env={**state, **env}, rows=24, cols=100)


def ended_well(folder: Path) -> bool:
    """Whether it took its leave."""
    return (folder / "ended").exists()


def engine_of(text: str) -> int:
    """The process id of the engine, from the screen."""
    found = re.search(r"engine running (\d+)", text)
    assert found, text
    return int(found[1])


def within(seconds: float, true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_byte_that_is_no_utf_8_does_no_harm(tmp_path: Path) -> None:
    """As a key, and in a paste of Latin-1 text: the keys after it are obeyed."""
    with start(tmp_path) as terminal:
        terminal.wait_for("READY")
        terminal.send(b"\xe9", b"\x1b[200~caf\xe9\x1b[201~", "q")
        assert terminal.wait_exit(10) == 0
    assert ended_well(tmp_path)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "painting"])
def test_a_terminal_that_goes_away_ends_it(config: Path, busy: bool) -> None:
    """As when an SSH connection breaks, also while it paints: good order, at once, no crash file."""
    with start(config.parent, config) as terminal:
        child = engine_of(terminal.wait_for("engine running"))
        if busy:
            terminal.send("b")
            terminal.wait_gone("READY")
        terminal.hang_up()
        assert terminal.wait_exit(10) == 128 + signal.SIGHUP
    assert ended_well(config.parent)
    assert not alive(child)
    assert not list(config.parent.glob("aogconsole/crash-*"))


def test_a_terminal_that_goes_away_without_a_signal_ends_it_too(tmp_path: Path) -> None:
    """Behind a shell that keeps the signal to itself the console sees that nobody is there."""
    shell = f"trap '' HUP; {shlex.join(APP)}; echo $? > {tmp_path}/status"
    env = {"XDG_STATE_HOME": str(tmp_path), "AOG_TEST_ENDED": str(tmp_path / "ended")}
    with Terminal(["bash", "--norc", "-c", shell], env=env) as terminal:
        terminal.wait_for("READY")
        terminal.hang_up()
        terminal.wait_exit(10)
    assert ended_well(tmp_path)
    assert (tmp_path / "status").read_text() == f"{128 + signal.SIGHUP}\n"


def test_a_signal_ends_it_also_behind_a_link_that_hangs(config: Path) -> None:
    """Nothing it paints is taken, so it cannot take its leave: it ends hard, and its engine in good order."""
    with start(config.parent, config, AOG_TEST_LONGEST_END="1") as terminal:
        terminal.wait_for("engine running")
        terminal.freeze()
        terminal.send("f")
        within(10, config.with_name("flooding").exists)
        terminal.signal(signal.SIGTERM)
        assert terminal.wait_exit() == -signal.SIGALRM
    within(5, lambda: lock_of(config).holder() == "")


def test_ctrl_z_is_refused_where_nobody_could_bring_it_back(tmp_path: Path) -> None:
    """Started by no shell (`ssh -t HOST aogconsole`, tmux) or by a script: it says so, and goes on."""
    with start(tmp_path) as terminal:
        terminal.wait_for("READY")
        terminal.send("z")
        terminal.wait_for("No shell is waiting here")
    with Terminal(["sh", "-c", f"{shlex.join(APP)}; echo done"], env={"XDG_STATE_HOME": str(tmp_path)}) as terminal:
        terminal.wait_for("READY")
        terminal.send("z")
        terminal.wait_for("No shell is waiting here")
        terminal.send("q")
        terminal.wait_for("done")


def test_a_pager_runs_in_its_place_and_the_engine_goes_on(config: Path) -> None:
    """The pager has the terminal and Ctrl+C; the engine keeps the lock; then the screen comes back."""
    program = config.with_name("pager.py")
    program.write_text(
        "import signal\nprint('PAGER', signal.getsignal(2) is signal.default_int_handler, flush=True)\n"
        "input()\nsignal.pthread_sigmask(signal.SIG_BLOCK, {2})\nprint('WAITING', flush=True)\n"
        "signal.sigwait({2})\nraise SystemExit(3)\n"
    )
    with start(config.parent, config, PAGER=f"{sys.executable} {program}") as terminal:
        child = engine_of(terminal.wait_for("engine running"))
        terminal.send("p")
        terminal.wait_for("PAGER True")
        assert terminal.restored(), terminal.left_behind()
        terminal.send("hello", "enter")
        terminal.wait_for("WAITING")
        assert lock_of(config).holder_pid() == child
        terminal.send("ctrl+c")
        text = terminal.wait_for(lambda screen: "it ended with 3" in screen and "engine running" in screen)
        assert engine_of(text) == child
        terminal.signal(signal.SIGINT)
        assert terminal.wait_exit() == 128 + signal.SIGINT


def test_a_signal_while_a_pager_runs_counts_afterwards(tmp_path: Path) -> None:
    """SIGTERM waits for the pager, and is not lost."""
    with start(tmp_path, PAGER="cat") as terminal:
        terminal.wait_for("READY")
        terminal.send("p")
        terminal.wait_for_bytes(b"\x1b[?1049l")
        terminal.signal(signal.SIGTERM)
        terminal.send("typed", "enter")
        terminal.wait_for(lambda screen: screen.count("typed") == 2)
        terminal.send("ctrl+d")
        assert terminal.wait_exit() == 128 + signal.SIGTERM
        assert terminal.restored(), terminal.left_behind()


@pytest.mark.parametrize("key", ["x", "w", "t"], ids=["action", "worker", "thread"])
def test_a_crash_leaves_a_few_lines_and_a_file(tmp_path: Path, key: str) -> None:
    """No value of a variable, no password, no escape on the screen or in the file, which is the operator's alone."""
    with start(tmp_path) as terminal:
        terminal.wait_for("READY")
        terminal.send(key)
        assert terminal.wait_exit() == CRASHED
        assert terminal.restored(), terminal.left_behind()
        screen = terminal.text
        assert b"]52;c" not in terminal.raw
    (file,) = tmp_path.glob("aogconsole/crash-*.txt")
    lines = [line for line in screen.splitlines() if line]
    assert lines[0] == f"aogconsole has stopped: RuntimeError in small_console.py, line {failing_line()}"
    assert file.name in screen.replace("\n", "")
    assert "Runs on the staging host go on." in screen
    assert len(lines) <= 5
    text = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    for told in ("Traceback", "RuntimeError: at \\x1b]52;", "textual 8.2.8", "Python 3.", f"crash('{key}')", "100x24"):
        assert told in text
    for secret in ("secret-of-a-variable", "hunter2", "\x1b"):
        assert secret not in text + screen
    assert ended_well(tmp_path)


def test_a_crash_at_the_end_leaves_them_too(tmp_path: Path) -> None:
    """Something goes wrong while it takes its leave."""
    with start(tmp_path, AOG_TEST_FAIL="secret") as terminal:
        terminal.wait_for("READY")
        terminal.send("q")
        assert terminal.wait_exit() == CRASHED
        assert terminal.restored(), terminal.left_behind()
        assert "aogconsole has stopped: RuntimeError in small_console.py, line" in terminal.text
        assert "Traceback" not in terminal.text
        assert "secret" not in terminal.text
    assert len(list(tmp_path.glob("aogconsole/crash-*.txt"))) == 1


def failing_line() -> int:
    """Where the small console fails."""
    lines = Path(APP[-1]).read_text().splitlines()
    return 1 + next(number for number, line in enumerate(lines) if "raise RuntimeError(f" in line)


def test_a_stray_task_is_told_and_written_down(tmp_path: Path) -> None:
    """An error that nobody waits for does not end the console, and does not go unseen."""
    with start(tmp_path) as terminal:
        terminal.wait_for("READY")
        terminal.send("k")
        terminal.wait_for("Something went wrong: RuntimeError")
        terminal.send("q")
        assert terminal.wait_exit() == 0
    (file,) = tmp_path.glob("aogconsole/crash-*.txt")
    assert "Traceback" in file.read_text()


def test_a_crash_file_finds_another_folder_when_the_usual_one_is_closed(tmp_path: Path) -> None:
    """No state folder can be made: the file goes to one for temporary files, and the operator is told where."""
    (tmp_path / "aogconsole").touch()
    with start(tmp_path, TMPDIR=str(tmp_path)) as terminal:
        terminal.wait_for("READY")
        terminal.send("x")
        assert terminal.wait_exit() == CRASHED
        (file,) = tmp_path.glob("aogconsole.*/crash-*.txt")
        assert str(file) in terminal.text.replace("\n", "")


@pytest.mark.parametrize("seen", [b"?1049h", b"?2004h", b"Requests"])
def test_a_signal_while_the_console_starts(config: Path, seen: bytes) -> None:
    """At the alternate screen, before anything is composed, at the first frame: good order, and no crash file."""
    argv = [sys.executable, "-P", "-m", "aogconsole", "--config", str(config)]
    with Terminal(argv, env={"XDG_STATE_HOME": str(config.parent)}) as terminal:
        terminal.wait_for_bytes(seen)
        terminal.signal(signal.SIGTERM)
        assert terminal.wait_exit(10) == 128 + signal.SIGTERM
        assert terminal.restored(), terminal.left_behind()
    assert not list(config.parent.glob("aogconsole/crash-*"))


RACE = """
import fcntl, signal, struct, sys, termios
sys.path.insert(0, {folder!r})
from small_console import SmallConsole
from textual.widgets import Static
from aogconsole.jobcontrol import TerminalDriver

class Told(SmallConsole):
    sizes = []

    def on_mount(self):
        self.set_interval(0.02, lambda: self.query_one("#line", Static).update(" ".join(self.sizes)))

    def on_resize(self, event):
        self.sizes.append(f"{{event.size.width}}x{{event.size.height}}")

read = TerminalDriver._get_terminal_size

def interrupted(self):
    size = read(self)
    if size == (39, 11):
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        signal.raise_signal(signal.SIGWINCH)
    return size

TerminalDriver._get_terminal_size = interrupted
Told().run()
"""
"""A console that is about to tell a size when the next one comes."""


def test_a_size_that_is_told_too_late_does_not_stay(tmp_path: Path) -> None:
    """The older of two sizes is told last: the console looks again, and has that of its terminal."""
    program = tmp_path / "race.py"
    program.write_text(RACE.format(folder=str(Path(APP[-1]).parent)))
    with Terminal([sys.executable, "-P", program], env={"XDG_STATE_HOME": str(tmp_path)}) as terminal:
        terminal.wait_for("80x24")
        terminal.resize(11, 39)
        terminal.wait_for("80x24 39x11 80x24")
        terminal.send("q")
        assert terminal.wait_exit() == 0
