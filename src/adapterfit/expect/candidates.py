"""The classes a base may be loaded as, most likely first, as module trees.

A base folder does not say which class its user picks: `BertForMaskedLM` on disk is loaded as
`BertForSequenceClassification` for a classifier. PEFT's own `AutoPeftModelFor…` goes by the adapter's task type, or by
the class recorded in `auto_mapping`; everybody else by the base's `architectures`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from adapterfit.expect import modules, plain
from adapterfit.records import AdapterConfig, Base, ModuleTree


def candidates(base: Base, config: AdapterConfig, wanted: str | None = None) -> list[ModuleTree]:
    """At least one tree. `wanted` names the class; a live model has only its own."""
    if base.tree is not None:
        return [_with_loading_facts(base, base.tree)]
    names = [wanted] if wanted else list(dict.fromkeys(_names(base, config)))
    if not wanted and plain.is_plain(base, config):
        return plain.readings(base, config)
    if not names:
        return [modules.tree_from_headers(base)]
    return [modules.tree(base, name) for name in names]


def _names(base: Base, config: AdapterConfig) -> Iterator[str]:
    known, named = modules.classes(base.model_type), modules.class_names(base.model_type)
    by_task = known.get(str(config.values.get("task_type")))
    recorded = config.values.get("auto_mapping")
    trained = recorded.get("base_model_class") if isinstance(recorded, dict) else None
    if config.values.get("task_type") == "FEATURE_EXTRACTION" and by_task:
        yield by_task
    if base.architecture in named:
        yield base.architecture
    if by_task:
        yield by_task
    if isinstance(trained, str) and trained in named:
        yield trained
    if base.architecture not in named and not by_task and "bare" in known:
        yield known["bare"]


def _with_loading_facts(base: Base, live: ModuleTree) -> ModuleTree:
    """A live model's own modules, with what its objects do not show: how transformers renames adapter keys for it."""
    if live.class_name not in modules.class_names(base.model_type):
        return live
    facts = modules.tree(dataclasses.replace(base, tree=None, tensors={}), live.class_name)
    return dataclasses.replace(live, adapter_renames=facts.adapter_renames, expert_fusion=facts.expert_fusion)
