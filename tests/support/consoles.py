"""The real console in a real terminal: started on a site of the demo's, read and operated by what its screen says."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from shutil import copytree
from typing import Any

from aogconsole.demo.site import MARK, DemoSite
from tests.support.terminal import Terminal

PROGRAM = [sys.executable, "-P", "-m", "aogconsole"]
ROW = re.compile(r"│([! ])(>| ) +(\S+)(?: /\d)? +(uid___\S+|~\S+|-) +([a-z]+)(?: (\S+))? +\d+ [mhd]")
"""A line of the queue: whether it needs a person, the cursor, ticket, MOUS, state, and where it is."""
NEXT = re.compile(r"─ (?:(\S+): (\w+)|([^─│╮╭:]+)) ─*╯")
BOX = re.compile(r"╭─ ([^─│]+) ─*╮")
REQUEST = re.compile(r"\(request (\d+)\)")
TITLE = re.compile(r"Requests · (\d+) open(?:, (\d+) need you)?")
STILL = 0.3
"""Seconds in which a newcomer sees that nothing moves any more; more than the console's guard after a jump."""
QUICK = 0.1
"""The same for whoever knows the keys."""
MOVED = 0.05
"""Seconds in which a cursor has come to rest that several keys move."""
SOON = 1.0
"""Seconds in which one console sees what another does."""


@dataclass(frozen=True)
class Row:
    """A line of the queue as it is on the screen."""

    needs: bool
    selected: bool
    ticket: str
    mous: str
    state: str


class Console(Terminal):
    """A console in a terminal, with the state folder of its own in `home`."""

    def __init__(
        self, home: Path, *words: str | Path, rows: int = 24, cols: int = 80, program: Sequence[str | Path] = (),
        **env: str | None,
    ) -> None:  # fmt: skip
        """`words` are the command line; `program` is another one than ours."""
        home.mkdir(parents=True, exist_ok=True)
        folders = {"HOME": str(home), "XDG_STATE_HOME": str(home), "XDG_CONFIG_HOME": str(home)}
        super().__init__([*(program or PROGRAM), *words], rows, cols, {**folders, **env})

    # ── what is on the screen ────────────────────────────────────────────────────────────────────────────────

    @property
    def queue(self) -> list[Row]:
        """The lines of the queue that are in sight."""
        return queue(self.text)

    @property
    def said(self) -> str:
        """The line below the panes."""
        return self.text.split("\n")[-2].strip()

    def until(self, true: Callable[[], object], what: str, timeout: float = 20.0) -> None:
        """Wait for something outside the screen, looking whenever the screen changes, and ten times a second."""
        for _ in range(round(timeout * 10)):
            if true():
                return
            with contextlib.suppress(TimeoutError):
                before = self.text
                self.wait_for(lambda text, before=before: text != before, 0.1)  # type: ignore[misc]
        raise TimeoutError(f"{what}\n{self.text}")

    def steady(self, read: Callable[[str], object], seconds: float = STILL, timeout: float = 30.0) -> str:
        """Wait until what is read from the screen has not changed for a while; the screen."""
        now = read(self.text)
        for _ in range(round(timeout / 0.01)):
            before = now
            try:
                now = read(self.wait_for(lambda text, before=before: read(text) != before, seconds))  # type: ignore[misc]
            except TimeoutError:
                return self.text
        raise TimeoutError(f"it does not come to rest\n{self.text}")

    def ready(self) -> None:
        """Wait until the queue and the engine are there."""
        self.wait_for(lambda text: "engine" in text and TITLE.search(text))

    def press(self, *keys: str) -> str:
        """Type one key after the other, and wait for what each does; the screen then."""
        for key in keys:
            before = face(self.text)
            self.send(key)
            self.wait_for(lambda text, before=before: face(text) != before)  # type: ignore[misc]
        return self.steady(face, QUICK)

    def back(self) -> None:
        """Escape until no dialog is on top."""
        for _ in range(5):
            title = dialog(self.steady(face, QUICK))
            if not title:
                return
            self.send("escape")
            with contextlib.suppress(TimeoutError):  # it may have cleared something in it first
                self.wait_for(lambda text, title=title: dialog(text) != title, SOON)  # type: ignore[misc]
        raise TimeoutError(f"a dialog stays\n{self.text}")

    def choose(self, ticket: str) -> None:
        """Put the cursor on the first request of a ticket, by hand, from the top of the queue."""
        for _ in range(3):
            self.send("j", "g")  # a cursor that was moved by hand stays
            row = selected(self.steady(selected))
            while row is not None:
                if row.ticket == ticket:
                    self.wait_for(f"─ #{ticket} · ")
                    return
                self.send("j" * self._steps(row, ticket))
                try:
                    row = selected(self.wait_for(lambda text, row=row: selected(text) not in (None, row), SOON))  # type: ignore[misc]
                except TimeoutError:  # the last, or it came late
                    row = None
                else:
                    row = selected(self.steady(selected, MOVED))
        raise TimeoutError(f"{ticket} is not in the queue\n{self.text}")

    def _steps(self, row: Row, ticket: str) -> int:
        """From the line with the cursor to the first of a ticket, or to the last that is in sight."""
        below = list(dropwhile(lambda one: one != row, self.queue))
        return max(next((place for place, one in enumerate(below) if one.ticket == ticket), len(below) - 1), 1)


def face(text: str) -> str:
    """A screen without what changes by itself: clock, ages."""
    return re.sub(r"\d\d:\d\d:\d\d UTC|\d+ [mhd] ", "", text)


def queue(text: str) -> list[Row]:
    """The lines of the queue on a screen."""
    found = (ROW.search(line) for line in text.split("\n"))
    return [Row(one[1] == "!", one[2] == ">", one[3], one[4], one[5]) for one in found if one]


