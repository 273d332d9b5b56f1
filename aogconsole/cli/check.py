"""`check`: the archive's verdict on a MOUS and an account, without a request."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import click

from aogconsole import times
from aogconsole.cli.common import Session, as_json, emit, say
from aogconsole.errors import OutsideError, UsageError
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
    document, sentence, status = asyncio.run(_check(session, uid, user, code, asked))
    if json_:
        emit(document)
    else:
        say(f"{document['verdict']}: {sentence}")
    return status


async def _check(
    session: Session, mous: MousUid, account: AccountId, project: ProjectCode | None, day: date
) -> tuple[dict[str, Any], str, int]:
    from aogconsole.requests import entitlement
    from aogconsole.requests.facts import Facts
    from aogconsole.site import archive

    try:
        answer = await archive(session.config).ask(mous, account, project)
    except OutsideError as error:
        return {"verdict": "unknown", "why": str(error), "facts": None}, f"{error} ({error.hint})", error.exit_code
    facts = Facts.from_rows(((row.fact, row.values) for row in answer.rows), account.value, day)
    verdict = entitlement.decide(facts)
    evidence = {**facts.to_json(), "query_version": answer.query_version, "took_ms": answer.took_ms}
    document = {"verdict": verdict.verdict or "unknown", "why": verdict.why, "facts": evidence}
    return document, entitlement.explain(verdict, facts), 0 if verdict.verdict == "entitled" else 1


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"'{text}' is not a day", "write it as 2026-11-21") from None
