"""Numbers that remember how they were computed: a model built from them says itself what each of its sizes means.

The fields of a config become `Whole` and `Real` numbers whose text is a formula over field names; arithmetic on them
keeps the text. A torch mode notes the texts of the sizes that tensors are made with. Python drops the text in places
(`range`, `len`, `int`); there the search of `learn` takes over. What was traced is proven on the samples like all else.
"""

from __future__ import annotations

import builtins
import math
import operator
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Callable
from unittest import mock

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedConfig

from architectures import layered

_TOO_LONG = 400
_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand, torch.full, torch.Tensor.new_zeros}
#: How tightly each operator binds; as in the grammar of `formulas`.
_BINDS = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 3}
_DO: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow,
}  # fmt: skip
_DUNDERS = {"+": "add", "-": "sub", "*": "mul", "/": "truediv", "//": "floordiv", "%": "mod", "**": "pow"}
_COMPARE = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
#: Comparisons that models made of traced numbers: where there is one, a condition may hang on it.
compared: dict[str, None] = {}
#: The numbers made last.
_last_made: deque[Any] = deque(maxlen=12)
#: Fields that were asked for while models were built, sub-configs dotted.
read: set[str] = set()
_shadowed: set[int] = set()
_PREFIX = "_traced_prefix"


class Traced:
    """What `Whole` and `Real` share. `binds`: the operator that the text is made with."""

    text: str
    binds: int

    def __deepcopy__(self, memo: object) -> Traced:
        return self

    def __reduce__(self) -> Any:
        return (_plain_type(self), (_plain_type(self)(self),))

    def __int__(self) -> int:
        return int.__int__(self) if isinstance(self, int) else float.__int__(self)  # type: ignore[arg-type]

    def __ceil__(self) -> Any:
        return called("ceil", math.ceil(_bare(self)), self)

    def __floor__(self) -> Any:
        return called("floor", math.floor(_bare(self)), self)

    def __round__(self, digits: int | None = None) -> Any:
        return round(_bare(self), digits) if digits else called("round", round(_bare(self)), self)

    def __neg__(self) -> Any:
        return 0 - self  # type: ignore[operator]


class Whole(Traced, int):
    """A whole number with its formula."""


class Real(Traced, float):
    """A fraction with its formula."""


def _plain_type(value: Any) -> type:
    return int if isinstance(value, int) else float


def _bare(value: Any) -> Any:
    return _plain_type(value)(value) if isinstance(value, Traced) else value


