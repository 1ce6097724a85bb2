"""Adapters of transformers 4 on mixture-of-experts models of transformers 5, whose experts are fused parameters.

PEFT rewrites such a config before it injects: per-expert Linears become `target_parameters`, and fused gate and up
projections double rank and alpha. Source: peft 0.21.2 `utils/transformers_weight_conversion.py`
(`_convert_peft_config_moe`, `_resolve_string_target_modules`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterfit.expect.methods._layer import InjectionFails, Undecided
from adapterfit.expect.patterns import Patterns
from adapterfit.expect.targets import ALL_LINEAR, Rule, all_linear
from adapterfit.records import Fusion, ModuleTree

#: Family → old leaf name → parameter of the fused module.
_TARGETS: Mapping[str, Mapping[str, str]] = {
    "mixtral": {"gate": "gate.weight", "w1": "gate_up_proj", "w3": "gate_up_proj", "w2": "down_proj"},
    "qwen2_moe": {
        "gate": "gate.weight",
        "gate_proj": "gate_up_proj",
        "up_proj": "gate_up_proj",
        "down_proj": "down_proj",
    },
}
_FUSIONS: Mapping[str, Fusion] = {
    "mixtral": Fusion(("w1", "w3"), "w2"),
    "qwen2_moe": Fusion(("gate_proj", "up_proj"), "down_proj"),
}
_FUSED = "gate_up_proj"


def fusion(config: Mapping[str, Any], tree: ModuleTree) -> Fusion | None:
    """How tensors of the file are fused on loading, or None."""
    return _FUSIONS.get(tree.expert_fusion) if config.get("peft_type") == "LORA" else None


def convert_config(config: Mapping[str, Any], tree: ModuleTree, patterns: Patterns) -> dict[str, Any]:
    """The config as PEFT rewrites it for a base with fused experts."""
    table = _TARGETS.get(tree.expert_fusion)
    if table is None:
        raise Undecided(f"fused experts of the kind {tree.expert_fusion!r} are not modelled yet")
    targets = config.get("target_modules")
    if isinstance(targets, str):
        targets = sorted(_resolved(config, tree, table, patterns))
        if not targets:
            return dict(config)
    kept, parameters, fused = _split(targets or [], table)
    parameters |= set(config.get("target_parameters") or ())
    changed = {**config, "target_modules": kept, "target_parameters": sorted(parameters)}
    wanted = _FUSIONS[tree.expert_fusion].gate_up
    if fused and len(fused) < len(wanted):
        absent, present = ", ".join(sorted(set(wanted) - fused)), ", ".join(sorted(fused))
        raise InjectionFails(
            "ValueError",
            f"Cannot convert PEFT target(s) {present} without also targeting {absent} because they are fused "
            f"into {_FUSED}.",
        )
    if fused and _is_number(config.get("r")) and _is_number(config.get("lora_alpha")):
        pattern = rf".*\.{_FUSED}"
        for field, value in (("rank_pattern", config["r"]), ("alpha_pattern", config["lora_alpha"])):
            changed[field] = {**(config.get(field) or {}), pattern: value * len(wanted)}
    return changed


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _split(targets: list[str], table: Mapping[str, str]) -> tuple[list[str], set[str], set[str]]:
    """Targets that stay modules, parameters the others became, and which old gate/up names were among them."""
    kept, parameters, fused = [], set(), set()
    for target in targets:
        old = next((name for name in table if target == name or target.endswith(f".{name}")), None)
        if old is None:
            kept.append(target)
            continue
        parameters.add(table[old])
        if table[old] == _FUSED:
            fused.add(old)
    return kept, parameters, fused


def _resolved(config: Mapping[str, Any], tree: ModuleTree, table: Mapping[str, str], patterns: Patterns) -> set[str]:
    """A regular expression or `all-linear` as leaf names, the old names of fused experts included."""
    if config["target_modules"].lower() == ALL_LINEAR:
        names = all_linear(tree, config.get("task_type"))
        return {name.rpartition(".")[2] for name in names} | set(table)
    rule = Rule(config, patterns)
    parameters = [f"{module.name}.{param}" for module in tree.modules for param in module.params]
    keys = [module.name for module in tree.modules] + parameters
    matched = {key.rpartition(".")[2] for key in keys if not rule.excludes(key) and rule.matches(key)}
    holders: dict[str, set[str]] = {}
    for key in parameters:
        holder, _, leaf = key.rpartition(".")
        holders.setdefault(leaf, set()).add(holder)
    for old, new in table.items():
        probes = (f"{holder}.{old}" for holder in sorted(holders.get(new, ())))
        if old not in matched and any(not rule.excludes(key) and rule.matches(key) for key in probes):
            matched.add(old)
    return matched
