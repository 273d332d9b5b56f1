"""The checks of a calibration: each rule, their order, and the pattern as SQL would read it."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aogconsole.reingestion import rules
from aogconsole.reingestion.item import State
from aogconsole.reingestion.rules import Judgement, custom_scripts, judged

CUSTOM = "member.uid___A001_X1_X2.scriptForFluxCalibration.py"


def like(pattern: str, text: str) -> bool:
    """SQL's LIKE in a database that minds the case, written another way than the rules have it."""
    parts = [re.escape(part) for part in pattern.split("%")]
    return re.fullmatch("(?s:" + ".*".join(parts) + ")", text) is not None


@pytest.mark.parametrize(
    ("name", "custom"),
    [
        (CUSTOM, True),
        ("uid___A002_X1_X2.ms.scriptForCalibration.py", True),
        ("scriptForCal", True),
        ("scriptFor/one\nCal", True),
        ("member.uid___A001_X1_X2.scriptForPI.py", False),
        ("member.uid___A001_X1_X2.scriptForImaging.py", False),
        ("member.uid___A001_X1_X2.scriptforcalibration.py", False),
        ("ScriptForCalibration.py", False),
        ("scriptForcalibration.py", False),
        ("CalscriptFor.py", False),
        ("", False),
    ],
)
def test_custom_scripts(name: str, custom: bool) -> None:
    """`%scriptFor%Cal%`, as the seed has it, in this order and with these letters."""
    assert bool(custom_scripts([name])) is custom
    assert like("%scriptFor%Cal%", name) is custom


@given(st.text(alphabet="scriptForCal._%\n", max_size=40))
def test_custom_scripts_as_sql_reads_it(name: str) -> None:
    """Any name is judged as LIKE would."""
    assert bool(custom_scripts([name])) is like("%scriptFor%Cal%", name)


def right(science: int, in_structure: bool, scripts: tuple[str, ...]) -> State:
    """The contract's order, written down as a table."""
    table = {
        (False, False): State.DEFERRED,
        (False, True): State.DEFERRED,
        (True, False): State.DEFERRED,
        (True, True): State.DO_NOT_CALIBRATE if scripts else State.WAITING,
    }
    return table[science > 0, in_structure]


def test_every_combination() -> None:
    """Science products, structure and scripts in every combination."""
    for science, known, scripts in itertools.product((0, 1, 7), (False, True), ((), (CUSTOM,))):
        found = judged(science, in_structure=known, scripts=scripts)
        assert found.state is right(science, known, scripts)
        assert bool(found.reason) is (found.state is not State.WAITING)


def test_order() -> None:
    """What has no science products is deferred for that reason, whatever else it has."""
    assert judged(0, in_structure=False, scripts=[CUSTOM]).reason == rules.NO_SCIENCE
    assert judged(1, in_structure=False, scripts=[CUSTOM]).reason == rules.NO_STRUCTURE
    assert judged(1, in_structure=True, scripts=["scriptForPI.py"]) == Judgement(State.WAITING)


def test_many_scripts_are_counted() -> None:
    """A reason names a few scripts and counts the others."""
    found = judged(1, in_structure=True, scripts=[f"{n}.scriptForCalibration.py" for n in range(5)])
    assert found.reason.endswith("2.scriptForCalibration.py and 2 more")