def selected(text: str) -> Row | None:
    """The line with the cursor."""
    return next((row for row in queue(text) if row.selected), None)


def counts(text: str) -> tuple[int, int]:
    """Open requests, and those that need a person, by the queue's title."""
    found = TITLE.search(text)
    return (int(found[1]), int(found[2] or 0)) if found else (-1, -1)


def panel(text: str) -> tuple[int, str]:
    """The request in the panel, and what `enter` does to it as its lower edge says; empty for nothing.

    Only while it is the panel of the line with the cursor.
    """
    row = selected(text)
    if row is not None and f"─ #{row.ticket} · " not in text:
        return 0, ""
    request = next((int(found[1]) for line in text.split("\n") if (found := REQUEST.search(line))), 0)
    edges = [found for line in text.split("\n") if line[:1] == "╰" for found in NEXT.finditer(line)]
    return request, next((found[2] for found in edges if found[1] == "enter"), "")


def dialog(text: str) -> str:
    """The title of the dialog on top; empty for none."""
    lines = text.split("\n")
    if not any("esc close ─╯" in line for line in lines):
        return ""
    titles = [found[1] for line in lines for found in BOX.finditer(line)]
    asking = [title for title in titles if not title.startswith(("#", "Requests", "Re-ingestion", "for the"))]
    return asking[-1] if asking else "half painted"


class Newcomer:
    """Works a day by keyboard alone, by what the screen says, and counts the keys each request took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.keys: Counter[int] = Counter()
        """By request, those of its dialogs too."""
        self.did: dict[int, list[str]] = {}
        """By request, what its next actions were."""

    def work(self, over: Callable[[], bool], timeout: float = 100) -> None:
        """Do what comes next until nothing needs a person and `over` says that nothing more will come."""
        console = self.console
        for _ in range(round(timeout / STILL)):
            text = console.steady(lambda text: (panel(text), dialog(text), selected(text)))
            request, action = panel(text)
            check(text)
            if action:
                self._act(request, action)
            elif counts(text)[1] == 0 and over():
                return
            else:
                console.until(lambda: panel(console.text)[1] or over(), "nothing comes any more", 30)
        raise TimeoutError(f"the day does not end\n{console.text}")

    def _act(self, request: int, action: str) -> None:
        self.did.setdefault(request, []).append(action)
        before = self._place(self.console.text)
        self._press(request, "enter", before)
        answers: dict[str, Callable[[int], None]] = {
            "refuse": self._letter, "send": self._letter, "decide": self._decide, "rerun": self._reason,
        }  # fmt: skip
        if action in answers:
            answers[action](request)

    def _place(self, text: str) -> object:
        return panel(text), dialog(text), selected(text)

    def _press(self, request: int, key: str, before: object) -> None:
        """One key, and what it does on the screen."""
        self.keys[request] += 1
        self.console.send(key)
        self.console.wait_for(lambda text: self._place(text) != before)

    def _letter(self, request: int) -> None:
        text = self.console.wait_for(lambda text: "y send" in text and f"request {request} " in text)
        self._press(request, "y", self._place(text))

    def _decide(self, request: int) -> None:
        """What a newcomer can say of any: it is closed, with a reason."""
        option = re.compile(r"(\d) close ")
        text = self.console.wait_for(lambda text: f"Request {request} is unclear" in text and option.search(text))
        number = option.search(text)
        assert number, text
        self._press(request, number[1], self._place(text))
        self._reason(request)

    def _reason(self, request: int) -> None:
        text = self.console.wait_for(lambda text: "enter go on" in text)
        self.console.send("asked by phone")
        self.console.wait_for("asked by phone")
        self._press(request, "enter", self._place(text))


def check(text: str) -> None:
    """What holds on every main screen: what needs a person stands on top, the cursor and its next key are in sight."""
    if dialog(text):
        return
    rows = queue(text)
    assert [row.needs for row in rows] == sorted((row.needs for row in rows), reverse=True), text
    assert not rows or sum(row.selected for row in rows) == 1, text
    last = text.rsplit("\n", maxsplit=1)[-1]
    assert "? help" in last, text


class Day:
    """A site of the demo's, in this process, and the consoles on it."""

    def __init__(self, site: DemoSite, home: Path) -> None:
        self.site, self.home = site, home
        self._number = 0

    def console(self, *words: str | Path, **given: Any) -> Console:
        """One more console; each has a home of its own."""
        self._number += 1
        home = given.pop("home", self.home / f"home{self._number}")
        return Console(home, "--config", self.site.config, *words, **given)

    @property
    def journal(self) -> Path:
        """Its file."""
        return self.site.folder / "state" / "journal.db"

    def all(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Look into the journal."""
        return look(self.journal, sql, *values)


def look(journal: Path, sql: str, *values: object) -> list[sqlite3.Row]:
    """Rows of a journal, read beside whoever works on it; none while it is not there, or has no tables yet."""
    if not journal.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        if not connection.execute("select 1 from sqlite_master where name = 'connection'").fetchall():
            return []
        return connection.execute(sql, values).fetchall()


@contextlib.contextmanager
def day(folder: Path, *, speed: float = 200, change: Callable[[Path], None] = lambda _: None) -> Iterator[Day]:
    """A sample day with all its mails; `change` may alter it in its folder first."""
    import aogconsole.demo

    place = folder / "site"
    place.mkdir()
    (place / MARK).touch(0o600)
    copytree(Path(aogconsole.demo.__file__).with_name("day"), place / "day")
    change(place / "day")
    with DemoSite(place, speed=speed, at_once=True) as site:
        yield Day(site, folder)
