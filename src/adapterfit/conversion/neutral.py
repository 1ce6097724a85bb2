"""The neutral form: what an adapter computes, free of any program's names and layouts.

ΔW of a module is `scale · B A`, with A (rank, in) and B (out, rank) as PEFT lays them out: a convolution has A
(rank, in, *kernel) and B (out, rank / groups, 1, …), an embedding A (rank, rows) and B (dim, rank). What an adapter holds
beside such pairs is kept in `rest`, by name: a format that cannot express it refuses.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapterfit.conversion.numbers import Tensor
from adapterfit.errors import CannotConvert
from adapterfit.records import Shape
from adapterfit.text import quote, shorten


@dataclass(frozen=True)
class Layer:
    """One adapted module. `module` is its path in the base; `part` the component of a pipeline it belongs to, or empty.

    `kind`: `linear`, `conv` or `embedding`. `magnitude` is DoRA's (out,), `bias` that of B (out,). `parameter`: the weight was
    targeted by itself, of which PEFT rounds ΔW before it adds it.
    """

    module: str
    kind: str
    a: Tensor
    b: Tensor
    alpha: float
    rslora: bool = False
    magnitude: Tensor | None = None
    bias: Tensor | None = None
    part: str = ""
    parameter: bool = False

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.a.shape[0]

    @property
    def scale(self) -> float:
        """What B A is multiplied with: alpha / rank, under rsLoRA alpha / √rank."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @property
    def plain_alpha(self) -> float:
        """The alpha that gives the same scale without rsLoRA."""
        return self.alpha * math.sqrt(self.rank) if self.rslora else self.alpha

    @property
    def name(self) -> str:
        """The module with its component in front."""
        return f"{self.part}.{self.module}" if self.part else self.module


@dataclass(frozen=True)
class Change:
    """A module that another method than LoRA changes: the method, its tensors by their suffix, and alpha / rank.

    `feedforward` is IA3's: whether it scales what goes in rather than what comes out.
    """

    module: str
    method: str
    tensors: Mapping[str, Tensor]
    scale: float = 1.0
    feedforward: bool = False

    @property
    def name(self) -> str:
        """The module."""
        return self.module


@dataclass(frozen=True)
class Parameter:
    """A LoRA on a parameter of its own, such as the fused experts of a layer: (E, d1, d2), or (d1, d2), which counts as one.

    `a` (E · rank, in) holds expert after expert, `b` (out, rank · E) rank after rank. `turned`: the input is d1, not d2.
    """

    module: str
    parameter: str
    shape: Shape
    a: Tensor
    b: Tensor
    alpha: float
    rank: int
    rslora: bool = False
    turned: bool = False

    @property
    def name(self) -> str:
        """Its name in the base."""
        return f"{self.module}.{self.parameter}"

    @property
    def experts(self) -> int:
        """How many matrices it holds."""
        return self.shape[0] if len(self.shape) > 2 else 1

    @property
    def scale(self) -> float:
        """What B A is multiplied with."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


@dataclass(frozen=True)
class Rest:
    """Something that is no pair of A and B: `what` it is in words, and the names of the tensors or fields.

    `whole`: parameters of the base, by their names there, that the adapter holds a trained copy of.
    """

    what: str
    names: tuple[str, ...]
    whole: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Neutral:
    """An adapter. `config` holds fields of `adapter_config.json` that say nothing about the numbers.

    `changes` are modules that another method than LoRA changes, `parameters` fused experts and others. `notes` are what the reader of the source format could not know and took as that format's own readers do.
    """

    layers: tuple[Layer, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    rest: tuple[Rest, ...] = ()
    notes: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    parameters: tuple[Parameter, ...] = ()


def refuse_rest(neutral: Neutral, format_name: str) -> None:
    """For a format that holds nothing but pairs of A and B.

    Raises:
        CannotConvert: There is something else; it is named.
    """
    refuse_changes(neutral.changes, format_name)
    fused = tuple(one.name for one in neutral.parameters)
    if fused:
        raise CannotConvert(f"{format_name} cannot express target_parameters ({shorten(map(quote, fused))})", fused)
    if neutral.rest:
        listed = "; ".join(f"{rest.what} ({shorten(map(quote, rest.names))})" for rest in neutral.rest)
        names = tuple(name for rest in neutral.rest for name in rest.names)
        raise CannotConvert(f"{format_name} cannot express {listed}", names)


def refuse_changes(changes: Iterable[Change], format_name: str) -> None:
    """For a format that knows LoRA alone.

    Raises:
        CannotConvert: Another method changes modules; it is named.
    """
    names = tuple(change.name for change in changes)
    methods = sorted({change.method for change in changes})
    if names:
        raise CannotConvert(f"{format_name} cannot express {', '.join(methods)} ({shorten(map(quote, names))})", names)


def refuse_layers(layers: Iterable[Layer], format_name: str, what: str) -> None:
    """For layers with something that a format cannot express.

    Raises:
        CannotConvert: There are any.
    """
    names = tuple(layer.name for layer in layers)
    if names:
        raise CannotConvert(f"{format_name} cannot express {what} ({shorten(map(quote, names))})", names)


def uniform(restored: tuple[Layer, ...], plain: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The layers as they were before, where that is all rsLoRA or none; else as they stand, which is the same adapter."""
    return restored if len({layer.rslora for layer in restored}) < 2 else plain


def most_common(values: Iterable[Any]) -> Any:
    """The value that occurs most often, the first of several."""
    return Counter(values).most_common(1)[0][0]


def parts(neutral: Neutral) -> tuple[str, ...]:
    """The components, sorted."""
    return tuple(sorted({layer.part for layer in neutral.layers}))


#: Methods beside LoRA whose product is scaled by alpha / rank.
_SCALED = ("LOHA", "LOKR")


def folded(layers: Iterable[Layer | Change | Parameter]) -> Iterator[str]:
    """One sentence with the scales that went into the numbers of what is written; none where there are no layers."""
    scales = [each.scale for each in layers if not isinstance(each, Change) or each.method in _SCALED]
    if scales:
        counts = sorted(Counter(scales).items())
        said = ", ".join(
            f"{scale:g} ({count:,} modules)" if len(counts) > 1 else f"{scale:g}" for scale, count in counts[:8]
        )
        yield f"The scale, alpha / rank (under rsLoRA alpha / √rank), is in the numbers: {said}{' …' if len(counts) > 8 else ''}."
