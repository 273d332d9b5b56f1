"""A letter as it will go out, and what an operator may do with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from aogconsole.errors import AogError
from aogconsole.requests.letters import Draft, LetterKind, edited
from aogconsole.text import clean, clean_lines
from widgets.areas import AreaDialog
from widgets.dialogs import Ask, Confirm, CopyRequest
from widgets.entitlement import LETTERS
from widgets.pages import Page
from widgets.textpane import TextPane, text_lines


@dataclass(frozen=True, slots=True)
class LetterView:
    """A letter to be shown."""

    id: int
    version: int
    request: int
    ticket: str
    """Empty when the mail had none."""
    kind: str
    state: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    subject: str
    body: str
    edited: bool = False
    """Whether somebody has changed its text."""
    why: str = ""
    """Why it did not go, or waits."""
    attached: str = ""
    """What is attached, in words: "terminal.log, 2345678 bytes"."""
    helpdesk: str = ""
    """For a refusal: what the helpdesk writes to the user."""
    verbs: Mapping[str, str] = field(default_factory=dict)
    """send, approve, edit, editor, discard, resend -> why it is not possible now, or nothing. What is not in here
    is not offered."""

    @property
    def text(self) -> str:
        """The letter with its headers, as it is edited and copied (the form of `aogconsole edit`)."""
        head = f"To: {', '.join(self.to)}\nCc: {', '.join(self.cc)}\nSubject: {self.subject}"
        return clean_lines(f"{head}\n\n{self.body}\n")


@dataclass(frozen=True, slots=True)
class LetterDecision:
    """What the operator decided about a letter."""

    verb: str
    """A name of `LetterView.verbs`."""
    text: str = ""
    """The edited letter, or the reason for sending it again."""


class LetterScreen(Page[LetterDecision]):
    """The letter, and below it for a refusal the helpdesk's answer to the user."""

    DEFAULT_CSS = """
    LetterScreen > #box { max-width: 120; }
    LetterScreen #helpdesk {
        height: auto; max-height: 30%; border: round $secondary; padding: 0 1;
        border-title-color: $foreground; scrollbar-size-vertical: 1;
    }
    LetterScreen #helpdesk Static { height: auto; }
    LetterScreen.-short #helpdesk { display: none; }
    """
    VERTICAL_BREAKPOINTS = [(0, "-short"), (16, "-tall")]  # noqa: RUF012 - as Textual declares it
    KEYS: ClassVar[tuple[Binding, ...]] = (
        Binding("y", "do('send')", "send", id="letter.send"),
        Binding("a", "do('approve')", "approve", id="letter.approve"),
        Binding("e", "do('edit')", "edit", id="letter.edit"),
        Binding("E", "do('editor')", "edit in $EDITOR", show=False, id="letter.editor"),
        Binding("d", "do('discard')", "discard", id="letter.discard"),
        Binding("r", "do('resend')", "resend", id="letter.resend"),
        Binding("C", "copy_helpdesk", "copy reply", id="letter.copy_helpdesk"),
    )
    BINDINGS: ClassVar[list[BindingType]] = [*KEYS]
    ABOUT = "A letter as it will go out. C copies what the helpdesk writes to the user."
    LONGEST_EDIT = 200_000
    """Characters: a longer letter would take a second to open in the area."""

    def __init__(self, letter: LetterView) -> None:
        self._letter = letter
        about = [f"attached: {letter.attached}"] if letter.attached else []
        about += [f"! {letter.why}"] if letter.why else []
        super().__init__(_title(letter), [clean(line) for line in about])

    def make_pane(self) -> TextPane:
        """The letter, its headers' names set off."""
        lines = text_lines(self._letter.text.rstrip("\n"))
        names = ((0, "To:"), (1, "Cc:"), (2, "Subject:"))
        return TextPane(lines, {line: ((0, len(name), "strong"),) for line, name in names})

    def body(self) -> ComposeResult:
        """The letter and the helpdesk's reply."""
        yield from super().body()
        if self._letter.helpdesk:
            with VerticalScroll(id="helpdesk", can_focus=False) as box:
                box.border_title = Content("for the helpdesk to answer the user")
                yield Static(clean_lines(self._letter.helpdesk), markup=False)

    def offers(self, action: str) -> bool:
        """Only what is possible is worth a place on the lower edge."""
        if action == "copy_helpdesk":
            return bool(self._letter.helpdesk)
        verb = action.removeprefix("do('").removesuffix("')")
        return not action.startswith("do(") or self._letter.verbs.get(verb) == ""

    def action_do(self, verb: str) -> None:
        """Decide, after asking what has to be asked; or say why it is not possible."""
        reason = self._letter.verbs.get(verb, f"a letter that is {self._letter.state} has no use for this key")
        self.tell(reason)
        if reason:
            return
        match verb:
            case "edit":
                self._edit()
            case "discard":
                lines = ["It does not go out. Its request stays; resend makes a new letter of it."]
                question = Confirm(f"Discard letter {self._letter.id}?", lines, "discard it", danger=True)
                self.ask(question, lambda yes: self.answer(LetterDecision(verb)) if yes else None)
            case "resend":
                lines = ["It goes out once more, as a new letter. Whoever has it already gets it twice."]
                why = Ask(f"Send letter {self._letter.id} again", lines, "Why")
                self.ask(why, lambda text: self.answer(LetterDecision(verb, text)) if text else None)
            case _:
                self.answer(LetterDecision(verb))

    def _edit(self) -> None:
        if len(self._letter.body) > self.LONGEST_EDIT:
            self.tell("this letter is too long to be edited here: E opens it in $EDITOR")
            return
        self.ask(LetterEdit(self._letter), lambda text: self.answer(LetterDecision("edit", text)) if text else None)

    def copied(self) -> tuple[str, str]:
        """The letter."""
        return self._letter.text, f"letter {self._letter.id}"

    def action_copy_helpdesk(self) -> None:
        """Have the helpdesk's reply copied."""
        if self._letter.helpdesk:
            self.post_message(CopyRequest(clean_lines(self._letter.helpdesk), "the helpdesk's reply"))
        else:
            self.tell("only a refusal that the helpdesk passes on has a reply for the user")


def _title(letter: LetterView) -> str:
    """Which letter this is, and how it is."""
    state = f"{letter.state}, edited" if letter.edited else letter.state
    ticket = f"#{letter.ticket}, " if letter.ticket else ""
    return f"Letter {letter.id} · {LETTERS.get(letter.kind, letter.kind)} · {state} · {ticket}request {letter.request}"


class LetterEdit(AreaDialog):
    """The letter as text; gives it back when it can be read as one."""

    THROW_AWAY = "Throw the changes away?"

    def __init__(self, letter: LetterView) -> None:
        kind = cast(LetterKind, letter.kind)
        self._draft = Draft(kind, letter.to, letter.cc, letter.subject, letter.body, None, ())
        lines = ("To:, Cc: and Subject: come first, then an empty line, then the text.",)
        super().__init__(f"Edit letter {letter.id} · {LETTERS.get(letter.kind, letter.kind)}", lines, letter.text)

    def wrong(self, text: str) -> str:
        """The line that cannot be read, as `aogconsole edit` says it."""
        try:
            edited(self._draft, text)
        except AogError as error:
            return f"{error}: {error.hint}" if error.hint else str(error)
        return ""
