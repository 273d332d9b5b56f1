"""An engine's steps on a scripted outside, with a real journal and desk: each step is called by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aogconsole import config, site
from aogconsole.engine.bench import Bench
from aogconsole.engine.checking import Checking
from aogconsole.engine.retention import Retention
from aogconsole.engine.sending import Sending
from aogconsole.engine.staging import Staging
from tests.support import outside
from tests.support.office import ENGINE, Office

CONFIG = """
[journal]
path = "journal.db"
syslog = ""
[staging]
host = ""
[policy]
stage = "{policy}"
send = "{policy}"
"""


@dataclass
class Shop:
    """A journal, its desk, and the engine's workbench on a scripted outside."""

    office: Office
    bench: Bench
    archive: outside.Archive = field(default_factory=outside.Archive)
    host: outside.Host = field(default_factory=outside.Host)
    outbox: outside.Outbox = field(default_factory=outside.Outbox)

    def __post_init__(self) -> None:
        self.bench.archive, self.bench.host, self.bench.outbox = self.archive, self.host, self.outbox
        self.bench.quicken = 100.0
        self.checking = Checking(self.bench)
        self.staging = Staging(self.bench, self.checking)
        self.sending = Sending(self.bench)
        self.retention = Retention(self.bench)

    def row(self, request: int) -> Any:
        """A request as it is."""
        return self.office.journal.fetch("request", request)

    async def until(self, true: Callable[[], Any]) -> Any:
        """Let the tasks go on until it is so."""
        async with asyncio.timeout(10):
            while not (found := true()):
                await asyncio.sleep(0.001)
        return found


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """With policies `ask`."""
    (tmp_path / "config.toml").write_text(CONFIG.format(policy="ask"))
    office = Office.open(tmp_path / "journal.db")
    return Shop(office, site.bench(config.load(tmp_path / "config.toml"), office.journal, ENGINE))


def once(act: Callable[[], object], wanted: str = "") -> outside.Meanwhile:
    """Do it at the first call, or at the first of this name."""
    done: list[str] = []

    def meanwhile(call: str) -> None:
        if not done and call.startswith(wanted):
            done.append(call)
            act()

    return meanwhile
