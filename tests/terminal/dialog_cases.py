"""Every dialog and page, with one text in all its places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.screen import Screen

from widgets.areas import AreaDialog
from widgets.dialogs import Ask, Choose, Confirm
from widgets.forms import FieldsForm
from widgets.helps import HelpScreen
from widgets.letter import LetterScreen, LetterView
from widgets.pages import ListPage, PageScreen, Row
from widgets.paste import PasteScreen

VERBS = dict.fromkeys(("send", "approve", "edit", "editor", "discard"), "") | {"resend": "it has not gone yet"}


def letter(text: str = "some text", **given: Any) -> LetterView:
    """A refusal."""
    values = {
        "to": ("helper@eso.org",), "cc": ("dpetry@eso.org",), "subject": "Re: ALMA: REQUEST", "kind": "not_entitled",
        "state": "draft", "helpdesk": "Please wait.", "verbs": VERBS, "body": f"NOT ENTITLED\n\n> {text}",
    }  # fmt: skip
    return LetterView(id=5, version=1, request=4, **{"ticket": "20011", **values, **given})


def _hostile_letter(text: str) -> LetterScreen:
    places = dict.fromkeys(("ticket", "kind", "state", "subject", "body", "why", "attached", "helpdesk"), text)
    return LetterScreen(letter(to=(text,), cc=(text,), verbs={"send": text}, **places))


SCREENS: dict[str, Callable[[str], Screen[Any]]] = {
    "confirm": lambda text: Confirm(text, [text, text], text, text, danger=True),
    "ask": lambda text: Ask(text, [text], text, initial=text, placeholder=text, check=lambda _: text),
    "choose": lambda text: Choose(text, [text], [(text, text), ("b", text)]),
    "form": lambda text: FieldsForm(text, {"mous": (text, text)}, why=True, lines=(text,), check=lambda *_: text),
    "area": lambda text: AreaDialog(text, (text,), text),
    "paste": lambda _: PasteScreen(),
    "page": lambda text: PageScreen(text, text * 30, [text]),
    "list": lambda text: ListPage(
        text, (text, text), [Row(text, (text, text))] * 30, {"t": ("t", "take")}, lines=[text]
    ),
    "help": lambda text: HelpScreen(text, text, [(text, [(text, text)] * 20)]),
    "letter": _hostile_letter,
}
