"""`reingestion` and its verbs: what they tell, what they change, who is told that somebody else was first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from aogconsole import config, reingestionsite
from aogconsole.errors import Conflict
from aogconsole.journal.history import Actor
from aogconsole.reingestion import item as rows
from aogconsole.reingestion.item import TRANSITIONS, Change, Found, Item, Kind, Queue, State
from aogconsole.reingestion.steering import REQUEUABLE, Steering
from backends.reingestion_ports import Metadata
from tests.support.command import Done, call

BLOCK, MOUS = "uid://A002/X1/X2", "uid://A001/X1/X1"
THEN = datetime(2026, 11, 20, 1, 2, 3, tzinfo=UTC)
ME = Actor.current("").who
PATHS: dict[State, tuple[State, ...]] = {
    State.DEFERRED: (State.DEFERRED,),
    State.WAITING: (),
    State.QUEUED: (State.QUEUED,),
    State.LAUNCHING: (State.QUEUED, State.LAUNCHING),
    State.LAUNCH_UNKNOWN: (State.QUEUED, State.LAUNCHING, State.LAUNCH_UNKNOWN),
    State.RUNNING: (State.QUEUED, State.LAUNCHING, State.RUNNING),
    State.DONE: (State.QUEUED, State.LAUNCHING, State.RUNNING, State.DONE),
    State.FAILED: (State.QUEUED, State.LAUNCHING, State.RUNNING, State.FAILED),
    State.DEAD: (State.QUEUED, State.LAUNCHING, State.RUNNING, State.DEAD),
    State.DO_NOT_CALIBRATE: (State.DO_NOT_CALIBRATE,),
    State.DROPPED: (State.DROPPED,),
}
"""The way of a new row into each state."""


class Place:
    """A site with a metadata database of its own."""

    def __init__(self, folder: Path, dsn: str, more: str = "") -> None:
        self.file = folder / "config.toml"
        self.file.write_text(f'[journal]\npath = "state/journal.db"\nsyslog = ""\n[metadata]\ndsn = "{dsn}"\n{more}')

    def call(self, *words: str) -> Done:
        """A verb of `reingestion`."""
        return call(self.file, "reingestion", *words)

    def json(self, *words: str) -> Any:
        """Its document."""
        done = self.call(*words, "--json")
        assert done.code == 0, done.err
        return done.json

    def refused(self, code: int, *words: str) -> str:
        """What it says when it ends with this code: a sentence and a hint, nothing on standard output."""
        done = self.call(*words)
        text = done.err.decode()
        assert (done.code, done.out) == (code, b""), text
        assert len(text.splitlines()) == 2
        assert "".join(text.splitlines()).isprintable()
        return text

    def inside(self, act: Callable[[Metadata], Awaitable[Any]]) -> Any:
        """What loader and runner do."""

        async def run() -> Any:
            metadata = reingestionsite.metadata(config.load(self.file))
            try:
                await metadata.migrate()
                return await act(metadata)
            finally:
                await metadata.close()

        return asyncio.run(run())

    def row(self, state: State, uid: str = BLOCK, queue: Queue = Queue.ALMA, project: str = "2019.1.00001.S") -> str:
        """A row that came into this state."""

        async def make(metadata: Metadata) -> Item:
            table = metadata.tracking(queue)
            version = str(len(await table.items()))
            await table.add([Found(Kind.EXECUTION_BLOCK, uid, version, project, THEN)], "loader", THEN)
            (row,) = [one for one in await table.items(text=uid) if one.version == version]
            for then in PATHS[state]:
                (row,) = await table.move([Change(row, moved(row, then), "runner@aog2:17", f"is {then}")], THEN)
            return row

        made: Item = self.inside(make)
        assert made.state is state
        return str(made.id)


def moved(row: Item, then: State) -> Item:
    """A row as loader and runner change it."""
    if then is State.QUEUED:
        return rows.sent(row, THEN)
    if then is State.LAUNCHING:
        return rows.claimed(row, "runner@aog2:17", "11111111-2222-5333-8444-555555555555", THEN, timedelta(60))
    return replace(row, state=then, reason=f"is {then}")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A site with SQLite and the broker within the process."""
    return Place(tmp_path, "sqlite:meta.db", f'[broker]\nurl = "memory:{tmp_path.name}"\n')


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_overview_has_what_the_contract_names(place: Place) -> None:
    """Counts, queue, what runs, the loader, the last event; ids are strings, UIDs `uid___`, times end with Z."""
    running, _ = place.row(State.RUNNING), place.row(State.WAITING, "uid://A002/X1/X3")

    async def notes(metadata: Metadata) -> None:
        now = datetime.now(UTC)
        cycle = {"last_cycle": "2026-11-20T01:00:00Z", "next_cycle": "2026-11-20T02:00:00Z", "sent": 2,
                 "found": {"execution_block": 2, "calibration": 0}, "error": None}  # fmt: skip
        await metadata.note("loader", cycle, now)
        event = {"queue": "alma", "item": 7, "kind": "calibration", "uid": MOUS, "workflow_id": "w", "complete": True}
        await metadata.note("last_event", event, THEN)
        await metadata.note("runner:one@aog2", {"state": "running", "places": {"alma": 2}, "launching": 1}, now)
        await metadata.note("runner:gone@aog3", {"state": "running"}, THEN - timedelta(days=9))

    place.inside(notes)
    told = place.json()
    assert told["counts"]["execution_block"] == {"running": 1, "waiting": 1}
    assert told["running"] == [{
        "id": running, "kind": "execution_block", "uid": "uid___A002_X1_X2", "project": "2019.1.00001.S",
        "state": "running", "since": "2026-11-20T01:02:03Z", "runner": "runner@aog2:17", "attempt": 1,
        "workflow_id": "11111111-2222-5333-8444-555555555555",
    }]  # fmt: skip
    assert told["loader"]["last_cycle"] == "2026-11-20T01:00:00Z"
    assert told["loader"]["found"] == {"execution_block": 2, "calibration": 0}
    assert (told["last_event"]["at"], told["last_event"]["item"]) == ("2026-11-20T01:02:03Z", "7")
    assert told["last_event"]["uid"] == "uid___A001_X1_X1"
    assert [one["name"] for one in told["runners"]] == ["one@aog2"]
    assert told["oldest_waiting"] == "2026-11-20T01:02:03Z"
    assert (told["broker"], told["metadata"], told["paused"]) == (None, "connected", None)
    text = place.call().out.decode()
    assert "running 1, waiting 1" in text
    assert "uid___A002_X1_X2" in text
    assert place.json("--queue", "vlba")["counts"].get("execution_block", {}) == {}


