"""What the operator's keys do to re-ingestion: ask what has to be asked, have the watch do it, say what came of it.

A verb on an item carries the item as it was on the screen: when somebody else acted first, nothing is done and it is
said who.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from textual.screen import ModalScreen

from aogconsole import times
from aogconsole.actions import Action
from aogconsole.errors import AogError, Conflict, UsageError
from aogconsole.reingestion import overview
from aogconsole.reingestion.item import ACTIVE, TRANSITIONS, Item, Queue, State
from aogconsole.reingestion.steering import LOADER, NEVER, REQUEUABLE, Steering
from aogconsole.reingestionpages import ItemsView, about
from widgets.dialogs import Ask, Confirm
from widgets.forms import FieldsForm

if TYPE_CHECKING:
    from aogconsole.app import Console
    from backends.reingestion_ports import Metadata

T = TypeVar("T")
ON_ITEMS = ("requeue", "defer", "drop")


class ReingestionDesk:
    """The verbs on re-ingestion, and its pages."""

    def __init__(self, app: Console) -> None:
        self._app = app
        self._migrated = False
        self._busy = False
        self.items = ItemsView(app, self)

    def do(self, action: Action) -> None:
        """Do what a key says; one thing at a time."""
        if action.id == "show.reingestion":
            self.items.open()
        else:
            self.verb(action.verb, None)

    def verb(self, verb: str, seen: tuple[Queue, Item] | None) -> None:
        """One of requeue, defer, drop (on an item; None: it is asked which), run, pause."""
        if self._busy:
            return
        self._busy = True
        self._app.run_worker(self._verb(verb, seen), name=f"reingestion.{verb}", group="reingestion")

    async def read(self, work: Callable[[Metadata], Awaitable[T]]) -> T:
        """Ask the database. Raises AogError."""
        return await self._app.queue_watch_or_raise().do(work)

    async def _verb(self, verb: str, seen: tuple[Queue, Item] | None) -> None:
        try:
            if verb == "run":
                await self._run()
            elif verb == "pause":
                await self._pause()
            else:
                queue, item = seen or await self._which(verb)
                possible(verb, item)
                await {"requeue": self._requeue, "defer": self._defer, "drop": self._drop}[verb](queue, item)
        except _Nothing:
            pass
        except AogError as error:
            self._app.say_on_top(_told(error), error=True)
        finally:
            self._busy = False

    # ── on an item ───────────────────────────────────────────────────────────────────────────────────────────

    async def _which(self, verb: str) -> tuple[Queue, Item]:
        """Ask for an item by its number; the first that needs a person is proposed."""
        needy = self._app.queue_board.needy
        text = f"{'vlba:' if needy[0].queue == 'vlba' else ''}{needy[0].id}" if needy else ""
        lines = [f"{one.id}  {one.uid}  {one.state}: {one.why}" for one in needy[:5]]
        trouble = ""
        while True:
            asked = Ask(f"{verb.capitalize()} which item?", lines, "Its id (vlba:ID for the VLBA's)",
                        required="an id is needed", initial=text, trouble=trouble)  # fmt: skip
            text = await self._ask(asked)
            try:
                return await self._found(text)
            except UsageError as error:
                trouble = _told(error)

    async def _found(self, text: str) -> tuple[Queue, Item]:
        name, _, number = text.lower().rpartition(":")
        queue = Queue.VLBA if name == "vlba" else Queue.ALMA
        if name not in ("", *Queue) or not (number.isascii() and number.isdigit()) or len(number) > 18:
            raise UsageError(f"'{text[:40]}' is no id", "write a number, or vlba: and a number")
        return queue, await self.read(lambda metadata: Steering(metadata, queue, self._app.who).item(int(number)))

    async def _requeue(self, queue: Queue, item: Item) -> None:
        lines = about(item)
        if item.state in ACTIVE:
            lines.append("Its workflow may still be under way: then it will run twice.")
        why = await self._ask(Ask(f"Requeue item {item.id}: it is sent again", lines, "Why"))
        await self._done(queue, f"requeue {item.id}", why, lambda desk: desk.requeue(item.id, why, item))

    async def _defer(self, queue: Queue, item: Item) -> None:
        given = await self._ask(FieldsForm(
            f"Defer item {item.id}", {"until": ("until (UTC)", "")}, why=True, check=_wrong,
            lines=(*about(item), "Until a time such as 2026-11-21T14:00Z; without one until somebody requeues it."),
        ))  # fmt: skip
        why, until = given["why"], times.parse(given["until"]) if given["until"] else None
        command = f"defer {item.id}" + (f" --until {times.text(until)}" if until else "")
        await self._done(queue, command, why, lambda desk: desk.defer(item.id, why, until, item))

    async def _drop(self, queue: Queue, item: Item) -> None:
        why = await self._ask(Ask(f"Drop item {item.id}", about(item), "Why"))
        lines = [*about(item), f"Why: {why}", "It will not be ingested, until somebody requeues it."]
        if await self._ask(Confirm(f"Drop item {item.id}?", lines, "drop it", danger=True)):
            await self._done(queue, f"drop {item.id}", why, lambda desk: desk.drop(item.id, why, item))

    async def _done(self, queue: Queue, command: str, why: str, act: Callable[[Steering], Awaitable[Item]]) -> None:
        options = " --queue vlba" if queue is Queue.VLBA else ""
        row = await self._act(f"{command}{options} --why '{why}'", queue, act)
        until = f" until {times.text(row.not_before)}" if row.not_before and row.not_before != NEVER else ""
        self.items.done(queue, row)
        self._app.say_on_top(f"Item {row.id} is {row.state}{until}.")

    # ── the pair ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self) -> None:
        notes = await self._act("run", Queue.ALMA, lambda desk: desk.run_loader())
        last = overview.loader(notes.get(LOADER))["last_cycle"]
        self._app.say_on_top(
            f"The loader is told to look now; its last cycle was {last if isinstance(last, str) else 'never'}."
        )

    async def _pause(self) -> None:
        by = self._app.queue_board.paused
        if by:
            why = await self._ask(Ask("Let re-ingestion go on", [f"It is paused by {by}."], "Why", required=""))
        else:
            lines = ["Loader and runners take nothing new until somebody lets them go on; what runs goes on."]
            why = await self._ask(Ask("Pause re-ingestion, for everybody", lines, "Why"))
        verb = "resume" if by else "pause"
        await self._act(f"{verb} --why '{why}'", Queue.ALMA, lambda desk: desk.pause(why, on=not by))
        self._app.say_on_top("Re-ingestion goes on." if by else "Re-ingestion is paused; what runs goes on.")

    async def _act(self, command: str, queue: Queue, act: Callable[[Steering], Awaitable[T]]) -> T:
        """Have it done, and keep it in the command log."""

        async def work(metadata: Metadata) -> T:
            if not self._migrated:
                await metadata.migrate()
            return await act(Steering(metadata, queue, self._app.who))

        try:
            done = await self.read(work)
        except AogError as error:
            self._app.record(f"reingestion {command}", f"not done: {_told(error)}")
            raise
        self._migrated = True
        self._app.record(f"reingestion {command}", "done")
        return done

    async def _ask(self, question: ModalScreen[Any]) -> Any:
        """Put a question to the operator. Raises _Nothing when it was closed."""
        answer = await self._app.push_screen_wait(question)
        if answer is None:
            raise _Nothing
        return answer


def possible(verb: str, item: Item) -> None:
    """Raise Conflict for what cannot be done to an item as it is, before anything is asked."""
    then = {"requeue": State.WAITING, "defer": State.DEFERRED, "drop": State.DROPPED}[verb]
    allowed = item.state in REQUEUABLE if verb == "requeue" else then in TRANSITIONS[item.state]
    if not allowed:
        hint = "wait until it ends" if item.state in ACTIVE else "it is on its way, or over"
        raise Conflict(f"item {item.id} is {item.state}; so {verb} is not possible", hint)


class _Nothing(Exception):
    """A question was closed without an answer."""


def _told(error: AogError) -> str:
    said = str(error).removesuffix(".")
    return f"{said[:1].upper()}{said[1:]}. {error.hint[:1].upper()}{error.hint[1:]}." if error.hint else f"{said}."


def _wrong(name: str, text: str) -> str:
    if name != "until" or not text:
        return ""
    try:
        time: datetime = times.parse(text)
    except ValueError:
        return "write it as 2026-11-21T14:00Z, or leave it empty"
    return "" if time > times.now() else "that is past"
