"""The demo's re-ingestion: loader and runner on the embedded archive, a broker in memory, and an NGAS on loopback.

All of it lives in one thread with a loop of its own, as the broker is this process'; the workflows are processes, as
the launcher `local` starts them. All but the tables begins after the console's first paint; it ends with the demo.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from aogconsole import times
from aogconsole.config import Config, load, to_toml
from aogconsole.demo.arrivals import Arrivals
from aogconsole.demo.ngas import DemoNgas
from aogconsole.demo.reingestionday import ReingestionDay
from aogconsole.errors import OutsideError
from aogconsole.reingestion.item import ACTIVE, SENDABLE, Item, Queue, State
from aogconsole.reingestion.messages import Ended
from aogconsole.reingestion.steering import LOADER
from backends.broker_ports import Broker
from backends.reingestion_ports import Launcher, Metadata, Tracking

if TYPE_CHECKING:
    from aogconsole.demo.archive import SqliteArchive
    from aogconsole.reingestion.loader import Loader
    from aogconsole.reingestion.runner import Runner
    from aogconsole.reingestion.workflows.telling import Teller

NAME = "re-ingestion"
LATER = 2.0
"""Seconds until it begins, for the console's first paint to be over."""
INTERVAL, RETRY = 10.0, 15.0
"""Seconds, at speed 1, between the loader's cycles and before another attempt."""
QUICK = 10.0
"""From this speed on nobody watches: it looks more often, and the loader is told of what arrives."""
GRACE = 8.0
"""Seconds for workflows that run at the end of a demo whose folder is kept; then they are killed."""
LONGEST = 60.0
"""Seconds for the whole day, beside the pauses between its steps."""
BUSY = ACTIVE | SENDABLE | {State.QUEUED}
CONFIG = """
[metadata]
dsn = "sqlite:state/metadata.db"

[broker]
url = {broker}

[ngas]
url = {ngas}
timeout = 20

[reingestion]
interval = {interval:.3f}
retry_delay = {retry:.3f}
limit = 2
attempts = 2
launcher = "local"
"""
log = logging.getLogger("aogconsole")


