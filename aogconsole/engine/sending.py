"""Sending letters: what is approved and due goes out, and every outcome is told apart (design section 7).

The Message-ID and the bytes are committed before the first attempt; `sending` is committed right before the step
after which the letter may have been accepted. A letter found `sending` at start may have gone: with a Maildir it
is looked up, with SMTP it is `ambiguous` and a person decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from aogconsole import times
from aogconsole.engine.bench import Bench
from aogconsole.errors import AogError, ConfigError, Conflict, OutsideError
from aogconsole.letterbook import STATE_OF
from aogconsole.requests.request import State
from aogconsole.text import clean
from backends.ports import Ambiguous, Deferred, Outbox, OutgoingMail, PartlyRefused, Refused, SendOutcome, Sent

log = logging.getLogger("aogconsole")
DUE = """
    select letter.id, kind, request.state as request_state from letter join request on request.id = letter.request
    where letter.state in ('draft', 'approved', 'sending') and letter.state = 'approved'
    and (letter.next_try is null or letter.next_try not between ? and ?) order by letter.id limit 100
"""
LAST_WORDS = 5.0
"""Seconds that a letter on its way may still take when the engine is stopped."""
HALF_SENT = "select * from letter where state in ('draft', 'approved', 'sending') and state = 'sending'"


class Sending:
    """The letters' step."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._outcomes: dict[int, SendOutcome] = {}
        """What became of letters, until the journal has it."""

    def recover(self) -> None:
        """Letters that a stop, or a journal that could not be written, left half sent."""
        bench = self._bench
        for row in bench.journal.all(HALF_SENT):
            if outcome := self._outcomes.get(row["id"]):
                self._concluded(row, outcome)
                del self._outcomes[row["id"]]
            elif bench.outbox is not None and bench.outbox.certain:
                bench.journal.change(
                    "letter", row["id"], bench.actor, "interrupted", origins={"sending"}, target="approved"
                )
            else:
                self._concluded(row, Ambiguous("the engine was stopped while the letter was being sent"))

    async def step(self) -> None:
        """Send what is approved and due."""
        bench = self._bench
        if bench.outbox is None or bench.paused:
            return
        self.recover()
        for due in bench.journal.all(DUE, *bench.waiting):
            if due["request_state"] == STATE_OF[due["kind"]]:
                await self._guarded(due["id"], bench.outbox)

    async def _guarded(self, letter: int, outbox: Outbox) -> None:
        """Send one letter; one that cannot be sent needs a person, and stops no other."""
        row = self._bench.journal.fetch("letter", letter)
        try:
            await self._send(row, outbox)
        except Conflict:
            return  # edited, discarded or held meanwhile: theirs counts
        except (OutsideError, ConfigError):
            raise
        except AogError as error:
            self._concluded(row, Refused(f"it cannot be written: {error}"))
        except Exception as error:
            log.exception("sending letter %s went wrong", letter)
            half = self._bench.journal.fetch("letter", letter)["state"] == "sending"
            self._concluded(row, Ambiguous(repr(error)) if half else Refused(f"it could not be sent: {error!r}"))

    async def _send(self, row: Any, outbox: Outbox) -> None:
        bench, letter = self._bench, row["id"]
        message_id, recipients, data = await bench.book.fixed(row)
        self._outcomes.pop(letter, None)

        def committing() -> None:
            with bench.journal.transaction():
                state = bench.journal.fetch("request", row["request"])["state"]
                if state != STATE_OF[row["kind"]]:
                    raise Conflict(f"request {row['request']} is {state} now", "its letter waits")
                bench.journal.change("letter", letter, bench.actor, "sending", origins={"approved"}, target="sending")

        mail = OutgoingMail(message_id, bench.settings.mail.address, recipients, data)
        sending = asyncio.ensure_future(outbox.send(mail, committing))
        try:
            outcome = await asyncio.shield(sending)
        except asyncio.CancelledError:
            with contextlib.suppress(AogError):
                await self._last_words(row, sending)
            raise
        self._outcomes[letter] = outcome
        self._concluded(row, outcome)
        del self._outcomes[letter]
        if isinstance(outcome, Deferred):
            await self._look(outbox)

    async def _last_words(self, row: Any, sending: asyncio.Task[SendOutcome]) -> None:
        """We are being stopped: a letter on its way gets a moment, for what the server answers leaves no doubt."""
        if self._bench.journal.fetch("letter", row["id"])["state"] == "sending":
            await asyncio.wait({sending}, timeout=LAST_WORDS)
        if sending.done() and not sending.cancelled() and not sending.exception():
            self._concluded(row, sending.result())
        sending.cancel()

    async def _look(self, outbox: Outbox) -> None:
        """Whether it is the way out that fails, or one recipient's server that wants to be asked again."""
        try:
            await outbox.ping()
        except AogError as error:
            self._bench.seen("outgoing", False, str(error))
        else:
            self._bench.seen("outgoing", True, "")

    def _concluded(self, row: Any, outcome: SendOutcome) -> None:
        """Record what became of a letter, and what it means for its request."""
        bench, letter, request = self._bench, row["id"], row["request"]
        state, why = _told(outcome)
        with bench.journal.transaction():
            if isinstance(outcome, Deferred):
                tries = bench.journal.fetch("letter", letter)["tries"]
                bench.journal.change(
                    "letter", letter, bench.actor, "deferred", origins={"approved", "sending"}, target="approved",
                    why=why, tries=tries + 1, next_try=bench.next_try(tries, 30.0),
                )  # fmt: skip
                return
            sent_at = times.now_text() if isinstance(outcome, Sent | PartlyRefused) else None
            bench.journal.change(
                "letter", letter, bench.actor, state, origins={"approved", "sending"}, target=state,
                why=why, sent_at=sent_at,
            )  # fmt: skip
            bench.seen("outgoing", True, "")
            waits = {STATE_OF[row["kind"]]}
            if bench.journal.fetch("request", request)["state"] not in waits:
                return  # a person, or a mail, took it elsewhere meanwhile
            if isinstance(outcome, Sent):
                if row["kind"] == "expert":
                    verb, target, sentence = "handed_over", State.HELD, "staging failed, and the expert was told"
                else:
                    verb, target, sentence = "answered", State.CLOSED, ""
                bench.journal.change("request", request, bench.actor, verb, origins=waits, target=target, why=sentence)
            else:
                sentence = f"letter {letter} to {', '.join(_to(row))}: {why}"
                bench.journal.change(
                    "request", request, bench.actor, "letter_trouble", origins=waits, target=State.UNCLEAR, why=sentence
                )


def _told(outcome: SendOutcome) -> tuple[str, str]:
    """An outcome as the letter's state and reason."""
    match outcome:
        case Sent(detail):
            return "sent", clean(detail)
        case PartlyRefused(refused):
            return "partly_refused", clean(
                "; ".join(f"{address} was refused: {words}" for address, words in refused.items())
            )
        case Deferred(why):
            return "approved", clean(f"not accepted for now: {why}")
        case Refused(why):
            return "refused", clean(why)
        case Ambiguous(why):
            return "ambiguous", clean(f"it may or may not have gone: {why}")


def _to(row: Any) -> list[str]:
    import json

    return list(json.loads(row["draft"])["to"])
