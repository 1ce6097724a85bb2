"""A PEFT LoRA that computes what a LoHa or a LoKr computes, where the product is a matrix of lower rank than the weight.

LoHa's ΔW is (W1a W1b) ∘ (W2a W2b), of rank r1 · r2 at most: the columns of the factors are the pairwise products of the old ones.
LoKr's is W1 ⊗ W2, of rank rank(W1) · rank(W2): the factors of a Kronecker product are the products of the factors; a side that is a
whole matrix is its own factor beside an identity. So no factor is approximated; every number of the new ones is a product of two old
ones, rounded once to float32, and each ΔW is compared with the old one before anything is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adapterfit.conversion.formats import peft
from adapterfit.conversion.methods import delta
from adapterfit.conversion.neutral import Change, Layer, Neutral, refuse_rest
from adapterfit.conversion.numbers import made
from adapterfit.conversion.output import Package, Wanted
from adapterfit.errors import CannotConvert
from adapterfit.records import Shape
from adapterfit.text import quote, shorten

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

NAME = "a LoRA"
#: Largest difference of a number of ΔW, as a part of ΔW's largest number: sums of float32 products, in another order.
TOLERANCE = 2e-6


def write(neutral: Neutral, wanted: Wanted) -> Package:
    """A LoRA in PEFT's layout.

    Raises:
        CannotConvert: It is no LoHa or LoKr, or the product is no matrix of a lower rank.
    """
    refuse_rest(Neutral((), rest=neutral.rest), NAME)
    others = [change for change in neutral.changes if change.method not in ("LOHA", "LOKR")]
    if others:
        methods = sorted({change.method for change in others})
        raise CannotConvert(f"{NAME} cannot express {', '.join(methods)}", tuple(change.module for change in others))
    if not neutral.changes:
        raise CannotConvert("this adapter is a LoRA already; --to peft writes it for PEFT", ("peft_type",))
    shapes = _shapes(wanted)
    layers = tuple(_layer(change, shapes.get(change.module)) for change in neutral.changes)
    package = peft.write(Neutral(layers, _carried(wanted), notes=neutral.notes), wanted)
    return Package(package.files, package.streams, (*package.notes, *_notes(layers, known=bool(shapes))))


def _carried(wanted: Wanted) -> Mapping[str, Any]:
    config = wanted.opened.adapter.config
    raw = config.raw if config is not None else {}
    return {key: raw[key] for key in peft.CARRIED if raw.get(key) is not None}


def _shapes(wanted: Wanted) -> Mapping[str, Shape]:
    """Module → the shape of its weight; empty where the base is not at hand."""
    tree = wanted.opened.tree()
    return (
        {each.name: each.params["weight"] for each in tree.modules if "weight" in each.params}
        if tree is not None
        else {}
    )


def _notes(layers: tuple[Layer, ...], *, known: bool) -> Iterator[str]:
    ranks = sorted({layer.rank for layer in layers})
    yield f"The LoRA has rank {', '.join(map(str, ranks))}: ranks of the factors multiply."
    if not known:
        yield "Not checked: whether the modules are Linear; of a convolution the base is needed (--base)."
    scales = shorten(f"{scale:g}" for scale in sorted({layer.scale for layer in layers}))
    yield f"lora_alpha and r give the scale that the old one had: {scales}."
    yield f"ΔW of every module was compared: equal to {TOLERANCE:g} of its largest number."


def _layer(change: Change, shape: Shape | None) -> Layer:
    import numpy as np

    parts = {role: tensor.floats() for role, tensor in change.tensors.items()}
    pairs = _loha(change, parts) if change.method == "LOHA" else _lokr(change, parts)
    a, b = (np.asarray(factor, dtype=np.float32) for factor in pairs)
    if shape is not None and len(shape) > 2:  # a convolution: A is (rank, in, *kernel), B (out, rank, 1, 1)
        if (b.shape[0], a.shape[1]) != (shape[0], math.prod(shape[1:])):
            raise _missing(change, f"its tensors do not make up a weight of shape {shape}")
        a = a.reshape(a.shape[0], *shape[1:])
        b = b.reshape(*b.shape, *(1 for _ in a.shape[2:]))
    rank = a.shape[0]
    whole = min(b.shape[0], math.prod(a.shape[1:]))
    if rank >= whole:
        raise CannotConvert(
            f"{quote(change.module)}: as a LoRA it would need rank {rank}, and its weight has {whole} only: nothing is gained; "
            "--to merged puts it into the base",
            (change.module,),
        )
    _compare(change, a, b)
    return Layer(change.module, "conv" if a.ndim > 2 else "linear", made(a, "F32"), made(b, "F32"), change.scale * rank)


def _compare(change: Change, a: Array, b: Array) -> None:
    import numpy as np

    shape = (b.shape[0], *a.shape[1:])
    wanted = delta(change, shape)
    found = (b.reshape(b.shape[0], -1) @ a.reshape(a.shape[0], -1)).reshape(shape) * np.float32(change.scale)
    largest = float(np.abs(wanted).max()) if wanted.size else 0.0
    if not float(np.abs(found - wanted).max(initial=0.0)) <= TOLERANCE * largest:
        raise CannotConvert(
            f"{quote(change.module)}: as a LoRA it is not the same to {TOLERANCE:g} of its largest number",
            (change.module,),
        )


def _missing(change: Change, what: str) -> CannotConvert:
    return CannotConvert(f"{quote(change.module)}: {what} ({shorten(sorted(change.tensors))})", (change.module,))


def _loha(change: Change, parts: Mapping[str, Array]) -> tuple[Array, Array]:
    """A and B of a Hadamard product of two products: all pairs of columns, all pairs of rows."""
    if "hada_t1" in parts:
        raise _missing(change, "a LoHa of a convolution with cores of its own is no product of two matrices")
    try:
        one_b, one_a, two_b, two_a = (parts[f"hada_{name}"] for name in ("w1_a", "w1_b", "w2_a", "w2_b"))
    except KeyError:
        raise _missing(change, "tensors of it are missing") from None
    rank = one_a.shape[0] * two_a.shape[0]
    b = (one_b[:, :, None] * two_b[:, None, :]).reshape(one_b.shape[0], rank)
    a = (one_a[:, None, :] * two_a[None, :, :]).reshape(rank, one_a.shape[1])
    return a, b


def _lokr(change: Change, parts: Mapping[str, Array]) -> tuple[Array, Array]:
    """A and B of a Kronecker product: B1 A1 ⊗ B2 A2 = (B1 ⊗ B2) (A1 ⊗ A2)."""
    import numpy as np

    if "lokr_t2" in parts or (parts.get("lokr_w2") is not None and parts["lokr_w2"].ndim > 2):
        raise _missing(change, "a LoKr of a convolution is not converted")
    one_b, one_a = _factors(change, parts, "1")
    two_b, two_a = _factors(change, parts, "2")
    return np.kron(one_a, two_a), np.kron(one_b, two_b)


def _factors(change: Change, parts: Mapping[str, Array], side: str) -> tuple[Array, Array]:
    """B and A of one side; a whole matrix is one of them, the smaller identity the other."""
    import numpy as np

    if f"lokr_w{side}_a" in parts and f"lokr_w{side}_b" in parts:
        return parts[f"lokr_w{side}_a"], parts[f"lokr_w{side}_b"]
    whole = parts.get(f"lokr_w{side}")
    if whole is None:
        raise _missing(change, "tensors of it are missing")
    rows, columns = whole.shape
    return (whole, np.eye(columns)) if columns <= rows else (np.eye(rows), whole)
