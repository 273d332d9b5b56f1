"""What is loaded when: the console's first frame waits for nothing that it does not show, the verbs for no Textual."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aogconsole import parts
from aogconsole.cli.entry import console_options
from aogconsole.cli.root import cli

LATER = {
    "click", "asyncssh", "oracledb", "sqlite_utils", "pyperclip", "aiosmtplib", "imap_tools", "cryptography", "email",
    "importlib.metadata", "zoneinfo", "textual.widgets._text_area",
    "aogconsole.boards", "aogconsole.desk", "aogconsole.deeds", "aogconsole.lookups",
    "aogconsole.letterdesk", "aogconsole.checks", "aogconsole.logs", "aogconsole.mailroom", "aogconsole.site",
    "aogconsole.staging.transcript", "backends", "widgets.dialogs", "widgets.pages", "widgets.forms", "widgets.letter",
    "widgets.paste", "widgets.helps", "widgets.inputs", "widgets.logprompt", "widgets.areas",
}  # fmt: skip
"""Modules, with all below them, that the first frame does not need."""
HEAVY = {"textual", "rich", "asyncssh", "oracledb", "sqlite_utils", "aogconsole.app"}
"""What no verb needs to tell what it is for."""


def loaded(statement: str) -> set[str]:
    """The modules that a new interpreter has after a statement."""
    code = f"import sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\nprint()\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def of(modules: set[str], named: set[str]) -> set[str]:
    """Those that are, or lie below, one of the named."""
    return {name for name in modules if any(name == one or name.startswith(f"{one}.") for one in named)}


def command(*words: str) -> str:
    """The statement of a command line."""
    return f"sys.argv = ['aogconsole', *{list(words)!r}]; from aogconsole.__main__ import main; main()"


def test_the_first_frame_waits_for_what_it_shows_only() -> None:
    """Loading the console loads no dialog, no page, no library of the outside world."""
    assert of(loaded("import aogconsole.cli.entry, aogconsole.cli.console, aogconsole.app"), LATER) == set()


@pytest.mark.parametrize(
    "words",
    [
        (), ("--read-only",), ("--no-mouse", "--config", "a b"), ("--config=x", "--config", "--no-mouse"),
        ("--config=",), ("--config", ""), ("--read-only", "--read-only"),
    ],
)  # fmt: skip
def test_the_consoles_options_are_read_as_click_reads_them(words: tuple[str, ...]) -> None:
    """What is read without click."""
    assert console_options(words) == cli.make_context("aogconsole", list(words)).params


@pytest.mark.parametrize(
    "words",
    [
        ("requests",), ("--read-only", "requests"), ("--config",), ("--help",), ("-h",), ("--version",), ("--",), ("",),
        ("--read-only=1",), ("--read",), ("--config", "x", "show", "2"), ("--mouse",), ("-c", "x"),
    ],
)  # fmt: skip
def test_all_else_is_clicks(words: tuple[str, ...]) -> None:
    """Verbs, help and mistakes."""
    assert console_options(words) is None


def test_all_parts_are_there_to_be_loaded() -> None:
    """What is loaded beside the first frame are modules of ours, and together all that a key may need."""
    every = "; ".join(f"import aogconsole.{name}" for name in parts.MODULES)
    wanted = {"aogconsole.logs", "aogconsole.deeds", "widgets.letter", "widgets.helps", "widgets.paste"}
    assert loaded(every) >= wanted


@pytest.mark.parametrize("words", [("--help",), ("requests", "--help"), ("serve", "--help"), ("demo", "--help")])
def test_the_verbs_load_no_screen(words: tuple[str, ...]) -> None:
    """`aogconsole --help`, and a verb's, are told without Textual and the libraries of the outside world."""
    assert of(loaded(command(*words)), HEAVY) == set()


def test_a_module_that_came_too_early_is_seen() -> None:
    """The check finds what is loaded beside the console."""
    assert "sqlite_utils" in of(loaded("import aogconsole.app, sqlite_utils"), LATER)
