"""Everything a key of the console does, once: footer, help, command palette, key map and docs are made from it.

What a key does at once to a request (without asking) is no key of the log pane, so that none hits the wrong one.
Pure.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from string import punctuation
from typing import Final, Literal

from aogconsole.board import Line
from aogconsole.requests.request import OPEN, TRANSITIONS, State
from aogconsole.values import Value, value

Group = Literal["request", "run", "reingestion", "show", "console"]


@value(frozen=True)
class Action(Value):
    """One thing the operator can do."""

    id: str
    """`group.verb`; `console.keys` in the configuration names it. The verb is the command line's where there is one."""
    key: str
    label: str
    """A word or two, for the footer."""
    meaning: str
    """One sentence, for help and palette."""
    acts: bool = False
    """Changes something: not with --read-only."""

    @property
    def group(self) -> str:
        """What it belongs to."""
        return self.id.partition(".")[0]

    @property
    def verb(self) -> str:
        """What it does there."""
        return self.id.partition(".")[2]


ACTIONS: Final = (
    Action("request.next", "enter", "next", "Do the selected request's next action.", acts=True),
    Action("request.stage", "s", "stage", "Put the entitled request into the queue for a slot.", acts=True),
    Action("request.refuse", "x", "refuse", "Look at the refusal letter and send it, or choose one.", acts=True),
    Action("request.letter", "m", "letter", "Read, edit, send or discard the request's letter."),
    Action("request.recheck", "a", "ask again", "Have the archive asked again.", acts=True),
    Action("request.correct", "e", "correct", "Put other values into the request, and have it checked.", acts=True),
    Action("request.hold", "h", "hold", "Put the request aside.", acts=True),
    Action("request.release", "u", "release", "Take up again what was put aside.", acts=True),
    Action("request.rerun", "r", "rerun", "Stage the entitled request once more, as a new run.", acts=True),
    Action("request.close", "d", "close", "Close the request; letters that have not gone are dropped.", acts=True),
    Action("request.reopen", "o", "reopen", "Open a closed request: a person decides what is next.", acts=True),
    Action("request.note", "t", "note", "Leave a note on the request.", acts=True),
    Action("request.claim", "c", "mine", "Say that the request is yours, or no longer.", acts=True),
    Action("request.sooner", "K", "sooner", "Move the queued request one place forward.", acts=True),
    Action("request.later", "J", "later", "Move the queued request one place back.", acts=True),
    Action("request.history", "y", "history", "Show who did what when to the request."),
    Action("request.mail", "v", "mail", "Show the request's mail as it was read."),
    Action("request.log", "l", "log", "Show the terminal output of the request's newest run."),
    Action(
        "run.stop", "T", "stop", "End the run of the log pane, or of the selected request; it is then held.", acts=True
    ),
    Action("reingestion.requeue", "U", "requeue", "Have an item of the re-ingestion sent again.", acts=True),
    Action(
        "reingestion.defer",
        "F",
        "defer",
        "Put an item of the re-ingestion aside, for a time or until requeued.",
        acts=True,
    ),
    Action("reingestion.drop", "X", "drop", "Have an item of the re-ingestion never sent.", acts=True),
    Action("reingestion.run", "I", "run loader", "Have the re-ingestion's loader look for news now.", acts=True),
    Action(
        "reingestion.pause",
        "O",
        "pause",
        "Let the re-ingestion's loader and runners take nothing new, or go on; what runs goes on.",
        acts=True,
    ),
    Action(
        "show.filter", "slash", "filter", "Show the requests with a text, closed ones too; an empty one shows all open."
    ),
    Action("show.needy", "n", "next one", "Go to the next request that needs a person."),
    Action("show.requests", "1", "requests", "Go to the requests."),
    Action("show.next_pane", "tab", "pane", "Go to the next pane."),
    Action("show.zoom", "z", "zoom", "Give the pane the whole screen, or take it back."),
    Action("show.letters", "L", "letters", "List letters; enter opens one."),
    Action("show.runs", "R", "runs", "List runs; enter opens a run's log."),
    Action("show.staged", "D", "staged", "List staged data with the days left; K keeps them, or no longer."),
    Action("show.mails", "M", "mails", "List every mail and what became of it, those that are no requests too."),
    Action("show.reingestion", "Q", "queue", "List the re-ingestion's items; enter tells what became of one."),
    Action("show.handover", "H", "handover", "Sum the shift up: what needs a person, what goes on, what was done."),
    Action("show.connections", "E", "connections", "Tell how each connection is, and try everything once more."),
    Action("show.commands", "C", "commands", "Show what this console did, and what everybody did."),
    Action("console.check", "A", "archive", "Ask the archive about a MOUS and an account, without a request."),
    Action("console.paste", "i", "paste", "Take a mail in that is pasted as text.", acts=True),
    Action("console.pause", "P", "pause", "Let the engine take no new step, or go on; runs go on.", acts=True),
    Action("console.help", "question_mark", "help", "Tell the keys of the focused part."),
    Action("console.palette", "ctrl+p", "all", "Find anything by its name."),
    Action("console.theme", "ctrl+t", "theme", "Choose the colours."),
    Action("console.suspend", "ctrl+z", "suspend", "Go back to the shell; `fg` returns. The engine is given up."),
    Action("console.quit", "q", "quit", "Leave the console; runs on the staging host go on."),
)
"""In the order in which help and docs tell them."""
BY_ID: Final[Mapping[str, Action]] = {action.id: action for action in ACTIONS}
_RENAMED: Final = {
    "solidus": "slash", "reverse_solidus": "backslash", "commercial_at": "at", "hyphen_minus": "minus",
    "plus_sign": "plus", "low_line": "underscore",
}  # fmt: skip
_SIGNS: Final = {sign: unicodedata.name(sign).lower().replace("-", "_").replace(" ", "_") for sign in punctuation}
SHOWN: Final[Mapping[str, str]] = {_RENAMED.get(name, name): sign for sign, name in _SIGNS.items()}
"""Signs by Textual's names of their keys."""
FOOTER: Final = (
    "request.next", "request.stage", "request.refuse", "request.letter",
    "show.filter", "show.next_pane", "console.help", "console.palette",
)  # fmt: skip
"""The eight in the last line; in a log pane the pane's own stand there."""
SPARE: Final = "request.hold"
"""Stands there in the place of what enter does already."""
QUEUE_FOOTER: Final = (
    "request.next", "reingestion.requeue", "reingestion.run", "reingestion.pause", "show.next_pane", "show.zoom",
    "console.help", "console.palette",
)  # fmt: skip
"""While the re-ingestion panel has the focus."""
LOG_FOOTER: Final = ("log.follow", "log.search", "log.filter", "log.milestone_next", "log.wrap", "log.zoom")
"""Of a log pane's keys, those before help and palette."""

