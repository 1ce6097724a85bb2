"""The renamings and conversions of names that transformers and PEFT apply to one class, as data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from peft.utils import transformers_weight_conversion as peft_side
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, get_model_conversion_mapping
from transformers.core_model_loading import (
    Chunk,
    Concatenate,
    MergeModulelist,
    PrefixChange,
    Transpose,
    WeightConverter,
    WeightRenaming,
)

_OPS = {Chunk: "chunk", Concatenate: "concatenate", MergeModulelist: "stack"}


def _sources(rule: Any) -> list[str]:
    """The rule's patterns as plain regular expressions, longest first, as the rule itself tries them."""
    found = []
    for source in sorted(rule.source_patterns, key=lambda item: -len(item)):
        pattern = source.replace("*.", r".*\.")
        found.append(pattern + r"(?!\w)" if re.search(r"[a-zA-Z0-9]$", pattern) else pattern)
    return found


def _op(op: Any) -> list[Any]:
    if isinstance(op, Transpose):
        return ["transpose", op.dim0, op.dim1]
    for cls, name in _OPS.items():
        if type(op) is cls:
            return [name, op.dim]
    return ["unknown", type(op).__name__]


def rules(model: PreTrainedModel, others: Sequence[str] = ()) -> list[dict[str, Any]]:
    """All of transformers' transforms for this model, in order. `scope`: the sub-model it is limited to.

    `others` are paths of sub-models of any type: their rules stand with the facts of their own type.
    """
    prefix = model.base_model_prefix
    scopes = {path.removeprefix(prefix).removeprefix(".") for path in others}  # cut as transformers cuts them
    return [rule for rule in _as_data(get_model_conversion_mapping(model)) if rule.get("scope") not in scopes]


def legacy() -> list[dict[str, Any]]:
    """The rules that end every model's list."""
    return _as_data(get_checkpoint_conversion_mapping("legacy"))


def _as_data(transforms: list[Any]) -> list[dict[str, Any]]:
    found = []
    for rule in transforms:
        entry: dict[str, Any] = {"from": _sources(rule), "to": list(rule.target_patterns)}
        if rule.scope_prefix is not None:
            entry["scope"] = rule.scope_prefix
        if isinstance(rule, WeightConverter):
            entry["ops"] = [_op(op) for op in rule.operations]
        elif type(rule) not in (WeightRenaming, PrefixChange):
            entry["unknown"] = type(rule).__name__
        found.append(entry)
    return found


def gate_open(model_type: str) -> bool:
    """Whether PEFT converts adapters of this model type at all."""
    return get_checkpoint_conversion_mapping(model_type) is not None


def expert_fusion(model_type: str) -> str:
    """The key of PEFT's table for fused experts that applies, or nothing."""
    key = peft_side._MODEL_TO_CONVERSION_PATTERN.get(model_type)  # noqa: SLF001 - the table PEFT itself reads
    return key if key in peft_side._MOE_TARGET_MODULE_MAPPING else ""  # noqa: SLF001
