"""Driving one run: start it, follow its output into its file, and conclude from what it said."""

from __future__ import annotations

import asyncio
import logging
from datetime import date, timedelta
from typing import Any, assert_never

from aogconsole import times
from aogconsole.engine.bench import Bench
from aogconsole.engine.recorder import Recorder
from aogconsole.ids import MousUid, ProjectCode, Ticket
from aogconsole.requests.request import State
from aogconsole.staging.follow import Follower
from aogconsole.staging.transcript import Failed, Outcome, Succeeded, Transcript, Unclear, expected_end
from backends.ports import RemoteRun, StagingHost

log = logging.getLogger("aogconsole")
EARLIER = "select started_at, ended_at from run where state = 'succeeded' order by ended_at desc limit 20"
ASKED = 0.3
"""Seconds between looks at whether an operator wants the run stopped."""
STOP_AGAIN = 30.0
"""Seconds between tries to stop it, at the most."""
LONG_AGO = 10**9
"""Seconds: whatever days a run has told are over by then."""


class Driving:
    """Takes one run from its start to its outcome. Raises OutsideError to be called again."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    @property
    def _host(self) -> StagingHost:
        assert self._bench.host is not None  # noqa: S101
        return self._bench.host

    async def drive(self, ident: int) -> None:
        """Drive the run to its end; returns early when no slot was free. Raises OutsideError, Conflict."""
        run = self._bench.journal.fetch("run", ident)
        if run["state"] == "starting" and not await self._start(run):
            return
        await self._follow(ident)

    async def _start(self, run: Any) -> bool:
        """Have the host start the run's token; once, however often this is repeated."""
        bench = self._bench
        if run["stop_asked_by"]:
            remote = await self._host.status(run["token"])
            if remote.state == "absent":
                self._conclude(run["id"], remote, None)
                return False
        project, mous, ticket = (
            ProjectCode.parse(run["project"]),
            MousUid.parse(run["mous"]),
            Ticket.parse(run["ticket"]),
        )
        answer = await self._host.start(run["token"], project, mous, ticket)
        bench.seen("staging", True, "")
        if answer.outcome == "busy":
            if bench.journal.fetch("run", run["id"])["stop_asked_by"]:  # meanwhile
                self._conclude(run["id"], RemoteRun(run["token"], "absent"), None)
                return False
            why = f"waits: no free slot on the staging host ({answer.ours} ours, {answer.foreign} started by hand)"
            bench.journal.change(
                "request", run["request"], bench.actor, "busy", origins={State.STAGING}, target=State.QUEUED, why=why,
                next_try=bench.next_try(0, 3.0),
            )  # fmt: skip
            return False
        remote = await self._host.status(run["token"])
        bench.journal.change(
            "run", run["id"], bench.actor, "started", origins={"starting"}, target="running",
            started_at=times.now_text(), slot=remote.slot, boot_id=remote.boot_id, last_output_at=times.now_text(),
            expected_end=self._expected_end(),
        )  # fmt: skip
        return True

    async def _follow(self, ident: int) -> None:
        """Follow the output to the run's end, stopping the run meanwhile when an operator asks for it."""
        run = self._bench.journal.fetch("run", ident)
        transcript = self._transcript(run)
        recorder = Recorder(self._bench, ident)
        follower = Follower(
            self._host, run["token"], self._bench.journal.runs / f"{ident}.log", transcript, recorder.progress,
            lambda why: self._bench.seen("staging", not why, why), mode=self._bench.file_mode,
        )  # fmt: skip
        stopper = asyncio.create_task(self._stop_when_asked(ident))
        try:
            remote = await follower.follow()
        finally:
            stopper.cancel()
            await asyncio.gather(stopper, return_exceptions=True)
        recorder.progress(transcript.milestones, transcript.bytes, transcript.lines, last=True)
        self._conclude(ident, remote, transcript)

    async def _stop_when_asked(self, ident: int) -> None:
        tries = 0
        while True:
            try:
                run = self._bench.journal.fetch("run", ident)
                if run["stop_asked_by"]:
                    await self._host.stop(run["token"])
                    return
            except Exception as error:  # whatever it is: who asked waits for the stop
                log.warning("run %s cannot be stopped yet: %s", ident, error)
                tries += 1
            await asyncio.sleep(self._bench.wait(tries, ASKED, STOP_AGAIN))

    def _transcript(self, run: Any) -> Transcript:
        project, mous, ticket = (
            ProjectCode.parse(run["project"]),
            MousUid.parse(run["mous"]),
            Ticket.parse(run["ticket"]),
        )
        return Transcript(project, mous, ticket, self._bench.settings.staging.url_prefixes)

    def _expected_end(self) -> str | None:
        durations = [
            (times.parse(row["ended_at"]) - times.parse(row["started_at"])).total_seconds()
            for row in self._bench.journal.all(EARLIER)
        ]
        end = expected_end(times.now(), durations)
        return times.text(end) if end else None

    def _conclude(self, ident: int, remote: RemoteRun, transcript: Transcript | None) -> None:
        """Record the outcome, move the request, and draft its letter: one transaction."""
        bench = self._bench
        with bench.journal.transaction():
            run = bench.journal.fetch("run", ident)
            state, target, verb, why, values = self._outcome(run, remote, transcript)
            bench.journal.change(
                "run", ident, bench.actor, state, origins={"starting", "running"}, target=state, why=why,
                ended_at=times.now_text(), exit_status=remote.exit_status, **values,
            )  # fmt: skip
            url = {"url": values["url"]} if state == "succeeded" else {}
            bench.journal.change(
                "request", run["request"], bench.actor, verb, origins={State.STAGING}, target=target, why=why, **url
            )
            kind = {State.STAGED: "link", State.FAILED: "expert"}.get(target)
            if kind:
                bench.write(run["request"], kind, ident)

    def _outcome(
        self, run: Any, remote: RemoteRun, transcript: Transcript | None
    ) -> tuple[str, State, str, str, dict[str, Any]]:
        """What the run's end means: its state, the request's state and verb, why, and what is kept."""
        said: Outcome = transcript.outcome(remote.exit_status) if transcript else Unclear("it was never started")
        stopped = remote.stopped_by or (run["stop_asked_by"] if remote.state == "absent" else "")
        if stopped and not isinstance(said, Succeeded):
            return "stopped", State.HELD, "stopped", f"stopped by {run['stop_asked_by'] or stopped}: {run['why']}", {}
        if remote.state in ("lost", "absent"):
            why = {"reboot": "the staging host was started anew", "killed": "it was killed on the staging host"}
            sentence = why.get(remote.why, "the staging host no longer knows it")
            return "lost", State.UNCLEAR, "muddled", f"the run was lost: {sentence}", {}
        match said:
            case Succeeded(url, days):
                given = days if days is not None else self._bench.settings.staging.retention_days
                ended = times.now() - timedelta(seconds=min(remote.ended_ago or 0, LONG_AGO))
                day = date.fromisoformat(times.day(ended, self._bench.settings.policy.timezone))
                return (
                    "succeeded",
                    State.STAGED,
                    "succeeded",
                    "",
                    {"url": url, "deleted_on": (day + timedelta(days=given)).isoformat()},
                )
            case Failed():
                return "failed", State.FAILED, "failed", "stagecalms failed", {}
            case Unclear(sentence):
                return "unclear", State.UNCLEAR, "muddled", sentence, {}
            case _:
                assert_never(said)
