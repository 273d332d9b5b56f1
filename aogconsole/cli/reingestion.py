"""Re-ingestion, looked at and steered: `reingestion` and its verbs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

import click

from aogconsole import times
from aogconsole.cli.common import IDENT, LIMIT, Session, as_json, emit, say, table
from aogconsole.errors import OutsideError, UsageError
from aogconsole.reingestion.item import Kind, Queue, State
from aogconsole.reingestion.steering import IN_BULK, LOADER, Steering
from aogconsole.text import clean
from backends.reingestion_ports import Metadata

Result = TypeVar("Result")
MOST = 10**9
BROKER_PATIENCE = 2.0
"""Seconds: who looks does not want to wait for a broker that is away."""
QUEUE = click.option(
    "--queue", type=click.Choice([one.value for one in Queue]), default="alma", show_default=True,
    help="Which tracking table, and work queue.",
)  # fmt: skip
KIND = click.option("--kind", type=click.Choice([one.value for one in Kind]), help="Only those of this kind.")
ITEM = click.argument("item", type=IDENT)


def _why(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option `--why`, with what the history says without it."""
    return click.option("--why", default=default, show_default=True, help="The reason; it stands in the history.")


class Unreachable(OutsideError):
    """A part of re-ingestion does not answer; what the others say has been printed."""


@click.group("reingestion", invoke_without_command=True)
@QUEUE
@as_json
@click.pass_context
def reingestion_command(ctx: click.Context, queue: str, *, json_: bool) -> None:
    """Tell how re-ingestion is: counts, queue, what runs, loader, runners; exit 4 when a part does not answer."""
    if ctx.invoked_subcommand is not None:  # what stands before the verb counts where it says nothing itself
        ctx.default_map = {ctx.invoked_subcommand: {"queue": queue, "json_": json_}}
        return
    from aogconsole import reingestionsite
    from aogconsole.reingestion import overview

    config = ctx.obj.config

    async def look(metadata: Metadata) -> dict[str, Any]:
        elsewhere = config.settings.broker.url.startswith(("amqp://", "amqps://"))  # memory: is another process' own
        broker = reingestionsite.broker(config, BROKER_PATIENCE) if elsewhere else None
        try:
            return await overview.overview(metadata, broker, Queue(queue))
        finally:
            if broker is not None:
                await broker.close()

    told = _with_metadata(ctx.obj, look)
    if json_:
        emit(told)
    else:
        memory = config.settings.broker.url.startswith("memory:")
        _print(told, "in the memory of another process" if memory else "not configured")
    if not overview.reached(told):
        which, name = ("metadata", "database") if told["counts"] is None else ("broker", "broker")
        raise Unreachable(f"the {name} could not be asked: {told[which]}", "`aogconsole doctor` tries all connections")


def _with_metadata(session: Session, act: Callable[[Metadata], Awaitable[Result]], *, acting: bool = False) -> Result:
    """Do something with the metadata database, and end its connections."""
    from aogconsole import reingestionsite

    if acting:
        session.may_act()

    async def run() -> Result:
        metadata = reingestionsite.metadata(session.config)
        try:
            if acting:
                await metadata.migrate()
            return await act(metadata)
        finally:
            await metadata.close()

    return asyncio.run(run())


def _steering(session: Session, queue: str, act: Callable[[Steering], Awaitable[Result]]) -> Result:
    return _with_metadata(session, lambda one: act(Steering(one, Queue(queue), session.actor.who)), acting=True)


