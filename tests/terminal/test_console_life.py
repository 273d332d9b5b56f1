"""The console as terminal software: any size, what it remembers, a crash, few colours, no mouse, other keys."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest

from tests.support.consoles import PROGRAM, QUICK, Console, Day, counts, day, dialog, face, queue, selected
from tests.terminal.test_console_two import all_read

SIZES = (
    (24, 80),
    (1, 1),
    (3, 7),
    (50, 200),
    (1, 200),
    (60, 1),
    (12, 40),
    (5, 5),
    (30, 120),
    (2, 2),
    (11, 39),
    (24, 80),
)
OPENING = {
    "x": "Refuse request", "d": "Close request", "e": "Correct request", "t": "Note on request", "i": "Take in a mail",
    "A": "Ask the archive", "P": "Pause the engine", "?": "Help", "L": "Letters", "H": "Handover",
}  # fmt: skip
"""Keys of an unclear request that open something, and what its title begins with."""
COLOURS = re.compile(rb"\x1b\[[\d;]*[34]8;([25]);")
MOUSE = (b"?1000h", b"?1002h", b"?1003h", b"?1006h", b"?1015h")


def storm(console: Console) -> None:
    """One size after the other, faster than it can paint."""
    for rows, cols in SIZES:
        console.resize(rows, cols)


def test_a_storm_of_resizes(tmp_path: Path) -> None:
    """While logs stream, with each dialog open, down to one cell: it lives, and the screen is right afterwards."""
    with day(tmp_path, speed=20) as site, site.console() as console:
        all_read(site, console)
        console.choose("20001")
        console.send("s")
        console.until(lambda: site.all("select 1 from run where state = 'running'"), "a run")
        console.choose("20015")
        for key, title in OPENING.items():
            console.send(key)
            console.wait_for(lambda text, title=title: dialog(text).startswith(title))  # type: ignore[misc]
            storm(console)
            console.steady(face, QUICK)
            console.wait_for(lambda text, title=title: dialog(text).startswith(title))  # type: ignore[misc]
            console.back()
        for pane in "214":
            console.send(pane)
            storm(console)
        for rows, cols in ((12, 40), (24, 80), (40, 160)):
            console.resize(rows, cols)
            console.send("1")
            console.wait_for(
                lambda text: re.search("│[! ]>", text) and text.rsplit("\n", 1)[-1].startswith(" enter decide")
            )
        console.wait_for(lambda text: counts(text)[0] == 18 and len(queue(text)) > 10)
        console.press("q", "y")
        assert console.wait_exit() == 0
        assert console.restored(), console.left_behind()


def test_sizes_that_came_and_went(tmp_path: Path) -> None:
    """The window was one cell and is as before, faster than it could look: what the terminal has lost is painted."""
    with day(tmp_path, speed=20) as site, site.console() as console:
        all_read(site, console)
        for key, title in (("", ""), ("?", "Help")):
            console.send(key)
            console.wait_for(lambda text, title=title: dialog(text).startswith(title))  # type: ignore[misc]
            before = console.steady(face)
            console.signal(signal.SIGSTOP)
            storm(console)
            assert console.text != before
            console.signal(signal.SIGCONT)
            console.wait_for(lambda text, before=before: face(text) == face(before))  # type: ignore[misc]


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    """Filter, selected request, theme, and the log's toggles are there after a restart."""
    with day(tmp_path, speed=20) as site:
        home = tmp_path / "mine"
        with site.console(home=home, rows=40, cols=160) as console:
            all_read(site, console)
            console.choose("20010")
            console.press("2")
            console.send("w")
            console.press("1", "/")
            console.paste("2001")
            console.wait_for("'2001':")
            console.send("enter")
            before = selected(console.steady(face))
            assert before
            console.send("ctrl+t")
            console.wait_for("Search for themes")
            console.paste("ansi-dark")
            console.wait_for(lambda text: "ansi-dark" in text and "nord" not in text)
            console.send("enter")
            console.wait_gone("ansi-dark")
            console.press("q")
            assert console.wait_exit() == 0
        with site.console(home=home, rows=40, cols=160) as console:
            console.wait_for("'2001':")
            console.wait_for(lambda text: selected(text) == before)
            assert b"48;2;" not in console.raw  # no true colours: the theme is the terminal's own


WRAPPER = """
import sys
from aogconsole import app
from aogconsole.__main__ import main
from widgets.entitlement import Entitlement

def show(self, detail, hint):
    password = "hunter2"
    if detail is not None:
        raise RuntimeError("the address is imaps://aog:hunter3@mail")

Entitlement.show = show
main()
"""
"""The real console with one widget that fails."""


