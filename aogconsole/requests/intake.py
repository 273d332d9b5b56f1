"""From a mail to what becomes of it: a request, a note, a bounce, a question for a person, or nothing. Pure.

Rules: design section 3 (duplicates; mail that is not a request), reliability F6 and F17; the request mail's
words: the seed. Nothing is guessed: whatever is request-shaped and not certain is `Unclear`, for a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aogconsole.ids import AccountId, MousUid, ProjectCode, Ticket
from aogconsole.requests.addresses import matches
from aogconsole.requests.bounces import Bounce
from aogconsole.requests.mail import ParsedMail
from aogconsole.requests.quoting import is_reply
from aogconsole.requests.reading import Fields, Reading
from aogconsole.text import clean

__all__ = [
    "Attached",
    "Bounced",
    "Fields",
    "Ignored",
    "Intake",
    "IntakeRules",
    "Known",
    "NewRequest",
    "Note",
    "OwnLetter",
    "SameMail",
    "SeenMail",
    "Unclear",
    "classify",
]
MOST_MOUSS = 10
"""MOUSs per ticket (seed: "up to 10")."""


@dataclass(frozen=True)
class IntakeRules:
    """The site's rules: section `[mail]` of the configuration."""

    address: str
    """Our own address."""
    senders: tuple[str, ...]
    """Patterns (`*@eso.org`) of those who may request."""
    authserv: str | None = None
    """The server whose DMARC result is believed; without it From is taken as it is."""


@dataclass(frozen=True)
class SeenMail:
    """A mail that the journal has, and the request it belongs to."""

    mail: int
    request: int | None


@dataclass(frozen=True)
class OwnLetter:
    """A letter of ours, and its request."""

    letter: int
    request: int


class Known(Protocol):
    """What the journal knows. All look-ups are exact and must answer for what is committed."""

    def mail_with(self, message_id: str) -> SeenMail | None:
        """A mail read before, by `ParsedMail.key`."""
        ...

    def letter_with(self, message_ids: Sequence[str]) -> OwnLetter | None:
        """The letter of ours that has one of these Message-IDs; the first in this order."""
        ...

    def request_of_mail_with(self, message_ids: Sequence[str]) -> int | None:
        """The request made from, or joined by, a mail with one of these Message-IDs; the first in this order."""
        ...

    def open_request(self, mous: MousUid, account: AccountId, ticket: Ticket) -> int | None:
        """A request that is not closed and whose fields are settled, not merely proposed by an unclear mail."""
        ...

    def answered_with_link(self, mous: MousUid, account: AccountId, ticket: Ticket) -> int | None:
        """A closed request whose link letter went out."""
        ...

    def mouss_of(self, ticket: Ticket) -> frozenset[MousUid]:
        """The MOUSs of this ticket's requests whose fields are settled."""
        ...


@dataclass(frozen=True)
class NewRequest:
    """A request, certain in every field: all four are there."""

    fields: Fields


@dataclass(frozen=True)
class Unclear:
    """Perhaps a request: a person decides."""

    fields: Fields
    why: str


@dataclass(frozen=True)
class Attached:
    """The same request again, while it is open."""

    request: int
    why: str


@dataclass(frozen=True)
class SameMail:
    """The same mail again."""

    mail: int
    request: int | None


@dataclass(frozen=True)
class Note:
    """It belongs to a request and is to be shown there; `letter` is the letter of ours it speaks of."""

    request: int
    letter: int | None
    why: str


@dataclass(frozen=True)
class Bounced:
    """A letter of ours did not arrive."""

    letter: int
    request: int
    why: str


@dataclass(frozen=True)
class Ignored:
    """No request: it stays in the mailbox and is listed."""

    why: str


Intake = NewRequest | Unclear | Attached | SameMail | Note | Bounced | Ignored