def test_items_are_found_by_state_kind_and_text(place: Place) -> None:
    """Newest first; a UID in either spelling; the number is bounded; the VLBA's are in their own queue."""
    first, second = place.row(State.DEAD), place.row(State.WAITING, MOUS)
    vlba = place.row(State.WAITING, "BL286_1", Queue.VLBA, "BL286")
    assert [one["id"] for one in place.json("items")] == [second, first]
    assert [one["id"] for one in place.json("items", "--limit", "1")] == [second]
    assert [one["id"] for one in place.json("items", "--state", "dead")] == [first]
    assert place.json("items", "--kind", "calibration") == []
    for text in ("uid___A001_X1_X1", MOUS, "A001", "1_X1_X1"):
        assert [one["id"] for one in place.json("items", "--search", text)] == [second], text
    (found,) = place.json("items", "--queue", "vlba")
    assert (found["id"], found["uid"], found["queue"]) == (vlba, "BL286_1", "vlba")
    assert "BL286_1" in place.call("items", "--queue", "vlba").out.decode()


def test_an_item_tells_its_history(place: Place) -> None:
    """Every change since it was found: who, when, why."""
    told = place.json("show", place.row(State.FAILED))
    assert [(one["from"], one["to"], one["by"]) for one in told["history"]] == [
        (None, "waiting", "loader"), ("waiting", "queued", "runner@aog2:17"), ("queued", "launching", "runner@aog2:17"),
        ("launching", "running", "runner@aog2:17"), ("running", "failed", "runner@aog2:17"),
    ]  # fmt: skip
    assert told["history"][-1]["why"] == "is failed"
    assert told["source_time"] == "2026-11-20T01:02:03Z"
    assert "running -> failed (runner@aog2:17) is failed" in place.call("show", told["id"]).out.decode()


