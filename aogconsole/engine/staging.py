"""Staging: slots are filled from the queue, each run is driven from its start to its outcome.

The intent (run and token) is committed before the host is told; a start is repeated with the same token until the
host answered, and the host starts a token once. A run found `starting` or `running` at start is taken up again.
Rules: design section 2 "Detached runs", invariants 1 and 2.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
from typing import Any

from aogconsole import times
from aogconsole.engine.bench import Bench
from aogconsole.engine.checking import Checking
from aogconsole.engine.driving import Driving
from aogconsole.errors import AogError, ConfigError, Conflict, OutsideError, StorageError
from aogconsole.ids import MousUid, ProjectCode, Ticket
from aogconsole.requests.request import State
from aogconsole.tasks import cancelled, obey
from backends.ports import HostRuns, StagingHost

log = logging.getLogger("aogconsole")
QUEUE = """
    select * from request where state <> 'closed' and state = 'queued'
    and (next_try is null or next_try not between ? and ?) order by position, id
"""
ACTIVE = """
    select run.* from run join request on request.id = run.request
    where run.state in ('starting', 'running') and request.state <> 'closed' and request.state = 'staging'
"""


ROOM = 100 << 20
"""Bytes that must be free, here and on the staging host, before a run is started."""


MOST = 60.0
"""Seconds between tries, at the most, at a host that does not answer."""


class OwnedElsewhere(ConfigError):
    """The staging host's run folder belongs to another journal: two engines on one inbox would double everything."""


