"""The store that the workflows write through. A Protocol only; see `backends.ingest`."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from aogconsole.reingestion.ingested import Calibration, Command, ExecutionBlock


class Ingest(Protocol):
    """What the workflows write, each call one transaction, safe to repeat. Raises MetadataError."""

    async def execution_block(self, block: ExecutionBlock, now: datetime) -> str | None:
        """Put an execution block in place of what is there of it; its MOUS becomes known. Gives the mark that it has
        from its MOUS."""
        ...

    async def calibration(self, calibration: Calibration, now: datetime) -> None:
        """Put a MOUS' calibration in place of what is there of it. It marks nothing: see `Metadata.mark`."""
        ...

    async def take(self, command: Command, now: datetime) -> Command:
        """Record a start command, unless one with its id is there; what is recorded of it now."""
        ...

    async def begin(self, workflow_id: str, owner: str) -> bool:
        """A process is about to run a recorded command: False when another has begun it before, or it has ended.
        True, too, for what is not recorded."""
        ...

    async def end(self, workflow_id: str, complete: bool, reason: str, now: datetime) -> None:
        """How a recorded command's workflow ended; the first word about it stays."""
        ...

    async def told(self, workflow_id: str, now: datetime) -> None:
        """The event of a recorded command's end is published."""
        ...

    async def open(self, site: str) -> list[Command]:
        """The commands of a site whose end is not told yet, the oldest first."""
        ...
