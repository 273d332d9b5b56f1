"""When an app under a test's pilot has done what it was told.

Textual's own way takes a window of 20 ms in which the process had less than 1 ms of processor time, two or three times
a key. Here two windows of 5 ms in a row count, at whose ends nothing waits in the loop either: that sees work which
the machine, busy with others, has not let the process do. Paints come every 4 ms instead of 17, so none is waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import textual.app
import textual.pilot
import textual.screen

WINDOW, WINDOWS, BUSY = 0.005, 2, 0.0005
"""Seconds; how many in a row; seconds of processor time from which on one is not quiet."""


async def wait_for_idle(min_sleep: float = WINDOW * WINDOWS, max_sleep: float = 1.0) -> None:
    """Wait until the app is idle, at least and at most so many seconds."""
    loop, begun, quiet = asyncio.get_running_loop(), time.monotonic(), 0
    while (spent := time.monotonic() - begun) < max_sleep and (quiet < WINDOWS or spent < min_sleep):
        before = time.process_time()
        await asyncio.sleep(WINDOW)
        waiting = getattr(loop, "_ready", ())
        quiet = 0 if waiting or time.process_time() - before > BUSY else quiet + 1


@contextmanager
def quick_pilots() -> Iterator[None]:
    """Textual's pilots wait in this way."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (textual.app, textual.pilot):
            patch.setattr(module, "wait_for_idle", wait_for_idle)
        patch.setattr(textual.screen, "UPDATE_PERIOD", 1 / 240)
        yield
