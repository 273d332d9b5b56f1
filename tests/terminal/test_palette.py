"""The command palette: every verb is found; what is not possible says why."""

from __future__ import annotations

from textual.pilot import Pilot

from tests.terminal.dialog_host import HOSTILE, Host, opened, unsafe
from widgets.palette import Command


def commands(done: list[str]) -> list[Command]:
    """Three of them, one not possible now, one hostile."""
    return [
        Command("Refuse request 4", "approve its letter", "x", lambda: done.append("refuse"), "it is [entitled]"),
        Command("Stage request 4", "into the queue", "s", lambda: done.append("stage")),
        Command(HOSTILE, HOSTILE, HOSTILE, lambda: done.append("hostile"), HOSTILE),
    ]


async def _open(host: Host, pilot: Pilot[None], words: str) -> None:
    host.action_command_palette()
    await pilot.pause()
    await pilot.press(*words)
    await host.workers.wait_for_complete()
    await pilot.pause()


async def test_a_command_is_found_and_run() -> None:
    """With its key beside it."""
    done: list[str] = []
    async with opened(None, commands=commands(done)) as (host, pilot):
        await _open(host, pilot, "stage")
        await pilot.press("down", "enter")
        await pilot.pause()
        assert done == ["stage"]


async def test_what_is_not_possible_is_shown_with_its_reason_and_does_nothing() -> None:
    """The reason stands below it, and comes as a notice when it is chosen."""
    done: list[str] = []
    async with opened(None, commands=commands(done)) as (host, pilot):
        await _open(host, pilot, "refuse")
        assert "not now: it is [entitled]" in host.shown
        await pilot.press("down", "enter")
        await pilot.pause()
        assert done == []
        assert [notice.message for notice in host._notifications] == ["it is [entitled]"]


async def test_all_are_listed_before_anything_is_typed_and_none_acts_on_the_terminal() -> None:
    """What is possible comes first."""
    async with opened(None, (120, 40), commands([])) as (host, pilot):
        await _open(host, pilot, "")
        assert "Stage request 4  s" in host.shown
        assert "Refuse request 4  x" in host.shown
        assert host.shown.index("Stage request") < host.shown.index("Refuse request")
        assert r"\x1b]52" in host.shown
        assert not unsafe(host.rows)
