"""OSF: the base's smaller singular directions are trained, the larger ones kept.

Saved, relative to a module with I inputs and O outputs, m = min(I, O) and e the kept rank (`effective_rank`, a share of m
below 1, by default m / 2; or what `rank_pattern` says): `osf_svd_params.S_low` (m - e,), `.U_low` (O, m - e), `.V_low`
(m - e, I). The kept part comes from the base and is not saved. A target that is no Linear is left as it is, without a word.
Source: peft 0.21.2 `tuners/osf/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import LayerSlot, Undecided, fails, features, submodule
from adapterfit.expect.patterns import Patterns
from adapterfit.expect.targets import ALL_LINEAR
from adapterfit.records import LoadRename, Module, ModuleTree

KIND = "tuner"
PREFIX = "osf_"
TARGETS = "OSF"
RENAMES: tuple[LoadRename, ...] = ()


def prepare(_config: Mapping[str, Any]) -> None:
    """Nothing that a loaded config could trip."""


def default_targets(_tree: ModuleTree) -> str:
    """Where its table has no entry, OSF takes every Linear."""
    return ALL_LINEAR


def inert(config: Mapping[str, Any]) -> bool:
    """The small directions start as they are in the base."""
    return config.get("init_weights", True) is not False


def layer(module: Module, name: str, _rank: int, config: Mapping[str, Any]) -> tuple[LayerSlot, ...] | None:
    """The tensors of one module; None where PEFT passes it over."""
    if module.kind != "Linear":
        return None
    width, height = features(module)
    small = min(width, height)
    kept = _kept(_wanted(name, config), small)
    if kept <= 0:
        fails(f"`effective_rank` should be a positive integer value but the value passed is {kept}")
    rest = small - kept
    return (
        submodule("osf_svd_params", (rest,), "S_low"),
        submodule("osf_svd_params", (height, rest), "U_low"),
        submodule("osf_svd_params", (rest, width), "V_low"),
    )


def _wanted(name: str, config: Mapping[str, Any]) -> Any:
    patterns = Patterns()
    for pattern, rank in (config.get("rank_pattern") or {}).items():
        if patterns.start(rf".*?(?:{pattern})", name):
            return rank
    return config.get("effective_rank")


def _kept(wanted: Any, small: int) -> int:
    if wanted is None:
        return small // 2
    if not isinstance(wanted, (int, float)):
        raise Undecided(f"the rank {wanted!r} is no number")
    share = isinstance(wanted, float) and 0 < wanted <= 1
    return max(min(small, int(small * wanted) if share else int(wanted)), 0)
