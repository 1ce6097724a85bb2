"""Values of a config that no rule of ours can take: PEFT has no type checks, and what it does with them is chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import Undecided

_NAMES = (
    "target_modules",
    "modules_to_save",
    "exclude_modules",
    "target_parameters",
    "feedforward_modules",
    "layers_pattern",
)
_TABLES = ("rank_pattern", "alpha_pattern", "n_frequency_pattern", "block_size_pattern", "lambda_pattern")
_STEPS = ("tinit", "tfinal", "deltaT", "total_step")


def takeable(config: Mapping[str, Any]) -> None:
    """No decision where names are no names, a table is none, or a number of layers or steps is none."""
    for field in _NAMES:
        if not _are(config.get(field), str):
            raise Undecided(f"{field} holds something that is no name")
    for field in _TABLES:
        if not isinstance(config.get(field), (Mapping, type(None))):
            raise Undecided(f"{field} is not a table")
    if not _are(config.get("layers_to_transform"), int):
        raise Undecided("layers_to_transform holds something that is no number of a layer")
    for field in _STEPS:
        if not isinstance(config.get(field), (int, float, type(None))):
            raise Undecided(f"{field} is not a number")


def _are(value: Any, kind: type) -> bool:
    """Nothing, one of a kind, or a list of them."""
    listed = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
    return all(isinstance(each, kind) for each in listed)
