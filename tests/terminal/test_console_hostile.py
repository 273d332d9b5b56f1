"""Hostile text in every place that it can come from: not one control byte of it reaches the terminal."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shlex
import sqlite3
import sys
from email.header import Header
from pathlib import Path
from typing import Any

import pytest

from tests.support.consoles import QUICK, Console, Day, day, dialog, face
from tests.support.hostile import HOSTILE, acting, copied, unsafe_text
from tests.support.terminal import Terminal

PAGES = {"L": "Letters", "R": "Runs", "D": "Staged", "M": "Mails", "H": "Handover", "C": "Commands", "?": "Help"}
OF_A_REQUEST = {"y": "History", "v": "Mail", "m": "Letter"}
PASTED = HOSTILE.replace("\x1b", "")
"""What a terminal lets through when it is pasted: terminals take escape out."""
DOCUMENTS = ("parsed", "facts", "draft", "milestones")
CLIPBOARD = {"AOGCONSOLE_CONSOLE__CLIPBOARD": "osc52"}


def evil_day(place: Path) -> None:
    """Escapes in the archive's names."""
    sql = (place / "archive.sql").read_text()
    evil = " || ".join(f"char({ord(one)})" for one in HOSTILE[:200])
    file = place / "archive.sql"
    assert "'Kowalska'" in sql
    file.write_text(sql.replace("'Kowalska'", f"'Kowalska' || {evil}"))


def evil_mail(*, request: bool) -> bytes:
    """A mail of a hostile name, with a hostile text, and a file with such a name; as a request of the PI's its subject
    is as it should be, else it is hostile too."""
    name = Header(HOSTILE, "utf-8").encode(linesep="").replace("\n", "")
    subject = "ALMA: REQUEST FOR CALIBRATED DATA MOUS uid___A001_X133d_X1eef" if request else name
    return (
        f"From: {name} <helpdesk@eso.org>\r\nTo: aog@eso.org\r\nMessage-ID: <evil{request:d}@eso.org>\r\n"
        f"Subject: {subject}\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n'
        "Dear AOG,\r\nplease create the calibrated MS for MOUS uid___A001_X133d_X1eef\r\nproject 2018.1.00526.S\r\n"
        f"for user mkowalska\r\nhelpdesk ticket 29999\r\n\r\nThanks!\r\n{HOSTILE}\r\n"
        f'--b\r\nContent-Type: text/plain; name="{name}"\r\nContent-Disposition: attachment; filename="{name}"\r\n\r\n'
        f"{HOSTILE}\r\n--b--\r\n"
    ).encode()


def evil_runs(site: Day) -> None:
    """What calibrates prints hostile lines first."""
    program = site.site.folder / "cluster" / "calibrate.sh"
    lines = program.read_text().split("\n")
    octal = "".join(f"\\{byte:03o}" for byte in HOSTILE.encode())
    lines.insert(1, f"for i in 1 2 3; do printf '{octal}\\n'; done")
    program.write_text("\n".join(lines))


def visit(console: Console, key: str, head: str) -> None:
    """Open a page, copy it, look through it, close it."""
    console.send(key)
    console.wait_for(lambda text: head in dialog(text))
    console.send("c", "pagedown", "end", "w")
    console.back()


def poison(journal: Path) -> None:
    """Put it into every text of the journal that is no code."""
    texts = {
        "mail": ("from_address", "subject", "why", "parsed"), "note": ("who", "text"), "connection": ("detail",),
        "request": ("why", "claimed_by", "url", "verdict_why", "facts", "project", "account"),
        "run": ("why", "project", "mous", "ticket", "node", "workdir", "url", "milestones"),
        "letter": ("why", "draft"), "history": ("who", "via", "why"),
    }  # fmt: skip
    with contextlib.closing(sqlite3.connect(journal, timeout=20)) as connection:
        for column, type_ in (("text", ""), ("document", "json")):
            connection.create_function(f"evil_{column}", 1, lambda value, type_=type_: poisoned(value, type_))
        for table, columns in texts.items():
            changes = (f"{one} = evil_{'document' if one in DOCUMENTS else 'text'}({one})" for one in columns)
            connection.execute(f"update {table} set {', '.join(changes)}")  # noqa: S608
        connection.execute("insert or replace into meta values ('paused', ?)", (HOSTILE,))
        connection.commit()


def poisoned(value: str | None, type_: str) -> str | None:
    """A text with it behind; a document with it behind each of its texts that is no code."""
    if type_ == "json":
        return json.dumps(_deep(json.loads(value), "")) if value else value
    return f"{value or ''}{HOSTILE}"


def _deep(value: Any, key: str) -> Any:
    match value:
        case str() if key not in ("kind", "public_from", "day", "checked_at", "project_source"):
            return value + HOSTILE
        case list():
            return [_deep(one, key) for one in value]
        case dict():
            return {name: _deep(one, name) for name, one in value.items()}
        case _:
            return value


