"""What single layers have otherwise than the rest (`per_layer_config`), as lists with one entry for each layer.

transformers 5.23 makes every layer of some models from a config of its own: the model's, with some fields changed. A field
that may be so is told to the learner twice: as it is for the whole, and as `<field>_by_layer`, what each layer has.
"""

from __future__ import annotations

import importlib
import inspect
import random
import re
from functools import cache
from typing import Any

from transformers import PreTrainedConfig

KEY = "per_layer_config"
SUFFIX = "_by_layer"
_ASKED = re.compile(r"\blayer_config\.(\w+)")


@cache
def names(cls: type[PreTrainedConfig]) -> tuple[str, ...]:
    """The whole numbers that layers of this type have by themselves: what its default changes and its model asks for."""
    spec = getattr(cls(), "_heterogeneity_spec", None)
    if spec is None:
        return ()
    asked = set(_ASKED.findall(inspect.getsource(importlib.import_module(_modeling(cls)))))
    found = asked | set(spec.explicit_per_layer_attributes)
    return tuple(sorted(name for name in found if type(getattr(cls, name, None)) is int))


def _modeling(cls: type) -> str:
    return cls.__module__.replace("configuration_", "modeling_")


def lists(config: PreTrainedConfig) -> dict[str, list[Any]]:
    """`<field>_by_layer` → what each layer has."""
    own = names(type(config))
    layers = list(config.per_layer_config) if own else []
    return {name + SUFFIX: [getattr(layer, name) for layer in layers] for name in own}


def mark(config: PreTrainedConfig, marked: Any, prefix: str) -> None:
    """Give the numbers that layers have their names, in place; `marked(value, name)` makes a named number."""
    spec = vars(config).get("_heterogeneity_spec")
    if spec is None:
        return
    for name, values in lists(config).items():
        for at, value in enumerate(values):
            own = spec.per_layer_overrides.setdefault(at, {})
            own[name.removesuffix(SUFFIX)] = marked(value, f"{prefix}{name}[{at}]")


def drawn(own: tuple[str, ...], out: dict[str, Any], rng: random.Random, even: list[int]) -> dict[str, Any]:
    """Some fields changed for all layers of one kind, as `per_layer_config` has them; empty where kinds are not listed."""
    kinds = out.get("layer_types") or []
    heads = out.get("num_attention_heads") or 1
    sizes = {"num_key_value_heads": [n for n in range(1, heads + 1) if heads % n == 0]}
    found: dict[str, Any] = {}
    for kind in sorted(set(kinds)):
        changed = {name: rng.choice(sizes.get(name, even)) for name in own if rng.random() < 0.5}
        found.update({str(at): dict(changed) for at, word in enumerate(kinds) if word == kind and changed})
    return found


def key_of(name: str) -> str:
    """The key of config.json that gives a field: that of all layers' changes for `…_by_layer`."""
    head, dot, leaf = name.rpartition(".")
    return f"{head}{dot}{KEY}" if leaf.endswith(SUFFIX) else name
