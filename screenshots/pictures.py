"""Takes the pictures: the real console with its engine works on the embedded site, and is driven by its keys.

`pictures.py FOLDER [NAME...]` writes SVG files; `develop.py` makes the PNG ones of them.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input

from aogconsole.app import Console
from aogconsole.board import Line
from aogconsole.cli.common import Session
from aogconsole.cli.demo import WELCOME
from aogconsole.demo.site import DemoSite

SPEED = 6.0
LONGEST = 90.0
"""Seconds that anything may take."""
MINUTES = 11
"""Between the mails that are there in the morning."""
GRAND, WIDE, SMALL = (200, 50), (120, 34), (80, 24)
FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
REMARK = re.compile(r"<!--.*?-->\s*", re.DOTALL)
NAME = re.compile(r"terminal-\d+")


def self_contained(svg: str, name: str) -> str:
    """A picture that fetches nothing from elsewhere, its ids not new each time."""
    svg = NAME.sub(name, REMARK.sub("", FONT.sub("", svg)))
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


class Studio:
    """The console under the hand of somebody who takes pictures."""

    def __init__(self, console: Console, pilot: Pilot[int], folder: Path, wanted: frozenset[str]) -> None:
        self.console, self.pilot = console, pilot
        self._folder, self._wanted = folder, wanted

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something to be so. Raises TimeoutError."""
        end = time.monotonic() + LONGEST
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"not in {LONGEST:.0f} s: {what}\n{self.text}")
            await self.pilot.pause(0.05)

    @property
    def text(self) -> str:
        """What is painted."""
        strips = self.console.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    async def sees(self, text: str) -> None:
        """Wait until a text is on the screen."""
        await self.until(lambda: text in self.text, text)

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            await self.pilot.press(key)
            await self.pilot.pause()

    async def size(self, size: tuple[int, int]) -> None:
        """Another terminal."""
        await self.pilot.resize_terminal(*size)
        await self.until(lambda: self.console.size == size, f"a terminal of {size}")
        await self.pilot.pause()

    async def take(self, name: str) -> None:
        """The picture."""
        for field in self.console.screen.query(Input):
            field.cursor_blink = False
        await self.pilot.pause(0.3)  # a last look of the log panes
        if not self._wanted or name.partition("-")[0] in self._wanted or name in self._wanted:
            svg = self_contained(self.console.export_screenshot(simplify=True), name)
            (self._folder / f"{name}.svg").write_text(svg, encoding="utf-8")
            print(name, flush=True)

    def progress(self) -> list[int]:
        """How far the slots' runs are, in per cent; 0 where that is not known."""
        found = [re.search(r"(\d+) %", str(pane.border_title)) for pane in self.console.main.logs]
        return [int(percent[1]) if percent else 0 for percent in found]

    def in_queue(self, *states: str) -> int:
        """How many items of the re-ingestion are in one of these states."""
        return self.console.queue_board.count(*states)

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────

    def line(self, ticket: str) -> Line | None:
        """The first request of a ticket in the list."""
        return next((line for line in self.console.board.lines if line.ticket == ticket), None)

    async def state(self, ticket: str, *states: str) -> None:
        """Wait until a request is in one of these states; closed ones are no longer in the list."""

        def reached() -> bool:
            line = self.line(ticket)
            return (line.state if line else "closed") in states

        await self.until(reached, f"{ticket} {states}")

    async def go(self, ticket: str) -> None:
        """Select a request, as a click on it does."""
        line = self.line(ticket)
        assert line is not None, ticket  # noqa: S101
        self.console.main.requests.select(line.id, by_hand=True)

        def there() -> bool:
            detail = self.console.board.detail
            return detail is not None and detail.line.id == line.id

        await self.until(there, f"{ticket} selected")
        await self.pilot.pause(0.3)  # enter is for where the cursor was, a moment ago

    async def stage(self, *tickets: str) -> None:
        """Queue requests, the first of each ticket that is not."""
        for ticket in tickets:
            await self.go(ticket)
            before = self.console.selected
            await self.press("s")
            await self.until(partial(self._queued, before), f"{ticket} queued")

    def _queued(self, before: Line | None) -> bool:
        return before is not None and any(
            line.id == before.id and line.state != before.state for line in self.console.board.lines
        )


@asynccontextmanager
async def studio(
    site: DemoSite, folder: Path, wanted: frozenset[str], size: tuple[int, int], *, read_only: bool = False
) -> AsyncIterator[Studio]:
    """The console on a site."""
    session = Session(site.config, read_only=read_only)
    if not read_only:
        session.acting().close()  # makes the journal
    console = Console(session, welcome=WELCOME)
    async with console.run_test(size=size) as pilot:
        found = Studio(console, pilot, folder, wanted)
        yield found
        await found.press("escape")


def overnight(site: DemoSite) -> None:
    """The mails that are there at the start have come one after the other, the last one just now."""
    mails = sorted((site.folder / "inbox" / "new").iterdir())
    for place, mail in enumerate(reversed(mails)):
        came = time.time() - 60 * (3 + MINUTES * place)
        os.utime(mail, (came, came))


# ── scenes ───────────────────────────────────────────────────────────────────────────────────────────────────


