"""What the console looks up on request: lists, texts and help, each on a page of its own above the panes.

A lookup opens the journal to read, in a thread: the screen does not wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from aogconsole import boards, handover, times, views
from aogconsole.actions import ACTIONS, Action
from aogconsole.board import Line
from aogconsole.errors import AogError
from aogconsole.journal.store import Journal
from aogconsole.reingestionboard import NEEDY, ReingestionBoard
from widgets.helps import HelpScreen
from widgets.pages import ListPage, PageScreen, Picked, Row

if TYPE_CHECKING:
    from aogconsole.app import Console

T = TypeVar("T")
SHIFT = timedelta(hours=12)
SHOWN = 10
"""So many items of the re-ingestion stand in the handover."""
SPARE = ("MOUS", "request")
"""The columns that small screens have no room for."""
GROUPS = {
    "request": "The selected request",
    "run": "Runs",
    "reingestion": "Re-ingestion",
    "show": "Looking",
    "console": "The console",
}


class Lookups:
    """Pages of the console."""

    def __init__(self, app: Console) -> None:
        self._app = app

    async def read(self, look: Callable[[Journal], T]) -> T:
        """Look something up in the journal. Raises AogError."""

        def looked() -> T:
            with contextlib.closing(self._app.open_journal()) as journal:
                return look(journal)

        return await asyncio.to_thread(looked)

    def do(self, action: Action, line: Line | None) -> None:
        """Show what a key asks for, once; what takes in or asks elsewhere is not given up for the next key."""
        self._app.run_worker(
            self._do(action, line), name=action.id, group=action.id, exclusive=action.group != "console"
        )

    async def _do(self, action: Action, line: Line | None) -> None:
        try:
            await self._show(action, line)
        except AogError as error:
            self._app.say(f"{error}. {error.hint}", error=True)

    async def _show(self, action: Action, line: Line | None) -> None:
        match action.verb:
            case "history" if line is not None:
                rows = await self.read(lambda journal: views.history(journal, line.id))
                await self.page(f"History of request {line.id}", _deeds(rows))
            case "mail" if line is not None:
                await self._mail_of(line)
            case "log" if line is not None and line.run is not None:
                await self._app.logs.open(line.run)
            case verb:
                checks = self._app.checks
                pages = {
                    "letters": self._letters, "runs": self._runs, "staged": self._staged, "mails": self._mails,
                    "handover": self._handover, "commands": self._commands, "connections": checks.examine,
                    "check": checks.ask, "paste": checks.paste,
                }  # fmt: skip
                await pages[verb]()

    async def page(self, title: str, lines: Sequence[str], above: Sequence[str] = ()) -> None:
        """A text, until it is closed; what is `above` it does not scroll."""
        await self._app.push_screen_wait(PageScreen(title, "\n".join(lines) or "Nothing.", above))

    async def pick(
        self, title: str, heads: Sequence[str], read: Callable[[Journal], list[Row]],
        opened: Callable[[Picked], Any], verbs: dict[str, tuple[str, str]] | None = None,
    ) -> None:  # fmt: skip
        """A list to pick from, again and again, until it is closed."""
        start = words = ""
        while True:
            rows = await self.read(read)
            above = (
                [f"The newest {len(rows)}; `--limit -1` on the command line lists all."]
                if len(rows) >= views.NEWEST
                else []
            )
            page = ListPage(title, heads, rows, verbs, lines=above, start=start, filter=words, spare=SPARE)
            picked = await self._app.push_screen_wait(page)
            if picked is None:
                return
            start, words = picked.row, picked.filter
            if await opened(picked):
                return

    # ── lists ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _letters(self) -> None:
        def rows(journal: Journal) -> list[Row]:
            found = views.letters(journal)[::-1]
            return [
                Row(one["id"], (
                    one["id"], ticket, one["request"], mous, one["kind"], one["state"], _time(one["sent_at"]),
                    ", ".join(one["to"]), one["why"] or "",
                ))
                for one, (ticket, mous) in zip(found, views.named(journal, found), strict=True)
            ]  # fmt: skip

        async def opened(picked: Picked) -> None:
            await self._app.letters.open(int(picked.row))

        heads = ("id", "ticket", "request", "MOUS", "kind", "state", "sent", "to", "why")
        await self.pick("Letters", heads, rows, opened)

    async def _runs(self) -> None:
        def rows(journal: Journal) -> list[Row]:
            found = views.runs(journal)[::-1]
            return [
                Row(one["id"], (
                    one["id"], ticket, one["request"], mous, one["slot"] or "", one["state"], _time(one["started_at"]),
                    _time(one["ended_at"]), str(one["log_lines"]), one["why"] or "",
                ))
                for one, (ticket, mous) in zip(found, views.named(journal, found), strict=True)
            ]  # fmt: skip

        async def opened(picked: Picked) -> bool:
            await self._app.logs.open(int(picked.row))
            return False

        heads = ("run", "ticket", "request", "MOUS", "slot", "state", "started", "ended", "lines", "why")
        await self.pick("Runs", heads, rows, opened)

    async def _staged(self) -> None:
        settings = self._app.session.config.settings
        zone, warn_days = settings.policy.timezone, settings.staging.warn_days

        def rows(journal: Journal) -> list[Row]:
            found = views.staged(journal, zone)
            return [
                Row(f"{one['run']} {'off' if one['kept'] else ''}", (
                    one["run"], ticket, one["request"], mous, one["deleted_on"], str(one["days_left"]),
                    views.keeping(one, warn_days), one["url"],
                ))
                for one, (ticket, mous) in zip(found, views.named(journal, found), strict=True)
            ]  # fmt: skip

        async def opened(picked: Picked) -> None:
            run, _, off = picked.row.partition(" ")
            if picked.verb == "open":
                await self._app.logs.open(int(run))
            elif self._app.read_only:
                self._app.say("This console is read-only: nothing can be changed.", error=True)
            else:
                await self._app.deeds.keep(int(run), off=bool(off))

        heads = ("run", "ticket", "request", "MOUS", "deleted on", "days left", "", "link")
        await self.pick("Staged data", heads, rows, opened, {"K": ("keep", "keep, or no longer")})

    async def _mails(self) -> None:
        def rows(journal: Journal) -> list[Row]:
            found = views.mails(journal)[::-1]
            return [
                Row(one["id"], (
                    one["id"], ticket, one["request"] or "", mous, _time(one["received_at"]), one["from"],
                    one["result"], one["subject"], one["why"] or "",
                ))
                for one, (ticket, mous) in zip(found, views.named(journal, found), strict=True)
            ]  # fmt: skip

        async def opened(picked: Picked) -> None:
            await self._mail(int(picked.row))

        heads = ("id", "ticket", "request", "MOUS", "received", "from", "became", "subject", "why")
        await self.pick("Mails", heads, rows, opened)

    # ── texts ────────────────────────────────────────────────────────────────────────────────────────────────

    async def _mail_of(self, line: Line) -> None:
        mail = await self.read(lambda journal: journal.fetch("request", line.id)["mail"])
        await self._mail(mail)

    async def _mail(self, mail: int) -> None:
        await self.page(f"Mail {mail}", await self.read(lambda journal: boards.mail_lines(journal, mail)))

    async def _handover(self) -> None:
        settings = self._app.session.config.settings
        since = times.text(times.now() - SHIFT)
        told = await self.read(
            lambda journal: handover.summary(journal, since, settings.policy.timezone, settings.staging.warn_days)
        )
        await self.page("Handover of the last 12 hours", list(handover.lines(told, _items(self._app.queue_board))))

    async def _commands(self) -> None:
        rows = await self.read(lambda journal: views.history(journal, limit=200))
        mine = list(self._app.done) or ["Nothing yet."]
        await self.page("Commands", ["This console:", "", *mine, "", "Everybody:", "", *_deeds(rows)])

    # ── help ─────────────────────────────────────────────────────────────────────────────────────────────────

    def help(self, about: str, what: str, keys: Sequence[tuple[str, str]]) -> None:
        """The keys of the focused part, then all others."""
        groups = [(about, keys)] if keys else []
        for group, head in GROUPS.items():
            groups.append((head, [
                (self._app.keyboard.of(action), action.meaning) for action in ACTIONS if action.group == group
            ]))  # fmt: skip
        self._app.push_screen(HelpScreen(about, what, groups))


def _items(board: ReingestionBoard) -> Iterator[str]:
    """What of re-ingestion needs a person, as sentences."""
    count, shown = board.count(*NEEDY), board.needy[:SHOWN]
    if count:
        yield f"Re-ingestion: {count} item{'s need' if count != 1 else ' needs'} you (aogconsole reingestion items)"
    for one in shown:
        queue = "" if one.queue == "alma" else f" of the {one.queue} queue"
        yield f"  item {one.id}{queue}: {one.state}, {one.uid}" + (f": {one.why}" if one.why else "")
    if count > len(shown):
        yield f"  and {count - len(shown)} more"


def _time(text: str | None) -> str:
    """A time of the journal in a list: this year's to the minute, of others the day."""
    if text is None:
        return ""
    return text[5:16].replace("T", " ") if text[:4] == str(times.now().year) else text[:10]


def _deeds(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [f"{row['at']}  {row['who']:24} {boards.in_words(row)}" for row in reversed(rows)]
