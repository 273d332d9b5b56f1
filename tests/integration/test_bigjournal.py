"""The journals that the benchmarks are made on are real ones."""

from __future__ import annotations

from pathlib import Path

from aogconsole import views
from aogconsole.journal import history
from aogconsole.journal.store import Journal
from tests.support import bigjournal


def test_a_journal_of_many_years_is_a_real_one(tmp_path: Path) -> None:
    """Its history verifies, every reference leads somewhere, and its lists, searches and letters are as they should."""
    closed, open_ = 4 * bigjournal.PER_DAY, 8
    with bigjournal.site() as desk:
        bigjournal.Foundry(desk).fill(tmp_path / "journal.db", closed, open_)
    journal = Journal.open(tmp_path / "journal.db")
    assert history.verify(journal.connection) == []
    assert journal.all("pragma foreign_key_check") == []
    requests = views.requests(journal)
    states = [one["state"] for one in requests]
    assert (states.count("closed"), len(states)) == (closed, closed + open_)
    assert set(states) == {"closed", *bigjournal.OPEN}
    assert len({(one["mous"], one["ticket"]) for one in requests}) == len(requests)
    first = requests[-1]
    assert [one["id"] for one in views.requests(journal, search=first["mous"])] == [first["id"]]
    assert len(views.history(journal, int(first["id"]))) > 8
    assert {one["state"] for one in views.letters(journal)} == {"sent", "draft"}
    journal.connection.execute("update request set state = 'held' where id = ?", (first["id"],))
    assert history.verify(journal.connection) == [f"request {first['id']} is held, but the history leads to closed"]
    journal.close()
