"""The sample day without a screen: the real engine, and an operator who does what comes next.

The operator is a script on the real desk, with the policies at `ask` as they are: it stages what is entitled, refuses
what is refused, and lets letters go. What needs judgement it leaves alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from aogconsole import site, views
from aogconsole.config import Config
from aogconsole.demo.sample import Expected, SampleDay
from aogconsole.desk import Desk
from aogconsole.engine.lock import EngineLock
from aogconsole.engine.loop import Engine
from aogconsole.errors import Conflict, OutsideError
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal

LOOK = 0.1
"""Seconds between the operator's looks."""
LONGEST = 60.0
"""Seconds for everything but the runs; a day that takes longer hangs."""
RUNS = 2400.0
"""Seconds at speed 1 for all the runs, with a good margin."""
OVER = ("unclear", "held", "closed")
"""States in which the operator's script has nothing to do."""


def work_through(config: Config, day: SampleDay, speed: float) -> list[dict[str, Any]]:
    """Work the day to its end: one `{request, mail, expected, state, why}` for each mail; `why` null when all agrees.

    Raises Conflict when another process is the engine, OutsideError when the day does not end.
    """
    actor = Actor.engine()
    lock = EngineLock(config.journal_path)
    journal = Journal.open(config.journal_path, syslog="")
    try:
        if not lock.take(actor):
            raise Conflict(f"the engine runs already as {lock.holder()}", "end that one first")
        return asyncio.run(_work(config, journal, actor, day, LONGEST + RUNS / speed))
    finally:
        lock.give_up()
        journal.close()


async def _work(config: Config, journal: Journal, actor: Actor, day: SampleDay, most: float) -> list[dict[str, Any]]:
    engine = Engine(site.bench(config, journal, actor))
    engine.recover()
    running = asyncio.create_task(engine.run())
    try:
        async with asyncio.timeout(most):
            desk = site.desk(config, journal, Actor.current("demo"))
            while not running.done():
                if not _operate(journal, desk) and _over(journal, day):
                    break
                await asyncio.sleep(LOOK)
            else:
                await running
    except TimeoutError:
        raise OutsideError(
            f"the sample day did not end within {most:.0f} s", "look at the connections, and the load"
        ) from None
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    return compare(journal, day)


def _operate(journal: Journal, desk: Desk) -> bool:
    """Do whatever comes next, once; returns whether there was anything."""
    acts: list[tuple[Callable[[int], object], int]] = []
    for row in journal.all("select id, state from request where state in ('entitled', 'refused')"):
        acts.append((desk.stage if row["state"] == "entitled" else desk.refuse, row["id"]))
    for row in journal.all(
        "select letter.id from letter join request on request.id = letter.request"
        " where letter.state = 'draft' and request.state in ('staged', 'failed')"
    ):
        acts.append((desk.send, row["id"]))
    done = False
    for act, ident in acts:
        with contextlib.suppress(Conflict):  # its letter is on its way
            act(ident)
            done = True
    return done


def _over(journal: Journal, day: SampleDay) -> bool:
    """Whether every mail was read, and the script has nothing to do for any request, nor has the engine."""
    read = journal.one("select count(*) from mail")
    marks = ", ".join("?" * len(OVER))
    going = journal.one(f"select 1 from request where state not in ({marks}) or verdict = 'unknown'", *OVER)  # noqa: S608
    return read is not None and read[0] >= len(day.mails) and going is None


def compare(journal: Journal, day: SampleDay) -> list[dict[str, Any]]:
    """What became of each mail beside what was expected."""
    return [_compared(journal, one) for one in day.mails]


def _compared(journal: Journal, wanted: Expected) -> dict[str, Any]:
    mail = journal.one("select result, request from mail where source like ? order by id", f"%.{wanted.mail}")
    request = views.one_request(journal, mail["request"]) if mail and mail["result"] == "request" else None
    state = request["state"] if request else mail["result"] if mail else None
    found: dict[str, Any] = {"state": state}
    hoped: dict[str, Any] = {"state": wanted.expected}
    if request:
        sent = journal.all(
            "select kind from letter where request = ? and state = 'sent' order by id", int(request["id"])
        )
        ground = request["verdict_why"] if request["verdict"] == "entitled" else None
        found |= {"verdict": request["verdict"], "ground": ground, "letters": [row["kind"] for row in sent]}
        hoped |= {"verdict": wanted.verdict, "ground": wanted.ground, "letters": list(wanted.letters)}
    wrong = [f"{name} is {found.get(name)}, not {value}" for name, value in hoped.items() if found.get(name) != value]
    return {
        "request": request["id"] if request else None,
        "mail": wanted.mail,
        "expected": wanted.expected,
        "state": state,
        "why": "; ".join(wrong) or None,
    }
