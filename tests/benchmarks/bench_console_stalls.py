"""How long the console's loop is ever held: on the sample day at fifty times its speed, while every key is pressed.

    python -m tests.benchmarks.bench_console_stalls [SECONDS]

The site is in this process; the console, with its engine, in one of its own, in a pty of 160x50. A clock in its loop
ticks every 5 ms, and each gap is kept with what was typed last. Nothing is required of a busy machine: the longest gaps
are printed, after the first second. Ends with 1 when a hundredth of them are over 50 ms.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.console_pty import Pty

TICK, MOST = 0.005, 0.05
KEYS = [
    "j", "j", "k", "G", "g", "n", "\t", "2", "w", "t", "f", "/", "copy\r", "n", "z", "z", "3", "]", "[", "1", "m", "l",
    "v", "\x10", "stage", "?", "R", "L", "M", "S", "H", "A", "i", "e", "t", "C", "/", "uid\r", "enter", "P", "I", "y",
]  # fmt: skip
"""Each is followed by an escape that closes what it opened; ctrl+p is the palette."""


def inside(config: str, told: str) -> None:
    """The console with a clock in its loop."""
    from aogconsole import app
    from aogconsole.cli.common import Session

    gaps: list[tuple[float, float, str]] = []

    class Watched(app.Console):
        """Tells what was done last."""

        CSS_PATH = str(Path(app.__file__).with_name("console.tcss"))

        async def _on_load(self) -> None:
            await super()._on_load()
            self._clock = asyncio.create_task(self._ticking())

        async def _ticking(self) -> None:
            begun = last = time.perf_counter()
            while True:
                await asyncio.sleep(TICK)
                now = time.perf_counter()
                where = f"{type(self.screen).__name__} {self._last_actions[-1][22:] if self._last_actions else ''}"
                gaps.append((now - begun, now - last - TICK, where))
                last = now

        def exit(self, *words: object, **options: object) -> None:
            """Leave the gaps behind."""
            Path(told).write_text(json.dumps(gaps))
            super().exit(*words, **options)

    Watched(Session(Path(config), read_only=False)).run()


def main(seconds: int = 60) -> int:
    """Work the keys, and print the gaps."""
    from tests.support.consoles import day

    with tempfile.TemporaryDirectory(prefix="aog-bench-") as name, day(Path(name), speed=50) as site:
        told = Path(name) / "gaps.json"
        env = {"HOME": name, "XDG_STATE_HOME": name}
        argv = [sys.executable, "-m", "tests.benchmarks.bench_console_stalls", str(site.site.config), str(told)]
        with Pty(argv, env) as terminal:
            terminal.wait(b"AOG console", b" all")
            terminal.rest(1.0)
            chosen, end = random.Random(1), time.monotonic() + seconds
            while time.monotonic() < end:
                for key in KEYS:
                    terminal.send(key.encode())
                    terminal.rest(chosen.uniform(0.05, 0.4))
                    terminal.send(b"\x1b[27u")
                    terminal.rest(0.05)
            os.kill(terminal.pid, 15)
            while not told.exists():
                terminal.pump(0.1)
        gaps = [(gap, where) for at, gap, where in json.loads(told.read_text()) if at > 1]
    waits = sorted(gap for gap, _ in gaps)
    p50, p99, most = (waits[int(len(waits) * part)] * 1e3 for part in (0.5, 0.99, 0.99999))
    print(f"{len(waits):,} gaps over {TICK * 1e3:.0f} ms: p50 {p50:.1f}, p99 {p99:.1f}, longest {most:.1f} ms")
    for gap, where in sorted(gaps, reverse=True)[:20]:
        print(f"  {gap * 1e3:6.1f} ms  {where}")
    return int(p99 >= MOST * 1e3)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        inside(*sys.argv[1:3])
    else:
        sys.exit(main(*map(int, sys.argv[1:])))
