"""Everything that happens to staging while `serve` runs: bad lines, dead servers, reboots, other people's runs.

One stagecalms per run, nothing restarted by itself, and each request says what it waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from aogconsole import config, site
from aogconsole.engine import recorder
from aogconsole.engine.recorder import Recorder
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal
from tests.crash.driver import Driver
from tests.support.desk import MOUS, PROJECT, Desk, request_mail
from tests.support.proxy import TcpProxy
from tests.support.sshd import make_keys


@contextlib.contextmanager
def bad_line(desk: Desk) -> Iterator[tuple[TcpProxy, asyncio.AbstractEventLoop]]:
    """A proxy between the engine and the staging host, in a thread of its own."""
    loop, proxy = asyncio.new_event_loop(), TcpProxy(desk.host.port)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(proxy.__aenter__(), loop).result(10)
    desk.configure(port=proxy.port)
    try:
        yield proxy, loop
    finally:
        asyncio.run_coroutine_threadsafe(proxy.__aexit__(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def sql(desk: Desk, statement: str, *values: object) -> list[Any]:
    """A statement on the journal, from outside."""
    with contextlib.closing(sqlite3.connect(desk.folder / "state" / "journal.db", timeout=10)) as connection:
        rows = connection.execute(statement, values).fetchall()
        connection.commit()
        return rows


def staging_connection(desk: Desk) -> tuple[bool, str]:
    """What the engine says of the staging host: whether it answers, and why not."""
    rows = sql(desk, "select ok, detail from connection where name = 'staging'")
    return (bool(rows[0][0]), str(rows[0][1])) if rows else (False, "")


def state(desk: Desk, ticket: str) -> str:
    """A request's state; empty while there is none."""
    rows = sql(desk, "select state from request where ticket = ?", ticket)
    return str(rows[0][0]) if rows else ""


def why(desk: Desk, ticket: str) -> str:
    """What a request says of itself; empty while there is none."""
    rows = sql(desk, "select why from request where ticket = ?", ticket)
    return str(rows[0][0]) if rows else ""


def wait_why(desk: Desk, ticket: str, words: str) -> None:
    """Until the request says so."""
    desk.wait(lambda: words in why(desk, ticket))


def run_of(desk: Desk, ticket: str) -> dict[str, Any]:
    """The newest run of a ticket."""
    run: dict[str, Any] = desk.json("run", desk.requests()[ticket]["run"])
    return run


def wait_state(desk: Desk, ticket: str, wanted: str) -> None:
    """Until the request is in this state; a staging one has begun to speak."""
    desk.wait(lambda: state(desk, ticket) == wanted)
    if wanted == "staging":
        desk.wait(lambda: desk.calls(ticket) and sql(desk, "select 1 from run where ticket = ? and log_bytes", ticket))


def go(desk: Desk, *tickets: str) -> None:
    """Let runs that wait for it end."""
    for ticket in tickets:
        (desk.host.home / f"go.{ticket}").touch()


def by_hand(desk: Desk, ticket: str) -> subprocess.Popen[bytes]:
    """Somebody starts stagecalms on the host."""
    started = desk.host.as_account([str(desk.host.home / "bin" / desk.host.command), PROJECT, MOUS, ticket])
    desk.wait(lambda: desk.calls(ticket))
    return started


def assert_whole(desk: Desk, *tickets: str) -> None:
    """Each request ended with one stagecalms, its whole log and one letter; the history is sound."""
    found = desk.requests()
    for ticket in tickets:
        assert desk.calls(ticket) == 1, ticket
        run = desk.json("run", found[ticket]["run"])
        assert run["state"] == "succeeded"
        assert desk.call("log", run["id"], "--raw").stdout == desk.host.run_log(run["token"])
        assert len(found[ticket]["letters"]) == 1
    assert len(desk.filed()) == len(tickets)
    assert desk.json("history", "--verify")["ok"]


def await_use(desk: Desk, proxy: TcpProxy) -> None:
    """Until something is sent to the host, or nothing more will be."""
    used = proxy.sent_up
    desk.wait(lambda: proxy.sent_up > used or state(desk, "1394") == "closed")