class Staging:
    """The staging step, and the runs under way."""

    def __init__(self, bench: Bench, checking: Checking) -> None:
        self._bench = bench
        self._checking = checking
        self._drives: dict[int, asyncio.Task[None]] = {}
        self._ours = False
        self.claim_tried = asyncio.Event()
        """Set once the host was asked whose run folder it is, whatever came of it."""

    async def step(self) -> None:
        """Take up what runs, and fill free slots from the queue."""
        if self._bench.host is None:
            self.claim_tried.set()
            return
        if not self._ours:
            await self._claim(self._bench.host)
        active = self._bench.journal.all(ACTIVE)
        for run in active:
            self._drive(run["id"])
        if not self._bench.paused:
            await self._fill(self._bench.host, len(active))

    async def let_go(self) -> None:
        """Leave the runs to themselves: they go on, and are taken up again by the next engine."""
        await cancelled(self._drives.values())
        if self._bench.host is not None:
            with contextlib.suppress(AogError):
                await self._bench.host.close()

    async def _claim(self, host: StagingHost) -> None:
        """Record on the host that its run folder is this journal's. Raises OwnedElsewhere."""
        try:
            hello = await host.hello(self._bench.journal.id)
        except AogError as error:
            self._bench.seen("staging", False, str(error))
            self.claim_tried.set()
            raise
        if hello.journal != self._bench.journal.id:
            raise OwnedElsewhere(
                f"the run folder on {self._bench.settings.staging.host} belongs to another journal ({hello.journal})",
                "use that journal, or another staging.root",
            )
        self._ours = True
        self.claim_tried.set()
        self._bench.seen("staging", True, "")

    def _drive(self, run: int) -> None:
        if run not in self._drives:
            task = self._drives[run] = asyncio.create_task(self._supervised(run), name=f"run {run}")
            task.add_done_callback(lambda _: self._drives.pop(run))

    async def _supervised(self, run: int) -> None:
        """Drive one run to its end, again and again while the host cannot be asked."""
        driving, tries = Driving(self._bench), 0
        while True:
            try:
                await driving.drive(run)
                return
            except Conflict:
                return  # it is no longer ours to drive
            except StorageError as error:
                log.warning("run %s: %s (%s)", run, error, error.hint)
                wait = self._bench.wait(tries, 0.5, MOST)
            except (OutsideError, ConfigError) as error:
                self._bench.seen("staging", False, str(error))
                wait = self._bench.wait(tries, 0.5, MOST)
            except Exception:
                log.exception("run %s: driving it went wrong; it is taken up again", run)
                wait = self._bench.wait(tries)
            obey()  # what fails at its end must not begin anew
            await asyncio.sleep(wait)
            tries += 1

    async def _fill(self, host: StagingHost, active: int) -> None:
        bench = self._bench
        queue = bench.journal.all(QUEUE, *bench.waiting)
        if not queue or active >= bench.settings.staging.slots:
            return
        found = await host.list()
        bench.seen("staging", True, "")
        full = "the staging host's disk is full" if found.room < ROOM else ""
        if shutil.disk_usage(bench.journal.path.parent).free < ROOM:
            full = f"the disk of {bench.journal.path.parent} is full"
        free = 0 if full else min(found.free, bench.settings.staging.slots - active)
        for row in queue:
            if free <= 0:
                self._waits(row, found, full)
                continue
            if await self._fresh(row) and self._start(row["id"]):
                free -= 1

    async def _fresh(self, row: Any) -> bool:
        """Whether the check is of today; an older one is made again first."""
        bench = self._bench
        if self._of_today(row):
            return True
        checked = await self._checking.ask(row)
        with contextlib.suppress(Conflict), bench.journal.transaction():
            if bench.journal.fetch("request", row["id"])["version"] != row["version"]:
                return False  # the answer may be to what it asked before: the next step looks at it anew
            if checked.verdict == "unknown":
                bench.journal.change(
                    "request", row["id"], bench.actor, "waits", origins={State.QUEUED}, target=None,
                    why=f"to be checked again before staging; {checked.sentence}",
                    next_try=bench.next_try(row["tries"]), tries=row["tries"] + 1,
                )  # fmt: skip
                return False
            self._checking.conclude(row, checked, {State.QUEUED})
            return checked.verdict == "entitled"
        return False

    def _of_today(self, row: Any) -> bool:
        zone = self._bench.settings.policy.timezone
        checked = row["checked_at"]
        return bool(checked) and times.day(times.parse(checked), zone) == times.day(times.now(), zone)

    def _start(self, request: int) -> bool:
        """Commit the intent to run; the run's own task tells the host."""
        journal, actor = self._bench.journal, self._bench.actor
        try:
            with journal.transaction():
                row = journal.fetch("request", request)  # as it is now: since the queue was read others could act
                if not self._of_today(row):
                    return False
                waiting = journal.one("select id from run where request = ? and state = 'starting'", request)
                run = int(waiting["id"]) if waiting else self._new_run(row)
                journal.change(
                    "request",
                    request,
                    actor,
                    "start",
                    origins={State.QUEUED},
                    target=State.STAGING,
                    data={"run": run},
                )
        except Conflict:
            return False  # held or closed meanwhile
        self._drive(run)
        return True

    def _new_run(self, row: Any) -> int:
        journal = self._bench.journal
        run = journal.new_id("run")
        project, mous, ticket = (
            ProjectCode.parse(row["project"]),
            MousUid.parse(row["mous"]),
            Ticket.parse(row["ticket"]),
        )
        journal.insert("run", {
            "id": run, "request": row["id"], "token": secrets.token_hex(16), "state": "starting",
            "project": str(project), "mous": str(mous), "ticket": str(ticket), "created_at": times.now_text(),
        })  # fmt: skip
        journal.record(self._bench.actor, "plan", "run", run, target="starting", data={"request": row["id"]})
        return run

    def _waits(self, row: Any, found: HostRuns, full: str) -> None:
        """Say why a request waits, when it is not for our own runs."""
        why = f"waits: {len(found.foreign)} started by hand on the staging host" if found.foreign else ""
        if full:
            why = f"waits: {full}; make room there"
        if why and row["why"] != why:
            with contextlib.suppress(Conflict):
                self._bench.journal.change(
                    "request", row["id"], self._bench.actor, "waits", origins={State.QUEUED}, target=None, why=why
                )
