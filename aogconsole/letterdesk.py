"""Letters at the screen: shown as they will go out, edited, sent, discarded, sent again."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aogconsole.errors import AogError, OutsideError
from aogconsole.jobcontrol import program, run_in_place
from aogconsole.journal.store import Journal
from aogconsole.requests.letters import Draft, helpdesk_reply
from aogconsole.text import decode
from widgets.letter import LetterDecision, LetterScreen, LetterView

if TYPE_CHECKING:
    from aogconsole.app import Console

READ_ONLY = "this console is read-only: nothing can be changed"


class Letters:
    """The letters' verbs."""

    def __init__(self, app: Console) -> None:
        self._app = app

    async def open(self, letter: int) -> None:
        """Show a letter until it is closed or decided on; after an edit it is shown again."""
        app = self._app
        try:
            while True:
                shown = await app.lookups.read(lambda journal: view(journal, letter, read_only=app.read_only))
                decision = await app.push_screen_wait(LetterScreen(shown))
                if decision is None or not await self._decided(shown, decision):
                    return
        except AogError as error:
            app.say(f"{error}. {error.hint}", error=True)

    async def _decided(self, letter: LetterView, decision: LetterDecision) -> bool:
        """Do it; whether the letter is to be shown again."""
        ident, seen, deeds = letter.id, letter.version, self._app.deeds
        match decision.verb:
            case "send":
                said = f"Letter {ident} goes out."
                await deeds.verb(f"send {ident}", lambda _, desk: desk.send(ident, seen=seen), said)
            case "approve":
                said = f"Letter {ident} is approved."
                await deeds.verb(f"approve {ident}", lambda _, desk: desk.approve(ident, seen=seen), said)
            case "discard":
                said = f"Letter {ident} is discarded."
                await deeds.verb(f"discard {ident}", lambda _, desk: desk.discard(ident, seen=seen), said)
            case "resend":
                said = f"Letter {ident} goes out once more, as a new letter."
                command = f"resend {ident} --why '{decision.text}'"
                await deeds.verb(command, lambda _, desk: desk.resend(ident, decision.text), said)
            case "edit":
                return await self._edited(letter, decision.text)
            case "editor":
                return await self._edited(letter, self._in_editor(letter.text))
        return False

    async def _edited(self, letter: LetterView, text: str) -> bool:
        """Put the new text in; an unchanged one is no edit."""
        ident, seen = letter.id, letter.version
        if text != letter.text:
            said = f"Letter {ident} is edited, and a draft."
            trouble = await self._app.deeds.verb(
                f"edit {ident}", lambda _, desk: desk.edit(ident, text, seen=seen), said, stay=True
            )
            if trouble:
                await self._app.lookups.page("What was edited, and could not be put in", text.split("\n"), [trouble])
        return True

    def _in_editor(self, text: str) -> str:
        """The text out of $VISUAL or $EDITOR. Raises UsageError, OutsideError."""
        editor = program("VISUAL", "EDITOR", usual="vi")
        try:
            descriptor, name = tempfile.mkstemp(prefix="aogconsole.", suffix=".letter")
            with contextlib.ExitStack() as ends:
                ends.callback(Path(name).unlink, missing_ok=True)
                with open(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                status = run_in_place(self._app, [*editor, name])
                if status:
                    raise OutsideError(f"{editor[0]} ended with {status}", "the letter is as it was")
                return decode(Path(name).read_bytes())
        except OSError as error:
            raise OutsideError(
                f"the letter cannot be edited: {error.strerror or error}", "is there room for it?"
            ) from error


def view(journal: Journal, letter: int, *, read_only: bool) -> LetterView:
    """A letter for the screen. Raises UsageError."""
    row = journal.fetch("letter", letter)
    draft = Draft.from_json(json.loads(row["draft"]))
    kind, state = row["kind"], row["state"]
    return LetterView(
        id=letter,
        version=row["version"],
        request=row["request"],
        ticket=journal.fetch("request", row["request"])["ticket"] or "",
        kind=kind,
        state=state,
        to=draft.to,
        cc=draft.cc,
        subject=draft.subject,
        body=draft.body,
        edited=bool(row["edited"]),
        why=row["why"] or "",
        attached=_attached(journal, row["run"]) if kind == "expert" else "",
        helpdesk=helpdesk_reply() if kind == "not_entitled" else "",
        verbs=_verbs(state, tried=row["message"] is not None, read_only=read_only),
    )


def _attached(journal: Journal, run: int | None) -> str:
    from aogconsole.requests.letters import BODY_LIMIT

    file = journal.runs / f"{run}.log"
    size = file.stat().st_size if file.exists() else 0
    return f"terminal.log, {size} bytes" if size > BODY_LIMIT else ""


def _verbs(state: str, *, tried: bool, read_only: bool) -> dict[str, str]:
    """What may be done with a letter in a state; for the rest why it may not (aogconsole.desk)."""
    if read_only:
        return dict.fromkeys(("send", "approve", "edit", "editor", "discard", "resend"), READ_ONLY)
    open_ = "" if state in ("draft", "approved") else f"a letter that is {state} is not sent: r sends it again"
    edit = open_ or ("it was tried already: what may have gone is not edited" if tried else "")
    over = "" if state not in ("draft", "approved", "sending") else "it has not gone yet"
    return {
        "send": open_, "approve": open_ if state != "approved" else "it is approved already", "edit": edit,
        "editor": edit, "discard": open_, "resend": over,
    }  # fmt: skip
