"""The console's part in re-ingestion: its panel is kept up to date, and its troubles are told."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, cast

from textual import on
from textual.app import App
from textual.message import Message

from aogconsole.board import Board
from aogconsole.errors import ConfigError
from aogconsole.mainscreen import MainScreen
from aogconsole.parts import Parts
from aogconsole.reingestionboard import ReingestionBoard
from widgets.reingestion import Reingestion

if TYPE_CHECKING:
    from aogconsole.app import Console
    from aogconsole.reingestionwatch import ReingestionWatch

UNSET = "No re-ingestion is configured here: metadata.dsn is not set."


class Reingesting(Parts, App[int]):
    """An app with a re-ingestion panel."""

    queue_board = ReingestionBoard()
    """How re-ingestion is."""
    _queue_watch: ReingestionWatch | None = None

    class QueueArrived(Message):
        """The watch on re-ingestion has seen something new."""

        def __init__(self, board: ReingestionBoard) -> None:
            super().__init__()
            self.board = board

        def can_replace(self, message: Message) -> bool:
            """Only the newest counts."""
            return isinstance(message, Reingesting.QueueArrived)

    @property
    def _main_console(self) -> Console:
        return cast("Console", self)

    def expect_queue(self) -> None:
        """Before anything is known: whether there is a queue at all."""
        configured = bool(self._main_console.session.config.settings.metadata.dsn)
        self.queue_board = ReingestionBoard(configured=configured)

    def parts_loaded(self) -> None:
        """Begin to look at re-ingestion. Called in the thread that has loaded the parts."""
        if self.queue_board.configured:
            from aogconsole.reingestionwatch import ReingestionWatch

            config = self._main_console.session.config
            self._queue_watch = ReingestionWatch(config, self._bring_queue)
            self._queue_watch.start()

    def _bring_queue(self, board: ReingestionBoard) -> None:
        self.post_message(self.QueueArrived(board))

    def queue_watch_or_raise(self) -> ReingestionWatch:
        """The watch. Raises ConfigError when there is nothing to watch."""
        if self._queue_watch is None:
            raise ConfigError(UNSET.removesuffix("."), "set it to the address of the metadata database")
        return self._queue_watch

    def close_parts(self) -> None:
        """Finish what was begun, the watch's too."""
        if self._queue_watch is not None:
            self._queue_watch.close()
        super().close_parts()

    def with_queue(self, board: Board) -> Board:
        """A board with the lights of re-ingestion among its own."""
        return replace(board, lights=(*board.lights, *self.queue_board.lights))

    def tell_news(self) -> None:
        """Have the herald tell what is new, and say it."""
        console = self._main_console
        for told, trouble in (
            console.herald.tell(self.with_queue(console.board)),
            console.herald.queue(self.queue_board),
        ):
            if told:
                console.say(told, error=trouble)

    def tick_queue(self, now: datetime) -> None:
        """Show how re-ingestion is at this time."""
        main = self._main_console.main
        main.reingestion.show(self.queue_board, now)

    def say_on_top(self, sentence: str, *, error: bool = False) -> None:
        """Say it, and on the page that covers where it is said."""
        self._main_console._say_on_top(sentence, error=error)

    @on(QueueArrived)
    def _queue_arrived(self, event: QueueArrived) -> None:
        console = self._main_console
        self.queue_board = event.board
        console.tell_news()
        console.tick()
        console.main.turned(console.board)
        if "reingestion" in vars(self):
            self.reingestion.items.changed()

    @on(MainScreen.Turned)
    def _looked_at(self) -> None:
        console = self._main_console
        if isinstance(console.main.current, Reingestion):
            console.herald.seen_queue()
