"""What the verbs share: the session (configuration, journal, desk), and printing without surprises."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from aogconsole import config
from aogconsole.config import Config
from aogconsole.errors import AogError, ConfigError, UsageError
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal
from aogconsole.text import clean, columns


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
            click.echo(f"aogconsole: there is no journal yet at {path}", err=True)
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


def as_json(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--json`."""
    return click.option("--json", "json_", is_flag=True, help="Print one JSON document.")(command)


def emit(document: Any) -> None:
    """Print one JSON document; ASCII only, so that nothing in it can act on a terminal."""
    sys.stdout.write(json.dumps(document, ensure_ascii=True, indent=None, separators=(", ", ": ")) + "\n")


def say(text: str) -> None:
    """Print one line of text, made safe."""
    click.echo(clean(text))


def table(heads: Sequence[str], rows: Sequence[Sequence[str | None]]) -> None:
    """Print a table, made safe; the last column is not padded."""
    click.echo("\n".join(columns(heads, rows)))


def complain(error: AogError) -> None:
    """One sentence, and what to do."""
    click.echo(f"aogconsole: {clean(str(error))}", err=True)
    if error.hint:
        click.echo(f"  {clean(error.hint)}", err=True)


def engine_note(session: Session) -> None:
    """Say when no engine is there to carry an intent out."""
    from aogconsole.engine.lock import EngineLock

    if not EngineLock(session.config.journal_path).holder():
        click.echo("aogconsole: no engine runs now; it will be done when one does (`aogconsole serve`)", err=True)


IDENT = click.IntRange(min=1, max=2**63 - 1)
"""An id, as SQLite can hold it."""
REQUEST = click.argument("request", type=IDENT, shell_complete=lambda ctx, _param, text: _open_requests(ctx, text))
RUN = click.argument("run", type=IDENT)
LETTER = click.argument("letter", type=IDENT)
WHY = click.option("--why", required=True, help="The reason; it stands in the history.")
SEEN = click.option("--seen", type=int, help="Act only if the version is still this one.")
LIMIT = click.option(
    "--limit", type=click.IntRange(-1, 10**9), default=1000, show_default=True, help="The newest N; -1 for all."
)
METRICS = click.option(
    "--metrics", metavar="[HOST:]PORT", help="Serve metrics for Prometheus; on loopback without HOST."
)


def _open_requests(ctx: click.Context, text: str) -> list[str]:
    session = Session(ctx.find_root().params.get("config_file"), read_only=True)
    rows = session.reading().all("select id from request where state <> 'closed' order by id")
    return [str(row["id"]) for row in rows if str(row["id"]).startswith(text)]
