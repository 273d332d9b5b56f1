"""Work that would block the loop, in a thread that nobody waits for at the end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(call: Callable[[], Result]) -> Result:
    """What `call` returns or raises. When this is cancelled the thread goes on, and holds up nobody's exit.

    `asyncio.to_thread` would: its threads are waited for at the loop's end, and an fsync of many GB takes minutes.
    """
    loop = asyncio.get_running_loop()
    settled: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if settled.done():
            return
        if error is not None:
            settled.set_exception(error)
        else:
            settled.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: Result | None = None
        error: BaseException | None = None
        try:
            result = call()
        except BaseException as problem:  # it is raised again where it is awaited
            error = problem
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="stagecalms", daemon=True).start()
    return await settled
