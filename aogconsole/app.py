"""The console: a view on the journal with an engine beside it.

The screen never waits: the watch reads the journal in its thread, the clerk writes in another, the engine is a
process of its own. What a key does is in `actions.py`, how it is done in `deeds.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from textual import on
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input

from aogconsole import remembered, times
from aogconsole.actions import BY_ID, NEXT, doing
from aogconsole.attached import AttachedEngine, command
from aogconsole.board import Board, Line, Query
from aogconsole.copying import Copying
from aogconsole.crash import Crash
from aogconsole.herald import HERE, Herald, engine_words
from aogconsole.jobcontrol import install_early_signals, install_signals, suspend, why_not_suspend
from aogconsole.journal.history import Actor
from aogconsole.journal.store import Journal
from aogconsole.keyboard import Keyboard
from aogconsole.keymap import keymap
from aogconsole.mainscreen import MainScreen
from aogconsole.reingesting import Reingesting
from aogconsole.text import clean
from aogconsole.typeahead import TypeAhead
from aogconsole.watch import Watch
from aogconsole.windowsize import WindowSize
from widgets.logpane import LogPane
from widgets.palette import Command, Commands
from widgets.requests import RequestList
from widgets.status import Said

if TYPE_CHECKING:
    from aogconsole.cli.common import Session

JUMP_GUARD = 0.25
"""Seconds after the cursor moved by itself in which a key is taken as meant for where it was."""
MORE = 1000
FIRST_VISIT = "enter does what comes next, ? tells all keys, q quits."
COMMANDS = 500
"""Commands of this console that are remembered."""


class Console(TypeAhead, Copying, Crash, WindowSize, Reingesting):
    """The app. Its exit code is 0, or 128 and the number of the signal that ended it."""

    CSS_PATH = "console.tcss"
    COMMANDS = {Commands}  # noqa: RUF012 - as Textual declares it
    TITLE = "AOG console"

    class Arrived(Message):
        """The watch has seen something new."""

        def __init__(self, board: Board) -> None:
            super().__init__()
            self.board = board

        def can_replace(self, message: Message) -> bool:
            """Only the newest counts."""
            return isinstance(message, Console.Arrived)

    def __init__(self, session: Session, *, welcome: str = "") -> None:
        super().__init__()
        self.animation_level = "none"
        self.session = session
        self.copy_settings = session.config.settings.console
        self.read_only = session.read_only
        self.board = self._blank = Board()
        self.done: deque[str] = deque(maxlen=COMMANDS)
        """What this console did: time, command, what came of it."""
        self._welcome = welcome
        self._query = Query()
        self._auto = True
        """The cursor rests on what needs a person, until the operator moves it."""
        self._touched = False
        """Whether the operator has chosen where the cursor is, now or the last time: before, it stays on top."""
        self._jumped = 0.0
        self._kept: dict[str, Any] = {}
        self._begun = False
        self._leave: Callable[[], None] | None = None
        self.who = Actor.current("console").who
        self._watch = Watch(self.open_journal, session.config.settings, self._bring)
        self._engine = (
            None if session.read_only else AttachedEngine(command(session.config.file), partial(self.record, "engine"))
        )
        self.keyboard = Keyboard(self)
        self.herald = Herald(self.write, self.who, bell=session.config.settings.console.bell)

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def main(self) -> MainScreen:
        """The screen with the panes."""
        return self._main

    def get_default_screen(self) -> MainScreen:
        """The panes are the lowest screen."""
        self._main = MainScreen(self.session.config.settings.staging.slots)  # also when the screens are taken down
        self._main.call_later(self._furnish)  # when it is composed, before it is laid out
        return self._main

    def _furnish(self) -> None:
        self.main.zoom(on=False)
        self.main.keys(self.keyboard.footer())
        self.main.show(self.board)
        self.expect_queue()
        self.tick()

    def on_mount(self) -> None:
        """Look at the journal only after the first paint."""
        install_signals(self, asyncio.get_running_loop())
        self.set_keymap(keymap(self.session.config.settings.console.keys))
        self._kept = remembered.load(self.session.config.journal_path)
        theme = self._kept.get("theme")
        if isinstance(theme, str) and theme in self.available_themes:
            self.theme = theme  # before the first paint, which is in these colours too
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self._begun = True
        if self._leave is not None:
            self._leave()
            return
        self._restore()
        self.say(self._welcome or ("" if self._kept else FIRST_VISIT))
        self._watch.start()
        if self._engine is not None:
            self._engine.start()
        self.set_interval(1.0, self.tick)
        pane = self._kept.get("pane")
        panes = self.main.panes
        self.main.go(panes[pane] if isinstance(pane, int) and 0 <= pane < len(panes) else panes[0])

    def exit(self, *words: Any, **options: Any) -> None:
        """Leave, and keep what is to be found again. A signal may come while it starts: then once it has."""
        if not self._begun:
            self._leave = partial(super().exit, *words, **options)
            return
        if not self._exit:
            self._remember()
        super().exit(*words, **options)

    async def on_unmount(self) -> None:
        """End what was begun."""
        self.herald.leave()
        self._watch.close()
        self.close_parts()
        if self._engine is not None:
            await self._engine.stop()

    def _bring(self, board: Board) -> None:
        self.post_message(self.Arrived(board))

    def open_journal(self) -> Journal:
        """The journal, to look at only."""
        return Journal.open(self.session.config.journal_path, read_only=True)

    def _restore(self) -> None:
        kept = self._kept
        text = kept.get("filter") if isinstance(kept.get("filter"), str) else ""
        selected = kept.get("selected") if isinstance(kept.get("selected"), int) else None
        self._ask(replace(self._query, text=clean(text or ""), selected=selected))
        logs = kept.get("logs")
        for pane, toggles in zip(self.main.logs, logs if isinstance(logs, list) else [], strict=False):
            if isinstance(toggles, dict):
                pane.toggles = toggles

    def _remember(self) -> None:
        remembered.save(self.session.config.journal_path, {
            "theme": self.theme, "pane": self.main.place, "filter": self._query.text, "selected": self._query.selected,
            "logs": [pane.toggles for pane in self.main.logs],
        })  # fmt: skip

    # ── what is seen ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def selected(self) -> Line | None:
        """The request under the cursor."""
        return self.main.requests.selected

    def _ask(self, query: Query) -> None:
        self._query = query
        self._watch.ask(query)

    def look(self, *, follow: bool = False) -> None:
        """Look at the journal now; `follow`: the cursor may go to what needs a person next."""
        self._auto = self._auto or follow
        self._watch.look()

    @on(Arrived)
    def _arrived(self, event: Arrived) -> None:
        board, main = event.board, self.main
        fresh, before = not self.board.lines, self.selected
        if self.board is self._blank:
            self.load_parts()
        self.board = board
        empty = f"Nothing is found with '{board.query.text}'." if board.query.text else "No open requests."
        main.requests.show(board.lines, board.left_out, empty)
        if fresh and self._query.selected is not None:
            self._touched = main.requests.select(self._query.selected) or self._touched
        if self._auto:
            self.to_needy()
        if before is not None and (self.selected is None or self.selected.id != before.id):
            self._jumped = time.monotonic()
        self._show_detail()
        for pane, slot in zip(main.logs, board.slots, strict=False):
            self.logs.show(pane, slot)
        self.tell_news()
        main.show(board)
        self.tick()

    def to_needy(self, *, further: bool = False) -> None:
        """The first that needs a person, when the selected one does not; `further`: the one after it."""
        selected, lines = self.selected, self.main.requests.lines
        needy = [line.id for line in lines if line.needs]
        if selected is None or not needy or (selected.needs and not further and self._touched):
            return
        at = needy.index(selected.id) + 1 if selected.needs and further else 0
        target = needy[at % len(needy)]
        if target != selected.id:
            self.main.requests.select(target)

    def _show_detail(self) -> None:
        selected, detail = self.selected, self.board.detail
        self.main.keys(self.keyboard.footer())
        if selected is None:
            self.main.entitlement.show(None, self._hint())
        elif detail is not None and detail.line.id == selected.id:
            self.main.entitlement.show(detail, "")
            self.main.entitlement.next(self._next_words(selected))

    def _hint(self) -> str:
        if self.board.query.text:
            return "escape takes the filter away."
        return "Requests come by mail. i takes one in that is pasted, A asks the archive, ? tells all keys."

    def _next_words(self, line: Line) -> str:
        key = self.keyboard.of(BY_ID["request.next"])
        if line.next_action == "decide":
            return f"{key}: decide"
        action = BY_ID.get(NEXT.get(line.next_action, ""))
        return f"{key}: {line.next_action}" if action else doing(line)

    def tick(self) -> None:
        """Show the time, and what changes with it."""
        main, now = self.main, times.now()
        words = engine_words(self.board, self._engine)
        self.herald.engine(self._engine, partial(self.say, error=True))
        main.tick(self.with_queue(self.board), words, now, read_only=self.read_only, trouble=self.herald.trouble)
        main.requests.tick(now)
        self.tick_queue(now)
        for pane in main.logs:
            pane.tick(now)

    @property
    def engine_here(self) -> bool:
        """Whether the engine that takes steps is this console's."""
        return engine_words(self.board, self._engine) == HERE

    @property
    def unsettled(self) -> bool:
        """Whether the cursor moved by itself a moment ago, or may, since the list is not yet the one asked for."""
        return self.board.query.text != self._query.text or time.monotonic() - self._jumped < JUMP_GUARD

    # ── what is said ─────────────────────────────────────────────────────────────────────────────────────────

    def say(self, text: str, *, error: bool = False) -> None:
        """One sentence below the panes, and on a screen above them that has the line; it stays until the next."""
        for said in {self.main.said, *(self.screen.query(Said) if self.screen_stack else ())}:
            said.say(clean(text), error=error)

    def record(self, command: str, result: str) -> None:
        """Remember what this console did, for the command log. May be called in any thread."""
        self.done.append(clean(f"{times.now_text()}  {command}  {result}"))

    @on(LogPane.Export)
    def _export(self, event: LogPane.Export) -> None:
        self.run_worker(self.logs.export(event.run, event.path), name="export", exclusive=True, group="export")

    @on(LogPane.Pager)
    def _pager(self, event: LogPane.Pager) -> None:
        self.run_worker(self.logs.pager(event.run, event.path), name="pager", exclusive=True, group="pager")

    @on(LogPane.Zoom)
    def _zoom(self) -> None:
        self.main.zoom()

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────

    def action_do(self, ident: str) -> None:
        """What a key does."""
        self._touched = True
        self.herald.seen(self.selected)
        if not self.keyboard.do(ident):
            self.release_keys()

    def commands_for_palette(self, screen: Screen[Any]) -> Iterable[Command]:
        """What the command palette lists."""
        return self.keyboard.commands(screen)

    def action_command_palette(self) -> None:
        """Not over a question: what the palette does belongs to the panes, or to a page."""
        if self.screen is self.main or self.keyboard.is_page(self.screen):
            super().action_command_palette()

    def on_paste(self) -> None:
        """Nothing has taken it."""
        if self.screen is self.main:
            self.say(f"A paste does nothing here: {self.keyboard.of(BY_ID['console.paste'])} takes a mail.", error=True)

    async def action_quit(self) -> None:
        """Ctrl+Q, which Textual has on every screen: as `q`; what is open above the panes is not thrown away."""
        if self.screen is self.main:
            self.action_do("console.quit")
        else:
            self.notify("Something is open: escape closes it. Then q leaves the console.", markup=False)

    def action_pane_help(self) -> None:
        """The keys of the focused part."""
        self.keyboard.help()

    async def suspend_process(self) -> None:
        """Ctrl+Z: the engine is given up, so that another can take over, and started again afterwards."""
        reason = why_not_suspend(self)
        if reason:
            self.say(reason, error=True)
        else:
            await suspend(self, self._engine)

    def action_escape(self) -> None:
        """Back out, a step at a time: the filter's input, zoom, the filter, the pane."""
        main = self.main
        if isinstance(self.focused, Input):
            main.go(main.requests)
        elif main.zoomed:
            main.zoom(on=False)
        elif self._query.text:
            self.filter("")
        else:
            main.go(main.requests)

    def open_filter(self) -> None:
        """Ask for a text to filter by."""
        self.main.open_field(self._query.text)

    def filter(self, text: str) -> None:
        """Show the requests with a text; with none, all open ones."""
        self._auto = not text
        self._ask(Query(text=text, selected=self._query.selected))

    @on(Input.Changed, "#filter")
    def _filtering(self, event: Input.Changed) -> None:
        self.filter(clean(event.value.strip()))

    @on(Input.Submitted, "#filter")
    def _filtered(self) -> None:
        self.main.go(self.main.requests)

    @on(RequestList.Selected)
    def _select(self, event: RequestList.Selected) -> None:
        if event.by_hand:
            self._touched, self._auto, self._jumped = True, False, 0.0
            self.herald.seen(self.selected)
        self._ask(replace(self._query, selected=event.request))
        self._show_detail()

    @on(RequestList.End)
    def _more(self) -> None:
        if self.board.query.limit == self._query.limit:  # a key that is held down asks again and again
            self._ask(replace(self._query, limit=self._query.limit + MORE))

    @on(MainScreen.Turned)
    def _turned(self) -> None:
        self.main.turned(self.board)
        self.main.keys(self.keyboard.footer())


def run(session: Session, *, welcome: str = "", mouse: bool = True) -> int:
    """Run the console until the operator leaves it; returns the exit code. Raises AogError before it starts."""
    if not session.read_only:
        session.acting().close()  # makes the journal, or says why it cannot
    app = Console(session, welcome=welcome)
    install_early_signals(app)
    code = app.run(mouse=mouse)
    return code if isinstance(code, int) else app.return_code or 0