def test_what_does_not_answer_is_null_and_says_why(tmp_path: Path) -> None:
    """Exit code 4, and still one document; without a database configured 3."""
    place = Place(tmp_path, "sqlite:meta.db", '[broker]\nurl = "amqp://aog@127.0.0.1:1"\n')
    place.row(State.WAITING)
    done = place.call("--json")
    assert done.code == 4
    assert (done.json["queue_depth"], done.json["metadata"]) == (None, "connected")
    assert done.json["counts"]["execution_block"] == {"waiting": 1}
    assert len(done.json["broker"]) > 20
    assert b"the broker could not be asked" in done.err
    lost = Place(tmp_path, "postgresql://aog@127.0.0.1:1/none")
    done = lost.call("--json")
    assert done.code == 4
    assert {done.json[key] for key in ("counts", "running", "loader", "last_event", "oldest_waiting")} == {None}
    assert done.json["broker"] is None
    assert b"the metadata could not be asked" in done.err or b"the database could not be asked" in done.err
    for words in (["items"], ["show", "1"], ["pause"], ["drop", "1", "--why", "x"]):
        lost.refused(4, *words)
    assert "metadata.dsn is not set" in Place(tmp_path, "").refused(3, "items")


# ── acting ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", State)
def test_each_verb_in_each_state(place: Place, state: State) -> None:
    """What the table of transitions has is done, with its event; all else is a conflict that tells who was last."""
    may = {
        "requeue": state in REQUEUABLE,
        "defer": State.DEFERRED in TRANSITIONS[state],
        "drop": State.DROPPED in TRANSITIONS[state],
    }
    becomes = {"requeue": "waiting", "defer": "deferred", "drop": "dropped"}
    for number, (verb, possible) in enumerate(may.items()):
        row = place.row(state, f"uid://A002/X1/Xa{number}")
        if possible:
            done = place.json(verb, row, "--why", "the tape was bad")
            assert (done["state"], done["reason"]) == (becomes[verb], "the tape was bad")
            last = place.json("show", row)["history"][-1]
            assert (last["from"], last["to"], last["by"]) == (state.value, becomes[verb], ME)
        else:
            said = place.refused(5, verb, row, "--why", "the tape was bad")
            assert f"item {row} is {state.value}" in said
            assert "2026-11-20T01:02:03Z by " in said
            assert place.json("show", row)["state"] == state.value


def test_what_stands_before_the_verb_counts(place: Place) -> None:
    """`--queue` and `--json` of the group, where the verb says nothing itself; who acts acts on that queue."""
    ours = place.row(State.DEAD)
    vlba = place.row(State.DEAD, "BL286_1", Queue.VLBA, "BL286")
    assert ours == vlba  # a mistaken queue would change the other's row
    done = place.call("--queue", "vlba", "drop", vlba, "--json")
    assert (done.code, done.json["queue"], done.json["state"]) == (0, "vlba", "dropped")
    assert place.json("show", ours)["state"] == "dead"
    assert [one["uid"] for one in place.call("--json", "--queue", "vlba", "items").json] == ["BL286_1"]
    assert place.call("--queue", "vlba", "show", "--queue", "alma", ours, "--json").json["queue"] == "alma"
    assert place.call("--json", "pause").json["paused"].startswith(ME)


def test_a_verb_without_why_says_by_hand(place: Place) -> None:
    """The reason may be left out: row and history say that it was a person; an empty one is refused."""
    row = place.row(State.DEAD)
    for verb in ("requeue", "defer", "drop"):
        assert place.json(verb, row)["reason"] == place.json("show", row)["history"][-1]["why"]
        assert place.json("show", row)["history"][-1]["why"].endswith("ed by hand")
    assert place.json("requeue", "--state", "dropped") == {"state": "dropped", "requeued": 1}
    assert place.json("show", row)["history"][-1]["why"] == "requeued by hand"


def test_requeue_gives_all_attempts_again(place: Place) -> None:
    """The attempts before do not count towards `dead`, and stay in the number."""
    row = place.row(State.DEAD)
    assert place.json("requeue", row, "--why", "mended")["attempt"] == 1

    async def look(metadata: Metadata) -> int:
        (found,) = await metadata.tracking(Queue.ALMA).get([int(row)])
        return found.first_attempt

    assert place.inside(look) == 1


