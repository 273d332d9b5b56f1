"""Looking at the journal: its rows as the contract's JSON documents (design section 5), and lists of them.

Lists are bounded: everything open, and the newest of what is closed, so that a journal of many years costs no
more to look at than a new one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from aogconsole.journal.store import Journal, statement
from aogconsole.requests.request import State, next_action

NEWEST = 1000
"""How many closed (or otherwise finished) ones a list shows unless told otherwise."""
ALL = -1


def request(row: Any) -> dict[str, Any]:
    """One request, from a row of requests.sql."""
    return {
        "id": str(row["id"]),
        "version": row["version"],
        "state": row["state"],
        "why": row["why"] or None,
        "mous": row["mous"],
        "project": row["project"],
        "account": row["account"],
        "ticket": row["ticket"],
        "received_at": row["received_at"],
        "verdict": row["verdict"],
        "verdict_why": row["verdict_why"],
        "facts": json.loads(row["facts"]) if row["facts"] else None,
        "checked_at": row["checked_at"],
        "query_version": row["query_version"],
        "check_ms": row["check_ms"],
        "next_try": row["next_try"],
        "next_action": next_action(State(row["state"]), row["verdict"], row["run"] is not None),
        "run": text_id(row["run"]),
        "letters": [str(ident) for ident in json.loads(row["letters"])],
        "url": row["url"],
        "notes": json.loads(row["notes"]),
        "claimed_by": row["claimed_by"],
        "mail": str(row["mail"]),
    }


def requests(
    journal: Journal, *, state: str = "", ticket: str = "", search: str = "", limit: int = NEWEST
) -> list[dict[str, Any]]:
    """Requests, open ones first by age, then the newest closed ones."""
    return [request(row) for row in request_rows(journal, state=state, ticket=ticket, search=search, limit=limit)]


def request_rows(
    journal: Journal, *, state: str = "", ticket: str = "", search: str = "", limit: int = NEWEST
) -> Iterator[Any]:
    """The rows behind `requests`: all open ones in the order they came, then the newest closed ones."""
    where, values = ["1"], []
    if state:
        where.append("request.state = ?")
        values.append(state)
    if ticket:
        where.append("request.ticket = ?")
        values.append(ticket.removeprefix("#"))
    if search:
        columns = " || ' ' || ".join(f"coalesce({column}, '')" for column in ("mous", "project", "account", "ticket"))
        where.append(
            f"(instr({columns}, ?) or mail in (select id from mail where instr(from_address || ' ' || subject, ?)))"
        )
        values += [search, search]
    sql = statement("requests")
    condition = " and ".join(where)
    if state in ("", *(set(State) - {State.CLOSED})):
        yield from reversed(journal.all(sql % f"request.state <> 'closed' and {condition}", *values, ALL))
    if state in ("", State.CLOSED):
        yield from journal.all(sql % f"request.state = 'closed' and {condition}", *values, limit)


def one_request(journal: Journal, ident: int) -> dict[str, Any]:
    """One request by id. Raises UsageError."""
    journal.fetch("request", ident)
    return request(journal.all(statement("requests") % "request.id = ?", ident, 1)[0])


def run(row: Any) -> dict[str, Any]:
    """One run."""
    return {
        "id": str(row["id"]),
        "request": str(row["request"]),
        "slot": slot_name(row["slot"]),
        "state": row["state"],
        "why": row["why"] or None,
        "token": row["token"],
        "node": row["node"],
        "host": row["host"],
        "workdir": row["workdir"],
        "url": row["url"],
        "started_at": row["started_at"],
        "ended_at": row["ended_at"],
        "exit_status": row["exit_status"],
        "milestones": json.loads(row["milestones"]),
        "log_bytes": row["log_bytes"],
        "log_lines": row["log_lines"],
        "expected_end": row["expected_end"],
        "stop_asked_by": row["stop_asked_by"],
    }


def runs(journal: Journal, limit: int = NEWEST) -> list[dict[str, Any]]:
    """The newest runs, oldest first."""
    return [run(row) for row in reversed(journal.all("select * from run order by id desc limit ?", limit))]


def letter(row: Any) -> dict[str, Any]:
    """One letter, without its text."""
    draft = json.loads(row["draft"])
    return {
        "id": str(row["id"]),
        "version": row["version"],
        "request": str(row["request"]),
        "kind": row["kind"],
        "to": draft["to"],
        "cc": draft["cc"],
        "subject": draft["subject"],
        "state": row["state"],
        "message_id": row["message_id"],
        "why": row["why"] or None,
        "next_try": row["next_try"],
        "sent_at": row["sent_at"],
    }


def letters(journal: Journal, limit: int = NEWEST) -> list[dict[str, Any]]:
    """The newest letters, oldest first."""
    return [letter(row) for row in reversed(journal.all("select * from letter order by id desc limit ?", limit))]


def mails(journal: Journal, limit: int = NEWEST) -> list[dict[str, Any]]:
    """The newest mails read, oldest first."""
    rows = journal.all(
        "select id, received_at, from_address, subject, result, why, request from mail order by id desc limit ?", limit
    )
    return [
        {
            "id": str(row["id"]),
            "received_at": row["received_at"],
            "from": row["from_address"],
            "subject": row["subject"],
            "result": row["result"],
            "why": row["why"] or None,
            "request": text_id(row["request"]),
        }
        for row in reversed(rows)
    ]


def history(journal: Journal, entity: int | None = None, since: str = "", limit: int = NEWEST) -> list[dict[str, Any]]:
    """The audit trail, oldest first: of one request with its mail, run and letters, or of everything."""
    where, values = "at >= ?", [since]
    if entity is not None:
        journal.fetch("request", entity)
        where += """ and entity in (select ? union all select mail from request where id = ?
            union all select id from run where request = ? union all select id from letter where request = ?)"""
        values += [entity] * 4  # type: ignore[list-item]
    rows = journal.all(f"select * from history where {where} order by seq desc limit ?", *values, limit)
    return [
        {
            "seq": row["seq"],
            "at": row["at"],
            "who": row["who"],
            "via": row["via"],
            "verb": row["verb"],
            "kind": row["kind"],
            "id": text_id(row["entity"]),
            "from": row["origin"],
            "to": row["target"],
            "why": row["why"] or None,
            "data": json.loads(row["data"]),
            "hash": row["hash"],
        }
        for row in reversed(rows)
    ]


def text_id(ident: int | None) -> str | None:
    """An id as the contract has it."""
    return None if ident is None else str(ident)


def slot_name(slot: int | None) -> str | None:
    """A slot as it is shown: A, B, ..."""
    return None if slot is None else chr(ord("A") + slot) if slot < 26 else str(slot)
