"""A request's states, and the one table of what may become what.

Design section 3. The journal refuses every change that is not in `TRANSITIONS`; the state diagram in the docs
is generated from it; `next_action` says what is to be done, and every request that is not closed has one.
"""

from __future__ import annotations

from enum import StrEnum

from aogconsole.values import Value, value


class State(StrEnum):
    """Where a request is on its way from the mail to the letter."""

    RECEIVED = "received"
    """Read from a mail, not yet checked."""
    CHECKING = "checking"
    """The archive is being asked."""
    REFUSED = "refused"
    """The verdict is no; its letter has not gone yet."""
    ENTITLED = "entitled"
    """The user may have the data, and they are delivered."""
    QUEUED = "queued"
    """Waits for a slot."""
    STAGING = "staging"
    """stagecalms was told to run, and is not known to have ended."""
    STAGED = "staged"
    """The data can be downloaded; the link letter has not gone yet."""
    FAILED = "failed"
    """stagecalms failed; the letter to the expert has not gone yet."""
    HELD = "held"
    """The expert has it, or a person put it aside."""
    CLOSED = "closed"
    """Nothing is left to do."""
    UNCLEAR = "unclear"
    """A person decides, and is told why."""


OPEN = frozenset(State) - {State.CLOSED}
AT_REST = frozenset(
    {State.RECEIVED, State.UNCLEAR, State.ENTITLED, State.QUEUED, State.REFUSED, State.STAGED, State.FAILED, State.HELD}
)
"""Open, and nothing is being done to it at this moment."""


@value(frozen=True)
class Transition(Value):
    """One arrow of the state diagram: who may take it (`operator` verbs, or the engine) and what it means."""

    verb: str
    origins: frozenset[State]
    target: frozenset[State]
    operator: bool
    meaning: str


def _arrow(
    verb: str,
    origins: set[State] | frozenset[State],
    target: State | set[State],
    meaning: str,
    *,
    operator: bool = False,
) -> Transition:
    return Transition(
        verb, frozenset(origins), frozenset(target if isinstance(target, set) else {target}), operator, meaning
    )


S = State
TRANSITIONS: dict[str, Transition] = {
    arrow.verb: arrow
    for arrow in (
        _arrow(
            "check",
            {S.RECEIVED, S.UNCLEAR},
            S.CHECKING,
            "the archive is asked; a check that could not be made is tried again",
        ),
        _arrow("entitled", {S.CHECKING}, S.ENTITLED, "the verdict is yes"),
        _arrow(
            "no",
            {S.CHECKING, S.QUEUED},
            S.REFUSED,
            "the verdict is no, or has become so on the day of staging: its letter is drafted",
        ),
        _arrow(
            "doubt", {S.CHECKING, S.QUEUED}, S.UNCLEAR, "the archive could not be asked, or its answer needs a person"
        ),
        _arrow("interrupted", {S.CHECKING}, S.RECEIVED, "a check was cut short by a stop of the engine"),
        _arrow("start", {S.QUEUED}, S.STAGING, "a slot is free: stagecalms is told to run"),
        _arrow("busy", {S.STAGING}, S.QUEUED, "no slot was free after all, and nothing was started"),
        _arrow("succeeded", {S.STAGING}, S.STAGED, "the run completed: the link letter is drafted"),
        _arrow("failed", {S.STAGING}, S.FAILED, "the run failed: the letter to the expert is drafted"),
        _arrow("muddled", {S.STAGING}, S.UNCLEAR, "the run ended without a clear outcome, or was lost"),
        _arrow("stopped", {S.STAGING}, S.HELD, "the run was stopped by a person"),
        _arrow("answered", {S.REFUSED, S.STAGED}, S.CLOSED, "the letter went out"),
        _arrow("handed_over", {S.FAILED}, S.HELD, "the expert's letter went out"),
        _arrow(
            "letter_trouble",
            {S.REFUSED, S.STAGED, S.FAILED},
            S.UNCLEAR,
            "the letter was refused, or may or may not have gone",
        ),
        _arrow("bounced", frozenset(S) - {S.UNCLEAR, S.STAGING}, S.UNCLEAR, "a letter came back"),
        _arrow("recheck", AT_REST - {S.STAGED, S.FAILED, S.RECEIVED}, S.RECEIVED, "check it again", operator=True),
        _arrow("stage", {S.ENTITLED}, S.QUEUED, "stage it when a slot is free", operator=True),
        _arrow(
            "refuse",
            {S.REFUSED, S.UNCLEAR},
            S.REFUSED,
            "send the refusal; from unclear a person picks the verdict",
            operator=True,
        ),
        _arrow("hold", (AT_REST | {S.CHECKING}) - {S.HELD}, S.HELD, "put it aside", operator=True),
        _arrow("release", {S.HELD}, set(AT_REST - {S.HELD}), "take it up again where it was put aside", operator=True),
        _arrow("rerun", {S.HELD, S.UNCLEAR, S.FAILED, S.STAGED}, S.QUEUED, "stage it once more", operator=True),
        _arrow("close", AT_REST, S.CLOSED, "nothing more is done", operator=True),
        _arrow("reopen", {S.CLOSED}, S.UNCLEAR, "a person decides what is next", operator=True),
        _arrow(
            "correct",
            AT_REST - {S.STAGED, S.FAILED},
            {S.RECEIVED, S.UNCLEAR},
            "put other values in, and check",
            operator=True,
        ),
        _arrow(
            "resend",
            {S.UNCLEAR, S.CLOSED, S.HELD, S.REFUSED, S.STAGED, S.FAILED},
            {S.REFUSED, S.STAGED, S.FAILED},
            "send its letter once more",
            operator=True,
        ),
    )
}
"""Every change of state there is, by verb."""

REFUSALS = ("not_entitled", "invalid_user", "invalid_mous", "not_delivered")
"""The verdicts that are answered with a letter of the same name."""


def next_action(state: State, verdict: str | None, *, put_aside: bool) -> str | None:
    """The verb that comes next, `wait` while the engine is at it, None when closed.

    `put_aside`: a held one is held by a person, not because its run failed or was stopped.
    """
    match state:
        case State.CLOSED:
            return None
        case State.ENTITLED:
            return "stage"
        case State.REFUSED:
            return "refuse"
        case State.STAGED | State.FAILED:
            return "send"
        case State.HELD:
            return "release" if put_aside else "rerun"
        case State.UNCLEAR:
            return "decide" if verdict != "unknown" else "recheck"
        case State.RECEIVED | State.CHECKING | State.QUEUED | State.STAGING:
            return "wait"


def diagram() -> str:
    """The state diagram as Mermaid, drawn from the table; operators' verbs are in capitals."""
    lines = [
        "stateDiagram-v2",
        "    [*] --> received: a request mail",
        "    [*] --> unclear: a mail that needs a person",
    ]
    for arrow in TRANSITIONS.values():
        name = arrow.verb.upper() if arrow.operator else arrow.verb
        lines += [
            f"    {origin} --> {target}: {name}" for origin in sorted(arrow.origins) for target in sorted(arrow.target)
        ]
    return "\n".join([*lines, "    closed --> [*]"]) + "\n"
