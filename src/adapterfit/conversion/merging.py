"""A base's weight with an adapter in it, as PEFT's `merge_and_unload` computes it (peft 0.21.2, `tuners/lora/layer.py`, `variants.py`).

ΔW is computed in float32 from factors in float32 (PEFT loads them so), added to the weight in float32, and the sum rounded once
to the base's own type. A float64 base stays float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from adapterfit.conversion.methods import delta
from adapterfit.conversion.neutral import Change, Layer
from adapterfit.conversion.numbers import FLOATS, Tensor
from adapterfit.errors import CannotConvert
from adapterfit.records import Shape
from adapterfit.repair import numbers as bits
from adapterfit.text import quote

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]


def merged(weight: Tensor, layer: Layer, *, turned: bool) -> Tensor:
    """The base's weight plus a LoRA.

    Args:
        weight: A Linear's (out, in), a Conv1D's (in, out), an embedding's (rows, dim), a convolution's (out, in, *kernel).
        layer: The pair of A and B.
        turned: Whether the weight stands as (in, out): transformers' Conv1D.

    Raises:
        CannotConvert: The shapes do not go together, or the base's numbers are not plain ones.
    """
    _check(weight, layer, turned=turned)
    return Tensor(weight.dtype, weight.shape, lambda: _merged(weight, layer, turned=turned))


def changed(weight: Tensor, change: Change, *, turned: bool) -> Tensor:
    """The base's weight under LoHa, LoKr or IA3."""
    _check_types(change.module, weight, change.tensors.values())
    if change.method == "IA3":
        _check_factors(change, weight.shape[::-1] if turned else weight.shape)
    return Tensor(weight.dtype, weight.shape, lambda: _changed(weight, change, turned=turned))


def _check_factors(change: Change, shape: Shape) -> None:
    """IA3 has a factor for each input (1, in) or for each output (out, 1), and of a convolution both along its second dimension."""
    size = shape[1] if change.feedforward else shape[0]
    wanted = (1, size, *(1 for _ in shape[2:])) if change.feedforward or len(shape) > 2 else (size, 1)
    found = change.tensors["ia3_l"].shape
    if found != wanted:
        raise CannotConvert(
            f"{quote(change.module)} has factors of shape {found}; {wanted} is needed", (change.module,)
        )


def moved(bias: Tensor, layer: Layer) -> Tensor:
    """The base's bias plus a LoRA's own (`lora_bias`)."""
    import numpy as np

    def load() -> Array:
        added = _floats(layer.bias) * np.float32(layer.scale) if layer.bias is not None else 0
        found: Array = bits.from_float64(_floats(bias) + added, bias.dtype)
        return found

    return Tensor(bias.dtype, bias.shape, load)


def rescaled(bias: Tensor, change: Change) -> Tensor:
    """The base's bias under IA3, which scales all that comes out of a module."""
    return Tensor(
        bias.dtype,
        bias.shape,
        lambda: bits.from_float64(_floats(bias) * _floats(change.tensors["ia3_l"]).reshape(bias.shape), bias.dtype),
    )


# --------------------------------------------------------------------------------------------------- the sums


def _check_types(module: str, weight: Tensor, factors: Iterable[Tensor | None]) -> None:
    if weight.dtype not in FLOATS:
        raise CannotConvert(f"{quote(module)}: the base holds numbers of type {weight.dtype}", (module,))
    odd = [tensor.dtype for tensor in factors if tensor is not None and tensor.dtype not in FLOATS]
    if odd:
        raise CannotConvert(f"{quote(module)}: the adapter holds numbers of type {odd[0]}", (module,))


def _check(weight: Tensor, layer: Layer, *, turned: bool) -> None:
    _check_types(layer.module, weight, (layer.a, layer.b, layer.magnitude, layer.bias))
    if layer.kind == "embedding":
        wanted: Shape = (layer.a.shape[1], layer.b.shape[0])
    else:
        wanted = (layer.b.shape[0], layer.a.shape[1], *layer.a.shape[2:])
        wanted = wanted[::-1] if turned else wanted
    if layer.kind == "conv" and layer.b.shape[1] != layer.rank:
        raise CannotConvert(f"{quote(layer.module)} is a grouped convolution: not merged", (layer.module,))
    if weight.shape != wanted:
        raise CannotConvert(
            f"{quote(layer.module)} has a weight of shape {weight.shape} in the base; the adapter is for {wanted}",
            (layer.module,),
        )


def _merged(weight: Tensor, layer: Layer, *, turned: bool) -> Array:
    import numpy as np

    a, b = _floats(layer.a), _floats(layer.b)
    product = b.reshape(b.shape[0], -1) @ a.reshape(a.shape[0], -1)
    turned = turned or layer.kind == "embedding"
    added = (product.T if turned else product).reshape(weight.shape) * np.float32(layer.scale)
    if layer.parameter or (layer.kind == "embedding" and layer.magnitude is None):  # PEFT rounds ΔW of these
        added = bits.to_float64(bits.from_float64(added, weight.dtype), weight.dtype).astype(added.dtype)
    whole = _floats(weight) + added
    if layer.magnitude is not None:
        rows = whole.T if turned else whole.reshape(whole.shape[0], -1)
        factor = _floats(layer.magnitude).reshape(-1) / np.sqrt((rows * rows).sum(axis=1))
        whole = (factor[:, None] * rows).T if turned else (factor[:, None] * rows).reshape(whole.shape)
    found: Array = bits.from_float64(whole, weight.dtype)
    return found


def _changed(weight: Tensor, change: Change, *, turned: bool) -> Array:
    found: Array
    if change.method != "IA3":
        found = bits.from_float64(_floats(weight) + delta(change, weight.shape), weight.dtype)
        return found
    factors = _floats(change.tensors["ia3_l"])
    if (
        factors.ndim > 2
    ):  # a convolution's factors stand along its second dimension, its outputs along the weight's first
        factors = factors if change.feedforward else factors.swapaxes(0, 1)
    found = bits.from_float64(_floats(weight) * (factors.T if turned else factors), weight.dtype)
    return found


def _floats(tensor: Tensor) -> Array:
    """Numbers in the type that PEFT computes in: float32, but float64 where they are that."""
    import numpy as np

    if tensor.dtype == "F64":
        return tensor.floats()
    found: Array = tensor.load()
    if tensor.dtype == "BF16":  # its bits are the upper half of a float32's
        singles: Array = (found.astype("<u4") << np.uint32(16)).view("<f4")
        return singles
    return np.ascontiguousarray(found).view("<f4" if tensor.dtype == "F32" else "<f2").astype("<f4", copy=False)
