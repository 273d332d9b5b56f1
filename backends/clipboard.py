"""A text into the clipboard of the person at the terminal, by the way that reaches it from here.

In tmux its own command does it, in GNU screen the sequence goes through in pieces, over SSH the terminal takes OSC 52,
on a desktop pyperclip. What is too long for a terminal goes into a file. Each way says where the text went: a terminal
does not tell whether it has taken it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aogconsole.errors import OutsideError
from aogconsole.text import clean_lines

Setting = Literal["auto", "osc52", "tmux", "desktop", "off"]
How = Literal["osc52", "screen", "tmux", "desktop", "file"]
MOST_BYTES = 75_000
"""Of a text for a terminal: xterm takes 100,000 bytes of base64."""
PIECE = 240
"""Bytes of a sequence that GNU screen passes on at once; it takes 256."""
PATIENCE = 5.0
"""Seconds for a helping program."""


@dataclass(frozen=True)
class Copied:
    """What became of a text."""

    how: How
    lines: int
    where: str
    """In words: `3 lines copied to ...`."""


class Clipboard:
    """The way out of this process's terminal."""

    def __init__(
        self,
        setting: Setting,
        write: Callable[[str], None],
        folder: Path,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`write`: to the terminal, as it is; `folder`: for what is too long for one."""
        self._setting, self._write, self._folder, self._environ = setting, write, folder, environ

    async def copy(self, text: str) -> Copied:
        """Copy a text, made safe. Raises OutsideError."""
        text = clean_lines(text)
        lines = len(text.splitlines())
        how = self._way()
        if how != "desktop" and len(text.encode()) > MOST_BYTES:
            how = "file"
        match how:
            case "desktop":
                where = await _desktop(text)
            case "tmux":
                where = await _tmux(text)
            case "file":
                where = self._file(text)
            case _:
                sequence = f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\x07"
                self._write(through_screen(sequence) if how == "screen" else sequence)
                where = "your terminal's clipboard, if it takes OSC 52"
        return Copied(how, lines, where)

    def _way(self) -> How:
        if self._setting == "off":
            raise OutsideError("the clipboard is switched off", "set console.clipboard to auto")
        if self._setting != "auto":
            return self._setting
        given = self._environ
        if given.get("TEXTUAL_DRIVER", "").endswith("WebDriver"):  # the browser is the terminal
            return "osc52"
        if given.get("TMUX"):
            return "tmux"
        if given.get("STY"):
            return "screen"
        desktop = given.get("DISPLAY") or given.get("WAYLAND_DISPLAY") or sys.platform == "darwin"
        return "desktop" if desktop and not given.get("SSH_CONNECTION") else "osc52"

    def _file(self, text: str) -> str:
        path = self._folder / "copied.txt"
        try:
            path.unlink(missing_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise OutsideError(f"{path}: {error.strerror or error}", "check the disk, owner and mode") from error
        return f"the file {path}: it is too long for a terminal's clipboard"


def through_screen(sequence: str) -> str:
    """A sequence wrapped so that GNU screen hands it to the terminal it is in: device control strings, in pieces."""
    pieces = (sequence[start : start + PIECE] for start in range(0, len(sequence), PIECE))
    return "".join(f"\x1bP{piece}\x1b\\" for piece in pieces)


async def _tmux(text: str) -> str:
    if await _fed(text, "tmux", "load-buffer", "-w", "-"):
        return "tmux's buffer, and your terminal's clipboard if it takes OSC 52"
    if await _fed(text, "tmux", "load-buffer", "-"):  # before tmux 3.2
        return "tmux's buffer"
    raise OutsideError("tmux did not take the text", "try console.clipboard = osc52")


async def _fed(text: str, *argv: str) -> bool:
    """Run a program with the text as its input; whether it ended well and in time."""
    nowhere = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.PIPE, stdout=nowhere, stderr=nowhere
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(PATIENCE):
            await process.communicate(text.encode())
    except TimeoutError:
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return process.returncode == 0


async def _desktop(text: str) -> str:
    import pyperclip

    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.to_thread(pyperclip.copy, text)
    except (pyperclip.PyperclipException, OSError, TimeoutError) as error:
        told = "it took too long" if isinstance(error, TimeoutError) else "no program here does it"
        hint = "install xclip or wl-clipboard, or set console.clipboard = osc52"
        raise OutsideError(f"the desktop's clipboard was not reached: {told}", hint) from error
    return "the desktop's clipboard"
