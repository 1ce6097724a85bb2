"""Fields of a config that only build together, and so cannot be drawn each by itself.

Facts are still learned from what transformers builds: this only says how to draw configs that it accepts, where single
fields would have to keep their defaults otherwise, and every other value of them would be doubted.
"""

from __future__ import annotations

import random
from typing import Any, Callable

Raw = dict[str, Any]
Couple = Callable[[Raw, random.Random], None]

#: Sizes of a head: twice a prime, so that no product of other fields is taken for one.
_EVEN = (22, 26, 34, 38, 46, 58, 62, 74)


def _heads_by_stage(width: str, heads: str = "num_heads") -> Couple:
    """Numbers of heads that divide the width of their stage, which doubles from stage to stage."""

    def couple(raw: Raw, rng: random.Random) -> None:
        raw[width] = 12 * rng.choice(_EVEN)
        raw[heads] = [rng.choice((1, 2, 3, 4, 6, 12)) for _ in raw["depths"]]

    return couple


def _mamba(heads: str, head_dim: str, expand: str, auto: str | None = None) -> Couple:
    """Heads * head size is the hidden size, expanded."""

    def couple(raw: Raw, rng: random.Random) -> None:
        times, size = rng.choice((1, 2, 3)), rng.choice(_EVEN)
        count = rng.choice((2, 4, 6, 8))
        attention = raw.get("num_attention_heads") or 1
        raw["hidden_size"] = count * size * attention
        raw[expand], raw[heads] = times, count * times * attention
        raw[head_dim] = size if auto is None or rng.random() < 0.5 else auto

    return couple


def _mamba_apart(raw: Raw, rng: random.Random) -> None:
    """The same, or the heads make a width of their own."""
    _mamba("mamba_n_heads", "mamba_d_head", "mamba_expand", "auto")(raw, rng)
    count, size = raw["mamba_n_heads"], rng.choice(_EVEN)
    raw["mamba_n_groups"] = rng.choice((1, 2))
    raw["mamba_d_ssm"] = None
    if rng.random() < 0.6:
        raw["mamba_d_ssm"] = count * size
        raw["mamba_d_head"] = size if raw["mamba_d_head"] != "auto" else "auto"


def _same_bias(raw: Raw, _: random.Random) -> None:
    raw["mlp_bias"] = raw["attention_bias"]


def _groups_of_channels(raw: Raw, rng: random.Random) -> None:
    """Each convolution's groups divide its channels; the embeddings are as wide as the layers."""
    raw["hidden_size"] = raw["embedding_size"] = 4 * raw["num_attention_heads"] * rng.choice(_EVEN)
    raw["intermediate_size"] = 4 * rng.choice(_EVEN) * rng.choice((3, 5, 7))
    for name in ("q", "k", "v", "post_attention", "intermediate", "output"):
        raw[f"{name}_groups"] = rng.choice((1, 2, 4))


def _channels_of_heads(raw: Raw, rng: random.Random) -> None:
    """Widths of queries and of values that all heads share evenly, or those of the latents."""
    own, cross = rng.choice((1, 2, 4)), rng.choice((1, 2, 4))
    raw["num_self_attention_heads"], raw["num_cross_attention_heads"] = own, cross
    for name in ("d_latents", "d_model", "qk_channels", "v_channels"):
        raw[name] = 4 * rng.choice(_EVEN) + 4 * rng.randint(0, 40)
    for name in ("qk_channels", "v_channels"):
        raw[name] = None if rng.random() < 0.4 else raw[name]


def _axes(raw: Raw, rng: random.Random) -> None:
    """Widths of the axes that make the hidden size, and a word for each layer."""
    raw["hidden_size"] = 2 * raw["num_attention_heads"] * rng.choice(_EVEN)
    first = rng.randint(5, raw["hidden_size"] - 5)
    raw["axial_pos_embds_dim"] = [first, raw["hidden_size"] - first]
    raw["axial_pos_shape"] = [rng.randint(2, 70), rng.randint(2, 70)]
    raw["attn_layers"] = [rng.choice(("local", "lsh")) for _ in range(rng.randint(2, 7))]


def _groups_of_positions(raw: Raw, rng: random.Random) -> None:
    """Groups of the convolution over positions, of as many channels as the hidden size."""
    raw["num_conv_pos_embedding_groups"] = rng.choice((1, 2, raw["num_attention_heads"]))


def _categories(raw: Raw, rng: random.Random) -> None:
    """How many values each category of a series has, and how wide each is embedded, for as many as there are."""
    count = raw["num_static_categorical_features"] = rng.choice((0, 1, 2, 3))
    values, widths = count or rng.choice((0, 1, 2)), count or rng.choice((0, 1, 2))  # not heard without categories
    raw["cardinality"] = [rng.randint(3, 90) for _ in range(values)] if count or rng.random() < 0.5 else None
    raw["embedding_dimension"] = [rng.randint(2, 40) for _ in range(widths)] if rng.random() < 0.5 else None
    raw["prediction_length"] = rng.randint(11, 60)
    raw["context_length"] = None if rng.random() < 0.5 else rng.randint(11, 60)


