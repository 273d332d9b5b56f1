"""The console on a queue of 100,000 requests beside one of 1,000: when its lines are seen, and when a filter's are.

    python -m tests.benchmarks.bench_console_queue [ROUNDS] [SMALL] [LARGE]

Four journals: SMALL and LARGE open requests; as many closed ones and 300 open. Whole consoles in a pty of 160x50, in
turns, each from its start to a line of the queue, and from the last letter typed into the filter to the line it leaves,
and to the list without it. Their engines stand by: there is no site to work on. Required of the medians: at most 1.5.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aogconsole.engine.lock import EngineLock
from aogconsole.journal.history import Actor
from tests.benchmarks.bench_console_start import console
from tests.benchmarks.console_pty import Pty
from tests.support import bigjournal

MOST = 1.5
OPEN = 300
"""Open requests beside the closed ones."""
CONFIG = """
[journal]
path = "journal.db"
syslog = ""
[archive]
dsn = "127.0.0.1:9/ALMA"
password = "env:AOG_NONE"
[mail]
inbox = "maildir:inbox"
outgoing = "maildir:outbox"
"""
LINE = b"uid___A001_"
"""In every line of the queue, and nowhere else before one is selected."""


def journals(folder: Path, small: int, large: int) -> Iterator[tuple[str, Path]]:
    """The four, each in a folder with its configuration."""
    with bigjournal.site() as desk:
        foundry = bigjournal.Foundry(desk)
        for name, closed, open_ in (
            (f"{small:,} open", 0, small), (f"{large:,} open", 0, large),
            (f"{small:,} closed", small, OPEN), (f"{large:,} closed", large, OPEN),
        ):  # fmt: skip
            place = folder / name.replace(" ", "-")
            place.mkdir()
            (place / "config.toml").write_text(CONFIG)
            foundry.fill(place / "journal.db", closed, open_)
            yield name, place


@contextlib.contextmanager
def held(journal: Path) -> Iterator[None]:
    """Somebody else has the engine."""
    lock = EngineLock(journal)
    assert lock.take(Actor("bench@aog1", "bench 1"))
    try:
        yield
    finally:
        lock.give_up()


def measure(place: Path, env: dict[str, str | None], wanted: str) -> dict[str, float]:
    """Seconds to the queue's lines, to those of a filter, and back to all (escape as terminals send it that mean it,
    for a bare one waits to be told apart); nobody has filtered here before."""
    took = {}
    with Pty(console(place / "config.toml"), env | {"XDG_STATE_HOME": tempfile.mkdtemp(dir=place)}) as terminal:
        took["lines"] = terminal.wait(LINE) - terminal.begun
        terminal.settle()
        terminal.send(b"/" + wanted[:-1].encode())
        terminal.settle()
        took["filter"] = -terminal.send(wanted[-1:].encode()) + terminal.wait(f"'{wanted}'".encode(), b": 1 found")
        terminal.settle()
        terminal.send(b"\r")
        terminal.settle()
        took["all again"] = -terminal.send(b"\x1b[27u") + terminal.wait(b" open")
    return took


def main(rounds: int = 7, small: int = 1000, large: int = 100_000) -> int:
    """Measure and print; how many requirements were missed."""
    missed = 0
    with tempfile.TemporaryDirectory(prefix="aog-bench-") as name:
        folder = Path(name)
        env: dict[str, str | None] = {
            "HOME": name, "AOG_NONE": "x", "PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": name + "/pyc"
        }  # fmt: skip
        made = list(journals(folder, small, large))
        found: dict[str, dict[str, list[float]]] = {title: {} for title, _ in made}
        for count in range(rounds + 1):
            for title, place in made:
                with held(place / "journal.db"):
                    took = measure(place, env, "1000077")  # a ticket that each of them has once
                for what, seconds in took.items():
                    if count:  # the first brings the files into memory
                        found[title].setdefault(what, []).append(seconds)
        for one, other in ((0, 1), (2, 3)):
            for what in ("lines", "filter", "all again"):
                few, many = (statistics.median(found[made[at][0]][what]) * 1e3 for at in (one, other))
                print(f"{what:10}{made[one][0]:>15} {few:5.0f} ms{made[other][0]:>15} {many:5.0f} ms  {many / few:.2f}")
                missed += many / few > MOST
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])) > 0)
