"""Letters: listing, reading, editing, letting them go."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import click

from aogconsole import views
from aogconsole.cli.common import LETTER, LIMIT, SEEN, WHY, Session, as_json, emit, engine_note, say, table
from aogconsole.errors import UsageError
from aogconsole.text import clean_lines


@click.command("letters")
@LIMIT
@as_json
@click.pass_obj
def letters_command(session: Session, limit: int, *, json_: bool) -> None:
    """List letters."""
    found = views.letters(session.reading(), limit)
    if json_:
        emit(found)
        return
    rows = [(one["id"], one["request"], one["kind"], one["state"], ", ".join(one["to"]), one["why"]) for one in found]
    table(("id", "request", "kind", "state", "to", "why"), rows)


@click.command("letter")
@LETTER
@click.option("--eml", is_flag=True, help="The message as it goes out, byte for byte; not to a terminal.")
@as_json
@click.pass_obj
def letter_command(session: Session, letter: int, *, eml: bool, json_: bool) -> None:
    """Show one letter as it will go out."""
    from aogconsole.requests.letters import Draft, editable
    from aogconsole.requests.message import preview

    row = session.reading().fetch("letter", letter)
    if eml:
        if sys.stdout.isatty():
            raise UsageError("--eml is not for a terminal", "redirect it into a file")
        if row["message"] is None:
            raise UsageError(f"letter {letter} has no message yet: it is made when it is sent", "leave out --eml")
        sys.stdout.buffer.write(row["message"])
        return
    text = preview(row["message"]) if row["message"] else editable(Draft.from_json(json.loads(row["draft"])))
    if json_:
        emit({**views.letter(row), "text": text})
    else:
        click.echo(clean_lines(text))


def verb(name: str, meaning: str, *options: Callable[[Any], Any]) -> click.Command:
    """The command for `Desk.NAME(letter, **options)`; it tells how the letter is then."""

    @click.pass_obj
    def run(session: Session, /, letter: int, *, json_: bool, **given: Any) -> None:
        journal, desk = session.desk()
        new = getattr(desk, name)(letter, **given)
        found = views.letter(journal.fetch("letter", new or letter))
        if json_:
            emit(found)
        else:
            say(f"letter {found['id']} is {found['state']}")
        if found["state"] == "approved":
            engine_note(session)

    command: Any = as_json(run)
    for option in reversed([LETTER, *options]):
        command = option(command)
    made: click.Command = click.command(name, help=meaning)(command)
    return made


approve_command = verb("approve", "Let a drafted letter go out.", SEEN)
send_command = verb("send", "Send a letter now: approve it, or do not wait for its next try.", SEEN)
resend_command = verb("resend", "Send a letter once more, as a new one; it may arrive twice.", WHY)
discard_command = verb("discard", "Drop a letter that has not gone.", SEEN)


@click.command("edit")
@LETTER
@click.option(
    "--file", "file", type=click.File(encoding="utf-8"), help="Take the new text from here (-: standard input)."
)
@SEEN
@as_json
@click.pass_obj
def edit_command(session: Session, letter: int, file: Any, seen: int | None, *, json_: bool) -> None:
    """Edit a drafted letter in $EDITOR, or from a file."""
    from aogconsole.requests.letters import Draft, editable

    journal, desk = session.desk()
    draft = editable(Draft.from_json(json.loads(journal.fetch("letter", letter)["draft"])))
    try:
        text = file.read() if file else click.edit(draft)
    except UnicodeDecodeError:
        raise UsageError("the new text is not UTF-8", "write it in UTF-8") from None
    if text is not None:
        desk.edit(letter, text, seen=seen)
    found = views.letter(journal.fetch("letter", letter))
    if json_:
        emit(found)
    else:
        say(f"letter {letter} " + ("was edited and is a draft" if text is not None else "is unchanged"))
