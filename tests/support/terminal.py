"""A real terminal for a program under test: a pty whose every byte is kept, its screen as pyte sees it.

A thread reads all the time, so that the program never waits for the test. Colours are in the bytes only: pyte takes
them letter by letter, and they are most of what a program writes. `TmuxTerminal` puts tmux in between.
"""

from __future__ import annotations

import copy
import fcntl
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyte

HOST = ("TMUX", "TMUX_PANE", "STY", "DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "SSH_TTY", "SSH_CLIENT",
        "NO_COLOR", "COLUMNS", "LINES", "PAGER", "EDITOR", "VISUAL", "TEXTUAL_DRIVER")  # fmt: skip
"""Variables of the terminal the tests run in: the program must not see them."""
OFF = {1000: "mouse", 1002: "mouse", 1003: "mouse", 1006: "mouse", 1015: "mouse", 1004: "focus reports",
       1047: "alternate screen", 1049: "alternate screen", 2004: "bracketed paste", 2026: "synchronized output",
       2048: "resize reports"}  # fmt: skip
"""Private modes that a program must leave switched off."""
ON = {7: "line wrap", 25: "cursor"}
"""Those that it must leave switched on."""
ALTERNATE = 1049
_MODES = re.compile(rb"\x1b\[\?([\d;]+)([hl])")
_COLOURS = re.compile(rb"\x1b\[[\d;:]*m")
_CUT_OFF = re.compile(rb"\x1b(?:\[[\d;:]*)?\Z")
"""Bytes that may be the beginning of a colour."""
_KEYBOARD = re.compile(rb"\x1b\[([<>])\d*u")
KEYS = {"enter": "\r", "escape": "\x1b", "tab": "\t", "up": "\x1b[A", "down": "\x1b[B", "right": "\x1b[C",
        "left": "\x1b[D", "home": "\x1b[H", "end": "\x1b[F", "pageup": "\x1b[5~", "pagedown": "\x1b[6~",
        "backspace": "\x7f", "delete": "\x1b[3~", "shift+tab": "\x1b[Z", "f1": "\x1bOP",
        **{f"ctrl+{chr(96 + code)}": chr(code) for code in range(1, 27)}}  # fmt: skip
"""Bytes of the keys that are no letter, by Textual's names."""


class Screen(pyte.Screen):
    """pyte's screen, with an alternate one: what was there before a full-screen program comes back after it."""

    def __init__(self, columns: int, lines: int) -> None:
        self._normal: tuple[Any, Any] | None = None
        super().__init__(columns, lines)

    def set_mode(self, *modes: int, **kwargs: Any) -> None:
        """Go to the alternate screen when told to."""
        if kwargs.get("private") and ALTERNATE in modes and self._normal is None:
            self._normal = copy.deepcopy(self.buffer), copy.copy(self.cursor)
            self.erase_in_display(2)
        super().set_mode(*modes, **kwargs)

    def reset_mode(self, *modes: int, **kwargs: Any) -> None:
        """Come back from it."""
        super().reset_mode(*modes, **kwargs)
        if kwargs.get("private") and ALTERNATE in modes and self._normal is not None:
            (self.buffer, self.cursor), self._normal = self._normal, None
            self.dirty.update(range(self.lines))


