"""The lines of the re-ingestion panel, for any width and height. Pure: a board and the time in, words out.

A line is a list of parts; where they do not all fit, the last ones give way or (`flowed`) go to the next line.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from rich.cells import cell_len, set_cell_size

from aogconsole.reingestionboard import ACTIVE, HOURS, SERIES, STATES, Entry, QueueState, ReingestionBoard, Runner

Style = Literal["", "bad", "warn", "strong", "dim"]
Part = tuple[str, Style]
PanelLine = list[Part]
DOT: Final = " · "
BLOCKS: Final = " ▁▂▃▄▅▆▇█"
LATE: Final = timedelta(minutes=2)
"""After its time the loader's cycle is overdue."""
ALIVE: Final = timedelta(seconds=60)
"""A runner that was heard of within this time is alive."""
SHORT: Final = {"launch_unknown": "unknown", "do_not_calibrate": "not calibrated"}
"""States whose name is long."""
GIVING_WAY: Final = ("dropped", "do_not_calibrate", "deferred", "done", "launching")
"""States that are left out of the table first, where there is no room for all."""
KINDS: Final = {"execution_block": "execution blocks", "calibration": "calibrations"}
NONE: Final = "None is configured."
MOST_LISTED: Final = 4
"""Lines of a list where others want room too."""
WIDE: Final = 84
"""Columns from which on the chart stands beside the lists."""
BESIDE: Final = 20
"""Columns of a chart beside its bars."""
GAP: Final = 2
LEAST: Final = 10
ROOMY: Final = 9
"""Lines from which on there is more than the summary."""


def panel(board: ReingestionBoard, now: datetime, width: int, height: int) -> list[PanelLine]:
    """What fits into so many columns and lines, what matters most on top."""
    return [_clipped(line, width) for line in _panel(board, now, width, height)[:height]]


def _panel(board: ReingestionBoard, now: datetime, width: int, height: int) -> list[PanelLine]:
    if not board.configured:
        return [[(NONE, "")]]
    told = troubles(board)
    if not board.told:
        return _wrapped(told, width) or [[("The metadata database is being asked.", "dim")]]
    top = [*flowed(summary(board, now), width), *_wrapped(told, width), *flowed(further(board, now), width)]
    if height < ROOMY and len(top) > height:
        lines = [summary(board, now), *told, further(board, now)]
        return [_cut(line, width) if len(line) > 1 else line for line in lines]
    room = height - len(top)
    if width < WIDE:
        sections = [*_lists(board, now, width, room), chart(board, now, width), table(board, width)]
        return [*top, *_stacked(sections, room)]
    right = WIDE if width >= 2 * WIDE else HOURS + BESIDE
    left = width - right - GAP
    lists, drawn = _lists(board, now, left, room), [chart(board, now, right)]
    counts = [table(board, right if right == WIDE else left)]
    one, other = (lists, drawn + counts) if right == WIDE else (lists + counts, drawn)
    return [*top, *_beside(list(_stacked(one, room)), list(_stacked(other, room)), left + GAP)]


def _beside(left: list[PanelLine], right: list[PanelLine], column: int) -> Iterator[PanelLine]:
    """Two columns; the second begins at a column."""
    for number in range(max(len(left), len(right))):
        line = left[number] if number < len(left) else []
        other = right[number] if number < len(right) else []
        blank = " " * (column - sum(cell_len(words) for words, _ in line))
        yield [*line, (blank, ""), *other] if other else line


