"""A form of a few lines, each judged while it is typed: to correct a request, or to check something by hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import date
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.css.query import NoMatches
from textual.widgets import Input, Static

from aogconsole.errors import InvalidId
from aogconsole.ids import AccountId, MousUid, ProjectCode, Ticket
from aogconsole.text import clean
from widgets.dialogs import Dialog
from widgets.inputs import CleanInput

WHY = "why"
"""The name of the line for the reason."""
NEEDS_WHY = "say why: it stands in the history"


def _day(text: str) -> None:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise InvalidId(f"'{clean(text[:40])}' is not a day", "a day looks like 2026-11-21") from None


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "mous": MousUid.parse,
    "project": ProjectCode.parse,
    "account": AccountId.parse,
    "ticket": Ticket.parse,
    "day": _day,
}


def wrong(name: str, text: str) -> str:
    """What is wrong with the text of a field, in a sentence; nothing for a good one, an empty one, another field."""
    try:
        if text and name in _PARSERS:
            _PARSERS[name](text)
    except InvalidId as error:
        return error.hint or str(error)
    return ""


class FieldsForm(Dialog[dict[str, str]]):
    """Fields by name; `enter` gives them all, stripped, with the reason as `why` when one is asked for.

    While something is wrong or missing, `enter` leads to it instead.
    """

    DEFAULT_CSS = """
    FieldsForm .row { height: 1; }
    FieldsForm .label { width: 13; height: 1; }
    FieldsForm .wrong { height: auto; display: none; margin: 0 0 0 13; color: $error; text-style: bold; }
    FieldsForm .row Input { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "app.focus_next", "next line", show=False, id="form.next"),
        Binding("up", "app.focus_previous", "line before", show=False, id="form.previous"),
    ]

    def __init__(
        self,
        title: str,
        fields: Mapping[str, tuple[str, str]],
        *,
        why: bool,
        check: Callable[[str, str], str] = wrong,
        required: Collection[str] = (),
        unchanged: str = "",
        lines: tuple[str, ...] = (),
    ) -> None:
        """`fields`: name -> (label, value). `unchanged` is what is said when no value was changed; nothing: may be."""
        super().__init__(title, lines)
        self._before = {name: clean(value) for name, (_, value) in fields.items()}
        self._labels = {name: label for name, (label, _) in fields.items()} | ({WHY: "Why"} if why else {})
        self._required = frozenset(required) | ({WHY} if why else frozenset())
        self._check = check
        self._unchanged = unchanged

    def body(self) -> ComposeResult:
        """A row for each field, with the place for what is wrong with it."""
        for name, label in self._labels.items():
            with Horizontal(classes="row"):
                yield Static(clean(label), classes="label", markup=False)
                yield CleanInput(self._before.get(name, ""), id=f"field-{name}", compact=True, select_on_focus=False)
            yield Static(id=f"wrong-{name}", classes="wrong", markup=False)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say at once what is wrong with a value."""
        name = str(event.input.id).removeprefix("field-")
        self._complain(name, self._check(name, event.value.strip()))
        self.tell("")

    def on_input_submitted(self) -> None:
        """Give the values, or go to the first that is wrong."""
        values = {name: self._input(name).value.strip() for name in self._labels}
        troubles = {name: self._trouble(name, value) for name, value in values.items()}
        bad = [name for name, trouble in troubles.items() if trouble]
        same = {name: values[name] for name in self._before} == self._before
        for name, trouble in troubles.items():
            self._complain(name, trouble)
        if self._unchanged and same:
            self.tell(self._unchanged)
        elif bad:
            self._input(bad[0]).focus()
        else:
            self.answer(values)

    def _trouble(self, name: str, value: str) -> str:
        if value or name not in self._required:
            return self._check(name, value)
        return NEEDS_WHY if name == WHY else "this is needed"

    def _input(self, name: str) -> Input:
        return self.query_one(f"#field-{name}", Input)

    def _complain(self, name: str, sentence: str) -> None:
        try:
            told = self.query_one(f"#wrong-{name}", Static)
        except NoMatches:  # an input's first value comes while the form is still being built
            return
        told.update("! " + clean(sentence))
        told.display = bool(sentence)
        self._input(name).set_class(bool(sentence), "-bad")
