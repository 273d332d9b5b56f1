"""Which key does what now: the actions' keys as the operator has them, why one is not possible, and the help."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.binding import Binding
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget

from aogconsole.actions import ACTIONS, BY_ID, FOOTER, LOG_FOOTER, QUEUE_FOOTER, SPARE, Action, shown, why_not
from aogconsole.board import Board, Line
from aogconsole.reingesting import UNSET
from aogconsole.requests.request import State
from widgets.logkeys import KEYS
from widgets.palette import Command

if TYPE_CHECKING:
    from aogconsole.app import Console

PARTS = {
    "RequestList": ("Requests", "What needs a person is on top, marked with !; enter does what is next."),
    "Entitlement": ("Entitlement", "The verdict on the selected request, and what it rests on."),
    "LogPane": ("Log", "The terminal output of the run in a slot, or of the last one that was in it."),
    "Reingestion": ("Re-ingestion", "The queue of observations to be ingested anew; enter lists its items."),
}
"""The focused part in the help: its name, and what it is."""
MOVES = ("move", "page", "shift")
"""Actions of a log pane that are no matter of the palette."""


class Keyboard:
    """The keys of the main screen."""

    def __init__(self, app: Console) -> None:
        self._app = app
        self._plain: dict[str, Callable[[], object]] = {
            "show.filter": app.open_filter,
            "show.needy": lambda: app.to_needy(further=True),
            "show.requests": lambda: app.main.go(app.main.requests),
            "show.next_pane": lambda: app.main.action_step(1),
            "show.zoom": lambda: app.main.zoom(on=None),
            "console.help": self.help,
            "console.palette": app.action_command_palette,
            "console.theme": app.action_change_theme,
            "console.suspend": self._alone(app.suspend_process),
            "console.quit": self._alone(self._quit),
            "console.pause": self._alone(self._pause),
        }

    def _alone(self, deed: Callable[[], Awaitable[None]]) -> Callable[[], object]:
        """Beside the loop, and not twice at a time."""
        return lambda: self._app.run_worker(deed(), exclusive=True, group=deed.__name__)

    def of(self, action: Action) -> str:
        """The key of an action as the operator has it."""
        return shown(self._app._keymap.get(action.id, action.key))

    def why_not(self, action: Action) -> str:
        """Why an action is not possible now; empty when it is."""
        action = self._meant(action)
        pane = self._app.main.log_pane
        if action.group == "request" and self._app.main.apart:
            return f"{self.of(action)} ({action.label}) is for requests: {self.of(BY_ID['show.requests'])} goes there."
        if _of_queue(action) and not self._app.queue_board.configured:
            return UNSET
        if action.id == "run.stop" and pane is not None:
            return why_not(BY_ID["console.pause"], None, read_only=self._app.read_only)
        return why_not(action, self._app.selected, read_only=self._app.read_only)

    def _meant(self, action: Action) -> Action:
        """What a key means here: the next action of the re-ingestion panel is to open it."""
        queue = self._app.main.current is self._app.main.reingestion
        return BY_ID["show.reingestion"] if queue and action.id == "request.next" else action

    def do(self, ident: str) -> bool:
        """Do what a key says; when it is not possible now, it is said why. Whether something is still to come of it."""
        app, action = self._app, self._meant(BY_ID[ident])
        not_possible = self.why_not(action)
        if action.group == "request" and not app.main.apart and app.unsettled:
            if ident != "request.next":  # pressed again and again
                app.say(f"The cursor has just moved: {self.of(action)} was not taken. Press it again.", error=True)
            return False
        if not_possible:
            app.say(not_possible, error=True)
            return False
        if ident in self._plain:
            self._plain[ident]()
            return False
        if ident == "run.stop":
            self._stop(app.selected)
        elif _of_queue(action):
            app.reingestion.do(action)
        elif action.group == "request" and app.selected is not None:
            self._request(action, app.selected)
        else:
            app.lookups.do(action, app.selected)
        return True

    def _request(self, action: Action, line: Line) -> None:
        app = self._app
        if action.acts:
            app.deeds.do(action, line)
        elif action.verb == "letter":
            app.run_worker(app.letters.open(line.letter or 0), name="letter", exclusive=True, group="letter")
        else:
            app.lookups.do(action, line)

    def _stop(self, line: Line | None) -> None:
        app, pane = self._app, self._app.main.log_pane
        if pane is not None:
            slot = app.board.slots[app.main.logs.index(pane)]
            if slot.run is None or not slot.active:
                app.say(f"No run is in slot {slot.name}.", error=True)
            else:
                app.deeds.stop(slot.run, [f"Slot {slot.name}: ticket {slot.ticket}, {slot.mous}, {slot.phase}"])
        elif line is not None and line.run is not None:
            app.deeds.stop(line.run, app.deeds.about(line))

    def footer(self) -> list[tuple[str, str, bool]]:
        """Up to eight keys for the last line: key, label, whether it is possible."""
        pane, line = self._app.main.log_pane, self._app.selected
        keys: list[tuple[str, str, bool]] = []
        idents: Sequence[str] = FOOTER
        if pane is not None:
            own = {binding.id: binding for _, binding in pane._bindings}
            keys = [(self._app.get_key_display(own[ident]), own[ident].description, True) for ident in LOG_FOOTER]
            idents = FOOTER[-2:]
        elif self._app.main.apart:
            idents = QUEUE_FOOTER
        next_label = line.next_action if line is not None and line.next_action not in ("", "wait") else ""
        for action in map(BY_ID.__getitem__, idents):
            label = next_label or action.label if action.id == "request.next" else action.label
            if self._meant(action) is not action:
                label = "items"
            if action.id != "request.next" and label == next_label:  # enter does it already
                action = BY_ID[SPARE]  # noqa: PLW2901
                label = action.label
            keys.append((self.of(action), label, not self.why_not(action)))
        return keys

    def help(self) -> None:
        """The keys of the focused part first."""
        pane = self._app.focused
        name, what = PARTS.get(type(pane).__name__, PARTS["RequestList"])
        self._app.lookups.help(name, what, self._keys(pane) if pane is not None else [])

    def _keys(self, pane: Widget) -> list[tuple[str, str]]:
        found: dict[str, list[str]] = {}
        for binding in (binding for _, binding in pane._bindings if binding.id):
            found.setdefault(binding.tooltip or binding.description, []).append(self._app.get_key_display(binding))
        return [(" ".join(keys), what) for what, keys in found.items()]

    def commands(self, screen: Screen[Any]) -> Iterator[Command]:
        """Everything for the palette, as it is at the moment: on a page above the panes only what the page can do."""
        if screen is not self._app.main:
            for node, binding, _, _ in screen.active_bindings.values():
                if binding.description and node is not self._app:
                    yield from self._of_part(node, [binding])
            return
        for action in ACTIONS:
            if action.id != "console.palette":
                verb = action.verb.replace("_", " ")
                title = f"{action.group}: {action.label}" + ("" if verb in action.label else f" ({verb})")
                run = partial(self.do, action.id)
                yield Command(title, action.meaning, self.of(action), run, self.why_not(action))
        pane = self._app.main.log_pane
        yield from self._of_part(pane or self._app.main, KEYS, "" if pane else "This is for a log: 2 goes to one.")
        from widgets.letter import LetterScreen  # not before the first frame

        why = f"This is for a letter: {self.of(BY_ID['request.letter'])} opens the request's."
        yield from self._of_part(screen, LetterScreen.KEYS, why)

    def _of_part(self, node: DOMNode, bindings: Iterable[Binding], why_not: str = "") -> Iterator[Command]:
        """The keys of a pane or page, but for those that only move."""
        for binding in bindings:
            group = (binding.id or "page").partition(".")[0]
            if group != "move" and binding.action.partition("(")[0] not in MOVES:
                key = self._app.get_key_display(binding)
                meaning = binding.tooltip or f"{binding.description.capitalize()}."
                run = partial(self._app.run_action, binding.action, node)
                yield Command(f"{group}: {binding.description}", meaning, key, run, why_not)

    def is_page(self, screen: Screen[Any]) -> bool:
        """Whether a screen is one that shows something, and asks nothing."""
        from aogconsole.logs import LogScreen
        from widgets.pages import Page

        return isinstance(screen, Page | LogScreen)

    async def _pause(self) -> None:
        await self._app.deeds.pause()

    async def _quit(self) -> None:
        from widgets.dialogs import Confirm

        app = self._app
        lines = _left(app.board) if app.engine_here else []
        if lines:
            lines += ["Until another console or `aogconsole serve` runs, no mail is read and no letter is sent."]
            if not await app.push_screen_wait(Confirm("Leave the console?", lines, "leave")):
                return
        app.exit(0)


def _left(board: Board) -> list[str]:
    """What our engine leaves undone when it ends now; what is being checked is done in a moment."""
    runs = sum(slot.active for slot in board.slots)
    checked = sum(line.state in (State.RECEIVED, State.CHECKING) for line in board.lines)
    waiting = max(0, board.open - board.needs - checked - runs)
    told = []
    if runs:
        goes, them = ("1 run goes", "it") if runs == 1 else (f"{runs} runs go", "them")
        told.append(f"{goes} on on the staging host. The next engine takes {them} up again.")
    if waiting:
        waits = "1 request waits" if waiting == 1 else f"{waiting} requests wait"
        told.append(f"{waits} for the engine: for a slot, or for a letter to go.")
    return told


def _of_queue(action: Action) -> bool:
    return action.group == "reingestion" or action.id == "show.reingestion"
