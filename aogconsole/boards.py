"""Reading a board from the journal: what is on the screen, bounded whatever the journal holds.

The list has what needs a person first, oldest on top, then what goes on by itself. With a filter closed requests
are found too, the newest first. Costs grow with `Query.limit`, not with the journal.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from aogconsole import times, views
from aogconsole.board import Act, Board, Detail, LetterLine, Light, Line, Mark, Query, Slot
from aogconsole.engine.lock import EngineLock
from aogconsole.journal.store import Journal, statement
from aogconsole.mailroom import parsed_mail
from aogconsole.requests.request import OPEN, State, next_action
from aogconsole.settings import Settings
from aogconsole.staging.transcript import Milestone, progress
from aogconsole.text import clean, clean_lines

LIGHTS = ("staging", "archive", "mail", "outgoing")
NEEDY = frozenset({State.ENTITLED, State.REFUSED, State.STAGED, State.FAILED, State.HELD, State.UNCLEAR})
"""States that wait for a person, unless a letter of theirs is on its way."""
ACTIVE = ("starting", "running")
LETTER_GOES = ("approved", "sending")
FEW = 2000
"""So many open requests are searched one by one; more by the index."""
LATELY = 200
"""So many runs back a slot's last one is looked for."""
MOST_ACTS = 40
MAIL_CHARACTERS = 100_000


def read(journal: Journal, settings: Settings, query: Query) -> Board:
    """The board as it is now. Raises StorageError."""
    counts = _counts(journal)
    lines = tuple(_lines(journal, query, sum(counts.values())))
    found = {line.id: line for line in lines}
    holder, pid = engine(journal)
    return Board(
        query=query,
        lines=lines,
        left_out=_left_out(query, lines, sum(counts.values())),
        open=sum(counts.values()),
        needs=_needs(journal, counts),
        detail=_detail(journal, query.selected, found),
        slots=tuple(_slots(journal, settings.staging.slots)),
        lights=tuple(_lights(journal, settings)),
        engine=holder,
        engine_pid=pid,
        paused=clean(journal.meta("paused")),
        acts=tuple(_acts(journal)),
    )


def searched(journal: Journal, board: Board, query: Query) -> Board:
    """The same board with other lines: in a journal that has not changed all else is as it was."""
    lines = tuple(_lines(journal, query, board.open))
    detail = _detail(journal, query.selected, {line.id: line for line in lines})
    return replace(board, query=query, lines=lines, left_out=_left_out(query, lines, board.open), detail=detail)


def turned(journal: Journal, board: Board, query: Query) -> Board:
    """The same board with another request selected: all that is read is that one."""
    return replace(board, query=query, detail=_detail(journal, query.selected, {line.id: line for line in board.lines}))


def engine(journal: Journal) -> tuple[str, int | None]:
    """Who holds the engine lock, and its process here."""
    lock = EngineLock(journal.path)
    return lock.holder(), lock.holder_pid()


# ── the list ─────────────────────────────────────────────────────────────────────────────────────────────────


def _counts(journal: Journal) -> Mapping[str, int]:
    """Open requests by state."""
    rows = journal.all("select state, count(*) from request where state <> 'closed' group by state")
    return {row[0]: row[1] for row in rows}


def _needs(journal: Journal, counts: Mapping[str, int]) -> int:
    """How many wait for a person: those in such a state, less those whose letter is on its way."""
    going = journal.all(
        "select count(*) from letter join request on request.id = letter.request"
        " where letter.state in ('draft', 'approved', 'sending') and letter.state <> 'draft'"  # the index's words
        " and request.state in ('refused', 'staged', 'failed')"
    )
    return sum(count for state, count in counts.items() if state in NEEDY) - int(going[0][0])


def _left_out(query: Query, lines: Sequence[Line], open_: int) -> int:
    return 0 if query.text else max(0, open_ - len(lines))


def _lines(journal: Journal, query: Query, open_: int) -> Iterator[Line]:
    if query.text:
        wanted = _found(journal, query, open_)
    else:
        wanted = [*_oldest(journal, NEEDY, query.limit), *_oldest(journal, OPEN - NEEDY, query.limit)][: query.limit]
    if query.selected is not None and not query.text:
        wanted.append(query.selected)  # what is selected stays in sight when it is closed, or beyond the limit
    return iter(_read_lines(journal, wanted))


