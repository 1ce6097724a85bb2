"""PEFT's layout with nothing in it that a reader could pass over: scale 1, one rank, no patterns.

Programs that read lora_alpha and r alone, or neither, then apply what PEFT applies: B is multiplied by its module's scale,
lora_alpha is r, and smaller ranks are filled up with zeros, which changes nothing. A scale that is a power of two leaves B its
type, and is exact; with another one B is written in float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace

from adapterfit.conversion.formats import peft
from adapterfit.conversion.neutral import Layer, Neutral, folded, refuse_layers, refuse_rest
from adapterfit.conversion.numbers import Tensor, padded
from adapterfit.conversion.output import Package, Wanted
from adapterfit.records import ModuleTree

NAME = "the plain form"


def write(neutral: Neutral, wanted: Wanted) -> Package:
    """The neutral form → a folder in PEFT's layout.

    Raises:
        CannotConvert: It holds something beside pairs of A and B.
    """
    refuse_rest(neutral, NAME)
    notes = (*neutral.notes, *folded(neutral.layers))
    return written(plain(neutral.layers), replace(neutral, notes=notes), wanted)


def written(layers: tuple[Layer, ...], neutral: Neutral, wanted: Wanted) -> Package:
    """Layers of one form as a package; the modules are named by the last parts of their paths where that hits no others."""
    package = peft.write(replace(neutral, layers=layers), wanted)
    targets = targeted(layers, wanted.opened.tree())
    files = {
        name: peft.config_bytes({**json.loads(data), "target_modules": targets}) if targets else data
        for name, data in package.files.items()
    }
    return replace(package, files=files)


def plain(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The layers with scale 1 and the largest of their ranks.

    Raises:
        CannotConvert: A grouped convolution has a smaller rank than others.
    """
    rank = max(layer.rank for layer in layers)
    grouped = (layer for layer in layers if layer.rank < rank and layer.b.shape[1] != layer.rank)
    refuse_layers(grouped, NAME, "a grouped convolution of a smaller rank than others")
    return tuple(_plain(layer, rank) for layer in layers)


def _plain(layer: Layer, rank: int) -> Layer:
    b, bias = times(layer.b, layer.scale), layer.bias
    if layer.rank < rank:
        b = padded(b, 1, rank)
    return replace(
        layer,
        a=padded(layer.a, 0, rank),
        b=b,
        alpha=float(rank),
        rslora=False,
        bias=None if bias is None else times(bias, layer.scale),  # PEFT scales what B adds, its bias with it
    )


def times(tensor: Tensor, factor: float) -> Tensor:
    """Its numbers times a scale, in its own type where that is exact."""
    if factor == 1:
        return tensor
    exact = abs(math.frexp(factor)[0]) == 0.5 or tensor.dtype == "F64"
    return tensor.times(factor, tensor.dtype if exact else "F32")


def targeted(layers: Iterable[Layer], tree: ModuleTree | None) -> list[str]:
    """The last parts of the modules' paths; none where the base is not at hand, or has other modules of these names."""
    modules = {layer.module for layer in layers}
    leaves = {module.rpartition(".")[2] for module in modules}
    there = (
        {each.name for each in tree.modules if each.name.rpartition(".")[2] in leaves} if tree is not None else set()
    )
    return sorted(leaves) if there == modules else []
