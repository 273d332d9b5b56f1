"""How long a node may be away before its run has failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aogconsole.errors import OutsideError
from aogconsole.stagecalms import words
from aogconsole.stagecalms.job import Node
from backends.cluster_ports import LinkCut, Tell

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds between tries to reach a node; doubled each time."""
Result = TypeVar("Result")


class NodeGone(OutsideError):
    """A node was not reached for longer than the configured patience."""


class Patience:
    """Of one run with its node: `seconds` (`stagecalms.patience`) begin with the first cut after it was heard."""

    def __init__(self, node: Node, seconds: float, tell: Tell) -> None:
        self._node = node
        self._seconds = seconds
        self._tell = tell
        self._since: float | None = None
        self._pause = FIRST_PAUSE

    def heard(self) -> None:
        """The node answered."""
        self._since = None
        self._pause = FIRST_PAUSE

    async def wait(self, cut: LinkCut) -> None:
        """Until it is time for another try. Raises NodeGone when there will be none."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._tell(words.cut(self._node))
        left = self._since + self._seconds - now
        if left <= 0:
            raise NodeGone(f"node {self._node} was not reached for {self._seconds:g} s: {cut}") from cut
        await asyncio.sleep(min(self._pause, left))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    async def reach(self, call: Callable[[], Awaitable[Result]]) -> Result:
        """The answer to a call that may be made again. Raises NodeGone, and what else it raises."""
        while True:
            try:
                answer = await call()
            except LinkCut as cut:
                await self.wait(cut)
            else:
                self.heard()
                return answer
