"""Runners of re-ingestion for tests: real processes, forked from a server that has imported everything already.

The workflows are a shell script that writes when it starts and ends, so that what ran is counted from outside.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

from aogconsole import capo, config, reingestionsite
from aogconsole.cli import runner
from aogconsole.config import Config
from aogconsole.reingestion.item import ENDED, Found, Item, Kind, Queue, State
from aogconsole.reingestion.messages import EVENTS, Ended, Sender, ended_body, event_key
from aogconsole.reingestion.station import Pace
from backends import launch_amqp, launch_local, metadata_postgres, metadata_sqlite, rabbitmq
from backends.broker_ports import Broker, Message
from backends.reingestion_ports import Limits, Metadata, Tracking

IMPORTED = (capo, launch_amqp, launch_local, metadata_postgres, metadata_sqlite, rabbitmq)
"""What a runner imports when it needs it: here before the fork, so that each starts at once."""
FAST = Pace(poll=0.1, reconcile=0.2, backoff=0.5, lease=0.5)
PATIENCE = 40.0
SENDER = Sender("test", "test.example.org", "test")
SCRIPT = """\
#!/bin/sh
# KIND UID: tells that it starts and ends, in one write each; what it does meanwhile is in the file `do`.
printf 'start %s %s\\n' "$2" "$AOG_WORKFLOW_ID" >>"${0%/*}/told"
what=ok
[ ! -e "${0%/*}/do" ] || . "${0%/*}/do"
printf 'end %s %s\\n' "$2" "$AOG_WORKFLOW_ID" >>"${0%/*}/told"
[ "$what" = ok ] || { echo "$what" >&2; exit 1; }
"""


def serve(file: str, queues: Sequence[str], name: str, until_idle: bool, log: str, broken: str = "") -> None:
    """One runner: what a forked process does. Broken `limit`: it minds none."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=f"%(asctime)s {name} %(message)s", force=True)
    for noisy in ("pika", "psycopg"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    if broken == "limit":
        vars(reingestionsite)["limits"] = lambda _config, _queue: Limits(100)
    loaded = config.load(Path(file))
    of = tuple(Queue(one) for one in queues)
    asyncio.run(runner.serve(loaded, of, name, until_idle=until_idle, pace=FAST))


@functools.cache
def _forks() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.runners"])
    return context


@dataclass
class Runners:
    """A site of re-ingestion, its table and broker, and runners on it. An async context manager."""

    folder: Path
    dsn: str
    broker_url: str
    password: str = ""
    database_password: str = ""
    settings: dict[str, object] = field(default_factory=dict)
    """Of `[reingestion]`."""
    processes: list[BaseProcess] = field(default_factory=list)

    async def __aenter__(self) -> Runners:
        self.write()
        self.metadata: Metadata = reingestionsite.metadata(self.config)
        self.broker: Broker = reingestionsite.broker(self.config)
        await self.metadata.migrate()
        await self.broker.declare()
        return self

    async def __aexit__(self, *_: object) -> None:
        for one in self.processes:
            if one.is_alive():
                one.kill()
            await asyncio.to_thread(one.join, 10)
        await self.broker.close()
        await self.metadata.close()

    # ── the site ──

    def write(self, **settings: object) -> None:
        """Write the configuration, with more settings."""
        self.settings = {"launcher": "local", "lease": 1, "retry_delay": 0.2, **self.settings, **settings}
        script = self.folder / "workflow.sh"
        script.write_text(SCRIPT)
        script.chmod(0o755)
        self.settings.setdefault("command", ["/bin/sh", str(script)])
        for name, secret in (("broker", self.password), ("database", self.database_password)):
            (self.folder / f"{name}.password").write_text(secret)
            (self.folder / f"{name}.password").chmod(0o600)
        lines = [
            "[metadata]", f"dsn = {json.dumps(self.dsn)}",
            *(['password = "file:database.password"'] if self.database_password else []),
            "[broker]", f"url = {json.dumps(self.broker_url)}",
            *(['password = "file:broker.password"'] if self.password else []),
            "[reingestion]", *(f"{key} = {json.dumps(value)}" for key, value in self.settings.items()),
        ]  # fmt: skip
        (self.folder / "config.new").write_text("\n".join(lines) + "\n")
        (self.folder / "config.new").replace(self.folder / "config.toml")

    @property
    def config(self) -> Config:
        """The configuration as it is now."""
        return config.load(self.folder / "config.toml")

    def workflow_does(self, shell: str) -> None:
        """What each workflow does between its start and its end; `what=SENTENCE` makes it fail with it."""
        (self.folder / "do.new").write_text(shell)
        (self.folder / "do.new").replace(self.folder / "do")

    def table(self, queue: Queue = Queue.ALMA) -> Tracking:
        """The tracking table."""
        return self.metadata.tracking(queue)

    async def add(self, many: int, queue: Queue = Queue.ALMA, projects: int = 1) -> None:
        """Enter so many execution blocks, waiting, of so many projects in turn."""
        now = datetime.now(UTC)
        await self.table(queue).add(
            [
                Found(Kind.EXECUTION_BLOCK, f"uid://A002/X1/X{n:x}", "1", f"2019.1.0000{n % projects}.S", now)
                for n in range(many)
            ],
            "test", now,
        )  # fmt: skip

    # ── runners ──

    def start(
        self, name: str = "r", *, until_idle: bool = True, queues: Sequence[str] = ("alma", "vlba"), broken: str = ""
    ) -> BaseProcess:
        """Start one."""
        words = (str(self.folder / "config.toml"), tuple(queues), name, until_idle, str(self.folder / "log"), broken)
        process = _forks().Process(target=serve, args=words)
        process.start()
        self.processes.append(process)
        return process

    async def ended(self, *processes: BaseProcess) -> None:
        """Wait until they ended by themselves, well."""
        for one in processes or self.processes:
            await asyncio.to_thread(one.join, PATIENCE)
            assert one.exitcode == 0, (
                f"exit {one.exitcode}: {await self.states()} {await self.states(Queue.VLBA)}\n{self.log[-3000:]}"
            )

    @property
    def log(self) -> str:
        """What all of them said."""
        with suppress(FileNotFoundError):
            return (self.folder / "log").read_text()
        return ""

    # ── what ran, from outside ──

    @property
    def told(self) -> list[list[str]]:
        """What the workflows told: start or end, the UID, the workflow id; in order."""
        with suppress(FileNotFoundError):
            return [line.split() for line in (self.folder / "told").read_text().splitlines()]
        return []

    def starts(self) -> Counter[str]:
        """How often each workflow id was started."""
        return Counter(line[2] for line in self.told if line[0] == "start")

    def most_at_once(self, of: Callable[[str], str] = lambda _: "") -> Counter[str]:
        """How many ran at once at the most, by what `of` makes of their UIDs."""
        now: Counter[str] = Counter()
        most: Counter[str] = Counter()
        for word, uid, _ in self.told:
            now[of(uid)] += 1 if word == "start" else -1
            most[of(uid)] = max(most[of(uid)], now[of(uid)])
        return most

    async def rows(self, queue: Queue = Queue.ALMA) -> list[Item]:
        """All rows, by id."""
        return sorted(await self.table(queue).items(most=10_000), key=lambda row: row.id)

    async def states(self, queue: Queue = Queue.ALMA) -> Counter[State]:
        """How many rows are in each state."""
        return Counter(row.state for row in await self.rows(queue))

    async def event(self, *ended: Ended) -> None:
        """Publish events of workflows' ends."""
        messages = [
            Message(f"{time.monotonic_ns()}", ended_body(one, SENDER, datetime.now(UTC)), event_key(SENDER), EVENTS)
            for one in ended
        ]
        published = await self.broker.publish(messages)
        assert len(published.confirmed) == len(messages), published

    async def until(self, what: Callable[[], Awaitable[bool]], within: float = PATIENCE) -> None:
        """Wait until something is so."""
        end = time.monotonic() + within
        while not await what():
            assert time.monotonic() < end, f"waited too long; {await self.states()}\n{self.log[-3000:]}"
            await asyncio.sleep(0.05)

    async def over(self, queue: Queue = Queue.ALMA) -> bool:
        """Whether all rows are at their end."""
        return all(row.state in ENDED for row in await self.rows(queue))


def terminate(process: BaseProcess) -> None:
    """SIGTERM."""
    assert process.pid
    os.kill(process.pid, signal.SIGTERM)
