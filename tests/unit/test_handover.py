"""The shift's summary: what was done, what needs a person, and how it is laid out."""

from __future__ import annotations

from pathlib import Path

import pytest

from aogconsole import handover
from aogconsole.lookups import SHOWN, _items
from aogconsole.reingestionboard import Entry, QueueState, ReingestionBoard
from aogconsole.requests.request import State
from tests.support.office import ENGINE, Office

LONG = "from an unlisted sender: " + "somebody " * 12 + "or other"


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """A new journal."""
    return Office.open(tmp_path / "journal.db")


def told(office: Office, *more: str) -> list[str]:
    """The lines."""
    return list(handover.lines(handover.summary(office.journal, "2000-01-01T00:00:00Z", "UTC", 3), more))


def test_nothing_is_said_in_a_line(office: Office) -> None:
    """No head of a table stands without a row."""
    assert told(office)[1:] == ["Runs: 0 succeeded, 0 failed", "Needs you: no request.", "Goes on: no request."]


def test_runs_that_ended_are_counted(office: Office) -> None:
    """Those that did well, those that failed, and others where there are any."""
    for state in ("succeeded", "succeeded", "failed", "stopped", "running"):
        run = office.run(office.request(State.CLOSED), "running")
        office.journal.change("run", run, ENGINE, state, origins={"running"}, target=state)
    assert told(office)[1] == "Runs: 2 succeeded, 1 failed, 1 stopped"


def test_what_is_long_goes_on_set_off(office: Office) -> None:
    """A reason stands below its request, and nothing reaches column 0 in a terminal of 80 columns."""
    office.set(office.request(State.UNCLEAR), State.UNCLEAR, why=LONG)
    office.journal.connection.execute("insert into connection values ('mail', 0, ?, '2026-11-21T13:55:00Z')", (LONG,))
    lines = told(office, "Re-ingestion: 1 item needs you")
    assert max(map(len, lines)) <= handover.WIDTH
    row = next(place for place, line in enumerate(lines) if " unclear " in line)
    assert " ".join(line.strip() for line in lines[row + 1 : row + 3]) == LONG
    assert all(line.startswith("    ") for line in lines[row + 1 : row + 3])
    assert lines[row + 3] == "Re-ingestion: 1 item needs you"
    place = next(place for place, line in enumerate(lines) if line.startswith("mail does not answer"))
    assert all(line.startswith("    ") for line in lines[place + 1 :])


def test_items_of_the_reingestion_are_told() -> None:
    """Each with its reason; not more than a page can hold, and how many there are beyond."""
    assert list(_items(ReingestionBoard())) == []
    needy = tuple(Entry(id=n, queue="alma", kind="calibration", uid=f"uid{n}", state="dead", attempt=2, why="no disk")
                  for n in range(SHOWN + 5))  # fmt: skip
    queue = QueueState("alma", 4, counts=(("calibration", "dead", SHOWN + 7),))
    lines = list(_items(ReingestionBoard(configured=True, told=True, queues=(queue,), needy=needy)))
    assert lines[0].startswith(f"Re-ingestion: {SHOWN + 7} items need you")
    assert lines[1] == "  item 0: dead, uid0: no disk"
    assert (len(lines), lines[-1]) == (SHOWN + 2, "  and 7 more")
