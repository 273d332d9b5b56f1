"""Metrics: what Prometheus reads of re-ingestion and of the desk, also while parts do not answer."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from aogconsole import metrics
from aogconsole.errors import ConfigError, UsageError
from aogconsole.reingestion.item import Found, Kind, Queue, State
from backends.broker_ports import Broker, Message
from backends.memory_broker import MemoryBroker
from backends.metadata import open_metadata
from backends.rabbitmq import RabbitBroker
from backends.reingestion_ports import Metadata
from tests.support.command import call
from tests.support.desk import request_mail


def scrape(url: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels, in the order of their names."""
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 (http, of ours)
        text = answer.read().decode()
    return {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(text) for one in family.samples
    }  # fmt: skip


async def scraped(
    metadata: Metadata, broker: Broker | None, counted: Callable[[], Counter[str]] | None = None
) -> dict[tuple[str, ...], float]:
    """One scrape, as of a runner."""
    with metrics.reingestion("0", metadata, broker, counted) as url:
        assert url is not None
        return await asyncio.to_thread(scrape, url)


def inside(folder: Path, act: Callable[[Metadata], Awaitable[None]]) -> None:
    """With a metadata database of its own."""

    async def run() -> None:
        metadata = open_metadata(f"sqlite:{folder}/meta.db")
        await metadata.migrate()
        try:
            await act(metadata)
        finally:
            await metadata.close()

    asyncio.run(run())


def test_reingestion_is_told(tmp_path: Path) -> None:
    """Rows by queue, kind and state, messages, ages, the pair, and what the process counted."""

    async def look(metadata: Metadata) -> None:
        broker, now = MemoryBroker(), datetime.now(UTC)
        await broker.declare()
        await broker.publish([Message("1:1", b"{}", Queue.ALMA.messages)])
        await metadata.tracking(Queue.ALMA).add(
            [Found(Kind.CALIBRATION, f"uid://A001/X1/X{n}", "", None, now) for n in (1, 2)], "loader",
            now - timedelta(hours=1),
        )  # fmt: skip
        await metadata.note("loader", {"last_cycle": "2026-11-20T01:00:00Z", "error": "no view"}, now)
        await metadata.note("runner:a@b", {"state": "running"}, datetime.now(UTC))
        await metadata.note("runner:c@d", {"state": "running"}, now - timedelta(hours=1))
        told = await scraped(metadata, broker, lambda: Counter(launched=3))
        assert told["aogconsole_reingestion_items", "calibration", "alma", "waiting"] == 2
        assert told["aogconsole_reingestion_items", "execution_block", "vlba", "dead"] == 0
        assert told["aogconsole_reingestion_queue_messages", "alma"] == 1
        assert told["aogconsole_reingestion_dead_letters", "alma"] == 0
        assert 3600 <= told["aogconsole_reingestion_oldest_waiting_seconds", "alma"] < 3700
        assert told["aogconsole_reingestion_oldest_waiting_seconds", "vlba"] == 0
        assert told["aogconsole_reingestion_loader_last_cycle_timestamp_seconds",] == 1763600400 + 365 * 86400
        assert told["aogconsole_reingestion_loader_failed",] == 1
        assert told["aogconsole_reingestion_runners",] == 1
        assert told["aogconsole_reingestion_paused",] == 0
        assert told["aogconsole_process_events_total", "launched"] == 3
        assert (told["aogconsole_up", "metadata"], told["aogconsole_up", "broker"]) == (1, 1)
        assert told["process_open_fds",] > 3
        labels = {len(Kind) * len(State) * len(Queue)}
        assert {sum(name[0] == "aogconsole_reingestion_items" for name in told)} == labels
        await broker.close()

    inside(tmp_path, look)