NEXT: Final[Mapping[str, str]] = {
    "stage": "request.stage", "refuse": "request.refuse", "send": "request.letter", "release": "request.release",
    "rerun": "request.rerun", "recheck": "request.recheck",
}  # fmt: skip
"""Which action the next action of a request is; `decide` is asked."""
DECISIONS: Final = (
    "request.letter",
    "request.refuse",
    "request.recheck",
    "request.correct",
    "request.rerun",
    "request.hold",
    "request.close",
)
"""What a person may decide on an unclear request."""


def shown(key: str) -> str:
    """A key as it is written on the screen."""
    return SHOWN.get(key, key).replace("ctrl+", "^")


def origins(action: Action) -> frozenset[State]:
    """The states of a request that an action is possible in."""
    match action.id:
        case "request.note" | "request.history" | "request.mail" | "request.log" | "request.letter":
            return frozenset(State)
        case "request.claim" | "request.next":
            return OPEN
        case "request.sooner" | "request.later":
            return frozenset({State.QUEUED})
        case "run.stop":
            return frozenset({State.STAGING, State.QUEUED})
        case _:
            return TRANSITIONS[action.verb].origins


def why_not(action: Action, line: Line | None, *, read_only: bool = False) -> str:
    """Why an action is not possible now, in a sentence; empty when it is."""
    if action.acts and read_only:
        return "This console is read-only: nothing can be changed."
    if action.group not in ("request", "run"):
        return ""
    if line is None:
        return "No request is selected."
    allowed = origins(action)
    if line.state not in allowed:
        states = ", ".join(state for state in State if state in allowed)
        return f"{action.label} is for a request that is {states}; request {line.id} is {line.state}."
    return _further(action, line)


def _further(action: Action, line: Line) -> str:
    match action.verb:
        case "next" if line.next_action in ("", "wait"):
            return f"Request {line.id} needs nothing from you: {doing(line)}."
        case "refuse" if line.letter_state in ("approved", "sending"):
            return f"The letter of request {line.id} is on its way."
        case "rerun" if not line.entitled:
            return f"Request {line.id} is not known to be entitled: nobody can stage what is not."
        case "recheck" if not line.complete:
            return f"Request {line.id} lacks something that the archive must be asked with: correct it."
        case "letter" if line.letter is None:
            return f"Request {line.id} has no letter."
        case "log" | "stop" if line.run is None:
            return f"Request {line.id} has not been staged: there is no run."
        case "release" if line.next_action != "release":
            return f"Request {line.id} was not put aside: its run failed or was stopped; rerun stages it again."
        case _:
            return ""


def doing(line: Line) -> str:
    """What a request that needs nobody waits for."""
    if line.letter_state in ("approved", "sending"):
        return "its letter is on its way"
    match line.state:
        case State.RECEIVED | State.CHECKING:
            return "the archive is being asked"
        case State.QUEUED:
            return f"it is number {line.position} in the queue for a slot"
        case State.STAGING:
            return f"it is being staged in slot {line.slot}" if line.slot else "it is being staged"
        case State.CLOSED:
            return "it is closed"
        case _:
            return "the engine goes on with it"
