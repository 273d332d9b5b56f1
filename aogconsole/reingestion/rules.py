"""The checks of a calibration before it is ingested (second seed), on values that somebody else asked for. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from aogconsole.reingestion.item import State

NO_SCIENCE = "no science products are archived yet"
NO_STRUCTURE = "the MOUS is not in alma_ouses yet: none of its execution blocks has been ingested"

_CUSTOM = re.compile(r"scriptFor.*Cal", re.DOTALL)
_SHOWN = 3
"""Names of scripts in a reason."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of a calibration, and why."""

    state: State
    reason: str = ""


def custom_scripts(names: Sequence[str]) -> tuple[str, ...]:
    """Those of a MOUS's script files with which a person calibrated: SQL's `%scriptFor%Cal%`, case-sensitive."""
    return tuple(name for name in names if _CUSTOM.search(name))


def judged(science: int, *, in_structure: bool, scripts: Sequence[str]) -> Judgement:
    """Judge one calibration. The order is the contract's (design section 8): what is deferred is not marked.

    `science`: archived files of that class; `in_structure`: whether `alma_ouses` has the MOUS; `scripts`: files of
    class `script`.
    """
    if science < 1:
        return Judgement(State.DEFERRED, NO_SCIENCE)
    if not in_structure:
        return Judgement(State.DEFERRED, NO_STRUCTURE)
    if custom := custom_scripts(scripts):
        more = "" if len(custom) <= _SHOWN else f" and {len(custom) - _SHOWN} more"
        return Judgement(State.DO_NOT_CALIBRATE, f"custom calibration scripts: {', '.join(custom[:_SHOWN])}{more}")
    return Judgement(State.WAITING)
