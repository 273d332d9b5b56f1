"""The operator's desk: every verb on requests, letters and runs, the only way in for console and command line.

A verb is a conditional transition of the journal: it raises Conflict, saying who acted first, when the thing is
not in the state (or, with `seen`, the version) it was decided on. What acts outside (`stop`, `keep`, sending)
is recorded as an intent here and done by the engine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aogconsole import times
from aogconsole.errors import Conflict, UsageError
from aogconsole.ids import AccountId, MousUid, ProjectCode, Ticket
from aogconsole.journal.history import Actor
from aogconsole.journal.known import SETTLED
from aogconsole.journal.store import Journal, encode
from aogconsole.letterbook import STATE_OF, LetterBook
from aogconsole.requests import letters
from aogconsole.requests.letters import Draft
from aogconsole.requests.request import AT_REST, OPEN, REFUSALS, TRANSITIONS, State

PARSE = {"mous": MousUid.parse, "project": ProjectCode.parse, "account": AccountId.parse, "ticket": Ticket.parse}
NEEDS_WHY = "say why: it stands in the history"


class Desk:
    """The verbs, as one actor. `seen` is the version of the thing that the operator looked at."""

    def __init__(self, journal: Journal, actor: Actor, book: LetterBook) -> None:
        self._journal = journal
        self._actor = actor
        self._book = book

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────

    def recheck(self, request: int, why: str = "", *, seen: int | None = None) -> None:
        """Have the archive asked again; drafted refusals are dropped. Needs all four fields.

        Who does so accepts what was doubted of the mail: a note on the request says it.
        """
        with self._journal.transaction():
            row = self._journal.fetch("request", request)
            self._complete(row)
            self._alone(request, {name: row[name] for name in PARSE})
            self._book.discard_drafts(request, "checked again")
            self.drop_unstarted(request, "checked again")
            doubt = self._doubt(request)
            self._move(request, "recheck", State.RECEIVED, why=why, seen=seen, next_try=None, tries=0, before_hold=None)
            if doubt:
                self.note(request, f"taken although: {doubt}" + (f". Reason: {why}" if why else ""))

    def stage(self, request: int, *, seen: int | None = None) -> None:
        """Put an entitled request into the queue."""
        with self._journal.transaction():
            self._move(request, "stage", State.QUEUED, seen=seen)

    def refuse(self, request: int, verdict: str | None = None, why: str = "", *, seen: int | None = None) -> int:
        """Approve the refusal letter; with `verdict` a person picks which, from `unclear`. Returns the letter's id."""
        with self._journal.transaction():
            row = self._journal.fetch("request", request)
            if verdict is None:
                if row["state"] != State.REFUSED:
                    raise Conflict(
                        self._journal.first("request", request, row["state"], "refuse"),
                        "pick a verdict with --as, or look again",
                    )
                return self._approve_live(request, seen)
            if verdict not in REFUSALS:
                raise UsageError(f"'{verdict}' is not a refusal", "one of " + ", ".join(REFUSALS))
            self._why(why)
            self._move(
                request,
                "refuse",
                State.REFUSED,
                why=why,
                seen=seen,
                origins={State.UNCLEAR, State.REFUSED},
                verdict=verdict,
                verdict_why=why,
            )
            self._book.discard_drafts(request, why)
            self.drop_unstarted(request, why)
            letter = self._book.draft(request, verdict)
            self.approve(letter)
            return letter

    def hold(self, request: int, why: str, *, seen: int | None = None) -> None:
        """Put a request aside; `release` takes it up where it was."""
        self._why(why)
        with self._journal.transaction():
            row = self._journal.fetch("request", request)
            self._not_on_its_way(request)
            before = State.RECEIVED if row["state"] == State.CHECKING else row["state"]
            was = {"was": row["why"]}
            self._move(request, "hold", State.HELD, why=why, seen=seen, before_hold=before, data=was)

    def release(self, request: int, *, seen: int | None = None) -> None:
        """Take a request up again that was put aside, with what was to be said of it then."""
        with self._journal.transaction():
            row = self._journal.fetch("request", request)
            if row["state"] == State.HELD and row["before_hold"] is None:
                raise Conflict(
                    f"request {request} was not put aside: its run was stopped or failed", "use rerun or close"
                )
            held = self._journal.one(
                "select data from history where entity = ? and verb = 'hold' order by seq desc limit 1", request
            )
            why = json.loads(held["data"]).get("was", "") if held else ""
            target = State(row["before_hold"] or State.RECEIVED)
            self._move(request, "release", target, why=why, seen=seen, before_hold=None)

    def rerun(self, request: int, why: str, *, seen: int | None = None) -> None:
        """Stage an entitled request once more, as a new run."""
        self._why(why)
        with self._journal.transaction():
            row = self._journal.fetch("request", request)
            if row["verdict"] != "entitled":
                raise Conflict(
                    f"request {request} is not known to be entitled",
                    "recheck it; nobody can stage what is not entitled",
                )
            self._alone(request, {name: row[name] for name in PARSE})
            self._book.discard_drafts(request, why)
            self._move(request, "rerun", State.QUEUED, why=why, seen=seen, before_hold=None, url=None)

    def close(self, request: int, why: str, *, seen: int | None = None) -> None:
        """Close a request for good; letters that have not gone are dropped."""
        self._why(why)
        with self._journal.transaction():
            self._book.discard_drafts(request, why)
            self.drop_unstarted(request, why)
            self._move(request, "close", State.CLOSED, why=why, seen=seen, before_hold=None)

    def reopen(self, request: int, why: str, *, seen: int | None = None) -> None:
        """Open a closed request: a person decides what is next."""
        self._why(why)
        self._move(request, "reopen", State.UNCLEAR, why=f"reopened: {why}", seen=seen)

    def correct(self, request: int, why: str, *, seen: int | None = None, **fields: str) -> None:
        """Put other values in; with all four there the request is checked. Raises InvalidId for a bad one."""
        self._why(why)
        values: dict[str, Any] = {name: str(PARSE[name](text)) for name, text in fields.items() if text}
        if not values:
            raise UsageError("nothing to correct", "give --mous, --project, --account or --ticket")
        with self._journal.transaction():
            row = self._journal.fetch("request", request)
            after = {name: values.get(name) or row[name] for name in PARSE}
            self._alone(request, after)
            self._book.discard_drafts(request, why)
            self.drop_unstarted(request, why)
            missing = [name for name, value in after.items() if not value]
            target = State.UNCLEAR if missing else State.RECEIVED
            stays = f"still missing: {', '.join(missing)}" if missing else ""
            self._move(
                request, "correct", target, why=stays or why, seen=seen, data=values, **values,
                verdict=None, verdict_why=None, facts=None, checked_at=None, next_try=None, tries=0, before_hold=None,
            )  # fmt: skip

    def note(self, request: int, text: str) -> None:
        """Leave a note."""
        if not text.strip():
            raise UsageError("the note is empty", "give its text")
        with self._journal.transaction():
            self._journal.fetch("request", request)
            self._journal.insert(
                "note", {"request": request, "at": times.now_text(), "who": self._actor.who, "text": text}
            )
            self._move(request, "note", None, data={"text": text}, origins=frozenset(State))

    def claim(self, request: int, *, off: bool = False, seen: int | None = None) -> None:
        """Say that this request is yours, or (`off`) no longer."""
        with self._journal.transaction():
            row = self._journal.fetch("request", request)
            if not off and row["claimed_by"]:
                raise Conflict(
                    f"request {request} is claimed by {row['claimed_by']}", "talk to them, or use --off first"
                )
            self._move(
                request,
                "claim",
                None,
                seen=seen,
                origins=OPEN,
                claimed_by=None if off else self._actor.who,
                data={"off": off},
            )

    def move(self, request: int, position: int, *, seen: int | None = None) -> None:
        """Change the queue's order: 1 is next."""
        if position < 1:
            raise UsageError(f"position {position} is not one", "1 is the first place in the queue")
        with self._journal.transaction():
            others = self._journal.all(
                "select id, position from request where state <> 'closed' and state = 'queued' and id <> ?"
                " order by position, id",
                request,
            )
            places = [row["position"] for row in others]
            at = min(position - 1, len(places))
            if not places:
                place = 0.0
            elif at == 0:
                place = places[0] - 1
            elif at == len(places):
                place = places[-1] + 1
            else:
                place = (places[at - 1] + places[at]) / 2
            self._move(
                request, "move", None, seen=seen, origins={State.QUEUED}, position=place, data={"position": position}
            )

    # ── letters ──────────────────────────────────────────────────────────────────────────────────────────────

    def edit(self, letter: int, text: str, *, seen: int | None = None) -> None:
        """Replace a drafted letter's text (`To:`, `Cc:`, `Subject:`, an empty line, the body)."""
        with self._journal.transaction():
            row = self._journal.fetch("letter", letter)
            if row["message"] is not None:
                raise Conflict(
                    f"letter {letter} was tried already: what may have gone is not edited", "discard it, or resend"
                )
            draft = letters.edited(Draft.from_json(json.loads(row["draft"])), text)
            self._journal.change(
                "letter", letter, self._actor, "edit", origins={"draft", "approved"}, target="draft", seen=seen,
                draft=encode(draft.to_json()), edited=1,
            )  # fmt: skip

    def approve(self, letter: int, *, seen: int | None = None) -> None:
        """Let a drafted letter go out; the engine sends it."""
        self._journal.change("letter", letter, self._actor, "approve", origins={"draft"}, target="approved", seen=seen)

    def send(self, letter: int, *, seen: int | None = None) -> None:
        """Approve a letter, or have one that waits for its next try sent now."""
        self._journal.change(
            "letter",
            letter,
            self._actor,
            "send",
            origins={"draft", "approved"},
            target="approved",
            seen=seen,
            next_try=None,
        )

    def resend(self, letter: int, why: str) -> int:
        """Send a letter once more, as a new one: only a person may risk that it arrives twice. Returns the new id."""
        self._why(why)
        with self._journal.transaction():
            row = self._journal.fetch("letter", letter)
            over = {"sent", "partly_refused", "refused", "ambiguous", "bounced", "discarded"}
            if row["state"] not in over:
                raise Conflict(self._journal.first("letter", letter, row["state"], "resend"), "use send")
            live = self._live(row["request"])
            if live is not None:
                sentence = f"letter {live['id']} of request {row['request']} is {live['state']}"
                raise Conflict(sentence, "send that one, or discard it first")
            if not self._book.entitled(row):
                raise Conflict(
                    f"request {row['request']} is not known to be entitled to what letter {letter} links to",
                    "recheck it, then stage it",
                )
            new = self._book.again(letter)
            self.drop_unstarted(row["request"], why)
            self._move(
                row["request"],
                "resend",
                STATE_OF[row["kind"]],
                why=why,
                data={"letter": letter, "new": new},
                before_hold=None,
            )
            self.approve(new)
            return new

    def discard(self, letter: int, *, seen: int | None = None) -> None:
        """Drop a letter that has not gone. Its request stays; resend makes a new one."""
        self._journal.change(
            "letter", letter, self._actor, "discard", origins={"draft", "approved"}, target="discarded", seen=seen
        )

    # ── runs and the engine ──────────────────────────────────────────────────────────────────────────────────

    def stop(self, run: int, why: str) -> None:
        """Ask for the end of a run; the engine does it, and the request is held."""
        self._why(why)
        with self._journal.transaction():
            row = self._journal.fetch("run", run)
            state = self._journal.fetch("request", row["request"])["state"]
            if row["state"] == "starting" and state != State.STAGING:
                self.drop_unstarted(row["request"], why)
                if state == State.QUEUED:
                    self.hold(row["request"], why)
                return
            self._journal.change(
                "run", run, self._actor, "stop", origins={"starting", "running"}, target=None, why=why,
                stop_asked_by=self._actor.who,
            )  # fmt: skip

    def keep(self, run: int, *, off: bool = False) -> None:
        """Ask for a staged directory to be kept beyond its day, or no longer; the engine does it."""
        with self._journal.transaction():
            row = self._journal.fetch("run", run)
            if row["state"] != "succeeded" or row["gone"]:
                raise Conflict(f"run {run} has no staged data", "`aogconsole staged` lists those that have")
            self._journal.change(
                "run",
                run,
                self._actor,
                "keep",
                origins={"succeeded"},
                target=None,
                data={"off": off},
                keep_wanted=0 if off else 1,
            )

    def pause(self, *, on: bool = True) -> None:
        """The engine takes no new step, or takes them again; runs go on."""
        with self._journal.transaction():
            paused = bool(self._journal.meta("paused"))
            if paused == on:
                raise Conflict(
                    "the engine is paused already" if on else "the engine is not paused",
                    "`aogconsole history` tells who did it",
                )
            self._journal.set_meta("paused", f"{self._actor.who} {times.now_text()}" if on else "")
            self._journal.record(self._actor, "pause" if on else "resume", "engine", None)

    # ── shared ───────────────────────────────────────────────────────────────────────────────────────────────

    def _move(
        self, request: int, verb: str, target: State | None, *, origins: Any = None, why: str = "", **rest: Any
    ) -> None:
        arrow = TRANSITIONS.get(verb)
        allowed = origins if origins is not None else arrow.origins if arrow else AT_REST
        self._journal.change("request", request, self._actor, verb, origins=allowed, target=target, why=why, **rest)

    def _approve_live(self, request: int, seen: int | None) -> int:
        row = self._live(request)
        if row is None:
            raise Conflict(f"request {request} has no letter to send", "use refuse --as, or resend")
        if row["state"] != "draft":
            raise Conflict(self._journal.first("letter", row["id"], row["state"], "refuse"), "it is on its way")
        self._move(request, "refuse", None, seen=seen, origins={State.REFUSED})
        self.approve(row["id"])
        return int(row["id"])

    def _live(self, request: int) -> Any:
        return self._journal.one(
            "select * from letter where request = ? and state in ('draft', 'approved', 'sending')", request
        )

    def _complete(self, row: Any) -> None:
        missing = [name for name in PARSE if not row[name]]
        if missing:
            raise Conflict(f"request {row['id']} lacks {', '.join(missing)}", "use correct")

    def _doubt(self, request: int) -> str:
        """Why a request's mail was not taken for certain, as long as nobody has accepted it; as board_lines.sql."""
        row = self._journal.one(
            f"select mail.why from request join mail on mail.id = request.mail where request.id = ? and not {SETTLED}",  # noqa: S608
            request,
        )
        return str(row["why"]) if row else ""

    def _alone(self, request: int, fields: Mapping[str, str | None]) -> None:
        """No second open request for the same data, user and ticket; one that a stranger proposed is none."""
        key = "mous = ? and account = ? and ticket = ?"
        other = self._journal.one(
            f"select id from request where {key} and state <> 'closed' and {SETTLED} and id <> ?",  # noqa: S608
            fields["mous"], fields["account"], fields["ticket"], request,
        )  # fmt: skip
        if other:
            raise Conflict(f"request {other['id']} is open for the same MOUS, user and ticket", "close one of them")

    def _not_on_its_way(self, request: int) -> None:
        if self._journal.one("select 1 from letter where request = ? and state = 'sending'", request):
            raise Conflict(f"a letter of request {request} is being sent", "wait until it has gone")

    def drop_unstarted(self, request: int, why: str) -> None:
        """A run that waits for a busy host was never started: it ends with its request."""
        row = self._journal.fetch("request", request)
        if row["state"] != State.STAGING:
            for run in self._journal.all("select id from run where request = ? and state = 'starting'", request):
                self._journal.change(
                    "run",
                    run["id"],
                    self._actor,
                    "stop",
                    origins={"starting"},
                    target="stopped",
                    why=f"never started: {why}",
                )

    def _why(self, why: str) -> None:
        if not why.strip():
            raise UsageError("a reason is missing", NEEDS_WHY)
