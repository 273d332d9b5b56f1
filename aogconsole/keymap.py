"""Other keys for actions: `console.keys` of the configuration, read and judged before anything starts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from aogconsole.actions import ACTIONS, BY_ID, SHOWN
from aogconsole.errors import ConfigError
from aogconsole.text import clean

MOVING: Final = ("up", "down", "left", "right", "home", "end", "pageup", "pagedown")
NAMES: Final = frozenset([
    *SHOWN, *MOVING, "enter", "tab", "escape", "space", "backspace", "delete", "insert",
    *(f"f{number}" for number in range(1, 13)),
])  # fmt: skip
"""Keys that are no letter or digit, by their names."""
BY_SIGN: Final[Mapping[str, str]] = {sign: name for name, sign in SHOWN.items()}
MODIFIERS: Final = ("ctrl", "alt", "shift")
SAME: Final[Mapping[str, str]] = {
    "ctrl+h": "backspace", "ctrl+i": "tab", "ctrl+j": "enter", "ctrl+m": "enter", "ctrl+left_square_bracket": "escape",
}  # fmt: skip
"""What a terminal sends as another key."""
TAKEN: Final[Mapping[str, str]] = {
    **dict.fromkeys(["shift+tab", "escape", *"23456789"], "the panes"),
    **dict.fromkeys(["ctrl+q", "ctrl+c"], "every screen"),
    **dict.fromkeys(["ctrl+d", "ctrl+u", *"f/&!nN][wtzvyWp"], "the log pane"),
    **dict.fromkeys([*MOVING, *"jkgG"], "every pane"),
    **dict.fromkeys(["ctrl+b", "ctrl+f", "ctrl+pageup", "ctrl+pagedown"], "the requests"),
}
"""Keys of the panes themselves, which come before any action's, and whose they are."""


def keymap(entries: Iterable[str]) -> dict[str, str]:
    """Textual's name of the key for each action that has another one. Raises ConfigError, naming the entry."""
    given: dict[str, str] = {}
    for entry in entries:
        ident, sign, key = (part.strip() for part in entry.partition("="))
        if not sign:
            raise _wrong(f"'{clean(entry)}', which gives no key", 'write it as "request.stage=S"')
        if ident not in BY_ID:
            import difflib

            near = difflib.get_close_matches(ident, BY_ID, 1, 0.4)
            hint = f"did you mean {near[0]}?" if near else f"the first is {ACTIONS[0].id}; the documentation has all"
            raise _wrong(f"'{clean(entry)}', but there is no action '{clean(ident)}'", hint)
        if ident in given:
            raise _wrong(f"two entries for {ident}", "leave one of them out")
        given[ident] = _named(ident, key)
    _alone(given)
    return given


def _wrong(what: str, hint: str) -> ConfigError:
    return ConfigError(f"console.keys has {what}", hint)


def _named(ident: str, key: str) -> str:
    """The key's name as Textual has it: of a sign its name, of ^x ctrl+x."""
    if not key:
        raise _wrong(f"no key for {ident}", "every action has one: name another, or leave the entry out")
    modifier, _, base = key.rpartition("+") if len(key) > 1 else ("", "", key)
    if key[0] == "^" and len(key) == 2:
        modifier, base = "ctrl", key[1]
    base = BY_SIGN.get(base, base)
    letter = len(base) == 1 and base.isalnum()
    name = f"{modifier}+{base}" if modifier else base
    if not (letter or base in NAMES) or (modifier and modifier not in MODIFIERS):
        raise _wrong(f"'{clean(key)}' for {ident}, which is no key", "a letter, a sign, or a name: f5, space, ctrl+x")
    if letter and modifier == "shift":
        raise _wrong(f"'{key}' for {ident}", f"write the letter that it types: {base.upper()}")
    if letter and modifier == "ctrl" and base != base.lower():
        name = f"ctrl+{base.lower()}"
    if name in SAME:
        raise _wrong(f"'{clean(key)}' for {ident}", f"a terminal sends {SAME[name]} for it: choose another")
    return name


def _alone(given: Mapping[str, str]) -> None:
    """No key twice, and none that a pane takes for itself; what the actions have by themselves may stay."""
    owners: dict[str, str] = {}
    for action in ACTIONS:
        key = given.get(action.id, action.key)
        shown = SHOWN.get(key, key)
        other = owners.setdefault(key, action.id)
        if other != action.id:
            raise _wrong(f"{shown} for both {other} and {action.id}", "give one of them another key")
        if key != action.key and shown in TAKEN:
            raise _wrong(f"{shown} for {action.id}, but {shown} is a key of {TAKEN[shown]}", "choose another")
