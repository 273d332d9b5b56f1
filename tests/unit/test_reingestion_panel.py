"""The re-ingestion panel's values and lines: what is told at every size, and what is made of others' notes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from aogconsole import reingestionboard as boards
from aogconsole.board import Board, Light
from aogconsole.herald import Herald
from aogconsole.reingestion.item import ACTIVE, State
from aogconsole.reingestionboard import Entry, Loader, QueueState, ReingestionBoard, Runner
from widgets.reingestionlines import flowed, panel, span, summary

NOW = datetime(2026, 11, 22, 14, 2, 11, tzinfo=UTC)
COUNTS = (
    ("execution_block", "waiting", 12), ("execution_block", "queued", 3), ("execution_block", "running", 4),
    ("execution_block", "done", 123456), ("calibration", "deferred", 9), ("calibration", "do_not_calibrate", 7),
    ("calibration", "dead", 1),
)  # fmt: skip


def entry(number: int, state: str, why: str = "") -> Entry:
    """An item."""
    since = NOW - timedelta(minutes=number)
    return Entry(number, "alma", "execution_block", f"uid___A002_X1_X{number:x}", state, 1, since=since, why=why)


def sample() -> ReingestionBoard:
    """Something of everything."""
    running = tuple(entry(number, "running") for number in range(1, 5))
    hours = tuple((hour, hour // 2, hour // 3, int(hour == 20)) for hour in range(24))
    queue = QueueState("alma", 4, COUNTS, 3, NOW - timedelta(minutes=12), running, hours)
    return ReingestionBoard(
        configured=True, told=True, lights=(Light("broker", True), Light("metadata", True)), queues=(queue,),
        needy=(entry(77, "dead", "the ASDM is truncated"),), heard=NOW, runners=(Runner("one", "running", NOW),),
        loader=Loader(NOW - timedelta(minutes=32), NOW + timedelta(minutes=28)),
    )  # fmt: skip


def text(board: ReingestionBoard, width: int, height: int) -> list[str]:
    """The panel's lines as text."""
    return ["".join(words for words, _ in line) for line in panel(board, NOW, width, height)]


@pytest.mark.parametrize("width", [1, 18, 40, 76, 84, 100, 116, 150, 168, 196, 300])
@pytest.mark.parametrize("height", [1, 2, 5, 9, 14, 18, 46])
def test_no_line_is_too_long(width: int, height: int) -> None:
    """At every size all that is there fits, and that something is dead is told on the first lines."""
    queue = replace(sample().queues[0], name="vlba")
    both = replace(sample(), queues=(*sample().queues, queue), paused="anna@aog1 13:00: " + "why " * 90)
    for board in (ReingestionBoard(), ReingestionBoard(configured=True), sample(), both):
        lines = text(board, width, height)
        assert len(lines) <= height
        assert all(cell_len(line) <= width for line in lines)
        if board.told and width >= 40:
            assert "dead 1 !" in " ".join(lines)[: 4 * width] or height < 5


def test_two_lines_tell_the_most() -> None:
    """What design section 9 has in the line, and depth, ages, rates and the last event in the next."""
    assert text(sample(), 116, 2) == [
        "loader 13:30, next 14:30 · waiting 12 · queued 3 · running 4/4 · deferred 9 · dead 1 !",
        "depth 3 · oldest waits 12 m · found 44/h sent 21/h done 14/h · last event 14:02 · 1 runner",
    ]


def test_with_room_there_are_lists_chart_and_counts() -> None:
    """Side by side where it is wide, one below the other where it is not."""
    for width, height in ((76, 30), (116, 16), (196, 14)):
        shown = "\n".join(text(sample(), width, height))
        for part in ("1 need you", "the ASDM", "4 running", "found ", "highest 23/h", "execution", "123456"):
            assert part in shown, (part, width)


