"""The console's questions: a common base, yes or no, one line of text, one of several.

A dialog gets values, and is dismissed with its answer; what is then done is the caller's business. Everything
shown has passed `text.clean` and is never read as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from aogconsole.text import clean, clean_lines
from widgets.inputs import CleanInput

Answer = TypeVar("Answer")
_LAST = (
    "page.copy",
    "page.search",
    "page.next",
    "page.previous",
    "page.wrap",
    "page.help",
    "page.close",
    "dialog.cancel",
)
"""The keys that every page has come behind its own."""


def _rank(key: str, binding: str) -> int:
    if binding.startswith("move."):
        return len(_LAST)
    return -1 if key == "enter" else _LAST.index(binding) if binding in _LAST else -1


class CopyRequest(Message):
    """The operator wants a text in the clipboard: the app knows the way there."""

    def __init__(self, text: str, what: str) -> None:
        super().__init__()
        self.text = text
        """Cleaned."""
        self.what = what
        """In words, for the answer: "letter 7"."""


class Dialog(ModalScreen[Answer | None]):
    """The common look: a box with a title, and the keys on its lower edge. `escape` closes it with None."""

    DEFAULT_CSS = """
    Dialog { align: center middle; overflow: hidden hidden; }
    Dialog > #box {
        width: 76; max-width: 100%; height: auto; max-height: 100%;
        padding: 0 1; border: round $primary; background: $surface; color: $foreground;
        border-title-color: $foreground; border-title-style: bold; border-subtitle-color: $foreground;
        scrollbar-size-vertical: 1;
    }
    Dialog.-danger > #box { border: round $error; border-title-color: $error; }
    Dialog #box > Static { height: auto; }
    Dialog #told { color: $error; text-style: bold; display: none; }
    Dialog #told.-well { color: $foreground; }
    Dialog Button { min-width: 1; padding: 0; margin: 0 2 0 0; }
    Dialog Button { background: $boost; color: $foreground; text-style: none; }
    Dialog Button:focus { background: $primary; color: $text; text-style: bold reverse; background-tint: $primary 0%; }
    Dialog Input { padding: 0 1; background: $boost; background-tint: $foreground 0%; }
    Dialog Input.-bad { color: $error; }
    Dialog #lines { margin: 0 0 1 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "close", id="dialog.cancel")]

    def __init__(self, title: str, lines: Sequence[str] = ()) -> None:
        super().__init__()
        self.heading = title
        self._lines = lines
        self._answered = False

    def compose(self) -> ComposeResult:
        """The box: the lines, what `body` yields, and the place for a complaint."""
        with VerticalScroll(id="box", can_focus=False) as box:
            box.border_title = Content(clean(self.heading))
            if self._lines:
                yield Static(clean_lines("\n".join(self._lines)), id="lines", markup=False)
            yield from self.body()
            yield Static(id="told", markup=False)

    def body(self) -> ComposeResult:
        """What a subclass asks with."""
        yield from ()

    def on_mount(self) -> None:
        """Show the keys, and show them anew when they change."""
        self.bindings_updated_signal.subscribe(self, lambda _: self.show_keys())
        self.show_keys()

    def show_keys(self) -> None:
        """Write the keys on the lower edge."""
        parts = [Content.assemble((key, "bold"), " ", what) for key, what in self.keys()]
        self.query_one("#box").border_subtitle = Content("  ").join(parts)

    def offers(self, action: str) -> bool:
        """Whether the key of an action is worth showing now."""
        return True

    def keys(self, *, every: bool = False) -> list[tuple[str, str]]:
        """The keys that work now, as the operator has them, and what each does; `every`: the usual ones too."""
        found: dict[str, tuple[int, str, str]] = {}
        for active in self.active_bindings.values():
            binding = active.binding
            wanted = (binding.show or binding.id) if every else binding.show and self.offers(binding.action)
            if binding.description and wanted:
                key = self.app.get_key_display(binding)
                known = found.get(binding.description)
                keys = f"{known[1]} {key}" if known else key
                found[binding.description] = (_rank(key, binding.id or ""), keys, binding.description)
        return [(key, what) for _, key, what in sorted(found.values(), key=lambda one: one[0])]

    def tell(self, sentence: str, *, error: bool = True) -> None:
        """Show why something is not possible, or what was done; or take that back with nothing."""
        told = self.query_one("#told", Static)
        told.set_class(not error, "-well")
        told.update(Content(("! " if error else "") + clean(sentence)))
        told.display = bool(sentence)
        if sentence:
            told.scroll_visible(animate=False)

    def answer(self, result: Answer | None) -> None:
        """Close with a result. Only once, and only while on top: a key pressed twice must not act twice."""
        if not self._answered and self.app.screen is self:
            self._answered = True
            self.dismiss(result)

    def ask(self, dialog: ModalScreen[Any], then: Callable[[Any], None]) -> None:
        """Put another question on top; only one at a time."""
        if self.app.screen is self:
            self.app.push_screen(dialog, then)

    def action_cancel(self) -> None:
        """Close without an answer."""
        self.answer(None)


