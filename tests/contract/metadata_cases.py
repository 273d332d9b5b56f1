"""What every metadata database must tell, keep and wake, as checks that raise AssertionError."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from datetime import timedelta

from aogconsole.reingestion import item as rules
from aogconsole.reingestion.item import TRANSITIONS, Change, Found, Kind, Queue, State
from backends.reingestion_ports import Tracking
from tests.contract.tracking_site import LEASE, MANY, NOW, Site, block, check, everything, work


@check
async def finds_rows(site: Site) -> None:
    """Rows by state, kind and text, newest first, and no more than asked for."""
    tracking = site.open().tracking(Queue.ALMA)
    await tracking.add([block(n, project="2019.1.0123%.S") for n in range(1, 31)], "loader", NOW)
    await tracking.add([Found(Kind.CALIBRATION, "uid://A001/XF/X1", "1", None, None, reason="Disk_full")], "l", NOW)
    assert [row.id for row in await tracking.items(most=3)] == [31, 30, 29]
    assert [row.uid for row in await tracking.items(text="xF/x1")] == ["uid://A001/XF/X1"]
    assert len(await tracking.items(text="K_F")) == 1
    assert len(await tracking.items(text="0123%.s")) == 30
    assert len(await tracking.items(text="'; drop")) == 0
    assert len(await tracking.items([State.WAITING], Kind.CALIBRATION)) == 1
    await tracking.send(everything, "l", NOW, 5, MANY)
    assert [row.id for row in await tracking.items([State.QUEUED, State.WAITING], most=28)][-3:] == [6, 5, 4]
    assert await tracking.items([State.DEAD]) == []
    assert await tracking.get([]) == await tracking.of_workflow([]) == []


@check
async def takes_any_text(site: Site) -> None:
    """What comes from outside is stored so that it can be read: NUL, half pairs, quotes, and no end of it."""
    tracking = site.open().tracking(Queue.ALMA)
    nasty = "a\x00b\ud800'\"\\ \x1b[2J\r\nß💥%s :name {columns}"
    found = Found(Kind.CALIBRATION, nasty, nasty, nasty, None, State.DEFERRED, nasty + "x" * 20_000)
    assert await tracking.add([found], nasty, NOW) == 1
    assert await tracking.add([found], nasty, NOW) == 0
    [row] = await tracking.items()
    assert row.reason.startswith(row.uid)
    assert "'\"\\ \x1b[2J\r\nß💥%s :name {columns}" in row.uid
    assert len(row.reason) < 10_000
    [moved] = await tracking.move([Change(row, rules.dropped(row, nasty, NOW), nasty, nasty)], NOW)
    assert (await tracking.events(row.id))[-1].why == moved.reason == row.uid
    assert (await tracking.items(text=nasty))[0].id == row.id


@check
async def counts_and_remembers(site: Site) -> None:
    """After any changes, tried by several at once: the counts are right, and the events lead to every row's state."""
    trackings = [site.open().tracking(Queue.ALMA) for _ in range(3)]
    await trackings[0].add([block(n) for n in range(30)], "loader", NOW)
    rows = await trackings[0].items()

    async def wander(tracking: Tracking, seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(25):
            ids = dice.sample([row.id for row in rows], 6)
            seen = await tracking.get(dice.sample(ids, 6))
            dice.shuffle(seen)
            steps = [(row, dice.choice(sorted(TRANSITIONS[row.state]))) for row in seen]
            after = [(row, dataclasses.replace(row, state=step, attempt=row.attempt + 1)) for row, step in steps]
            await tracking.move([Change(row, new, str(seed), "") for row, new in after], NOW)

    await asyncio.gather(*(wander(tracking, seed) for seed, tracking in enumerate(trackings)))
    counted: dict[State, int] = {}
    for row in await trackings[0].items():
        counted[row.state] = counted.get(row.state, 0) + 1
        events = await trackings[0].events(row.id)
        assert [e.before for e in events] == [None, *(e.after for e in events[:-1])]
        assert (events[-1].after, events[-1].attempt, len(events) - 1) == (row.state, row.attempt, row.attempt)
        assert all(late.number > early.number for early, late in itertools.pairwise(events))
    assert await trackings[1].counts() == {Kind.EXECUTION_BLOCK: counted, Kind.CALIBRATION: {}}
    site.ask("delete from alma_reingestion_queue where id <= 3")
    assert sum((await trackings[1].counts())[Kind.EXECUTION_BLOCK].values()) == 27


@check
async def tells_times(site: Site) -> None:
    """Since when the longest waiting row waits, and what happened in each hour."""
    tracking = site.open().tracking(Queue.ALMA)
    assert await tracking.oldest_waiting() is None
    hour = timedelta(hours=1)
    await tracking.add([block(1), block(2), block(3)], "loader", NOW - 3 * hour)
    await tracking.send(everything, "loader", NOW - 2 * hour, 2, MANY)
    assert await tracking.oldest_waiting() == NOW - 3 * hour
    await tracking.send(everything, "loader", NOW - hour, 9, MANY)
    assert await tracking.oldest_waiting() == NOW - 2 * hour
    rows = await tracking.items([State.QUEUED])
    claims = await tracking.claim([work(row) for row in rows], "r", MANY, NOW, LEASE)
    assert await tracking.oldest_waiting() is None
    good, bad, last = claims.launching
    ends = [rules.done(good, NOW), rules.failed(bad, "x", NOW, 1, LEASE), rules.failed(last, "x", NOW, 3, LEASE)]
    await tracking.move([Change(a, b, "r", "") for a, b in zip(claims.launching, ends, strict=True)], NOW)
    [dead] = await tracking.items([State.DEAD])
    await tracking.move([Change(dead, rules.requeued(dead, "again"), "op", "again")], NOW + hour)
    assert await tracking.oldest_waiting() == NOW + hour
    hours = {one_.begins: one_ for one_ in await tracking.hours(NOW - 5 * hour)}
    begins = NOW.replace(minute=0, second=0, microsecond=0)
    told = [(n, hours[begins + n * hour]) for n in (-3, -2, -1, 0)]
    assert [(n, h.found, h.sent, h.done, h.failed) for n, h in told] == [
        (-3, 3, 0, 0, 0), (-2, 0, 2, 0, 0), (-1, 0, 1, 0, 0), (0, 0, 0, 1, 2)]  # fmt: skip
    assert all(one_.begins >= NOW for one_ in await tracking.hours(NOW + hour))


@check
async def keeps_notes(site: Site) -> None:
    """A note is read by all, and takes the place of the one before; the installation's id is everybody's."""
    first, second = site.open(), site.open()
    await first.note("loader", {"found": 3, "why": 'ß"'}, NOW)
    await second.note("loader", {"found": 4, "next": None}, NOW + LEASE)
    await first.note("paused", {}, NOW)
    notes = await second.notes()
    assert (notes["loader"].value, notes["loader"].at) == ({"found": 4, "next": None}, NOW + LEASE)
    assert (notes["paused"].value, notes["paused"].key) == ({}, "paused")
    assert await first.installation() == await second.installation()
    assert "tables of version" in await first.ping()


@check
async def wakes(site: Site) -> None:
    """Who listens hears of rows, notes and `loader`, from this program and from others, and what each was."""
    mine, theirs = site.open(), site.open()
    heard: asyncio.Queue[str] = asyncio.Queue()
    await theirs.note("ready", {}, NOW)

    async def listen() -> None:
        async with aclosing(mine.changes()) as changes:  # type: ignore[type-var]
            async for what in changes:
                heard.put_nowait(what)

    async def hears(what: str, act: Callable[[], Awaitable[object]]) -> None:
        async with asyncio.timeout(10):
            while True:  # listening begins a little later than the task does
                await act()
                with suppress(TimeoutError):
                    while await asyncio.wait_for(heard.get(), 0.4) != what:
                        pass
                    return

    listening = asyncio.create_task(listen())
    numbers = iter(range(100))
    await hears("loader", lambda: theirs.wake("loader"))
    await hears("queue", lambda: theirs.tracking(Queue.VLBA).add([block(next(numbers))], "l", NOW))
    await hears("queue", lambda: mine.tracking(Queue.ALMA).add([block(next(numbers))], "l", NOW))
    await hears("note", lambda: theirs.note("paused", {}, NOW))
    await mine.close()
    async with asyncio.timeout(10):
        await listening


@check
async def stops_listening(site: Site) -> None:
    """Who listens ends when told to, also when something is woken at that very moment."""
    metadata = site.open()
    await metadata.note("ready", {}, NOW)

    async def listen() -> None:
        async with aclosing(metadata.changes()) as changes:  # type: ignore[type-var]
            async for _ in changes:
                listens.set()

    for _ in range(3):
        listens = asyncio.Event()
        listening = asyncio.create_task(listen())
        async with asyncio.timeout(10):
            while not listens.is_set():
                await metadata.wake("loader")
                await asyncio.sleep(0.01)
            await metadata.wake("loader")
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening
        assert listening.cancelled()


@check
async def marks_stay(site: Site) -> None:
    """A mark reaches the MOUS's execution blocks; an older version's takes back nothing."""
    metadata = site.open()
    site.ask("insert into alma_ouses (mous_uid) values ('uid://A001/X1/Xa')")
    for number, mous in enumerate("aab"):
        site.ask(f"insert into execution_blocks (uid, mous_uid) values ('e{number}', 'uid://A001/X1/X{mous}')")  # noqa: S608
    mous = "uid://A001/X1/Xa"
    assert await metadata.marks([mous, "uid://A001/X1/Xb"]) == {mous: (None, None)}
    assert await metadata.mark(mous, "Do Not Calibrate", "2026-01-02", NOW)
    assert not await metadata.mark(mous, "Calibrated", "2026-01-01", NOW)
    status = "select uid, calibration_status from execution_blocks order by uid"
    assert [row[1] for row in site.ask(status)] == ["Do Not Calibrate"] * 2 + [None]
    assert await metadata.mark(mous, "Do Not Calibrate", "2026-01-02", NOW)
    assert await metadata.mark(mous, "Calibrated", "2026-01-03", NOW)
    assert [row[1] for row in site.ask(status)] == ["Calibrated"] * 2 + [None]
    assert await metadata.marks([mous]) == {mous: ("Calibrated", "2026-01-03")}
    assert await metadata.mark(mous, None, "2026-01-04", NOW)
    assert [row[1] for row in site.ask(status)] == [None] * 3
    assert await metadata.mark("uid://A001/X1/Xnew", "Calibrated", "1", NOW)
    assert await metadata.marks([]) == {}


@check
async def one_is_alone(site: Site) -> None:
    """A lock is one program's, until its block ends; locks of other names are others'."""
    first, second = site.open(), site.open()
    async with first.alone("loader") as mine, second.alone("loader") as theirs, second.alone("other") as other:
        assert not await mine.held()
        assert await mine.take()
        assert await mine.take()
        assert not await theirs.take()
        assert await other.take()
        assert (await mine.held(), await theirs.held()) == (True, False)
    async with second.alone("loader") as theirs:
        assert await theirs.take()
