"""The engine's workbench: what every step needs, made once by whoever composes the engine."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

from aogconsole import times
from aogconsole.desk import Desk
from aogconsole.errors import AogError, OutsideError
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal
from aogconsole.letterbook import LetterBook
from aogconsole.mailroom import MailRoom
from aogconsole.requests.request import TRANSITIONS, State
from aogconsole.settings import Settings
from backends.ports import Archive, Inbox, Outbox, StagingHost

LONGEST_WAIT = 900.0
"""Seconds between tries, at the most, at something that does not answer."""


@dataclass
class Bench:
    """The journal, the outside, and the desk as the engine and as the policy."""

    journal: Journal
    settings: Settings
    actor: Actor
    desk: Desk
    book: LetterBook
    room: MailRoom
    inbox: Inbox | None
    archive: Archive | None
    host: StagingHost | None
    outbox: Outbox | None
    quicken: float = 1.0
    """Divides every wait between tries; tests turn it up."""

    @property
    def file_mode(self) -> int:
        """Mode of files beside the journal."""
        return 0o660 if self.settings.journal.group else 0o600

    @property
    def paused(self) -> bool:
        """Whether an operator lets the engine take no new step."""
        return bool(self.journal.meta("paused"))

    @property
    def waiting(self) -> tuple[str, str]:
        """Between these times a next try is still to come; one beyond was set by a clock that has jumped since."""
        now = times.now()
        return times.text(now + timedelta(seconds=1)), times.text(now + timedelta(seconds=2 * LONGEST_WAIT))

    def seen(self, name: str, ok: bool, detail: str) -> None:
        """Tell everybody how a connection is; written when it changes."""
        row = self.journal.one("select ok, detail from connection where name = ?", name)
        if row is None or bool(row["ok"]) != ok or row["detail"] != detail:
            with self.journal.transaction():
                self.journal.connection.execute(
                    "insert into connection values (?, ?, ?, ?) on conflict do update set"
                    " since = iif(ok = excluded.ok, since, excluded.since), ok = excluded.ok, detail = excluded.detail",
                    (name, int(ok), detail, times.now_text()),
                )

    def broken(self, name: str) -> str:
        """Why a connection is broken; empty when it is not known to be."""
        row = self.journal.one("select detail from connection where name = ? and not ok", name)
        return str(row["detail"]) if row else ""

    def recovered(self, name: str, detail: str) -> None:
        """Take back that a connection is broken, unless something else was found broken meanwhile."""
        if self.journal.one("select 1 from connection where name = ? and detail = ?", name, detail):
            self.seen(name, True, "")

    def write(self, request: int, kind: str, run: int | None = None) -> None:
        """Draft a request's letter, and approve it where the policy says so; inside a transaction.

        A letter that cannot be written (an address of the archive's that is none) needs a person.
        """
        try:
            letter = self.book.draft(request, kind, run)
        except OutsideError:
            raise  # the journal's trouble, not the letter's
        except AogError as error:
            why = f"its letter cannot be written: {error}"
            arrow = TRANSITIONS["letter_trouble"]
            self.journal.change(
                "request", request, self.actor, arrow.verb, origins=arrow.origins, target=State.UNCLEAR, why=why
            )
        else:
            if self.settings.policy.send == "auto":
                self.desk.approve(letter)

    def wait(self, tries: int, base: float = 5.0, most: float = LONGEST_WAIT) -> float:
        """Seconds until the next try: doubled each time, with jitter, at most `most`."""
        wait: float = min(base * 2.0 ** min(tries, 16), most)
        return wait * random.uniform(0.8, 1.2) / self.quicken  # noqa: S311

    def next_try(self, tries: int, base: float = 5.0) -> str:
        """The same as a time for the journal."""
        return times.text(times.now() + timedelta(seconds=self.wait(tries, base)))
