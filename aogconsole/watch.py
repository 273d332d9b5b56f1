"""The watch: a thread that looks at the journal, and tells when what is to be seen has changed.

It has the journal's connection to itself. A look costs nothing while nobody changed anything: SQLite's
`data_version` is asked for (20 microseconds), and the board is read only when it differs, or the query.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from aogconsole.board import Board, Query
from aogconsole.errors import AogError
from aogconsole.journal.store import Journal
from aogconsole.settings import Settings

EVERY = 0.2
"""Seconds between looks."""
LOCK = 5
"""Looks between those at the engine lock, which is no part of the journal, and at the journal's path."""


class Watch:
    """Reads boards. `tell` is called in the watch's thread, with each board that differs from the one before."""

    def __init__(self, open_journal: Callable[[], Journal], settings: Settings, tell: Callable[[Board], None]) -> None:
        self._open = open_journal
        self._settings = settings
        self._tell = tell
        self._query = Query()
        self._asked = threading.Event()
        self._ended = False
        self._last: Board | None = None
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def ask(self, query: Query) -> None:
        """See something else from now on; at once."""
        self._query = query
        self._asked.set()

    def look(self) -> None:
        """Look at once: this console has changed something."""
        self._asked.set()

    def close(self) -> None:
        """End; waits for a look that is under way."""
        self._ended = True
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended:
            journal = None
            try:
                journal = self._open()
                self._watch(journal)
            except AogError as error:
                self._trouble(f"{error} ({error.hint})" if error.hint else str(error))
                self._asked.clear()  # what was asked for is read when the journal can be
                if not self._ended:
                    self._asked.wait(1.0)
            finally:
                if journal is not None:
                    journal.close()

    def _watch(self, journal: Journal) -> None:
        from aogconsole import boards  # not on the first frame's way

        seen, looks = -1, 0
        while not self._ended:
            asked = self._asked.is_set()
            self._asked.clear()
            now = journal.data_version()
            looks += 1
            if looks % LOCK == 0 and journal.moved():
                return  # to be opened anew
            last, query = self._last, self._query
            if now != seen or last is None or (looks % LOCK == 0 and boards.engine(journal)[0] != last.engine):
                seen = now
                self._show(boards.read(journal, self._settings, query))
            elif asked and query == replace(last.query, selected=query.selected):
                self._show(boards.turned(journal, last, query))
            elif asked:
                self._show(boards.searched(journal, last, query))
            self._asked.wait(EVERY)

    def _show(self, board: Board) -> None:
        if board != self._last and not self._ended:
            self._last = board
            self._tell(board)

    def _trouble(self, sentence: str) -> None:
        self._show(replace(self._last or Board(query=self._query), trouble=sentence))
