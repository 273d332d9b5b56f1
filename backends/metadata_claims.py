"""Who gets a place: which of the rows that a runner wants it may launch, within the limits. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from aogconsole.reingestion.item import Change, Item, Queue, claimed, given_back, workflow_id
from aogconsole.reingestion.messages import Work
from backends.reingestion_ports import Limits

APART: Final = "another workflow of its project runs"


@dataclass(frozen=True, slots=True)
class Share:
    """What becomes of the messages that a runner wants to launch."""

    launch: tuple[Item, ...]
    back: tuple[Item, ...]
    full: tuple[Work, ...]
    apart: tuple[Work, ...]
    stale: tuple[Work, ...]

    def changes(self, queue: Queue, installation: UUID, runner: str, now: datetime, lease: timedelta) -> list[Change]:
        """To the rows."""
        launch = [
            Change(one, claimed(one, runner, workflow_id(one, queue, installation), now, lease), runner, "claimed")
            for one in self.launch
        ]
        return launch + [Change(one, given_back(one, APART), runner, APART) for one in self.back]


def share_out(wanted: Sequence[Work], rows: Sequence[Item], taken: Mapping[str, int], limits: Limits) -> Share:
    """Give places in the order of the messages. `rows`: those still queued for just these attempts; `taken`: how many
    places each project has (rows without a project count as one project)."""
    ready = {(one.id, one.attempt): one for one in rows}
    busy, free = dict(taken), limits.total - sum(taken.values())
    launch: list[Item] = []
    back: list[Item] = []
    full: list[Work] = []
    apart: list[Work] = []
    stale: list[Work] = []
    for work in wanted:
        row = ready.pop((work.id, work.attempt), None)  # a message that came twice is stale the second time
        if row is None:
            stale.append(work)
        elif limits.per_project is not None and busy.get(row.project or "", 0) >= limits.per_project:
            apart.append(work)
            back.append(row)
        elif free <= 0:
            full.append(work)
        else:
            free -= 1
            busy[row.project or ""] = busy.get(row.project or "", 0) + 1
            launch.append(row)
    return Share(tuple(launch), tuple(back), tuple(full), tuple(apart), tuple(stale))