async def the_day(studio: Studio) -> None:
    """One request from its mail to its letter."""
    await studio.until(lambda: len(studio.console.board.lines) > 8, "the mails are read")
    await studio.until(
        lambda: not any(line.state in ("received", "checking") for line in studio.console.board.lines),
        "all are checked",
    )
    await studio.until(lambda: studio.console.engine_here, "the engine is ours")
    await studio.go("20001")
    await studio.take("day-1")
    await studio.press("enter")
    await studio.state("20001", "staging")
    await studio.until(lambda: "hifa_" in studio.text, "output")
    await studio.take("day-2")
    await studio.stage("15270")
    await studio.go("20001")
    await studio.until(lambda: "to-chk" in studio.text or "rsync" in studio.text or "copying" in studio.text, "copying")
    await studio.take("day-3")
    await studio.state("20001", "staged")
    await studio.go("20001")
    await studio.take("day-4")
    await studio.press("enter")
    await studio.sees("Your calibrated data")
    await studio.take("day-5")
    await studio.take("letter")
    await studio.press("y")
    await studio.state("20001", "closed")
    await studio.take("day-6")


async def the_desk(studio: Studio) -> None:
    """Two runs going, what needs a person on top; the same on a small screen; one run's output by itself."""
    await studio.state("15270", "staged")
    await studio.stage("20004", "20004", "20004", "20009")
    await studio.until(lambda: min(studio.progress()) >= 20 and max(studio.progress()) < 80, "two runs half-way")
    await studio.size(GRAND)
    await studio.go("20005")
    await studio.take("console")
    await studio.size(SMALL)
    await studio.until(lambda: "engine here" in studio.text, "the title for this size")
    await studio.take("small")
    await studio.size(WIDE)
    await studio.press("2", "z")
    await studio.until(lambda: studio.console.main.log_pane and studio.console.main.zoomed, "the log pane")
    await studio.press("ampersand", *"hifa", "enter", "slash", *"flagged", "enter", "t")
    await studio.sees("&hifa")
    await studio.take("log")
    await studio.press("t", "escape", "escape", "escape", "G", "z", "1")
    await studio.until(lambda: not studio.console.main.zoomed, "all panes")


async def the_refusal(studio: Studio) -> None:
    """Who may not have the data, why, and what is written."""
    await studio.go("20005")
    await studio.press("tab", "z")
    await studio.sees("NOT ENTITLED")
    await studio.take("entitlement")
    await studio.press("escape", "1", "x")
    await studio.sees("for the helpdesk")
    await studio.take("refusal")
    await studio.press("escape")


async def the_doubt(studio: Studio) -> None:
    """What nobody can tell without a person."""
    await studio.go("20010")
    await studio.press("enter")
    await studio.sees("what is to be done")
    await studio.take("decide")
    await studio.press("escape")
    await studio.pilot.pause(0.5)
    await studio.press("e")
    await studio.sees("ALMA account")
    await studio.take("correct")
    await studio.press("escape")


async def the_failure(studio: Studio) -> None:
    """A run fails while the operator looks at something else."""
    await studio.state("20009", "failed")
    await studio.go("20005")
    await studio.take("failure")
    await studio.go("20009")
    await studio.press("enter")
    await studio.sees("stagecalms")
    await studio.take("expert")
    await studio.press("y")
    await studio.state("20009", "held")


async def the_pages(studio: Studio) -> None:
    """Help, palette, the shift, what is staged."""
    await studio.press("1", "question_mark")
    await studio.sees("Help")
    await studio.take("help")
    await studio.press("escape", "ctrl+p", *"stage")
    await studio.until(lambda: "request: stage" in studio.text, "the palette")
    await studio.take("palette")
    await studio.press("escape", "escape", "H")
    await studio.sees("Handover of")
    await studio.take("handover")
    await studio.press("escape", "D")
    await studio.sees("days left")
    await studio.take("staged")
    await studio.press("escape", "M")
    await studio.sees("became")
    await studio.take("mails")
    await studio.press("escape")


async def the_queue(studio: Studio) -> None:
    """Re-ingestion while it works: the panel with the focus, and its items."""
    await studio.until(lambda: studio.in_queue("dead") > 1 and studio.in_queue("running"), "some dead, some running")
    await studio.press("1", "4")
    await studio.until(lambda: "need you" in studio.text and "highest" in studio.text, "the panel with its chart")
    await studio.take("reingestion")
    await studio.press("enter")
    await studio.sees("Items of the re-ingestion · ")
    await studio.until(lambda: "truncated" in studio.text, "the items")
    await studio.take("items")
    await studio.press("escape", "1")


async def to_look_only(studio: Studio) -> None:
    """A console that can change nothing says so."""
    await studio.until(lambda: len(studio.console.board.lines) > 8, "the requests")
    await studio.press("s")
    await studio.sees("read-only")
    await studio.take("read-only")


async def nothing_yet(studio: Studio) -> None:
    """The first visit, before any mail."""
    await studio.until(lambda: studio.console.engine_here, "the engine is ours")
    await studio.until(lambda: all(light.ok is not None for light in studio.console.board.lights[:1]), "lights")
    await studio.take("empty")


SCENES = (the_day, the_desk, the_refusal, the_doubt, the_failure, the_pages)


async def main(folder: Path, wanted: frozenset[str]) -> None:
    """All of them: the sample day; the same to look at only; re-ingestion; a site without any mail."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="aog.") as place:
        with DemoSite(Path(place) / "site", speed=SPEED, reingestion=True) as site:
            overnight(site)
            async with studio(site, folder, wanted, WIDE) as taken:
                for scene in SCENES:
                    await scene(taken)
            async with studio(site, folder, wanted, WIDE, read_only=True) as taken:
                await to_look_only(taken)
        with DemoSite(Path(place) / "queue", speed=SPEED / 2, reingestion=True) as site:
            async with studio(site, folder, wanted, WIDE) as taken:
                await the_queue(taken)
        with DemoSite(Path(place) / "empty", speed=1.0, reingestion=True) as site:
            for mail in (site.folder / "inbox" / "new").iterdir():
                mail.unlink()
            async with studio(site, folder, wanted, SMALL) as taken:
                await nothing_yet(taken)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), frozenset(sys.argv[2:])))
