"""What the operator's keys do to requests, runs and letters: ask what has to be asked, have the clerk do it, say it.

Every verb carries the version that was on the screen: when somebody else acted first, nothing is done and it is
said who. Nothing here makes the loop wait.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from textual.screen import ModalScreen

from aogconsole.actions import BY_ID, DECISIONS, NEXT, Action, why_not
from aogconsole.board import Line
from aogconsole.clerk import Clerk
from aogconsole.desk import Desk
from aogconsole.errors import AogError
from aogconsole.journal.store import Journal
from aogconsole.requests.request import REFUSALS
from widgets.dialogs import Ask, Choose, Confirm
from widgets.entitlement import VERDICTS
from widgets.forms import FieldsForm

if TYPE_CHECKING:
    from aogconsole.app import Console

T = TypeVar("T")
Deed = Callable[[Journal, Desk], T]
LABELS = {"mous": "MOUS", "project": "Project", "account": "ALMA account", "ticket": "Ticket"}
ASKED = {
    "recheck": ("Take request {} although it is in doubt", "The archive is asked again about request {}."),
    "hold": ("Put request {} aside", "Request {} is put aside."),
    "rerun": ("Stage request {} once more", "Request {} is queued once more."),
    "close": ("Close request {}; letters that have not gone are dropped", "Request {} is closed."),
    "reopen": ("Open request {} again", "Request {} is open again: a person decides what is next."),
}
"""Verbs that need a reason, `recheck` where the mail is in doubt: the question, and what is said when it is done."""


class Deeds:
    """The verbs on requests and runs, and the engine's pause."""

    def __init__(self, app: Console) -> None:
        self._app = app
        self._clerk = None if app.read_only else Clerk(self._furnish)
        self._busy: set[int] = set()

    def _furnish(self) -> tuple[Journal, Desk]:
        from aogconsole.journal.history import Actor
        from aogconsole.site import desk

        journal = self._app.session.acting()
        return journal, desk(self._app.session.config, journal, Actor.current("console"))

    def close(self) -> None:
        """Finish what was begun."""
        if self._clerk is not None:
            self._clerk.close()

    # ── one verb ─────────────────────────────────────────────────────────────────────────────────────────────

    def do(self, action: Action, line: Line) -> None:
        """Do it beside the loop; a request that something is being done to is left alone meanwhile."""
        if line.id in self._busy:
            self._app.say(f"Request {line.id} is being seen to: wait a moment.", error=True)
            return
        self._busy.add(line.id)
        self._app.run_worker(self._do(action, line), name=action.id, group="deeds")

    async def _do(self, action: Action, line: Line) -> None:
        try:
            await self._request(action, line)
        finally:
            self._busy.discard(line.id)

    async def verb(self, command: str, deed: Deed[object], said: str, *, stay: bool = False) -> str:
        """Have a verb done, and say what came of it; `command` is how the command line would have it.

        Then the cursor may go to what needs a person next, unless it is to `stay`. Returns why it was not done.
        """
        assert self._clerk is not None  # noqa: S101
        app = self._app
        try:
            await self._clerk.do(deed)
        except AogError as error:
            told = f"{error}. {error.hint[:1].upper()}{error.hint[1:]}." if error.hint else f"{error}."
            app.record(command, f"not done: {told}")
            app.say(told, error=True)
            app.look()
            return told
        app.record(command, said)
        app.say(said)
        app.look(follow=not stay)
        return ""

    async def ask(self, question: ModalScreen[T | None]) -> T | None:
        """Put a question to the operator; None when it was closed."""
        return await self._app.push_screen_wait(question)

    def about(self, line: Line) -> list[str]:
        """The request in a question's first lines."""
        return [
            f"Ticket {line.ticket or '-'}, {line.mous or 'no MOUS'}, {line.state}",
            *([line.why] if line.why else []),
        ]

    async def _request(self, action: Action, line: Line) -> None:
        request, seen, verb = line.id, line.version, action.verb
        match verb:
            case "stage":
                hold = self._app.keyboard.of(BY_ID["request.hold"])
                said = f"Request {request} is queued for a slot; {hold} puts it aside."
                await self.verb(f"{verb} {request}", lambda _, desk: desk.stage(request, seen=seen), said)
            case "recheck" if not line.doubt:
                said = ASKED[verb][1].format(request)
                await self.verb(f"{verb} {request}", lambda _, desk: desk.recheck(request, seen=seen), said)
            case "release":
                said = f"Request {request} is taken up again."
                await self.verb(f"{verb} {request}", lambda _, desk: desk.release(request, seen=seen), said)
            case "recheck" | "hold" | "rerun" | "close" | "reopen":
                await self._with_reason(action, line)
            case "letter":
                await self._app.letters.open(line.letter or 0)
            case "sooner" | "later":
                await self._move(line, -1 if verb == "sooner" else 1)
            case _:
                asks = {
                    "next": self._next, "refuse": self._refuse, "correct": self._correct, "note": self._note,
                    "claim": self._claim,
                }  # fmt: skip
                await asks[verb](line)

    async def _with_reason(self, action: Action, line: Line) -> None:
        question, said = ASKED[action.verb]
        request, seen = line.id, line.version
        doubt = [f"In doubt: {line.doubt}"] if action.verb == "recheck" and line.doubt != line.why else []
        why = await self.ask(Ask(question.format(request), [*self.about(line), *doubt], "Why"))
        if not why:
            return
        deeds: dict[str, Deed[object]] = {
            "recheck": lambda _, desk: desk.recheck(request, why, seen=seen),
            "hold": lambda _, desk: desk.hold(request, why, seen=seen),
            "rerun": lambda _, desk: desk.rerun(request, why, seen=seen),
            "close": lambda _, desk: desk.close(request, why, seen=seen),
            "reopen": lambda _, desk: desk.reopen(request, why, seen=seen),
        }
        await self.verb(f"{action.verb} {request} --why '{why}'", deeds[action.verb], said.format(request))

    # ── what is next ─────────────────────────────────────────────────────────────────────────────────────────

    async def _next(self, line: Line) -> None:
        if line.next_action == "decide":
            await self._decide(line)
            return
        action = BY_ID[NEXT[line.next_action]]
        reason = why_not(action, line)
        if reason:
            self._app.say(reason, error=True)
        else:
            await self._request(action, line)

    async def _decide(self, line: Line) -> None:
        """An unclear request: what may be decided, each with its key."""
        possible = [BY_ID[ident] for ident in DECISIONS if not why_not(BY_ID[ident], line)]
        options = [(action.id, f"{action.label:10} {action.meaning}") for action in possible]
        chosen = await self.ask(Choose(f"Request {line.id} is unclear: what is to be done?", self.about(line), options))
        if chosen:
            await self._request(BY_ID[chosen], line)

    async def _refuse(self, line: Line) -> None:
        if line.state == "refused" and line.letter is not None:
            await self._app.letters.open(line.letter)
            return
        options = [(verdict, VERDICTS[verdict]) for verdict in REFUSALS]
        verdict = await self.ask(Choose(f"Refuse request {line.id} as", self.about(line), options))
        if verdict is None:
            return
        lines = [*self.about(line), f"The letter says {VERDICTS[verdict]} above the quoted request, and goes at once."]
        why = await self.ask(Ask(f"Refuse request {line.id}", lines, "Why"))
        if why:
            request, seen = line.id, line.version
            await self.verb(
                f"refuse {request} --as {verdict} --why '{why}'",
                lambda _, desk: desk.refuse(request, verdict, why, seen=seen),
                f"Request {request} is refused; its letter goes out.",
            )

    async def _correct(self, line: Line) -> None:
        detail = self._app.board.detail
        known = detail.fields if detail is not None and detail.line.id == line.id else {}
        fields = {name: (label, str(known.get(name) or "")) for name, label in LABELS.items()}
        given = await self.ask(
            FieldsForm(
                f"Correct request {line.id}",
                fields,
                why=True,
                unchanged="nothing is changed yet",
                lines=tuple(self.about(line)),
            )
        )
        if given is None:
            return
        why = given.pop("why")
        changed = {name: value for name, value in given.items() if value and value != fields[name][1]}
        request, seen = line.id, line.version
        words = " ".join(f"--{name} {value}" for name, value in changed.items())
        await self.verb(
            f"correct {request} {words} --why '{why}'",
            lambda _, desk: desk.correct(request, why, seen=seen, **changed),
            f"Request {request} is corrected, and checked anew.",
        )

    async def _note(self, line: Line) -> None:
        request = line.id
        question, said = f"Note on request {request}", f"The note is on request {request}."
        text: str | None = ""
        trouble = ""
        while text := await self.ask(
            Ask(question, self.about(line), "Note", required="write it", initial=text or "", trouble=trouble)
        ):
            trouble = await self.verb(f"note {request} '{text}'", partial(_note, request, text), said)
            if not trouble:
                return

    async def _claim(self, line: Line) -> None:
        request, seen, off = line.id, line.version, bool(line.claimed_by)
        if off and line.claimed_by.partition("@")[0] != self._app.who.partition("@")[0]:
            lines = [*self.about(line), f"It is claimed by {line.claimed_by}."]
            if not await self.ask(Confirm(f"Take request {request} from its owner", lines, "it is free again")):
                return
        said = f"Request {request} is nobody's again." if off else f"Request {request} is yours."
        await self.verb(
            f"claim {request}{' --off' * off}", lambda _, desk: desk.claim(request, off=off, seen=seen), said
        )

    async def _move(self, line: Line, by: int) -> None:
        request, seen, place = line.id, line.version, (line.position or 1) + by
        if place < 1:
            self._app.say(f"Request {request} is next already.", error=True)
            return
        said = f"Request {request} is moved to place {place} in the queue."
        await self.verb(
            f"move {request} {place}", lambda _, desk: desk.move(request, place, seen=seen), said, stay=True
        )

    # ── runs, engine ─────────────────────────────────────────────────────────────────────────────────────────

    def stop(self, run: int, lines: list[str]) -> None:
        """End a run, asked for with a reason."""
        self._app.run_worker(self._stop(run, lines), name="run.stop", group="deeds")

    async def _stop(self, run: int, lines: list[str]) -> None:
        lines = [*lines, "What it has done so far is lost; its request is held."]
        why = await self.ask(Ask(f"Stop run {run}", lines, "Why"))
        if why:
            said = f"Run {run} will be stopped."
            await self.verb(f"stop {run} --why '{why}'", lambda _, desk: desk.stop(run, why), said)

    async def pause(self) -> None:
        """Let the engine take no new step, or go on."""
        on = not self._app.board.paused
        if on:
            lines = ["No mail is read, nothing is checked, staged or sent, until somebody lets it go on. Runs go on."]
            if not await self.ask(Confirm("Pause the engine, for everybody", lines, "pause it")):
                return
        said = "The engine is paused; runs go on." if on else "The engine goes on."
        await self.verb("pause" if on else "resume", lambda _, desk: desk.pause(on=on), said)

    async def keep(self, run: int, *, off: bool) -> None:
        """Keep staged data beyond their day, or no longer."""
        said = f"The data of run {run} will {'no longer ' if off else ''}be kept."
        await self.verb(f"keep {run}{' --off' * off}", lambda _, desk: desk.keep(run, off=off), said)

    async def call(self, deed: Callable[[Journal], Any]) -> Any:
        """Something else for the clerk. Raises AogError."""
        assert self._clerk is not None  # noqa: S101
        return await self._clerk.do(lambda journal, _: deed(journal))


def _note(request: int, text: str, _: Journal, desk: Desk) -> None:
    desk.note(request, text)
