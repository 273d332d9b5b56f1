"""The mail room: every mail read gets its row, and becomes a request, a note, a bounce or nothing.

Classification and what follows from it are one transaction, so a mail is taken once however often it is read,
by however many processes (reliability F6).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, assert_never

from aogconsole import times
from aogconsole.journal.history import Actor
from aogconsole.journal.known import JournalKnown
from aogconsole.journal.store import Journal, encode
from aogconsole.requests import intake
from aogconsole.requests.intake import Fields, IntakeRules
from aogconsole.requests.mail import ParsedMail
from aogconsole.requests.request import OPEN, TRANSITIONS, State

GONE = frozenset({"sent", "partly_refused", "ambiguous", "sending", "bounced"})
"""States of a letter that can come back."""
NOTE_CHARACTERS = 20_000
"""What a note keeps of a mail's text; the whole stays in the mailbox."""


@dataclass(frozen=True)
class Taken:
    """What became of a mail. `state` is the request's, or `ignored` for no request."""

    mail: int
    request: int | None
    result: str
    state: str
    duplicate_of: int | None
    why: str


class MailRoom:
    """Takes mails into the journal by the rules of design section 3."""

    def __init__(self, journal: Journal, actor: Actor, rules: IntakeRules) -> None:
        self._journal = journal
        self._actor = actor
        self._rules = rules

    def take(self, source: str, received_at: datetime, raw: bytes, parsed: ParsedMail) -> Taken:
        """Take one mail; a mail whose source was taken before is told as it was taken then."""
        with self._journal.transaction():
            known = self._journal.one("select id from mail where source = ?", source)
            if known is not None:
                return self.told(known["id"])
            digest = hashlib.sha256(raw).hexdigest()
            moved = self._moved(source, parsed.key, digest)
            if moved is not None:
                return self.told(moved)
            verdict = intake.classify(parsed, JournalKnown(self._journal), self._rules)
            mail = self._journal.new_id("mail")
            self._journal.insert("mail", {
                "id": mail, "source": source, "message_id": parsed.key, "sha256": digest,
                "received_at": times.text(received_at), "from_address": parsed.from_address, "subject": parsed.subject,
                "result": "ignored", "why": "", "parsed": encode(parsed.to_json()),
            })  # fmt: skip
            result, why, request, duplicate_of = self._follow(mail, received_at, parsed, verdict)
            self._journal.connection.execute(
                "update mail set result = ?, why = ?, request = ? where id = ?", (result, why, request, mail)
            )
            self._journal.record(self._actor, "mail", "mail", mail, target=result, why=why, data={"request": request})
            state = self._state(request) if request is not None and result != "duplicate" else "ignored"
            if result == "duplicate" and isinstance(verdict, intake.Attached):
                state = self._state(verdict.request)
            return Taken(mail, request, result, state, duplicate_of, why)

    def told(self, mail: int) -> Taken:
        """What became of a mail that was taken before."""
        row = self._journal.fetch("mail", mail)
        request = row["request"]
        return Taken(mail, request, row["result"], self._state(request) if request else "ignored", mail, row["why"])

    def _state(self, request: int) -> str:
        return str(self._journal.fetch("request", request)["state"])

    def _moved(self, source: str, key: str, digest: str) -> int | None:
        """The same mail under a new IMAP key, after a change of UIDVALIDITY: its row gets the new key."""
        if not source.startswith("imap:"):
            return None
        era = source.rsplit(":", 1)[0] + ":%"
        row = self._journal.one(
            "select id from mail where message_id = ? and sha256 = ? and source like 'imap:%' and source not like ?",
            key, digest, era,
        )  # fmt: skip
        if row is None:
            return None
        self._journal.connection.execute("update mail set source = ? where id = ?", (source, row["id"]))
        return int(row["id"])

    def _follow(
        self, mail: int, received_at: datetime, parsed: ParsedMail, verdict: intake.Intake
    ) -> tuple[str, str, int | None, int | None]:
        match verdict:
            case intake.NewRequest(fields):
                return "request", "", self._request(mail, received_at, fields, State.RECEIVED, ""), None
            case intake.Unclear(fields, why):
                return "request", why, self._request(mail, received_at, fields, State.UNCLEAR, why), None
            case intake.Attached(request, why):
                self._journal.change(
                    "request",
                    request,
                    self._actor,
                    "duplicate",
                    origins=OPEN,
                    target=None,
                    data={"mail": mail},
                )
                return "duplicate", why, request, request
            case intake.SameMail(first, request):
                return "duplicate", f"the same Message-ID as mail {first}", request, request or first
            case intake.Note(request, _, why):
                self._note(request, mail, parsed)
                return "note", why, request, None
            case intake.Bounced(letter, request, why):
                self._bounced(letter, request, why)
                return "bounce", why, request, None
            case intake.Ignored(why):
                return "ignored", why, None, None
            case _:
                assert_never(verdict)

    def _request(self, mail: int, received_at: datetime, fields: Fields, state: State, why: str) -> int:
        ident = self._journal.new_id("request")
        given = {name: str(value) if value else None for name, value in fields_of(fields).items()}
        self._journal.insert("request", {
            "id": ident, "state": state, "why": why, "mail": mail, "received_at": times.text(received_at),
            "position": float(ident), **given,
        })  # fmt: skip
        self._journal.record(self._actor, "receive", "request", ident, target=state, why=why, data=given)
        return ident

    def _note(self, request: int, mail: int, parsed: ParsedMail) -> None:
        text = parsed.text[:NOTE_CHARACTERS]
        self._journal.insert("note", {
            "request": request, "at": times.now_text(), "who": parsed.from_address, "text": text, "mail": mail,
        })  # fmt: skip
        self._journal.change(
            "request", request, self._actor, "reply", origins=frozenset(State), target=None, data={"mail": mail}
        )

    def _bounced(self, letter: int, request: int, why: str) -> None:
        if self._journal.fetch("letter", letter)["state"] in GONE:  # any other may not have gone: the mail claims it
            self._journal.change("letter", letter, self._actor, "bounced", origins=GONE, target="bounced", why=why)
        row = self._journal.fetch("request", request)
        sentence = f"letter {letter} came back: {why}"
        arrow = TRANSITIONS["bounced"]
        if row["state"] in arrow.origins:
            self._journal.change(
                "request", request, self._actor, "bounced", origins=arrow.origins, target=State.UNCLEAR, why=sentence
            )
        else:
            self._journal.change(
                "request", request, self._actor, "note_bounce", origins=frozenset(State), target=None, why=sentence
            )


def fields_of(fields: Fields) -> Mapping[str, Any]:
    """A request's four fields by column."""
    return {"mous": fields.mous, "project": fields.project, "account": fields.account, "ticket": fields.ticket}


def parsed_mail(journal: Journal, mail: int) -> ParsedMail:
    """The mail of a request, as it was parsed."""
    return ParsedMail.from_json(json.loads(journal.fetch("mail", mail)["parsed"]))


def file_source() -> str:
    """A key for a mail from a file or standard input: each reading is one of its own."""
    return f"file:{secrets.token_hex(12)}"


def before(since: str, received_at: datetime) -> bool:
    """Whether a mail is older than `mail.since` and left alone."""
    return bool(since) and received_at < datetime.combine(date.fromisoformat(since), datetime.min.time(), UTC)
