"""What lint knows about a value without running anything: where it comes from, and what that makes it.

A value that is not known for sure is a plain `Value()`; no rule fires on it. Values are compared field by field, except for
`ids` and `origin`, which say which object it is: two names for one object share an id.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import libcst as cst


@dataclass(frozen=True)
class Value:
    """Something of which nothing is known; the root of all that is."""


UNKNOWN = Value()


@dataclass(frozen=True)
class Named(Value):
    """Something imported, by its canonical name: `peft.PeftModel.from_pretrained`."""

    name: str


@dataclass(frozen=True)
class Constant(Value):
    """A number, True, False, None or `...` that stands in the code."""

    value: Any


@dataclass(frozen=True)
class Text(Value):
    """A string or path. `exact` where all of it is known; `tail` is the part at its end that is known."""

    exact: str | None = None
    tail: str = ""


@dataclass(frozen=True)
class Items(Value):
    """A tuple or list whose items are known one by one."""

    items: tuple[Value, ...]


@dataclass(frozen=True)
class Table(Value):
    """A dict, or the keyword arguments of a call. `whole` is false where `**` or a computed key adds to it."""

    entries: Mapping[str, Value] = field(default_factory=dict)
    whole: bool = True

    def get(self, key: str) -> Value:
        """The value under a key, unknown where there is none."""
        return self.entries.get(key, UNKNOWN)


@dataclass(frozen=True)
class Model(Value):
    """A model. Each of its facts is None where it is not known.

    `wrapped`: a PeftModel or not. `loaded`: its adapter came from files. `outer`: what it was put into (`ddp`, `dp`, `fsdp`,
    `deepspeed`, `accelerate`, `compiled`), with the model itself in `inner`. `base`: what PEFT was put around.
    `class_name`: the class that made it, without its library. `config`: the adapter's. `source`: from which path or Hub id.
    """

    class_name: str | None = None
    wrapped: bool | None = None
    loaded: bool | None = None
    trainable: bool | None = None
    outer: str = ""
    inner: Model | None = None
    base: Model | None = None
    config: Value = UNKNOWN
    source: Value = UNKNOWN
    adapter: Value = UNKNOWN
    ids: frozenset[int] = field(default=frozenset(), compare=False)
    origin: cst.Call | None = field(default=None, compare=False, repr=False)

    @property
    def family(self) -> frozenset[int]:
        """The objects that share its weights: itself, what is inside it, and the base it was put around."""
        others = [part.family for part in (self.inner, self.base) if part is not None]
        return self.ids.union(*others)

    @property
    def bare(self) -> Model:
        """The model without what it was put into."""
        return self.inner.bare if self.inner is not None else self


@dataclass(frozen=True)
class Weights(Value):
    """A state dict: read from `path`, or taken `of` a model. `changed`: its names or tensors were worked over since.

    `renamed`: its names may have been worked over.
    `only_adapter` holds for what PEFT itself picks out (`get_peft_model_state_dict`).
    """

    path: Value = UNKNOWN
    of: Model | None = None
    changed: bool = False
    renamed: bool = False
    only_adapter: bool = False
    origin: cst.Call | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Tensor(Value):
    """One tensor of `weights` that lie in a file, asked for under what stands in the variable `name`."""

    weights: Weights
    name: str = ""


@dataclass(frozen=True)
class Outcome(Value):
    """What `set_peft_model_state_dict` gives back: the model itself before PEFT 0.3, since then what did not arrive.

    Whoever puts it in the model's place wrote for the former.
    """

    model: Model


@dataclass(frozen=True)
class Config(Value):
    """A PEFT config: made in the code (`fields`), or read `path`."""

    class_name: str = ""
    path: Value = UNKNOWN
    from_file: bool = False
    fields: Table = Table()
    origin: cst.Call | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Object(Value):
    """An instance of a known class (a Trainer, an Accelerator), with the keyword arguments it was made with."""

    class_name: str
    arguments: Table = Table()
    ids: frozenset[int] = field(default=frozenset(), compare=False)


@dataclass(frozen=True)
class Method(Value):
    """A bound method that was not called yet."""

    receiver: Value
    name: str


@dataclass(frozen=True)
class Function(Value):
    """A function or lambda of this file; `owner` is its class, for methods."""

    node: cst.CSTNode = field(compare=True)
    owner: str = ""


def join(one: Value, two: Value) -> Value:
    """What holds for a value that is one of two: only what both have in common.

    None takes part in no call that works, so beside it the other stays; a text beside None may really be missing. Nor does a
    state dict without an entry.
    """
    if one == two:
        return _same(one, two)
    for first, second in ((one, two), (two, one)):
        if first == Constant(None) and isinstance(second, (Named, Model, Weights, Object, Function, Config)):
            return second
        if first == Table() and isinstance(second, Weights):  # a dict that a loop fills
            return second
    if isinstance(one, Model) and isinstance(two, Model) and one.outer == two.outer:
        return _join_models(one, two)
    if isinstance(one, Text) and isinstance(two, Text):
        return Text(None, _common_tail(one.tail, two.tail))
    if (
        isinstance(one, Weights)
        and isinstance(two, Weights)
        and (one.of, one.only_adapter) == (two.of, two.only_adapter)
    ):
        path = join(one.path, two.path)
        changed, renamed = one.changed or two.changed, one.renamed or two.renamed
        return Weights(path, one.of, changed, renamed, one.only_adapter, _origin(one, two))
    if isinstance(one, Items) and isinstance(two, Items) and len(one.items) == len(two.items):
        return Items(tuple(map(join, one.items, two.items)))
    return UNKNOWN


def _same(one: Value, two: Value) -> Value:
    """Two values that say the same: the objects they may be, and the call they come from if that is one."""
    if isinstance(one, Object) and isinstance(two, Object):
        return dataclasses.replace(one, ids=one.ids | two.ids)
    if isinstance(one, Model) and isinstance(two, Model):
        return dataclasses.replace(
            one,
            ids=one.ids | two.ids,
            origin=_origin(one, two),
            inner=_part(one.inner, two.inner),
            base=_part(one.base, two.base),
        )
    if isinstance(one, (Weights, Config)) and isinstance(two, (Weights, Config)):
        return dataclasses.replace(one, origin=_origin(one, two))
    return one


def _origin(one: Model | Weights | Config, two: Model | Weights | Config) -> cst.Call | None:
    return one.origin if one.origin is two.origin else None


def _part(one: Model | None, two: Model | None) -> Model | None:
    joined = join(one, two) if one is not None and two is not None else None
    return joined if isinstance(joined, Model) else None


def _common_tail(one: str, two: str) -> str:
    """What two paths both end in; an adapter's file is one in either container."""
    if one == two:
        return one
    first, second = (tail.rpartition("/")[2] for tail in (one, two))
    both = first.startswith("adapter_model.") and second.startswith("adapter_model.")
    return f"/{first}" if both else ""


def _join_models(one: Model, two: Model) -> Value:
    def both(name: str) -> Any:
        first, second = getattr(one, name), getattr(two, name)
        return first if first == second else None

    def value(name: str) -> Value:
        return join(getattr(one, name), getattr(two, name))

    return Model(
        class_name=both("class_name"),
        wrapped=both("wrapped"),
        loaded=both("loaded"),
        trainable=both("trainable"),
        outer=one.outer,
        inner=_part(one.inner, two.inner),
        base=_part(one.base, two.base),
        config=value("config"),
        source=value("source"),
        adapter=value("adapter"),
        ids=one.ids | two.ids,
        origin=_origin(one, two),
    )
