"""Engines that are killed at a place of our choice: the real engine on the real adapters, in forked processes.

A place is named after what happens there (`commit started`, `host.start`, `outbox.send`), the moment (`before`,
`inside`, `after`), and how often this process has been there (`#1`). `inside` a commit SIGKILL comes from a thread
while SQLite writes; `inside` a call it comes while the answer is under way.

This process imports everything once and forks an engine for each line it reads: `{"config", "end", "delay", "broken"}`.
It answers with the engine's exit status (-9: killed) and the places it came to.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

from aogconsole import config, site
from aogconsole.engine.bench import Bench
from aogconsole.engine.lock import EngineLock
from aogconsole.engine.loop import Engine
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal
from backends import maildir, oracle, outbox_maildir, smtp, ssh
from backends.ports import Archive, Inbox, Outbox, StagingHost

IMPORTED = (maildir, oracle, outbox_maildir, smtp, ssh)
"""Adapters that the site imports when it builds them: here before the fork, so that each engine starts at once."""
QUICKEN = 20.0
PATIENCE = 40.0
"""Seconds for an engine to be killed or idle; more is a hang."""
COMMITTING = 0.0002
"""Seconds into a commit at which it is cut short: about where SQLite writes and syncs."""
SOON = 0.01
"""Seconds into a call, unless the test says another number."""


class Fate:
    """Where this process ends: when it comes to a place for the nth time. Tells the places it comes to."""

    def __init__(self, end: str, delay: float, told: int) -> None:
        self._end = end
        self._told = told
        self.delay = delay
        self._times: Counter[str] = Counter()

    def meets(self, place: str) -> bool:
        """Note that the process came to a place; whether it is the end."""
        self._times[place] += 1
        name = f"{place} #{self._times[place]}"
        os.write(self._told, f"{name}\n".encode())
        return name == self._end

    def at(self, place: str) -> None:
        """Come to a place, and perhaps no further."""
        if self.meets(place):
            die()


def die() -> None:
    """As `kill -9` does it."""
    os.kill(os.getpid(), signal.SIGKILL)


class FrailJournal(Journal):
    """The journal, with places before, in and after each commit; named after the history rows that it brings."""

    fate: Fate
    _verbs: list[str]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """See Journal."""
        if self.connection.in_transaction:
            yield
            return
        self._verbs = []
        with super().transaction():
            yield
            place = f"commit {'+'.join(self._verbs) or 'progress'}"
            self.fate.at(f"{place} before")
            inside = self.fate.meets(f"{place} inside")
            if inside:
                threading.Timer(COMMITTING, die).start()
        if inside:
            time.sleep(PATIENCE)
        self.fate.at(f"{place} after")

    def record(self, actor: Actor, verb: str, *rest: Any, **values: Any) -> None:
        """See Journal."""
        self._verbs.append(verb)
        super().record(actor, verb, *rest, **values)


class Frail:
    """An adapter, with places before, in and after each of its calls, and after each piece of a stream."""

    def __init__(self, name: str, adapter: object, fate: Fate, replaced: Mapping[str, object]) -> None:
        self._name = name
        self._adapter = adapter
        self._fate = fate
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        if name in self._replaced:
            return self._replaced[name]
        found = getattr(self._adapter, name)
        if name == "close":
            return found
        if inspect.isasyncgenfunction(found):
            return partial(self._stream, f"{self._name}.{name}", found)
        if inspect.iscoroutinefunction(found):
            return partial(self._call, f"{self._name}.{name}", found)
        return found

    async def _call(self, place: str, call: Callable[..., Any], *words: Any) -> Any:
        self._fate.at(f"{place} before")
        inside = self._fate.meets(f"{place} inside")
        if inside:
            asyncio.get_running_loop().call_later(self._fate.delay, die)
        answer = await call(*words)
        if inside:
            await asyncio.sleep(PATIENCE)
        self._fate.at(f"{place} after")
        return answer

    async def _stream(self, place: str, call: Callable[..., Any], *words: Any) -> AsyncIterator[Any]:
        self._fate.at(f"{place} before")
        async with contextlib.aclosing(call(*words)) as pieces:
            async for piece in pieces:
                self._fate.at(f"{place} inside")
                yield piece
        self._fate.at(f"{place} after")


def forget_tokens(journal: Journal) -> None:
    """Broken: the token of a start is not the one that was committed, but chosen anew by each engine."""
    with journal.transaction():
        for row in journal.all("select id from run where state = 'starting'"):
            journal.connection.execute("update run set token = ? where id = ?", (secrets.token_hex(16), row["id"]))


async def engine(file: Path, fate: Fate, broken: str) -> None:
    """The engine until it is idle, or at its end."""
    loaded = config.load(file)
    FrailJournal.fate = fate
    journal = FrailJournal.open(loaded.journal_path)
    actor = Actor("engine@test", f"engine {os.getpid()}")
    assert EngineLock(loaded.journal_path).take(actor)
    bench = site.bench(loaded, journal, actor)
    bench.quicken = QUICKEN
    wrapped(bench, fate, broken)
    if broken == "token":
        forget_tokens(journal)
    running = Engine(bench)
    running.recover()
    async with asyncio.timeout(PATIENCE):
        await running.run(until_idle=True)
    journal.close()


def wrapped(bench: Bench, fate: Fate, broken: str) -> None:
    """Put places around every adapter. Broken `certain`: mail handed to a server is believed to be found again."""
    bench.inbox = cast(Inbox, Frail("inbox", bench.inbox, fate, {}))
    bench.archive = cast(Archive, Frail("archive", bench.archive, fate, {}))
    bench.host = cast(StagingHost, Frail("host", bench.host, fate, {}))
    certain = {"certain": True} if broken == "certain" else {}
    bench.outbox = cast(Outbox, Frail("outbox", bench.outbox, fate, certain))


def forked(order: dict[str, Any]) -> dict[str, Any]:
    """Fork an engine and wait for its end."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            fate = Fate(order["end"], order["delay"], writing)
            asyncio.run(engine(Path(order["config"]), fate, order["broken"]))
            status = 0
        except BaseException:
            logging.exception("the engine")
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as told:
        places = told.read().splitlines()
    _, status = os.waitpid(child, 0)
    return {"status": os.waitstatus_to_exitcode(status), "places": places}


def main() -> None:
    """Fork an engine for each line of standard input."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    assert threading.active_count() == 1, "a fork would take the others' locks along"
    for line in sys.stdin:
        print(json.dumps(forked(json.loads(line))), flush=True)


class Driver:
    """The test's end of it. A context manager."""

    def __init__(self, file: Path, environment: Mapping[str, str], log: Path) -> None:
        self._file = file
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.driver"],
                cwd=Path(__file__).parents[2],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(20)

    def run(self, end: str = "", broken: str = "", delay: float = SOON) -> tuple[int, list[str]]:
        """One engine: until it is idle, or killed at `end`. Its exit status, and the places it came to."""
        assert self._process.stdin
        assert self._process.stdout
        order = {"config": str(self._file), "end": end, "delay": delay, "broken": broken}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["status"], answer["places"]


if __name__ == "__main__":
    main()