def test_all_of_a_state_are_requeued(place: Place) -> None:
    """Those of the state, and of the kind, and no others."""
    dead = [place.row(State.DEAD, f"uid://A002/X1/Xb{n}") for n in range(3)]
    failed = place.row(State.FAILED)
    assert place.json("requeue", "--state", "dead", "--kind", "calibration", "--why", "x")["requeued"] == 0
    assert place.json("requeue", "--state", "dead", "--why", "NGAS is back") == {"state": "dead", "requeued": 3}
    assert {one["id"] for one in place.json("items", "--state", "waiting")} == set(dead)
    assert place.json("show", failed)["state"] == "failed"
    assert b"0 items that were dead" in place.call("requeue", "--state", "dead", "--why", "x").out
    for words in ([], ["1", "--state", "dead"], ["1", "--kind", "calibration"]):
        place.refused(2, "requeue", *words, "--why", "x")


def test_defer_until_a_time_or_until_it_is_requeued(place: Place) -> None:
    """With a time the loader takes it up then; without it stays until somebody requeues it."""
    row = place.row(State.WAITING)
    later = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    told = place.json("defer", row, "--until", later.isoformat(), "--why", "the correlator data come tomorrow")
    assert told["not_before"] == later.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert place.json("defer", row, "--why", "no")["not_before"] == "9999-01-01T00:00:00Z"

    async def judged(metadata: Metadata) -> list[Item]:
        at = datetime.now(UTC) + timedelta(days=3650)
        return await metadata.tracking(Queue.ALMA).to_judge(Kind.EXECUTION_BLOCK, at, 0, 10)

    assert place.inside(judged) == []
    assert place.json("requeue", row, "--why", "yes")["not_before"] is None
    assert "is past" in place.refused(2, "defer", row, "--until", "2020-01-01", "--why", "x")
    assert "is not a time" in place.refused(2, "defer", row, "--until", "soon", "--why", "x")


def test_items_are_added_by_hand(place: Place) -> None:
    """As they are, without a time of the archive; a version once, and without one a new one each time."""
    told = place.json("add", "--kind", "calibration", "--uid", "uid___A001_X1_X1", "--project", "2019.1.00001.S")
    assert (told["state"], told["uid"], told["source_time"]) == ("waiting", "uid___A001_X1_X1", None)
    words = ["add", "--kind", "calibration", "--uid", "uid://A001/X1/X1", "--version", "7"]
    seven = place.json(*words)
    assert place.json("show", told["id"])["state"] == "dropped"  # a newer one took its place
    assert f"as item {seven['id']}" in place.refused(5, *words)
    vlba = place.json("add", "--queue", "vlba", "--kind", "execution_block", "--uid", "BL286_1", "--project", "BL286")
    assert (vlba["uid"], vlba["queue"], vlba["project"]) == ("BL286_1", "vlba", "BL286")

    async def newest(metadata: Metadata) -> datetime | None:
        return await metadata.tracking(Queue.ALMA).newest(Kind.CALIBRATION)

    assert place.inside(newest) is None  # the loader's look-back begins where it did
    for uid in ("X1244", "uid___A001_X1_X\u0661", "-x"):
        assert "is not a UID" in place.refused(2, "add", "--kind", "calibration", f"--uid={uid}")
    for uid in ("", " a", "a\x1b[2J", "x" * 201):
        place.refused(2, "add", "--queue", "vlba", "--kind", "execution_block", f"--uid={uid}")


def test_what_is_added_again_is_found_among_many_that_have_its_name(place: Place) -> None:
    """It is told which item it is, however many newer ones have longer names."""
    words = ["add", "--queue", "vlba", "--kind", "execution_block", "--uid", "B", "--version", "1"]
    first = place.json(*words)

    async def others(metadata: Metadata) -> int:
        found = [Found(Kind.EXECUTION_BLOCK, f"B{n}", "1", "B", THEN) for n in range(5001)]
        return await metadata.tracking(Queue.VLBA).add(found, "loader", THEN)

    assert place.inside(others) == 5001
    assert f"as item {first['id']}" in place.refused(5, *words)


