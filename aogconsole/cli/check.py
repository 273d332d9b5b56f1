"""`check`: the archive's verdict on a MOUS and an account, without a request."""

from __future__ import annotations

import asyncio
from datetime import date

import click

from aogconsole import times
from aogconsole.check import verdict
from aogconsole.cli.common import Session, as_json, emit, say
from aogconsole.errors import UsageError
from aogconsole.ids import AccountId, MousUid, ProjectCode


@click.command("check")
@click.argument("mous")
@click.argument("account")
@click.option("--project", help="The project code that the request names.")
@click.option("--day", help="The day of the request, YYYY-MM-DD; today otherwise.")
@as_json
@click.pass_obj
def check_command(
    session: Session, mous: str, account: str, project: str | None, day: str | None, *, json_: bool
) -> int:
    """Ask the archive whether an account may have a MOUS' data: exit 0 yes, 1 no, 4 could not be asked."""
    uid, user = MousUid.parse(mous), AccountId.parse(account)
    code = ProjectCode.parse(project) if project else None
    zone = session.config.settings.policy.timezone
    asked = _day(day) if day else date.fromisoformat(times.day(times.now(), zone))
    document, sentence, status = asyncio.run(verdict(session.config, uid, user, code, asked))
    if json_:
        emit(document)
    else:
        say(f"{document['verdict']}: {sentence}")
    return status


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"'{text}' is not a day", "write it as 2026-11-21") from None