def test_a_crash_is_short_and_private(tmp_path: Path) -> None:
    """Exit code 70, a few lines, a file; no value of a variable, no password; terminal and engine lock are free."""
    program = tmp_path / "wrapper.py"
    program.write_text(WRAPPER)
    with day(tmp_path, speed=20) as site:
        home = tmp_path / "mine"
        with site.console(home=home, program=[sys.executable, "-P", program]) as console:
            assert console.wait_exit() == 70
            assert console.restored(), console.left_behind()
            lines = [line for line in console.text.split("\n") if line]
        assert lines[0].startswith("aogconsole has stopped: RuntimeError")
        assert len(lines) <= 6
        (file,) = (home / "aogconsole").glob("crash-*.txt")
        for secret in ("hunter2", "hunter3"):
            assert secret not in "\n".join(lines) + file.read_text()
        with site.console() as console:
            console.wait_for("engine here")


def test_a_journal_that_breaks_is_told(tmp_path: Path) -> None:
    """Its file turns into something else while the console runs: it says so, lives, and ends well."""
    with day(tmp_path, speed=20) as site:
        with site.console() as console:
            all_read(site, console)
            console.press("q")
            console.wait_exit()
        with site.console("--read-only") as console:
            console.wait_for(lambda text: counts(text) == (18, 18))
            site.journal.write_bytes(b"no database at all" * 5000)
            console.send("L")
            console.wait_for(lambda text: "! " in text and "journal" in text)
            console.back()
            console.press("q")
            assert console.wait_exit() == 0


@pytest.mark.parametrize(
    ("env", "theme"), [({"NO_COLOR": "1"}, ""), ({"TERM": "xterm", "COLORTERM": None}, ""), ({}, "ansi-dark")],
    ids=["no colour", "16 colours", "ansi theme"],
)  # fmt: skip
def test_states_can_be_read_with_few_colours(tmp_path: Path, env: dict[str, str | None], theme: str) -> None:
    """Every state is a word and a sign: with no colours, with sixteen, with the terminal's own."""
    with day(tmp_path, speed=20) as site, site.console(**env) as console:
        all_read(site, console)
        rows = queue(console.steady(face))
        assert all(row.needs for row in rows)
        assert {row.state for row in rows} >= {"entitled", "refused"}
        for light in ("staging ●", "archive ●", "mail ●"):
            assert light in console.text
        kinds = set(COLOURS.findall(console.raw))
        if "NO_COLOR" in env:
            greys = re.findall(rb"\x1b\[[\d;]*[34]8;2;(\d+);(\d+);(\d+)", console.raw)
            assert all(max(map(int, one)) - min(map(int, one)) <= 1 for one in greys)
        elif "TERM" in env:
            assert not kinds


def test_no_mouse(tmp_path: Path) -> None:
    """`--no-mouse` leaves the mouse to the terminal; without it the mouse is asked for."""
    with day(tmp_path, speed=20) as site:
        for words, asked in ((("--no-mouse",), False), ((), True)):
            with site.console(*words) as console:
                console.ready()
                console.send("q")
                console.wait_exit()
                assert any(mode in console.raw for mode in MOUSE) is asked


def remap(site: Day, *entries: str) -> None:
    """Give actions other keys."""
    text = site.site.config.read_text()
    site.site.config.write_text(f"{text}\n[console]\nkeys = [{', '.join(map(repr, entries))}]\n")


def test_other_keys(tmp_path: Path) -> None:
    """They do what they say, and footer, panel, help and palette have them."""
    with day(tmp_path, speed=20) as site:
        remap(site, "request.stage=S", "request.next=f5", "console.help=f1")
        with site.console(rows=40, cols=160) as console:
            all_read(site, console)
            console.choose("20001")
            assert "f5 stage" in console.text
            assert "f5: stage" in console.text
            assert "f1 help" in console.text
            console.send("f1")
            console.wait_for(lambda text: re.search(r"S +Put the entitled request", text))
            console.back()
            console.send("ctrl+p")
            console.paste("stage")
            console.wait_for(lambda text: re.search(r"request: stage +S", text))
            console.send("escape")
            console.steady(face, QUICK)
            console.send("s")
            console.steady(face, QUICK)
            assert not site.all("select 1 from request where state <> 'entitled' and ticket = '20001'")
            console.send("S")
            console.until(lambda: site.all("select 1 from run"), "a run")


@pytest.mark.parametrize(
    ("entry", "told"),
    [("request.stge=S", "did you mean request.stage?"), ("request.stage=", "no key for request.stage"),
     ("request.stage=x", "x for both request.stage and request.refuse"), ("request.stage=f", "a key of the log pane")],
)  # fmt: skip
def test_bad_keys_are_told_before_it_starts(tmp_path: Path, entry: str, told: str) -> None:
    """Exit code 3 and a sentence, with the terminal untouched."""
    config = tmp_path / "config.toml"
    config.write_text(f'[console]\nkeys = ["{entry}"]\n')
    with Console(tmp_path, "--config", config, cols=200, program=PROGRAM) as console:
        assert console.wait_exit() == 3
        assert told in console.text
        assert b"\x1b[?1049h" not in console.raw


def test_a_dumb_terminal_is_refused(tmp_path: Path) -> None:
    """One that knows no control sequences gets a sentence, and none of them."""
    with Console(tmp_path, TERM="dumb") as console:
        assert console.wait_exit() == 2
        assert "TERM=dumb" in console.text
        assert b"\x1b" not in console.raw
