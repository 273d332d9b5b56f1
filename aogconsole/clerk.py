"""The clerk: does in one thread, with a journal connection of its own, what an operator decided at the screen.

A commit waits for the disk, and for other writers; the screen does not. A read-only console has no clerk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from aogconsole.errors import StorageError
from aogconsole.journal.store import Journal

if TYPE_CHECKING:
    from aogconsole.desk import Desk

T = TypeVar("T")


class Clerk:
    """Calls deeds one after the other."""

    def __init__(self, furnish: Callable[[], tuple[Journal, Desk]]) -> None:
        """`furnish` opens the journal and sets the desk up; called in the thread, at the first deed."""
        self._furnish = furnish
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clerk")
        self._furnished: tuple[Journal, Desk] | None = None

    async def do(self, deed: Callable[[Journal, Desk], T]) -> T:
        """Do something at the desk; raises what the desk raises. What was given is done, cancelled or not."""
        # shielded: one that waits for its turn would be taken back without a word
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, self._do, deed))

    def close(self) -> None:
        """Finish what was begun."""
        self._thread.submit(self._leave).result()
        self._thread.shutdown()

    def _do(self, deed: Callable[[Journal, Desk], T]) -> T:
        if self._furnished is not None and self._furnished[0].moved():
            path = self._furnished[0].path
            if not path.exists():  # opening it would make a new one
                raise StorageError(f"the journal {path} is gone", "put it back; nothing was changed")
            self._leave()
        if self._furnished is None:
            self._furnished = self._furnish()
        return deed(*self._furnished)

    def _leave(self) -> None:
        furnished, self._furnished = self._furnished, None
        if furnished is not None:
            furnished[0].close()