class DemoReingestion:
    """A context manager; `begin` starts it. What loader and runner say goes into `state/reingestion.log`."""

    def __init__(
        self, day: ReingestionDay, archive: SqliteArchive, folder: Path, speed: float, *, later: float, kept: bool
    ) -> None:
        """`later`: seconds until it begins. `kept`: whether there may be a next start in this folder.

        Raises OSError when NGAS cannot listen."""
        self._day, self._speed, self._later, self._kept = day, speed, later, kept
        self._state = folder / "state"
        self._look = 0.1 if speed >= QUICK else 1.0
        self._ngas = DemoNgas(speed)
        self._arrivals = Arrivals(day, archive, self._ngas, self._state / "arrivals.json")
        self._broker = f"memory:{hashlib.sha256(bytes(folder)).hexdigest()[:8]}"
        self._ended = threading.Event()
        self._over: Future[list[str]] = Future()
        """What was not as expected, once all of the day has happened; only when it is asked for."""
        self._asked = threading.Event()
        self._config: Path | None = None
        self._thread = threading.Thread(target=self._live, name=NAME, daemon=True)

    @property
    def settings(self) -> str:
        """Its part of the configuration."""
        return CONFIG.format(
            broker=to_toml(self._broker), ngas=to_toml(self._ngas.url), interval=max(1.0, INTERVAL / self._speed),
            retry=RETRY / self._speed,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def begin(self, config: Path) -> None:
        """Start it, with the demo's configuration."""
        self._config = config
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._end_workflows()
        self._ngas.close()

    def surprises(self) -> list[str]:
        """Wait until the day is over; what was not as expected, a sentence each. Raises OutsideError."""
        self._asked.set()
        most = LONGEST + len(self._day.steps) * 60 / self._speed
        try:
            return self._over.result(most)
        except TimeoutError:
            raise OutsideError(
                f"the re-ingestion's day did not end within {most:.0f} s",
                f"{self._state / 'reingestion.log'} tells what it did",
            ) from None

    # ── in the thread ────────────────────────────────────────────────────────────────────────────────────────

    def _live(self) -> None:
        assert self._config is not None  # noqa: S101
        try:
            with _logged(self._state / "reingestion.log"):
                try:
                    config = load(self._config)
                    asyncio.run(_made(config))
                    if not self._ended.wait(self._later):
                        asyncio.run(self._work(config))
                except Exception as error:
                    self._broken(error)
        except OSError as error:  # there is no room for its log
            self._tell(error)

    def _broken(self, error: BaseException) -> None:
        """Something that goes on until the end has ended before."""
        log.error("the demo's re-ingestion is broken", exc_info=error)
        self._tell(error)

    def _tell(self, error: BaseException) -> None:
        if not self._over.done():
            self._over.set_exception(OutsideError(f"the demo's re-ingestion is broken: {error!r}"))

    def _ended_early(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken(error)

    async def _work(self, config: Config) -> None:
        from aogconsole import reingestionsite as site
        from aogconsole.reingestion.workflows.telling import Teller

        await asyncio.to_thread(self._arrivals.again)
        async with contextlib.AsyncExitStack() as ends:
            metadata, broker = _connected(config, ends)
            await ends.enter_async_context(self._ngas.serving())
            await broker.declare()
            launcher, table = site.launcher(config, broker), metadata.tracking(Queue.ALMA)
            loader, runner = self._loader(config, ends), self._runner(config, ends)
            teller = Teller(broker, site.sender(), site.event_types(config))
            running = asyncio.create_task(runner.run())
            others = [
                asyncio.create_task(loader.run()),
                asyncio.create_task(self._herald(metadata, launcher, teller)),
                asyncio.create_task(self._arrive(metadata)),
                asyncio.create_task(self._watch(metadata, table)),
            ]
            for task in (running, *others):
                task.add_done_callback(self._ended_early)
            await asyncio.to_thread(self._ended.wait)
            runner.stop()
            self._ngas.hurry()
            for task in others:
                task.cancel()
            await asyncio.gather(running, *others, return_exceptions=True)
            await self._last_words(table, launcher)

    def _loader(self, config: Config, ends: contextlib.AsyncExitStack) -> Loader:
        from aogconsole import reingestionsite as site
        from aogconsole.cli.loader import rules
        from aogconsole.reingestion.loader import Loader, Outside, Pace

        metadata, broker = _connected(config, ends)
        watcher = site.watcher(config)
        pace = Pace(poll=self._look, between=self._look / 2) if self._speed >= QUICK else Pace()
        return Loader(
            Outside(metadata, broker, site.news(config)), lambda: rules(watcher.fresh()), _by("loader"), pace=pace
        )  # fmt: skip

    def _runner(self, config: Config, ends: contextlib.AsyncExitStack) -> Runner:
        from aogconsole import reingestionsite as site
        from aogconsole.cli.runner import rules
        from aogconsole.reingestion.runner import Runner
        from aogconsole.reingestion.station import Outside, Pace, Station

        metadata, broker = _connected(config, ends)
        watcher = site.watcher(config)
        outside = Outside(
            metadata, broker, site.launcher(config, broker), lambda row, queue: site.start_of(config, row, queue)
        )
        pace = Pace(poll=self._look) if self._speed >= QUICK else Pace()
        return Runner(Station(outside, lambda: rules(watcher.fresh()), _by("runner"), (Queue.ALMA,), pace))

    async def _arrive(self, metadata: Metadata) -> None:
        """Let the day's steps come."""
        try:
            async for what in self._arrivals.run(metadata.tracking(Queue.ALMA), self._speed, self._look):
                log.info("in the archive: %s", what)
                await self._hasten(metadata)
        except OutsideError as error:
            log.warning("nothing more arrives: %s", error)

    async def _hasten(self, metadata: Metadata) -> None:
        """Have the loader look now, where nobody watches."""
        if self._speed >= QUICK:
            await metadata.wake(LOADER)

    async def _herald(self, metadata: Metadata, launcher: Launcher, teller: Teller) -> None:
        """Tell by events which workflows have ended: their own processes cannot reach a broker in this one."""
        told, table = set[str](), metadata.tracking(Queue.ALMA)
        while True:
            try:
                rows = {row.workflow_id: row for row in await table.active() if row.workflow_id}
                for ident, seen in (await launcher.look(rows.keys() - told)).items():
                    if seen.state in ("done", "failed"):
                        about = {"kind": rows[ident].kind.value, "uid": rows[ident].uid}
                        await teller.tell(Ended(ident, seen.state == "done", seen.why, about))
                        told.add(ident)
                        await self._hasten(metadata)
            except OutsideError as error:
                log.warning("no event of a workflow's end: %s", error)
            await asyncio.sleep(self._look)

    async def _watch(self, metadata: Metadata, table: Tracking) -> None:
        """Tell how the day ended, when somebody asks: once all has arrived, nothing is under way, and the loader has
        looked since."""
        while not self._asked.is_set():
            await asyncio.sleep(self._look)
        before, changed = list[Item](), times.now()
        while True:
            try:
                rows = await table.items()
                note = (await metadata.notes()).get(LOADER)
            except OutsideError as error:
                log.warning("the day's end cannot be seen: %s", error)
                rows, note = [], None
            if rows != before:
                before, changed = rows, times.now()
            looked = note.value.get("last_cycle") if note and note.value.get("by") == _by("loader") else None
            if looked and self._arrivals.complete and not any(row.state in BUSY for row in rows):
                surprises = self._day.surprises(rows)
                if not surprises or times.parse(str(looked)) > changed:
                    self._over.set_result(surprises)
                    return
            await asyncio.sleep(self._look)

    async def _last_words(self, table: Tracking, launcher: Launcher) -> None:
        """Of a folder that is kept: let what runs come to its end, while archive and NGAS still are there."""
        if not self._kept:
            return
        with contextlib.suppress(TimeoutError, OutsideError):
            async with asyncio.timeout(GRACE):
                ids = [row.workflow_id for row in await table.active() if row.workflow_id]
                while any(seen.state == "running" for seen in (await launcher.look(ids)).values()):
                    await asyncio.sleep(0.05)

    def _end_workflows(self) -> None:
        """Kill what still runs: processes outlive whoever launched them, and nothing of the demo is to be left."""
        from backends import launch_job as job

        until = time.monotonic() + GRACE
        while time.monotonic() < until:
            alive = [path for path in (self._state / "workflows").glob("*-*") if job.lock_held(path)]
            if not alive:
                return
            for path in alive:
                mark = job.mark(path)
                if mark and mark.pid.isdecimal():
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(int(mark.pid), signal.SIGKILL)
            time.sleep(0.02)


async def _made(config: Config) -> None:
    """The tables are there before the console looks for them: it calls a database without them broken."""
    from aogconsole import reingestionsite as site

    metadata = site.metadata(config)
    try:
        await metadata.migrate()
    finally:
        await metadata.close()


def _connected(config: Config, ends: contextlib.AsyncExitStack) -> tuple[Metadata, Broker]:
    """Connections of one's own, as processes of their own would have."""
    from aogconsole import reingestionsite as site

    metadata, broker = site.metadata(config), site.broker(config)
    ends.push_async_callback(metadata.close)
    ends.push_async_callback(broker.close)
    return metadata, broker


def _by(what: str) -> str:
    return f"{what}@{socket.gethostname()}:{os.getpid()}"


@contextlib.contextmanager
def _logged(file: Path) -> Iterator[None]:
    """What is said in this thread goes into a file: the terminal is the console's."""
    handler = _OurThread(file, threading.get_ident())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(handler)
        with contextlib.suppress(OSError):  # no room for what is still in its buffer
            handler.close()


class _OurThread(logging.FileHandler):
    """Writes what one thread says; what others say is handled as if it were not there."""

    def __init__(self, file: Path, thread: int) -> None:
        super().__init__(file, encoding="utf-8")
        self._thread = thread

    def handleError(self, record: logging.LogRecord) -> None:
        """A record that cannot be written is lost: the terminal is the console's."""

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        if record.thread == self._thread:
            super().emit(record)
        elif record.levelno >= logging.WARNING and not logging.root.handlers and logging.lastResort:
            logging.lastResort.handle(record)
