"""The shift's summary: what needs a person, what goes on, what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap
from typing import Any

from aogconsole import views
from aogconsole.journal.store import Journal
from aogconsole.text import clean, columns

COLUMNS = ("id", "ticket", "mous", "state", "next_action")
ENDED = ("succeeded", "failed", "unclear", "lost", "stopped")
"""How a run may have ended."""
WIDTH = 76
"""Columns of a page in a terminal of 80: what is longer goes on in a line below, set off."""


def summary(journal: Journal, since: str, zone: str, warn_days: int) -> dict[str, Any]:
    """The contract's document, from a time on (`times.text`). Data deleted within `warn_days` are told of."""
    still = views.request_lines(journal, limit=0)
    told = views.history(journal, since=since, limit=views.ALL)
    rows = [row for row in told if row["from"] != row["to"]]
    return {
        "since": since,
        "needs_you": [_short(one) for one in still if one["next_action"] != "wait"],
        "goes_on": [_short(one) for one in still if one["next_action"] == "wait"],
        "closed": list(dict.fromkeys(row["id"] for row in rows if row["kind"] == "request" and row["to"] == "closed")),
        "sent": [row["id"] for row in rows if row["kind"] == "letter" and row["to"] == "sent"],
        "runs": [{"run": row["id"], "state": row["to"]} for row in rows if row["kind"] == "run" and row["to"] in ENDED],
        "replies": [{"request": row["id"], "mail": str(row["data"]["mail"])} for row in told if row["verb"] == "reply"],
        "deleted_soon": [
            one for one in views.staged(journal, zone) if one["days_left"] <= warn_days and not one["kept"]
        ],
        "paused": journal.meta("paused") or None,
        "connections": [
            {"name": row["name"], "ok": bool(row["ok"]), "detail": row["detail"] or None, "since": row["since"]}
            for row in journal.all("select * from connection order by name")
        ],
    }


def lines(summary: Mapping[str, Any], more: Iterable[str] = ()) -> Iterator[str]:
    """The summary as lines of text, safe for a terminal; `more`: sentences of what else needs a person."""
    closed, sent = len(summary["closed"]), len(summary["sent"])
    ended = Counter(one["state"] for one in summary["runs"])
    done = f"{closed} request{'s' * (closed != 1)} closed, {sent} letter{'s' * (sent != 1)} sent"
    yield f"Since {summary['since']}: {done}"
    yield "Runs: " + ", ".join(f"{ended[state]} {state}" for state in ENDED if ended[state] or state in ENDED[:2])
    for head, key in (("Needs you", "needs_you"), ("Goes on", "goes_on")):
        yield f"{head}:" if summary[key] else f"{head}: no request."
        yield from _table(summary[key])
        if key == "needs_you":
            for sentence in more:
                yield from _folded(sentence)
    for one in summary["replies"]:
        yield from _folded(
            f"Request {one['request']} was replied to, with mail {one['mail']}: `aogconsole show {one['request']}`"
        )
    for one in summary["deleted_soon"]:
        yield from _folded(
            f"The data of run {one['run']} (request {one['request']}) will be deleted on {one['deleted_on']}"
        )
    for one in summary["connections"]:
        if not one["ok"]:
            yield from _folded(f"{one['name']} does not answer since {one['since']}: {one['detail']}")


def _table(found: list[Mapping[str, Any]]) -> Iterator[str]:
    """Requests, each with its reason below it."""
    if found:
        head, *rows = columns(COLUMNS, [[one[column] for column in COLUMNS] for one in found])
        yield head
        for row, one in zip(rows, found, strict=True):
            yield row
            if one["why"]:
                yield from _folded(f"    {one['why']}")


def _folded(text: str) -> list[str]:
    return wrap(clean(text), WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def _short(one: Mapping[str, object]) -> dict[str, object]:
    return {key: one[key] for key in ("id", "ticket", "mous", "state", "why", "next_action", "claimed_by")}
