"""Metrics for Prometheus: how the desk and re-ingestion are, read when they are asked for.

Served over HTTP by `--metrics [HOST:]PORT` of `serve`, `loader`, `runner` and `workflow serve`; on loopback unless a
host is named, for it asks nobody who he is. Names and labels are few, and none comes from outside: no UID, project or
account.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from aogconsole import times
from aogconsole.errors import AogError, ConfigError, UsageError
from aogconsole.journal.store import Journal
from aogconsole.reingestion.item import Kind, Queue, State
from aogconsole.reingestion.overview import CONNECTED, overview
from aogconsole.text import clean
from backends.broker_ports import Broker
from backends.reingestion_ports import Metadata

LOOPBACK = "127.0.0.1"
PATIENCE = 5.0
"""Seconds that a scrape waits for database and broker."""
ALIVE = 60.0
"""Seconds since a runner's last note within which it is taken to run."""
log = logging.getLogger("aogconsole")
Collect = Callable[[], Iterable[Metric]]


class _Collector:
    """What a registry asks at each scrape. A fault of ours must not end the scrape, nor who is scraped."""

    def __init__(self, collect: Collect) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        try:
            return list(self._collect())
        except Exception:
            log.exception("the metrics could not be read")
            return []


def address(text: str) -> tuple[str, int]:
    """Read `[HOST:]PORT`; port 0 is any that is free. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise UsageError(f"'{clean(text)}' is no port for metrics", "write --metrics 9188, or --metrics HOST:9188")
    return host.strip("[]") or LOOPBACK, int(port)


@contextlib.contextmanager
def served(where: str | None, collect: Collect) -> Iterator[str | None]:
    """Serve metrics while the block runs; gives the URL. `where` None: does nothing. Raises ConfigError."""
    if where is None:
        yield None
        return
    host, port = address(where)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Collector(collect))
    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, UnicodeError) as error:
        why = clean(getattr(error, "strerror", None) or str(error))
        raise ConfigError(f"metrics cannot be served at {clean(where)}: {why}", "name another port, or host") from None
    shown = f"[{host}]" if server.address_family == socket.AF_INET6 else host
    url = f"http://{shown}:{server.server_port}/metrics"
    log.info("metrics are at %s", url)
    try:
        yield url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# ── re-ingestion ─────────────────────────────────────────────────────────────────────────────────────────────


def reingestion(
    where: str | None, metadata: Metadata, broker: Broker | None, counted: Callable[[], Mapping[str, int]] | None = None
) -> contextlib.AbstractContextManager[str | None]:
    """Serve re-ingestion's metrics while the block runs; call it where the event loop of both runs.

    `counted`: what this process counted since its start, by words of ours.
    """
    loop = asyncio.get_running_loop()

    def collect() -> Iterable[Metric]:
        asked = asyncio.run_coroutine_threadsafe(_both(metadata, broker), loop)
        try:
            documents = asked.result(PATIENCE)
        except TimeoutError:
            asked.cancel()
            documents = []
        yield from of_overviews(documents)
        if counted is not None:
            total = CounterMetricFamily(
                "aogconsole_process_events", "What this process did since its start", None, ["what"]
            )
            for what, count in sorted(counted().items()):
                total.add_metric([what], count)
            yield total

    return served(where, collect)


async def _both(metadata: Metadata, broker: Broker | None) -> list[dict[str, Any]]:
    # side by side: a broker that is away is waited for once, within our patience
    return list(await asyncio.gather(*(overview(metadata, broker, queue) for queue in Queue)))


def of_overviews(documents: Iterable[Mapping[str, Any]]) -> Iterator[Metric]:
    """The metrics of overview documents, one for each queue; none at all: nothing answered in time."""
    documents = list(documents)
    items = GaugeMetricFamily(
        "aogconsole_reingestion_items", "Rows of the tracking table", labels=["queue", "kind", "state"]
    )
    depth = GaugeMetricFamily("aogconsole_reingestion_queue_messages", "Ready messages", labels=["queue"])
    letters = GaugeMetricFamily(
        "aogconsole_reingestion_dead_letters", "Messages that were put aside; the events' with alma's", labels=["queue"]
    )
    oldest = GaugeMetricFamily(
        "aogconsole_reingestion_oldest_waiting_seconds", "Age of the oldest that waits or is queued", labels=["queue"]
    )
    for one in documents:
        queue = one["queue"]
        if one["queue_depth"] is not None:
            depth.add_metric([queue], one["queue_depth"])
        if one["dead_letters"] is not None:
            letters.add_metric([queue], one["dead_letters"])
        if one["counts"] is None:
            continue
        oldest.add_metric([queue], _age(one["oldest_waiting"]))
        for kind in Kind:
            for state in State:
                items.add_metric([queue, kind, state], one["counts"].get(kind, {}).get(state, 0))
    yield from (items, depth, letters, oldest, _up(documents))
    told = next((one for one in documents if one["counts"] is not None), None)
    if told is not None:
        yield from _pair(told)


def _up(documents: list[Mapping[str, Any]]) -> Metric:
    up = GaugeMetricFamily("aogconsole_up", "Whether a part answered", labels=["part"])
    for part in ("metadata", "broker"):
        if not documents or documents[0][part] is not None:
            up.add_metric([part], bool(documents) and all(one[part] == CONNECTED for one in documents))
    return up


def _pair(told: Mapping[str, Any]) -> Iterator[Metric]:
    """Loader and runners, by their notes."""
    loader, event = told["loader"], told["last_event"]
    for name, meaning, time in (
        ("loader_last_cycle", "When the loader's last cycle ended", loader["last_cycle"]),
        ("loader_next_cycle", "When the loader looks again", loader["next_cycle"]),
        ("last_event", "When the last event of a workflow of ours was heard", event and event["at"]),
    ):
        if isinstance(time, str) and (seconds := _seconds(time)) is not None:
            yield GaugeMetricFamily(f"aogconsole_reingestion_{name}_timestamp_seconds", meaning, seconds)
    failed = float(bool(loader["error"]))
    yield GaugeMetricFamily("aogconsole_reingestion_loader_failed", "Whether its last cycle met a fault", failed)
    live = sum(one["state"] != "stopped" and _age(one["seen"]) < ALIVE for one in told["runners"])
    yield GaugeMetricFamily("aogconsole_reingestion_runners", "Runners that were heard of within a minute", live)
    yield GaugeMetricFamily("aogconsole_reingestion_paused", "Whether it is paused", float(bool(told["paused"])))


def _age(since: str | None) -> float:
    seconds = None if since is None else _seconds(since)
    return 0.0 if seconds is None else max(0.0, times.now().timestamp() - seconds)


def _seconds(text: str) -> float | None:
    try:
        time: datetime = times.parse(text)
    except ValueError:
        return None
    return time.timestamp()


# ── the desk ─────────────────────────────────────────────────────────────────────────────────────────────────


def desk(where: str | None, path: Path) -> contextlib.AbstractContextManager[str | None]:
    """Serve the desk's metrics, read from the journal at each scrape, while the block runs."""

    def collect() -> Iterable[Metric]:
        try:
            journal = Journal.open(path, read_only=True)
        except AogError:
            return [_answers("journal", ok=False)]
        try:
            return [_answers("journal", ok=True), *_of_journal(journal)]
        finally:
            journal.close()

    return served(where, collect)


def _answers(part: str, *, ok: bool) -> Metric:
    up = GaugeMetricFamily("aogconsole_up", "Whether a part answered", labels=["part"])
    up.add_metric([part], ok)
    return up


def _of_journal(journal: Journal) -> Iterator[Metric]:
    for table, what in (("request", "Requests"), ("run", "Runs of the staging command"), ("letter", "Letters")):
        found = GaugeMetricFamily(f"aogconsole_{table}s", what, labels=["state"])
        for row in journal.all(f"select state, count(*) as n from {table} group by state"):  # noqa: S608 (ours)
            found.add_metric([row["state"]], row["n"])
        yield found
    lines = GaugeMetricFamily("aogconsole_connection_ok", "Whether a connection of the engine works", labels=["name"])
    for row in journal.all("select name, ok from connection"):
        lines.add_metric([row["name"]], row["ok"])
    yield lines
    seq = journal.all("select coalesce(max(seq), 0) as seq from history")[0]["seq"]
    yield CounterMetricFamily("aogconsole_history_rows", "Rows of the history", seq)
    yield GaugeMetricFamily("aogconsole_paused", "Whether the engine is paused", float(bool(journal.meta("paused"))))
