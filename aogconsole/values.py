"""Values: frozen dataclasses of which nothing is compiled.

What `dataclasses` writes for a class is compiled anew each time its module is loaded, about a millisecond a class.
These have the fields only, and all else from one base; `dataclasses.replace` and `fields` know them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

__all__ = ["Value", "value"]


class Value:
    """Base of all values: made once, equal when of one class with equal fields."""

    _names: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[dict[str, Any]] = {}
    _makers: ClassVar[dict[str, Callable[[], Any]]] = {}

    def __init__(self, *words: Any, **named: Any) -> None:
        names = self._names
        given = dict(zip(names, words, strict=False))
        made = self._defaults | {name: make() for name, make in self._makers.items()} | given | named
        if len(words) > len(names) or len(given) + len(named) > len(given | named) or made.keys() != set(names):
            raise TypeError(f"{type(self).__name__} is made of {', '.join(names)}")
        self.__dict__.update(made)

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__[name] for name in self._names))

    def __repr__(self) -> str:
        shown = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(shown)})"


if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:

    def value(*, frozen: bool) -> Callable[[type], type]:
        """Make a class that derives from `Value` one; to a type checker it is `dataclasses.dataclass`."""

        def made(cls: type) -> type:
            cls = dataclass(init=False, repr=False, eq=False, match_args=False)(cls)
            every = fields(cls)
            cls._names = tuple(one.name for one in every)
            cls._defaults = {one.name: one.default for one in every if one.default is not MISSING}
            cls._makers = {one.name: one.default_factory for one in every if one.default_factory is not MISSING}
            return cls

        return made
