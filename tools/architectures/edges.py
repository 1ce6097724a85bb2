"""A second source of configs for the coverage, which knows nothing of the generator's sampler: defaults with one thing changed.

The base is what the config class itself has, with few layers. Each case changes one field to a value at an edge: none, zero,
one, another field's size, a flag turned, a list shorter, longer, empty or turned round; or gives a key that no field keeps.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Iterator
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from architectures.popped import named
from architectures.sample import attribute, is_depth

_DEPTH = re.compile(r"(layers?|depth|blocks)$")
_IDLE = re.compile(
    r"(token_id|token_index|_eps|_std|_range|_drop|dropout|_prob|_theta|_scale|scaling|_loss|_coef|initializer|use_cache|dtype|"
    r"output_|return_|id2label|label2id|problem_type|quantization|max_length|architectures|layerdrop|is_encoder_decoder)"
)
#: A size of zero is no model, nor is one without layers.
_SIZE = re.compile(r"(_size|_dim|d_model|_embd)$")
_SHALLOW = 4
Edit = tuple[tuple[str, ...], Any]


def base(model_type: str) -> dict[str, Any]:
    """The default config with at most four layers where it may be given so; empty where that is not a config."""
    raw: dict[str, Any] = {}
    config = AutoConfig.for_model(model_type)
    for path, value in _values(config):
        if _DEPTH.search(path[-1]) and type(value) is int and value > _SHALLOW:
            put(raw, path, _SHALLOW)
    try:
        AutoConfig.for_model(model_type, **copied(raw))
    except Exception:
        return {}
    return raw


def edits(model_type: str) -> list[Edit]:
    """Every single change, in a fixed order."""
    config = AutoConfig.for_model(model_type)
    sized = (value for path, value in _values(config) if path[-1].endswith(("_size", "_dim", "d_model")))
    sizes = sorted({value for value in sized if type(value) is int}, key=str)
    found: list[Edit] = []
    for path, value in _values(config):
        if not _IDLE.search(path[-1]):
            near = [] if _DEPTH.search(path[-1]) else sizes[:2]
            edges = _edges(value, near, may_be_null=_may_be_null(config, path))
            zero = not _SIZE.search(path[-1]) and not is_depth(path[-1])
            found += [(path, one) for one in edges if one != 0 or one is False or zero]
    for key in named(type(config)):
        found += [((key,), one) for one in (1, 2, 0, None)]
    return found


def drawn(model_type: str, seed: int, count: int) -> Iterator[dict[str, Any]]:
    """So many of them, as config.json files."""
    start, changes = base(model_type), edits(model_type)
    random.Random(f"{model_type}{seed}").shuffle(changes)
    for path, value in changes[:count]:
        raw = copied(start)
        put(raw, path, value)
        yield raw


def _edges(value: Any, sizes: list[Any], *, may_be_null: bool) -> list[Any]:
    found: list[Any] = [None] if may_be_null and value is not None else []
    if isinstance(value, bool):
        return [*found, not value]
    if isinstance(value, int):
        return [*found, *(one for one in dict.fromkeys((0, 1, 2, value + 1, *sizes)) if one != value)]
    if isinstance(value, float) and value > 0:
        return [*found, *(round(times * value, 4) for times in (0.35, 0.75, 1.3))]
    if isinstance(value, (list, tuple)) and value:
        items = list(value)
        return [*found, items[:-1], [*items, items[-1]], items[::-1], []]
    if value is None:
        return [1, 2, True]
    return found


def _values(config: PreTrainedConfig, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for one in dataclasses.fields(config):
        value = attribute(config, one.name)
        if isinstance(value, PreTrainedConfig):
            yield from _values(value, (*path, one.name))
        elif isinstance(value, (int, float, list, tuple)) or value is None:
            yield (*path, one.name), value


def _may_be_null(config: PreTrainedConfig, path: tuple[str, ...]) -> bool:
    for key in path[:-1]:
        config = getattr(config, key)
    return any(one.name == path[-1] and "None" in str(one.type) for one in dataclasses.fields(config))


def put(raw: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set a field of a config.json, in the part that the path leads to."""
    for key in path[:-1]:
        raw = raw.setdefault(key, {})
    raw[path[-1]] = value


def copied(raw: dict[str, Any]) -> dict[str, Any]:
    """A config.json whose parts may be changed."""
    return {key: copied(value) if isinstance(value, dict) else value for key, value in raw.items()}
