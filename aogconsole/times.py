"""Times as the journal and the contract have them: ISO 8601, UTC, whole seconds, `Z`."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The wall clock, aware UTC, whole seconds. For what is written down; durations use the monotonic clock."""
    return datetime.now(UTC).replace(microsecond=0)


def text(time: datetime) -> str:
    """`2026-11-21T14:02:11Z`."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(written: str) -> datetime:
    """The reverse of `text`; takes any ISO 8601 time, UTC where it names no zone. Raises ValueError."""
    time = datetime.fromisoformat(written)
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{written} is beyond the calendar in UTC") from None


def now_text() -> str:
    """The wall clock as text."""
    return text(now())


def day(time: datetime, zone: str) -> str:
    """The calendar day, `YYYY-MM-DD`, that a time falls on in a time zone."""
    from zoneinfo import ZoneInfo

    return time.astimezone(ZoneInfo(zone)).date().isoformat()