class Confirm(Dialog[bool]):
    """Yes or no, with the focus on no. True for yes; False for no and for `escape`."""

    DEFAULT_CSS = """
    Confirm #choices { height: auto; }
    Confirm.-danger #yes { color: $error; text-style: bold; }
    Confirm.-danger #yes:focus { background: $error; color: $text; text-style: bold reverse; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "yes", "yes", id="confirm.yes"),
        Binding("n", "cancel", "no", id="confirm.no"),
        Binding("left,right", "other", "the other button", show=False, id="confirm.other"),
    ]

    def __init__(self, title: str, lines: Sequence[str], yes: str, no: str = "cancel", *, danger: bool = False) -> None:
        super().__init__(title, lines)
        self._yes = yes
        self._no = no
        self.set_class(danger, "-danger")
        self.heading = f"! {title}" if danger else title

    def body(self) -> ComposeResult:
        """The two buttons."""
        with Horizontal(id="choices"):
            yield Button(Content(f"  {clean(self._no)}  "), id="no", compact=True)
            yield Button(Content(f"  {clean(self._yes)}  "), id="yes", compact=True)

    def on_mount(self) -> None:
        """The safe button has the focus."""
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer."""
        self.answer(event.button.id == "yes")

    def action_yes(self) -> None:
        """Answer yes."""
        self.answer(True)

    def action_cancel(self) -> None:
        """Answer no."""
        self.answer(False)

    def action_other(self) -> None:
        """Move to the other button."""
        self.focus_next()


class Ask(Dialog[str]):
    """One line of text, such as a reason; `enter` gives it, without the blanks around it.

    `check` says in a sentence what is wrong with the text, or nothing.
    """

    def __init__(
        self,
        title: str,
        lines: Sequence[str],
        label: str,
        *,
        required: str = "say why: it stands in the history",
        initial: str = "",
        placeholder: str = "",
        check: Callable[[str], str] = lambda _: "",
        trouble: str = "",
    ) -> None:
        """`required` is what an empty answer is told; nothing: it may be empty. `trouble` came of the `initial` one."""
        super().__init__(title, lines)
        self._label = label
        self._required = required
        self._initial = initial
        self._placeholder = placeholder
        self._check = check
        self._trouble = trouble

    def on_mount(self) -> None:
        """What was given before did not do."""
        if self._trouble:
            self._complain(self._trouble)

    def body(self) -> ComposeResult:
        """The label and the input."""
        yield Static(clean(self._label), markup=False)
        yield CleanInput(
            clean(self._initial), placeholder=clean(self._placeholder), select_on_focus=False, compact=True
        )

    def on_input_changed(self, event: Input.Changed) -> None:
        """What was wrong is being put right."""
        if not self._trouble or event.value != clean(self._initial):
            self._complain("")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the answer, or say what is wrong with it."""
        text = event.value.strip()
        wrong = self._check(text) if text else self._required
        self._complain(wrong)
        if not wrong:
            self.answer(text)

    def _complain(self, wrong: str) -> None:
        self.query_one(Input).set_class(bool(wrong), "-bad")
        self.tell(wrong)


class Choose(Dialog[str]):
    """One of several, by cursor or by its number; gives the option's id."""

    DEFAULT_CSS = """
    Choose OptionList { height: auto; max-height: 12; border: none; padding: 0; background: $surface; }
    Choose OptionList:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(digit), f"pick({digit})", show=False) for digit in range(1, 10)),
        Binding("j", "move(1)", "down", show=False, id="choose.down"),
        Binding("k", "move(-1)", "up", show=False, id="choose.up"),
    ]

    def __init__(self, title: str, lines: Sequence[str], options: Sequence[tuple[str, str]]) -> None:
        """`options` are ids with what is shown; the first nine have a number."""
        super().__init__(title, lines)
        self._options = options

    def body(self) -> ComposeResult:
        """The numbered list."""
        yield OptionList(
            *(
                Option(Content.assemble((f"{number} " if number < 10 else "  ", "bold"), clean(label)))
                for number, (_, label) in enumerate(self._options, 1)
            )
        )

    def keys(self, *, every: bool = False) -> list[tuple[str, str]]:
        """The numbers too."""
        last = min(9, len(self._options))
        numbers = f"1-{last}" if last > 1 else "1"
        return [("enter", "choose"), (numbers, "at once"), *super().keys(every=every)]

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """`enter`, or a click."""
        self.answer(self._options[event.option_index][0])

    def action_pick(self, number: int) -> None:
        """Choose by number."""
        if number <= len(self._options):
            self.answer(self._options[number - 1][0])

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        options = self.query_one(OptionList)
        options.action_cursor_down() if by > 0 else options.action_cursor_up()
