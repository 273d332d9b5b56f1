"""`demo`: the console, or a day without a screen, on the embedded site."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from aogconsole.cli.common import Session, as_json, emit, say, table
from aogconsole.config import ENVIRONMENT
from aogconsole.demo.site import DemoSite
from aogconsole.errors import UsageError
from aogconsole.text import clean

WELCOME = "A sample day: enter does what comes next, ? tells all keys, q quits."


@click.command("demo")
@click.option("--headless", is_flag=True, help="Work the sample day to its end without a screen; exit 1 on a surprise.")
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Keep the site in this folder, and go on there.")
@click.option(
    "--speed",
    metavar="N",
    type=click.FloatRange(0.1, 1000),
    default=1.0,
    show_default=True,
    help="Runs and mail N times as fast.",
)
@as_json
@click.pass_obj
def demo_command(session: Session, folder: Path | None, speed: float, *, headless: bool, json_: bool) -> int:
    """Try the console on an embedded site: a sample day, real SSH, Oracle Net and Maildirs on loopback."""
    if session.config_file:
        raise UsageError("the demo makes a configuration of its own", "leave --config out")
    if json_ and not headless:
        raise UsageError("--json is for --headless", "add it, or leave --json out")
    if headless and session.read_only:
        raise UsageError("with --read-only nothing may be changed", "leave it out")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))  # so that the site is cleared away
    with _undisturbed(), DemoSite(folder, speed=speed, at_once=headless, reingestion=True) as site:
        inside = Session(site.config, read_only=session.read_only)
        if headless:
            return _headless(inside, site, speed, json_=json_)
        from aogconsole.cli.console import start

        return start(inside, welcome=WELCOME if site.fresh else "")


def _headless(session: Session, site: DemoSite, speed: float, *, json_: bool) -> int:
    from aogconsole.cli.engine import first_of_ours
    from aogconsole.demo.headless import work_through

    try:
        told = work_through(session.config, site.day, speed)
        surprises = site.reingestion.surprises() if site.reingestion else []
    except BaseExceptionGroup as group:
        raise first_of_ours(group) or group from None
    wrong = sum(one["why"] is not None for one in told)
    if json_:
        emit(told)
    else:
        columns = ("mail", "request", "expected", "state", "why")
        table(columns, [[one[column] for column in columns] for one in told])
        say(f"{len(told)} mails, {wrong} of them not as expected")
    for one in surprises:
        click.echo(clean(f"aogconsole: re-ingestion: {one}"), err=True)
    return 1 if wrong or surprises else 0


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Settings in the environment are for the real site: none of them may lead the demo there."""
    ours = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(ENVIRONMENT)}
    try:
        yield
    finally:
        os.environ.update(ours)
