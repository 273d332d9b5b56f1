"""Looking at requests: `requests`, `show`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from aogconsole import times, views
from aogconsole.cli.common import LIMIT, REQUEST, Session, as_json, emit, say, table
from aogconsole.requests.request import State


@click.command("requests")
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only those in this state.")
@click.option("--ticket", default="", help="Only those of this helpdesk ticket.")
@click.option(
    "--search", default="", metavar="TEXT",
    help="Only those with this in MOUS, project, account, ticket, sender or subject; of one or two characters only"
    " among the newest.",
)  # fmt: skip
@LIMIT
@as_json
@click.pass_obj
def requests_command(session: Session, state: str | None, ticket: str, search: str, limit: int, *, json_: bool) -> None:
    """List requests: all open ones, and the newest closed ones."""
    look = views.requests if json_ else views.request_lines
    found = look(session.reading(), state=state or "", ticket=ticket, search=search, limit=limit)
    if json_:
        emit(found)
        return
    heads = ("id", "ticket", "mous", "state", "age", "next", "why")
    table(
        heads,
        [
            (
                one["id"],
                one["ticket"],
                one["mous"],
                one["state"] if one["position"] is None else f"{one['state']} {one['position']}",
                age(one["received_at"]),
                one["next_action"],
                one["why"],
            )
            for one in found
        ],
    )


@click.command("show")
@REQUEST
@as_json
@click.pass_obj
def show_command(session: Session, request: int, *, json_: bool) -> None:
    """Show one request with its evidence."""
    found = views.one_request(session.reading(), request)
    if json_:
        emit(found)
        return
    for key, value in found.items():
        if key not in ("facts", "notes", "version"):
            say(f"{key:14} {', '.join(value) if isinstance(value, list) else '' if value is None else value}")
    for key, value in (found["facts"] or {}).items():
        say(f"  {key:18} {_shown(value)}")
    for note in found["notes"]:
        first, *others = note["text"].splitlines() or [""]
        say(f"note {note['at']} {note['who']}: {first}")
        for line in others:
            say(f"  {line}")


def _shown(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{key} {_shown(one)}" for key, one in value.items() if one is not None)
        case list():
            return "; ".join(_shown(one) for one in value)
        case bool():
            return "yes" if value else "no"
        case None:
            return "-"
        case _:
            return str(value)


def age(since: str) -> str:
    """How long ago, in the largest unit: `3 d`, `2 h`, `5 m`."""
    gone = max(times.now() - times.parse(since), timedelta())
    minutes = int(gone.total_seconds() // 60)
    if minutes >= 2 * 24 * 60:
        return f"{minutes // (24 * 60)} d"
    return f"{minutes // 60} h" if minutes >= 120 else f"{minutes} m"
