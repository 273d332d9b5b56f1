"""The watch on re-ingestion: a thread with an event loop of its own, which holds database and broker.

It reads when the database says that something has changed, and now and then beneath; the broker is asked beside
that, so that one which is away holds up nothing. What goes wrong becomes the words of a light. What the operator does
is done here too: the screen waits for neither.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aogconsole import reingestionboard as boards
from aogconsole import times
from aogconsole.board import Light
from aogconsole.errors import AogError, MetadataError
from aogconsole.reingestionboard import QueueState, ReingestionBoard
from aogconsole.text import clean

if TYPE_CHECKING:
    from aogconsole.config import Config
    from backends.broker_ports import Broker
    from backends.reingestion_ports import Metadata

T = TypeVar("T")
EVERY = 2.0
"""Seconds between looks when nothing is said to have changed."""
LEAST = 0.2
"""Seconds between looks however much changes."""
LOAD = 4
"""So many times what a look took is waited after it."""
PATIENCE = 5.0
"""Seconds for a look at the database; after them it does not answer."""
BROKER_PATIENCE = 3.0
LONGEST = 30.0
"""Seconds between tries while nothing answers; and for a verb."""
GOODBYE = 0.8
"""Seconds for the end of it all."""
NEEDY = 20
"""So many items that need a person are read."""


class ReingestionWatch:
    """Reads boards. `tell` is called in the watch's thread, with each board that differs from the one before."""

    def __init__(self, config: Config, tell: Callable[[ReingestionBoard], None]) -> None:
        self._config = config
        self._tell = tell
        self._last: ReingestionBoard | None = None
        self._board = ReingestionBoard(configured=True)
        self._depths: dict[str, tuple[int, int | None]] = {}
        """Messages in each work queue, and dead letters."""
        self._broker: Light | None = None
        self._held: tuple[asyncio.AbstractEventLoop, Metadata] | None = None
        self._ended = threading.Event()
        self._end: Callable[[], object] = lambda: None
        self._verbs: set[asyncio.Future[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="reingestion", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End within a second; what the operator has begun is finished in it, or given up."""
        self._ended.set()
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._end()
        if self._thread.is_alive():
            self._thread.join(1.0)

    async def do(self, work: Callable[[Metadata], Awaitable[T]]) -> T:
        """Have something done with the database, in the watch's loop. Raises AogError, and what the work raises."""
        if self._held is None:
            raise MetadataError(self._why_not(), "look at the re-ingestion panel, and try again")
        loop, metadata = self._held
        begun = asyncio.run_coroutine_threadsafe(self._bounded(work, metadata), loop)
        # shielded: a page that is closed takes nothing back that was decided on
        return await asyncio.shield(asyncio.wrap_future(begun))

    def _why_not(self) -> str:
        broken = self._board.broken.get("metadata")
        return broken or "The metadata database is not connected yet."

    async def _bounded(self, work: Callable[[Metadata], Awaitable[T]], metadata: Metadata) -> T:
        task = asyncio.ensure_future(work(metadata))
        self._verbs.add(task)
        try:
            async with asyncio.timeout(LONGEST):
                return await task
        except TimeoutError:
            raise MetadataError(
                f"The metadata database did not answer within {LONGEST:g} s.", "look whether it was done all the same"
            ) from None
        finally:
            self._verbs.discard(task)

    # ── the thread ───────────────────────────────────────────────────────────────────────────────────────────

    def _run(self) -> None:
        try:
            asyncio.run(self._watch())
        except AogError as error:  # what is wrong with the configuration does not mend by itself
            self._show(lights=(Light("metadata", ok=False, detail=said(error)),))

    async def _watch(self) -> None:
        from aogconsole import reingestionsite

        loop, stop, news = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        self._end = lambda: loop.call_soon_threadsafe(stop.set)
        metadata = reingestionsite.metadata(self._config)
        broker = None
        try:
            if self._config.settings.broker.url:
                broker = reingestionsite.broker(self._config, BROKER_PATIENCE)
        except AogError as error:
            self._broker = Light("broker", ok=False, detail=said(error))
        self._held = loop, metadata
        jobs = [self._look(metadata, news), self._listen(metadata, news), self._ask(broker)]
        tasks = [asyncio.create_task(one) for one in jobs]
        try:
            if not self._ended.is_set():
                await asyncio.wait([*tasks, ended := asyncio.create_task(stop.wait())], return_when="FIRST_COMPLETED")
                ended.cancel()
        finally:
            self._held = None
            await self._leave(tasks, metadata, broker)
        for one in tasks:
            fault = one.exception() if one.done() and not one.cancelled() else None
            if fault is not None:
                raise fault

    async def _leave(self, tasks: list[asyncio.Task[None]], metadata: Metadata, broker: Broker | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                if self._verbs:
                    await asyncio.wait(list(self._verbs))
                for one in tasks:
                    one.cancel()
                await asyncio.wait(tasks)
                closing = [metadata.close(), *([broker.close()] if broker is not None else [])]
                await asyncio.gather(*closing, return_exceptions=True)

    async def _listen(self, metadata: Metadata, news: asyncio.Event) -> None:
        """Be woken when something has changed."""
        while True:
            with contextlib.suppress(AogError):
                self._there()
                async for _ in metadata.changes():
                    news.set()
            await asyncio.sleep(EVERY)

    async def _look(self, metadata: Metadata, news: asyncio.Event) -> None:
        wait = EVERY
        while True:
            news.clear()
            begun = time.monotonic()
            try:
                self._there()
                async with asyncio.timeout(PATIENCE):
                    read = await self._read(metadata)
            except (AogError, TimeoutError) as error:
                words = said(error) if isinstance(error, AogError) else f"it did not answer within {PATIENCE:g} s"
                self._show(lights=(Light("metadata", ok=False, detail=words),))
                wait = min(wait * 2, LONGEST)
            else:
                self._show(**read, told=True, lights=(Light("metadata", ok=True),))
                wait = EVERY
            await asyncio.sleep(max(LEAST, LOAD * (time.monotonic() - begun)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await news.wait()

    def _there(self) -> None:
        """A file that is not there is not to be made by who looks. Raises MetadataError."""
        from aogconsole import reingestionsite

        dsn = reingestionsite.metadata_dsn(self._config)
        if dsn.startswith("sqlite:") and not Path(dsn.removeprefix("sqlite:")).exists():
            raise MetadataError(f"There is no file {clean(dsn.removeprefix('sqlite:'))} yet.", "the loader makes it")

    async def _read(self, metadata: Metadata) -> dict[str, Any]:
        from aogconsole import reingestionsite
        from aogconsole.reingestion import overview
        from aogconsole.reingestion.item import Queue, State

        now = times.now()
        documents = [await overview.overview(metadata, None, Queue.ALMA)]
        first = documents[0]
        if first["counts"] is None:
            raise MetadataError(str(first["metadata"]), "")
        others = await metadata.tracking(Queue.VLBA).counts()
        if any(any(by.values()) for by in others.values()):
            documents.append(await overview.overview(metadata, None, Queue.VLBA))
        needy = []
        for one in documents:
            queue = Queue(one["queue"])
            if any(by.keys() & boards.NEEDY for by in (one["counts"] or {}).values()):
                rows = await metadata.tracking(queue).items([State.DEAD, State.LAUNCH_UNKNOWN], most=NEEDY)
                needy += [overview.item(row, queue) for row in rows]
        queues = tuple(
            boards.queue_state(one, reingestionsite.limits(self._config, Queue(one["queue"])).total, None, now)
            for one in documents
        )
        at, what = boards.heard(first)
        return {
            "queues": queues, "needy": boards.needy(needy), "loader": boards.loader(first),
            "runners": boards.runners(first), "heard": at, "heard_what": what, "paused": boards.paused(first),
        }  # fmt: skip

    # ── the broker ───────────────────────────────────────────────────────────────────────────────────────────

    async def _ask(self, broker: Broker | None) -> None:
        """Ask for the depth of the queues, again and again."""
        elsewhere = not self._config.settings.broker.url.startswith("memory:")
        while broker is not None:
            try:
                async with asyncio.timeout(BROKER_PATIENCE):
                    names = [queue.name for queue in self._board.queues] or ["alma"]
                    self._depths = {name: await _depths(broker, name) for name in names}
                state = broker.state
                self._broker = Light("broker", state.word == "connected", clean(f"{state.word}: {state.why}"))
            except (AogError, TimeoutError) as error:
                self._depths = {}
                words = said(error) if isinstance(error, AogError) else _silence(broker)
                # in memory each process has its own: another's is not for us to see
                self._broker = Light("broker", False if elsewhere else None, words if elsewhere else "in memory")
            self._show()
            await asyncio.sleep(EVERY)
        await asyncio.Event().wait()

    # ── what is told ─────────────────────────────────────────────────────────────────────────────────────────

    def _show(self, **changed: Any) -> None:
        """Tell what has changed, with what the broker said last."""
        board = self._board = replace(self._board, **changed)
        given = {light.name: light for light in board.lights}
        metadata = given.get("metadata", Light("metadata", None, "not tried yet"))
        lights = (self._broker or self._untold(), metadata)
        queues = tuple(_with_depth(queue, self._depths) for queue in board.queues)
        board = replace(board, lights=lights, queues=queues)
        if board != self._last and not self._ended.is_set():
            self._last = board
            self._tell(board)

    def _untold(self) -> Light:
        return Light("broker", None, "not tried yet" if self._config.settings.broker.url else "not configured")


def said(error: AogError) -> str:
    """An error in a line."""
    return clean(f"{error} ({error.hint})" if error.hint else str(error))


def _silence(broker: Broker) -> str:
    why = f": {broker.state.why}" if broker.state.why else ""
    return clean(f"it did not answer within {BROKER_PATIENCE:g} s{why}")


def _with_depth(queue: QueueState, depths: Mapping[str, tuple[int, int | None]]) -> QueueState:
    depth, letters = depths.get(queue.name, (None, None))
    return replace(queue, depth=depth, letters=letters)


async def _depths(broker: Broker, name: str) -> tuple[int, int | None]:
    from aogconsole.reingestion import overview
    from aogconsole.reingestion.item import Queue

    queue = Queue(name)
    return await broker.depth(queue.messages), await overview.letters(broker, queue)
