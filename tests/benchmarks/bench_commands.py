"""`aogconsole requests` beside `python -c 'import sqlite_utils'`, as whole processes.

    python -m tests.benchmarks.bench_commands [ROUNDS] [CLOSED]

The commands take turns, so that what else the machine does meets all of them; medians of the rounds, the least, and
their ratios to the import. The requirement: at most 1.6 with 10,000 requests in the journal. Then what each side
imports, by the time that its own module takes.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from tests.support import bigjournal

MOST = 1.6
OPEN = 20
BARE = (sys.executable, "-c", "pass")
IMPORT = (sys.executable, "-c", "import sqlite_utils")
TOP = 15


def timed(argv: tuple[str, ...]) -> float:
    """Milliseconds from start to end."""
    started = time.perf_counter()
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - started) * 1000


def imports(argv: tuple[str, ...]) -> dict[str, int]:
    """Microseconds that each imported module takes by itself."""
    command = [sys.executable, "-X", "importtime", *argv[1:]]
    told = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=True).stderr
    return {name: int(own) for own, name in re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", told, re.M)}


def measure(config: Path, rounds: int) -> int:
    """Measure and print; 1 when the requirement is missed."""
    script = str(Path(sysconfig.get_path("scripts")) / "aogconsole")
    ways = {
        "python -c pass": BARE,
        "python -c 'import sqlite_utils'": IMPORT,
        "aogconsole requests": (script, "--config", str(config), "requests"),
        "aogconsole requests --json": (script, "--config", str(config), "requests", "--json"),
        "aogconsole requests --ticket": (script, "--config", str(config), "requests", "--ticket", "1000777"),
        "aogconsole show": (script, "--config", str(config), "show", "2"),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, argv in ways.items():
            milliseconds = timed(argv)
            if number:  # the first of each fills the caches
                took[name].append(milliseconds)
    base = took["python -c 'import sqlite_utils'"]
    print(f"{'median of ' + str(rounds):34} {'ms':>6} {'least':>6} {'ratio':>6} {'of the least':>13}")
    for name, times in took.items():
        middle, least = statistics.median(times), min(times)
        print(f"{name:34} {middle:6.0f} {least:6.0f} {middle / statistics.median(base):6.2f} {least / min(base):13.2f}")
    explain(ways["aogconsole requests"])
    return int(statistics.median(took["aogconsole requests"]) > MOST * statistics.median(base))


def explain(argv: tuple[str, ...]) -> None:
    """Print what both sides import, and what only one of them does."""
    bare, theirs, ours = imports(BARE), imports(IMPORT), imports((sys.executable, *argv))
    for title, found in (
        ("imported by sqlite_utils", {name: own for name, own in theirs.items() if name not in bare}),
        ("imported by aogconsole requests", {name: own for name, own in ours.items() if name not in bare}),
        ("of these, not by sqlite_utils", {name: own for name, own in ours.items() if name not in theirs}),
    ):
        print(f"\n{title}: {len(found)} modules, {sum(found.values()) / 1000:.0f} ms")
        for name, own in sorted(found.items(), key=lambda item: -item[1])[:TOP]:
            print(f"{own / 1000:8.1f} ms  {name}")


def main(rounds: int, requests: int) -> int:
    """Make the journal, then measure; 1 when the requirement is missed."""
    with tempfile.TemporaryDirectory(prefix="aog-bench-") as folder:
        with bigjournal.site() as desk:
            bigjournal.Foundry(desk).fill(Path(folder) / "journal.db", requests - OPEN, OPEN)
        config = Path(folder) / "config.toml"
        config.write_text('[journal]\npath = "journal.db"\n')
        return measure(config, rounds)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*(numbers + [31, 10_000][len(numbers) :])))
