"""Looking at the journal: its rows as the contract's JSON documents (design section 5), and lists of them.

Lists are bounded: everything open, and the newest of what is closed, so that a journal of many years costs no
more to look at than a new one.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from aogconsole import times
from aogconsole.journal.store import Journal, statement
from aogconsole.requests.request import State, next_action

NEWEST = 1000
"""How many closed (or otherwise finished) ones a list shows unless told otherwise."""
ALL = -1
# Statements of open ones repeat `state <> 'closed'`, the condition of their partial index. A `+` keeps SQLite from
# walking the whole table only because that is in the wanted order.
INDEXED = 3
"""Characters that the text index needs to find anything."""
FOUND = "request_text join request on request.id = request_text.rowid"
HAS_TEXT = r"(select text from request_text where rowid = request.id) like ? escape '\'"
_UID = re.compile(r"uid(?:://|___)[^\s]*", re.IGNORECASE)


def request(row: Any) -> dict[str, Any]:
    """One request, from a row of requests.sql."""
    return {
        "id": str(row["id"]),
        "version": row["version"],
        "state": row["state"],
        "why": row["why"] or row["letter_why"] or None,
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
        "next_action": _next_action(row),
        "position": row["place"],
        "run": text_id(row["run"]),
        "letters": row["letters"].split(",") if row["letters"] else [],
        "url": row["url"],
        "notes": json.loads(row["notes"]) if row["notes"] else [],
        "claimed_by": row["claimed_by"],
        "mail": str(row["mail"]),
    }


def requests(
    journal: Journal, *, state: str = "", ticket: str = "", search: str = "", limit: int = NEWEST
) -> list[dict[str, Any]]:
    """Requests: all open ones in the order they came, then the newest closed ones."""
    return [request(row) for row in _rows(journal, "requests", state, ticket, search, limit)]


def request_lines(
    journal: Journal, *, state: str = "", ticket: str = "", search: str = "", limit: int = NEWEST
) -> list[dict[str, Any]]:
    """The same, with no more than what stands in a line of a list: a tenth of the work."""
    return [
        {
            "id": str(row["id"]),
            "ticket": row["ticket"],
            "mous": row["mous"],
            "state": row["state"],
            "received_at": row["received_at"],
            "why": row["why"] or row["letter_why"] or None,
            "next_action": _next_action(row),
            "position": row["place"],
            "claimed_by": row["claimed_by"],
        }
        for row in _rows(journal, "request_lines", state, ticket, search, limit)
    ]


def _next_action(row: Any) -> str | None:
    return next_action(State(row["state"]), row["verdict"], put_aside=row["before_hold"] is not None)


def _rows(journal: Journal, columns: str, state: str, ticket: str, search: str, limit: int) -> Iterator[Any]:
    where, values = ["1"], []
    if ticket:
        where.append("request.ticket = ?")
        values.append(ticket.removeprefix("#"))
    if state != State.CLOSED:
        yield from reversed(_open(journal, columns, state, search, [*where], [*values]))
    if state in ("", State.CLOSED):
        yield from _closed(journal, columns, search, where, values, limit)


def _open(
    journal: Journal, columns: str, state: str, search: str, where: list[str], values: list[Any]
) -> list[sqlite3.Row]:
    where.append("request.state <> 'closed'")
    if state:
        where.append("request.state = ?")
        values.append(state)
    if search:
        condition, texts = has_text(search)
        where.append(condition)
        values += texts
    return journal.all(_select(columns, where, order="+request.id"), *values, ALL)


def _closed(
    journal: Journal, columns: str, search: str, where: list[str], values: list[Any], limit: int
) -> list[sqlite3.Row]:
    """A text is looked up in its index, from the newest on; too short for that, it is looked for in the newest."""
    where.append("request.state = 'closed'")
    if indexed(search) and len(values) == 0:
        where.append("request_text match ?")
        return journal.all(_select(columns, where, FOUND, "request_text.rowid"), match(search), limit)
    if search:
        if not values:
            where.append("request.id in (select id from request where state = 'closed' order by id desc limit ?)")
            values.append(NEWEST)
        condition, texts = has_text(search)
        where.append(condition)
        values += texts
    return journal.all(_select(columns, where), *values, limit)


def _select(columns: str, where: list[str], source: str = "request", order: str = "request.id") -> str:
    return f"{statement(columns)} from {source} where {' and '.join(where)} order by {order} desc limit ?"


def spelled(text: str) -> tuple[str, ...]:
    """How a text may be spelled where it is searched: `#N` stands there as `N`, a UID in either of its spellings."""
    if re.fullmatch(r"#\d+", text):
        return (text[1:],)
    if _UID.fullmatch(text):
        words = re.split("[/_]", text[6:])
        return "uid___" + "_".join(words), "uid://" + "/".join(words)
    return (text,)


def indexed(text: str) -> bool:
    """Whether the index of texts can find it."""
    return len(spelled(text)[0]) >= INDEXED


def match(text: str) -> str:
    """A text as the index is asked for it."""
    return " OR ".join('"' + one.replace('"', '""') + '"' for one in spelled(text))


def has_text(text: str) -> tuple[str, list[str]]:
    """The condition that a request has a text, and its operands."""
    operands = [like(one) for one in spelled(text)]
    return f"({' or '.join([HAS_TEXT] * len(operands))})", operands


def like(text: str) -> str:
    """A text as an operand of `like` with `\\` as its escape character."""
    for special in "\\%_":
        text = text.replace(special, "\\" + special)
    return f"%{text}%"


def one_request(journal: Journal, ident: int) -> dict[str, Any]:
    """One request by id. Raises UsageError."""
    journal.fetch("request", ident)
    return request(journal.all(_select("requests", ["request.id = ?"]), ident, 1)[0])


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
    columns = "id, version, request, kind, draft, state, message_id, why, next_try, sent_at"  # not the bytes
    return [
        letter(row) for row in reversed(journal.all(f"select {columns} from letter order by id desc limit ?", limit))
    ]


def named(journal: Journal, found: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Ticket and MOUS of the request of each of these documents (of runs, letters, mails); empty where unknown."""
    wanted = json.dumps([int(one["request"]) for one in found if one["request"]])
    rows = journal.all("select id, ticket, mous from request where id in (select value from json_each(?))", wanted)
    names = {str(row["id"]): (row["ticket"] or "", row["mous"] or "") for row in rows}
    return [names.get(one["request"], ("", "")) for one in found]


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


