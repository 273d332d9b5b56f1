"""The audit trail, the shift's summary, and the backup."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from aogconsole import handover, times, views
from aogconsole.cli.common import IDENT, LIMIT, Session, as_json, emit, say
from aogconsole.errors import UsageError
from aogconsole.journal import history


@click.command("history")
@click.argument("request", type=IDENT, required=False)
@click.option(
    "--verify", is_flag=True, help="Check the whole chain, and that it leads to what is stored; exit 1 if not."
)
@click.option("--head", metavar="SEQ:HASH", help="With --verify: a head from syslog or a letter that must be in it.")
@LIMIT
@as_json
@click.pass_obj
def history_command(
    session: Session, request: int | None, head: str | None, limit: int, *, verify: bool, json_: bool
) -> int:
    """Show who did what when, to one request or to all."""
    journal = session.reading()
    if verify:
        problems = history.verify(journal.connection, _witness(head))
        seq, hashed = history.head(journal.connection)
        if json_:
            emit({"ok": not problems, "rows": seq, "head": f"{seq}:{hashed}", "problems": problems})
        else:
            for problem in problems:
                say(problem)
            say(f"{seq} rows, head {seq}:{hashed}: " + ("WRONG" if problems else "the history is whole"))
        return 1 if problems else 0
    found = views.history(journal, request, limit=limit)
    if json_:
        emit(found)
    else:
        for row in found:
            change = f"{row['from'] or '-'} -> {row['to']}" if row["from"] != row["to"] else ""
            what = f"{row['kind']} {row['id'] or ''} {row['verb']} {change} {row['why'] or ''}"
            say(f"{row['seq']:6} {row['at']} {row['who']} ({row['via']}) {what}".rstrip())
    return 0


def _witness(head: str | None) -> tuple[int, str] | None:
    if head is None:
        return None
    seq, _, hashed = head.replace(" ", ":").partition(":")
    if not seq.isdecimal() or len(hashed) != 64:
        raise UsageError(
            f"'{head}' is not a head of the history",
            "copy SEQ:HASH from syslog, or from a letter's X-AOGConsole-History",
        )
    return int(seq), hashed


@click.command("handover")
@click.option("--since", metavar="TIME", help="From then on (ISO 8601); the last 12 hours otherwise.")
@as_json
@click.pass_obj
def handover_command(session: Session, since: str | None, *, json_: bool) -> None:
    """Sum the shift up: what needs a person, what goes on, what was done."""
    try:
        start = times.text(times.parse(since) if since else times.now() - timedelta(hours=12))
    except ValueError:
        raise UsageError(f"'{since}' is not a time", "write it as 2026-11-21T14:02:11Z") from None
    settings = session.config.settings
    told = handover.summary(session.reading(), start, settings.policy.timezone, settings.staging.warn_days)
    if json_:
        emit(told)
    else:
        click.echo("\n".join(handover.lines(told)))


@click.command("backup")
@click.argument("folder", type=click.Path(path_type=Path))
@click.pass_obj
def backup_command(session: Session, folder: Path) -> None:
    """Copy the journal and the terminal logs into a new folder, while everything goes on."""
    if folder.exists():
        raise UsageError(f"{folder} is there already", "name a new folder")
    session.reading().backup(folder)
    say(f"copied to {folder}")
