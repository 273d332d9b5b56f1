"""A copy reaches the person's terminal through whatever is in between: the bytes of real tmux, screen and ptys."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aogconsole.errors import OutsideError
from backends import clipboard
from backends.clipboard import Clipboard
from tests.support.terminal import Terminal, TmuxTerminal

TEXT = "uid___A001_X1590_X30aa\nsecond line, Pí\n"
PROGRAM = """
import asyncio, dataclasses, json, sys
from pathlib import Path
from backends.clipboard import Clipboard

def write(text):
    sys.stdout.write(text)
    sys.stdout.flush()

setting, folder, result = sys.argv[1:4]
text = Path(folder, "text").read_bytes().decode()
copied = asyncio.run(Clipboard(setting, write, Path(folder)).copy(text))
Path(result).write_text(json.dumps(dataclasses.asdict(copied)))
print("DONE", flush=True)
sys.stdin.read(1)
"""
OSC52 = re.compile(rb"\x1b\]52;c?;([A-Za-z0-9+/=]+)(?:\x07|\x1b\\)")


def program(folder: Path, text: str = TEXT, setting: str = "auto") -> list[str]:
    """The words that copy a text and stay."""
    (folder / "text").write_bytes(text.encode())
    return [sys.executable, "-P", "-c", PROGRAM, setting, str(folder), str(folder / "result")]


def result(folder: Path) -> Any:
    """What the copy said."""
    return json.loads((folder / "result").read_text())


def taken(terminal: Terminal) -> list[str]:
    """What the outer terminal was given for its clipboard."""
    return [base64.b64decode(found).decode() for found in OSC52.findall(terminal.raw)]


@pytest.fixture
def screens(tmp_path: Path) -> Iterator[dict[str, str]]:
    """GNU screen's folder of sockets, private; its path must be short."""
    with tempfile.TemporaryDirectory(prefix="scr.") as folder:
        Path(folder).chmod(0o700)
        yield {"SCREENDIR": folder, "SCREENRC": os.devnull, "SYSSCREENRC": os.devnull}