def test_a_line_that_breaks_at_any_moment_doubles_and_loses_nothing(desk: Desk) -> None:
    """Reset, cut or frozen during starts and output: one stagecalms each, the log byte for byte, one letter each."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    harms = [["reset"], ["half_close"], ["freeze", "thaw"], ["freeze", "reset"]] * 2
    chance.shuffle(harms)
    with bad_line(desk) as (proxy, loop):
        desk.deliver(request_mail(ticket="1194"), request_mail(ticket="1294"), request_mail(ticket="1394"))
        with desk.serving():
            for harm in harms:
                await_use(desk, proxy)
                for step in harm:
                    time.sleep(chance.uniform(0.05, 0.3))  # the moment is the test's random variable
                    loop.call_soon_threadsafe(getattr(proxy, step))
            for ticket in ("1194", "1294", "1394"):
                wait_state(desk, ticket, "closed")
        assert proxy.connected > 2
    assert_whole(desk, "1194", "1294", "1394")


def test_a_server_that_is_killed_and_comes_back(desk: Desk) -> None:
    """Runs go on without it, what they say meanwhile is fetched, and the engine says that the host is away."""
    desk.deliver(request_mail(ticket="1193"))
    with desk.serving():
        wait_state(desk, "1193", "staging")
        desk.host.stop()
        desk.wait(lambda: "nothing listens" in staging_connection(desk)[1])
        go(desk, "1193")
        desk.wait(lambda: not desk.host.processes())
        assert state(desk, "1193") == "staging"
        desk.host.start()
        wait_state(desk, "1193", "closed")
        assert staging_connection(desk) == (True, "")
    assert_whole(desk, "1193")


def test_the_days_are_counted_from_the_runs_end(desk: Desk) -> None:
    """The engine was away when they ended: the letter tells what is left of them; with none left there is no letter."""
    ages = {"1193": 5, "1293": 30}
    desk.deliver(request_mail(ticket="1193"), request_mail(ticket="1293", account="del1"))
    with desk.serving():
        for ticket in ages:
            wait_state(desk, ticket, "staging")
    go(desk, *ages)
    for ticket, days in ages.items():
        run = run_of(desk, ticket)
        exited = desk.host.root / run["token"] / "exit"
        desk.wait(exited.exists)
        ended = time.time() - days * 86400
        os.utime(exited, (ended, ended))
    with desk.serving():
        wait_state(desk, "1193", "closed")
        wait_state(desk, "1293", "unclear")
    assert {one["run"]: one["days_left"] for one in desk.json("staged")} == {
        run_of(desk, "1193")["id"]: 23, run_of(desk, "1293")["id"]: -2,
    }  # fmt: skip
    (letter,) = desk.filed()
    assert b"It will be deleted 23 days from now." in letter
    assert "the staged data is, or is about to be, deleted" in why(desk, "1293")
    shutil.rmtree(desk.host.web_root)
    desk.host.web_root.mkdir()
    with desk.serving():
        desk.wait(lambda: [one["days_left"] for one in desk.json("staged")] == [23])


def test_after_a_reboot_a_person_decides(desk: Desk) -> None:
    """Another boot id: the run is lost and the request unclear; nothing starts by itself, `rerun` is a new run."""
    desk.deliver(request_mail(ticket="1193"))
    with desk.serving():
        wait_state(desk, "1193", "staging")
        lost = run_of(desk, "1193")
        noted = desk.host.root / lost["token"] / "pid"
        pid, started, _, slot = noted.read_text().splitlines()
        desk.host.stop()
        for process in desk.host.processes():
            desk.host.kill(process)
        noted.write_text(f"{pid}\n{started}\n00000000-0000-4000-8000-000000000000\n{slot}\n")
        desk.host.start()
        wait_state(desk, "1193", "unclear")
        request = desk.requests()["1193"]
        assert request["next_action"] == "decide"
        assert "started anew" in request["why"]
        assert run_of(desk, "1193")["state"] == "lost"
        assert desk.filed() == []
        desk.deliver(request_mail(ticket="1295"))  # takes the whole way, so the engine had every chance to restart ours
        wait_state(desk, "1295", "closed")
        assert (state(desk, "1193"), desk.calls("1193")) == ("unclear", 1)
        go(desk, "1193")
        desk.call("rerun", request["id"], "--why", "the host was rebooted")
        wait_state(desk, "1193", "closed")
    assert desk.calls("1193") == 2
    assert run_of(desk, "1193")["token"] != lost["token"]
    assert [run["state"] for run in desk.json("runs") if run["request"] == request["id"]] == ["lost", "succeeded"]
    assert len(desk.filed()) == 2


def test_a_run_whose_end_nobody_saw_is_lost(desk: Desk) -> None:
    """Its wrapper is killed: even with a completion block no link is sent, and a person decides."""
    desk.deliver(request_mail(ticket="1193"))
    with desk.serving():
        wait_state(desk, "1193", "staging")
        run = run_of(desk, "1193")
        desk.host.kill(int((desk.host.root / run["token"] / "pid").read_text().split()[0]))
        go(desk, "1193")
        wait_state(desk, "1193", "unclear")
    assert "killed on the staging host" in desk.requests()["1193"]["why"]
    ended = desk.json("run", run["id"])
    assert (ended["state"], ended["exit_status"]) == ("lost", None)
    assert "completed" in [one["kind"] for one in ended["milestones"]]
    assert desk.call("log", run["id"], "--raw").stdout == desk.host.run_log(run["token"])
    assert desk.filed() == []


def test_runs_started_by_hand_take_their_slots(desk: Desk) -> None:
    """Two by hand: ours wait and say so; each one that ends makes room for one of ours; theirs are not touched."""
    theirs = [by_hand(desk, "7793"), by_hand(desk, "7893")]
    desk.deliver(request_mail(ticket="1193"), request_mail(ticket="1293", account="del1"))
    with desk.serving():
        for ticket in ("1193", "1293"):
            wait_why(desk, ticket, "2 started by hand")
        assert desk.calls("1193") == desk.calls("1293") == 0
        go(desk, "7793")
        wait_state(desk, "1193", "staging")
        wait_why(desk, "1293", "1 started by hand")
        assert (state(desk, "1293"), desk.calls("1293")) == ("queued", 0)
        go(desk, "7893")
        wait_state(desk, "1293", "staging")
        go(desk, "1193", "1293")
        for ticket in ("1193", "1293"):
            wait_state(desk, ticket, "closed")
    assert [one.wait(10) for one in theirs] == [0, 0]
    assert_whole(desk, "1193", "1293")


def test_a_queue_and_its_order(desk: Desk) -> None:
    """Two run and two wait; `move` brings the last to the front; a run that is stopped is held, and may run again."""
    tickets = ("1193", "1293", "1393", "1493")
    with desk.serving():
        for ticket in tickets:  # one after the other: of those checked at once, the one that is checked first is first
            desk.deliver(request_mail(ticket=ticket))
            wait_state(desk, ticket, "staging" if ticket in tickets[:2] else "queued")
        desk.call("move", desk.requests()["1493"]["id"], "1")
        stopped = run_of(desk, "1193")
        desk.call("stop", stopped["id"], "--why", "the wrong one")
        wait_state(desk, "1193", "held")
        wait_state(desk, "1493", "staging")
        assert (state(desk, "1393"), desk.calls("1393")) == ("queued", 0)
        request = desk.requests()["1193"]
        assert "the wrong one" in request["why"]
        assert request["next_action"] == "rerun"
        assert run_of(desk, "1193")["state"] == "stopped"
        desk.call("rerun", request["id"], "--why", "it was the right one")
        go(desk, *tickets)
        for ticket in tickets:
            wait_state(desk, ticket, "closed")
    assert [desk.calls(ticket) for ticket in tickets] == [2, 1, 1, 1]
    assert run_of(desk, "1193")["token"] != stopped["token"]
    assert len(desk.filed()) == 4
    assert desk.json("history", "--verify")["ok"]


def test_a_run_that_waits_for_a_busy_host_can_be_stopped(desk: Desk) -> None:
    """The slots went to runs by hand between the plan and the start: it waits, says so, and `stop` ends it."""
    desk.deliver(request_mail(ticket="1193"))
    with Driver(desk.config, desk.environment, desk.folder / "driver.log") as driver:
        assert driver.run("host.start before #1")[0] == -9
    for ticket in ("7793", "7893"):
        by_hand(desk, ticket)
    with desk.serving():
        wait_why(desk, "1193", "2 started by hand")
        run = run_of(desk, "1193")
        assert (run["state"], state(desk, "1193")) == ("starting", "queued")
        desk.call("stop", run["id"], "--why", "not today")
        wait_state(desk, "1193", "held")
        assert run_of(desk, "1193")["state"] == "stopped"
        go(desk, "1193", "7793", "7893")
        desk.call("rerun", desk.requests()["1193"]["id"], "--why", "now")
        wait_state(desk, "1193", "closed")
    assert_whole(desk, "1193")


def test_staged_data_are_kept_warned_of_and_told_as_gone(desk: Desk) -> None:
    """`keep` puts a .donotremove there and takes it out; before the day there is a warning, after it a look."""
    desk.deliver(request_mail())
    with desk.serving():
        wait_state(desk, "15270", "closed")
        (staged,) = desk.json("staged")
        directory = desk.host.web_root / staged["url"].rpartition("/")[2]
        mark = directory / ".donotremove"
        desk.call("keep", staged["run"])
        desk.wait(lambda: desk.json("staged")[0]["kept"])
        assert mark.exists()
        desk.call("keep", staged["run"], "--off")
        desk.wait(lambda: not desk.json("staged")[0]["kept"])
        assert not mark.exists()
        yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
        sql(desk, "update run set deleted_on = ?", yesterday)
        desk.wait(lambda: "warn" in [one["verb"] for one in desk.json("history")])
        assert f"deleted on {yesterday}" in (run_of(desk, "15270")["why"] or "")
        assert [one["days_left"] for one in desk.json("staged")] == [-1]
        shutil.rmtree(directory)
    with desk.serving():
        desk.wait(lambda: desk.json("staged") == [])


def test_a_changed_host_key_is_told_and_nothing_is_sent(desk: Desk) -> None:
    """Nobody logs in there, and the request waits; with the right key it goes on."""
    known = desk.folder / "known_hosts"
    shutil.copy(desk.host.known_hosts, known)
    desk.configure(**{f'"{desk.host.known_hosts}"': f'"{known}"'})  # type: ignore[arg-type]
    keys = [desk.host.folder / name for name in ("host_ed25519", "host_ed25519.pub")]
    right = [key.read_bytes() for key in keys]
    with desk.serving():
        desk.wait(lambda: staging_connection(desk)[0])
        desk.host.stop()
        make_keys(desk.host.folder, "host_ed25519")
        desk.host.hand_over()
        desk.host.log = []
        desk.host.start()
        desk.deliver(request_mail())
        desk.wait(lambda: "shows another key" in staging_connection(desk)[1])
        wait_state(desk, "15270", "queued")
        assert "shows another key" in desk.log()
        assert not [line for line in desk.host.log if "Accepted" in line or "Starting session" in line]
        assert desk.calls("15270") == 0
        desk.host.stop()
        for key, content in zip(keys, right, strict=True):
            key.write_bytes(content)
        desk.host.start()
        wait_state(desk, "15270", "closed")
    assert_whole(desk, "15270")


def test_a_silent_run_needs_a_person(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times the usual silence, at least half an hour: the request says so once, until the run speaks again."""
    desk.deliver(request_mail(ticket="1193"))
    with desk.serving():
        wait_state(desk, "1193", "staging")
    loaded = config.load(desk.config)
    with contextlib.closing(Journal.open(loaded.journal_path)) as journal:
        monkeypatch.setenv("AOG_TEST_ORACLE", desk.environment["AOG_TEST_ORACLE"])
        bench = site.bench(loaded, journal, Actor("engine@test", "test"))
        run = journal.all("select * from run")[0]
        clock = 1000.0
        monkeypatch.setattr(recorder, "time", SimpleNamespace(monotonic=lambda: clock))

        def told() -> str:
            return str(journal.fetch("request", run["request"])["why"])

        heard = Recorder(bench, run["id"])
        heard.progress((), run["log_bytes"] + 10, 5)
        for clock in (1700.0, 2799.0):  # noqa: B007
            heard.progress((), run["log_bytes"] + 10, 5)
            assert told() == ""
        for clock in (2801.0, 2900.0):  # noqa: B007
            heard.progress((), run["log_bytes"] + 10, 5)
            assert told() == f"run {run['id']} has said nothing for 0:30:01: look at it, or stop it"
        heard.progress((), run["log_bytes"] + 20, 6)
        assert told() == ""
        assert journal.fetch("run", run["id"])["longest_silence"] == 1900.0
        assert [one["verb"] for one in journal.all("select verb from history")].count("silent") == 1
    go(desk, "1193")
    desk.serve_until_idle()
    assert_whole(desk, "1193")
