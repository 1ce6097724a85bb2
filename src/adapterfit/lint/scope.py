"""Names and what they stand for, at one place of a script."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import libcst as cst

from adapterfit.lint import known, names
from adapterfit.lint.tree import dotted
from adapterfit.lint.values import UNKNOWN, Items, Named, Object, Table, Value, Weights, join

Env = dict[str, Value]
_BUILTINS = frozenset({"str", "open", "dict", "print", "len", "isinstance", "getattr", "hasattr", "setattr"})


class Scope:
    """The names of a script: those of the function that is gone through, and the file's own.

    `shared`: names that some function declares global; of them nothing is known outside of that function.
    `attributes`: what the methods of a class leave on `self`, by class and name.
    """

    def __init__(self, shared: frozenset[str], attributes: Mapping[tuple[str, str], Value]) -> None:
        self.env: Env = {}
        self.globals: Env | None = None
        self.attributes = dict(attributes)
        self.parents: dict[str, tuple[str, ...]] = {}
        self._shared = shared
        self._stars: list[str] = []
        self._heads: set[str] = set()

    def lookup(self, name: str) -> Value:
        """What a name, or a dotted one, stands for here."""
        if self.globals is not None and name in self.env:
            return self.env[name]
        outer = self.env if self.globals is None else self.globals
        if name in outer:
            return UNKNOWN if name.partition(".")[0] in self._shared else outer[name]
        head, _, last = name.rpartition(".")
        if head:
            return self.member(self.lookup(head), last)
        if name in _BUILTINS:
            return Named(f"builtins.{name}")
        return next((names.imported(f"{module}.{name}") for module in self._stars if _exports(module, name)), UNKNOWN)

    def member(self, value: Value, name: str) -> Value:
        """What an attribute of a value is."""
        owner = value.class_name if isinstance(value, Object) else value.name if isinstance(value, Named) else ""
        for each in self.lineage(owner):
            if (each, name) in self.attributes:
                return self.attributes[each, name]
        if isinstance(value, Named):
            return names.imported(f"{value.name}.{name}")
        found = known.attribute(value, name)
        return found if found is not None else UNKNOWN

    def lineage(self, owner: str) -> Iterator[str]:
        """A class of this file and those it is derived from, the nearest first, with those of libraries."""
        found = [owner]
        for each in found:
            yield each
            found += [parent for parent in self.parents.get(each, ()) if parent not in found]

    def bind(self, name: str, value: Value) -> None:
        """Bind a name; what hung on it is forgotten."""
        if name in self._heads:
            for other in [other for other in self.env if other.startswith(f"{name}.")]:
                del self.env[other]
        head = name.rpartition(".")[0]
        while head:
            self._heads.add(head)
            head = head.rpartition(".")[0]
        self.env[name] = value

    def bind_all(self, module: str) -> None:
        """`from module import *`."""
        self._stars.append(module)

    def change(self, node: cst.BaseExpression) -> None:
        """Note that something is put into, or taken out of, what a name stands for."""
        name = dotted(node)
        value = self.lookup(name) if name else UNKNOWN
        if isinstance(value, (Table, Items)):
            self.bind(name, UNKNOWN)
        elif isinstance(value, Weights):
            self.bind(name, dataclasses.replace(value, changed=True, renamed=True))

    def keep(self, owner: str, start: str) -> None:
        """What a method of `owner` leaves on `start` (`self`) is there for its other methods, next to what they leave."""
        for name, value in self.env.items():
            key = (owner, name[len(start) + 1 :])
            if name.startswith(f"{start}.") and "." not in key[1]:
                self.leave(*key, value)

    def leave(self, owner: str, name: str, value: Value) -> None:
        """An attribute of a class, or of its objects, next to what is known of it already."""
        known_so_far = self.attributes.get((owner, name))
        self.attributes[owner, name] = value if known_so_far is None else join(known_so_far, value)


def _exports(module: str, name: str) -> bool:
    """Whether `from module import *` brings a name that rules know."""
    if module == "peft":
        return name.startswith(("Peft", "AutoPeft", "get_peft", "set_peft", "prepare_model")) or name.endswith("Config")
    return module == "transformers" and name.startswith(("Auto", "Trainer"))


def merged(one: Env, two: Env) -> Env:
    """What holds after one of two branches. What only one of them binds is not there for sure."""
    return {
        name: join(one[name], two[name]) if name in one and name in two else UNKNOWN for name in one.keys() | two.keys()
    }