class Terminal:
    """A program in a terminal of its own. A context manager: at its end the program is killed."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        rows: int = 24,
        cols: int = 80,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """`env` is added to this process's environment; None takes a variable away."""
        self._master, slave = os.openpty()
        self._set_size(rows, cols)
        self._before = termios.tcgetattr(slave)
        self._raw, self._parsed = bytearray(), 0
        self._screen = Screen(cols, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._lines: dict[int, str] = {}
        self._shown = ""
        self._news = threading.Condition()
        self._over, self._wake = False, os.pipe()
        self._process = subprocess.Popen(
            [str(word) for word in argv], stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=environment(env),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )  # fmt: skip
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The program's process id, which is its process group's too."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the program runs."""
        return self._process.poll() is None

    @property
    def raw(self) -> bytes:
        """Every byte the program has written so far."""
        with self._news:
            return bytes(self._raw)

    @property
    def text(self) -> str:
        """The screen now: its lines, without trailing blanks."""
        with self._news:
            return self._text()

    def wait_for(self, what: str | Callable[[str], object], timeout: float = 20.0) -> str:
        """Wait until the screen shows a text (or a condition on it is true); the screen. Raises TimeoutError."""
        seen = (lambda screen: what in screen) if isinstance(what, str) else what
        return self._until(lambda: seen(self._text()), what, timeout)

    def wait_for_bytes(self, what: bytes, timeout: float = 20.0) -> str:
        """Wait until these bytes have been written."""
        return self._until(lambda: what in self._raw, what, timeout)

    def wait_gone(self, what: str, timeout: float = 20.0) -> str:
        """Wait until the screen no longer shows a text."""
        return self.wait_for(lambda screen: what not in screen, timeout)

    def send(self, *keys: str | bytes) -> None:
        """Type: a key by its name (`KEYS`), or text, or bytes as they are."""
        for key in keys:
            left = key if isinstance(key, bytes) else KEYS.get(key, key).encode()
            while left:
                left = left[os.write(self._master, left) :]

    def paste(self, text: str) -> None:
        """Paste, as a terminal with bracketed paste does."""
        self.send(b"\x1b[200~" + text.replace("\n", "\r").encode() + b"\x1b[201~")

    def resize(self, rows: int, cols: int) -> None:
        """Give the window another size."""
        with self._news:
            self._text()
            self._screen.resize(rows, cols)
        self._set_size(rows, cols)

    def signal(self, number: int) -> None:
        """Send a signal to the program."""
        self._process.send_signal(number)

    def freeze(self) -> None:
        """Take nothing from the program any more, as behind a link that hangs."""
        os.write(self._wake[1], b"x")
        self._reader.join()

    def hang_up(self) -> None:
        """Take the terminal away, as a broken SSH connection does."""
        self._stop_reading()

    def wait_exit(self, timeout: float = 20.0) -> int:
        """Wait until the program has ended and all of its output is here; its exit status, -N for signal N."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"it still runs after {timeout:g} s\n{self.text}") from None
        self._reader.join(5)
        return status

    def left_behind(self) -> list[str]:
        """What the terminal was not given back as it had been; best asked after `wait_exit`."""
        raw, modes = self.raw, dict.fromkeys(ON, True)
        for numbers, letter in _MODES.findall(raw):
            modes.update(dict.fromkeys(map(int, numbers.split(b";")), letter == b"h"))
        wrong = [name for mode, name in OFF.items() if modes.get(mode)]
        wrong += [f"no {name}" for mode, name in ON.items() if not modes[mode]]
        pushed = 0
        for sign in _KEYBOARD.findall(raw):
            pushed = pushed + 1 if sign == b">" else max(0, pushed - 1)
        wrong += ["keyboard protocol"] if pushed else []
        if self._master >= 0 and termios.tcgetattr(self._master) != self._before:
            wrong.append("line discipline")
        return sorted(set(wrong))

    def restored(self) -> bool:
        """Whether the terminal is as it was: normal screen, cursor, no mouse, cooked."""
        return not self.left_behind()

    def close(self) -> None:
        """Kill the program with all of its process group, and give the terminal back."""
        if self.alive:
            for number in (signal.SIGKILL, signal.SIGCONT):
                os.killpg(self.pid, number)
        self._process.wait()
        self._stop_reading()
        for descriptor in self._wake:
            os.close(descriptor)
        self._wake = (-1, -1)

    def _text(self) -> str:
        new, screen = bytes(self._raw[self._parsed :]), self._screen
        if cut := _CUT_OFF.search(new, max(len(new) - 99, 0)):
            new = new[: cut.start()]
        self._parsed += len(new)
        self._stream.feed(_COLOURS.sub(b"", new))
        if screen.dirty:
            for y in screen.dirty:
                line = screen.buffer[y]
                self._lines[y] = "".join([line[x].data for x in range(screen.columns)]).rstrip()
            screen.dirty.clear()
            self._shown = "\n".join([self._lines[y] for y in range(screen.lines)])
        return self._shown

    def _until(self, true: Callable[[], object], what: object, timeout: float) -> str:
        end = time.monotonic() + timeout
        with self._news:
            while not true():
                left = end - time.monotonic()
                if left <= 0 or self._over:
                    why = "the program has ended" if self._over else f"not in {timeout:g} s"
                    raise TimeoutError(f"{why}: {what!r}\n{self._text()}")
                self._news.wait(left)
            return self._text()

    def _read(self) -> None:
        master, wake = self._master, self._wake[0]
        while wake not in select.select([master, wake], [], [])[0]:
            try:
                data = os.read(master, 1 << 16)
            except OSError:  # the last one has closed the other side
                break
            with self._news:
                self._raw += data
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def _stop_reading(self) -> None:
        if self._master >= 0:
            os.write(self._wake[1], b"x")
            self._reader.join()
            os.close(self._master)
            self._master = -1

    def _set_size(self, rows: int, cols: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


class TmuxTerminal(Terminal):
    """A program in tmux in a terminal: a server of its own, on a private socket, without the user's settings."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        rows: int = 24,
        cols: int = 80,
        env: Mapping[str, str | None] | None = None,
        options: str = "",
    ) -> None:
        """`options`: lines of tmux's configuration."""
        self._folder = Path(tempfile.mkdtemp(prefix="tmux."))
        conf = self._folder / "conf"
        conf.write_text(f"set -g status off\n{options}\n")
        self._command = ["tmux", "-S", str(self._folder / "s"), "-f", str(conf)]
        super().__init__([*self._command, "new-session", *map(str, argv)], rows, cols, env)

    def tmux(self, *words: str) -> str:
        """Give a command to this tmux; what it prints."""
        command = [*self._command, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout

    def pane(self) -> str:
        """What tmux holds for the pane's content."""
        return self.tmux("capture-pane", "-p")

    def buffer(self) -> str:
        """tmux's newest paste buffer."""
        return self.tmux("show-buffer")

    def close(self) -> None:
        """End the server with everything in it."""
        self.tmux("kill-server")
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)


def environment(more: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """The environment of a program in a terminal of its own: xterm with all colours, a UTF-8 locale."""
    given = {**{name: value for name, value in os.environ.items() if name not in HOST},
             "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8", **(more or {})}  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}