def test_a_number_that_is_not_none_is_seen_in_the_chart() -> None:
    """However much higher another hour is; and none is blank."""
    hours = tuple((100_000 if hour == 1 else hour == 3, 0, 0, 0) for hour in range(24))
    board = replace(sample(), queues=(replace(sample().queues[0], hours=hours),))
    line = next(line for line in text(board, 196, 14) if "found  " in line)
    bars = line.partition("found  ")[2]
    assert bars[:8] == "  ██  ▁▁"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"paused": "anna@aog1 2026-11-22T13:00:00Z: maintenance"}, "PAUSED by anna@aog1"),
        ({"loader": Loader(NOW - timedelta(hours=3), NOW - timedelta(hours=2))}, "overdue since 12:02"),
        ({"loader": Loader(NOW, NOW, "the archive does not answer")}, "! loader: the archive does not answer"),
        ({"loader": Loader()}, "loader never ran"),
        ({"lights": (Light("broker", False, "refused"),)}, "! broker: refused"),
        ({"runners": ()}, "no runner"),
        ({"runners": (Runner("one", "running", NOW - timedelta(minutes=5)),)}, "no runner"),
        ({"runners": (Runner("one", "running", NOW, "slurmctld is away"),)}, "1 runner: slurmctld is away"),
        ({"queues": (QueueState("alma", 4, depth=3, letters=2),)}, "depth 3 · dead letters 2"),
        ({"queues": ()}, "No item has been found yet."),
        ({"told": False}, "The metadata database is being asked."),
        ({"told": False, "lights": (Light("metadata", False, "no route"),)}, "! metadata: no route"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(changed: dict[str, Any], told: str) -> None:
    """Each in its words."""
    assert told in "\n".join(text(replace(sample(), **changed), 116, 20))


def test_what_needs_a_person_never_gives_way() -> None:
    """In one short line it stands there, and what waits does not."""
    (line,) = text(sample(), 40, 1)
    assert "dead 1 !" in line
    assert [words for words, style in summary(sample(), NOW) if style == "bad"] == ["dead 1 !"]


def test_parts_flow_onto_further_lines() -> None:
    """As many on each as fit."""
    lines = flowed([("aa", ""), ("bb", ""), ("cc", "")], 7)
    assert ["".join(words for words, _ in line) for line in lines] == ["aa · bb", "cc"]


def test_spans_of_time() -> None:
    """One unit or two; a clock that is behind makes it none."""
    spans = [-5, 99, 100, 99 * 60, 100 * 60, 71 * 3600, 72 * 3600]
    assert [span(timedelta(seconds=one)) for one in spans] == ["0 s", "99 s", "1 m", "99 m", "1 h 40", "71 h 00", "3 d"]


def test_the_states_are_those_of_items() -> None:
    """The panel's names for them, which it has without loading the module."""
    assert set(boards.STATES) == set(State)
    assert set(boards.ACTIVE) == ACTIVE
    assert set(State) > boards.NEEDY


OVERVIEW: dict[str, Any] = {
    "queue": "alma", "counts": {"calibration": {"dead": 1}}, "oldest_waiting": "2026-11-22T13:00:00Z",
    "running": [{"id": "4", "kind": "calibration", "uid": "uid___A001_X1_X2", "project": None, "state": "running",
                 "since": "2026-11-22T14:00:00Z", "runner": "r@h:1", "attempt": 2, "workflow_id": None}],
    "hours": [{"begins": "2026-11-22T14:00:00Z", "found": 3, "sent": 2, "done": 1, "failed": 0},
              {"begins": "2026-11-21T14:00:00Z", "found": 9, "sent": 9, "done": 9, "failed": 9}],
}  # fmt: skip


def test_an_overview_is_read() -> None:
    """Counts, times, and the hours in their places; one that is over is left out."""
    queue = boards.queue_state(OVERVIEW, 4, 7, NOW)
    assert (queue.count("dead"), queue.depth, queue.limit) == (1, 7, 4)
    assert queue.oldest == datetime(2026, 11, 22, 13, tzinfo=UTC)
    assert queue.running[0] == Entry(
        4, "alma", "calibration", "uid___A001_X1_X2", "running", 2, "", datetime(2026, 11, 22, 14, tzinfo=UTC), "r@h:1"
    )
    assert queue.hours[-1] == (3, 2, 1, 0)
    assert sum(map(sum, queue.hours)) == 6


@pytest.mark.parametrize("wrong", [None, 5, "\x1b[2J", [], {"x": 1}, "9999-99-99", "0001-01-01T00:00:00+14:00"])
def test_notes_of_another_shape_are_left_out(wrong: object) -> None:
    """Whatever stands in the database for a time, a reason, a list of troubles: it is clean, and nothing fails."""
    document = {
        "loader": {"last_cycle": wrong, "next_cycle": wrong, "error": wrong}, "paused": wrong,
        "runners": [{"name": wrong, "seen": wrong, "state": wrong, "troubles": wrong},
                    {"name": wrong, "seen": "2026-11-22T14:00:00Z", "state": wrong, "troubles": {"x": wrong}}],
        "last_event": {"at": wrong, "uid": wrong, "complete": wrong},
    }  # fmt: skip
    at, what = boards.heard(document)
    board = replace(
        sample(), loader=boards.loader(document), runners=boards.runners(document), paused=boards.paused(document),
        heard=at, heard_what=what,
    )  # fmt: skip
    assert boards.heard({"last_event": wrong})[0] is None or isinstance(wrong, dict)
    assert all(line.isprintable() for line in text(board, 116, 20))


def test_new_trouble_is_told_once_and_rings() -> None:
    """What was dead before is not; one more is, with its reason, until somebody has looked; then a failing loader."""
    written: list[str] = []
    herald = Herald(written.append, "anna@aog1", bell=True)
    assert herald.queue(ReingestionBoard(configured=True)) == ("", False)
    assert herald.queue(sample())[0] == ""
    assert herald.trouble
    herald.seen_queue()
    assert not herald.trouble
    queue = replace(sample().queues[0], counts=(*COUNTS, ("execution_block", "dead", 1)))
    worse = replace(sample(), queues=(queue,), needy=(entry(78, "dead", "no disk"), *sample().needy))
    assert herald.queue(worse) == ("Item 78 of the re-ingestion is dead: no disk", True)
    assert herald.queue(worse)[0] == ""
    assert (written, herald.trouble) == (["\a"], True)
    herald.seen_queue()
    failing = replace(worse, loader=Loader(NOW, NOW, "no archive"))
    assert herald.queue(failing) == ("The loader: no archive", True)
    assert herald.trouble
    herald.queue(worse)
    assert not herald.trouble
    many = replace(queue, counts=(("calibration", "dead", 9),))
    assert "7 items of the re-ingestion need you" in herald.queue(replace(worse, queues=(many,)))[0]
    assert herald.tell(Board()) == ("", False)


def test_what_others_say_ends_with_one_full_stop() -> None:
    """A reason that is a sentence, and what is said after it."""
    herald = Herald(lambda _: None, "anna@aog1", bell=False)
    herald.queue(sample())
    dead = tuple(entry(number, "dead", "NGAS has no such file.") for number in (78, 79))
    queue = replace(sample().queues[0], counts=(*COUNTS, ("execution_block", "dead", 2)))
    told, _ = herald.queue(replace(sample(), queues=(queue,), needy=(*dead, *sample().needy)))
    assert told == "Item 78 of the re-ingestion is dead: NGAS has no such file. 1 more needs you"
    board = Board(lights=(Light("archive", ok=False, detail="It does not answer."), Light("mail", False, "no disk")))
    assert herald.tell(board) == ("archive: It does not answer. mail: no disk", True)