def test_nothing_hostile_reaches_the_terminal_in_a_days_work(tmp_path: Path) -> None:
    """Mail, archive, log; filter, reason and note as they are pasted; pages, palette, copies, export, pager, letter."""
    paged, exported = tmp_path / "paged", tmp_path / f"ex{PASTED[:60]}port"
    pager = f"{sys.executable} -c {shlex.quote(f'import shutil, sys; shutil.copy(sys.argv[1], {str(paged)!r})')}"
    entitled = "select id from request where ticket = '29999' and state = 'entitled'"
    staged = "select 1 from request where id = ? and state = 'staged'"
    with day(tmp_path, speed=1000, change=evil_day) as site:
        evil_runs(site)
        box = site.site.folder / "inbox"
        for request in (True, False):
            (box / "new" / f"{request:d}.evil").write_bytes(evil_mail(request=request))
        with site.console(rows=32, cols=200, PAGER=pager, **CLIPBOARD) as console:
            console.ready()
            console.until(lambda: site.all(entitled), "mail")
            request = site.all(entitled)[0]["id"]
            console.choose("29999")
            console.send("s")
            console.until(lambda: site.all(staged, request), "run", 60)
            console.choose("29999")
            for key, head in {**OF_A_REQUEST, **PAGES}.items():
                visit(console, key, head)
            console.send("t")
            console.wait_for("Note on request")
            console.paste(PASTED)
            console.wait_for("LIVE")
            console.press("enter")
            console.wait_for("The note is on request")
            console.send("/")
            console.paste(PASTED)
            console.wait_for("Nothing is found")
            console.press("escape", "escape")
            console.choose("29999")
            console.send("l")
            console.wait_gone("Requests ·")
            console.wait_for("completed")
            console.press("g")
            console.wait_for("LIVE")
            console.send("y")
            console.press("v", "j")
            console.send("y")
            search, only = ("/", "search in the log", PASTED, "not found"), ("&", "only lines with", "EVIL", "EVIL (3)")
            for key, asks, text, told in (search, only):
                console.send(key)
                console.wait_for(asks)
                console.paste(text)
                console.wait_gone(asks)
                console.send("enter")
                console.wait_for(told)
            console.send("p")
            console.until(paged.exists, "pager")
            console.wait_for("EVIL (3)")
            console.steady(face, QUICK)
            console.send("W")
            console.wait_for("Export the log")
            console.press("ctrl+u")
            console.paste(str(exported))
            console.send("enter")
            console.wait_gone("Export the log")
            console.press("q")
            console.wait_for("lines are written to")
            console.send("ctrl+p")
            console.wait_for("Search for commands")
            console.paste(PASTED)
            console.wait_for("No matches found")
            console.press("escape", "q")
            if dialog(console.text):
                console.send("y")
            console.wait_exit()
            assert not acting(console.raw), sorted(set(acting(console.raw)))
            assert b"LIVE" in console.raw
            assert len(copied(console.raw)) >= len(PAGES)
            assert [unsafe_text(text) for text in copied(console.raw) if unsafe_text(text)] == []
            assert unsafe_text(paged.read_text()) == []
            (file,) = tmp_path.glob("ex*port")
            assert unsafe_text(file.read_text()) == []
            assert unsafe_text(file.name) == []


@pytest.mark.parametrize(("rows", "cols"), [(24, 80), (32, 130)], ids=["80x24", "130x32"])
def test_nothing_hostile_reaches_the_terminal_out_of_the_journal(tmp_path: Path, rows: int, cols: int) -> None:
    """Every text of the journal, who holds the engine, who paused it; also behind a broken journal."""
    with day(tmp_path, speed=1000) as site:
        with site.console() as console:
            console.ready()
            wanted = "select 1 from request where state in ('entitled', 'refused') group by state"
            console.until(lambda: len(site.all(wanted)) == 2 and len(site.all("select 1 from mail")) == 20, "mails")
            console.steady(face)
            console.press("enter")
            console.until(lambda: site.all("select 1 from request where state = 'staged'"), "run", 60)
            console.wait_for(" staged ")
            console.wait_gone("generating")
            console.press("q")
            if dialog(console.text):
                console.send("y")
            console.wait_exit()
        poison(site.journal)
        lock = site.journal.with_name(site.journal.name + ".engine")
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps({"who": HOSTILE, "via": HOSTILE, "since": HOSTILE, "pid": 1}))
            file.flush()
            with site.console("--read-only", rows=rows, cols=cols, **CLIPBOARD) as console:
                console.wait_for("EVIL")
                for ticket, state in site.all("select ticket, state from request group by state having id = min(id)"):
                    console.choose(ticket)
                    for key, head in OF_A_REQUEST.items():
                        if key != "m" or state in ("refused", "staged"):
                            visit(console, key, head)
                for key, head in PAGES.items():
                    visit(console, key, head)
                console.send("s", "tab", "tab", "tab", "tab")
                console.steady(face)
                lock.unlink()
                console.send("q")
                assert console.wait_exit() == 0
                assert not acting(console.raw), sorted(set(acting(console.raw)))
                assert b"LIVE" in console.raw
                assert [unsafe_text(text) for text in copied(console.raw) if unsafe_text(text)] == []


def test_the_search_finds_a_careless_widget(tmp_path: Path) -> None:
    """A widget that paints the text as it is: each kind of it is found."""
    program = tmp_path / "careless.py"
    program.write_text(
        "from textual.app import App\nfrom textual.widgets import Static\n"
        f"class Careless(App):\n    def compose(self):\n        yield Static({HOSTILE!r}, markup=False)\n"
        "    def on_ready(self):\n        self.console.bell(); self._driver.write('READY')\nCareless().run()\n"
    )
    with Terminal([sys.executable, program], cols=200) as terminal:
        terminal.wait_for_bytes(b"LIVE")
        found = acting(terminal.raw)
    assert any("]52;c" in one for one in found)
    assert any("\x1b[1337m" in one for one in found)
    assert {"\x9b", "\u202e", "\x00"} <= set(found)
