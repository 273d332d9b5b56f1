"""A small app that opens dialogs, and what is then on its screen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from textual import events
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Static

from aogconsole.text import clean_lines
from widgets.dialogs import CopyRequest
from widgets.palette import Command, Commands

HOSTILE = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\u202ecod.exe\x9b31m[@click=app.quit]press[/][/b] $(id) \ud800\r\nsecond\x00"
"""What a mail may hold: escape codes, a right-to-left mark, markup that acts, markup that breaks, half a character."""


class Host(App[None]):
    """Keeps what dialogs answer and want copied."""

    COMMANDS = {Commands}  # noqa: RUF012 - as Textual declares it

    def __init__(self, commands: Iterable[Command] = ()) -> None:
        super().__init__()
        self.answers: list[Any] = []
        self.copies: list[CopyRequest] = []
        self._commands = list(commands)

    def compose(self) -> ComposeResult:
        """The console below."""
        yield Static("the console")

    def commands_for_palette(self, _: Screen[Any]) -> Iterable[Command]:
        """The palette's lines."""
        return self._commands

    def on_copy_request(self, event: CopyRequest) -> None:
        """Keep it."""
        self.copies.append(event)

    @property
    def rows(self) -> list[str]:
        """What the screen on top paints."""
        painted = self.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip) for strip in painted]

    @property
    def shown(self) -> str:
        """The same as one text."""
        return "\n".join(self.rows)

    async def paste(self, pilot: Pilot[None], text: str) -> None:
        """What a terminal does with the clipboard: line ends come as carriage returns."""
        self.post_message(events.Paste(text.replace("\n", "\r")))
        await pilot.pause()
        await pilot.pause()


@asynccontextmanager
async def opened(
    dialog: Screen[Any] | None, size: tuple[int, int] = (80, 24), commands: Iterable[Command] = ()
) -> AsyncIterator[tuple[Host, Pilot[None]]]:
    """The host with a dialog on top, laid out."""
    host = Host(commands)
    async with host.run_test(size=size) as pilot:
        if dialog is not None:
            host.push_screen(dialog, host.answers.append)
        await pilot.pause()
        await pilot.pause()
        yield host, pilot


def unsafe(rows: Iterable[str]) -> list[str]:
    """The rows that would act on a terminal."""
    return [row for row in rows if clean_lines(row) != row or "\t" in row or "\n" in row]
