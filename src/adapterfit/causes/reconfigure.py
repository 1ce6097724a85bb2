"""adapter_config.json for a LoRA whose layers changed: which modules, and the rank and alpha of each.

PEFT scales a module by alpha / rank, or alpha / sqrt(rank) with `use_rslora`; a rank that grows takes its alpha along.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from math import sqrt
from typing import Any, NamedTuple

from adapterfit.causes import anatomy, evidence
from adapterfit.causes.retarget import NARROWING
from adapterfit.edits import DropConfig, Edit, SetConfig
from adapterfit.records import Case, ModuleTree, TensorInfo

#: Fields under which a layer is more than B A times a scale, or the base is changed on loading.
_MORE = (
    "layer_replication", "use_qalora", "use_bdlora", "kasa_config", "velora_config", "monteclora_config",
    "alora_invocation_tokens", "megatron_config", "arrow_config", "loftq_config",
)  # fmt: skip
#: Starts that leave the base as it is. Source: peft 0.21.2 `LoraLayer.reset_lora_parameters`.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
_PLAIN = re.compile(r"[A-Za-z0-9_.]+")
#: Keys that cost little to match against every module.
_KEY, _KEYS = 200, 64
_RISKY = re.compile(r"[*+?{].*[*+?{]|\)\s*[*+?{]")


class Strength(NamedTuple):
    """Rank and alpha of one module."""

    rank: int
    alpha: float


def is_plain(values: Mapping[str, Any]) -> bool:
    """Whether every layer of this LoRA is B A times a scale, on the base as it is."""
    if values.get("peft_type") != "LORA" or values.get("init_lora_weights", True) not in _PLAIN_STARTS:
        return False
    return not any(values.get(field) for field in _MORE)


def strengths(values: Mapping[str, Any], ranks: Mapping[str, int]) -> dict[str, Strength] | None:
    """Rank and alpha of each module as PEFT reads the config today; None where that and the tensors' `ranks` differ."""
    tables = [values.get(field) or {} for field in ("rank_pattern", "alpha_pattern")]
    if not all(isinstance(table, Mapping) and len(table) <= _KEYS and all(map(_cheap, table)) for table in tables):
        return None
    found = {}
    for module, rank in ranks.items():
        wanted, alpha = (entry(table, module, values.get(f)) for table, f in zip(tables, ("r", "lora_alpha")))
        if wanted != rank or isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
            return None
        found[module] = Strength(rank, alpha)
    return found


def _cheap(key: Any) -> bool:
    if not isinstance(key, str) or len(key) > _KEY or _RISKY.search(key):
        return False
    try:
        re.compile(key)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def entry(table: Mapping[str, Any], module: str, otherwise: Any) -> Any:
    """The first key that matches; PEFT: `get_pattern_key`."""
    key = next((key for key in table if re.match(rf"(.*\.)?({key})$", module)), module)
    return table.get(key, otherwise)


def scale(one: Strength, *, rslora: bool) -> float:
    """What PEFT multiplies B A with."""
    return one.alpha / (sqrt(one.rank) if rslora else one.rank)


def stretched(one: Strength, rank: int, *, rslora: bool) -> Strength:
    """The same scale at another rank: exact without rsLoRA, and with it where the ranks' ratio is a square."""
    alpha = one.alpha * sqrt(rank / one.rank) if rslora else one.alpha * rank / one.rank
    return Strength(rank, int(alpha) if float(alpha).is_integer() else alpha)


def ranks_in(layers: Mapping[str, Iterable[TensorInfo]]) -> dict[str, int] | None:
    """Module → rank, of the tensors of LoRA layers; None where a module's tensors disagree or have none."""
    found: dict[str, int] = {}
    for module, tensors in layers.items():
        known = {anatomy.rank(evidence.parts(t.name).leaf, t.shape) for t in tensors} - {None}
        if len(known) != 1:
            return None
        found[module] = next(rank for rank in known if rank is not None)
    return found


def edits(
    case: Case, tree: ModuleTree, wanted: Mapping[str, Strength], parameters: Mapping[str, Strength] | None = None
) -> tuple[Edit, ...]:
    """The changes of the config under which PEFT wraps exactly these modules of the base, each with its rank and alpha.

    `parameters` are those that are targeted by themselves, by their full names.
    """
    raw = case.adapter.config.raw if case.adapter.config is not None else {}
    values = case.adapter.config.values if case.adapter.config is not None else {}
    every = {**wanted, **(parameters or {})}
    rank = _most(values.get("r"), (one.rank for one in every.values()))
    alpha = _most(values.get("lora_alpha"), (one.alpha for one in every.values() if one.rank == rank))
    fields: dict[str, Any] = {
        "target_modules": targets(tree, wanted),
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": _pattern({name: one.rank for name, one in every.items()}, rank),
        "alpha_pattern": _pattern({name: one.alpha for name, one in every.items()}, alpha),
    }
    if parameters:
        fields["target_parameters"] = sorted(parameters)
    changed: list[Edit] = [SetConfig(f, v) for f, v in fields.items() if v != (raw.get(f) or type(v)())]
    changed += [SetConfig(field, None) for field in NARROWING if raw.get(field) is not None]
    changed += [DropConfig(field) for field in ("enable_lora", "merge_weights") if field in raw]
    return tuple(changed)


def _most(given: Any, held: Iterable[Any]) -> Any:
    """What the config says, if any module still has it; else what most have."""
    counts = Counter(held)
    return given if given in counts else counts.most_common(1)[0][0]


def targets(tree: ModuleTree, wanted: Iterable[str]) -> list[str]:
    """Last names where these select exactly the wanted modules, else full paths."""
    names = set(wanted)
    leaves = {name.rpartition(".")[2] for name in names}
    chosen = {m.name for m in tree.modules if m.name.rpartition(".")[2] in leaves}
    return sorted(leaves if chosen == names else names)


def _pattern(of: Mapping[str, Any], usual: Any) -> dict[str, Any]:
    """Exceptions from `usual`: by last name where all modules of that name agree, else by full path."""
    by_leaf: dict[str, set[Any]] = {}
    for name, value in of.items():
        by_leaf.setdefault(name.rpartition(".")[2], set()).add(value)
    found: dict[str, Any] = {}
    for name, value in of.items():
        leaf = name.rpartition(".")[2]
        if value != usual:
            found[leaf if len(by_leaf[leaf]) == 1 else name] = value
    return found
