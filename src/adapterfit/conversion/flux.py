"""Flux as its makers name it, where q, k and v are one matrix, brought to diffusers' names, where they are several.

kohya's and many other files of Flux have the makers' names. A joined module's B is cut into its parts by rows, and every part keeps the
whole A: ΔW of a part is its rows of ΔW. Source of the names: diffusers 0.42, `lora_conversion_utils.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from adapterfit.conversion.neutral import Layer
from adapterfit.conversion.numbers import cut
from adapterfit.errors import CannotConvert
from adapterfit.text import quote

_BLOCK = re.compile(r"(double|single)_blocks_([0-9]+)_(.+)")
_DOUBLE = {
    "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn_proj": ("attn.to_out.0",),
    "txt_attn_proj": ("attn.to_add_out",),
    "img_mlp_0": ("ff.net.0.proj",),
    "img_mlp_2": ("ff.net.2",),
    "txt_mlp_0": ("ff_context.net.0.proj",),
    "txt_mlp_2": ("ff_context.net.2",),
    "img_mod_lin": ("norm1.linear",),
    "txt_mod_lin": ("norm1_context.linear",),
}
_SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation_lin": ("norm.linear",),
}


def is_flux(name: str) -> bool:
    """Whether a flat name is one of Flux's own."""
    return _BLOCK.fullmatch(name) is not None


def taken_apart(layer: Layer) -> Iterator[Layer]:
    """A layer whose module is a flat name of Flux's own → the layers of diffusers' modules that it is.

    Raises:
        CannotConvert: The module is not known, or its rows are not the parts' it should have.
    """
    match = _BLOCK.fullmatch(layer.module)
    names = (_DOUBLE if match[1] == "double" else _SINGLE).get(match[3]) if match is not None else None
    if match is None or names is None:
        raise CannotConvert(f"{quote(layer.module)} is no module of Flux that is known here", (layer.module,))
    path = f"{'transformer_blocks' if match[1] == 'double' else 'single_transformer_blocks'}.{match[2]}"
    if len(names) == 1:
        yield replace(layer, module=f"{path}.{names[0]}")
        return
    if layer.magnitude is not None:
        raise CannotConvert(
            f"{quote(layer.module)} has a DoRA of its joined matrix, which is none of its parts", (layer.module,)
        )
    at = 0
    for name, rows in zip(names, _rows(layer, len(names))):
        yield replace(layer, module=f"{path}.{name}", b=cut(layer.b, 0, at, at + rows))
        at += rows


def _rows(layer: Layer, count: int) -> list[int]:
    """Rows of every part: q, k and v are as wide as what goes in; what is left is the MLP's."""
    whole, width = layer.b.shape[0], layer.a.shape[1]
    if count == 3 and whole % 3 == 0:
        return [whole // 3] * 3
    if count == 4 and whole > 3 * width:
        return [width, width, width, whole - 3 * width]
    raise CannotConvert(
        f"{quote(layer.module)} has {whole} rows on {width} columns: not the parts of this module", (layer.module,)
    )
