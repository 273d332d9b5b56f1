"""Rows of the tracking table and what travels about them: each change of state, and every message there and back."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aogconsole.reingestion import item as items
from aogconsole.reingestion import messages
from aogconsole.reingestion.item import ACTIVE, ENDED, MEANING, SENDABLE, TRANSITIONS, Change, Item, Kind, Queue, State
from aogconsole.reingestion.messages import Ended, Malformed, Sender, Start, Work

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
ROW = Item(
    7, Kind.CALIBRATION, "uid://A001/X1/X2", "2026-01-02T03:04:05.000006Z", "2019.1.00001.S", NOW, State.WAITING, 0, "",
    None, None, None, None, NOW, None, None, None,
)  # fmt: skip
SENDER = Sender("aog", "host")
TEXTS = st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def walked(state: State) -> Item:
    """A row in a state, by the way that leads there."""
    queued = items.sent(ROW, NOW)
    launching = items.claimed(queued, "r@h:1", "w", NOW, timedelta(seconds=60))
    ways: dict[State, Callable[[], Item]] = {
        State.DEFERRED: lambda: items.deferred(ROW, "later", None),
        State.WAITING: lambda: ROW,
        State.QUEUED: lambda: queued,
        State.LAUNCHING: lambda: launching,
        State.LAUNCH_UNKNOWN: lambda: items.unproved(launching, "who knows"),
        State.RUNNING: lambda: items.running(launching),
        State.DONE: lambda: items.done(items.running(launching), NOW),
        State.FAILED: lambda: items.failed(launching, "no", NOW, 3, timedelta(seconds=60)),
        State.DEAD: lambda: items.failed(launching, "no", NOW, 1, timedelta(seconds=60)),
        State.DO_NOT_CALIBRATE: lambda: items.not_calibratable(ROW, "scripts", NOW),
        State.DROPPED: lambda: items.dropped(ROW, "newer", NOW),
    }
    return ways[state]()


def test_every_state_is_told_of() -> None:
    """Each state has its meaning and its transitions, and can be reached; the groups do not overlap."""
    assert set(MEANING) == set(TRANSITIONS) == set(State)
    reached, fresh = {State.WAITING}, {State.WAITING}
    while fresh:
        fresh = set().union(*(TRANSITIONS[state] for state in fresh)) - reached
        reached |= fresh
    assert reached == set(State)
    assert len(ACTIVE | SENDABLE | ENDED) == len(ACTIVE) + len(SENDABLE) + len(ENDED)
    for state in State:
        assert walked(state).state is state


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_only_allowed_changes(before: State, after: State) -> None:
    """A change that the table of transitions does not have cannot be made."""
    row = walked(before)
    if after in TRANSITIONS[before]:
        assert Change(row, replace(row, state=after), "x", "").after.state is after
    else:
        with pytest.raises(ValueError, match="cannot become"):
            Change(row, replace(row, state=after), "x", "")


def test_who_ended_is_not_active() -> None:
    """A row that takes no place has no lease, and one that is sent again nothing of the launch before."""
    for state in State:
        row = walked(state)
        assert (row.lease_until is not None) is (state is State.LAUNCHING)
    again = items.sent(walked(State.FAILED), NOW)
    assert (again.attempt, again.workflow_id, again.owner, again.started_at, again.finished_at, again.not_before) == (
        2, None, None, None, None, None,
    )  # fmt: skip


@given(st.integers(1, 6), st.integers(0, 5), st.floats(0, 1000))
def test_attempts(attempts: int, before: int, delay: float) -> None:
    """An item is tried exactly so often, with growing waits, and as often again after a person's requeue."""
    row = replace(ROW, attempt=before, first_attempt=before)
    waits = []
    for number in range(1, attempts + 1):
        launching = items.claimed(items.sent(row, NOW), "r", f"w{number}", NOW, timedelta(60))
        row = items.failed(launching, "no", NOW, attempts, timedelta(seconds=delay))
        assert row.state is (State.DEAD if number == attempts else State.FAILED)
        if row.not_before:
            waits.append(row.not_before - NOW)
    assert waits == sorted(waits)
    assert items.requeued(row, "again").first_attempt == row.attempt


@given(st.integers(0, 50))
def test_a_launch_that_never_was_does_not_count(attempts: int) -> None:
    """Given back, then sent: the same attempt's number."""
    claimed = items.claimed(items.sent(replace(ROW, attempt=attempts), NOW), "r", "w", NOW, timedelta(60))
    assert items.sent(items.given_back(claimed, "no"), NOW).attempt == claimed.attempt


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_versions(one: datetime, other: datetime) -> None:
    """Two times have the same version when they are the same, and versions of one length sort as their times do."""
    first, second = items.version_of(one), items.version_of(other)
    assert (first == second) is (one == other)
    if one.year >= 1000 and other.year >= 1000:
        assert (first < second) is (one < other)
    assert items.version_of(None) == ""


