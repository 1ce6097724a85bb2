"""The plain form with a pair of zeros wherever a reader looks for one: in every layer, and for q, k and v, gate and up together.

SGLang needs a pair for v_proj beside one for q_proj; TGI and LoRAX apply a kind of module only where every layer has it. Zeros
change nothing, under PEFT neither. The sizes are those of the base, which must be at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from adapterfit.conversion.formats.plain import plain, written
from adapterfit.conversion.neutral import Layer, Neutral, folded, refuse_layers, refuse_rest
from adapterfit.conversion.numbers import Tensor, made
from adapterfit.conversion.output import Package, Wanted
from adapterfit.errors import CannotConvert
from adapterfit.records import Module

if TYPE_CHECKING:
    import numpy as np

NAME = "the filled form"
#: Modules that readers stack on each other.
TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.)")


def write(neutral: Neutral, wanted: Wanted) -> Package:
    """The neutral form → a folder in PEFT's layout, with pairs of zeros added.

    Raises:
        CannotConvert: It holds something beside pairs of A and B, zeros would not leave a module as it is, or no base is known.
    """
    refuse_rest(neutral, NAME)
    refuse_layers((layer for layer in neutral.layers if layer.magnitude is not None), NAME, "DoRA")
    refuse_layers((layer for layer in neutral.layers if layer.bias is not None), NAME, "lora_bias")
    tree = wanted.opened.tree()
    if tree is None:
        raise CannotConvert("the sizes of the missing modules are the base's: give it with --base")
    layers = plain(neutral.layers)
    added = tuple(_zeros(module, layers[0]) for module in _missing(layers, tree.modules))
    notes = [*neutral.notes, *folded(neutral.layers)]
    if added:
        notes.append(f"{len(added):,} pairs of zeros are added: they change nothing.")
    return written((*layers, *added), replace(neutral, notes=tuple(notes)), wanted)


def _missing(layers: Iterable[Layer], modules: Iterable[Module]) -> Iterator[Module]:
    """The base's Linears that stand where an adapted module stands in another layer, or beside one that they are stacked on."""
    adapted = {layer.module for layer in layers}
    wanted = {_place(each) for module in adapted for each in (module, *_beside(module))}
    for module in modules:
        if module.kind == "Linear" and module.name not in adapted and _place(module.name) in wanted:
            yield module


def _beside(module: str) -> Iterator[str]:
    parent, _, leaf = module.rpartition(".")
    yield from (f"{parent}.{other}" for group in TOGETHER if leaf in group for other in group)


def _place(module: str) -> str:
    return _NUMBER.sub("#", module)


def _zeros(module: Module, like: Layer) -> Layer:
    out, width = module.params["weight"]
    a, b = _empty((like.rank, width), like.a.dtype), _empty((out, like.rank), like.b.dtype)
    return Layer(module.name, "linear", a, b, like.alpha)


def _empty(shape: tuple[int, int], dtype: str) -> Tensor:
    def load() -> np.ndarray:
        import numpy as np

        return made(np.zeros(shape), dtype).load()

    return Tensor(dtype, shape, load)
