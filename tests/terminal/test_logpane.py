"""The log pane over a real, growing file, driven by keys and mouse."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.content import Content
from textual.drivers._writer_thread import WriterThread
from textual.drivers.linux_driver import LinuxDriver
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import Pilot
from textual.scrollbar import ScrollTo, ScrollUp

from aogconsole.board import Mark, Slot
from aogconsole.staging.logfile import LogFile
from aogconsole.staging.logtimes import ArrivalWriter
from aogconsole.text import clean
from tests.support.terminal import Terminal
from widgets.logpane import LogPane
from widgets.logview import LogView

BEGUN = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOSTILE = "\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\x00\u202e"


class Stage(App[None]):
    """A pane, and what it posts."""

    def __init__(self, slot: Slot) -> None:
        super().__init__()
        self.slot = slot
        self.posted: list[Any] = []

    def compose(self) -> ComposeResult:
        """Only the pane."""
        yield LogPane(self.slot)

    def on_mount(self) -> None:
        """The pane has the focus."""
        self.pane.focus()

    @property
    def pane(self) -> LogPane:
        """The pane."""
        return self.query_one(LogPane)

    def on_log_pane_copied(self, message: LogPane.Copied) -> None:
        """Keep it."""
        self.posted.append(message)

    def on_log_pane_export(self, message: LogPane.Export) -> None:
        """Keep it."""
        self.posted.append(message)

    def on_log_frame_zoom(self, message: LogPane.Zoom) -> None:
        """Keep it."""
        self.posted.append(message)

    @property
    def seen(self) -> list[str]:
        """The rows of text on the screen."""
        view = self.query_one(LogView)
        return [view.render_line(y).text.rstrip() for y in range(view.size.height)]

    @property
    def bottom(self) -> str:
        """What stands in the pane's border below."""
        return str(self.pane._border_subtitle or "")