def test_what_does_not_answer_is_down(tmp_path: Path) -> None:
    """A broker without our queue, and a database without our tables: the rest is told."""

    async def look(metadata: Metadata) -> None:
        broker = MemoryBroker()
        told = await scraped(metadata, broker)
        assert (told["aogconsole_up", "metadata"], told["aogconsole_up", "broker"]) == (1, 0)
        assert ("aogconsole_reingestion_queue_messages", "alma") not in told
        assert told["aogconsole_reingestion_items", "calibration", "alma", "waiting"] == 0
        other = open_metadata(f"sqlite:{tmp_path}/empty.db")
        told = await scraped(other, None)
        assert told["aogconsole_up", "metadata"] == 0
        assert ("aogconsole_up", "broker") not in told
        assert not any(name[0].startswith("aogconsole_reingestion_items") for name in told)
        await other.close()
        await broker.close()

    inside(tmp_path, look)


def test_a_broker_that_is_away_hides_nothing_else(tmp_path: Path) -> None:
    """It is waited for no longer than the scrape waits; the database's numbers come."""

    async def look(metadata: Metadata) -> None:
        broker = RabbitBroker("amqp://aog@127.0.0.1:1/aog", "x")
        told = await scraped(metadata, broker)
        assert (told["aogconsole_up", "metadata"], told["aogconsole_up", "broker"]) == (1, 0)
        assert told["aogconsole_reingestion_items", "calibration", "alma", "waiting"] == 0
        await broker.close()

    inside(tmp_path, look)


def test_a_scrape_of_a_held_loop_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who scrapes gets an answer, that nothing is up; the process goes on."""
    monkeypatch.setattr(metrics, "PATIENCE", 0.2)

    async def look(metadata: Metadata) -> None:
        with metrics.reingestion("0", metadata, None) as url:
            assert url is not None
            asked = asyncio.get_running_loop().run_in_executor(None, scrape, url)
            while not asked.done():
                await asyncio.sleep(0)
                time.sleep(0.5)  # noqa: ASYNC251 (a loop that is held)
            assert (await asked)["aogconsole_up", "metadata"] == 0

    inside(tmp_path, look)


def test_the_desk_is_told(tmp_path: Path) -> None:
    """Requests by state, and the history's length, from the journal; one that is not there is down."""
    config = tmp_path / "config.toml"
    config.write_text('[journal]\npath = "state/journal.db"\nsyslog = ""\n')
    path = tmp_path / "state" / "journal.db"
    with metrics.desk("0", path) as url:
        assert url is not None
        assert scrape(url)["aogconsole_up", "journal"] == 0
        assert call(config, "ingest", "-", stdin=request_mail()).code == 0
        assert call(config, "pause").code == 0
        told = scrape(url)
    assert told["aogconsole_up", "journal"] == 1
    assert told["aogconsole_requests", "received"] == 1
    assert told["aogconsole_history_rows_total",] >= 2
    assert told["aogconsole_paused",] == 1


def test_where_they_are_served() -> None:
    """A port is on loopback; another host is taken only when it is named; what is none is refused."""
    assert metrics.address("9188") == ("127.0.0.1", 9188)
    assert metrics.address("0.0.0.0:9188") == ("0.0.0.0", 9188)  # noqa: S104
    assert metrics.address("[::1]:9188") == ("::1", 9188)
    for wrong in ("", "x", "70000", "-1", "host:", "9188:x", "\u0669"):
        with pytest.raises(UsageError, match="no port"):
            metrics.address(wrong)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = str(taken.getsockname()[1])
        with pytest.raises(ConfigError, match="cannot be served"), metrics.served(where, list):
            pass
    with pytest.raises(ConfigError, match="cannot be served"), metrics.served("no.such.host.invalid:0", list):
        pass
    with metrics.served(None, list) as url:
        assert url is None


def test_a_fault_ends_neither_scrape_nor_process(caplog: pytest.LogCaptureFixture) -> None:
    """It is in the log; what is served without it still comes. When the block ends nobody answers any more."""
    caplog.set_level(logging.ERROR)

    def broken() -> Iterable[Metric]:
        raise RuntimeError("wrong")

    with metrics.served("0", broken) as url:
        assert url is not None
        assert scrape(url)["process_open_fds",] > 3
        assert "could not be read" in caplog.text
    with pytest.raises(urllib.error.URLError):
        scrape(url)
