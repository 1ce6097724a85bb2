"""Fused experts with an adapter in them, as PEFT's `merge_and_unload` computes it (peft 0.21.2, `tuners/lora/layer.py`: `ParamWrapper`).

ΔW of an expert is B_e A_e (turned where the parameter is (E, in, out)), computed in float32, rounded to the base's type before it
is added there. A checkpoint may hold the experts one by one, gate and up apart, or the whole parameter turned: each of its
tensors gets its own part, so that no more than one of them is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from adapterfit.conversion.base_model import Model
from adapterfit.conversion.neutral import Parameter
from adapterfit.conversion.numbers import FLOATS, Tensor
from adapterfit.errors import CannotConvert
from adapterfit.expect.places import Pieces
from adapterfit.repair import numbers as bits
from adapterfit.text import quote

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

#: Expert → what is added to its matrix (d1, d2), in float32.
Delta = Callable[[int], "Array"]
#: The layers' factors that are held at a time: experts of two parameters lie beside each other in a checkpoint.
_HELD = 4


def merged(model: Model, parameters: tuple[Parameter, ...]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parameters with the adapter in them: by their names, and by those of the checkpoint's tensors that make them up.

    Raises:
        CannotConvert: The base has no such tensors, or holds numbers that are not computed with.
    """
    named = {one.name: one for one in parameters}
    factors = lru_cache(maxsize=_HELD)(
        lambda name: _factors(named[name])
    )  # shared: else every layer would keep its own
    whole: dict[str, Tensor] = {}
    of_pieces: dict[str, Tensor] = {}
    for one in parameters:
        if len(one.shape) > 2 and one.experts == 1 and one.turned:
            raise CannotConvert(
                f"{quote(one.name)} is a single expert that stands turned: PEFT does not turn its product"
            )
        delta = _delta(one, factors)
        tensor = model.tensor(one.name)
        if tensor is not None:
            whole[one.name] = _all_experts(tensor, one.name, one.shape, delta, turned=False)
        elif one.name in model.pieces:
            of_pieces.update(_in_pieces(model, model.pieces[one.name], one, delta))
        else:
            raise CannotConvert(f"the base has no tensor that becomes {quote(one.name)}", (one.name,))
    return whole, of_pieces


def _factors(one: Parameter) -> tuple[Array, Array]:
    """A (E, r, in) and B (out, r, E) in float32."""
    import numpy as np

    a, b = (tensor.floats().astype(np.float32) for tensor in (one.a, one.b))
    return a.reshape(one.experts, one.rank, -1), b.reshape(-1, one.rank, one.experts)


def _delta(one: Parameter, factors: Callable[[str], tuple[Array, Array]]) -> Delta:
    def delta(expert: int) -> Array:
        import numpy as np

        a, b = factors(one.name)
        product = (b[:, :, expert] @ a[expert]) * np.float32(one.scale)
        found: Array = product.T if one.turned else product
        return found

    return delta


def _in_pieces(model: Model, pieces: Pieces, one: Parameter, delta: Delta) -> Iterator[tuple[str, Tensor]]:
    """The checkpoint's tensors, each with its part."""
    ops = list(pieces.ops)
    if ops == [("transpose", 1, 2)]:
        info = pieces.parts[0][0]
        shape = (one.shape[0], *one.shape[:0:-1])
        yield info.name, _all_experts(model.piece(info), info.name, shape, delta, turned=True)
        return
    if (
        ops[:1] != [("stack", 0)]
        or ops[1:] not in ([], [("concatenate", 1)])
        or (len(pieces.parts) > 1) != bool(ops[1:])
    ):
        raise CannotConvert(
            f"the base makes {quote(one.name)} of other tensors in a way that is not undone here", (one.name,)
        )
    at = 0
    for part in pieces.parts:
        rows = part[0].shape[0]
        if len(part) != one.experts or any(info.shape != (rows, one.shape[2]) for info in part):
            raise CannotConvert(f"the base's tensors do not make up {quote(one.name)} {one.shape}", (one.name,))
        for expert, info in enumerate(part):
            yield info.name, _one_expert(model.piece(info), info.name, expert, (at, at + rows), delta)
        at += rows
    if at != one.shape[1]:
        raise CannotConvert(f"the base's tensors do not make up {quote(one.name)} {one.shape}", (one.name,))


def _one_expert(weight: Tensor, name: str, expert: int, rows: tuple[int, int], delta: Delta) -> Tensor:
    _check(weight, name, weight.shape)
    return Tensor(weight.dtype, weight.shape, lambda: _added(weight.load(), delta(expert)[slice(*rows)], weight.dtype))


def _all_experts(weight: Tensor, name: str, shape: tuple[int, ...], delta: Delta, *, turned: bool) -> Tensor:
    _check(weight, name, shape)

    def load() -> Array:
        held = weight.load()
        if len(held.shape) == 2:
            return _added(held, delta(0), weight.dtype)
        new: Array = held.copy()
        for expert, matrix in enumerate(held):
            added = delta(expert)
            new[expert] = _added(matrix, added.T if turned else added, weight.dtype)
        return new

    return Tensor(weight.dtype, weight.shape, load)


def _check(weight: Tensor, name: str, shape: tuple[int, ...]) -> None:
    if weight.dtype not in FLOATS or weight.shape != tuple(shape):
        raise CannotConvert(f"{quote(name)} is {weight.dtype} {weight.shape} in the base: {shape} is needed", (name,))


def _added(held: Array, delta: Array, dtype: str) -> Array:
    import numpy as np

    rounded = bits.to_float64(bits.from_float64(delta, dtype), dtype)
    whole = bits.to_float64(held, dtype) + rounded
    found: Array = bits.from_float64(whole if dtype == "F64" else whole.astype(np.float32), dtype)
    return found
