"""Acting on a request: every verb of the desk, as a command with the same words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from aogconsole import views
from aogconsole.cli.common import REQUEST, SEEN, WHY, Session, as_json, emit, engine_note, say
from aogconsole.requests.request import REFUSALS

Option = Callable[[Any], Any]
REASON = click.option("--why", default="", help="The reason; it stands in the history.")


def verb(name: str, meaning: str, *options: Option, seen: bool = True) -> click.Command:
    """The command for `Desk.NAME(request, **options)`; it tells how the request is then."""

    @click.pass_obj
    def run(session: Session, /, request: int, *, json_: bool, **given: Any) -> None:
        journal, desk = session.desk()
        getattr(desk, name)(request, **given)
        found = views.one_request(journal, request)
        if json_:
            emit(found)
        else:
            say(f"request {request} is {found['state']}" + (f": {found['why']}" if found["why"] else ""))
        if found["next_action"] == "wait":
            engine_note(session)

    command: Any = as_json(run)
    for option in reversed([REQUEST, *options, *([SEEN] if seen else [])]):
        command = option(command)
    made: click.Command = click.command(name, help=meaning)(command)
    return made


recheck_command = verb("recheck", "Have the archive asked again.", REASON)
stage_command = verb("stage", "Put an entitled request into the queue for a slot.")
refuse_command = verb(
    "refuse",
    "Let the refusal letter go.",
    click.option("--as", "verdict", type=click.Choice(REFUSALS), help="Pick the verdict (from unclear); needs --why."),
    REASON,
)
hold_command = verb("hold", "Put a request aside.", WHY)
release_command = verb("release", "Take up again what was put aside.")
rerun_command = verb("rerun", "Stage an entitled request once more, as a new run.", WHY)
close_command = verb("close", "Close a request; letters that have not gone are dropped.", WHY)
reopen_command = verb("reopen", "Open a closed request: a person decides what is next.", WHY)
correct_command = verb(
    "correct",
    "Put other values into a request, and have it checked.",
    click.option("--mous", default="", help="The MOUS' UID."),
    click.option("--project", default="", help="The project code."),
    click.option("--account", default="", help="The ALMA account id."),
    click.option("--ticket", default="", help="The helpdesk ticket."),
    WHY,
)
note_command = verb("note", "Leave a note on a request.", click.argument("text"), seen=False)
claim_command = verb(
    "claim", "Say that a request is yours.", click.option("--off", is_flag=True, help="It is no longer yours.")
)
move_command = verb("move", "Change a queued request's place; 1 is next.", click.argument("position", type=int))