def traced(value: Any, text: str, binds: int = 9) -> Any:
    """`value` with its text; what is no number, or whose text grows too long, stays plain."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or len(text) > _TOO_LONG:
        return value
    made: Any = Whole(value) if isinstance(value, int) else Real(value)
    made.text, made.binds = text, binds
    _last_made.append(made)
    return made


def text_of(value: Any) -> str:
    """The formula of a number; a plain one is its own."""
    if isinstance(value, Traced):
        return value.text
    return repr(value) if isinstance(value, (int, float)) and value >= 0 else f"(0-{-value!r})"


def _said(one: Any, other: Any) -> str:
    """The text of what is compared with.

    A fraction times a whole number keeps none, as Python asks the fraction first: of `new < 0.9 * value`, by which many
    models round their widths, the value is sought among the numbers made last.
    """
    if isinstance(other, (Traced, int)) or other == int(other):
        return text_of(other)
    near = (made.text for made in reversed(_last_made) if _bare(made) * 0.9 == other and made.text != text_of(one))
    return next((f"0.9*({text})" for text in near), "")


def called(function: str, value: Any, *given: Any) -> Any:
    """A value with the text of the call that made it."""
    return traced(value, f"{function}({', '.join(map(text_of, given))})")


def _binary(op: str, left: Any, right: Any) -> Any:
    a, b = _bare(left), _bare(right)
    if not isinstance(a, (int, float)) or not isinstance(b, (int, float)):
        return NotImplemented
    value = _DO[op](a, b)
    if type(value) is type(a) and isinstance(left, Traced) and _idle(op, right):
        return left
    if type(value) is type(b) and isinstance(right, Traced) and op in "+*" and _idle(op, left):
        return right
    if op == "//" and text_of(left) == text_of(right):
        return value
    binds = _BINDS[op]
    first = text_of(left)
    if getattr(left, "binds", 9) < binds + (op == "**"):
        first = f"({first})"
    second = text_of(right)
    if getattr(right, "binds", 9) <= binds:
        second = f"({second})"
    return traced(value, f"{first}{op}{second}", binds)


def _idle(op: str, other: Any) -> bool:
    """Whether this plain number changes nothing here."""
    return not isinstance(other, Traced) and other == (0 if op in "+-" else 1) and op != "%"


def _install() -> None:
    def forward(op: str) -> Any:
        return lambda self, other: _binary(op, self, other)

    def backward(op: str) -> Any:
        return lambda self, other: _binary(op, other, self)

    def comparison(op: str, do: Any) -> Any:
        def compare(self: Any, other: Any) -> Any:
            plain = _bare(other)
            if isinstance(plain, (int, float)) and not isinstance(plain, bool) and (said := _said(self, other)):
                compared[f"{text_of(self)} {op} {said}"] = None
            return do(_bare(self), plain)

        return compare

    for op, name in _DUNDERS.items():
        for cls in (Whole, Real):
            setattr(cls, f"__{name}__", forward(op))
            setattr(cls, f"__r{name}__", backward(op))
    for op, name in _COMPARE.items():
        for cls in (Whole, Real):
            setattr(cls, f"__{name}__", comparison(op, getattr(operator, name)))
    for plain, cls in ((int, Whole), (float, Real)):
        cls.__hash__ = plain.__hash__  # type: ignore[assignment]


_install()


# ------------------------------------------------------------------------------------------------ python's own functions


class _IntType(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, builtins.int)


class _Int(metaclass=_IntType):
    """Stands for `int` in the source of a model."""

    def __new__(cls, value: Any = 0, *more: Any) -> Any:
        if isinstance(value, Traced):
            return value if isinstance(value, int) else called("int", builtins.int(_bare(value)), value)
        return builtins.int(value, *more)


def _extreme(name: str, do: Any) -> Any:
    def made(*given: Any, **more: Any) -> Any:
        if len(given) == 2 and not more and any(isinstance(one, Traced) for one in given):
            value = do(_bare(given[0]), _bare(given[1]))
            if isinstance(value, (int, float)):
                return called(name, value, *given)
        return do(*given, **more)

    return made


def _sum(given: Any, *start: Any) -> Any:
    """The sum of all items of a list that has a name."""
    items = list(given)
    name = items[0].text.rpartition("[")[0] if items and isinstance(items[0], Traced) else ""
    if name and not start and [text_of(one) for one in items] == [f"{name}[{at}]" for at in range(len(items))]:
        return called("sum", sum(map(_bare, items)), traced(0, name))
    return sum(items, *start)


_SHADOWS = {"sum": _sum, "int": _Int, "max": _extreme("max", max), "min": _extreme("min", min)}


# ------------------------------------------------------------------------------------------------ config and tensors


def mark(config: PreTrainedConfig, prefix: str = "") -> None:
    """Give every number of a config its name, in place."""
    vars(config)[_PREFIX] = prefix
    layered.mark(config, _marked, prefix)
    for key, value in list(vars(config).items()):
        if key == _PREFIX:
            continue
        if isinstance(value, PreTrainedConfig):
            mark(value, f"{prefix}{key}.")
        else:
            vars(config)[key] = _marked(value, prefix + key)


def marked(raw: dict[str, Any], names: dict[str, str], prefix: str = "") -> dict[str, Any]:
    """A config.json whose numbers have their names, or what `names` has for them."""
    made = {}
    for key, value in raw.items():
        text = prefix + key
        nested = isinstance(value, dict) and key.endswith("_config")
        made[key] = marked(value, names, f"{text}.") if nested else _marked(value, names.get(text, text))
    return made


def _marked(value: Any, text: str) -> Any:
    if isinstance(value, (list, tuple)):
        made = [_marked(item, f"{text}[{at}]") for at, item in enumerate(value)]
        return made if isinstance(value, list) else tuple(made)
    return traced(value, text)


class _Sizes(TorchFunctionMode):
    """Notes on each new tensor the texts of its sizes."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not isinstance(made, torch.Tensor):
            return made
        if func in _FACTORIES:
            size = (kwargs or {}).get("size", args[-1:] if func is torch.Tensor.new_zeros else args)
            size = size[0] if size and isinstance(size[0], (list, tuple, torch.Size)) else size
            if len(size) == made.ndim:
                made.sizes = tuple(text_of(one) if isinstance(one, Traced) else "" for one in size)
        elif not hasattr(made, "sizes"):
            donors = [a for a in args if isinstance(a, torch.Tensor) and a.shape == made.shape and hasattr(a, "sizes")]
            if donors:
                made.sizes = donors[0].sizes
        return made


@contextmanager
def tracing() -> Iterator[None]:
    """While a model is built from a marked config."""
    make, get = nn.Parameter.__new__, PreTrainedConfig.__getattribute__

    def new(kind: Any, data: Any = None, requires_grad: bool = True) -> Any:
        made = make(kind, data, requires_grad)
        if hasattr(data, "sizes"):
            made.sizes = data.sizes
        return made

    def ask(config: Any, name: str) -> Any:
        if name[:1] != "_":
            prefix = object.__getattribute__(config, "__dict__").get(_PREFIX)
            if prefix is not None:
                read.add(prefix + type(config).attribute_map.get(name, name))
        return get(config, name)

    shadow()
    with (
        mock.patch.object(nn.Parameter, "__new__", new),
        mock.patch.object(PreTrainedConfig, "__getattribute__", ask),
        _Sizes(),
    ):
        yield


def shadow() -> None:
    """Let the sources of all models that are imported use our `int`, `max` and `min`, from here on."""
    if len(sys.modules) in _shadowed:
        return
    _shadowed.add(len(sys.modules))
    for name, module in list(sys.modules.items()):
        if (".modeling_" in name or ".configuration_" in name) and name.startswith("transformers.models."):
            for word, value in _SHADOWS.items():
                vars(module).setdefault(word, value)


def sizes(parameter: Any) -> tuple[str, ...]:
    """The texts of a parameter's sizes; empty where unknown."""
    return getattr(parameter, "sizes", ())