def _lists(board: ReingestionBoard, now: datetime, width: int, room: int) -> list[list[PanelLine]]:
    """What needs a person, and what runs; what is longer than there is room is shortened."""
    found = [
        listed("need you", board.needy, board.count("dead", "launch_unknown"), now, width),
        listed("running", [one for queue in board.queues for one in queue.running], 0, now, width),
    ]
    return [_shortened(one, max(MOST_LISTED, room // 2 - MOST_LISTED)) for one in found if one]


def _stacked(sections: Sequence[list[PanelLine]], room: int) -> Iterator[PanelLine]:
    """Sections one below the other, those that there is room for, each below a blank line as long as there is."""
    for section in sections:
        if section and len(section) <= room:
            if len(section) < room:
                room -= 1
                yield []
            room -= len(section)
            yield from section


# ── the summary ──────────────────────────────────────────────────────────────────────────────────────────────


def summary(board: ReingestionBoard, now: datetime) -> PanelLine:
    """The queue in one line: loader, what waits, what runs, what needs a person."""
    parts: PanelLine = [_loader(board, now)]
    for number, queue in enumerate(board.queues):
        if number:
            parts.append((queue.name.upper(), "strong"))
        parts += [
            (f"waiting {queue.count('waiting')}", ""),
            (f"queued {queue.count('queued')}", ""),
            (f"running {queue.count(*ACTIVE)}/{queue.limit}", ""),
        ]
        for state, style in (("failed", "warn"), ("deferred", ""), ("dead", "bad"), ("launch_unknown", "bad")):
            if count := queue.count(state):
                sign = " !" if style == "bad" else ""
                parts.append((f"{SHORT.get(state, state)} {count}{sign}", style))  # type: ignore[arg-type]
    return parts


def _loader(board: ReingestionBoard, now: datetime) -> Part:
    last, following = board.loader.last, board.loader.next
    if last is None:
        return "loader never ran", "warn"
    words = f"loader {clock(last, now)}"
    if following is None:
        return words, ""
    if now > following + LATE and not board.paused:
        return f"{words}, overdue since {clock(following, now)}", "warn"
    return f"{words}, next {clock(following, now)}", ""


def further(board: ReingestionBoard, now: datetime) -> PanelLine:
    """The second line: depth, ages, rates, the last event, runners."""
    parts: PanelLine = []
    for number, queue in enumerate(board.queues):
        of = f"{queue.name.upper()} " if number else ""
        parts.append((f"{of}depth {'-' if queue.depth is None else queue.depth}", "dim" if queue.depth is None else ""))
        if queue.letters:
            parts.append((f"{of}dead letters {queue.letters}", "warn"))
        if queue.oldest is not None:
            parts.append((f"{of}oldest waits {span(now - queue.oldest)}", ""))
    lately = [sum(queue.hours[-1][place] + queue.hours[-2][place] for queue in board.queues if len(queue.hours) > 1)
              for place in range(len(SERIES))]  # fmt: skip
    minutes = 60 + now.minute
    rates = " ".join(f"{name} {round(count * 60 / minutes)}/h" for name, count in zip(SERIES, lately, strict=True)
                     if count or name != "failed")  # fmt: skip
    parts.append((rates, ""))
    parts.append((f"last event {clock(board.heard, now)}" if board.heard else "no event yet", ""))
    parts.append(_runners(board.runners, now, waits=bool(board.count("waiting", "queued"))))
    return parts


def _runners(runners: Sequence[Runner], now: datetime, *, waits: bool) -> Part:
    live = [one for one in runners if one.state != "stopped" and now - one.seen < ALIVE]
    if live:
        troubled = next((one.trouble for one in live if one.trouble), "")
        words = f"{len(live)} runner{'s' if len(live) > 1 else ''}"
        return (f"{words}: {troubled}", "warn") if troubled else (words, "")
    return "no runner", "warn" if waits else "dim"


def troubles(board: ReingestionBoard) -> list[PanelLine]:
    """Who paused it, and what is broken: a line each."""
    paused: list[PanelLine] = [[(f"PAUSED by {board.paused}", "warn")]] if board.paused else []
    return [*paused, *([(f"! {name}: {why}", "bad")] for name, why in board.broken.items())]  # type: ignore[list-item]


# ── what is below it ─────────────────────────────────────────────────────────────────────────────────────────


def listed(head: str, entries: Sequence[Entry], count: int, now: datetime, width: int) -> list[PanelLine]:
    """Items, a line each, below a head; `count`: how many there are of them altogether."""
    if not entries:
        return []
    lines: list[PanelLine] = [[(f"{max(count, len(entries))} {head}", "strong")]]
    for one in entries:
        style: Style = "bad" if one.state in ("dead", "launch_unknown") else ""
        age = span(now - one.since) if one.since else "-"
        kind = {"execution_block": "EB", "calibration": "cal"}.get(one.kind, one.kind)
        tries = f"attempt {one.attempt}" if one.attempt > 1 else ""
        cells = [f"{one.id:>6}", f"{kind:3}", set_cell_size(one.uid, 24 if cell_len(one.uid) <= 24 else 36),
                 f"{SHORT.get(one.state, one.state):8}", f"{age:>6}"]  # fmt: skip
        rest = DOT.join(word for word in (one.why, tries, one.project, one.where) if word)
        lines.append([(_fit("  ".join([*cells, rest]).rstrip(), width), style)])
    return lines


def _shortened(lines: list[PanelLine], most: int) -> list[PanelLine]:
    """A head and at most so many lines; what is left out is told in the head."""
    if len(lines) - 1 <= most:
        return lines
    (head, style), *_ = lines[0]
    return [[(f"{head}, the first {most}", style)], *lines[1 : most + 1]]


def table(board: ReingestionBoard, width: int) -> list[PanelLine]:
    """Counts by kind and state."""
    rows = [(queue, kind) for queue in board.queues for kind in dict.fromkeys(kind for kind, _, _ in queue.counts)]
    numbers = {(queue.name, kind, state): n for queue in board.queues for kind, state, n in queue.counts}
    states = [state for state in STATES if any(one[2] == state for one in numbers)]
    while len(states) > 1 and 20 + sum(len(SHORT.get(one, one)) + 2 for one in states) > width:
        states.remove(next((one for one in GIVING_WAY if one in states), states[-1]))
    if not rows:
        return [[("No item has been found yet.", "dim")]]
    names = [_row_name(queue, kind) for queue, kind in rows]
    first = max(map(len, names))
    heads = [SHORT.get(state, state) for state in states]
    lines = [" " * first + "".join(f"  {head}" for head in heads)]
    for (queue, kind), name in zip(rows, names, strict=True):
        cells = [f"{numbers.get((queue.name, kind, state), 0):{max(len(head), 1)}}"
                 for state, head in zip(states, heads, strict=True)]  # fmt: skip
        lines.append(f"{name:{first}}" + "".join(f"  {cell}" for cell in cells))
    return [[(_fit(line, width), "dim" if not number else "")] for number, line in enumerate(lines)]


def _row_name(queue: QueueState, kind: str) -> str:
    return f"{queue.name.upper() + ' ' if queue.name != 'alma' else ''}{KINDS.get(kind, kind)}"


def chart(board: ReingestionBoard, now: datetime, width: int) -> list[PanelLine]:
    """What was found, sent and done in each of the last hours, all on one scale; and the hours below."""
    each = 3 if width >= HOURS * 3 + 24 else 2 if width >= HOURS * 2 + 22 else 1
    if width < HOURS + 20:
        return []
    sums = [[sum(queue.hours[hour][place] for queue in board.queues if queue.hours) for hour in range(HOURS)]
            for place in range(len(SERIES))]  # fmt: skip
    most = max(map(max, sums))
    lines: list[PanelLine] = []
    for name, numbers in zip(SERIES, sums, strict=True):
        if name == "failed" and not any(numbers):
            continue
        bars = "".join(_bar(number, most) * each for number in numbers)
        lines.append([(f"{name:7}{bars} {sum(numbers)}", "bad" if name == "failed" else "")])
    lines.append([(_fit("hour   " + _axis(now, each) + f" highest {most}/h", width), "dim")])
    return lines


def _bar(number: int, most: int) -> str:
    """One hour of a series; the least that is not none is seen."""
    if not number or not most:
        return BLOCKS[0]
    return BLOCKS[max(1, round(number / most * (len(BLOCKS) - 1)))]


def _axis(now: datetime, each: int) -> str:
    """The hour of the day below every third or fourth column."""
    every = 4 if each == 1 else 3
    cells = [" "] * (HOURS * each)
    for hour in range(0, HOURS - 1, every):
        begins = (now.hour - (HOURS - 1 - hour)) % 24
        cells[hour * each : hour * each + 2] = f"{begins:02}"
    return "".join(cells)


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────


def flowed(parts: PanelLine, width: int) -> list[PanelLine]:
    """Parts with dots between them, on as many lines as they need."""
    lines: list[PanelLine] = []
    used = 0
    for words, style in parts:
        need = cell_len(words)
        if lines and used + len(DOT) + need <= width:
            lines[-1] += [(DOT, "dim"), (words, style)]
            used += len(DOT) + need
        else:
            lines.append([(_fit(words, width), style)])
            used = need
    return lines


def _cut(parts: PanelLine, width: int) -> PanelLine:
    """Those that fit on one line. What needs a person is never left out for what does not."""
    order = sorted(range(len(parts)), key=lambda place: (parts[place][1] not in ("bad", "warn"), place))
    kept: set[int] = set()
    for place in order:
        whole = [parts[one] for one in sorted({*kept, place})]
        if sum(cell_len(words) for words, _ in whole) + len(DOT) * (len(whole) - 1) <= width:
            kept.add(place)
    line: PanelLine = []
    for place in sorted(kept):
        line += [(DOT, "dim"), parts[place]] if line else [parts[place]]
    return line


def _wrapped(lines: Sequence[PanelLine], width: int) -> list[PanelLine]:
    """Long reasons on up to three lines each."""
    found: list[PanelLine] = []
    for [(words, style)] in lines:
        rows = textwrap.wrap(words, max(width, LEAST))
        found += [[(row, style)] for row in [*rows[:2], " ".join(rows[2:])] if row]
    return found


def _clipped(line: PanelLine, width: int) -> PanelLine:
    """No longer than the panel is wide."""
    if sum(cell_len(words) for words, _ in line) <= width:
        return line
    kept: PanelLine = []
    for words, style in line:
        room = width - sum(cell_len(one) for one, _ in kept)
        kept.append((_fit(words, room), style))
        if cell_len(words) > room:
            break
    return kept


def _fit(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…" if width > 0 else ""


def clock(time: datetime, now: datetime) -> str:
    """`13:30` of today and the next hours; another day with its date."""
    near = abs(time - now) < timedelta(hours=20)
    return time.strftime("%H:%M" if near else "%m-%d %H:%M")


def span(time: timedelta) -> str:
    """`40 s`, `12 m`, `2 h 05`, `3 d`."""
    seconds = max(int(time.total_seconds()), 0)
    if seconds < 100:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 100:
        return f"{minutes} m"
    return f"{minutes // 60} h {minutes % 60:02}" if minutes < 60 * 72 else f"{minutes // 1440} d"
