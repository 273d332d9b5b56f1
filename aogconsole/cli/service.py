"""What the verbs that run until they are told to end have in common: their end, their log, their metrics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from aogconsole.errors import OutsideError

if TYPE_CHECKING:
    from backends.broker_ports import Broker
    from backends.reingestion_ports import Metadata

ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that end a service, with 0."""
GOODBYE = 0.7
"""Seconds for the end of each connection."""
FORM = "%(asctime)s %(levelname)s %(message)s"
log = logging.getLogger("aogconsole")


def prepare(noisy: Iterable[str], level: int = logging.CRITICAL, form: str = FORM) -> None:
    """Log to standard error, of the `noisy` libraries nothing below a level (what they say reaches the log as our
    sentence); and end with 0 by a signal, until the loop has its own way."""
    for number in ENDS:
        signal.signal(number, lambda *_: sys.exit(0))
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=form)
    for name in noisy:
        logging.getLogger(name).setLevel(level)


def at_the_end(call: Callable[[], object]) -> None:
    """Have the running loop call it at a signal that ends us."""
    for number in ENDS:
        asyncio.get_running_loop().add_signal_handler(number, call)


def measured(
    where: str | None, metadata: Metadata, broker: Broker, counted: Callable[[], Mapping[str, int]] | None = None
) -> contextlib.AbstractContextManager[object]:
    """Serve re-ingestion's metrics while the block runs; `where` None: nothing, and no library for it."""
    if where is None:
        return contextlib.nullcontext()
    from aogconsole.metrics import reingestion

    return reingestion(where, metadata, broker, counted)


async def briefly(*ends: Awaitable[None]) -> None:
    """End connections, one after the other, each for a short time only."""
    for end in ends:
        try:
            async with asyncio.timeout(GOODBYE):
                await end
        except (TimeoutError, OutsideError) as error:
            log.info("at the end: %s", error)