def test_pause_resume_and_run(place: Place) -> None:
    """Told in the overview, with who and why; twice the same is a conflict."""
    told = place.json("pause", "--why", "the database moves")["paused"]
    assert told.startswith(f"{ME} ")
    assert told.endswith(": the database moves")
    assert place.json()["paused"] == told
    assert "PAUSED by" in place.call().out.decode()
    assert f"by {ME}" in place.refused(5, "pause")
    assert f"by {ME}: the database moves; so the loader looks for nothing" in place.refused(5, "run")
    assert place.json("resume") == {"paused": None}
    assert "not paused" in place.refused(5, "resume")
    assert place.json()["paused"] is None
    assert place.json("run") == {"woken": True, "loader": place.json()["loader"]}


def test_run_wakes_who_waits_for_the_loader(place: Place) -> None:
    """The command, in another process, reaches a loader that waits."""

    async def wait(metadata: Metadata) -> str:
        async with asyncio.timeout(10):
            changes = metadata.changes()
            first = asyncio.ensure_future(anext(changes))
            while not first.done():
                await asyncio.to_thread(place.json, "run")
                await asyncio.wait({first}, timeout=0.3)
            return str(first.result())

    assert place.inside(wait) == "loader"


def test_of_two_who_act_one_is_first(place: Place) -> None:
    """Both saw the same row: the second is told by whom it was changed, also when its state came back."""
    row = int(place.row(State.DEAD))

    async def race(metadata: Metadata) -> str:
        anna, bert = (Steering(metadata, Queue.ALMA, who) for who in ("anna@aog1", "bert@aog2"))
        seen = await anna.item(row)
        await anna.drop(row, "not worth it", seen)
        with pytest.raises(Conflict) as raised:
            await bert.requeue(row, "try it", seen)
        again = await asyncio.gather(
            *(one.requeue(row, "once more") for one in (anna, bert)), return_exceptions=True
        )  # fmt: skip
        assert sum(isinstance(one, Conflict) for one in again) == 1
        assert sum(isinstance(one, Item) for one in again) == 1
        return str(raised.value)

    assert "is dropped since" in (said := place.inside(race))
    assert "by anna@aog1: not worth it" in said


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show", "9"], 2, "there is no item 9 in the ALMA queue"),
        (["show", "9", "--queue", "vlba"], 2, "there is no item 9 in the VLBA queue"),
        (["drop", "9", "--why", "x"], 2, "there is no item 9"),
        (["drop", "1", "--why", " "], 2, "the reason is missing"),
        (["requeue", "1", "--why", "\udcff"], 2, "not valid UTF-8"),
        (["requeue", "--state", "dead", "--why", ""], 2, "the reason is missing"),
        (["items", "--search", "\udcff"], 2, "not valid UTF-8"),
    ],
)
def test_words_that_mean_nothing_are_named(place: Place, words: list[str], code: int, said: str) -> None:
    """One sentence and a hint."""
    place.row(State.WAITING)
    assert said in place.refused(code, *words)


def test_read_only_refuses_what_acts(place: Place) -> None:
    """Each acting verb; looking goes on, and nothing of the database changes."""
    row = place.row(State.DEAD)
    before = place.json("items")
    for words in (
        ["requeue", row, "--why", "x"], ["requeue", "--state", "dead", "--why", "x"], ["defer", row, "--why", "x"],
        ["drop", row, "--why", "x"], ["add", "--kind", "calibration", "--uid", "uid___A001_X1_X1"], ["run"], ["pause"],
        ["resume"],
    ):  # fmt: skip
        done = call(place.file, "--read-only", "reingestion", *words)
        assert (done.code, b"--read-only" in done.err) == (2, True), words
    assert call(place.file, "--read-only", "reingestion", "items", "--json").json == before


def test_hostile_texts_cannot_act_on_a_terminal(place: Place) -> None:
    """A reason or a name with escape characters is shown as text."""
    row = place.row(State.WAITING, "evil\x1b]0;x\x07", Queue.VLBA, "P\x9b2J")
    place.call("drop", row, "--queue", "vlba", "--why", "a\x1b[2J\nb")
    for words in (["items", "--queue", "vlba"], ["show", row, "--queue", "vlba"], ["--queue", "vlba"]):
        out = place.call(*words).out.decode()
        assert all(line.isprintable() for line in out.splitlines()), words
    assert "\\x1b[2J\\x0ab" in place.call("show", row, "--queue", "vlba").out.decode()
