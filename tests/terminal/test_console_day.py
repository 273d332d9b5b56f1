"""A newcomer clears the sample day in the real demo, by keyboard alone and by what the screen says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aogconsole.requests.request import REFUSALS
from tests.support.consoles import Console, Newcomer, counts, look

DECIDED = {"unclear": "closed", "held": "closed"}
"""What becomes of what the day leaves to a person, when a person sees to it."""
NO_REQUEST = ("ignored", "duplicate")
STEPS: dict[tuple[str, ...], tuple[tuple[str, ...], int]] = {
    ("link",): (("stage", "send"), 3),
    ("expert",): (("stage", "send", "rerun", "send"), 7),
    (): (("decide",), 3),
    **{(kind,): (("refuse",), 2) for kind in REFUSALS},
}
"""By the letters of a request: what was done in turn, and how many keys that took (the words of a reason apart)."""
REQUESTS = "select mail.source, request.id, request.state from request join mail on mail.id = request.mail"


@pytest.mark.parametrize(("rows", "cols"), [(24, 80), (50, 200)], ids=["80x24", "200x50"])
def test_a_newcomer_clears_the_day(tmp_path: Path, rows: int, cols: int) -> None:
    """Every request is seen to its end; one that goes well takes three keys; screen and journal agree."""
    folder = tmp_path / "demo"
    journal = folder / "state" / "journal.db"
    words = ("demo", "--dir", str(folder), "--speed", "500")
    with Console(tmp_path / "home", *words, rows=rows, cols=cols) as console:
        console.wait_for("? tells all keys", 40)
        console.ready()
        expected = json.loads((folder / "day" / "expected.json").read_text())
        wanted = sum(one["expected"] not in NO_REQUEST for one in expected)

        def over() -> bool:
            return len(look(journal, "select 1 from request where state = 'closed'")) == wanted

        newcomer = Newcomer(console)
        newcomer.work(over)
        console.wait_for(lambda text: counts(text) == (0, 0))
        assert {row.state for row in console.queue} <= {"closed"}
        console.send("q")
        assert console.wait_exit() == 0
        assert console.restored(), console.left_behind()
    by_mail = {row["source"].partition(".")[2]: row for row in look(journal, REQUESTS)}
    for one in expected:
        if one["expected"] in NO_REQUEST:
            continue
        row = by_mail[one["mail"]]
        assert row["state"] == DECIDED.get(one["expected"], one["expected"]), one
        steps = STEPS[tuple(one.get("letters", ()))]
        assert (tuple(newcomer.did[row["id"]]), newcomer.keys[row["id"]]) == steps, one
