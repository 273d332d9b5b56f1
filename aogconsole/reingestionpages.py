"""The re-ingestion queue on the whole screen: its items, and what became of one of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from textual.timer import Timer

from aogconsole import times
from aogconsole.errors import AogError
from aogconsole.reingestion import overview
from aogconsole.reingestion.item import MEANING, Item, Queue, State
from aogconsole.reingestion.steering import NEVER
from aogconsole.text import clean
from backends.reingestion_ports import Event, Metadata
from widgets.pages import Picked, Row
from widgets.reingestionlines import clock
from widgets.reingestionlist import ItemPage, ItemsPage

if TYPE_CHECKING:
    from aogconsole.app import Console
    from aogconsole.reingestiondesk import ReingestionDesk

NEEDY = (State.DEAD, State.LAUNCH_UNKNOWN)
MOST = 1000
"""Items of each sort that are listed; `/` finds others."""
PAUSE = 1.0
"""Seconds between readings of the list, however much changes."""
Found = dict[str, tuple[Queue, Item]]


class ItemsView:
    """The list of items, while it is open."""

    def __init__(self, app: Console, desk: ReingestionDesk) -> None:
        self._app = app
        self._desk = desk
        self._page: ItemsPage | None = None
        self._found: Found = {}
        self._read_at = 0.0
        self._timer: Timer | None = None

    def open(self) -> None:
        """Show the items, until the page is closed."""
        if self._page is None:
            self._page = ItemsPage("Items of the re-ingestion", self._act, self.look)
            self._app.push_screen(self._page, self._closed)

    def _closed(self, _: Picked | None) -> None:
        self._page = None

    def changed(self) -> None:
        """Something has: read again soon."""
        if self._page is not None and self._timer is None:
            wait = self._read_at + PAUSE - time.monotonic()
            self._timer = self._page.set_timer(max(wait, 0.01), self.look)

    def done(self, queue: Queue, item: Item) -> None:
        """Something has been done to an item, which now is so: read again at once."""
        if self._page is not None:
            self._found[f"{queue}:{item.id}"] = queue, item
            self._page.stay()
            self.look()

    def look(self, words: str | None = None) -> None:
        """Read the items, those with some words too."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._page is not None:
            self._read_at = time.monotonic()
            words = self._page.words if words is None else words
            self._app.run_worker(self._look(self._page, words), group="items", exclusive=True)

    async def _look(self, page: ItemsPage, words: str) -> None:
        queues = [Queue(one.name) for one in self._app.queue_board.queues] or [Queue.ALMA]
        try:
            found, listed = await self._desk.read(lambda metadata: read(metadata, queues, words))
        except AogError as error:
            page.tell(f"{error} {error.hint}")
            return
        if page.is_attached and page is self._page:
            self._found = found
            page.renew(listed)

    def _act(self, picked: Picked) -> None:
        seen = self._found.get(picked.row)
        if picked.verb == "open":
            if seen is not None:
                self._app.run_worker(self._show(*seen), group="item", exclusive=True)
        elif picked.verb in ("run", "pause") or seen is not None:
            self._steer(picked.verb, seen)

    def _steer(self, verb: str, seen: tuple[Queue, Item] | None) -> None:
        if self._app.read_only:
            self._app.say_on_top("This console is read-only: nothing can be changed.", error=True)
        else:
            self._desk.verb(verb, seen)

    async def _show(self, queue: Queue, item: Item) -> None:
        """What became of one item, until it is closed, or a key says what is to become of it."""

        async def work(metadata: Metadata) -> tuple[list[Item], Sequence[Event]]:
            table = metadata.tracking(queue)
            return await table.get([item.id]), await table.events(item.id)

        try:
            found, events = await self._desk.read(work)
        except AogError as error:
            self._app.say_on_top(str(error), error=True)
            return
        now = found[0] if found else item
        verb = await self._app.push_screen_wait(ItemPage(f"Item {item.id}", "\n".join(story(now, events))))
        if verb is not None:
            self._steer(verb, (queue, now))


async def read(metadata: Metadata, queues: Sequence[Queue], words: str) -> tuple[Found, list[Row]]:
    """Items to be listed: those that need a person, what takes a place, the newest, and those with the words."""
    now = times.now()
    found: Found = {}
    for queue in queues:
        table = metadata.tracking(queue)
        for one in [
            *await table.items(NEEDY, most=MOST), *await table.active(), *await table.items(most=MOST),
            *(await table.items(text=words.strip(), most=MOST) if words.strip() else ()),
        ]:  # fmt: skip
            found.setdefault(f"{queue}:{one.id}", (queue, one))
    found = dict(sorted(found.items(), key=lambda entry: _rank(*entry[1])))
    return found, [Row(key, _cells(queue, item, now)) for key, (queue, item) in found.items()]


def _rank(_: Queue, item: Item) -> tuple[int, int]:
    order = 0 if item.state in NEEDY else 1 if item.state in (State.LAUNCHING, State.RUNNING) else 2
    return order, -item.id


def _cells(queue: Queue, item: Item, now: datetime) -> tuple[str, ...]:
    kind = {"execution_block": "EB", "calibration": "cal"}[item.kind]
    return (
        "!" if item.state in NEEDY else "", str(item.id), kind if queue is Queue.ALMA else f"VLBA {kind}",
        overview.shown(item.uid), item.state, str(item.attempt), clock(since(item), now), _reason(item),
        item.project or "",
    )  # fmt: skip


def since(item: Item) -> datetime:
    """Since when it is in its state, as far as its times tell."""
    match item.state:
        case State.QUEUED:
            time = item.queued_at
        case State.LAUNCHING | State.LAUNCH_UNKNOWN | State.RUNNING:
            time = item.started_at
        case _:
            time = item.finished_at
    return time or item.created_at


def _reason(item: Item) -> str:
    if item.not_before is None:
        return item.reason
    return f"{item.reason} ({_until(item.not_before)})".strip()


def _until(time: datetime) -> str:
    return "until it is requeued" if time == NEVER else f"until {_minute(time)}"


def _minute(time: datetime) -> str:
    return times.text(time)[:16].replace("T", " ")


def about(item: Item) -> list[str]:
    """An item in a question's first lines."""
    told = [f"{item.kind.replace('_', ' ')} {overview.shown(item.uid)}, {item.state}, attempt {item.attempt}"]
    return [*told, *([clean(item.reason)] if item.reason else [])]


def story(item: Item, events: Sequence[Event]) -> list[str]:
    """An item: how it is, what became of it from the beginning, then its columns."""
    lines = [f"{overview.shown(item.uid)}  {item.kind.replace('_', ' ')}", f"{item.state}: {MEANING[item.state]}"]
    lines += [_reason(item)] if _reason(item) else []
    lines += ["", "What became of it:", ""]
    for one in events:
        change = f"{one.before or '-'} -> {one.after}"
        lines.append(f"{times.text(one.at)}  {one.by:20}  {change}" + (f": {one.why}" if one.why else ""))
    document = overview.item(item, Queue.ALMA)
    del document["queue"]
    lines += ["", *(f"{key:13}{'-' if value is None else value}" for key, value in document.items())]
    return [clean(line) for line in lines]
