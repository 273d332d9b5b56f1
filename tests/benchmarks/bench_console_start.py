"""How soon the console is seen, beside the smallest app that Textual can make; and what it costs while nobody uses it.

    python -m tests.benchmarks.bench_console_start [ROUNDS] [SECONDS]

Whole processes in a pty of 160x50, one after the other in turns, from their start to the last byte of their first
frame; the console with its engine, on a journal with a few requests. Required: at most 1.6 times the smallest app's
(the median of the pairs), and under 1 % of a core at rest. Ends with 1 when one is missed.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.console_pty import Pty, processor
from tests.support import bigjournal
from tests.support.desk import Desk

SMALLEST = """
from textual.app import App
from textual.widgets import Label

class Smallest(App):
    def compose(self):
        yield Label("first paint")

Smallest().run()
"""
FIRST = (b"AOG console", b"Re-ingestion", b" quit")
"""The title, the last pane, and the last line's last key."""
MOST, MOST_AT_REST = 1.6, 0.01


def paints(argv: list[str], wanted: tuple[bytes, ...], env: dict[str, str | None]) -> tuple[float, float]:
    """Seconds to the first paint, and of the processor for it."""
    with Pty(argv, env) as terminal:
        took = terminal.wait(*wanted) - terminal.begun
        return took, processor(terminal.pid)


@contextlib.contextmanager
def furnished() -> Iterator[tuple[Desk, dict[str, str | None]]]:
    """A site after its day, with the intervals of a real one; and the environment of a console on it."""
    with bigjournal.site() as desk, tempfile.TemporaryDirectory(prefix="aog-bench-") as home:
        desk.configure("ask")
        desk.config.write_text(desk.config.read_text().replace("poll = 0.2", "poll = 60"))
        password = desk.environment["AOG_TEST_ORACLE"]
        yield desk, {
            "AOG_TEST_ORACLE": password, "HOME": home, "XDG_STATE_HOME": home,
            "PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": home,  # compiled, as what is installed is
        }  # fmt: skip


def console(config: Path, *words: str) -> list[str]:
    """The console's command line."""
    return [str(Path(sys.executable).with_name("aogconsole")), "--config", str(config), *words]


def start(desk: Desk, env: dict[str, str | None], rounds: int) -> float:
    """First paints in turns; the median of the ratios."""
    took: dict[str, list[tuple[float, float]]] = {"smallest": [], "console": []}
    for _ in range(rounds + 1):
        took["smallest"].append(paints([sys.executable, "-P", "-c", SMALLEST], (b"first paint",), env))
        took["console"].append(paints(console(desk.config), FIRST, env))
    print(f"first paint of {rounds}: median and least in ms, of the processor in ms")
    for name, pairs in took.items():
        del pairs[0]  # files come from the disk, and are compiled
        wall, core = zip(*pairs, strict=True)
        print(
            f"  {name:10}{statistics.median(wall) * 1e3:6.0f} {min(wall) * 1e3:6.0f}"
            f"  {statistics.median(core) * 1e3:6.0f} {min(core) * 1e3:6.0f}"
        )
    ratios = [(b[0] / a[0], b[1] / a[1]) for a, b in zip(took["smallest"], took["console"], strict=True)]
    ratio, core = [statistics.median(column) for column in zip(*ratios, strict=True)]
    least = min(wall for wall, _ in took["console"]) / min(wall for wall, _ in took["smallest"])
    print(f"  ratio {ratio:.2f} (at most {MOST}), of the least {least:.2f}, of processor time {core:.2f}")
    return float(ratio)


def at_rest(desk: Desk, env: dict[str, str | None], seconds: float) -> float:
    """The console's share of a core when nothing happens."""
    with Pty(console(desk.config), env) as terminal:
        terminal.wait(*FIRST)
        terminal.rest(6.0)  # the engine's start is over
        engine = terminal.children[0]
        before, written = [processor(terminal.pid), processor(engine)], terminal.written
        terminal.rest(seconds)
        shares = [(processor(pid) - was) / seconds for pid, was in zip((terminal.pid, engine), before, strict=True)]
        print(
            f"at rest, {seconds:g} s: console {shares[0]:.2%} of a core (under {MOST_AT_REST:.0%}),"
            f" engine {shares[1]:.2%}, {(terminal.written - written) / seconds:.0f} bytes/s to the terminal"
        )
    return shares[0]


def main(rounds: int = 15, seconds: int = 20) -> int:
    """Measure and print; 1 when a requirement is missed."""
    with furnished() as (desk, env):
        ratio, share = start(desk, env, rounds), at_rest(desk, env, seconds)
    return int(ratio > MOST or share >= MOST_AT_REST)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
