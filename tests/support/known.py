"""A journal's intake side in memory: the smallest real implementation of `intake.Known`, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from aogconsole.ids import AccountId, MousUid, Ticket
from aogconsole.requests.intake import (
    Attached,
    Bounced,
    Ignored,
    Intake,
    IntakeRules,
    NewRequest,
    Note,
    OwnLetter,
    SameMail,
    SeenMail,
    Unclear,
    classify,
)
from aogconsole.requests.mail import ParsedMail
from aogconsole.requests.reading import Fields

RULES = IntakeRules("aog@eso.org", ("*@eso.org",))
Key = tuple[MousUid | None, AccountId | None, Ticket | None]


@dataclass
class MemoryKnown:
    """Mails, letters and requests by number, from 1. Nothing closes by itself: tests move keys to `answered`."""

    mails: dict[str, SeenMail] = field(default_factory=dict)
    letters: dict[str, OwnLetter] = field(default_factory=dict)
    requests: list[Fields | None] = field(default_factory=list)
    """By number less one; None for an unclear one."""
    open: dict[Key, int] = field(default_factory=dict)
    answered: dict[Key, int] = field(default_factory=dict)

    def mail_with(self, message_id: str) -> SeenMail | None:
        return self.mails.get(message_id)

    def letter_with(self, message_ids: Sequence[str]) -> OwnLetter | None:
        return next((self.letters[name] for name in message_ids if name in self.letters), None)

    def request_of_mail_with(self, message_ids: Sequence[str]) -> int | None:
        seen = (self.mails[name].request for name in message_ids if name in self.mails)
        return next((request for request in seen if request), None)

    def open_request(self, mous: MousUid, account: AccountId, ticket: Ticket) -> int | None:
        return self.open.get((mous, account, ticket))

    def answered_with_link(self, mous: MousUid, account: AccountId, ticket: Ticket) -> int | None:
        return self.answered.get((mous, account, ticket))

    def mouss_of(self, ticket: Ticket) -> frozenset[MousUid]:
        return frozenset(fields.mous for fields in self.requests if fields and fields.mous and fields.ticket == ticket)

    def take(self, mail: ParsedMail, rules: IntakeRules = RULES) -> Intake:
        """Classify a mail and record what follows from it."""
        result = classify(mail, self, rules)
        request: int | None
        match result:
            case SameMail():
                return result
            case NewRequest(fields):
                self.requests.append(fields)
                request = len(self.requests)
                self.open[fields.mous, fields.account, fields.ticket] = request
            case Unclear():
                self.requests.append(None)
                request = len(self.requests)
            case Attached(request) | Note(request) | Bounced(_, request):
                pass
            case Ignored():
                request = None
            case _:
                assert_never(result)
        self.mails[mail.key] = SeenMail(len(self.mails) + 1, request)
        return result
