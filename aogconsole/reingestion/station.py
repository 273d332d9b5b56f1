"""What the parts of one runner share: its outside, its rules, what it launches now, and who is woken when.

The table is the truth. What is kept here may be lost with the process: another runner, or this one started anew,
finds it by the leases.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from aogconsole.errors import AogError, OutsideError
from aogconsole.reingestion.item import Item, Queue
from aogconsole.reingestion.messages import Start
from aogconsole.text import clean
from backends.broker_ports import Broker
from backends.reingestion_ports import Launcher, Limits, Metadata, Tracking

log = logging.getLogger("aogconsole")
T = TypeVar("T")
PAUSED = "paused"
"""The note that says that nothing new is to be taken: {"paused": true}."""
REFUSALS = 20
"""Refusals in a row after which launching slows down."""
BLIND = "amqp"
"""The launcher that launches through the broker, and can never look."""
LONGEST_REASON = 500
"""Characters of a reason that came from outside."""


@dataclass(frozen=True)
class Rules:
    """What the configuration says now."""

    limits: Mapping[Queue, Limits]
    attempts: int
    retry_delay: timedelta
    lease: timedelta
    types: tuple[str, str]
    """Types of the events of a workflow's success and failure."""


@dataclass(frozen=True)
class Pace:
    """Seconds; tests go faster."""

    poll: float = 1.0
    """Between looks for a free place, for what a person decided (`paused`), and at what is due, at the most."""
    reconcile: float = 5.0
    """Between looks at what the launcher says, and whether the broker has its queues."""
    backoff: float = 10.0
    """Between tries of something outside that does not answer, at the most."""
    grace: float = 2.5
    """For launches that are under way when the runner is told to end."""
    launching: float = 120.0
    """For one launch; a launcher bounds its calls itself, and sooner."""
    lease: float | None = None
    """Instead of the configuration's."""


@dataclass(frozen=True)
class Outside:
    """What a runner works with."""

    metadata: Metadata
    broker: Broker
    launcher: Launcher
    start_of: Callable[[Item, Queue], tuple[Start, str]]
    """The command that starts a claimed item's workflow, and its site. Raises ConfigError."""


