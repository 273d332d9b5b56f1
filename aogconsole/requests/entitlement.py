"""Entitlement: the verdict on the archive's facts, and its words. Pure.

The decision is ours: the draft query of the seed is evidence only, because it finds no PI without delegees, no
public data, and cannot tell an unknown MOUS (domain section 1). Rules and precedence: design section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal, assert_never

from aogconsole.requests.facts import DELIVERED, Facts, Person
from aogconsole.text import clean

__all__ = ["Facts", "Verdict", "VerdictName", "decide", "explain"]

VerdictName = Literal["entitled", "not_entitled", "invalid_user", "invalid_mous", "not_delivered"]

HALTED: Final = date(3000, 1, 1)
"""The operators' "release halted" (domain section 2)."""


@dataclass(frozen=True)
class Verdict:
    """The decision on one request. `verdict` None: a person decides, and `why` says what is in doubt.

    `why` is a stable word. Of `entitled`: `pi`, `delegee` or `public`. Of `not_delivered`: the real state.
    Of `not_entitled`, `invalid_user`, `invalid_mous`: `proprietary`, `unknown_account`, `unknown_mous`.
    Of None: `project_mismatch`, `several_projects`, `project_unconfirmed`, `account_case`, `account_inactive`,
    `account_no_email`, `pi_mismatch`, `state_missing`.
    """

    verdict: VerdictName | None
    why: str


def decide(facts: Facts) -> Verdict:
    """The verdict on the facts, in the precedence of design section 3."""
    if not facts.mous_exists:
        return Verdict("invalid_mous", "unknown_mous")
    doubt = _project_doubt(facts) or _account_doubt(facts)
    if doubt:
        return Verdict(None, doubt)
    if facts.account is None:
        return Verdict("invalid_user", "unknown_account")
    if facts.project and not facts.public and not facts.pi_agrees:
        return Verdict(None, "pi_mismatch")
    if facts.ground is None:
        # without a project nobody can say that the account is not its PI
        return Verdict("not_entitled", "proprietary") if facts.project else Verdict(None, "project_unconfirmed")
    if facts.state is None:
        return Verdict(None, "state_missing")
    if facts.state != DELIVERED:
        return Verdict("not_delivered", facts.state)
    if not facts.projects:
        return Verdict(None, "project_unconfirmed")
    return Verdict("entitled", facts.ground)


def _project_doubt(facts: Facts) -> str | None:
    if facts.projects and facts.asked_project and facts.asked_project not in facts.projects:
        return "project_mismatch"
    return "several_projects" if len(facts.projects) > 1 else None


def _account_doubt(facts: Facts) -> str | None:
    if facts.account is None:
        return "account_case" if facts.accounts else None
    if not facts.account.active:
        return "account_inactive"
    return None if facts.account.email else "account_no_email"


_Sentence = Callable[[Facts], str]

_WHY: Final[Mapping[str, _Sentence]] = {
    "pi": lambda facts: f"{facts.asked_account} is the PI of {facts.project}.",
    "delegee": lambda facts: f"{facts.asked_account} is a data delegee of the PI of {facts.project}.",
    "public": lambda facts: f"The data are public since {facts.public_from}.",
    "unknown_mous": lambda _: "The archive knows no such member OUS.",
    "unknown_account": lambda facts: f"The archive knows no account {facts.asked_account}.",
    "proprietary": lambda facts: (
        f"{facts.asked_account} is neither PI nor data delegee of {facts.project}, and the data are {_until(facts)}."
    ),
    "project_mismatch": lambda facts: (
        f"The request names {facts.asked_project}, but the MOUS belongs to {' and '.join(facts.projects)}."
    ),
    "several_projects": lambda facts: f"The archive links the MOUS to several projects: {', '.join(facts.projects)}.",
    "project_unconfirmed": lambda facts: (
        f"The archive links no project to the MOUS, so {facts.asked_project} is the request's word only."
        if facts.asked_project
        else "The archive links no project to the MOUS, and the request names none."
    ),
    "account_case": lambda facts: f"There is no account {facts.asked_account}, but there is {facts.account_hint}.",
    "account_inactive": lambda facts: f"The account {facts.asked_account} is not active.",
    "account_no_email": lambda facts: f"The account {facts.asked_account} has no e-mail address in the archive.",
    "pi_mismatch": lambda facts: (
        f"The archive disagrees with itself on the PI of {facts.project}: "
        f"the project says {', '.join(_names(p for code, p in facts.pis if code == facts.project)) or 'nobody'}, "
        f"the delivery {', '.join(_names(facts.delivery_pis)) or 'nobody'}."
    ),
    "state_missing": lambda _: "The archive has no state of the MOUS, so it is not known whether it is delivered.",
}


def explain(verdict: Verdict, facts: Facts) -> str:
    """One sentence for the operator, clean for a terminal."""
    match verdict.verdict:
        case "not_delivered":
            sentence = f"The MOUS is in state {verdict.why}, not in {DELIVERED}."
        case "entitled" | "not_entitled" | "invalid_user" | "invalid_mous" | None:
            sentence = _WHY[verdict.why](facts)
        case _:
            assert_never(verdict.verdict)
    return clean(sentence)


def _until(facts: Facts) -> str:
    match facts.public_from:
        case None if facts.release_dates:
            return "proprietary without a release date"
        case None:
            return "in no delivery with a release date"
        case day if day >= HALTED:
            return "proprietary, their release is halted"
        case day:
            return f"proprietary until {day}"


def _names(people: Iterable[Person]) -> list[str]:
    return [person.account_id or f"request handler {person.request_handler_id}" for person in people]
