"""Which PEFT releases can have written a config, and which can read it, in words."""

from __future__ import annotations

from adapterfit.consumers.ranges import spans
from adapterfit.read import peft_facts
from adapterfit.read.config_then import readable_by
from adapterfit.records import AdapterConfig


def readers(config: AdapterConfig) -> str:
    """`0.14.0 to 0.21.2`: the releases that take the config without an error and without losing a setting."""
    return spans(list(readable_by(config)), peft_facts.versions())


def dated(config: AdapterConfig) -> str:
    """One sentence about both."""
    same = config.oldest == config.newest
    written = config.oldest if same else f"{config.oldest} to {config.newest}"
    return f"config written by peft {written}; read without loss by peft {readers(config) or '(none)'}"
