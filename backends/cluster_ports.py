"""The outside world of the staging command: the cluster, and the archive's execution blocks. Protocols only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from aogconsole.errors import OutsideError
from aogconsole.ids import MousUid
from aogconsole.stagecalms.choice import Block
from aogconsole.stagecalms.job import Generation, Work

Tell = Callable[[str], None]
"""Takes a line that the staging command prints."""
Making = Callable[[Work], None]
"""Takes note, durably when it returns, that a directory is about to be made."""


class LinkCut(OutsideError):
    """The connection to a node broke, or could not be made. What was asked for may have happened, or go on."""


class NodeRefused(OutsideError):
    """A node answered that it cannot: no space, no calibrator, a directory of somebody else."""


@dataclass(frozen=True, slots=True)
class WorkState:
    """How a working directory's worker is."""

    state: Literal["absent", "made", "running", "ended", "lost"]
    """`absent`: no directory with this token; `made`: no worker yet; `lost`: the worker is gone without a word."""
    status: int | None = None
    """Exit status, when it has ended: 0 when every tar is there."""
    log: int = 0
    """Bytes of its log."""
    why: str = ""
    """Why it is lost, where that is known: what a scheduler said."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A tar in a working directory."""

    name: str
    size: int
    sha256: str
    """Computed while it was packed."""


class Cluster(Protocol):
    """The nodes, by whichever engine. Every call is bounded in time; a cut connection raises LinkCut."""

    async def place(
        self, work: PurePosixPath, token: str, *, old: bool, tell: Tell, making: Making | None = None
    ) -> Work | None:
        """Choose a node and make the working directory there; None when there is none to take (each is told).

        `work` is made anew if nobody else's; another number is taken (see `Work.directory`) when it is. `old`: a RHEL5
        node. Side by side, within one time limit.

        `making` is called before every single request to a node to make a directory, with exactly the node and the
        directory of that request: again for another number, again for another node after a cut. Who is killed at any
        moment has then noted every directory that can be there, and whoever sweeps tries `remove` on each.
        """

    async def forget(self, token: str) -> None:
        """End what the engine was asked for with this token before a node was known; again: nothing happens.

        A job that waits for its node with the scheduler (found by its name, which has the token). By SSH: nothing.
        """

    async def begin(self, work: Work, generation: Generation) -> None:
        """Start the worker, detached from the connection. Again with the same token: nothing more happens."""

    def follow(self, work: Work, offset: int) -> AsyncIterator[bytes]:
        """The worker's log from a byte on, until it has ended."""

    async def state(self, work: Work) -> WorkState:
        """How the worker is."""

    async def packed(self, work: Work) -> Sequence[Packed]:
        """The tars that a worker has left."""

    def fetch(self, work: Work, names: Collection[str], into: Path) -> AsyncIterator[bytes]:
        """Copy tars by rsync, yielding its lines; what came before a cut is not sent again."""

    async def end(self, work: Work) -> None:
        """End the worker and all its processes; done when none is left, and when there is no such directory."""

    async def remove(self, work: Work) -> None:
        """Remove the working directory if it has this token, and whatever the engine keeps of it; again: nothing."""


class Blocks(Protocol):
    """Which execution blocks a MOUS has."""

    async def of(self, mous: MousUid) -> Sequence[Block]:
        """Those the archive knows, each once; none when the MOUS is unknown. Raises OutsideError."""
