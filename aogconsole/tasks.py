"""Tasks of asyncio: to end them for certain, to give a wait up, and work that would block the loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel until all have ended: one whose wait ends at the very moment may miss it."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.1)


def obey() -> None:
    """End a task that was told to end. A driver that meets the cancellation with an error of its own hides it, and the
    count of it stays. Raises CancelledError."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def unless(halted: asyncio.Event, call: Awaitable[T]) -> T | None:
    """What a call gives; None, and the call ended, when it is to be given up before."""
    task, alarm = asyncio.ensure_future(call), asyncio.ensure_future(halted.wait())
    try:
        await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()  # nothing, when it is done
        alarm.cancel()
        await asyncio.wait({task, alarm})
    return None if task.cancelled() else task.result()


async def in_thread(call: Callable[[], T]) -> T:
    """What `call` returns or raises. When this is cancelled the thread goes on, and holds up nobody's exit.

    `asyncio.to_thread` would: its threads are waited for at the loop's end, and an fsync of many GB takes minutes.
    """
    loop = asyncio.get_running_loop()
    settled: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if settled.done():
            return
        if error is not None:
            settled.set_exception(error)
        else:
            settled.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = call()
        except BaseException as problem:  # it is raised again where it is awaited
            error = problem
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="beside", daemon=True).start()
    return await settled
