"""One call of the command: configuration, journal, desk. Without click, which the console's start does not wait for."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

from aogconsole import config
from aogconsole.config import Config
from aogconsole.errors import AogError, ConfigError, UsageError
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal
from aogconsole.text import clean


class Session:
    """One call of the command."""

    def __init__(self, config_file: Path | None, *, read_only: bool) -> None:
        self.config_file = config_file
        self.read_only = read_only

    @functools.cached_property
    def config(self) -> Config:
        """The configuration; without a file the defaults."""
        return config.load(self.config_file)

    @functools.cached_property
    def actor(self) -> Actor:
        """The account that calls."""
        return Actor.current("cli")

    def reading(self) -> Journal:
        """The journal to look at; one that is not there yet is empty."""
        path = self.config.journal_path
        if not path.exists():
            print(f"aogconsole: there is no journal yet at {path}", file=sys.stderr)
            return Journal.empty(path)
        return Journal.open(path, read_only=True)

    def may_act(self) -> None:
        """Raise UsageError when read-only, ConfigError without a configuration."""
        if self.read_only:
            raise UsageError("with --read-only nothing may be changed", "leave it out")
        if self.config.file is None:
            raise ConfigError("there is no configuration yet", "make one with `aogconsole config init`, then edit it")

    def acting(self) -> Journal:
        """The journal to change. Raises UsageError when read-only, ConfigError without a configuration."""
        self.may_act()
        settings = self.config.settings.journal
        return Journal.open(self.config.journal_path, group=settings.group, syslog=settings.syslog)

    def desk(self) -> tuple[Journal, Any]:
        """The journal to change, and the operator's desk on it."""
        from aogconsole.site import desk

        journal = self.acting()
        return journal, desk(self.config, journal, self.actor)


def complain(error: AogError) -> None:
    """One sentence, and what to do."""
    print(f"aogconsole: {clean(str(error))}", file=sys.stderr)
    if error.hint:
        print(f"  {clean(error.hint)}", file=sys.stderr)
