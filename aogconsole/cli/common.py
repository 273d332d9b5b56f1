"""What the verbs share: the session, options, and printing without surprises."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from aogconsole.cli.session import Session
from aogconsole.text import clean, columns

__all__ = [
    "IDENT", "LETTER", "LIMIT", "METRICS", "REQUEST", "RUN", "SEEN", "WHY", "Session", "as_json", "emit",
    "engine_note", "say", "table",
]  # fmt: skip


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