async def until(pilot: Pilot[None], true: Callable[[], bool]) -> None:
    """Wait until the pane shows it."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, pilot.app.seen  # type: ignore[attr-defined]
        await pilot.pause(0.01)


def numbered(count: int, start: int = 0) -> bytes:
    """Lines with their numbers."""
    return b"".join(b"line %d\n" % n for n in range(start, start + count))


def slot(path: Path, **more: Any) -> Slot:
    """A run under way."""
    given: dict[str, Any] = {
        "run": 7,
        "request": 3,
        "ticket": "20001",
        "mous": "uid___A001_X1590_X30ac",
        "state": "running",
    } | more
    return Slot("A", log=path, started_at=BEGUN, **given)


@asynccontextmanager
async def stage(path: Path, size: tuple[int, int] = (60, 12), **more: Any) -> AsyncIterator[tuple[Stage, Pilot[None]]]:
    """The pane with the log at `path`; everything of it is indexed."""
    app = Stage(slot(path, **more))
    log = LogFile(path)
    try:
        async with app.run_test(size=size) as pilot:
            app.pane.text = log
            await until(pilot, lambda: log.ready and log.complete and (app.seen[0] != "" or not log.size))
            yield app, pilot
    finally:
        log.close()
        log.join()


def append(path: Path, data: bytes) -> None:
    """What a run does."""
    with path.open("ab") as file:
        file.write(data)


async def test_follows_and_counts_what_is_new(tmp_path: Path) -> None:
    """New lines come into view; one step up and they are counted, exactly; G follows again."""
    path = tmp_path / "7.log"
    path.write_bytes(numbered(100))
    async with stage(path) as (app, pilot):
        assert app.seen == [f"line {n}" for n in range(90, 100)]
        append(path, numbered(5, 100))
        await until(pilot, lambda: app.seen[-1] == "line 104")
        await pilot.press("k")
        assert app.seen[-1] == "line 103"
        append(path, numbered(312, 105) + b"half a li")
        await until(pilot, lambda: "+313 new" in app.bottom)
        append(path, b"ne\n")
        await until(pilot, lambda: app.pane.text is not None and app.pane.text.whole == app.pane.text.end)
        assert app.pane.new_lines == 313
        assert app.seen[-1] == "line 103"
        await pilot.press("G")
        assert app.seen[-1] == "half a line"
        assert app.bottom == ""
        await pilot.press("g")
        assert app.seen[0] == "line 0"
        await pilot.press("f")
        assert app.pane.following


async def test_a_log_at_rest_costs_nothing(tmp_path: Path) -> None:
    """The pane looks no more until something comes, and while a filter or a search may find more."""
    path = tmp_path / "7.log"
    path.write_bytes(numbered(100))
    async with stage(path) as (app, pilot):
        for count in (100, 101):
            await until(pilot, lambda: app.pane._beat._asleep)
            append(path, numbered(1, count))
            await until(pilot, lambda count=count: app.seen[-1] == f"line {count}")  # type: ignore[misc]
        await until(pilot, lambda: app.pane._beat._asleep)
        await pilot.press("slash", "1", "enter")
        assert not app.pane._beat._asleep


async def test_moves(tmp_path: Path) -> None:
    """Lines, pages, half pages; who moves down to the end follows again."""
    path = tmp_path / "7.log"
    path.write_bytes(numbered(100))
    async with stage(path) as (app, pilot):
        await pilot.press("pageup")
        assert app.seen[0] == "line 81"
        await pilot.press("ctrl+u")
        assert app.seen[0] == "line 76"
        await pilot.press("j", "down", "ctrl+d")
        assert app.seen[0] == "line 83"
        await pilot.press("pagedown")
        assert app.pane.following
        assert app.seen[-1] == "line 99"


async def test_empty_panes_say_why(tmp_path: Path) -> None:
    """No file yet, and no run at all."""
    async with stage(tmp_path / "7.log") as (app, pilot):
        await until(pilot, lambda: app.seen[0] == "no output yet")
        append(tmp_path / "7.log", b"now\n")
        await until(pilot, lambda: app.seen[0] == "now")
        app.pane.text, app.pane.slot = None, Slot("B", next="#20004")
        await until(pilot, lambda: app.seen[0] == "free")
        assert str(app.pane._border_title) == "B \u00b7 free \u00b7 next #20004"


async def test_search(tmp_path: Path) -> None:
    """Hits are lit while typing, entered by enter, n and N, and wrap; smart case; escape clears."""
    path = tmp_path / "7.log"
    path.write_bytes(numbered(50) + b"an Error\n" + numbered(50) + b"error again\n" + numbered(50))
    async with stage(path) as (app, pilot):
        await pilot.press("g", "slash", *"error")
        await until(pilot, lambda: "(2)" in app.bottom)
        await pilot.press("enter")
        await until(pilot, lambda: "an Error" in app.seen)
        assert "/error 1 of 2" in app.bottom
        await pilot.press("n")
        assert "error again" in app.seen
        await pilot.press("n")
        assert "an Error" in app.seen
        assert "wrapped" in app.bottom
        await pilot.press("N")
        assert "error again" in app.seen
        await pilot.press("escape", "escape")
        assert "/error" not in app.bottom
        await pilot.press("slash", *"Error", "enter")
        await until(pilot, lambda: "1 of 1" in app.bottom)
        await pilot.press("slash", *"none such", "enter")
        await until(pilot, lambda: "not found" in app.bottom)
        await pilot.press("slash", *"x", "escape")
        assert "/none such" in app.bottom


async def test_filter_is_live(tmp_path: Path) -> None:
    """Only matching lines are shown, those that come too, and counted as new; ! shows the others; escape shows all."""
    path = tmp_path / "7.log"
    path.write_bytes(b"INFO a\nWARN b\n" * 30)
    async with stage(path) as (app, pilot):
        await pilot.press("ampersand", *"warn", "enter")
        await until(pilot, lambda: app.seen == ["WARN b"] * 10 and "&warn (30)" in app.bottom)
        append(path, b"INFO x\nWARN last\n")
        await until(pilot, lambda: app.seen[-1] == "WARN last")
        await pilot.press("k")
        append(path, b"INFO y\nWARN more\nWARN more\n")
        await until(pilot, lambda: "+2 new" in app.bottom)
        await pilot.press("exclamation_mark", "G")
        await until(pilot, lambda: app.seen[-3:] == ["INFO a", "INFO x", "INFO y"])
        await pilot.press("slash", *"info x", "enter")
        await until(pilot, lambda: "1 of 1" in app.bottom)
        await pilot.press("escape", "escape", "escape", "G")
        await until(pilot, lambda: app.seen[-1] == "WARN more" and "INFO y" in app.seen)


async def test_a_filter_is_for_one_run(tmp_path: Path) -> None:
    """It would hide how the next run ends, also after a restart; one that is typed just then is for the next run."""
    path = tmp_path / "7.log"
    path.write_bytes(b"INFO a\nERROR b\n")
    async with stage(path) as (app, pilot):
        await pilot.press("ampersand", *"info", "enter", "w")
        await until(pilot, lambda: app.seen[:2] == ["INFO a", ""])
        app.pane.slot = slot(path, state="failed")
        kept = app.pane.toggles
        assert kept["filter"] == "info"
        app.pane.slot = slot(path, run=8)
        await until(pilot, lambda: app.seen[:2] == ["INFO a", "ERROR b"])
        await pilot.press("ampersand", *"err")
        app.pane.slot = slot(path, run=9)
        await pilot.press("enter")
        await until(pilot, lambda: app.seen[:2] == ["ERROR b", ""])
    async with stage(path, run=8) as (app, pilot):
        app.pane.toggles = kept
        await until(pilot, lambda: app.seen[:2] == ["INFO a", "ERROR b"])
        assert app.pane.toggles["wrap"] is True


async def test_milestones(tmp_path: Path) -> None:
    """] and [ go from milestone to milestone, by the byte where its line begins."""
    path = tmp_path / "7.log"
    path.write_bytes(numbered(100))
    marks = tuple(Mark(kind, kind, numbered(n).__len__()) for kind, n in (("looking", 3), ("copying", 60)))
    async with stage(path, marks=marks) as (app, pilot):
        await pilot.press("left_square_bracket")
        assert "line 60" in app.seen
        assert "milestone 2 of 2: copying" in app.bottom
        await pilot.press("left_square_bracket")
        assert "line 3" in app.seen
        await pilot.press("left_square_bracket")
        assert "no further milestone" in app.bottom
        await pilot.press("right_square_bracket")
        assert "line 60" in app.seen


async def test_wrap_with_wide_characters(tmp_path: Path) -> None:
    """Wrapped, every character is seen once, no row is wider than the pane, no wide one is cut, all can be reached."""
    path, text = tmp_path / "7.log", "\u65e5\u672c\u8a9e e\u0301a\u0308x " * 100
    path.write_bytes(b"before\n" + text.encode() + b"\nafter\n")
    async with stage(path, size=(21, 8)) as (app, pilot):
        await pilot.press("w")
        assert app.seen[-1] == "after"
        rows: list[str] = []
        await pilot.press("g")
        while not app.pane.following:
            rows.append(app.query_one(LogView).render_line(0).text.rstrip(" "))
            assert {app.query_one(LogView).render_line(y).cell_length for y in range(6)} == {18}
            await pilot.press("j")
        rows += app.seen
        joined = "".join(rows).replace(" ", "")
        assert joined == "before" + text.replace(" ", "") + "after"


async def test_nothing_is_under_the_scrollbar(tmp_path: Path) -> None:
    """What is painted of a wrapped line is all of it: the scrollbar has a column of its own."""
    path, text = tmp_path / "7.log", "".join(f"{n:02}-" for n in range(60))
    path.write_bytes(text.encode() + b"\n" + numbered(30))
    async with stage(path) as (app, pilot):
        await pilot.press("w", "g")
        await until(pilot, lambda: app.seen[0].startswith("00-"))
        await pilot.pause()
        painted = ["".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips()]
        assert text in "".join(row[1:-2] for row in painted[1:-1])


async def test_times(tmp_path: Path) -> None:
    """t puts before each line when it arrived, and says where that is not known."""
    path = tmp_path / "7.log"
    path.write_bytes(b"one\ntwo\n")
    writer = ArrivalWriter(path, 8, 0o600)
    writer.note(4)
    writer.close()
    async with stage(path) as (app, pilot):
        await pilot.press("t")
        assert app.seen[0] == "--:--:-- one"
        assert app.seen[1][2::3][:2] == "::"


async def test_selection_and_copy(tmp_path: Path) -> None:
    """v and j, or a drag of the mouse, select lines; y copies them, the current line, or the page."""
    path = tmp_path / "7.log"
    path.write_bytes(numbered(100))
    async with stage(path) as (app, pilot):
        await pilot.press("y", "v", "k", "k")
        assert "3 selected" in app.bottom
        await pilot.press("y", "y")
        await pilot.mouse_down(LogView, offset=(1, 2))
        await pilot.hover(LogView, offset=(5, 4))
        await pilot.mouse_up(LogView, offset=(5, 4))
        await pilot.press("y")
        await until(pilot, lambda: len(app.posted) == 4)
        assert [message.lines for message in app.posted] == [10, 3, 1, 3]
        assert app.posted[1].text == "line 97\nline 98\nline 99\n"
        assert app.posted[3].text == "line 92\nline 93\nline 94\n"


async def test_export_and_zoom_are_asked_for(tmp_path: Path) -> None:
    """W and z post messages; a free slot has nothing to export."""
    path = tmp_path / "7.log"
    path.write_bytes(b"one\n")
    async with stage(path) as (app, pilot):
        await pilot.press("W", "z")
        await until(pilot, lambda: len(app.posted) == 2)
        assert (app.posted[0].run, app.posted[0].path) == (7, path)
        app.pane.slot = Slot("A")
        await pilot.press("W")
        assert len(app.posted) == 2


async def test_nothing_hostile_is_shown_or_copied(tmp_path: Path) -> None:
    """Not a control or format character of the log is in the rows, nor in what is copied."""
    path = tmp_path / "7.log"
    path.write_bytes(HOSTILE.encode() + b"\n" + bytes(range(256)) + b"\n")
    async with stage(path, size=(200, 12)) as (app, pilot):
        await pilot.press("w", "y")
        await until(pilot, lambda: bool(app.posted))
        for text in [*app.seen, *app.posted[0].text.splitlines()]:
            assert clean(text) == text
        assert "\\x1b]52" in app.seen[0]


@pytest.mark.parametrize(
    ("more", "now", "told"),
    [
        (
            {"phase": "generating", "expected_end": BEGUN.replace(hour=14)},
            BEGUN.replace(minute=50),
            "generating 42 % ~1 h 10",
        ),
        (
            {"phase": "copying", "expected_end": BEGUN.replace(hour=13)},
            BEGUN.replace(hour=14),
            "copying, longer than usual by 1 h 00",
        ),
        (
            {"phase": "copying", "expected_end": BEGUN.replace(hour=13)},
            BEGUN.replace(hour=13),
            "copying, longer than usual",
        ),
        ({"state": "starting"}, BEGUN.replace(minute=1), "starting since 1 min"),
        ({"state": "failed", "why": "no space [/] left"}, BEGUN, "! failed: no space [/] left"),
        ({"state": "succeeded", "ended_at": BEGUN.replace(hour=15, minute=7)}, BEGUN, "succeeded in 3 h 07"),
    ],
)
async def test_title(tmp_path: Path, more: dict[str, Any], now: datetime, told: str) -> None:
    """Slot, ticket, MOUS, and how the run is, in words."""
    app = Stage(slot(tmp_path / "7.log", **more))
    async with app.run_test():
        app.pane.tick(now)
        assert app.pane._border_title is not None
        assert app.pane._border_title.plain == f"A \u00b7 #20001 uid___A001_X1590_X30ac \u00b7 {told}"


async def test_toggles(tmp_path: Path) -> None:
    """What was set is there again in the next console; what is not ours is ignored."""
    path = tmp_path / "7.log"
    path.write_bytes(b"INFO a\nWARN b\n" * 5)
    async with stage(path) as (app, pilot):
        await pilot.press("w", "t", "ampersand", *"info", "enter", "exclamation_mark")
        kept = app.pane.toggles
        assert kept == {"wrap": True, "times": True, "filter": "info", "inverse": True, "run": 7}
    async with stage(path) as (app, pilot):
        app.pane.toggles = kept
        await until(pilot, lambda: app.seen[:6] == ["--:--:-- WARN b"] * 5 + [""])
        assert app.pane.toggles == kept
        app.pane.toggles = {"wrap": "yes", "filter": 3, "strange": None}
        assert app.pane.toggles == {"wrap": False, "times": False, "filter": "", "inverse": False, "run": 7}


async def test_a_storm_of_sizes(tmp_path: Path) -> None:
    """Any size down to 1x1, wrapped or not, with lines of every kind, while the log grows."""
    path = tmp_path / "7.log"
    path.write_bytes(numbered(50) + "\u65e5\u672c\u8a9e".encode() * 500 + b"\n")
    async with stage(path) as (app, pilot):
        for turn, size in enumerate([(1, 1), (2, 2), (3, 3), (4, 1), (200, 60), (5, 4), (1, 30), (60, 1), (80, 24)]):
            await pilot.resize_terminal(*size)
            append(path, numbered(3))
            await pilot.press(*("w", "t", "slash", "1", "enter", "n", "v", "k", "G", "y")[: turn + 2])
        await pilot.press("escape", "escape", "escape", "G")
        await until(pilot, lambda: "line 2" in app.seen[-1])


async def test_truncated_and_another_run(tmp_path: Path) -> None:
    """A file that begins anew is shown from its end; so is the log of the slot's next run."""
    path, other = tmp_path / "7.log", tmp_path / "8.log"
    path.write_bytes(numbered(100))
    other.write_bytes(b"another run\n")
    async with stage(path) as (app, pilot):
        await pilot.press("k")
        path.write_bytes(b"anew\n")
        await until(pilot, lambda: app.seen[0] == "anew")
        assert app.pane.following
        log = LogFile(other)
        app.pane.text = log
        await until(pilot, lambda: app.seen[0] == "another run")
        log.close()


APP = """
import sys
from pathlib import Path
from textual.app import App
from aogconsole import text
from aogconsole.board import Slot
from aogconsole.staging import logfile
from widgets.logpane import LogPane

class Shown(App):
    BINDINGS = [("q", "quit", "quit")]
    def compose(self):
        yield LogPane(Slot("A", 7, 3, state="running", why=sys.argv[2]))
    def on_mount(self):
        self.query_one(LogPane).text = logfile.LogFile(Path(sys.argv[1]))
        self.query_one(LogPane).focus()

if len(sys.argv) > 3:
    logfile.clean = lambda line: line  # broken on purpose
Shown().run()
"""


@pytest.mark.parametrize("broken", [False, True])
def test_nothing_hostile_reaches_a_terminal(tmp_path: Path, broken: bool) -> None:
    """In the bytes of a real terminal none of the log's own controls is found; without `clean` they are."""
    path = tmp_path / "7.log"
    path.write_bytes(b"first\n\x1b]52;c;aGk=\x07\x1b]2;owned\x07\xc2\x9b31m\xe2\x80\xae end of it\nlast\n")
    with Terminal([sys.executable, "-c", APP, path, "", *(["broken"] if broken else [])], cols=100) as terminal:
        terminal.wait_for_bytes(b"last")
        if not broken:
            terminal.send("/")
            terminal.wait_for("search in the log")
            terminal.send("end of")
            terminal.wait_for("/end of (1)")
            terminal.send("enter")
            terminal.wait_for(lambda text: "1 of 1" in text and "\nend of" not in text.replace("│", ""))
            terminal.send("w", "t", "v", "k")
            terminal.wait_for("2 selected")
        terminal.send("q")
        terminal.wait_exit()
        reached = [mark for mark in (b"\x1b]52", b"\x1b]2;owned", b"\xc2\x9b", b"\xe2\x80\xae") if mark in terminal.raw]
    assert bool(reached) == broken


async def test_what_it_uses_of_textual_is_there() -> None:
    """The private parts of Textual that keep a paint cheap: when one goes, this tells which."""
    app = Stage(Slot("A"))
    async with app.run_test() as pilot:
        pane, view = app.pane, app.query_one(LogView)
        assert isinstance(pane._border_title, Content)
        assert {"_border_title", "_border_subtitle"} <= set(vars(pane))
        assert not {"_size", "_container_size"} & set(vars(LogView))
        before = app.screen._layout_required
        view.set_bar(1_000_000, 5)
        assert (view.virtual_size.height, view.scroll_y) == (1_000_000, 5)
        assert app.screen._layout_required == before
        await pilot.pause()
    assert WriterThread(sys.stdout)._queue.qsize() == 0
    assert LinuxDriver(app)._writer_thread is None


async def test_wheel_and_scrollbar(tmp_path: Path) -> None:
    """The wheel moves three rows, the thumb goes where it is dragged, a click beside it a page; at the end: follow."""
    path = tmp_path / "7.log"
    path.write_bytes(numbered(100))
    async with stage(path) as (app, pilot):
        view = app.query_one(LogView)
        view.post_message(MouseScrollUp(view, 1, 1, 0, 0, 0, False, False, False))
        await until(pilot, lambda: app.seen[0] == "line 87")
        view.post_message(ScrollTo(y=10.0))
        await until(pilot, lambda: app.seen[0] == "line 10")
        view.post_message(ScrollUp())
        await until(pilot, lambda: app.seen[0] == "line 1")
        view.post_message(MouseScrollDown(view, 1, 1, 0, 0, 0, False, False, False))
        await until(pilot, lambda: app.seen[0] == "line 4")
        view.post_message(ScrollTo(y=90.0))
        await until(pilot, lambda: app.pane.following)


async def test_a_hit_among_wrapped_lines(tmp_path: Path) -> None:
    """A hit is brought into view where lines of many rows are above it."""
    path = tmp_path / "7.log"
    path.write_bytes(b"".join(b"%d " % n + b"x" * 300 + b"\n" for n in range(20)) + b"needle\n" + b"y" * 500 + b"\n")
    async with stage(path, size=(30, 12)) as (app, pilot):
        await pilot.press("w", "g", "slash", *"needle", "enter")
        await until(pilot, lambda: "needle" in app.seen and "1 of 1" in app.bottom)
        await pilot.press("k", "k", "j")
        assert "needle" in app.seen
        await pilot.press("G")
        assert app.seen[-1].startswith("y")
