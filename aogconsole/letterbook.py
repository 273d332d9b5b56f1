"""The letter book: drafting a request's letter into the journal, and fixing the bytes that go out.

A letter's Message-ID and bytes are chosen and committed before the first attempt to send it (design section 7),
so that whatever happens afterwards, the same letter is tried again and never a second one.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

from aogconsole import times
from aogconsole.errors import Conflict, UsageError
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal, encode
from aogconsole.mailroom import parsed_mail
from aogconsole.requests import letters, message
from aogconsole.requests.letters import Draft, LetterRules, Original, RefusalKind
from aogconsole.requests.request import REFUSALS, State

STATE_OF = {"link": State.STAGED, "expert": State.FAILED} | dict.fromkeys(REFUSALS, State.REFUSED)
"""The request's state in which a letter of a kind may go out."""
OUTPUT_BYTES = 20 * 1024 * 1024
"""The most of a run's output that travels to the expert by mail: larger mails are refused nearly everywhere."""


class LetterBook:
    """Drafts letters; used by the desk and the engine inside their transactions."""

    def __init__(self, journal: Journal, actor: Actor, rules: LetterRules, zone: str, command: str) -> None:
        self._journal = journal
        self._actor = actor
        self._rules = rules
        self._zone = zone
        self._command = command

    def draft(self, request: int, kind: str, run: int | None = None) -> int:
        """Draft the letter of a kind for a request; returns its id. The request's state is the caller's business."""
        made = self._make(request, kind, run)
        return self._insert(request, kind, run, made)

    def again(self, letter: int) -> int:
        """Draft a letter anew, as edited, with a new Message-ID to come: the operator chose to send it again."""
        row = self._journal.fetch("letter", letter)
        made = (
            Draft.from_json(json.loads(row["draft"]))
            if row["draft"]
            else self._make(row["request"], row["kind"], row["run"])
        )
        return self._insert(row["request"], row["kind"], row["run"], made, edited=row["edited"])

    def entitled(self, row: Any) -> bool:
        """Whether a letter gives nothing away: what a link leads to is what its request is now entitled to."""
        if row["kind"] != "link":
            return True
        request, run = self._journal.fetch("request", row["request"]), self._journal.fetch("run", row["run"])
        return bool(request["verdict"] == "entitled" and request["mous"] == run["mous"])

    def discard_drafts(self, request: int, why: str) -> None:
        """Drop what is drafted or approved for a request; a letter that is on its way is a Conflict."""
        for row in self._journal.all(
            "select * from letter where request = ? and state in ('draft', 'approved', 'sending')", request
        ):
            if row["state"] == "sending":
                raise Conflict(f"letter {row['id']} of request {request} is being sent", "wait until it has gone")
            self._journal.change(
                "letter", row["id"], self._actor, "discard", origins={"draft", "approved"}, target="discarded", why=why
            )

    async def fixed(self, row: Any) -> tuple[str, tuple[str, ...], bytes]:
        """The letter's Message-ID, recipients and bytes, chosen and committed now unless they were before."""
        draft = Draft.from_json(json.loads(row["draft"]))
        if row["message"] is not None:
            return row["message_id"], (*draft.to, *draft.cc), bytes(row["message"])
        draft = self._current(row, draft)
        head = self._journal.one("select seq, hash from history order by seq desc limit 1")
        message_id = message.new_message_id(f"{row['id']}.{self._journal.id[:16]}", self._rules.address)
        output = self._output(row["run"]) if row["kind"] == "expert" else None
        write = partial(_written, draft, output, message_id, f"{head['seq']} {head['hash']}" if head else "0")
        made = await asyncio.to_thread(write, times.now(), self._rules)
        self._journal.change(
            "letter", row["id"], self._actor, "fix", origins={"approved"}, target=None, seen=row["version"],
            data={"id": message_id}, message_id=message_id, message=made.data, draft=encode(draft.to_json()),
        )  # fmt: skip
        return message_id, made.recipients, made.data

    def days_left(self, run: Any) -> int | None:
        """Days until the staged data of a run are deleted, by our calendar."""
        if run["deleted_on"] is None:
            return None
        today = date.fromisoformat(times.day(times.now(), self._zone))
        return (date.fromisoformat(run["deleted_on"]) - today).days

    def _current(self, row: Any, draft: Draft) -> Draft:
        """A link letter tells the days that are left when it goes, unless a person wrote it anew."""
        if not self.entitled(row):
            raise UsageError("its request is not known to be entitled to what it links to", "recheck it, then stage it")
        if row["kind"] != "link" or row["edited"]:
            return draft
        return self._make(row["request"], "link", row["run"])

    def _insert(self, request: int, kind: str, run: int | None, made: Draft, edited: int = 0) -> int:
        ident = self._journal.new_id("letter")
        kept = replace(made, attachment=None)  # it is in the run's file, and is read when the letter is written
        self._journal.insert("letter", {
            "id": ident, "request": request, "run": run, "kind": kind, "state": "draft",
            "draft": encode(kept.to_json()), "edited": edited, "created_at": times.now_text(),
        })  # fmt: skip
        self._journal.record(
            self._actor, "draft", "letter", ident, target="draft", data={"request": request, "kind": kind}
        )
        return ident

    def _output(self, run: int) -> Path:
        return self._journal.runs / f"{run}.log"

    def _make(self, request: int, kind: str, run: int | None) -> Draft:
        row = self._journal.fetch("request", request)
        original = self._original(row)
        if kind in REFUSALS:
            return letters.refusal(cast("RefusalKind", kind), original, self._rules)
        if run is None:
            raise UsageError(f"request {request} has no run to write about", "stage it first")
        ran = self._journal.fetch("run", run)
        if kind == "expert":
            line = f"{self._command} {ran['project']} {ran['mous']} {ran['ticket']}"
            return letters.expert(original, line, output_of(self._output(run)), self._rules)
        facts = json.loads(row["facts"] or "{}")
        address = (facts.get("account") or {}).get("email") or ""
        return letters.link(original, address, ran["url"], self.days_left(ran) or 0, self._rules)

    def _original(self, request: Any) -> Original:
        mail = parsed_mail(self._journal, request["mail"])
        return Original(
            message_id=mail.message_id, references=mail.references, subject=mail.subject,
            from_address=mail.from_address, to=mail.to, cc=mail.cc, text=mail.text,
            received_at=times.parse(request["received_at"]),
        )  # fmt: skip


def _written(
    draft: Draft, output: Path | None, message_id: str, head: str, at: datetime, rules: LetterRules
) -> message.Letter:
    """The bytes that go out; seconds of work when there is much to attach, so in a thread."""
    attached = None if output is None else letters.attachment(output_of(output))
    return message.finish(replace(draft, attachment=attached), message_id, at, head, rules)


def output_of(file: Path) -> bytes:
    """A run's output for a letter: all of it, or what it ends with when it is enormous."""
    if not file.exists():
        return b""
    with file.open("rb") as stream:
        beyond = max(0, stream.seek(0, 2) - OUTPUT_BYTES)
        stream.seek(beyond)
        left_out = f"[... {beyond} bytes before this are too many for a mail: {file} ...]\n" if beyond else ""
        return left_out.encode() + stream.read()
