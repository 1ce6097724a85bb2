"""Drawn numbers of the type that the config class takes, and the types of its parts."""

from __future__ import annotations

import copy
import re
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING


def typed(value: Any, annotation: str, default: Any) -> Any:
    """A drawn number as the class says that the field may be: else the file is refused, and the field kept as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    while "[" in annotation and annotation != (bare := re.sub(r"\[[^\[\]]*\]", "", annotation)):
        annotation = bare
    words = set(re.findall(r"\w+", annotation))
    if type(value).__name__ in words or not words & {"int", "float", "list", "tuple"}:
        return value
    return float(value) if "float" in words else default


def specs(cls: type[PreTrainedConfig], default: PreTrainedConfig) -> Any:
    """The sub-configs' specs; a type that does not exist, as RF-DETR's backbone names one, is the default's own."""
    found = {key: copy.copy(spec) for key, spec in cls.sub_configs_defaults.items()}
    for key, spec in found.items():
        if spec.model_type not in CONFIG_MAPPING and (made := getattr(default, key, None)) is not None:
            spec.model_type = made.model_type
    return found
