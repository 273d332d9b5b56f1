"""Runs of the staging command, their output, and the data they staged."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from aogconsole import times, views
from aogconsole.cli.common import LIMIT, RUN, WHY, Session, as_json, emit, engine_note, say, table
from aogconsole.errors import UsageError
from aogconsole.journal.store import Journal
from aogconsole.text import clean_lines, decode

LONG = 1 << 20
"""Bytes of a line that has not ended that are waited for."""


@click.command("runs")
@LIMIT
@as_json
@click.pass_obj
def runs_command(session: Session, limit: int, *, json_: bool) -> None:
    """List runs of the staging command."""
    found = views.runs(session.reading(), limit)
    if json_:
        emit(found)
        return
    rows = [
        (one["id"], one["request"], one["slot"], one["state"], one["started_at"], one["ended_at"], one["why"])
        for one in found
    ]
    table(("id", "request", "slot", "state", "started", "ended", "why"), rows)


@click.command("run")
@RUN
@as_json
@click.pass_obj
def run_command(session: Session, run: int, *, json_: bool) -> None:
    """Show one run and its milestones."""
    found = views.run(session.reading().fetch("run", run))
    if json_:
        emit(found)
        return
    for key, value in found.items():
        if key not in ("milestones", "token"):
            say(f"{key:14} {'' if value is None else value}")
    if found["state"] == "running":
        say(f"{'phase':14} {_phase(found)}")
    for milestone in found["milestones"]:
        say(f"  {milestone.get('at', '')} {milestone['kind']:16} {milestone['text']}")


def _phase(run: dict[str, Any]) -> str:
    """Where a running run is, and how far by the time that earlier ones took."""
    from aogconsole.staging.transcript import Milestone, progress

    begun = times.parse(run["started_at"])
    usual = [(times.parse(run["expected_end"]) - begun).total_seconds()] if run["expected_end"] else []
    milestones = [Milestone(one["kind"], one["text"], one["values"], one["offset"]) for one in run["milestones"]]
    told = progress(milestones, (times.now() - begun).total_seconds(), usual)
    return told.phase if told.fraction is None else f"{told.phase}, about {told.fraction:.0%}"


@click.command("log")
@RUN
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended.")
@click.option("--raw", is_flag=True, help="The bytes as they came; not to a terminal.")
@click.pass_obj
def log_command(session: Session, run: int, *, follow: bool, raw: bool) -> None:
    """Print a run's terminal output."""
    if raw and sys.stdout.isatty():
        raise UsageError("--raw is not for a terminal", "redirect it into a file")
    journal = session.reading()
    journal.fetch("run", run)
    file = journal.runs / f"{run}.log"
    rest = b""
    for chunk in _following(journal, run, file) if follow else _chunks(file, 0):
        if raw:
            sys.stdout.buffer.write(chunk)
        else:
            lines, rest = _ended(rest + chunk)
            if len(rest) > LONG:
                lines, rest = lines + rest, b""
            click.echo(_shown(lines), nl=False)
        sys.stdout.flush()
    if rest and not raw:
        click.echo(_shown(rest.removesuffix(b"\r")))


def _ended(output: bytes) -> tuple[bytes, bytes]:
    """The lines that have ended, by LF or CR, and the rest; a CR at the very end may be half of a CR LF."""
    end = max(output.rfind(b"\n"), output.rfind(b"\r", 0, -1)) + 1
    return output[:end], output[end:]


def _shown(lines: bytes) -> str:
    """A CR ends a line, as it does for the count of lines: each step of a progress display is one."""
    return clean_lines(decode(lines.replace(b"\r\n", b"\n").replace(b"\r", b"\n")))


def _chunks(file: Path, offset: int) -> Iterator[bytes]:
    if file.exists():
        with file.open("rb") as stream:
            stream.seek(offset)
            while chunk := stream.read(1 << 20):
                yield chunk


def _following(journal: Journal, run: int, file: Path) -> Iterator[bytes]:
    """The file as it grows; the end is when the journal says that the run is over and the file was read after that."""
    import time

    offset = 0
    while True:
        over = journal.fetch("run", run)["state"] not in ("starting", "running")
        for chunk in _chunks(file, offset):
            offset += len(chunk)
            yield chunk
        if over:
            return
        time.sleep(0.2)


@click.command("stop")
@RUN
@WHY
@as_json
@click.pass_obj
def stop_command(session: Session, run: int, why: str, *, json_: bool) -> None:
    """End a run; its request is held."""
    journal, desk = session.desk()
    desk.stop(run, why)
    _told(session, journal, run, f"run {run} will be stopped", json_=json_)


@click.command("staged")
@as_json
@click.pass_obj
def staged_command(session: Session, *, json_: bool) -> None:
    """List staged data with the days that are left."""
    found = views.staged(session.reading(), session.config.settings.policy.timezone)
    if json_:
        emit(found)
        return
    rows = [
        (
            one["run"],
            one["request"],
            one["deleted_on"],
            str(one["days_left"]),
            views.keeping(one, session.config.settings.staging.warn_days),
            one["url"],
        )
        for one in found
    ]
    table(("run", "request", "deleted on", "days left", "", "url"), rows)


@click.command("keep")
@RUN
@click.option("--off", is_flag=True, help="No longer.")
@as_json
@click.pass_obj
def keep_command(session: Session, run: int, *, off: bool, json_: bool) -> None:
    """Keep a run's staged data beyond their day."""
    journal, desk = session.desk()
    desk.keep(run, off=off)
    _told(session, journal, run, f"the data of run {run} will {'no longer ' if off else ''}be kept", json_=json_)


def _told(session: Session, journal: Journal, run: int, sentence: str, *, json_: bool) -> None:
    if json_:
        emit(views.run(journal.fetch("run", run)))
    else:
        say(sentence)
    engine_note(session)