@dataclass
class Station:
    """One runner's own. `owner`: `NAME@HOST:PID`, how it stands in the table."""

    outside: Outside
    fresh: Callable[[], Rules]
    """What the configuration says now; it may read files, and is asked about once a second."""
    owner: str
    queues: tuple[Queue, ...]
    pace: Pace = field(default_factory=Pace)
    launching: dict[tuple[Queue, int], Item] = field(default_factory=dict)
    """What this process launches now: its leases are renewed, and nobody here looks what became of it."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    halted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while nothing new is to be taken: paused, or stopping."""
    paused: bool = False
    counted: Counter[str] = field(default_factory=Counter)
    """Since the start: launched, done, failed, unknown events and the like."""
    last_event: Mapping[str, object] | None = None
    """The last event of one of our workflows, until it is noted."""
    troubles: dict[str, str] = field(default_factory=dict)
    """What does not work now, by the part that met it."""
    rest_until: float = 0.0
    """By the loop's clock: nothing is taken before, for the launcher does not work."""
    _launcher_failures: int = 0
    _refused: int = 0
    _alarms: list[asyncio.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rules = self.fresh()
        self.tracking: Mapping[Queue, Tracking] = {one: self.outside.metadata.tracking(one) for one in Queue}
        """Each queue's table: those too that this runner does not take from, for their events."""

    @property
    def host(self) -> str:
        """The host this runner is on, as its owner says it."""
        return host_of(self.owner)

    @property
    def blind(self) -> bool:
        """Whether only events tell what became of a launch."""
        return self.outside.launcher.name == BLIND

    async def refresh(self) -> None:
        """Ask for the rules; in a thread, for a folder of settings may be on a network disk that does not answer."""
        self.rules = await asyncio.to_thread(self.fresh)

    def alarm(self) -> asyncio.Event:
        """An event that is set whenever rows may have changed."""
        self._alarms.append(asyncio.Event())
        return self._alarms[-1]

    def ring(self) -> None:
        """Rows changed: a place may be free, something may be due."""
        for alarm in self._alarms:
            alarm.set()

    def pause(self, *, on: bool) -> None:
        """Take nothing new, or go on."""
        if on != self.paused:
            log.info("paused: nothing new is taken" if on else "resumed")
        self.paused = on
        if on or self.stopping.is_set():
            self.halted.set()
        else:
            self.halted.clear()
            self.ring()

    def stop(self) -> None:
        """Take nothing new, and end when what is under way is recorded."""
        self.stopping.set()
        self.halted.set()
        self.ring()

    # ── going on, whatever happens outside ───────────────────────────────────────────────────────────────────

    async def supervise(
        self, name: str, step: Callable[[], Awaitable[None]], until: asyncio.Event | None = None
    ) -> None:
        """Repeat a step until stopped (or an event of its own); after a failure outside, with growing waits."""
        failures, until = 0, until or self.stopping
        while not until.is_set():
            try:
                await step()
            except AogError as error:
                failures += 1
                self.trouble(name, said(error))
            except Exception as error:
                failures += 1
                log.exception("the runner's part %s went wrong", name)
                self.trouble(name, f"unexpected: {error!r}")
            else:
                failures = 0
                self.well(name)
                continue
            await _wait(until, self.wait(failures))

    def wait(self, failures: int) -> float:
        """Seconds to wait after so many failures."""
        return float(min(self.pace.backoff, 0.1 * 2 ** min(failures, 10)) * random.uniform(0.7, 1.0))  # noqa: S311

    def trouble(self, name: str, sentence: str) -> None:
        """Say that a part does not work; once, until it says another thing."""
        sentence = clean(sentence)
        if self.troubles.get(name) != sentence:
            log.warning("%s: %s", name, sentence)
        self.troubles[name] = sentence

    def well(self, name: str) -> None:
        """A part works."""
        if self.troubles.pop(name, None) is not None:
            log.info("%s: works again", name)

    def launcher_failed(self, error: OutsideError) -> None:
        """Nothing can be launched: let the work queue keep its messages for a while."""
        self._launcher_failures += 1
        self.rest_until = asyncio.get_running_loop().time() + self.wait(self._launcher_failures)
        self.trouble("launcher", said(error))

    def launcher_refused(self) -> None:
        """A launch was refused. Many in a row are no fault of their items: what is behind them may be spared."""
        self._refused += 1
        if self._refused >= REFUSALS:
            self.rest_until = asyncio.get_running_loop().time() + self.wait(self._refused - REFUSALS + 1)

    def launcher_works(self) -> None:
        """Something was launched."""
        self._refused = 0
        if self._launcher_failures:
            self._launcher_failures, self.rest_until = 0, 0.0
            self.well("launcher")

    async def sleep(self, seconds: float, alarm: asyncio.Event | None = None) -> None:
        """Wait so long, or until the alarm is rung (which is then quiet again), or until stopped."""
        await _wait(alarm or self.stopping, seconds)
        if alarm is not None:
            alarm.clear()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def said(error: AogError) -> str:
    """An error's sentence and hint."""
    return f"{error} ({error.hint})" if error.hint else str(error)


def now() -> datetime:
    """The wall clock, for what is written down: aware UTC."""
    return datetime.now(UTC)


def host_of(owner: str | None) -> str:
    """The host in an owner's `NAME@HOST:PID`; empty for none."""
    return (owner or "").rpartition("@")[2].rpartition(":")[0]


def sentence(why: str, otherwise: str) -> str:
    """A reason from outside, as the table keeps it: safe, of one line, not long."""
    why = clean(why.strip())
    return (why if len(why) <= LONGEST_REASON else f"{why[: LONGEST_REASON - 4]} ...") or otherwise