def _kinds_by_count(raw: Raw, rng: random.Random) -> None:
    """A list of kinds of attention, each group with a number, for as many layers as there are."""
    layers = raw.get("num_layers") or 2
    raw["attention_types"] = [[[rng.choice(("global", "local"))], 1] for _ in range(layers)]
    if layers % 2 == 0 and rng.random() < 0.5:
        raw["attention_types"] = [[["global", "local"], layers // 2]]


def _by_layer(raw: Raw, rng: random.Random) -> None:
    """One width for all layers or one for each; no more layers that share keys and values than there are before."""
    layers = raw.get("num_hidden_layers") or 2
    width = 2 * rng.choice(_EVEN)
    raw["intermediate_size"] = width if rng.random() < 0.5 else [width + 2 * rng.randint(0, 9) for _ in range(layers)]
    raw["activation_sparsity_pattern"] = (
        None if rng.random() < 0.5 else [rng.choice((0.0, 0.95)) for _ in range(layers)]
    )
    raw["num_kv_shared_layers"] = rng.randint(0, layers - 1)


def _heads_by_layer(raw: Raw, rng: random.Random) -> None:
    """Numbers of heads for each layer, multiples of those of keys and values; none where all layers have the same."""
    layers, kv = raw.get("num_hidden_layers") or 2, raw.get("num_key_value_heads") or 1
    heads = [kv * rng.choice((1, 2, 3)) for _ in range(layers)]
    raw["num_attention_heads_per_layer"] = heads if rng.random() < 0.5 else None


def _codec(raw: Raw, rng: random.Random) -> None:
    """Codes of so many bits; fewer quantizers of meaning than there are; groups that divide the width; trims where it may."""
    raw["codebook_size"] = 2 ** rng.randint(4, 11)
    raw["num_quantizers"] = rng.randint(3, 9)
    raw["num_semantic_quantizers"] = rng.randint(1, 2)
    raw["upsample_groups"] = rng.choice((1, 2, raw["hidden_size"]))
    if not raw.get("use_causal_conv", True):
        raw["trim_right_ratio"] = 1.0


def _bits(raw: Raw, rng: random.Random) -> None:
    """Codes of so many bits, at a rate of sound that somebody hears; trims where it may."""
    raw["codebook_size"] = 2 ** rng.randint(4, 11)
    raw["sampling_rate"] = rng.randint(8000, 48000)
    if not raw.get("use_causal_conv", True):
        raw["trim_right_ratio"] = 1.0


def _few_patches(raw: Raw, rng: random.Random) -> None:
    """An image of so few patches that all pairs of them can be looked at, as the model does."""
    raw["patch_size"] = rng.randint(5, 30)
    raw["image_size"] = rng.randint(5, 14) * raw["patch_size"] + rng.randint(0, 4)


def _one_width(raw: Raw, rng: random.Random) -> None:
    """The images' tokens are as wide as the text's; a router needs two ways to choose from."""
    raw["vision_config"]["out_hidden_size"] = raw["text_config"]["hidden_size"]
    raw["density_router_hidden_size"] = rng.choice((None, rng.randint(5, 90)))
    if raw["density_router_hidden_size"]:
        raw["vision_config"]["use_fine_route"] = True


def _steps(raw: Raw, rng: random.Random) -> None:
    """Steps of one or two, the only ones whose padding torch works out itself; few blocks."""
    own = raw.get("vision_config", raw)
    own["strides"] = [rng.choice((1, 2)) for _ in own["in_channels"]]
    own["num_block_repeats"] = [rng.randint(0, 3) for _ in own["in_channels"]]
    own["depth_coefficient"] = rng.choice((1.0, 1.1, 1.8, 2.2))


def _talker(raw: Raw, rng: random.Random) -> None:
    """What the talker's class asks for, and its config class has no field for."""
    talker = raw.get("talker_config")
    if isinstance(talker, dict):
        talker["spatial_merge_size"] = 2
        talker.setdefault("text_config", {})["shared_expert_intermediate_size"] = rng.choice(_EVEN)


COUPLED: dict[str, Couple] = {
    "align": _steps,
    "align_vision_model": _steps,
    "autoformer": _categories,
    "bamba": _mamba("mamba_n_heads", "mamba_d_head", "mamba_expand", "auto"),
    "clap_audio_model": _heads_by_stage("patch_embeds_hidden_size", "num_attention_heads"),
    "donut-swin": _heads_by_stage("embed_dim"),
    "dac": _bits,
    "encodec": _bits,
    "efficientnet": _steps,
    "falcon_h1": _mamba_apart,
    "gemma3n_text": _by_layer,
    "gpt_neo": _kinds_by_count,
    "granitemoehybrid": _mamba("mamba_n_heads", "mamba_d_head", "mamba_expand", "auto"),
    "granite_docling": _one_width,
    "informer": _categories,
    "internlm3": _same_bias,
    "laguna": _heads_by_layer,
    "levit": _few_patches,
    "mimi": _codec,
    "mimi_decoder": _codec,
    "mimi_encoder": _codec,
    "mamba2": _mamba("num_heads", "head_dim", "expand"),
    "maskformer-swin": _heads_by_stage("embed_dim"),
    "perceiver": _channels_of_heads,
    "qwen3_omni_moe": _talker,
    "reformer": _axes,
    "squeezebert": _groups_of_channels,
    "swin": _heads_by_stage("embed_dim"),
    "swinv2": _heads_by_stage("embed_dim"),
    "time_series_transformer": _categories,
    "wav2vec2": _groups_of_positions,
    "wavlm": _groups_of_positions,
}


def couple(model_type: str, raw: Raw, rng: random.Random) -> None:
    """Make the fields of this drawn config go together, in place."""
    if model_type in COUPLED:
        COUPLED[model_type](raw, rng)
