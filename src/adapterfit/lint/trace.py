"""What a script does, in order, as far as it can be told without running it: its calls, assignments and reads of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Union

import libcst as cst

from adapterfit.lint.values import UNKNOWN, Model, Value

#: The ways a branch was taken: (which `if`, which arm of it), outermost first.
Arms = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Place:
    """Where something stands: the statement, its line (None behind a colon), and the calls whose `with` it is inside of.

    `context`: the calls through which its function was reached, outermost first.
    """

    statement: cst.BaseSmallStatement | None
    line: cst.SimpleStatementLine | None
    block: tuple[cst.CSTNode, ...] = ()
    within: tuple[str, ...] = ()
    arms: Arms = ()
    scope: cst.CSTNode | None = None
    context: tuple[cst.CSTNode, ...] = ()


@dataclass(frozen=True)
class Argument:
    """One argument of a call: how it is written, and what is known of its value."""

    node: cst.Arg
    value: Value


@dataclass(frozen=True)
class Call:
    """A call. `name` is canonical: `peft.get_peft_model`, or `model.save_pretrained` for a method of a known kind of value.

    `dropped`: nothing takes its result. `whole`: no `*` or `**` hides arguments.
    """

    at: int
    name: str
    node: cst.Call
    place: Place
    receiver: Value
    positional: tuple[Argument, ...]
    keywords: dict[str, Argument]
    whole: bool
    dropped: bool
    result: Value = UNKNOWN

    def argument(self, position: int | None, keyword: str) -> Argument | None:
        """The argument at a position or of a name, None where it is not given."""
        if keyword in self.keywords:
            return self.keywords[keyword]
        if position is not None and position < len(self.positional):
            return self.positional[position]
        return None

    def value(self, position: int | None, keyword: str) -> Value:
        """Its value."""
        found = self.argument(position, keyword)
        return found.value if found else UNKNOWN


@dataclass(frozen=True)
class Store:
    """An assignment to an attribute of a model; `mentions` are the names of libraries that the right side uses."""

    at: int
    receiver: Value
    attribute: str
    node: cst.CSTNode
    place: Place
    mentions: frozenset[str]


@dataclass(frozen=True)
class Read:
    """A model is used; `attribute` is what of it, empty where it is handed on or called as a whole."""

    at: int
    model: Model
    attribute: str
    node: cst.BaseExpression
    place: Place


Event = Union[Call, Store, Read]


def follows(earlier: Event, later: Event) -> bool:
    """Whether both can happen in one run, in this order: not in two arms of one branch."""
    taken = dict(earlier.place.arms)
    return later.at > earlier.at and all(taken.get(branch, arm) == arm for branch, arm in later.place.arms)


class Trace:
    """All events, in the order in which they happen. Asked only once all of them are there."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    @cached_property
    def _by_name(self) -> Mapping[str, list[Call]]:
        found: dict[str, list[Call]] = {}
        for event in self.events:
            if isinstance(event, Call):
                found.setdefault(event.name, []).append(event)
        return found

    @cached_property
    def _by_node(self) -> Mapping[cst.CSTNode, list[Call | Store]]:
        found: dict[cst.CSTNode, list[Call | Store]] = {}
        for event in self.events:
            if not isinstance(event, Read):
                found.setdefault(event.node, []).append(event)
        return found

    @cached_property
    def _reads(self) -> Mapping[int, list[Read]]:
        found: dict[int, list[Read]] = {}
        for event in self.events:
            for one in event.model.ids if isinstance(event, Read) else ():
                found.setdefault(one, []).append(event)  # type: ignore[arg-type]
        return found

    def calls(self, *names: str) -> Iterator[Call]:
        """The calls of these names, in order; a name that ends in `*` stands for all that begin like it."""
        starts = tuple(name[:-1] for name in names if name.endswith("*"))
        wanted = {name for name in self._by_name if name in names or (starts and name.startswith(starts))}
        return iter(sorted((call for name in wanted for call in self._by_name[name]), key=lambda call: call.at))

    def stores(self) -> Iterator[Store]:
        """Assignments to attributes of models."""
        return (event for event in self.events if isinstance(event, Store))

    def reads(self, model: Model) -> Iterator[Read]:
        """Where exactly this object is used, in order."""
        found = {read.at: read for one in model.ids for read in self._reads.get(one, ())}
        return (found[at] for at in sorted(found))

    def runs(self, node: cst.CSTNode) -> Sequence[Call | Store]:
        """Every time that this call or assignment happens."""
        return self._by_node.get(node, ())

    def call_of(self, node: cst.CSTNode | None) -> Call | None:
        """The call that this node is, as it happened first."""
        first = next(iter(self.runs(node)), None) if node is not None else None
        return first if isinstance(first, Call) else None
