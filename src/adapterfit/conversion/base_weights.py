"""The base's own tensors, looked up by the names its modules have at runtime."""

from __future__ import annotations

from adapterfit.conversion.numbers import Tensor, stored
from adapterfit.conversion.opened import Opened
from adapterfit.expect.places import places

_COPY = ".base_layer.weight"
_PREFIX = "base_model.model."


def base_tensor(opened: Opened, parameter: str) -> Tensor | None:
    """The base's tensor that becomes this parameter as it is, tied ones included; None where there is none, or no base with weights."""
    base = opened.base
    if base is None or base.opened is None:
        return None
    named = places(base, base.architecture)
    tree = opened.tree()
    same = next((group for group in tree.tied if parameter in group), ()) if tree is not None else ()
    info = next((named[name] for name in (parameter, *same) if name in named), None)
    return stored(base.opened, info) if info is not None else None


def is_copy(opened: Opened, name: str) -> bool:
    """Whether an adapter's tensor is bit for bit a weight that the base has anyway."""
    if not (name.startswith(_PREFIX) and name.endswith(_COPY)):
        return False
    theirs = base_tensor(opened, name[len(_PREFIX) : -len(_COPY)] + ".weight")
    mine = opened.tensors()[name]
    if theirs is None or (theirs.dtype, theirs.shape) != (mine.dtype, mine.shape):
        return False
    return bool((theirs.load() == mine.load()).all())