def _oldest(journal: Journal, states: Iterable[State], limit: int) -> list[int]:
    """Ids of the oldest open ones in some states: a merge of what the index has in order for each."""
    each = [
        [row[0] for row in journal.all(
            "select id from request where state <> 'closed' and state = ? order by id limit ?", state, limit
        )]
        for state in states
    ]  # fmt: skip
    return list(heapq.merge(*each))[:limit]


def _found(journal: Journal, query: Query, open_: int) -> list[int]:
    """Ids of the requests with a text: open ones, then the newest closed ones."""
    text = query.text
    if views.indexed(text) and open_ > FEW:
        rows = journal.all(
            f"select request.id from {views.FOUND} where request.state <> 'closed' and request_text match ?"
            " order by request_text.rowid limit ?",
            views.match(text), query.limit,
        )  # fmt: skip
    else:
        condition, operands = views.has_text(text)
        rows = journal.all(
            "select id from request where id in"
            " (select id from request where state <> 'closed' order by +id desc limit ?)"
            f" and {condition} order by id limit ?",
            FEW, *operands, query.limit,
        )  # fmt: skip
    closed = views.request_lines(journal, state=State.CLOSED, search=text, limit=query.limit - len(rows))
    return [*(row[0] for row in rows), *(int(one["id"]) for one in closed)]


def _read_lines(journal: Journal, wanted: list[int]) -> list[Line]:
    wanted = list(dict.fromkeys(wanted))
    rows = {row["id"]: row for row in journal.all(statement("board_lines"), json.dumps(wanted))}
    queue = journal.all(
        "select id from request where state <> 'closed' and state = 'queued' order by position, id limit ?", len(rows)
    )
    places = {row[0]: place for place, row in enumerate(queue, 1)}
    together = Counter(row["ticket"] for row in rows.values())
    lines = [_line(rows[ident], places.get(ident), together) for ident in wanted if ident in rows]
    return sorted(lines, key=lambda line: (not line.needs, line.state == State.CLOSED))


def _line(row: Any, place: int | None, together: Mapping[str | None, int]) -> Line:
    state = State(row["state"])
    goes = row["live_state"] in LETTER_GOES and state in (State.REFUSED, State.STAGED, State.FAILED)
    action = next_action(state, row["verdict"], put_aside=row["before_hold"] is not None)
    return Line(
        id=row["id"],
        version=row["version"],
        state=state.value,
        ticket=clean(row["ticket"] or ""),
        mous=clean(row["mous"] or ""),
        received_at=times.parse(row["received_at"]),
        next_action="wait" if goes else action or "",
        why=clean(row["why"] or row["live_why"] or ""),
        needs=state in NEEDY and not goes,
        position=place,
        slot=views.slot_name(row["slot"]) or "",
        letter=row["letter"],
        letter_state=row["live_state"] or "",
        run=row["run"],
        claimed_by=clean(row["claimed_by"] or ""),
        entitled=row["verdict"] == "entitled",
        complete=all(row[name] for name in ("mous", "project", "account", "ticket")),
        doubt=clean(row["doubt"] or ""),
        siblings=together[row["ticket"]] if row["ticket"] else 1,
    )


# ── the selected request ─────────────────────────────────────────────────────────────────────────────────────


def _detail(journal: Journal, selected: int | None, lines: Mapping[int, Line]) -> Detail | None:
    if selected is None or selected not in lines:
        return None
    fields = views.one_request(journal, selected)
    mail = parsed_mail(journal, int(fields["mail"]))
    letters = journal.all(
        "select id, version, kind, state, why, sent_at from letter where request = ? order by id", selected
    )
    return Detail(
        line=lines[selected],
        fields=_cleaned(fields),
        letters=tuple(
            LetterLine(row["id"], row["version"], row["kind"], row["state"], clean(row["why"]), row["sent_at"] or "")
            for row in letters
        ),
        sender=clean(mail.from_address),
        subject=clean(mail.subject),
        text=clean_lines(mail.text[:MAIL_CHARACTERS]),
    )


def _cleaned(value: Any) -> Any:
    """A JSON document with every text in it safe for a terminal; line ends stay."""
    match value:
        case str():
            return clean_lines(value)
        case list():
            return [_cleaned(one) for one in value]
        case dict():
            return {key: _cleaned(one) for key, one in value.items()}
        case _:
            return value


