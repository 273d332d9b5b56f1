"""What is asked in every cycle reads no more of a large table than its answer, in both databases."""

from __future__ import annotations

import re

from aogconsole.reingestion.item import Queue
from backends.metadata_session import Session, Value
from tests.contract.test_tracking import Opened, site
from tests.contract.tracking_site import NOW
from tests.support.postgres import Database

assert site, "the fixture"

FILL = {
    "postgres": """insert into alma_reingestion_queue (kind, uid, version, source_time, state, attempt)
        select 'execution_block', 'uid://A002/X' || i, '1', now(), 'done', 1 from generate_series(1, 6000) as g(i)""",
    "sqlite": """with recursive g(i) as (select 1 union all select i + 1 from g where i < 6000)
        insert into alma_reingestion_queue (kind, uid, version, source_time, state, attempt)
        select 'execution_block', 'uid://A002/X' || i, '1', '2026-01-01T00:00:00.000000Z', 'done', 1 from g""",
}
ROWS = '[{"id": 1, "kind": "execution_block", "uid": "u", "version": "1", "attempt": 1}]'
ASKED: dict[str, dict[str, Value]] = {
    "newest": {"kind": "calibration", "until": NOW},
    "unknown": {"rows": ROWS},
    "known": {"rows": ROWS},
    "outdated": {"rows": ROWS},
    "to_judge": {"kind": "calibration", "now": NOW, "after": 0, "most": 100},
    "hold": {"rows": ROWS},
    "change": {"rows": "[]"},
    "sendable": {"now": NOW, "most": 100},
    "sendable_apart": {"now": NOW, "most": 100, "per_project": 1},
    "lost": {"before": NOW, "most": 100},
    "due": {},
    "taken": {},
    "wanted": {"rows": ROWS},
    "renew": {"until": NOW, "runner": "r", "rows": ROWS},
    "active": {},
    "of_workflow": {"rows": '[{"id": "w"}]'},
    "get": {"rows": ROWS},
    "oldest_waiting": {"queue": "alma"},
    "events": {"queue": "alma", "item": 1},
    "hours": {"queue": "alma", "since": NOW},
}


async def test_no_statement_reads_the_whole_table(site: Opened) -> None:
    """Neither before the table's statistics are known nor after; PostgreSQL tells how many rows it touched."""
    metadata = site.open()
    store = metadata.store
    asked = metadata.tracking(Queue.ALMA)._sql
    explain = {"postgres": "explain analyze ", "sqlite": "explain query plan "}[store.dialect.name]

    async def plan(session: Session, name: str) -> str:
        return "\n".join(str(row[-1]) for row in await session.rows(explain + asked[name], **ASKED[name]))

    for prepare in (FILL[store.dialect.name], "analyze"):
        site.ask(prepare)
        for name in ASKED:
            text = await store.write(lambda session, name=name: plan(session, name))  # type: ignore[misc]
            whole = re.findall(r"Seq Scan on alma|SCAN (?:alma_reing|held|older|newer|known)\w*(?! USING)\b.*", text)
            assert not [one for one in whole if "USING" not in one], f"{name}: {text}"
            touched = [int(number) for number in re.findall(r"rows=(\d+) loops", text)]
            assert max(touched, default=0) < 1000, f"{name}: {text}"
            removed = [int(number) for number in re.findall(r"Rows Removed by Filter: (\d+)", text)]
            assert max(removed, default=0) < 1000, f"{name}: {text}"


async def test_counts_stay_small(postgres: Database) -> None:
    """What counts the rows does not grow with the changes: the differences are summed up now and then."""
    postgres.ask("""do $$ begin
        for i in 1..700 loop
            insert into alma_reingestion_queue (kind, uid) values ('calibration', 'u');
            delete from alma_reingestion_queue;
        end loop; end $$""")
    [[number, total]] = postgres.ask("select count(*), sum(n) from reingestion_count")
    assert isinstance(number, int)
    assert number < 1000
    assert not total
