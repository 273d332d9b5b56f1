"""`aogconsole` without a verb: the console."""

from __future__ import annotations

import gc
import os
import sys

from aogconsole.cli.session import Session
from aogconsole.errors import ConfigError, UsageError


def console(session: Session, *, mouse: bool = True, welcome: str = "") -> int:
    """Run the console on the terminal. Raises AogError for what can be known to be wrong before it starts."""
    if not os.environ.get("TEXTUAL_DRIVER") and not (sys.stdin.isatty() and sys.stdout.isatty()):  # `web` sets it
        raise UsageError("the console needs a terminal", "`aogconsole --help` lists the verbs for scripts")
    if os.environ.get("TERM") == "dumb":
        raise UsageError("this terminal (TERM=dumb) cannot show the console", "set TERM to what it is, or use verbs")
    if session.config.file is None and not session.read_only:
        raise ConfigError(
            "there is no configuration yet",
            "make one with `aogconsole config init`, or look around in `aogconsole demo`",
        )
    return start(session, mouse=mouse, welcome=welcome)


def start(session: Session, *, mouse: bool = True, welcome: str = "") -> int:
    """Load the console and run it."""
    os.environ.setdefault("TEXTUAL_FPS", "120")  # at its 60 the timer misses beats: a key's paint took 5 ms, not 3
    gc.disable()  # a start leaves no garbage, and looking for it takes a tenth of it; the console goes on with it
    from aogconsole.app import run

    return run(session, mouse=mouse, welcome=welcome)
