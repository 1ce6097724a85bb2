"""What PEFT makes of a config, as far as a conversion depends on it: refusals, targets, rank and alpha of a module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.consumers.versions import version_range
from adapterfit.conversion.opened import Opened
from adapterfit.errors import BadInput, CannotConvert
from adapterfit.expect.patterns import Patterns
from adapterfit.expect.targets import Rule, pattern_key
from adapterfit.records import AdapterConfig
from adapterfit.text import quote, shorten

CONFIG = "adapter_config.json"


def readable_config(opened: Opened) -> AdapterConfig:
    """The config, where PEFT could take it.

    Raises:
        CannotConvert: It has values that PEFT refuses.
    """
    config = opened.adapter.config
    if config is None or not config.known:
        why = next((flaw.message for flaw in config.flaws), "") if config is not None else ""
        raise CannotConvert(f"{CONFIG} cannot be used: {why or 'it is missing'}")
    return usable(config)


def usable(config: AdapterConfig) -> AdapterConfig:
    """The config itself.

    Raises:
        CannotConvert: It has values that PEFT refuses.
    """
    bad = [flaw.message for flaw in config.flaws if flaw.refused]
    if bad:
        raise CannotConvert(f"{config.file} cannot be used: {bad[0]}")
    return config


def as_loaded(config: AdapterConfig, found: Mapping[str, Any]) -> None:
    """Refuse tensors that the config leaves out: PEFT drops them without a word, and another program would apply them."""
    if config.values.get("target_modules") is None:
        return
    try:
        rule = Rule(config.values, Patterns())
        outside = [name for name in found if rule.excludes(name) or not rule.matches(name)]
    except BadInput as bad:
        raise CannotConvert(bad.flaw.message) from None
    if outside and config.values.get("target_modules") != "all-linear":
        fields = "target_parameters" if config.values.get("target_parameters") else "target_modules"
        raise CannotConvert(
            f"the weights hold modules that {CONFIG} does not target, or reaches by {fields} only "
            f"({shorten(map(quote, outside))}): what PEFT would do with them is not expressed by this conversion",
            tuple(outside),
        )


#: Heads that every release saves of a classifier (`PeftModelForSequenceClassification`, `…TokenClassification`).
HEADS = ("classifier", "score")
CLASSIFIERS = ("SEQ_CLS", "TOKEN_CLS")
#: Fields that count in a training alone → what its tensors' names hold. Under `eval()` such a LoRA is any other (peft 0.21.2,
#: `tuners/lora/variants.py`: `MontecloraLinearVariant`, `VeloraLinearVariant`).
TRAINING = {"velora_config": ".lora_velora_", "monteclora_config": ".lora_monteclora_"}


def of_training(name: str, values: Mapping[str, Any]) -> bool:
    """Whether a tensor is there to go on with a training only."""
    return any(values.get(field) and mark in name for field, mark in TRAINING.items())


def resolved(values: Mapping[str, Any], module: str, table: str, default: str) -> float:
    """The rank or the alpha of one module, as PEFT resolves it."""
    patterns = values.get(table) or {}
    try:
        key = pattern_key(patterns, module, Patterns())
    except BadInput as bad:
        raise CannotConvert(bad.flaw.message) from None
    value: float = patterns[key] if key is not None else values[default]
    return value


def lost_biases(config: AdapterConfig, opened: Opened) -> Iterator[str]:
    """A word about biases that were trained and never saved (peft #3306): releases from 0.10 to 0.20."""
    heads = HEADS if config.values.get("task_type") in CLASSIFIERS else ()  # saved whether the config names them or not
    saved = tuple(f".{module}." for module in (*(config.values.get("modules_to_save") or ()), *heads))
    held = (info.name for info in opened.weights.tensors if info.name.endswith(".bias"))
    if config.values.get("bias") != "lora_only" or any(not any(each in name for each in saved) for name in held):
        return
    if config.newest in version_range(">=0.10") and config.oldest in version_range("<0.21"):
        yield "bias is lora_only, and no bias is in the file: PEFT 0.10 to 0.20 trained them and did not save them. They are lost."
