"""Every verb on a journal of many years beside the same on a young one.

    python -m tests.benchmarks.bench_journal [ROUNDS] [SMALL] [LARGE]

Two journals with 1,000 and 100,000 closed requests, 27 a day up to today, and the same open ones. The verbs run in
this process, from their words to their output, each on one journal and then on the other, so that the time of a
start hides nothing; medians of the rounds and their ratio. The requirement: at most 1.5 for every verb. And the
engine's steps when nothing is to be done, and the start of one. `history --verify` and `backup` check and copy
everything by nature, and an engine's first look into the mailbox takes the keys of all mails into memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aogconsole import config, site
from aogconsole.cli.root import cli
from aogconsole.engine.bench import Bench
from aogconsole.engine.checking import Checking
from aogconsole.engine.loop import PROGRESSING
from aogconsole.engine.reading import Reading
from aogconsole.engine.retention import Retention
from aogconsole.engine.sending import Sending
from aogconsole.engine.staging import Staging
from aogconsole.errors import AogError
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal
from aogconsole.mailparser import MailParser
from tests.support import bigjournal
from tests.support.desk import Desk, request_mail

MOST = 1.5
OPEN_EACH = 2
"""Open requests of each kind and round: some verbs use one up."""
BY_NATURE = ("history --verify", "backup", "engine: first look into the mailbox")
ACTOR = Actor("bench@aog1", "bench 1")

Words = tuple[str, ...]
Step = Callable[[], Awaitable[None]]


@dataclass
class Subject:
    """One of the two journals, with its configuration, and what its verbs act on."""

    config: Path
    journal: Path
    took: dict[str, list[float]] = field(default_factory=dict)
    tickets: Iterator[int] = field(default_factory=lambda: itertools.count(9_000_000))

    def ids(self, sql: str) -> list[str]:
        """Ids from the journal, as words."""
        with contextlib.closing(Journal.open(self.journal, read_only=True)) as journal:
            return [str(row[0]) for row in journal.all(sql)]

    def call(self, name: str, *words: str, stdin: bytes = b"", keep: bool = True) -> str:
        """Run a verb, and keep its time; returns what it printed."""
        out, given = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO(stdin))
        gc.collect()
        before, sys.stdin = sys.stdin, given
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
                started = time.perf_counter()
                cli.main(["--config", str(self.config), *words], standalone_mode=False)
                out.flush()
                self.keep(name, started, keep=keep)
        except AogError as error:
            raise AssertionError(f"{' '.join(words)}: {error}") from error
        finally:
            sys.stdin = before
        out.seek(0)
        return out.read()

    def keep(self, name: str, started: float, *, keep: bool = True) -> None:
        """Keep the milliseconds since `started`."""
        milliseconds = (time.perf_counter() - started) * 1000
        if keep:
            self.took.setdefault(name, []).append(milliseconds)


def reading(subject: Subject) -> Iterator[tuple[str, Words, bytes]]:
    """The verbs that look."""
    closed = subject.ids("select id from request where state = 'closed' order by id desc limit 1")[0]
    run = subject.ids("select id from run where state = 'succeeded' order by id desc limit 1")[0]
    letter = subject.ids("select id from letter where state = 'sent' order by id desc limit 1")[0]
    (subject.journal.parent / "runs" / f"{run}.log").write_bytes(b"Looking for cluster node with low load ...\n" * 99)
    for words in (
        "requests", "requests --json", "requests --state closed", "requests --state held",
        "requests --ticket 1000500", "requests --search helper@eso.org", "requests --search 1000500",
        "requests --search X1f4", "requests --search zz", f"show {closed}", "mails", "runs", f"run {run}",
        f"log {run}", "letters", f"letter {letter}", "staged", "history", f"history {closed}", "handover", "doctor",
    ):  # fmt: skip
        name = " ".join(word for word in words.split() if word not in (closed, run, letter))
        yield name, tuple(words.split()), b""


def acting(subject: Subject) -> Iterator[tuple[str, Words, bytes]]:
    """The verbs that act, in an order in which each finds what it needs."""
    entitled, held, unclear, closed = (
        subject.ids(f"select id from request where state = '{state}' order by id desc limit 1")[0]  # noqa: S608
        for state in ("entitled", "held", "unclear", "closed")
    )
    (letter,) = subject.ids("select id from letter where state = 'draft' order by id limit 1")
    (refused,) = subject.ids("select request from letter where state = 'draft' order by id desc limit 1")
    (expert,) = subject.ids(f"select id from letter where request = {held} and kind = 'expert'")  # noqa: S608
    kept = subject.ids("select id from run where state = 'succeeded' and gone = 0 order by id desc limit 1")[0]
    why = ("--why", "to see how long it takes")
    text = subject.call("", "letter", letter, keep=False).encode()
    mail = request_mail(ticket=str(next(subject.tickets)))
    for verb, *words in (
        ("claim", entitled), ("claim", entitled, "--off"), ("note", entitled, "seen"), ("hold", entitled, *why),
        ("release", entitled), ("stage", entitled), ("move", entitled, "1"), ("recheck", entitled),
        ("correct", entitled, "--account", "del1", *why), ("close", entitled, *why), ("reopen", closed, *why),
        ("refuse", refused), ("refuse", unclear, "--as", "not_entitled", *why),
        ("edit", letter, "--file", "-"), ("approve", letter), ("send", letter), ("discard", letter),
        ("resend", expert, *why), ("rerun", held, *why), ("keep", kept), ("keep", kept, "--off"),
        ("stop", running(subject), *why), ("pause",), ("resume",), ("ingest", "-"),
    ):  # fmt: skip
        name = " ".join([verb, *(word for word in words if word in ("--off", "--as"))])
        yield name, (verb, *words), mail if verb == "ingest" else text if verb == "edit" else b""


def running(subject: Subject) -> str:
    """A run under way, as `stop` needs it: the newest failed one is put back, with its history."""
    with contextlib.closing(Journal.open(subject.journal)) as journal:
        run = journal.one("select id from run where state = 'failed' order by id desc limit 1")
        assert run
        journal.change("run", run[0], ACTOR, "started", origins={"failed"}, target="running", stop_asked_by=None)
        return str(run[0])


async def idle(subject: Subject, parser: MailParser, bench: Bench, steps: dict[str, Step]) -> None:
    """Every step of an engine with nothing to do, and the start of one."""
    for name, step in steps.items():
        started = time.perf_counter()
        await step()
        subject.keep(name, started)
    started = time.perf_counter()
    bench.journal.all(PROGRESSING)
    subject.keep("engine: anything left?", started)
    started = time.perf_counter()
    Checking(bench).recover()
    Sending(bench).recover()
    subject.keep("engine: recover", started)
    started = time.perf_counter()
    await Reading(bench, parser).step()
    subject.keep("engine: first look into the mailbox", started)


async def engines(subjects: list[Subject], rounds: int) -> None:
    """The engine's steps on both journals in turn, against the real site; the first round is not kept."""
    async with MailParser() as parser:
        benches = []
        for subject in subjects:
            loaded = config.load(subject.config)
            bench = site.bench(loaded, Journal.open(subject.journal), ACTOR)
            checking = Checking(bench)
            made = {
                "mail": Reading(bench, parser).step, "archive": checking.step,
                "staging": Staging(bench, checking).step, "outgoing": Sending(bench).step,
                "retention": Retention(bench).step,
            }  # fmt: skip
            steps: dict[str, Step] = {f"engine, idle: {name}": step for name, step in made.items()}
            benches.append((subject, parser, bench, steps))
        for number in range(rounds * 3 + 1):
            for one in benches:
                if number == 1:
                    one[0].took = {name: took for name, took in one[0].took.items() if not name.startswith("engine")}
                await idle(*one)
        for _, _, bench, _ in benches:
            if bench.host is not None:
                await bench.host.close()
            bench.journal.close()


