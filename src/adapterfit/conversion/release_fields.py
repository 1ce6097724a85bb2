"""What an older release says in other words, or need not know: fields of a config that it lacks and that change nothing it computes.

Measured on adapters of peft 0.21.2 loaded by 0.4 to 0.19 (logits equal): fields that count in a training alone, exclusions where the
targets are named one by one, rsLoRA as the alpha that gives its scale.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapterfit.conversion.neutral import most_common
from adapterfit.conversion.opened import Opened
from adapterfit.conversion.pattern_tables import readings
from adapterfit.conversion.peft_rules import CLASSIFIERS, HEADS, TRAINING
from adapterfit.errors import BadInput, CannotConvert
from adapterfit.expect.patterns import Patterns
from adapterfit.expect.targets import Rule
from adapterfit.records import AdapterConfig
from adapterfit.text import quote, shorten

_MODULE = re.compile(
    r"base_model\.model\.(?P<module>.+)\.(?:lora_A\.weight|lora_embedding_A|hada_w1_a|lokr_w[12](?:_a)?|ia3_l|miss_block|oft_R\.weight)"
)
#: Methods that put a prompt in front: they have no targets.
PROMPTS = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "CARTRIDGE")


@dataclass
class OtherWords:
    """Fields that are `set` instead, fields that are `dropped` and change nothing, and what the user has to know."""

    instead: dict[str, Any] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


def other_words(config: AdapterConfig, opened: Opened, version: str, known: Iterable[str]) -> OtherWords:
    """How a release without some of the fields says the same.

    Raises:
        CannotConvert: The targets that are left cannot be named one by one.
    """
    values, lacks = config.values, {key for key in config.raw if key not in frozenset(known)}
    found = OtherWords()
    # An empty list or table does what None does: each of these is asked for by its truth.
    found.dropped |= {key for key in lacks if config.raw[key] in ([], {}) and not key.startswith("alora")}
    if not values.get("use_qalora"):
        found.dropped |= lacks & {"qalora_group_size"}
    training = [key for key in TRAINING if key in lacks and values.get(key)]
    if training:
        found.dropped |= set(training)
        found.notes.append(f"Left out, as it counts in a training only: {shorten(map(quote, training))}.")
    _heads(config, lacks, found)
    _ties(opened, lacks, found)
    if "exclude_modules" in lacks and values.get("exclude_modules"):
        _targets(config, opened, found)
    if "use_rslora" in lacks and values.get("use_rslora") and config.peft_type == "LORA":
        _plain_scale(config, opened, version, frozenset(known), found)
    return found


def _heads(config: AdapterConfig, lacks: set[str], found: OtherWords) -> None:
    if config.peft_type not in PROMPTS or config.values.get("task_type") not in CLASSIFIERS:
        return
    if set(config.values.get("modules_to_save") or ()) <= set(HEADS):
        found.dropped |= lacks & {"modules_to_save"}


def _ties(opened: Opened, lacks: set[str], found: OtherWords) -> None:
    """Both ends of a tied pair were saved: nothing is left to be tied. On an embedding's LoRA the field means more."""
    tree, held = opened.tree(), opened.tensors()
    if tree is None or any(".lora_embedding_A" in name or "lm_head.lora_A" in name for name in held):
        return
    groups = [[f"base_model.model.{name}" in held for name in group] for group in tree.tied]
    if groups and all(all(group) for group in groups):
        found.dropped |= lacks & {"ensure_weight_tying"}


def modules_of(opened: Opened) -> list[str]:
    """The modules that the file holds a change of, where its method's names say so."""
    return sorted({match["module"] for name in opened.tensors() if (match := _MODULE.fullmatch(name))})


def _targets(config: AdapterConfig, opened: Opened, found: OtherWords) -> None:
    modules = modules_of(opened)
    tree = opened.tree()
    if not modules or config.values.get("target_parameters"):
        return
    try:
        rule = Rule({"target_modules": modules, **_layers(config)}, Patterns())
        hit = [each.name for each in tree.modules if rule.matches(each.name)] if tree is not None else modules
    except BadInput as bad:
        raise CannotConvert(bad.flaw.message) from None
    if set(hit) != set(modules):
        return
    found.instead["target_modules"] = modules
    found.dropped.add("exclude_modules")


def _layers(config: AdapterConfig) -> Mapping[str, Any]:
    return {key: config.values[key] for key in ("layers_to_transform", "layers_pattern") if key in config.values}


def _plain_scale(config: AdapterConfig, opened: Opened, version: str, known: frozenset[str], found: OtherWords) -> None:
    """The scale alpha / √rank as another alpha / rank: one alpha for all, or tables of the modules that need another."""
    modules = modules_of(opened)
    if not modules or config.values.get("target_parameters"):
        return
    meant = {
        module: (rank, alpha * math.sqrt(rank))
        for module, (rank, alpha) in readings(config, modules, config.newest).items()
    }
    usual = most_common(alpha for _, alpha in meant.values())
    ranks = {module: rank for module, (rank, _) in meant.items() if rank != config.values["r"]}
    alphas = {module: alpha for module, (_, alpha) in meant.items() if alpha != usual}
    tables = {"rank_pattern": ranks, "alpha_pattern": alphas} if "alpha_pattern" in known else {}
    instead = {"lora_alpha": usual, **tables}
    again = AdapterConfig(
        config.file, config.raw, {**config.values, "rank_pattern": {}, "alpha_pattern": {}, **instead}, config.peft_type
    )
    if readings(again, modules, version) != meant:
        return
    found.instead.update(instead)
    found.dropped.add("use_rslora")
    found.notes.append(f"rsLoRA, which PEFT {version} does not know, is said as the lora_alpha that gives its scale.")
