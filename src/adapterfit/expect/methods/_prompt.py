"""What the prompt-learning methods share: sizes taken from the base's config where the adapter's leave them open.

Source: peft 0.21.2 `utils/other.py` (`_prepare_prompt_learning_config`) and `peft_model.py` (`_setup_prompt_encoder`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from adapterfit.expect.methods._layer import InjectionFails, Undecided
from adapterfit.expect.versions import rule

_SIZES: Mapping[str, tuple[str, ...]] = {
    "num_layers": ("num_hidden_layers", "num_layers", "n_layer"),
    "token_dim": ("hidden_size", "n_embd", "d_model"),
    "num_attention_heads": ("num_attention_heads", "n_head", "num_heads", "encoder_attention_heads"),
}


_HUGE = 2**40


class Sizes(NamedTuple):
    """`tokens` virtual tokens (times the transformer sub-modules), `width` of one token, `layers` of the base."""

    tokens: int
    submodules: int
    width: int
    layers: int


def sizes(config: Mapping[str, Any], base: Mapping[str, Any], *, keys_and_values: bool) -> Sizes:
    """The sizes PEFT would build the prompt with. `keys_and_values`: the prompt is a cache (prefix tuning)."""
    text = None if rule(config, "prompt-whole-config") else base.get("text_config")
    base = text if isinstance(text, Mapping) else base
    layers = _size(config, base, "num_layers")
    width = _size(config, base, "token_dim")
    heads = _size(config, base, "num_attention_heads")
    heard = rule(config, "prefix-width", "heads and their size")
    if keys_and_values and "num_key_value_heads" in base and heard != "nothing":
        width = _key_value_width(base, width, heads, sized=heard != "heads")
    submodules = config.get("num_transformer_submodules")
    if submodules is None:
        submodules = 2 if config.get("task_type") == "SEQ_2_SEQ_LM" else 1
    tokens = _count(config.get("num_virtual_tokens"), "num_virtual_tokens")
    return Sizes(tokens, _count(submodules, "num_transformer_submodules"), width, layers)


def _size(config: Mapping[str, Any], base: Mapping[str, Any], field: str) -> int:
    value = config.get(field)
    if value is None:
        present = [base[key] for key in _SIZES[field] if key in base]
        if not present:
            raise InjectionFails("ValueError", f"Please specify `{field}` in `peft_config`")
        value = present[0]
    return _count(value, field)


def _key_value_width(base: Mapping[str, Any], width: int, heads: int, *, sized: bool) -> int:
    """Grouped-query attention: the cache holds `num_key_value_heads` heads, whatever `token_dim` says.

    `sized`: whether the base's own `head_dim` is heard, too.
    """
    if base.get("global_head_dim") is not None or base.get("per_layer_config") is not None:
        raise Undecided("layers with heads of different sizes are not modelled yet")
    size = base.get("head_dim") if sized else None
    head = width // heads if size is None else _count(size, "head_dim")
    return head * _count(base["num_key_value_heads"], "num_key_value_heads")


def _count(value: Any, what: str) -> int:
    """A positive whole number of a sane size, or no decision."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _HUGE:
        return value
    raise Undecided(f"{what} is {value!r}, not a positive whole number")
