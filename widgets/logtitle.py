"""The title of a log pane: what is in a staging slot, where it is, and until when; and why there are no lines in it."""

from __future__ import annotations

from datetime import datetime, timedelta

from textual.content import Content

from aogconsole.board import Slot
from widgets.logtext import LogText, Matches


def title(slot: Slot, now: datetime) -> Content:
    """`A · #20001 uid___A001_X1590_X30ac · generating 41 % ~1 h 10`; trouble with a `!`, and in the error colour."""
    if slot.run is None:
        return Content(" · ".join(word for word in (slot.name, "free", slot.next and f"next {slot.next}") if word))
    head = f"{slot.name or f'run {slot.run}'} · #{slot.ticket or slot.request} {slot.mous}".rstrip()
    if slot.active:
        return Content(f"{head} · {_under_way(slot, now)}")
    if slot.trouble:
        ended = f"! {slot.state}" + (f": {slot.why}" if slot.why else "")
        return Content.assemble(f"{head} · ", (ended, "$error bold"))
    return Content(f"{head} · {slot.state}{_took(slot)}{_free(slot)}")


def note(slot: Slot, text: LogText | None, found: Matches | None) -> str:
    """Why there are no lines; `found` are those of the filter."""
    if text and text.trouble:
        return f"! the log cannot be read: {text.trouble}"
    if text is None:
        return "no output" if slot.run is not None else "free"
    if not text.ready:
        return "reading ..."
    if text.end == text.first:
        return "no output yet" if slot.active or slot.run is None else "no output"
    return "no line is let through by the filter" if found and found.done else "filtering ..."


def _free(slot: Slot) -> str:
    return f" · next {slot.next}" if slot.next else ""


def _took(slot: Slot) -> str:
    return f" in {duration(slot.ended_at - slot.started_at)}" if slot.started_at and slot.ended_at else ""


def _under_way(slot: Slot, now: datetime) -> str:
    """The phase in words, how much of the usual time has gone, and how much is left."""
    phase = slot.phase or slot.state
    if slot.started_at is None:
        return phase
    elapsed = max(now - slot.started_at, timedelta())
    if slot.expected_end is None or slot.expected_end <= slot.started_at:
        return f"{phase} since {duration(elapsed)}"
    left = slot.expected_end - now
    if left <= timedelta():
        over = f" by {duration(-left)}" if left <= -timedelta(minutes=1) else ""
        return f"{phase}, longer than usual{over}"
    fraction = min(elapsed / (slot.expected_end - slot.started_at), 0.99)
    return f"{phase} {fraction:.0%} ~{duration(left)}".replace("%", " %")


def duration(span: timedelta) -> str:
    """`1 h 10`, `25 min`, `40 s`."""
    seconds = max(int(span.total_seconds()), 0)
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes:02}" if hours else f"{minutes} min"