# ── slots, lights, deeds ─────────────────────────────────────────────────────────────────────────────────────


def _slots(journal: Journal, count: int) -> Iterator[Slot]:
    newest = f"select id, slot from run order by id desc limit {LATELY}"
    last = f"select * from run where id = (select max(id) from ({newest}) where slot = ?)"
    rows = [journal.one(last, slot) for slot in range(count)]
    starting = journal.all("select * from run where state in ('starting', 'running') and slot is null")
    queue = journal.all(
        "select id, ticket, mous from request where state <> 'closed' and state = 'queued'"
        " order by position, id limit ?",
        count,
    )
    for slot, row in enumerate(rows):
        free = row is None or row["state"] not in ACTIVE
        shown = starting.pop(0) if free and starting else row
        waits = queue.pop(0) if queue and (shown is None or shown["state"] not in ACTIVE) else None
        words = f"#{waits['ticket']} {waits['mous']}" if waits is not None else ""
        yield slot_of(journal, views.slot_name(slot) or "", shown, clean(words))


def slot_of(journal: Journal, name: str, row: Any, following: str = "") -> Slot:
    """A run as a slot's pane shows it."""
    if row is None:
        return Slot(name, next=following)
    marks = json.loads(row["milestones"])
    return Slot(
        name=name,
        run=row["id"],
        request=row["request"],
        ticket=clean(row["ticket"]),
        mous=clean(row["mous"]),
        state=row["state"],
        why=clean(row["why"]),
        phase=progress(
            (Milestone(one["kind"], one["text"], one["values"], one["offset"]) for one in marks), 0, []
        ).phase,
        started_at=_time(row["started_at"]),
        ended_at=_time(row["ended_at"]),
        expected_end=_time(row["expected_end"]),
        marks=tuple(Mark(one["kind"], clean(one["text"]), one["offset"]) for one in marks),
        log=journal.runs / f"{row['id']}.log",
        next=following,
    )


def _time(written: str | None) -> datetime | None:
    return times.parse(written) if written else None


def _lights(journal: Journal, settings: Settings) -> Iterator[Light]:
    known = {row["name"]: row for row in journal.all("select * from connection")}
    given = {"staging": settings.staging.host, "archive": settings.archive.dsn, "mail": settings.mail.inbox}
    for name in LIGHTS:
        row = known.get(name)
        if not given.get(name, settings.mail.outgoing):
            yield Light(name, None, "not configured")
        elif row is None:
            yield Light(name, None, "not tried yet")
        else:
            yield Light(name, bool(row["ok"]), clean(row["detail"] or ""), row["since"])
    broken = known.get("retention")
    if broken is not None and not broken["ok"]:
        yield Light("retention", False, clean(broken["detail"]), broken["since"])


def _acts(journal: Journal) -> Iterator[Act]:
    for row in views.history(journal, limit=MOST_ACTS):
        changed = row["kind"] == "request" and row["from"] != row["to"]
        request, target = (int(row["id"]), row["to"] or "") if changed else (None, "")
        yield Act(row["seq"], row["at"], clean(row["who"]), in_words(row), row["verb"], request, target)


def in_words(row: Mapping[str, Any]) -> str:
    """A row of the history (views.history) as one line of text."""
    change = f" {row['from'] or '-'} -> {row['to']}" if row["from"] != row["to"] else ""
    why = f": {row['why']}" if row["why"] else ""
    return clean(f"{row['kind']} {row['id'] or ''} {row['verb']}{change}{why}".replace("  ", " "))


def mail_lines(journal: Journal, mail: int) -> list[str]:
    """A mail as it was read, as lines. Raises UsageError."""
    row, parsed = journal.fetch("mail", mail), parsed_mail(journal, mail)
    heads = {
        "From": parsed.from_address, "To": ", ".join(parsed.to), "Cc": ", ".join(parsed.cc), "Subject": parsed.subject,
        "Message-ID": parsed.message_id, "Received": row["received_at"],
        "Became": f"{row['result']}" + (f" {row['request']}" if row["request"] else ""), "Why": row["why"],
    }  # fmt: skip
    shown = [f"{name + ':':12}{clean(value or '')}" for name, value in heads.items() if value]
    return [*shown, "", *clean_lines(parsed.text[:MAIL_CHARACTERS]).split("\n")]
