"""Which node is taken, and which execution blocks are calibrated. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aogconsole.ids import ProjectCode
from aogconsole.stagecalms.job import Node


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a node said."""

    load: float
    """Processes waiting for a processor in the last minute, for each processor there is."""
    free: int
    """Bytes free for working directories."""


@dataclass(frozen=True, slots=True)
class Block:
    """An execution block of the MOUS, as the archive has it."""

    uid: str
    """`uid___...`."""
    qa0: str
    """Its QA0 status; empty when the archive says none."""


def least_loaded(states: Mapping[Node, NodeState], need: int) -> Node | None:
    """The least loaded node with `need` bytes free; of equals the one that has more."""
    roomy = [node for node, state in states.items() if state.free >= need]
    return min(roomy, key=lambda node: (states[node].load, -states[node].free), default=None)


def is_old(project: ProjectCode, before: str) -> bool:
    """Whether a project's CASA runs on RHEL5 nodes only; `before` is a year, or empty for never."""
    return bool(before) and project.value[:4] < before


def to_calibrate(blocks: Iterable[Block]) -> tuple[Sequence[Block], Sequence[Block]]:
    """Those to calibrate, and those left out: QA0 has not passed (domain section 4). Unknown ones are calibrated."""
    ordered = sorted(blocks, key=lambda block: block.uid)
    taken = [block for block in ordered if block.qa0.casefold() in ("", "pass")]
    return taken, [block for block in ordered if block not in taken]
