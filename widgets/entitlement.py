"""The entitlement panel: the verdict on the selected request in words, and what it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from aogconsole.board import Detail, LetterLine
from widgets.steady import Steady

VERDICTS = {
    "entitled": "ENTITLED", "not_entitled": "NOT ENTITLED", "invalid_user": "INVALID USER ID",
    "invalid_mous": "INVALID MOUS UID", "not_delivered": "MOUS NOT DELIVERED", "unknown": "COULD NOT BE CHECKED",
}  # fmt: skip
GROUNDS = {
    "pi": "as the PI of the project",
    "delegee": "as data delegee of the PI",
    "public": "because the data are public",
}
REASONS = {
    "proprietary": "neither PI nor data delegee, and the data are proprietary",
    "unknown_account": "the archive knows no such account",
    "unknown_mous": "the archive knows no such member OUS",
}  # fmt: skip
LETTERS = {
    "not_entitled": "refusal NOT ENTITLED", "invalid_user": "refusal INVALID USER ID",
    "invalid_mous": "refusal INVALID MOUS UID", "not_delivered": "refusal MOUS NOT DELIVERED",
    "link": "link to the user", "expert": "output to the expert",
}  # fmt: skip
LABEL = 10


class Entitlement(Steady, VerticalScroll, can_focus=True):
    """The evidence scrolls; what comes next stands below it and does not."""

    DEFAULT_CSS = """
    Entitlement {
        border: round $border-blurred;
        border-title-color: $text;
        scrollbar-size-vertical: 1; scrollbar-gutter: stable;
        &:focus { border: round $border; }
        & > Static { width: 1fr; height: auto; padding: 0 1; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll_up", "up", id="panel.up", show=False),
        Binding("j", "scroll_down", "down", id="panel.down", show=False),
        Binding("g", "scroll_home", "top", id="panel.first", show=False),
        Binding("G", "scroll_end", "end", id="panel.last", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._shown: Detail | None = None
        self._height = (0, 0)
        self._text = Static(markup=False)

    def compose(self) -> ComposeResult:
        """One text."""
        yield self._text

    def show(self, detail: Detail | None, hint: str) -> None:
        """Show a request; `hint` says what to press when none is selected."""
        text = self._text
        if detail is None:
            self.border_title = "Entitlement"
            self.border_subtitle = ""
            text.update(hint)
            self._shown, self._height = None, (0, 0)
            return
        line = detail.line
        if detail != self._shown:
            project = detail.fields["project"] or "no project"
            self.border_title = Content(f"#{line.ticket or '-'} · {project} · {line.mous}")
            fresh = self._shown is None or self._shown.line.id != line.id
            self._shown = detail
            self._lay_out()
            if fresh and self.scroll_y:
                self.scroll_home(animate=False)

    def on_resize(self) -> None:
        """Wrap anew."""
        self._lay_out()

    def _lay_out(self) -> None:
        width = self.scrollable_content_region.width - 2
        if self._shown is not None and width > 0:
            lines = (line for row in evidence(self._shown) for line in hanging(row, width))
            text = Content("\n").join(list(lines))
            before, self._height = self._height, (width, text.plain.count("\n"))
            self._text.update(text, layout=self._height != before)

    def next(self, text: str) -> None:
        """What comes next, on the panel's lower edge."""
        if text != self.border_subtitle:  # the whole panel is painted each time
            self.border_subtitle = Content(text)


def hanging(row: Content, width: int) -> Iterator[Content]:
    """The lines of a row: what does not fit goes on below its text, not below its label."""
    room = width - LABEL
    if room < LABEL:
        yield row
        return
    first, *others = (line for text in row[LABEL:].split("\n", allow_blank=True) for line in text.wrap(room))
    yield row[:LABEL] + first
    yield from (line.pad_left(LABEL) for line in others)


def evidence(detail: Detail) -> Iterator[Content]:
    """The panel's lines."""
    fields, facts = detail.fields, detail.fields["facts"] or {}
    yield from _verdict(fields)
    if detail.line.why:
        yield _row("why", detail.line.why, "$text-warning")
    yield _row("state", _state(detail))
    for note in reversed(fields["notes"]):
        yield _row("note", f"{note['text']} -- {note['who']}, {_short(note['at'])}", "$text-accent")
    if facts:
        yield from _people(facts)
        yield _row("public", _public(facts))
        yield _row("delivery", _delivery(facts))
        yield _row("checked", _how(fields, facts), "$foreground-muted")
    yield _row("asked for", f"user {fields['account'] or '-'}, project {fields['project'] or '-'}")
    yield _row("mail", f"{detail.sender}, {_short(fields['received_at'])}")
    for letter in detail.letters:
        yield _row("letter", _letter(letter))
    if fields["url"]:
        yield _row("link", fields["url"])


def _verdict(fields: Mapping[str, Any]) -> Iterator[Content]:
    verdict, why = fields["verdict"], fields["verdict_why"] or ""
    if verdict == "entitled":
        yield Content.assemble(("ENTITLED", "bold $text-success"), "  ", GROUNDS.get(why, why))
    elif verdict is not None:
        reason = f"it is in state {why}" if verdict == "not_delivered" else REASONS.get(why, why)
        yield Content.assemble((VERDICTS.get(verdict, verdict), "bold $text-error"), "  ", reason)
    elif fields["state"] in ("received", "checking"):
        yield Content.styled("The archive is being asked ...", "$foreground-muted")
    else:
        yield Content.styled("No verdict: a person decides.", "bold $text-warning")


def _state(detail: Detail) -> str:
    line, claimed = detail.line, detail.line.claimed_by
    where = f" in slot {line.slot}" if line.slot else f", number {line.position}" if line.position else ""
    return f"{line.state}{where}" + (f", claimed by {claimed}" if claimed else "") + f" (request {line.id})"


def _people(facts: Mapping[str, Any]) -> Iterator[Content]:
    account = facts.get("account")
    hint = facts.get("account_hint")
    unknown = "unknown to the archive" + (f"; there is {hint}" if hint else "")
    yield _row("user", _person(account) if account else unknown, "" if account else "$text-error")
    pi = facts.get("pi")
    yield _row("PI", _person(pi) if pi else "unknown")
    delegees = facts.get("delegees") or []
    yield _row("delegees", str(len(delegees)) + "".join(f"\n{_person(one)}" for one in delegees))


def _person(person: Mapping[str, Any]) -> str:
    name = " ".join(str(part) for part in (person.get("firstname"), person.get("lastname")) if part)
    parts = (person.get("account_id"), name, person.get("preferredarc"), person.get("email"))
    return "  ".join(str(part) for part in parts if part) + ("" if person.get("active", True) else "  NOT ACTIVE")


def _public(facts: Mapping[str, Any]) -> str:
    if facts.get("public"):
        return f"yes, since {facts.get('public_from')}"
    start = facts.get("public_from")
    if start is None:
        return "no, no release date"
    return "no, the release is halted" if str(start) >= "3000" else f"no, from {start}"


def _delivery(facts: Mapping[str, Any]) -> str:
    state = facts.get("state") or "unknown"
    return state if state == "Delivered" else f"{state}, not Delivered"


def _how(fields: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    took = f", {fields['check_ms']} ms" if fields["check_ms"] is not None else ""
    by = {"archive": "by the archive", "execution_blocks": "by its execution blocks", "asked": "by the request only"}
    source = by.get(facts.get("project_source") or "", "by nobody")
    day = facts.get("day")
    return f"{_short(fields['checked_at'])}{took}, for the day {day}; project {source}; query {fields['query_version']}"


def _letter(letter: LetterLine) -> str:
    when = f" {_short(letter.sent_at)}" if letter.sent_at else ""
    why = f": {letter.why}" if letter.why else ""
    return f"{LETTERS.get(letter.kind, letter.kind)}, {letter.state}{when}{why} (letter {letter.id})"


def _row(label: str, text: str, style: str = "") -> Content:
    return Content.assemble((f"{label:{LABEL}}", "$foreground-muted"), (text, style) if style else text)


def _short(written: str | None) -> str:
    """`2026-11-21T14:02:11Z` as `2026-11-21 14:02`."""
    if not written:
        return "never"
    try:
        return datetime.fromisoformat(written).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return written
