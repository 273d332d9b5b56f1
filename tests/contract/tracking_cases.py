"""What every tracking table must do with its rows, as checks that raise AssertionError."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Collection, Sequence

import pytest

from aogconsole.reingestion import item as rules
from aogconsole.reingestion.item import Change, Found, Item, Kind, Queue, State
from backends.reingestion_ports import Limits, Tracking
from tests.contract.tracking_site import (
    LEASE,
    MANY,
    NOW,
    Site,
    block,
    check,
    everything,
    in_state,
    one,
    queued,
    set_to,
    work,
)


@check
async def adds_once(site: Site) -> None:
    """The same is entered once, whoever finds it; with its first event and every column as found."""
    first, second = site.open().tracking(Queue.ALMA), site.open().tracking(Queue.ALMA)
    assert await first.add([block(1), block(2, state=State.DEFERRED, project="p")], "loader", NOW) == 2
    assert await second.add([block(2), block(3)], "loader", NOW) == 1
    assert await first.add([], "loader", NOW) == 0
    third, two, one_ = await second.items()
    assert one_.id < two.id < third.id
    assert {one_.uid, two.uid, third.uid} == {block(n).uid for n in (1, 2, 3)}
    assert (two.state, two.project, two.source_time, two.created_at) == (State.DEFERRED, "p", block(2).source_time, NOW)
    assert (two.attempt, two.first_attempt, two.queued_at, two.workflow_id) == (0, 0, None, None)
    [event] = await first.events(two.id)
    assert (event.before, event.after, event.by, event.at, event.item) == (None, State.DEFERRED, "loader", NOW, two.id)
    assert await first.unknown([(Kind.EXECUTION_BLOCK, block(n).uid, v) for n in (9, 1) for v in "12"]) == [
        (Kind.EXECUTION_BLOCK, block(9).uid, "1"), (Kind.EXECUTION_BLOCK, block(9).uid, "2"),
        (Kind.EXECUTION_BLOCK, block(1).uid, "2")]  # fmt: skip
    asked = [(Kind.EXECUTION_BLOCK, block(n).uid, "1") for n in (3, 9, 1, 1)]
    assert await first.known([*asked, (Kind.CALIBRATION, two.uid, "1"), (Kind.EXECUTION_BLOCK, two.uid, "2")]) == [
        one_, third]  # fmt: skip
    assert await first.known([]) == []
    assert await second.newest(Kind.EXECUTION_BLOCK) == block(3).source_time
    assert await second.newest(Kind.CALIBRATION) is None
    assert await site.open().tracking(Queue.VLBA).items() == []


@check
async def newer_takes_place(site: Site) -> None:
    """A newer version drops the older ones that were not launched, and no others; an older one that comes late too."""
    tracking = site.open().tracking(Queue.ALMA)
    old = {state: await in_state(tracking, state, block(n)) for n, state in enumerate(State)}
    unlaunched = {State.DEFERRED, State.WAITING, State.QUEUED, State.FAILED, State.DROPPED}
    assert await tracking.add([block(n, "2") for n, _ in enumerate(State)], "loader", NOW) == len(State)
    for state, before in old.items():
        now = await one(tracking, before.id)
        assert now.state is (State.DROPPED if state in unlaunched else state)
        if state in unlaunched - {State.DROPPED}:
            assert "newer version" in now.reason
            assert (await tracking.events(now.id))[-1].why == now.reason
    assert await tracking.add([block(1, "0")], "loader", NOW) == 1
    late = (await tracking.items())[0]
    assert (late.version, late.state) == ("0", State.DROPPED)
    assert [row.state for row in await tracking.items() if row.version == "2"] == [State.WAITING] * len(State)


@check
async def older_comes_when_newer_is_launched(site: Site) -> None:
    """An older version that comes late is dropped only while a newer one is still to be launched; of several that
    are not launched one is left, and a newer one drops them whatever it is itself. Twice the same changes nothing."""
    tracking = site.open().tracking(Queue.ALMA)
    for n, state in enumerate(State):
        await in_state(tracking, state, block(n, "5"))
    late = [block(n, "3") for n, _ in enumerate(State)]
    assert await tracking.add(late, "loader", NOW) == len(State)
    rows = {row.uid: row for row in await tracking.items() if row.version == "3"}
    for found, state in zip(late, State, strict=True):
        unlaunched = state in (State.DEFERRED, State.WAITING, State.QUEUED, State.FAILED)
        assert rows[found.uid].state is (State.DROPPED if unlaunched else State.WAITING), state
    before = await tracking.items()
    assert await tracking.add(late, "loader", NOW) == 0
    assert await tracking.items() == before
    done = block(list(State).index(State.DONE), "1")
    assert await tracking.add([done], "loader", NOW) == 1
    assert (await tracking.items())[0].state is State.DROPPED
    assert await one(tracking, rows[done.uid].id) == rows[done.uid]
    newest = dataclasses.replace(done, version="9", state=State.DO_NOT_CALIBRATE)
    assert await tracking.add([newest], "loader", NOW) == 1
    assert (await one(tracking, rows[done.uid].id)).state is State.DROPPED


@check
async def text_finds(site: Site) -> None:
    """Any part of a UID in either spelling, of a project or a reason, whatever its case."""
    tracking = site.open().tracking(Queue.ALMA)
    found = Found(Kind.CALIBRATION, "uid://A001/X7e4988/X1A", "1", "2019.1.00001.S", NOW, State.DEFERRED, "No products")
    await tracking.add([block(1), found], "loader", NOW)
    for text in ("uid://a001", "X7E4988/x", "uid___A001_X7e4988_X1a", "X7e4988_X", "1_X7", "2019.1", "no prod"):
        assert [row.uid for row in await tracking.items(text=text)] == [found.uid], text
    assert await tracking.items(text="X7e4988__X") == []


@check
async def judges_again(site: Site) -> None:
    """Deferred rows come by id, in pages, of one kind, when their time has come."""
    tracking = site.open().tracking(Queue.ALMA)
    mous = [Found(Kind.CALIBRATION, f"uid://A001/X1/X{n:x}", "1", None, NOW, State.DEFERRED) for n in range(1, 8)]
    await tracking.add([*mous, block(1, state=State.DEFERRED)], "loader", NOW)
    row = next(row for row in await tracking.items() if row.uid == mous[2].uid)
    await tracking.move([Change(row, rules.deferred(row, "later", NOW + LEASE), "op", "later")], NOW)
    first = await tracking.to_judge(Kind.CALIBRATION, NOW, 0, 4)
    second = await tracking.to_judge(Kind.CALIBRATION, NOW, first[-1].id, 4)
    assert [row.uid for row in first + second] == [found.uid for found in mous if found is not mous[2]]
    assert [row.uid for row in await tracking.to_judge(Kind.CALIBRATION, NOW + LEASE, 0, 9)] == [o.uid for o in mous]


@check
async def moves_what_is_as_seen(site: Site) -> None:
    """A change is made only while state and attempt are as they were seen; all columns are kept; each has its event."""
    mine, theirs = site.open().tracking(Queue.ALMA), site.open().tracking(Queue.ALMA)
    [row, other] = await queued(mine, block(1), block(2))
    claimed = rules.claimed(row, "r@h:1", "w-1", NOW, LEASE)
    [taken] = await mine.move([Change(row, claimed, "r@h:1", "claimed")], NOW)
    assert taken == claimed == await one(theirs, row.id)
    stale = [
        Change(row, rules.dropped(row, "no", NOW), "op", "no"),
        Change(other, rules.given_back(other, "x"), "r", ""),
    ]
    assert [made.id for made in await theirs.move(stale, NOW)] == [other.id]
    assert await one(mine, row.id) == claimed
    assert len(await mine.events(row.id)) == 3
    again = rules.sent(await one(mine, other.id), NOW)
    [back] = await theirs.move([Change(await one(mine, other.id), again, "l", "sent")], NOW)
    attempted = dataclasses.replace(other, attempt=0)
    assert await mine.move([Change(attempted, rules.given_back(attempted, ""), "r", "")], NOW) == []
    failed = rules.failed(claimed, "broke", NOW, 3, LEASE)
    chain = [Change(claimed, failed, "r", "broke"), Change(failed, rules.requeued(failed, "again"), "op", "again")]
    done = await mine.move(chain, NOW + LEASE)
    assert (done[-1].state, done[-1].first_attempt, done[-1].finished_at) == (State.WAITING, 1, NOW)
    assert [e.after for e in await mine.events(row.id)][-2:] == [State.FAILED, State.WAITING]
    assert (await mine.events(row.id))[-1].at == NOW + LEASE
    assert back.attempt == 1
    assert await mine.move([], NOW) == []


@check
async def sends_what_is_due(site: Site) -> None:
    """Due rows go out, oldest first, marked by what was confirmed; what fails, or raises, stays as it was."""
    tracking = site.open().tracking(Queue.ALMA)
    await tracking.add([block(n) for n in range(1, 6)], "loader", NOW)
    failed = await in_state(tracking, State.FAILED, block(6))
    failed = await set_to(tracking, failed, state=State.QUEUED)
    failed = await set_to(tracking, failed, state=State.LAUNCHING)
    failed = await set_to(tracking, failed, state=State.FAILED, not_before=NOW + LEASE, attempt=1)
    seen: list[Item] = []

    async def partly(items: Sequence[Item]) -> Collection[int]:
        seen.extend(items)
        return {row.id for row in items[::2]} | {999_999}

    assert await tracking.send(partly, "loader", NOW, 4, MANY) == (4, 2)
    assert [(row.uid, row.attempt, row.state, row.queued_at) for row in seen] == [
        (block(n).uid, 1, State.QUEUED, NOW) for n in range(1, 5)
    ]
    rows = await tracking.get([row.id for row in seen])
    assert [row.state for row in rows] == [State.QUEUED, State.WAITING] * 2
    assert [row.attempt for row in rows] == [1, 0, 1, 0]
    assert rows[0] == seen[0]

    async def breaks(items: Sequence[Item]) -> Collection[int]:
        raise RuntimeError("no broker")

    with pytest.raises(RuntimeError):
        await tracking.send(breaks, "loader", NOW, 4, MANY)
    assert await tracking.due(NOW) == NOW
    assert await tracking.send(everything, "loader", NOW, 100, MANY) == (3, 3)
    assert await tracking.send(everything, "loader", NOW, 100, MANY) == (0, 0)
    assert await tracking.due(NOW) == NOW + LEASE
    assert await tracking.send(everything, "loader", NOW + LEASE, 100, MANY) == (1, 1)
    assert await tracking.due(NOW) is None
    again = await one(tracking, failed.id)
    assert (again.attempt, again.not_before, again.state) == (2, None, State.QUEUED)
    held = await tracking.move([Change(again, rules.claimed(again, "r@h:1", "w", NOW, LEASE), "r", "")], NOW)
    [broke] = await tracking.move([Change(held[0], rules.failed(held[0], "no", NOW, 9, LEASE * 0), "r", "no")], NOW)
    assert await tracking.send(everything, "loader", NOW + LEASE, 1, MANY) == (1, 1)
    assert await one(tracking, failed.id) == rules.sent(broke, NOW + LEASE)
    last = (await tracking.events(failed.id))[-1]
    assert (last.at, last.by, last.before, last.after, last.attempt, last.why) == (
        NOW + LEASE, "loader", State.FAILED, State.QUEUED, 3, "sent",
    )  # fmt: skip
    assert [row.uid for row in await tracking.lost(NOW + LEASE, 2)] == [seen[0].uid, seen[1].uid]
    assert await tracking.lost(NOW, 9) == []


@check
async def sends_apart(site: Site) -> None:
    """No project gets more messages than it has places left."""
    tracking = site.open().tracking(Queue.VLBA)
    names = ["a", "a", "b", None, "b", "c", None, "a"]
    await tracking.add([block(n, project=name) for n, name in enumerate(names)], "loader", NOW)
    limits = Limits(10, 1)
    assert await tracking.send(everything, "loader", NOW, 3, limits) == (3, 3)
    assert await tracking.send(everything, "loader", NOW, 9, limits) == (1, 1)
    assert await tracking.send(everything, "loader", NOW, 9, limits) == (0, 0)
    sent = await tracking.items([State.QUEUED])
    assert sorted(row.project or "" for row in sent) == ["", "a", "b", "c"]
    [b] = [row for row in sent if row.project == "b"]
    for state in (State.LAUNCHING, State.LAUNCH_UNKNOWN, State.RUNNING):
        b = await set_to(tracking, b, state=state)
        assert await tracking.send(everything, "loader", NOW, 9, limits) == (0, 0)
    await set_to(tracking, b, state=State.DONE)
    assert await tracking.send(everything, "loader", NOW, 9, limits) == (1, 1)
    assert await tracking.send(everything, "loader", NOW, 9, Limits(10, 2)) == (2, 2)


@check
async def sends_each_once(site: Site) -> None:
    """Of two who send at the same time no row is sent by both, and others may read and go on meanwhile."""
    first, second = site.open().tracking(Queue.ALMA), site.open().tracking(Queue.ALMA)
    await first.add([block(n) for n in range(40)], "loader", NOW)
    published: list[int] = []
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def slow(items: Sequence[Item]) -> Collection[int]:
        inside.set()
        published.extend(row.id for row in items)
        await go_on.wait()
        return [row.id for row in items]

    sending = asyncio.create_task(first.send(slow, "a", NOW, 20, MANY))
    await inside.wait()
    other = asyncio.create_task(second.send(slow, "b", NOW, 40, MANY))
    assert len(await first.items([State.WAITING])) == len(await second.items([State.WAITING])) == 40
    go_on.set()
    (_, sent), (_, more) = await sending, await other
    assert (sent, more) == (20, 20)
    assert len(published) == len(set(published)) == 40


@check
async def reserves(site: Site) -> None:
    """Places are the limit less what is active and what others hold, until that expires or is claimed."""
    tracking = site.open().tracking(Queue.ALMA)
    rows = await queued(tracking, *(block(n) for n in range(5)))
    limits = Limits(4)
    assert await tracking.reserve("a", 3, limits, NOW, LEASE) == 3
    assert await tracking.reserve("b", 9, limits, NOW, LEASE) == 1
    assert await tracking.reserve("c", 9, limits, NOW, LEASE) == 0
    assert await tracking.reserve("a", 2, limits, NOW, LEASE) == 2
    claims = await tracking.claim([work(row) for row in rows[:2]], "c", limits, NOW, LEASE)
    assert (len(claims.launching), len(claims.full)) == (1, 1)
    assert await tracking.reserve("c", 9, limits, NOW, LEASE) == 0
    claims = await tracking.claim([work(row) for row in rows[1:4]], "a", limits, NOW, LEASE)
    assert (len(claims.launching), len(claims.full)) == (2, 1)
    assert await tracking.reserve("c", 9, limits, NOW, LEASE) == 0
    assert await tracking.reserve("c", 9, limits, NOW + LEASE, LEASE) == 1
    assert await tracking.reserve("d", -1, limits, NOW + LEASE, LEASE) == 0


@check
async def claims_within_limits(site: Site) -> None:
    """What is queued for just this attempt is launched while there is a place; the rest is told apart."""
    metadata = site.open()
    tracking = metadata.tracking(Queue.ALMA)
    rows = await queued(tracking, *(block(n) for n in range(6)))
    gone = await set_to(tracking, rows[5], state=State.DROPPED)
    old = dataclasses.replace(work(rows[0]), attempt=0)
    nowhere = dataclasses.replace(work(rows[0]), id=99_999)
    wanted = [old, nowhere, work(gone), *(work(row) for row in rows[:5]), work(rows[0])]
    claims = await tracking.claim(wanted, "r@h:1", Limits(4), NOW, LEASE)
    assert [row.id for row in claims.launching] == [row.id for row in rows[:4]]
    assert claims.full == (work(rows[4]),)
    assert claims.stale == (old, nowhere, work(gone), work(rows[0]))
    installation = await metadata.installation()
    for row in claims.launching:
        assert row == await one(tracking, row.id)
        assert row.workflow_id == rules.workflow_id(row, Queue.ALMA, installation)
        assert (row.owner, row.lease_until, row.started_at) == ("r@h:1", NOW + LEASE, NOW)
    assert await tracking.active() == list(claims.launching)
    assert (await tracking.claim([work(rows[0])], "r2", Limits(9), NOW, LEASE)).stale == (work(rows[0]),)
    assert await tracking.of_workflow([claims.launching[1].workflow_id or "", "x"]) == [claims.launching[1]]
    await tracking.renew("r@h:1", [rows[0].id, rows[4].id], NOW + 2 * LEASE)
    await tracking.renew("somebody", [rows[1].id], NOW + 3 * LEASE)
    leases = [row.lease_until for row in await tracking.get([row.id for row in rows[:5]])]
    assert leases == [NOW + 2 * LEASE, NOW + LEASE, NOW + LEASE, NOW + LEASE, None]
    for number, state in ((1, State.LAUNCH_UNKNOWN), (2, State.RUNNING)):
        await set_to(tracking, await one(tracking, rows[number].id), state=state)
    claims = await tracking.claim([work(rows[4])], "r2", Limits(4), NOW, LEASE)
    assert claims.full == (work(rows[4]),)
    assert (await tracking.claim([], "r", Limits(4), NOW, LEASE)).launching == ()


@check
async def claims_apart(site: Site) -> None:
    """Of one project no more than its limit; a row that is not launched for that waits again, at its attempt."""
    tracking = site.open().tracking(Queue.VLBA)
    rows = await queued(tracking, *(block(n, project=name) for n, name in enumerate(["a", "a", "b", None, None])))
    claims = await tracking.claim([work(row) for row in rows], "r", Limits(9, 1), NOW, LEASE)
    assert [row.project for row in claims.launching] == ["a", "b", None]
    assert [one_.id for one_ in claims.apart] == [rows[1].id, rows[4].id]
    back = await one(tracking, rows[1].id)
    assert (back.state, back.attempt) == (State.WAITING, 0)
    assert (await tracking.events(back.id))[-1].by == "r"


@check
async def claims_once(site: Site) -> None:
    """Two runners want the same 200, from both ends: never more than four at once, each launched once.

    Until they meet they lock different rows, so that only what guards the places keeps them within the limit.
    """
    runners = [site.open().tracking(Queue.ALMA) for _ in range(2)]
    rows = await queued(runners[0], *(block(n) for n in range(200)))
    launched: list[int] = []

    async def run(tracking: Tracking, name: str) -> None:
        wanted = [work(row) for row in (rows if name == "a" else reversed(rows))]
        while wanted:
            claims = await tracking.claim(wanted[:20], name, Limits(4), NOW, LEASE)
            launched.extend(row.id for row in claims.launching)
            active = await tracking.active()
            assert len(active) <= 4
            wanted = [one_ for one_ in wanted if one_ not in claims.stale]
            ours = [row for row in active if row.owner == name]
            await tracking.move([Change(row, rules.done(row, NOW), name, "done") for row in ours], NOW)

    await asyncio.gather(run(runners[0], "a"), run(runners[1], "b"))
    assert sorted(launched) == [row.id for row in rows]
