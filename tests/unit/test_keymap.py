"""Other keys for actions: what an entry may say, and that no key is lost to another."""

from __future__ import annotations

import pytest
from textual.keys import _character_to_key
from textual.widget import Widget

from aogconsole.actions import ACTIONS, BY_ID, SHOWN
from aogconsole.app import Console
from aogconsole.errors import ConfigError
from aogconsole.keymap import TAKEN, keymap
from aogconsole.mainscreen import MainScreen
from widgets.entitlement import Entitlement
from widgets.logpane import LogPane
from widgets.reingestion import Reingestion
from widgets.requests import RequestList

PANES: list[type[Widget | Console]] = [MainScreen, RequestList, Entitlement, LogPane, Reingestion, Console]


@pytest.mark.parametrize(
    ("entry", "key"),
    [("request.stage=S", "S"), (" request.stage = f5 ", "f5"), ("request.stage=$", "dollar_sign"),
     ("request.stage=ctrl+x", "ctrl+x"), ("request.stage=^x", "ctrl+x"), ("request.stage=ctrl+X", "ctrl+x"),
     ("request.stage=+", "plus"), ("request.stage=^", "circumflex_accent"), ("request.stage==", "equals_sign"),
     ("request.stage=ö", "ö"), ("request.stage=alt+s", "alt+s"), ("request.stage=s", "s")],
)  # fmt: skip
def test_an_entry_gives_an_action_another_key(entry: str, key: str) -> None:
    """By the letter, the sign, or the name of the key, as the screen writes it or as Textual does."""
    assert keymap([entry]) == {"request.stage": key}


@pytest.mark.parametrize(
    ("entries", "told", "hint"),
    [(["request.stge=S"], "no action 'request.stge'", "did you mean request.stage?"),
     (["x=S"], "no action 'x'", "the documentation has all"),
     (["request.stage"], "'request.stage', which gives no key", 'write it as "request.stage=S"'),
     (["request.stage= "], "no key for request.stage", "name another"),
     (["request.stage=SS"], "'SS' for request.stage, which is no key", "a letter, a sign, or a name"),
     (["request.stage=hyper+s"], "'hyper+s' for request.stage, which is no key", "a letter"),
     (["request.stage=shift+s"], "'shift+s' for request.stage", "write the letter that it types: S"),
     (["request.stage=ctrl+m"], "'ctrl+m' for request.stage", "a terminal sends enter for it"),
     (["request.stage=x"], "x for both request.stage and request.refuse", "give one of them another key"),
     (["request.stage=Q", "request.refuse=Q"], "Q for both request.stage and request.refuse", "another key"),
     (["request.stage=Q", "request.stage=Y"], "two entries for request.stage", "leave one of them out"),
     (["request.stage=f"], "but f is a key of the log pane", "choose another"),
     (["request.stage=2"], "but 2 is a key of the panes", "choose another"),
     (["request.stage=escape"], "but escape is a key of the panes", "choose another"),
     (["request.stage=G"], "but G is a key of every pane", "choose another"),
     (["request.stage=\x1b[2J"], r"'\x1b[2J' for request.stage, which is no key", "a letter")],
)  # fmt: skip
def test_a_bad_entry_is_told(entries: list[str], told: str, hint: str) -> None:
    """With the entry, what is wrong with it, and what to write."""
    with pytest.raises(ConfigError) as caught:
        keymap(entries)
    assert told in str(caught.value)
    assert hint in caught.value.hint
    assert caught.value.exit_code == 3


def test_two_actions_may_change_places() -> None:
    """A key is free when its action has got another one."""
    assert keymap(["request.stage=x", "request.refuse=s"]) == {"request.stage": "x", "request.refuse": "s"}


def test_the_keys_of_the_panes_are_known() -> None:
    """Exactly those that a pane, the main screen or the app has for itself."""
    own = {
        SHOWN.get(key, key)
        for pane in PANES
        for key, bindings in pane._merge_bindings().key_to_bindings.items()
        if bindings[0].id not in BY_ID
    }
    assert own - {"super+c"} == set(TAKEN)


def test_signs_have_textuals_names() -> None:
    """A key that is written as a sign is the one that Textual hears."""
    assert {sign: name for name, sign in SHOWN.items()} == {sign: _character_to_key(sign) for sign in SHOWN.values()}


def test_the_keys_as_they_are_pass() -> None:
    """What every action has by itself may also be written down."""
    entries = [f"{action.id}={SHOWN.get(action.key, action.key)}" for action in ACTIONS]
    assert keymap(entries) == {action.id: action.key for action in ACTIONS}
