"""What a stamp keeps of a base besides its numbers: the config's fields that matter, and the inventory of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapterfit.records import ModuleTree, Shape

#: Fields that decide what the model computes or how it is built; whatever a library writes or leaves out by its version
#: (dtype, cache, paths, token ids, defaults of generation) is none of them.
_FIELDS = frozenset((
    "model_type", "hidden_size", "d_model", "n_embd", "dim", "word_embed_proj_dim", "intermediate_size", "ffn_dim", "d_ff", "n_inner", "ffn_hidden_size",
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers",
    "num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads",
    "num_key_value_heads", "num_kv_heads", "multi_query", "head_dim", "d_kv", "hidden_act", "hidden_activation", "activation_function",
    "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "tie_word_embeddings", "attention_bias", "mlp_bias",
    "num_experts", "num_local_experts", "num_experts_per_tok", "n_routed_experts", "n_shared_experts", "moe_intermediate_size",
    "position_embedding_type", "logit_scale", "embedding_multiplier", "residual_multiplier",
    "attention_multiplier", "logits_scaling", "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar",
    "new_decoder_architecture", "parallel_attn", "alibi", "patch_size", "image_size", "qk_layernorm", "relative_attention_num_buckets",
))  # fmt: skip
#: transformers 5 keeps these in `rope_parameters`, 4 in `rope_theta` and `rope_scaling`.
_ROPE = ("rope_parameters", "rope_scaling")
#: Kinds of modules whose weights are counted.
_COUNTED = frozenset({"Linear", "Conv1D", "Embedding", "Conv1d", "Conv2d", "Conv3d"})


def config_fields(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields that matter, nested ones as `text.hidden_size`, rotary ones as `rope.theta`; plain values only."""
    return dict(_fields(config or {}, ""))


def _fields(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if key in _FIELDS and isinstance(value, (str, int, float, bool)):
            yield prefix + key, value
        if not prefix and key.endswith("_config") and key != "quantization_config" and isinstance(value, dict):
            yield from _fields(value, f"{key[: -len('_config')]}.")
    yield from ((f"{prefix}rope.{key}", value) for key, value in _rope(config).items())


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    theta = config.get("rope_theta")
    found: dict[str, Any] = {"theta": theta} if isinstance(theta, (int, float)) else {}
    for name in _ROPE:
        table = config.get(name)
        for key, value in table.items() if isinstance(table, dict) else ():
            plain = {"rope_theta": "theta", "rope_type": "type"}.get(key, str(key))
            if plain in ("theta", "type", "factor") and isinstance(value, (str, int, float)) and value != "default":
                found[plain] = value
    return found


def differing_fields(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Fields with other values, as text: `rope.theta: 10000 → 500000`. A field that only one side has says nothing.

    Except for scaled positions: where both sides have rotary ones, a factor on one side only is a difference.
    """
    both = one.keys() & other.keys()
    scaled = {key for key in one.keys() ^ other.keys() if ".rope." in f".{key}" and _theta(key) in both}
    names = sorted(name for name in both | scaled if one.get(name) != other.get(name))
    return [f"{name}: {one.get(name, 'none')} → {other.get(name, 'none')}" for name in names]


def _theta(key: str) -> str:
    return f"{key.rpartition('rope.')[0]}rope.theta"


def inventory(tree: ModuleTree) -> dict[str, tuple[Shape, ...]]:
    """Last name of a weight → its shapes, each with its number of occurrences behind it. Vocabulary rows are left out."""
    vocabulary = {tree.input_embeddings, tree.output_embeddings} - {""}
    count: dict[tuple[str, Shape], int] = {}
    for module in tree.modules:
        weight = module.params.get("weight")
        if module.kind in _COUNTED and weight is not None and module.name not in vocabulary:
            entry = (_last_name(module.name), weight)
            count[entry] = count.get(entry, 0) + 1
    found: dict[str, tuple[Shape, ...]] = {}
    for (name, shape), number in sorted(count.items()):
        found[name] = (*found.get(name, ()), (*shape, number))
    return found


def _last_name(path: str) -> str:
    """`model.layers.0.mlp.up_proj` → `up_proj`; a number is no name."""
    parts = [part for part in path.split(".") if not (part.isascii() and part.isdigit())]
    return parts[-1] if parts else ""


def vocabulary_rows(tree: ModuleTree) -> int | None:
    """Rows of the input embedding."""
    found = next((m for m in tree.modules if m.name == tree.input_embeddings and m.kind == "Embedding"), None)
    weight = found.params.get("weight") if found is not None else None
    return weight[0] if weight else None
