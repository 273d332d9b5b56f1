"""Where the command begins: errors in one sentence with an exit code; the console without waiting for the verbs."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aogconsole.cli.session import Session, complain
from aogconsole.errors import AogError, StorageError

FLAGS = {"--read-only": "read_only", "--no-mouse": "no_mouse"}


def main() -> None:
    """Run the command line; the exit codes are design section 5's."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that knows no UTF-8 loses a letter, not a list
    try:
        status = _run()
        sys.stdout.flush()
    except AogError as error:
        complain(error)
        status = error.exit_code
    except BrokenPipeError:  # at the last flush
        hush()
        status = 0
    except OSError as error:
        where = error.filename or "the output could not be written"
        complain(StorageError(f"{where}: {error.strerror or error}", "check the disk, owner and mode"))
        hush()
        status = StorageError.exit_code
    sys.exit(status if isinstance(status, int) else 0)


def _run() -> object:
    options = None if "_AOGCONSOLE_COMPLETE" in os.environ else console_options(sys.argv[1:])
    if options is None:
        from aogconsole.cli.root import run

        return run()
    from aogconsole.cli.console import console

    session = Session(options["config_file"], read_only=options["read_only"])
    return console(session, mouse=not options["no_mouse"])


def console_options(words: Sequence[str]) -> dict[str, Any] | None:
    """The global options, when these words are nothing but such options in full: then it is the console that is wanted.

    None for all else: that is read by click, which takes a twentieth of the console's start to load.
    """
    options: dict[str, Any] = {"config_file": None, "read_only": False, "no_mouse": False}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in FLAGS:
            options[FLAGS[word]] = True
        elif word == "--config" and rest:
            options["config_file"] = Path(rest.pop(0))
        elif word.startswith("--config="):
            options["config_file"] = Path(word.removeprefix("--config="))
        else:
            return None
    return options


def hush() -> None:
    """What is still in the buffer goes nowhere, without a word at the interpreter's end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
