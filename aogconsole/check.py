"""The archive's verdict on a MOUS and an account, asked by hand, without a request."""

from __future__ import annotations

from datetime import date
from typing import Any

from aogconsole.config import Config
from aogconsole.errors import OutsideError
from aogconsole.ids import AccountId, MousUid, ProjectCode


async def verdict(
    config: Config, mous: MousUid, account: AccountId, project: ProjectCode | None, day: date
) -> tuple[dict[str, Any], str, int]:
    """The contract's document of `check`, the verdict in a sentence, and the exit code. Raises ConfigError."""
    from aogconsole.requests import entitlement
    from aogconsole.requests.facts import Facts
    from aogconsole.site import archive

    try:
        answer = await archive(config).ask(mous, account, project)
    except OutsideError as error:
        return {"verdict": "unknown", "why": str(error), "facts": None}, f"{error} ({error.hint})", error.exit_code
    facts = Facts.from_rows(((row.fact, row.values) for row in answer.rows), account.value, day)
    found = entitlement.decide(facts)
    evidence = {**facts.to_json(), "query_version": answer.query_version, "took_ms": answer.took_ms}
    document = {"verdict": found.verdict or "unknown", "why": found.why, "facts": evidence}
    return document, entitlement.explain(found, facts), 0 if found.verdict == "entitled" else 1
