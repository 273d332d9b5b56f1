"""The harness itself: it sees what a terminal sees, and a program that spoils its terminal is caught."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.support.terminal import Terminal, TmuxTerminal

POLITE = r"""
import sys, termios, tty
before = termios.tcgetattr(0)
tty.setraw(0)
sys.stdout.write("\x1b[?1049h\x1b[?1003;1006h\x1b[?25l\x1b[>1uhello")
sys.stdout.flush()
key = sys.stdin.buffer.raw.read(3)
sys.stdout.write("\x1b[<u\x1b[?1049l\x1b[?1003;1006l\x1b[?25h")
termios.tcsetattr(0, termios.TCSANOW, before)
print("got", key)
"""


def python(program: str, **options: int) -> Terminal:
    """A Python program in a terminal."""
    return Terminal([sys.executable, "-c", program], **options)  # type: ignore[arg-type]


def test_keys_go_in_and_the_screen_comes_out() -> None:
    """Named keys are sent as bytes; the alternate screen is another, and what was before comes back."""
    with python("print('before')\n" + POLITE) as terminal:
        terminal.wait_for("hello")
        assert "before" not in terminal.text
        assert "alternate screen" in terminal.left_behind()
        terminal.send("up")
        terminal.wait_for("got b'\\x1b[A'")
        assert terminal.wait_exit() == 0
        assert "before" in terminal.text
        assert "hello" not in terminal.text
        assert terminal.restored(), terminal.left_behind()
        assert b"\x1b[?1049h" in terminal.raw


@pytest.mark.parametrize(("line", "told"), [
    ("\\x1b[?1049l", "alternate screen"), ("\\x1b[?1003;1006l", "mouse"), ("\\x1b[?25h", "no cursor"),
    ("\\x1b[<u", "keyboard protocol"), ("termios.tcsetattr(0, termios.TCSANOW, before)", "line discipline"),
])  # fmt: skip
def test_a_program_that_spoils_its_terminal_is_caught(line: str, told: str) -> None:
    """Each thing that a broken program forgets is named."""
    assert line in POLITE
    with python(POLITE.replace(line, "")) as terminal:
        terminal.wait_for("hello")
        terminal.send("abc")
        terminal.wait_exit()
        assert terminal.left_behind() == [told]


def test_a_program_that_writes_much_never_waits() -> None:
    """Far more than a pty holds is taken while the test does not look."""
    with python("import sys; sys.stdout.write('x' * 3_000_000); print('end')") as terminal:
        assert terminal.wait_exit() == 0
        assert len(terminal.raw) > 3_000_000


def test_what_does_not_come_is_told_with_the_screen() -> None:
    """A wait that fails says what was there instead, at once when the program has ended."""
    with python("print('something else')") as terminal, pytest.raises(TimeoutError, match="something else"):
        terminal.wait_for("never")


def test_sizes_signals_and_hang_ups_arrive() -> None:
    """A resize is SIGWINCH and the new size; SIGTERM ends; a terminal taken away is SIGHUP."""
    program = (
        "import os, signal\nsignal.signal(28, lambda *_: print(os.get_terminal_size(), flush=True))\n"
        "print('ready', flush=True)\nwhile True: signal.pause()"
    )
    with python(program) as terminal:
        terminal.wait_for("ready")
        terminal.resize(50, 132)
        terminal.wait_for("columns=132, lines=50")
        terminal.signal(signal.SIGTERM)
        assert terminal.wait_exit() == -signal.SIGTERM
    with python(program) as terminal:
        terminal.wait_for("ready")
        terminal.hang_up()
        assert terminal.wait_exit() == -signal.SIGHUP


def test_tmux_in_between() -> None:
    """The same program inside tmux: its pane and its buffers can be asked for."""
    with TmuxTerminal([sys.executable, "-c", POLITE.replace("got", "done")]) as terminal:
        terminal.wait_for("hello")
        assert "hello" in terminal.pane()
        terminal.tmux("set-buffer", "kept")
        assert terminal.buffer() == "kept"
