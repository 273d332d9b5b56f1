"""The whole console in a real terminal: how soon a key is answered while logs pour in, and what a large log takes.

    python -m tests.benchmarks.bench_console [SECONDS] [LINES_A_SECOND]

A journal of forty requests whose two runs are on, in a pty of 160x50; a process of its own writes the lines into the
runs' files. The engine is another's, so that the console's child stands by. The key moves the cursor in the queue, and
its answer is the painted line; the panel of the request follows. Textual's own widgets are measured beside, in a bare
app. Required: p50 at most 2 x that of the console at rest and p95 under 100 ms with 50,000 lines a second in each pane;
p50 under 0.5 s over 1 Mbit/s; under 60 MB over the console at rest for 5 million lines. Ends with 1 when one is missed.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aogconsole import boards
from aogconsole.board import Query
from aogconsole.journal.store import Journal
from aogconsole.settings import Settings
from tests.benchmarks import bench_logpane
from tests.benchmarks.bench_console_queue import CONFIG, held
from tests.benchmarks.bench_console_start import FIRST, console
from tests.benchmarks.bench_logpane import LINE, MBIT, WRITER
from tests.benchmarks.console_pty import Pty, memory, processor
from tests.support import bigjournal

REQUESTS, LINES = 40, 5_000_000
ROUNDS = 3
Environment = dict[str, str | None]


@dataclass
class Subject:
    """A journal, the files of its two runs, and the tickets in the order of the queue."""

    folder: Path
    logs: list[Path]
    tickets: list[str]
    env: Environment

    def start(self, *, link: int = 0) -> Pty:
        """A console on it that has come to rest, with logs of a thousand lines."""
        for log, first in zip(self.logs, (0, 1000), strict=True):
            log.write_bytes(b"".join(LINE % number for number in range(first, first + 1000)))
        return self.restart(999, link=link)

    def restart(self, last: int, *, link: int = 0) -> Pty:
        """The same with the logs as they are; `last` is the first one's last line."""
        env = self.env | {"XDG_STATE_HOME": tempfile.mkdtemp(dir=self.folder)}
        ssh: Environment = {"SSH_CONNECTION": "192.0.2.1 1 192.0.2.2 22"} if link else {}
        terminal = Pty(console(self.folder / "config.toml"), env | ssh, link=link)
        try:
            terminal.wait(*FIRST, b"%09d" % last, b"%09d" % 1999)
            terminal.settle()
        except TimeoutError:
            terminal.close()
            raise
        return terminal


@contextlib.contextmanager
def furnished() -> Iterator[Subject]:
    """The subject, while another has its engine."""
    with tempfile.TemporaryDirectory(prefix="aog-bench-") as name:
        folder = Path(name)
        with bigjournal.site() as desk:
            bigjournal.Foundry(desk).fill(folder / "journal.db", 0, REQUESTS)
        logs = bigjournal.set_running(folder / "journal.db")
        with contextlib.closing(Journal.open(folder / "journal.db", read_only=True)) as journal:
            needy = [line.ticket for line in boards.read(journal, Settings(), Query()).lines if line.needs]
        (folder / "config.toml").write_text(CONFIG)
        env: Environment = {
            "HOME": name, "AOG_NONE": "x", "PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": name + "/pyc"
        }  # fmt: skip
        with held(folder / "journal.db"):
            yield Subject(folder, logs, needy, env)


@contextlib.contextmanager
def pouring(rate: int, logs: list[Path]) -> Iterator[None]:
    """So many lines a second into each of the files."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(rate), *map(str, logs)])
    try:
        yield
    finally:
        writer.kill()
        writer.wait()


Found = tuple[float, float, float, float]
"""Milliseconds to paint, p50 and p95; share of a core; kB a second written to the terminal."""


def latency(subject: Subject, rate: int, seconds: float, *, link: int = 0) -> Found:
    """Of the key that moves the cursor, down the first screenful and up again."""
    places = itertools.cycle([*range(1, 15), *range(13, -1, -1)])
    chosen, took, at = random.Random(1), [], 0
    with contextlib.ExitStack() as ends:
        terminal = ends.enter_context(subject.start(link=link))
        if rate:
            ends.enter_context(pouring(rate, subject.logs))
        terminal.rest(2.0)
        core, written, begun = processor(terminal.pid), terminal.written, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            terminal.rest(chosen.uniform(0.05, 0.15) * (3 if link else 1))
            before, at = at, next(places)
            sent = terminal.send(b"j" if at > before else b"k")
            took.append((terminal.wait(b">  " + subject.tickets[at].encode()) - sent) * 1e3)
        lasted = time.perf_counter() - begun
        core, written = processor(terminal.pid) - core, terminal.written - written
    took.sort()
    return statistics.median(took), took[int(len(took) * 0.95)], core / lasted, written / lasted / 1e3


def middle(rows: list[Found]) -> Found:
    """The median of each."""
    p50, p95, core, written = (statistics.median(column) for column in zip(*rows, strict=True))
    return p50, p95, core, written


def keys(subject: Subject, rate: int, seconds: float) -> int:
    """Key to paint, ours at rest and under the lines, Textual's widgets beside; what is missed."""
    found: dict[tuple[str, int], list[Found]] = {}
    for _ in range(ROUNDS):
        for lines in (0, rate):
            found.setdefault(("console", lines), []).append(latency(subject, lines, seconds))
        for kind, lines in (("log", rate), ("richlog", 1000)):
            found.setdefault((kind, lines), []).append(bench_logpane.latency(kind, lines, seconds, subject.folder))
    print(f"{'':10}{'lines/s':>9} {'p50 ms':>8} {'p95 ms':>8} {'core':>6} {'kB/s':>7}   (medians of {ROUNDS})")
    for (kind, lines), rows in found.items():
        p50, p95, core, written = middle(rows)
        print(f"{kind:10}{lines:9,} {p50:8.1f} {p95:8.1f} {core:6.0%} {written:7.0f}")
    idle, busy = middle(found["console", 0]), middle(found["console", rate])
    print(f"p50 over that at rest {busy[0] / idle[0]:.2f} (at most 2), p95 {busy[1]:.0f} ms (under 100)")
    slow = latency(subject, rate, seconds * 2, link=MBIT)
    print(f"over 1 Mbit/s: p50 {slow[0]:.0f} ms (under 500), p95 {slow[1]:.0f} ms, {slow[3]:.0f} kB/s")
    return (busy[0] > 2 * idle[0]) + (busy[1] >= 100) + (slow[0] >= 500)


def large(subject: Subject) -> int:
    """What a log of five million lines takes over a small one; what is missed."""
    resident: dict[str, list[float]] = {"small": [], "large": []}
    for _ in range(ROUNDS):
        with subject.start() as terminal:
            terminal.rest(4.0)
            resident["small"].append(memory(terminal.pid))
        with subject.logs[0].open("wb") as file:
            for start in range(0, LINES, 10_000):
                file.write(b"".join(LINE % number for number in range(start, start + 10_000)))
        with subject.restart(LINES - 1) as terminal:
            terminal.rest(8.0)
            resident["large"].append(memory(terminal.pid))
    small, over = (statistics.median(resident[name]) for name in ("small", "large"))
    over -= small
    print(f"{LINES:,} lines: {over:+.1f} MB over {small:.1f} MB with a small log (under 60)")
    return over >= 60


def main(seconds: int = 6, rate: int = 50_000) -> int:
    """Measure and print; how many requirements were missed."""
    with furnished() as subject:
        return keys(subject, rate, seconds) + large(subject)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])) > 0)