def _print(told: dict[str, Any], no_broker: str) -> None:
    loader = told["loader"] or {}
    cycle = f"last {loader.get('last_cycle') or '-'}, next {loader.get('next_cycle') or '-'}"
    if told["paused"]:
        say(f"PAUSED by {told['paused']}")
    say(f"loader         {cycle}" + (f"; {loader['error']}" if loader.get("error") else ""))
    say(f"work queue     {'-' if told['queue_depth'] is None else told['queue_depth']} messages")
    if told["dead_letters"]:
        say(f"dead letters   {told['dead_letters']} (`aogconsole broker dead` shows them)")
    say(f"oldest waiting {told['oldest_waiting'] or '-'}")
    say(f"last event     {(told['last_event'] or {}).get('at') or '-'}")
    say(f"broker         {told['broker'] or no_broker}")
    say(f"metadata       {told['metadata']}")
    for one in told["runners"] or []:
        say(f"runner         {one['name']}: {one['state']}, seen {one['seen']}")
    for kind, by in (told["counts"] or {}).items():
        say(f"{kind:15} " + (", ".join(f"{state} {count}" for state, count in by.items()) or "none"))
    if told["running"]:
        columns = ("id", "kind", "uid", "state", "attempt", "since", "runner")
        table(columns, [[str(one[key] or "") for key in columns] for one in told["running"]])


@reingestion_command.command("items")
@click.option("--state", type=click.Choice([one.value for one in State]), help="Only those in this state.")
@KIND
@QUEUE
@click.option("--search", default="", metavar="TEXT", help="Only those with this in uid, project or reason.")
@LIMIT
@as_json
@click.pass_obj
def items_command(
    session: Session, state: str | None, kind: str | None, queue: str, search: str, limit: int, *, json_: bool
) -> None:
    """List the items of the tracking table, newest first."""
    from aogconsole.reingestion import overview
    from aogconsole.reingestion.steering import named

    states, of = [State(state)] if state else [], Kind(kind) if kind else None
    text = named(search, "text")
    found = _with_metadata(
        session, lambda one: one.tracking(Queue(queue)).items(states, of, text, MOST if limit < 0 else limit)
    )
    told = [overview.item(row, Queue(queue)) for row in found]
    if json_:
        emit(told)
        return
    columns = ("id", "kind", "uid", "state", "attempt", "not_before", "reason")
    table(columns, [["" if one[key] is None else str(one[key]) for key in columns] for one in told])


@reingestion_command.command("show")
@ITEM
@QUEUE
@as_json
@click.pass_obj
def show_command(session: Session, item: int, queue: str, *, json_: bool) -> None:
    """Show one item, and what became of it from the beginning."""
    from aogconsole.reingestion import overview

    row, events = _with_metadata(session, lambda one: Steering(one, Queue(queue), session.actor.who).history(item))
    told = {**overview.item(row, Queue(queue)), "history": overview.history(events)}
    if json_:
        emit(told)
        return
    for key, value in told.items():
        if key != "history":
            say(f"{key:12} {'' if value is None else value}".rstrip())
    for one in told["history"]:
        say(f"  {one['at']} {one['from'] or '-'} -> {one['to']} ({one['by']}) {one['why'] or ''}".rstrip())


def _told(session: Session, item: int, queue: str, *, json_: bool) -> Callable[[Any], None]:
    """Tell how an item is now."""

    def tell(row: Any) -> None:
        from aogconsole.reingestion import overview

        if json_:
            emit(overview.item(row, Queue(queue)))
        else:
            say(f"item {row.id} is {row.state}" + (f": {row.reason}" if row.reason else ""))

    return tell


@reingestion_command.command("requeue")
@click.argument("item", type=IDENT, required=False)
@click.option(
    "--state",
    type=click.Choice(sorted(one.value for one in IN_BULK)),
    help="Instead of ITEM: all that are in this state.",
)
@KIND
@QUEUE
@_why("requeued by hand")
@as_json
@click.pass_obj
def requeue_command(
    session: Session, item: int | None, state: str | None, kind: str | None, queue: str, why: str, *, json_: bool
) -> None:
    """Have an item sent again, with all its attempts before it; or (--state) all of a state."""
    if (item is None) == (state is None):
        raise UsageError("either ITEM or --state is needed", "such as: reingestion requeue 12")
    if item is not None:
        if kind is not None:
            raise UsageError("--kind goes with --state only", "leave it out")
        row = _steering(session, queue, lambda one: one.requeue(item, why))
        _told(session, item, queue, json_=json_)(row)
        return
    of = Kind(kind) if kind else None
    count = _steering(session, queue, lambda one: one.requeue_all(State(str(state)), why, of))
    if json_:
        emit({"state": state, "requeued": count})
    else:
        say(f"{count} items that were {state} are waiting")