@given(st.integers(1, 10**9), st.integers(1, 99), st.sampled_from(Queue), st.uuids(), st.integers(1, 10**9))
def test_workflow_ids(number: int, attempt: int, queue: Queue, where: uuid.UUID, other: int) -> None:
    """One attempt has one workflow id, whoever asks; another attempt, row, queue or installation has another."""
    row = replace(ROW, id=number, attempt=attempt)
    mine = items.workflow_id(row, queue, where)
    assert mine == items.workflow_id(replace(row, owner="another", state=State.QUEUED), queue, where)
    others = {
        items.workflow_id(replace(row, attempt=attempt + 1), queue, where),
        items.workflow_id(replace(row, id=number + other), queue, where),
        items.workflow_id(row, Queue.VLBA if queue is Queue.ALMA else Queue.ALMA, where),
        items.workflow_id(row, queue, uuid.uuid5(where, "another")),
    }
    assert len(others | {mine}) == 5


def test_names() -> None:
    """Tables and queues are called as the contract has it."""
    assert [(one.table, one.messages) for one in Queue] == [
        ("alma_reingestion_queue", "alma_reingestion"), ("vlba_reingestion_queue", "vlba_reingestion"),
    ]  # fmt: skip
    assert items.message_id(items.sent(ROW, NOW)) == "7:1"


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(1, 2**63 - 1), st.integers(1, 2**31 - 1), st.sampled_from(Kind), st.text(max_size=50))
def test_work_there_and_back(number: int, attempt: int, kind: Kind, uid: str) -> None:
    """A work message says what it was made from, in the contract's words."""
    body = messages.work_body(replace(ROW, id=number, attempt=attempt, kind=kind, uid=uid))
    assert messages.work(body) == Work(number, attempt, kind, uid)
    assert json.loads(body) == {"id": number, "attempt": attempt, "kind": kind.value, "uid": uid}


@given(st.text(min_size=1, max_size=40), st.text(max_size=20), TEXTS)
def test_start_there_and_back(identity: str, workflow: str, metadata: dict[str, str]) -> None:
    """A command says what it was made from, with the envelope of the real system."""
    start = Start(identity, workflow, metadata)
    body = messages.start_body(start, SENDER, NOW)
    assert messages.start(body) == start
    assert messages.ended(body) is None
    told = json.loads(body)
    assert (told["type"], told["eventName"], told["additionalPaths"]) == (messages.START, workflow, [])
    assert (told["user"], told["hostname"], told["application"], told["version"]) == (
        "aog", "host", "aogconsole", "1.0",
    )  # fmt: skip
    assert told["timestamp"]["date"] == {"year": 2026, "month": 11, "day": 22}
    assert told["timestamp"]["time"] == {"hour": 3, "minute": 0, "second": 0, "nano": 0}


@given(st.text(min_size=1, max_size=40), st.booleans(), st.text(max_size=20), TEXTS)
def test_event_there_and_back(identity: str, complete: bool, reason: str, metadata: dict[str, str]) -> None:
    """An event says what it was made from; with other types it is none of ours."""
    event = Ended(identity, complete, reason, metadata)
    body = messages.ended_body(event, SENDER, NOW)
    assert messages.ended(body) == event
    assert messages.start(body) is None
    assert messages.ended(body, ("theirs.Complete", "theirs.Failed")) is None
    assert json.loads(body)["type"] == (messages.COMPLETE if complete else messages.FAILED)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_anything_is_read_or_malformed(body: bytes) -> None:
    """Whatever comes is read or refused; nothing else happens."""
    for read in (messages.work, messages.start, messages.ended):
        with suppress(Malformed):
            read(body)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b" " * (messages.LARGEST + 1),
        b'{"id":"1","attempt":1,"kind":"calibration","uid":"u"}',
        b'{"id":true,"attempt":1,"kind":"calibration","uid":"u"}',
        b'{"id":1.0,"attempt":1,"kind":"calibration","uid":"u"}',
        b'{"id":1,"attempt":1,"kind":"comet","uid":"u"}',
        b'{"id":1,"attempt":1,"kind":["calibration"],"uid":"u"}',
        b'{"id":1,"attempt":1,"kind":"calibration"}',
        b'{"id":9223372036854775808,"attempt":1,"kind":"calibration","uid":"u"}',
        b'{"id":0,"attempt":1,"kind":"calibration","uid":"u"}',
        b'{"id":1,"attempt":2147483648,"kind":"calibration","uid":"u"}',
        b'{"id":1,"attempt":-1,"kind":"calibration","uid":"u"}',
    ],
)  # fmt: skip
def test_malformed_work(body: bytes) -> None:
    """What is no work message is refused."""
    with pytest.raises(Malformed):
        messages.work(body)


@pytest.mark.parametrize("missing", ["workflowId", "eventName", "metadata"])
def test_malformed_start(missing: str) -> None:
    """A command that lacks something is refused, one of another type is none."""
    told = json.loads(messages.start_body(Start("w", "name", {"uid": "u"}), SENDER, NOW))
    del told[missing]
    with pytest.raises(Malformed):
        messages.start(json.dumps(told).encode())
    assert messages.start(json.dumps({**told, "type": "another"}).encode()) is None


def test_event_of_others() -> None:
    """An event without an id is refused; reason and metadata may be missing, or be no texts."""
    with pytest.raises(Malformed):
        messages.ended(json.dumps({"type": messages.COMPLETE}).encode())
    odd = {"type": messages.FAILED, "workflowId": "w", "reason": 3, "metadata": {"a": 1}}
    assert messages.ended(json.dumps(odd).encode()) == Ended("w", False, "", {})


def test_routing_keys() -> None:
    """As the real system has them."""
    assert (messages.start_key("NAASC"), messages.event_key(SENDER)) == ("NAASC.start", "aogconsole.event")