def classify(mail: ParsedMail, known: Known, rules: IntakeRules) -> Intake:
    """Decide what becomes of a mail. Every `why` is clean, one line."""
    if mail.message_id and known.letter_with((mail.message_id,)):
        return Ignored("our own letter")
    if seen := known.mail_with(mail.key):
        return SameMail(seen.mail, seen.request)
    if mail.bounce:
        return _bounced(mail.bounce, mail.answers, known)
    reading = Reading(mail)
    what = "an automatic reply" if mail.auto_submitted == "auto-replied" else "a reply"
    if letter := known.letter_with(mail.answers):
        more = "; it holds request text of its own" if reading.in_own_text else ""
        return Note(letter.request, letter.letter, f"{what} to our letter{more}")
    encloses = mail.forwarded is not None or mail.attached_messages > 0
    if encloses and (reading.in_subject or reading.in_own_text or reading.in_enclosed):
        return Unclear(reading.fields, "it forwards a mail: what is asked, and by whom, is for a person to say")
    if not reading.in_own_text and (request := known.request_of_mail_with(mail.answers)):
        return Note(request, None, f"{what} to the request's mail")
    if mail.problems:
        return Unclear(reading.fields, "the mail could not be read in full: " + clean("; ".join(mail.problems)))
    return _settled(mail, reading, known, rules, what)


def _settled(mail: ParsedMail, reading: Reading, known: Known, rules: IntakeRules, what: str) -> Intake:
    """A mail that belongs to nothing we know."""
    replies = is_reply(mail.subject) or mail.auto_submitted == "auto-replied"
    if replies and (reading.in_own_text or (reading.in_subject and reading.uids)):
        return Unclear(reading.fields, f"{what} that holds request text")
    if replies and (reading.in_subject or mail.auto_submitted):
        return Ignored("automatic reply" if mail.auto_submitted else "a reply without request text")
    if not (reading.in_own_text or reading.in_subject):
        return Ignored("no request")
    doubts = [*_sender_doubts(mail, rules), *reading.doubts()]
    match reading.fields:
        case Fields(MousUid() as mous, ProjectCode(), AccountId() as account, Ticket() as ticket) if not doubts:
            return _again(reading.fields, (mous, account, ticket), known)
        case fields:
            return Unclear(fields, "; ".join(doubts))


def _again(fields: Fields, key: tuple[MousUid, AccountId, Ticket], known: Known) -> Intake:
    mous, _, ticket = key
    if request := known.open_request(*key):
        return Attached(request, "the same MOUS, user and ticket again")
    if request := known.answered_with_link(*key):
        return Unclear(fields, f"asked again: request {request} was answered with a link")
    if len(known.mouss_of(ticket) | {mous}) > MOST_MOUSS:
        return Unclear(fields, f"more than {MOST_MOUSS} MOUSs on ticket {ticket}")
    return NewRequest(fields)


def _bounced(bounce: Bounce, answers: Sequence[str], known: Known) -> Intake:
    letter = known.letter_with(tuple(filter(None, (bounce.message_id, *answers))))
    if not letter:
        return Ignored("a bounce of no letter of ours")
    words = clean(": ".join(filter(None, (", ".join(bounce.recipients), bounce.diagnostic))))
    if bounce.action != "failed":
        return Note(letter.request, letter.letter, f"a delivery notice ({clean(bounce.action)}) {words}".rstrip())
    return Bounced(letter.letter, letter.request, f"not delivered to {words or 'a recipient it does not name'}")


def _sender_doubts(mail: ParsedMail, rules: IntakeRules) -> list[str]:
    if mail.from_count != 1:
        return [f"it has {mail.from_count} From addresses"]
    if not mail.from_address:
        return ["its From address cannot be read with certainty"]
    address = mail.from_address.lower()
    if address == rules.address.lower():
        return ["it was sent from our own address"]
    doubts = []
    if not matches(address, rules.senders):
        doubts.append(f"from an unlisted sender: {mail.from_address}")
    if rules.authserv:
        server = rules.authserv.lower()
        result = next((found for found in mail.authentication if found.server == server), None)
        if not result:
            doubts.append(f"{clean(rules.authserv)} says nothing of who sent it")
        elif result.dmarc != "pass" or result.domain != address.partition("@")[2]:
            doubts.append(f"the sender is not proved: DMARC {clean(result.dmarc or 'missing')} for {result.domain}")
    return doubts
