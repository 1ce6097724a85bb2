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


def _heads_by_stage(width: str) -> Couple:
    """Numbers of heads that divide the width of their stage, which doubles from stage to stage."""

    def couple(raw: Raw, rng: random.Random) -> None:
        raw[width] = 12 * rng.choice(_EVEN)
        raw["num_heads"] = [rng.choice((1, 2, 3, 4, 6, 12)) for _ in raw["depths"]]

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


COUPLED: dict[str, Couple] = {
    "bamba": _mamba("mamba_n_heads", "mamba_d_head", "mamba_expand", "auto"),
    "donut-swin": _heads_by_stage("embed_dim"),
    "gemma3n_text": _by_layer,
    "gpt_neo": _kinds_by_count,
    "granitemoehybrid": _mamba("mamba_n_heads", "mamba_d_head", "mamba_expand", "auto"),
    "laguna": _heads_by_layer,
    "mamba2": _mamba("num_heads", "head_dim", "expand"),
    "maskformer-swin": _heads_by_stage("embed_dim"),
    "swin": _heads_by_stage("embed_dim"),
    "swinv2": _heads_by_stage("embed_dim"),
}


def couple(model_type: str, raw: Raw, rng: random.Random) -> None:
    """Make the fields of this drawn config go together, in place."""
    if model_type in COUPLED:
        COUPLED[model_type](raw, rng)
