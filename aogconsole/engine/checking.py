"""Asking the archive: facts, verdict, and what follows from it.

A failed check is `unknown`, never a no: the request is `unclear` with its reason and is tried again, each time
after a longer wait (design section 3, reliability F4).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

from aogconsole import times
from aogconsole.engine.bench import Bench
from aogconsole.errors import ArchiveLoginRefused, ConfigError, Conflict, OutsideError
from aogconsole.ids import AccountId, MousUid, ProjectCode
from aogconsole.journal.store import encode
from aogconsole.requests import entitlement
from aogconsole.requests.entitlement import Facts, Verdict
from aogconsole.requests.request import REFUSALS, State

log = logging.getLogger("aogconsole")
AT_ONCE = 4
"""Checks under way at a time."""
DUE = """
    select * from request where state <> 'closed' and state in ('received', 'unclear')
    and (state = 'received' or verdict = 'unknown' and next_try is not null)
    and (next_try is null or next_try not between ? and ?) order by id limit 100
"""
INTERRUPTED = "select id from request where state <> 'closed' and state = 'checking'"


@dataclass(frozen=True)
class Checked:
    """One check as it is kept: the verdict (`unknown` with `facts` None when the archive could not be asked)."""

    verdict: str | None
    why: str
    sentence: str
    facts: dict[str, Any] | None
    query_version: str | None
    took_ms: int | None


class Checking:
    """The check step."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._refused = ""
        """Why the archive refused our log-in: each further try would bring the account's lock nearer."""
        self._answered = False
        """Our log-in is known to be good."""

    def recover(self) -> None:
        """Checks that a stop cut short are made again."""
        for row in self._bench.journal.all(INTERRUPTED):
            self._move(row["id"], "interrupted", {State.CHECKING}, State.RECEIVED)

    async def step(self) -> None:
        """Check what waits for it."""
        bench = self._bench
        if bench.archive is None or bench.paused:
            return
        self.recover()  # an earlier step may have ended without being able to write
        due = bench.journal.all(DUE, *bench.waiting)
        alone = 0 if self._answered else 1  # a wrong password is tried once, not by all at once
        for start, end in pairwise((0, *range(alone, len(due), AT_ONCE), len(due))):
            checks = (self._check(row) for row in due[start:end])
            for ended in await asyncio.gather(*checks, return_exceptions=True):
                if ended is not None:
                    raise ended

    async def _check(self, row: Any) -> None:
        bench = self._bench
        try:
            self._move(row["id"], "check", {row["state"]}, State.CHECKING, seen=row["version"])
            checked = await self.ask(row)
            with bench.journal.transaction():
                self._keep(row, checked)
                self.conclude(row, checked, {State.CHECKING})
        except Conflict:
            return  # somebody held, closed or corrected it meanwhile: theirs counts
        except OutsideError:
            raise
        except Exception as error:  # it must not stop the others
            log.exception("checking request %s went wrong", row["id"])
            why = f"checking it went wrong: {error!r}"
            self._move(row["id"], "doubt", {State.CHECKING}, State.UNCLEAR, why=why, next_try=None)

    async def ask(self, row: Any) -> Checked:
        """Ask the archive about a request. Never raises for an archive that cannot be asked."""
        if self._bench.archive is None:
            return Checked("unknown", "no archive is configured", "no archive is configured", None, None, None)
        if self._refused:
            return Checked("unknown", self._refused, self._refused, None, None, None)
        day = date.fromisoformat(times.day(times.parse(row["received_at"]), self._bench.settings.policy.timezone))
        project = ProjectCode.parse(row["project"])
        mous, account = MousUid.parse(row["mous"]), AccountId.parse(row["account"])
        try:
            answer = await self._bench.archive.ask(mous, account, project)
            facts = Facts.from_rows(((one.fact, one.values) for one in answer.rows), account.value, day)
        except (OutsideError, ConfigError) as error:
            if isinstance(error, ArchiveLoginRefused):
                self._refused = f"{error} Not tried again: {error.hint}, then restart the engine"
            self._bench.seen("archive", False, self._refused or str(error))
            return Checked("unknown", str(error), f"the archive could not be asked: {error}", None, None, None)
        except Exception as error:
            log.exception("checking request %s went wrong", row["id"])
            return Checked(
                "unknown", repr(error), f"the archive's answer could not be used: {error!r}", None, None, None
            )
        self._answered = True
        self._bench.seen("archive", True, "")
        return judged(entitlement.decide(facts), facts, answer.query_version, answer.took_ms)

    def _keep(self, row: Any, checked: Checked) -> None:
        self._bench.journal.insert("check_made", {
            "request": row["id"], "at": times.now_text(),
            "day": times.day(times.parse(row["received_at"]), self._bench.settings.policy.timezone),
            "verdict": checked.verdict, "why": checked.why, "facts": encode(checked.facts) if checked.facts else None,
            "query_version": checked.query_version, "took_ms": checked.took_ms,
        })  # fmt: skip

    def conclude(self, row: Any, checked: Checked, origins: set[State]) -> None:
        """Write the verdict and take the step that follows from it; inside a transaction."""
        kept: dict[str, Any] = {
            "verdict": checked.verdict, "verdict_why": checked.why,
            "facts": encode(checked.facts) if checked.facts else None,
            "checked_at": times.now_text(), "query_version": checked.query_version, "check_ms": checked.took_ms,
        }  # fmt: skip
        request, bench = row["id"], self._bench
        if State.QUEUED in origins and checked.verdict != "entitled":
            bench.desk.drop_unstarted(request, checked.sentence)
        if checked.verdict == "unknown":
            kept |= {"tries": row["tries"] + 1, "next_try": bench.next_try(row["tries"])}
            self._move(request, "doubt", origins, State.UNCLEAR, why=checked.sentence, **kept)
        elif checked.verdict is None:
            self._move(request, "doubt", origins, State.UNCLEAR, why=checked.sentence, next_try=None, tries=0, **kept)
        elif checked.verdict in REFUSALS:
            self._move(request, "no", origins, State.REFUSED, why=checked.sentence, next_try=None, tries=0, **kept)
            bench.write(request, checked.verdict)
        elif State.QUEUED in origins:
            bench.journal.change(
                "request",
                request,
                bench.actor,
                "checked_again",
                origins=origins,
                target=None,
                next_try=None,
                tries=0,
                **kept,
            )
        else:
            self._move(request, "entitled", origins, State.ENTITLED, next_try=None, tries=0, **kept)
            if bench.settings.policy.stage == "auto":
                bench.desk.stage(request)

    def _move(self, request: int, verb: str, origins: set[State], target: State, **rest: Any) -> None:
        self._bench.journal.change("request", request, self._bench.actor, verb, origins=origins, target=target, **rest)


def judged(verdict: Verdict, facts: Facts, query_version: str, took_ms: int) -> Checked:
    """A verdict with its evidence, as it is kept and shown."""
    return Checked(
        verdict.verdict, verdict.why, entitlement.explain(verdict, facts), facts.to_json(), query_version, took_ms
    )
