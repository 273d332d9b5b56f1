"""`kill -9` of the engine at any moment: nothing is lost, nothing happens twice (reliability F1)."""

from __future__ import annotations

import random
import time

from tests.support.desk import Desk, request_mail

TICKETS = ("1194", "1294", "1394", "1494")
KILLS = 14


def test_kills_at_random_moments_lose_and_double_nothing(desk: Desk) -> None:
    """A dozen kills over four requests: one stagecalms each, two at once at the most, one letter each."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    desk.deliver(*(request_mail(ticket=ticket) for ticket in TICKETS))
    for _ in range(KILLS):
        server = desk.start_serve()
        time.sleep(chance.uniform(0.3, 1.4))  # the moment is the test's random variable, not a wait for something
        assert server.poll() is None, desk.log()
        server.kill()
        server.wait()
        assert running(desk) <= 2
    with desk.serving():
        desk.wait(lambda: [one["state"] for one in desk.json("requests")] == ["closed"] * 4)
    runs = desk.json("runs")
    assert [desk.calls(ticket) for ticket in TICKETS] == [1, 1, 1, 1], f"seed {seed}"
    assert [run["state"] for run in runs] == ["succeeded"] * 4
    for run in runs:
        assert desk.call("log", run["id"], "--raw").stdout == desk.host.run_log(run["token"]), f"seed {seed}"
    letters = desk.json("letters")
    assert [letter["state"] for letter in letters] == ["sent"] * 4
    assert len(desk.filed()) == 4
    assert desk.json("history", "--verify")["ok"]


def running(desk: Desk) -> int:
    """How many stagecalms run on the host, counted from outside."""
    found = 0
    for pid in desk.host.processes():
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")  # noqa: SIM115
        except OSError:
            continue
        found += len(words) > 1 and words[1].endswith(desk.host.command.encode())
    return found