def staged(journal: Journal, zone: str) -> list[dict[str, Any]]:
    """The staged data that are still there, those to be deleted first in front."""
    today = date.fromisoformat(times.day(times.now(), zone))
    return [
        {
            "run": str(row["id"]),
            "request": str(row["request"]),
            "url": row["url"],
            "deleted_on": row["deleted_on"],
            "days_left": (date.fromisoformat(row["deleted_on"]) - today).days,
            "kept": bool(row["kept"]),
        }
        for row in journal.all("select * from run where deleted_on is not null and gone = 0 order by deleted_on, id")
    ]


def keeping(one: Mapping[str, Any], warn_days: int) -> str:
    """A word on whether staged data stay: `kept`, or `soon` when they are deleted within `warn_days`."""
    if one["kept"]:
        return "kept"
    return "soon" if one["days_left"] <= warn_days else ""


def history(journal: Journal, entity: int | None = None, since: str = "", limit: int = NEWEST) -> list[dict[str, Any]]:
    """The audit trail, oldest first: of one request with its mail, run and letters, or of everything."""
    where, values = ["1"], []
    if since:
        where.append("at >= ?")
        values.append(since)
    if entity is not None:
        journal.fetch("request", entity)
        where.append("""entity in (select ? union all select mail from request where id = ?
            union all select id from run where request = ? union all select id from letter where request = ?)""")
        values += [entity] * 4  # type: ignore[list-item]
    order = "+seq" if values else "seq"
    sql = f"select * from history where {' and '.join(where)} order by {order} desc limit ?"
    rows = journal.all(sql, *values, limit)
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