def test_over_ssh_the_terminal_gets_it(tmp_path: Path) -> None:
    """OSC 52, whatever display is forwarded."""
    env = {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22", "DISPLAY": "localhost:10.0"}
    with Terminal(program(tmp_path), env=env) as terminal:
        terminal.wait_for("DONE")
        assert taken(terminal) == [TEXT]
    assert result(tmp_path) == {"how": "osc52", "lines": 2, "where": "your terminal's clipboard, if it takes OSC 52"}


@pytest.mark.parametrize("option", ["external", "on"])
def test_in_tmux_its_buffer_and_the_terminal_get_it(tmp_path: Path, option: str) -> None:
    """With tmux's default for the clipboard and with the more open one."""
    with TmuxTerminal(program(tmp_path), options=f"set -s set-clipboard {option}") as terminal:
        terminal.wait_for("DONE")
        terminal.wait_for(lambda _: taken(terminal))
        assert (terminal.buffer(), taken(terminal)) == (TEXT, [TEXT])
    assert result(tmp_path)["how"] == "tmux"


def test_a_plain_sequence_is_lost_in_tmux(tmp_path: Path) -> None:
    """The way that this ladder is for: what is caught here when it is not taken."""
    with TmuxTerminal(program(tmp_path, setting="osc52"), options="set -s set-clipboard external") as terminal:
        terminal.wait_for("DONE")
        assert (terminal.buffer(), taken(terminal)) == ("", [])


@pytest.mark.parametrize("text", [TEXT, "0123456789abcdef" * 4600], ids=["short", "longest"])
def test_in_screen_the_terminal_gets_it(tmp_path: Path, screens: dict[str, str], text: str) -> None:
    """Through GNU screen in pieces, up to the longest that goes to a terminal."""
    assert len(text) < clipboard.MOST_BYTES
    with Terminal(["screen", "-c", os.devnull, *program(tmp_path, text)], env=screens) as terminal:
        terminal.wait_for("DONE")
        assert taken(terminal) == [text]
        terminal.send("x", "enter")
        terminal.wait_exit()
    assert result(tmp_path)["how"] == "screen"


@pytest.mark.parametrize("env", [{}, {"TMUX": "/nowhere,1,0"}, {"STY": "1.x"}], ids=["plain", "tmux", "screen"])
def test_what_is_too_long_for_a_terminal_goes_into_a_file(tmp_path: Path, env: dict[str, str]) -> None:
    """The file is the person's alone, is named, and the next one replaces it; the terminal gets nothing."""
    written: list[str] = []
    board = Clipboard("auto", written.append, tmp_path, env)
    for number in range(2):
        text = f"{number} Pí\n" * 20_000
        copied = asyncio.run(board.copy(text))
        assert (copied.how, copied.lines, written) == ("file", 20_000, [])
        assert str(tmp_path / "copied.txt") in copied.where
        assert (tmp_path / "copied.txt").read_text() == text
        assert (tmp_path / "copied.txt").stat().st_mode & 0o777 == 0o600
    with pytest.raises(OutsideError, match=r"copied\.txt: No such file"):
        asyncio.run(Clipboard("auto", written.append, tmp_path / "gone", env).copy("x" * 80_000))


def test_nothing_copied_can_act_on_a_terminal(tmp_path: Path) -> None:
    """Pasted into a shell, an escape or a carriage return would act: they are visible text in the copy too."""
    hostile = "a\x1b]52;c;eA==\x07\rb\u202e\x9b2J\n\tc"
    with Terminal(program(tmp_path, hostile)) as terminal:
        terminal.wait_for("DONE")
        assert taken(terminal) == ["a\\x1b]52;c;eA==\\x07\\x0db\\u202e\\x9b2J\n\tc"]


@pytest.mark.parametrize(("env", "how"), [
    ({}, "osc52"), ({"DISPLAY": ":0"}, "desktop"), ({"WAYLAND_DISPLAY": "wayland-0"}, "desktop"),
    ({"DISPLAY": ":0", "SSH_CONNECTION": "a"}, "osc52"), ({"TMUX": "x", "STY": "y", "DISPLAY": ":0"}, "tmux"),
    ({"STY": "y", "SSH_CONNECTION": "a"}, "screen"),
    ({"TMUX": "x", "DISPLAY": ":0", "TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver"}, "osc52"),
])  # fmt: skip
def test_which_way_is_taken(tmp_path: Path, env: dict[str, str], how: str) -> None:
    """The innermost thing that stands between us and the person decides; in a browser that is the browser."""
    assert Clipboard("auto", lambda _: None, tmp_path, env)._way() == how


def test_on_a_desktop_its_program_gets_it(tmp_path: Path) -> None:
    """pyperclip hands it to xclip, even when it is far longer than a terminal takes."""
    xclip = tmp_path / "xclip"
    xclip.write_text(f"#!/bin/sh\nexec cat > {tmp_path}/got\n")
    xclip.chmod(0o755)
    env = {"DISPLAY": ":9", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    text = "x" * 100_000
    with Terminal(program(tmp_path, text), env=env) as terminal:
        terminal.wait_for("DONE")
        assert taken(terminal) == []
    assert (tmp_path / "got").read_text() == text
    assert result(tmp_path) == {"how": "desktop", "lines": 1, "where": "the desktop's clipboard"}


async def test_what_does_not_work_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Switched off, no desktop, a tmux that hangs or refuses: an error with what to do, in bounded time."""
    written: list[str] = []

    async def copy(setting: clipboard.Setting) -> None:
        await Clipboard(setting, written.append, tmp_path, {}).copy("x")

    with pytest.raises(OutsideError, match="switched off"):
        await copy("off")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OutsideError, match="tmux did not take"):
        await copy("tmux")
    monkeypatch.setattr(clipboard, "PATIENCE", 0.2)
    for body in ("exec /bin/sleep 60", "exit 1"):
        (tmp_path / "tmux").write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "tmux").chmod(0o755)
        with pytest.raises(OutsideError, match="tmux did not take"):
            await copy("tmux")
    assert written == []


def test_without_a_desktop_it_says_what_to_install(tmp_path: Path) -> None:
    """A display, but no program that reaches it."""
    env = {"DISPLAY": ":9", "PATH": str(tmp_path)}
    with Terminal(program(tmp_path, setting="desktop"), env=env) as terminal:
        terminal.wait_exit()
        assert "the desktop's clipboard was not reached: no program here does it" in terminal.text.replace("\n", "")