def report(small: Subject, large: Subject) -> int:
    """Print medians and their ratio, the worst first; 1 when the requirement is missed.

    Missed is what is over it by the medians and by the least: whatever else the machine does only adds time.
    """
    rows = []
    for name, took in small.took.items():
        other = large.took[name]
        middle = statistics.median(other) / statistics.median(took)
        rows.append((middle, min(other) / min(took), name, statistics.median(took)))
    missed = [row for row in rows if min(row[:2]) > MOST and row[2] not in BY_NATURE]
    print(f"{'':40} {'small':>9} {'large':>9} {'ratio':>6} {'of the least':>13}")
    for row in sorted(rows, reverse=True):
        middle, least, name, took_small = row
        mark = "  by nature" if name in BY_NATURE else "  OVER" if row in missed else ""
        print(f"{name:40} {took_small:6.1f} ms {middle * took_small:6.1f} ms {middle:6.2f} {least:13.2f}{mark}")
    return int(bool(missed))


def subjects_of(desk: Desk, folder: Path, sizes: tuple[int, int], open_: int) -> list[Subject]:
    """The journals, each with the site's configuration but for their path."""
    found, foundry = [], bigjournal.Foundry(desk)
    for size in sizes:
        path = folder / str(size) / "journal.db"
        started = time.perf_counter()
        foundry.fill(path, size, open_)
        took = time.perf_counter() - started
        print(f"{size} closed requests, {path.stat().st_size >> 20} MiB, made in {took:.0f} s", flush=True)
        written = desk.config.with_name(f"{size}.toml")
        written.write_text(desk.config.read_text().replace('"state/journal.db"', f'"{path}"'))
        found.append(Subject(written, path))
    return found


def main(rounds: int, *sizes: int) -> int:
    """Make the journals, then measure; 1 when the requirement is missed."""
    with bigjournal.site() as desk, tempfile.TemporaryDirectory(prefix="aog-bench-") as folder:
        small, large = subjects_of(desk, Path(folder), (sizes[0], sizes[1]), 4 * OPEN_EACH * (rounds + 1))
        os.environ["AOG_TEST_ORACLE"] = desk.environment["AOG_TEST_ORACLE"]
        asyncio.run(engines([small, large], rounds))
        for number in range(rounds + 1):  # the first fills the caches
            for verbs in (reading, acting):
                for first, second in zip(verbs(small), verbs(large), strict=True):
                    turns = [(small, first), (large, second)]
                    for subject, (name, words, stdin) in turns if number % 2 else reversed(turns):
                        subject.call(name, *words, stdin=stdin, keep=number > 0)
        for subject in (small, large):
            subject.call("history --verify", "history", "--verify")
            subject.call("backup", "backup", str(subject.journal.parent / "copy"))
        return report(small, large)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*(numbers + [11, 1_000, 100_000][len(numbers) :])))
