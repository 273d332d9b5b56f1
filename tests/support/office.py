"""A journal with its desk, without any server: requests are put into any state, with a history that leads there."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from aogconsole import times
from aogconsole.desk import Desk
from aogconsole.journal import history
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal, encode
from aogconsole.letterbook import LetterBook
from aogconsole.mailroom import MailRoom, Taken
from aogconsole.requests.intake import IntakeRules
from aogconsole.requests.letters import LetterRules
from aogconsole.requests.mail import parse_mail
from aogconsole.requests.request import REFUSALS, State
from tests.support.desk import MOUS, PROJECT, request_mail

ANN, BOB = Actor("ann@aog1", "cli 1"), Actor("bob@aog2", "cli 2")
ENGINE = Actor("aog@aog1", "engine 3")
NOW = datetime(2026, 11, 21, 14, 2, 11, tzinfo=UTC)
RULES = LetterRules("aog@eso.org", "dpetry@eso.org", ("*@eso.org",))
URL = "http://almascience.eso.org/arcdistribution/preview/0123456789abcdef0123456789abcdef"
OTHER_MOUS = "uid___A001_X1_X1"
PI = {"account": {"account_id": "pi1", "email": "ann@example.org"}}
"""What the link letter needs of the facts."""
ENTITLED_IN = {State.ENTITLED, State.QUEUED, State.STAGING, State.STAGED, State.FAILED, State.HELD}


TARGETS = {
    "recheck": State.RECEIVED,
    "stage": State.QUEUED,
    "refuse": State.REFUSED,
    "hold": State.HELD,
    "release": State.ENTITLED,
    "rerun": State.QUEUED,
    "close": State.CLOSED,
    "reopen": State.UNCLEAR,
    "correct": State.RECEIVED,
    "resend": State.REFUSED,
}
"""What the operator's arrows lead to, as they are called here."""


@dataclass
class Office:
    """A journal and its desk; `ann` was here before, `desk` is Bob's."""

    journal: Journal

    def __post_init__(self) -> None:
        self.book = LetterBook(self.journal, ENGINE, RULES, "UTC", "stagecalms.sh")
        self.room = MailRoom(self.journal, ENGINE, IntakeRules(RULES.address, RULES.senders))
        self.ann, self.desk = (Desk(self.journal, who, self._book(who)) for who in (ANN, BOB))
        self._tickets = count(1000)

    @classmethod
    def open(cls, path: Path) -> Office:
        """A new journal's office; it does not wait for the disk."""
        journal = Journal.open(path)
        journal.connection.execute("pragma synchronous = off")
        return cls(journal)

    def _book(self, actor: Actor) -> LetterBook:
        return LetterBook(self.journal, actor, RULES, "UTC", "stagecalms.sh")

    def take(self, raw: bytes) -> Taken:
        """Let a mail come."""
        return self.room.take(f"file:{next(self._tickets)}", NOW, raw, parse_mail(raw))

    def receive(self, **fields: str) -> int:
        """A request from a mail; a ticket of its own unless one is given."""
        taken = self.take(request_mail(**{"ticket": str(next(self._tickets)), **fields}))
        assert taken.request is not None
        return taken.request

    def set(self, request: int, state: State, **values: Any) -> None:
        """Put a request into a state, as Ann."""
        self.journal.change("request", request, ANN, "set", origins=frozenset(State), target=state, **values)

    def request(self, state: State, verdict: str | None = None, **fields: str) -> int:
        """A request in this state, with the verdict, run and letter that belong there."""
        ident = self.receive(**fields)
        usual = "not_entitled" if state == State.REFUSED else "entitled" if state in ENTITLED_IN else None
        checked = times.text(NOW) if usual else None
        self.set(ident, state, verdict=verdict or usual, facts=encode(PI), checked_at=checked, before_hold=None)
        if state == State.STAGING:
            self.run(ident, "running")
        if state == State.STAGED:
            self.book.draft(ident, "link", self.run(ident, "succeeded"))
        if state == State.FAILED:
            self.book.draft(ident, "expert", self.run(ident, "failed"))
        if state == State.REFUSED:
            self.book.draft(ident, verdict if verdict in REFUSALS else "not_entitled")
        if state == State.HELD:
            self.run(ident, "failed")
        return ident

    def run(self, request: int, state: str, deleted_on: str = "2099-01-01") -> int:
        """A run of a request."""
        journal, row = self.journal, self.journal.fetch("request", request)
        with journal.transaction():
            run = journal.new_id("run")
            ended = {"url": URL, "deleted_on": deleted_on} if state == "succeeded" else {}
            journal.insert("run", {
                "id": run, "request": request, "token": f"{run:032x}", "state": state,
                "project": row["project"] or PROJECT, "mous": row["mous"] or MOUS, "ticket": row["ticket"] or "1",
                "created_at": row["received_at"], **ended,
            })  # fmt: skip
            journal.record(ENGINE, "plan", "run", run, target=state, data={"request": request})
        return run

    def letters(self, request: int) -> list[Any]:
        """The letters of a request, oldest first."""
        return self.journal.all("select * from letter where request = ? order by id", request)

    def letter(self, request: int) -> int:
        """The newest letter of a request."""
        return int(self.letters(request)[-1]["id"])

    def finish(self, letter: int, state: str) -> None:
        """Let a letter have ended like this."""
        states = {"draft", "approved", "sending", "discarded"}
        self.journal.change("letter", letter, ANN, state, origins=states, target=state)

    def state(self, request: int) -> State:
        """How a request is."""
        return State(self.journal.fetch("request", request)["state"])

    def everything(self) -> list[tuple[Any, ...]]:
        """All that verbs may change, to be compared."""
        tables = ("request", "run", "letter", "note", "history", "meta")
        return [tuple(row) for table in tables for row in self.journal.all(f"select * from {table}")]  # noqa: S608

    def problems(self) -> list[str]:
        """What is wrong with the history."""
        return history.verify(self.journal.connection)


def act(office: Office, desk: Desk, verb: str, request: int) -> None:
    """Call a verb with arguments that are right in themselves."""
    match verb:
        case "recheck" | "stage" | "release":
            getattr(desk, verb)(request)
        case "refuse":
            desk.refuse(request, "not_delivered", "it is not")
        case "correct":
            desk.correct(request, "typing error", account="del1")
        case "resend":
            desk.resend(office.letter(request), "it was lost")
        case _:
            getattr(desk, verb)(request, "a reason")


def bounce(message_id: str) -> bytes:
    """A standard notice that a letter was not delivered."""
    return (
        "From: MAILER-DAEMON@mx.example\r\nTo: aog@eso.org\r\nSubject: Undelivered Mail Returned to Sender\r\n"
        f"Message-ID: <bounce.{message_id[1:-1]}>\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\n\r\nIt could not be delivered.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n"
        "Final-Recipient: rfc822; helper@eso.org\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n\r\n"
        f"--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {message_id}\r\n\r\n--b--\r\n"
    ).encode()