@reingestion_command.command("defer")
@ITEM
@click.option("--until", metavar="TIME", help="Take it up again then (ISO 8601); without: when it is requeued.")
@QUEUE
@_why("deferred by hand")
@as_json
@click.pass_obj
def defer_command(session: Session, item: int, until: str | None, queue: str, why: str, *, json_: bool) -> None:
    """Put an item aside."""
    when = _time(until)
    _told(session, item, queue, json_=json_)(_steering(session, queue, lambda one: one.defer(item, why, when)))


def _time(text: str | None) -> datetime | None:
    try:
        return None if text is None else times.parse(text)
    except ValueError:
        raise UsageError(f"'{clean(str(text))}' is not a time", "write it as 2026-11-21T14:02:11Z") from None


@reingestion_command.command("drop")
@ITEM
@QUEUE
@_why("dropped by hand")
@as_json
@click.pass_obj
def drop_command(session: Session, item: int, queue: str, why: str, *, json_: bool) -> None:
    """Have an item never sent."""
    _told(session, item, queue, json_=json_)(_steering(session, queue, lambda one: one.drop(item, why)))


@reingestion_command.command("add")
@click.option("--kind", type=click.Choice([one.value for one in Kind]), required=True, help="What is ingested.")
@click.option("--uid", required=True, help="Its UID; in the VLBA queue any name.")
@click.option("--project", help="Its project; VLBA workflows are limited per project.")
@click.option("--version", help="Its version; without: a new one, with the time of now.")
@QUEUE
@as_json
@click.pass_obj
def add_command(
    session: Session, kind: str, uid: str, project: str | None, version: str | None, queue: str, *, json_: bool
) -> None:
    """Enter an item by hand. It is sent as it is: the archive is not asked whether it is ready."""
    row = _steering(session, queue, lambda one: one.add(Kind(kind), uid, project, version))
    _told(session, row.id, queue, json_=json_)(row)


@reingestion_command.command("run")
@as_json
@click.pass_obj
def run_command(session: Session, *, json_: bool) -> None:
    """Have the loader look for news now."""
    from aogconsole.reingestion import overview

    notes = _steering(session, "alma", lambda one: one.run_loader())
    loader = overview.loader(notes.get(LOADER))
    if json_:
        emit({"woken": True, "loader": loader})
    else:
        say(f"the loader is told to look now; its last cycle was {loader['last_cycle'] or 'never'}")


@reingestion_command.command("pause")
@click.option("--why", default="", help="The reason; everybody sees it.")
@as_json
@click.pass_obj
def pause_command(session: Session, why: str, *, json_: bool) -> None:
    """Let loader and runners take nothing new; what runs goes on."""
    _pause(session, why, on=True, json_=json_)


@reingestion_command.command("resume")
@click.option("--why", default="", help="The reason.")
@as_json
@click.pass_obj
def resume_command(session: Session, why: str, *, json_: bool) -> None:
    """Let loader and runners go on."""
    _pause(session, why, on=False, json_=json_)


def _pause(session: Session, why: str, *, on: bool, json_: bool) -> None:
    from aogconsole.reingestion import overview

    note = _steering(session, "alma", lambda one: one.pause(why, on=on))
    if json_:
        emit({"paused": overview.pause(note)})
    else:
        say("re-ingestion is paused; what runs goes on" if on else "re-ingestion goes on")
