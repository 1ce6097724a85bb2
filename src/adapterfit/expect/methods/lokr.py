"""LOKR: ΔW = scale · W1 ⊗ W2, where a factor is a full matrix or itself a product of low rank.

With I = m·n and O = l·k split by `factorization`: `lokr_w1` (l, m), or `lokr_w1_a` (l, r) and `lokr_w1_b` (r, m)
when `decompose_both` and r < max(l, m) / 2; `lokr_w2` (k, n, *kernel) when r ≥ max(k, n) / 2, else `lokr_w2_a` (k, r)
and `lokr_w2_b` (r, n·kernel), or with `use_effective_conv2d` `lokr_t2` (r, r, kh, kw), `lokr_w2_a` (r, k),
`lokr_w2_b` (r, n). Source: peft 0.21.2 `tuners/lokr/layer.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from adapterfit.expect.methods._layer import (
    LayerSlot,
    Undecided,
    divisors,
    features,
    no_layers_with_regex,
    parameter,
    positive_rank,
)
from adapterfit.expect.methods.loha import CONVOLUTIONS, refuse_unknown
from adapterfit.records import LoadRename, Module

KIND = "tuner"
PREFIX = "lokr_"
TARGETS = "LOKR"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `LoKrConfig.__post_init__`."""
    no_layers_with_regex(config, beside=())


def inert(config: Mapping[str, Any]) -> bool:
    """`lokr_w1` or `lokr_w1_a` starts at zero, or with `init_weights="lycoris"` the second factor."""
    return bool(config.get("init_weights", True))


def layer(module: Module, _name: str, rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    refuse_unknown(module)
    positive_rank(rank)
    factor = config.get("decompose_factor", -1)
    if not isinstance(factor, int):
        raise Undecided(f"decompose_factor {factor!r} is not a whole number")
    width, height = features(module)
    kernel = module.params["weight"][2:] if module.kind in CONVOLUTIONS else ()
    in_m, in_n = factorization(width // module.groups, factor)
    out_l, out_k = factorization(height, factor)
    return _first(rank, out_l, in_m, config) + _second(rank, out_k, in_n, kernel, config)


def _first(rank: int, out_l: int, in_m: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    if config.get("decompose_both") and rank < max(out_l, in_m) / 2:
        return parameter("lokr_w1_a", (out_l, rank)), parameter("lokr_w1_b", (rank, in_m))
    return (parameter("lokr_w1", (out_l, in_m)),)


def _second(
    rank: int, out_k: int, in_n: int, kernel: tuple[int, ...], config: Mapping[str, Any]
) -> tuple[LayerSlot, ...]:
    if rank >= max(out_k, in_n) / 2:
        return (parameter("lokr_w2", (out_k, in_n, *kernel)),)
    if config.get("use_effective_conv2d") and any(size != 1 for size in kernel):
        core = (rank, rank, *kernel, *((1,) if len(kernel) == 1 else ()))
        return parameter("lokr_w2_a", (rank, out_k)), parameter("lokr_w2_b", (rank, in_n)), parameter("lokr_t2", core)
    for size in kernel:
        in_n *= size
    return parameter("lokr_w2_a", (out_k, rank)), parameter("lokr_w2_b", (rank, in_n))


@lru_cache(maxsize=4096)
def factorization(dimension: int, factor: int = -1) -> tuple[int, int]:
    """A dimension as the product of two, the smaller first: near the root, or with the first at most `factor`."""
    if factor > 0 and dimension % factor == 0:
        # PEFT returns these as they are, even where the first is the larger.
        return factor, dimension // factor
    bound = dimension if factor == -1 else factor
    small, large = 1, dimension
    for step in divisors(dimension)[1:]:
        other = dimension // step
        if step + other > 1 + dimension or step > bound:
            break
        small, large = step, other
        if small >= large:
            break
    return (small, large) if small <= large else (large, small)
