"""Mails: taking them in from files, listing them, and writing the helpdesk's side."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import click

from aogconsole import times, views
from aogconsole.cli.common import LIMIT, Session, as_json, emit, engine_note, say, table
from aogconsole.errors import MailError, UsageError
from aogconsole.ingest import take


@click.command("ingest")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--received", metavar="TIME", help="When the mails came (ISO 8601); now otherwise.")
@as_json
@click.pass_obj
def ingest_command(session: Session, files: tuple[str, ...], received: str | None, *, json_: bool) -> None:
    """Take mails in from files, of one mail or an mbox (-: standard input)."""
    import asyncio

    from aogconsole.requests import mbox

    at = _time(received) if received else times.now()
    mails = [(file, raw) for file in files for raw in mbox.split(_read(file))]
    journal = session.acting()
    told = asyncio.run(take(session.config, journal, session.actor, mails, at))
    if json_:
        emit(told)
        return
    for one in told:
        request = f", request {one['request']}" if one["request"] else ""
        say(f"{one['file']}: {one['state']}{request}" + (f": {one['why']}" if one["why"] else ""))
    if any(one["state"] == "received" for one in told):
        engine_note(session)


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", "name a file that holds a mail") from None


def _time(text: str) -> datetime:
    try:
        return times.parse(text)
    except ValueError:
        raise UsageError(f"'{text}' is not a time", "write it as 2026-11-21T14:02:11Z") from None


@click.command("mails")
@LIMIT
@as_json
@click.pass_obj
def mails_command(session: Session, limit: int, *, json_: bool) -> None:
    """List every mail read, and what became of it."""
    found = views.mails(session.reading(), limit)
    if json_:
        emit(found)
        return
    rows = [
        (one["id"], one["received_at"], one["from"], one["result"], one["request"], one["subject"], one["why"])
        for one in found
    ]
    table(("id", "received", "from", "result", "request", "subject", "why"), rows)


@click.command("compose")
@click.option("--mous", "mouss", multiple=True, required=True, metavar="UID", help="A MOUS' UID; up to 10 times.")
@click.option("--project", required=True, help="The project code.")
@click.option("--account", required=True, help="The ALMA account id of the user.")
@click.option("--ticket", required=True, help="The helpdesk ticket.")
@click.option("--sender", help="The From address; yours at the address's domain otherwise.")
@click.option(
    "--maildir",
    type=click.Path(path_type=Path),
    help="File the mails here; to standard output otherwise, several as an mbox.",
)
@as_json
@click.pass_obj
def compose_command(
    session: Session,
    mouss: tuple[str, ...],
    project: str,
    account: str,
    ticket: str,
    sender: str | None,
    maildir: Path | None,
    *,
    json_: bool,
) -> None:
    """Write the helpdesk's request mails, one per MOUS."""
    import asyncio

    from aogconsole.ids import AccountId, MousUid, ProjectCode, Ticket
    from aogconsole.requests import mbox
    from aogconsole.site import compose

    uids = [MousUid.parse(uid) for uid in mouss]
    made = compose(
        session.config, uids, ProjectCode.parse(project), AccountId.parse(account), Ticket.parse(ticket), sender
    )
    if maildir is not None:
        asyncio.run(_file(maildir, made))
    elif not json_:
        mails = [raw for _, raw in made]
        sys.stdout.buffer.write(mails[0] + b"\n" if len(mails) == 1 else mbox.join(mails))
    if json_:
        emit([{"mous": str(uid), "message_id": message_id} for uid, (message_id, _) in zip(uids, made, strict=True)])
    elif maildir is not None:
        say(f"{len(made)} mails filed in {maildir}")


async def _file(maildir: Path, made: list[tuple[str, bytes]]) -> None:
    from backends.outbox_maildir import MaildirOutbox
    from backends.ports import OutgoingMail, Sent

    for message_id, raw in made:
        outcome = await MaildirOutbox(maildir).send(OutgoingMail(message_id, "", (), raw), lambda: None)
        if not isinstance(outcome, Sent):
            raise MailError(getattr(outcome, "why", "the mail was not filed"), "check the folder")
