"""Small models of every architecture: their sizes written over the default config, or drawn until one of them is small.

Where sizes have names that only one type has, or must go together, a config that was drawn as for the comparison of the
facts (`tools/architectures`) serves; the first of some, by the number of its weights.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import broken

from adapterfit.expect import modules
from adapterfit.read.base import read_base
from adapterfit.read.sources.memory import MemorySource

#: Weights of a model that takes no time, and of one that may be taken where no other was drawn.
_SMALL, _LARGE = 5_000_000, 60_000_000
#: How many configs are drawn, and how many of the models are tried.
_DRAWN, _TRIED = 24, 4
#: Where nothing else did, the default config's depths become this, and its sizes from this on are made smaller one by one.
_DEPTH, _WORTH = 2, 64
#: Sizes under all the names that configs give them.
_SIZES: Mapping[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "word_embed_proj_dim"), 64),
    **dict.fromkeys(("intermediate_size", "d_ff", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim", "ffn_hidden_size"), 96),
    **dict.fromkeys(("num_hidden_layers", "num_layers", "encoder_layers", "decoder_layers", "n_layer", "n_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_head", "n_heads", "encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("max_position_embeddings", "max_seq_len", "n_positions"), 64),
    **dict.fromkeys(("head_dim", "d_kv", "rotary_dim", "patch_size", "num_mel_bins"), 16),
    **dict.fromkeys(("num_experts", "num_local_experts", "attention_window"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 48),
    **dict.fromkeys(("image_size", "max_source_positions", "max_target_positions"), 32),
    "num_key_value_heads": 2, "num_experts_per_tok": 2, "vocab_size": 256, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2, "initializer_range": 0.1,
}  # fmt: skip
#: Name of the adapter → model type.
ON = {f"on {name}": name for name in sorted(modules.known_types())}
_HEADS = (
    "ForCausalLM",
    "LMHeadModel",
    "ForConditionalGeneration",
    "ForSequenceClassification",
    "ForImageClassification",
    "Model",
)


def cases(model_type: str) -> Iterator[Any]:
    """Cases with a small base of this type, the best one first. Each can be built; whether it runs is not known."""
    classes = _classes(model_type)
    chosen = next((name for head in _HEADS for name in classes if name.endswith(head)), classes[0])
    raw = _shrunk(model_type)
    if raw is not None and (_weights(raw, chosen) or _LARGE) <= _SMALL:
        yield _case(model_type, chosen, raw)
    from architectures import saved

    drawn = [(_weights(one, chosen), one) for one in saved.drawn(model_type, 0, _DRAWN)]
    small = sorted(((count, one) for count, one in drawn if count and count <= _LARGE), key=lambda pair: pair[0])
    yield from (_case(model_type, chosen, one) for _, one in small[:_TRIED])
    reduced: dict[str, Any] = {"model_type": model_type}
    for path, smaller in _reducible(reduced):
        for value in smaller:
            less = _with(reduced, path, value)
            if _weights(less, chosen) is not None:
                reduced = less
                break
    if (_weights(reduced, chosen) or _LARGE) < _LARGE:
        yield _case(model_type, chosen, reduced)


def _classes(model_type: str) -> list[str]:
    return list(json.loads((modules._FACTS / f"{model_type}.json").read_text())["classes"])


def _case(model_type: str, class_name: str, raw: Mapping[str, Any]) -> Any:
    written = {**raw, "model_type": model_type, "architectures": [class_name]}
    base = read_base(MemorySource({"config.json": json.dumps(written).encode()}, label=f"tiny-{model_type}"))
    return dataclasses.replace(broken.sample("llama lora").case, base=base)


def _weights(raw: Mapping[str, Any], class_name: str) -> int | None:
    """How many a model of this config has; None where it cannot be built."""
    import torch
    import transformers

    try:
        with torch.device("meta"):
            made = transformers.AutoConfig.for_model(**json.loads(json.dumps(raw)))
            model = getattr(transformers, class_name)._from_config(made)
    except Exception:  # whatever a class says against values that do not go together
        return None
    return sum(parameter.numel() for parameter in model.parameters())


def _reducible(raw: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Sequence[int]]]:
    """Every depth and size of the default config, by two names in its parts, and what it may be instead, the smallest first."""
    import transformers

    from architectures.sample import is_depth

    try:
        fields = transformers.AutoConfig.for_model(**raw).to_dict()
    except Exception:
        return
    parts = [((key, name), one) for key, part in fields.items() if isinstance(part, dict) for name, one in part.items()]
    for path, size in [*(((key,), value) for key, value in fields.items()), *parts]:
        if not isinstance(size, int) or isinstance(size, bool) or path[-1].endswith("_id"):
            continue
        if is_depth(path[-1]) and size > _DEPTH:
            yield path, (_DEPTH,)
        elif size >= _WORTH:
            yield path, (size // 8, size // 4, size // 2)


def _with(raw: Mapping[str, Any], path: tuple[str, ...], value: int) -> dict[str, Any]:
    return {**raw, path[0]: {**raw.get(path[0], {}), path[1]: value} if len(path) > 1 else value}


def _shrunk(model_type: str) -> dict[str, Any] | None:
    """The default config with the sizes of a small model; None where transformers refuses its own defaults."""
    import transformers

    try:
        default = transformers.AutoConfig.for_model(model_type)
    except Exception:
        return None
    fields = default.to_dict()
    sizes = _sized({key: value for key, value in fields.items() if key not in default.attribute_map})
    if "multi_query" in fields:  # says itself how many heads keys have
        sizes.pop("num_key_value_heads", None)
    return {"model_type": model_type, **sizes}


def _sized(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of a small model under the names that this config has, those of its parts too."""
    small = {
        key: [value] * len(fields[key]) if isinstance(fields[key], (list, tuple)) else value
        for key, value in _SIZES.items()
        if key in fields
    }
    for key, value in fields.items():
        if isinstance(value, dict) and isinstance(value.get("model_type"), str):
            small[key] = {"model_type": value["model_type"], **_sized(value)}
    return small
