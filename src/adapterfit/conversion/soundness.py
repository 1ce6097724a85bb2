"""What must hold of every adapter that was read, whatever format it came in: numbers and shapes that no two programs read alike are refused."""

from __future__ import annotations

import math

from adapterfit.conversion.neutral import Layer, Neutral, Parameter
from adapterfit.errors import CannotConvert
from adapterfit.text import quote


def check_sound(found: Neutral) -> None:
    """A rank or scale of nothing, an alpha that is no number, factors that do not go together.

    Raises:
        CannotConvert: A layer has one.
    """
    every: tuple[Layer | Parameter, ...] = (*found.layers, *found.parameters)
    for layer in every:
        _check_scale(layer)
    for layer in found.layers:
        _check_shapes(layer)


def _check_scale(layer: Layer | Parameter) -> None:
    if layer.rank < 1 or not math.isfinite(layer.alpha) or layer.alpha == 0:
        what = "no rank" if layer.rank < 1 else f"the alpha {layer.alpha:g}"
        raise CannotConvert(
            f"{quote(layer.name)} has {what}: it does nothing, or nothing that is defined", (layer.name,)
        )


def _check_shapes(layer: Layer) -> None:
    a, b = layer.a.shape, layer.b.shape
    alike = len(a) == len(b) and (len(a) > 2) == (layer.kind == "conv")
    grouped = layer.kind == "conv" and b[1] > 0 and a[0] % b[1] == 0
    if not alike or (b[1] != a[0] and not grouped) or any(size != 1 for size in b[2:]):
        raise CannotConvert(
            f"{quote(layer.name)} has factors of shapes {a} and {b} that do not go together", (layer.name,)
        )
    vector = (1, b[0], *b[2:]) if layer.kind == "conv" else (b[0],)
    for what, tensor, shape in (("a magnitude", layer.magnitude, vector), ("a bias", layer.bias, (b[0],))):
        if tensor is not None and tensor.shape != shape:
            raise CannotConvert(
                f"{quote(layer.name)} has {what} of shape {tensor.shape}; {shape} is needed", (layer.name,)
            )
