"""A third source of configs for the coverage: files as `save_pretrained` writes them, and those with one thing changed.

A saved file holds what the config class derived, such as the kind of each layer, beside what it was derived from. Facts
that were learned where such a list never was given may have missed that it decides. So each list is turned round, moved
on and given other entries, each text another word, and each field that the facts never mention another value: what
changes the model and is not known of shows as a tree that is wrong without a doubt.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.configuration_utils import ALLOWED_MLP_LAYER_TYPES

from adapterfit.expect import modules
from architectures import edges
from architectures.sample import Sampler

Change = tuple[tuple[str, ...], Any]
_MLP_KINDS = re.compile(r"mlp_layer_types$")
#: Names of what no module is built by, whatever its value.
_IDLE = re.compile(
    r"(token_ids?|token_index|_eps|_epsilon|_std|_range|_drop|dropout|_prob|_theta|_loss|_coef|initializer|use_cache|dtype|"
    r"output_|return_|id2label|label2id|problem_type|quantization|max_length|architectures|layerdrop|is_encoder_decoder|"
    r"rope_|transformers_version|model_type|tie_word_embeddings|_weight$|_cost$|mask_time|mask_feature|apply_spec_augment)"
)
#: More entries than this of a list are not told apart: its ends are.
_FEW = 4


def written(config: PreTrainedConfig) -> dict[str, Any]:
    """The config.json that `save_pretrained` writes."""
    raw: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    raw.pop("transformers_version", None)
    return raw


def read(model_type: str, raw: Mapping[str, Any]) -> PreTrainedConfig:
    """What `from_pretrained` makes of such a file."""
    left = {key: value for key, value in copy.deepcopy(dict(raw)).items() if key != "model_type"}
    return AutoConfig.for_model(model_type, **left)


def default(model_type: str) -> dict[str, Any]:
    """The saved file of the default config, with few layers where it may be given so."""
    return written(AutoConfig.for_model(model_type, **edges.base(model_type)))


def drawn(model_type: str, seed: int, count: int) -> Iterator[dict[str, Any]]:
    """Saved files of random configs; those that the config class refuses are left out."""
    sampler = Sampler(model_type, random.Random(f"saved{model_type}{seed}"))
    for _ in range(count):
        try:
            yield written(sampler.config(sampler.raw()))
        except Exception:
            continue


def changes(model_type: str, raw: Mapping[str, Any]) -> list[Change]:
    """Every single change of this file, those of lists that the facts never mention first."""
    known, words = mentioned(model_type), Sampler(model_type, random.Random(0))
    unknown_lists: list[Change] = []
    lists: list[Change] = []
    scalars: list[Change] = []
    for path, value in _leaves(raw, modules.facts(model_type) or {}):
        if _IDLE.search(path[-1]):
            continue
        new = ".".join(path) not in known and path[-1] not in known
        if isinstance(value, list):
            found = [(path, one) for one in _lists(value, _words(words, path, value))]
            if new:
                unknown_lists += found
            else:
                lists += found
        elif isinstance(value, str):
            scalars += [(path, word) for word in _other_words(words, path, value)]
        elif new:
            scalars += [(path, one) for one in _scalars(value, _depth(raw, path))]
    return unknown_lists + scalars + lists


def changed(raw: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The file with this change."""
    made = copy.deepcopy(dict(raw))
    inner = made
    for key in change[0][:-1]:
        inner = inner[key]
    inner[change[0][-1]] = change[1]
    return made


def mentioned(model_type: str) -> frozenset[str]:
    """Names that the facts of this type speak of, in formulas, in what is fixed, as another name of a field."""
    found = modules.facts(model_type)
    if found is None:
        return frozenset()
    told = json.dumps([
        list(found["fields"].items()), list(found["aliases"].items()), list(found["fixed"]), list(found["words"]),
        found["fragments"], found["classes"],
    ])  # fmt: skip
    return frozenset(re.findall(r"[A-Za-z_][\w.]*", told))


def _leaves(raw: Mapping[str, Any], facts: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[Change]:
    """Each value of the file; a sub-config of any type is its own type's matter."""
    for key, value in raw.items():
        if isinstance(value, dict) and key.endswith("_config"):
            if not facts.get("configs", {}).get(key, {}).get("any"):
                yield from _leaves(value, {}, (*path, key))
        elif value is None or isinstance(value, (bool, int, float, str, list)):
            yield (*path, key), value


def _words(sampler: Sampler, path: tuple[str, ...], value: list[Any]) -> list[Any]:
    """What else an entry of this list may be."""
    if all(isinstance(item, str) for item in value):
        said: Collection[str] = sampler._literals(path[-1]) if len(path) == 1 else ()  # noqa: SLF001 - what its source compares it with
        told = ALLOWED_MLP_LAYER_TYPES if _MLP_KINDS.search(path[-1]) else said
        return list(dict.fromkeys([*value, *told]))
    if all(type(item) is int for item in value):
        return sorted({*value, *(item + 1 for item in value[:2]), *((0, 1) if max(value, default=0) <= 1 else ())})
    return []


def _other_words(sampler: Sampler, path: tuple[str, ...], value: str) -> list[str]:
    """What else a text may be, as its source says; activations are known by their table."""
    for key in path[:-1]:
        if key not in sampler.parts:
            return []
        sampler = sampler.parts[key]
    told = [] if value in ACT2FN else sampler._literals(path[-1], value)  # noqa: SLF001 - what its source compares it with
    return [word for word in told if word != value][: 2 * _FEW]


def _lists(value: list[Any], words: list[Any]) -> list[list[Any]]:
    """The list turned round, moved on by one, with another first or last entry, of one kind."""
    found = [value[::-1], value[1:] + value[:1]] if value else []
    for word in [one for one in words if not isinstance(one, bool)][: 2 * _FEW]:
        found += [[word, *value[1:]], [*value[:-1], word], [word] * len(value)]
    if value and all(isinstance(item, bool) for item in value):
        found += [[not value[0], *value[1:]], [*value[:-1], not value[-1]]]
    return [one for at, one in enumerate(found) if one != value and one not in found[:at]]


def _scalars(value: Any, depth: int) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [1 if value != 1 else 2, *([0] if value > 1 else [])]
    if value is None:
        return [1, True, [0] * depth, [depth - 1]]
    return []


def _depth(raw: Mapping[str, Any], path: tuple[str, ...]) -> int:
    for key in path[:-1]:
        raw = raw[key]
    return next((v for k, v in raw.items() if re.search(r"(layers?|depth)$", k) and type(v) is int and v > 0), 2)
