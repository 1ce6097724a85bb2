"""WAVEFT: ΔW is the inverse wavelet transform of a few learned coefficients.

Saved, relative to a module: `waveft_spectrum` (n,), n being `n_frequency`, what `n_frequency_pattern` says for the
module, or with `proportional_parameters` the module's share of n times the number of modules. Where the coefficients lie
is drawn from `random_loc_seed` and not saved. Source: peft 0.21.2 `tuners/waveft/`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import (
    LayerSlot,
    Undecided,
    fails,
    features,
    no_layers_with_regex,
    parameter,
    whole,
)
from adapterfit.expect.methods.fourierft import refuse_count, refuse_unknown
from adapterfit.expect.patterns import Patterns
from adapterfit.expect.targets import pattern_key
from adapterfit.records import LoadRename, Module, ModuleTree

KIND = "tuner"
PREFIX = "waveft_"
TARGETS = "WAVEFT"
RENAMES: tuple[LoadRename, ...] = ()
#: Orders of the wavelets PEFT knows, by family, in the order of its own table.
_FAMILIES = (("db", range(1, 39)), ("sym", range(2, 21)), ("coif", range(1, 18)))


def prepare(config: Mapping[str, Any]) -> None:
    """The checks of `WaveFTConfig.__post_init__`."""
    no_layers_with_regex(config)
    known = [f"{family}{order}" for family, orders in _FAMILIES for order in orders]
    if config.get("wavelet_family", "db1") not in known:
        fails(
            f"Wavelet family {config['wavelet_family']} not supported. Supported wavelet families are: {known}",
        )


def inert(config: Mapping[str, Any]) -> bool:
    """The spectrum starts at zero."""
    return bool(config.get("init_weights", True))


def survey(modules: tuple[Module, ...], config: Mapping[str, Any], _tree: ModuleTree) -> Mapping[str, int]:
    """With `proportional_parameters`, the number of coefficients of every module, by its share of all entries."""
    if not config.get("proportional_parameters"):
        return {}
    sizes = {module.name: math.prod(features(module)) for module in modules if module.kind in ("Linear", "Conv1D")}
    if modules and not sizes:
        fails("No target modules found for proportional parameter allocation.")
    budget = whole(config, "n_frequency", 0) * len(sizes)
    total = sum(sizes.values())
    return {name: max(1, round(size / total * budget)) for name, size in sizes.items()}


def layer(module: Module, name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...]:
    """The tensors of one module."""
    refuse_unknown(module)
    count = config["surveyed"].get(name)
    if count is None:
        table = config.get("n_frequency_pattern") or {}
        key = pattern_key(table, name, Patterns())
        count = config.get("n_frequency") if key is None else table[key]
    if not isinstance(count, int) or isinstance(count, bool):
        raise Undecided(f"n_frequency of {name} is {count!r}, not a whole number")
    refuse_count(count, module)
    return (parameter("waveft_spectrum", (count,)),)
