"""Values are as frozen dataclasses are, though nothing is compiled for them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from typing import Any

import pytest

from aogconsole.values import Value, value


@value(frozen=True)
class Ours(Value):
    """A value."""

    first: int
    second: str = "two"
    secret: str = field(default="hidden", repr=False)
    many: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Theirs:
    """The same, as `dataclasses` makes it."""

    first: int
    second: str = "two"
    secret: str = field(default="hidden", repr=False)
    many: list[int] = field(default_factory=list)


WORDS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((1,), {}), ((1, "b"), {}), ((), {"first": 1}), ((), {"second": "b", "first": 1}), ((1, "b", "c", [4]), {}),
]  # fmt: skip
WRONG: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}), ((), {"second": "b"}), ((1,), {"first": 1}), ((1, "b", "c", [], 5), {}), ((1,), {"third": 3}),
]  # fmt: skip


@pytest.mark.parametrize(("words", "named"), WORDS)
def test_they_are_made_compared_shown_and_changed_alike(words: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Fields, defaults, order, what `repr` leaves out, and `replace`."""
    ours, theirs = Ours(*words, **named), Theirs(*words, **named)
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert [getattr(ours, one.name) for one in fields(ours)] == [getattr(theirs, one.name) for one in fields(theirs)]
    assert ours == Ours(*words, **named)
    assert ours != replace(ours, first=2)
    assert ours != theirs
    assert repr(replace(ours, second="z")) == repr(replace(theirs, second="z")).replace("Theirs", "Ours")


@pytest.mark.parametrize(("words", "named"), WRONG)
def test_both_refuse_what_is_no_value(words: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Too few, too many, twice or unknown."""
    for kind in (Ours, Theirs):
        with pytest.raises(TypeError):
            kind(*words, **named)


def test_a_value_does_not_change() -> None:
    """Neither set nor deleted; equal ones are one in a set; each has a list of its own."""
    one = Ours(1)
    with pytest.raises(FrozenInstanceError):
        one.first = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del one.second
    assert one.many is not Ours(1).many
    whole = {Ours(1, many=()), Ours(1, many=())}  # type: ignore[arg-type]
    assert len(whole) == 1
