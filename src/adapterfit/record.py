"""Frozen dataclasses whose methods are not generated.

`dataclasses.dataclass` writes and compiles five functions for every class: half a millisecond each time, a fifth of a whole
check for the records it needs. Here the methods are written once and read the fields at run time. Everything else is
the library's: `dataclasses.replace`, `fields` and `asdict` work, and a type checker sees the library's own decorator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError
from typing import TYPE_CHECKING, Any


def _light(*, frozen: bool = True) -> Callable[[type], type]:
    """As `dataclasses.dataclass(frozen=True)`; nothing else can be asked for, and records do not inherit fields."""
    if not frozen:
        raise TypeError("a record is frozen")

    def decorate(cls: type) -> type:
        made: type[Any] = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
        known = dataclasses.fields(made)
        methods: dict[str, Any] = {
            "__match_args__": tuple(field.name for field in known),
            "__init__": _init(made.__name__, known),
            "__setattr__": _refuse,
            "__delattr__": _refuse,
            "__repr__": _repr,
            "__eq__": _eq,
            "__hash__": _hash,
            "_shown": tuple(field.name for field in known if field.repr),
            "_compared": tuple(field.name for field in known if field.compare),
        }
        for name, value in methods.items():
            setattr(made, name, value)
        return made

    return decorate


def _init(title: str, known: tuple[dataclasses.Field[Any], ...]) -> Callable[..., None]:
    names = tuple(field.name for field in known)
    values = {field.name: field.default for field in known if field.default is not MISSING}
    makers = tuple((f.name, f.default_factory) for f in known if f.default_factory is not MISSING)
    needed = [name for name in names if name not in values and name not in dict(makers)]
    allowed = frozenset(names)

    def __init__(self: Any, *given: Any, **named: Any) -> None:  # noqa: N807 - it becomes that method
        held = self.__dict__
        held.update(values)
        held.update(zip(names, given))
        held.update(named)
        if (
            len(given) > len(names)
            or not named.keys() <= allowed
            or (given and not named.keys().isdisjoint(names[: len(given)]))
        ):
            raise TypeError(
                f"{title}() takes {', '.join(names)}; given {len(given)} by position and {', '.join(named)}"
            )
        for name, make in makers:
            if name not in held:
                held[name] = make()
        if len(held) < len(names):
            raise TypeError(f"{title}() lacks {', '.join(name for name in needed if name not in held)}")

    return __init__


def _refuse(self: Any, name: str, *_: Any) -> None:
    raise FrozenInstanceError(f"{type(self).__name__}.{name} is frozen")


def _repr(self: Any) -> str:
    return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._shown)})"


def _key(self: Any) -> tuple[Any, ...]:
    held = self.__dict__
    return tuple([held[name] for name in self._compared])


def _eq(self: Any, other: object) -> bool:
    return _key(self) == _key(other) if type(self) is type(other) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_key(self))


if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass  # noqa: PLC0414 - handed on to a type checker, which knows its name
else:
    dataclass = _light
