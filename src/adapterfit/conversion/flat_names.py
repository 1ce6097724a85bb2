"""Module paths whose dots were written as underscores, as kohya does, and the way back.

The way back is not unique for words that hold an underscore themselves. So the names are looked up: in what the file's own
header records, in the base's modules, and else in the closed vocabularies of the model families that such files are made
for. A name that reads in two ways, or in none, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from adapterfit.errors import CannotConvert
from adapterfit.text import quote

#: Words of a module path, family by family; `#` marks one that a number may follow (a list of modules).
_FAMILIES = {
    "unet": "down_blocks# up_blocks# mid_block attentions# resnets# transformer_blocks# attn1 attn2 to_q to_k to_v to_out# ff "
    "net# proj proj_in proj_out conv1 conv2 conv conv_shortcut conv_in conv_out time_emb_proj downsamplers# upsamplers# "
    "time_embedding add_embedding class_embedding linear_1 linear_2 motion_modules# norm1 norm2 norm3 attn temp_attentions#",
    "clip": "text_model encoder layers# self_attn q_proj k_proj v_proj out_proj mlp fc1 fc2 embeddings token_embedding "
    "position_embedding text_projection final_layer_norm layer_norm1 layer_norm2",
    "t5": "encoder decoder block# layer# SelfAttention EncDecAttention q k v o DenseReluDense wi wi_0 wi_1 wo shared lm_head",
    "dit": "transformer_blocks# single_transformer_blocks# attn attn1 attn2 to_q to_k to_v to_out# add_q_proj add_k_proj "
    "add_v_proj to_add_out ff net# proj ff_context norm norm1 norm1_context norm_out linear proj_mlp proj_out context_embedder "
    "x_embedder time_text_embed timestep_embedder guidance_embedder text_embedder pos_embed linear_1 linear_2",
    "decoder": "model language_model text_model transformer layers# h# self_attn attn attention mlp q_proj k_proj v_proj o_proj "
    "out_proj qkv_proj gate_proj up_proj down_proj gate_up_proj gate experts# block_sparse_moe w1 w2 w3 shared_expert "
    "c_attn c_proj c_fc wte wpe embed_tokens lm_head query_key_value dense dense_h_to_4h dense_4h_to_h self_attention "
    "gpt_neox fc1 fc2 decoder encoder score",
    "bert": "bert roberta encoder layer# attention self output intermediate query key value dense embeddings word_embeddings "
    "position_embeddings pooler classifier",
}  # fmt: skip
#: Underscored pieces of the longest word above.
_LONGEST = 4


def flat(module: str) -> str:
    """The path with its dots as underscores."""
    return module.replace(".", "_")


def unflattened(names: Iterable[str], known: Iterable[str]) -> Mapping[str, str]:
    """Flat name → path. `known` are paths from the base or the header; they are believed before the vocabularies.

    Raises:
        CannotConvert: A name fits two of them, or nothing.
    """
    table: dict[str, set[str]] = {}
    for path in known:
        table.setdefault(flat(path), set()).add(path)
    found: dict[str, str] = {}
    for name in names:
        readings = table.get(name) or _readings(name)
        if len(readings) != 1:
            shown = " or ".join(map(quote, sorted(readings))) or "in no way that is known here"
            raise CannotConvert(
                f"{quote(name)} can be read as {shown}: where its dots were cannot be told; give the model with --base",
                (name,),
            )
        found[name] = next(iter(readings))
    return found


def _readings(name: str) -> set[str]:
    return {path for family in _FAMILIES for path in _split(name, family)}


def _split(name: str, family: str) -> set[str]:
    """Every way to read the name as words of one family."""
    listed = {word.rstrip("#"): word.endswith("#") for word in _FAMILIES[family].split()}
    parts = name.split("_")
    ways: list[list[list[str]]] = [[[]], *([] for _ in parts)]
    for end in range(1, len(parts) + 1):
        for start in range(max(0, end - _LONGEST), end):
            word = "_".join(parts[start:end])
            for before in ways[start]:
                if word in listed or (word.isdecimal() and before and listed.get(before[-1])):
                    ways[end].append([*before, word])
    return {".".join(way) for way in ways[-1]}


#: SDXL's UNet as its makers number it → diffusers' numbering: three entries per level, two of them with blocks
#: (`_maybe_map_sgm_blocks_to_diffusers`, diffusers 0.42; layers_per_block of SDXL is 2).
_SGM = re.compile(r"(input_blocks|middle_block|output_blocks)_([0-9]+)(?:_([0-9]+))?_(.+)")
_INNER = ("resnets", "attentions", "upsamplers")
#: Inside a residual block, the makers' positions in a list → diffusers' names.
_RESNET = {
    "in_layers_2": "conv1",
    "emb_layers_1": "time_emb_proj",
    "out_layers_3": "conv2",
    "skip_connection": "conv_shortcut",
}
_EDGES = {
    "input_blocks_0_0": "conv_in", "out_2": "conv_out", "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2", "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
}  # fmt: skip


def from_sgm(name: str) -> str:
    """A flat name in SDXL's own numbering in diffusers' numbering; any other name as it is."""
    if name in _EDGES:
        return _EDGES[name]
    match = _SGM.fullmatch(name)
    if match is None:
        return name
    block, index, inner, rest = match[1], int(match[2]), match[3], match[4]
    if block == "middle_block":
        places = {0: "resnets_0", 1: "attentions_0", 2: "resnets_1"}
        tail = rest if inner is None else f"{inner}_{rest}"
        return f"mid_block_{places.get(index, 'unknown')}_{_inside(tail)}"
    if inner is None:
        return name
    if rest == "op":
        return f"down_blocks_{(index - 1) // 3}_downsamplers_0_conv"
    level, place = divmod(index - 1 if block == "input_blocks" else index, 3)
    kind = _INNER[int(inner)] if int(inner) < len(_INNER) else "unknown"
    side = "down_blocks" if block == "input_blocks" else "up_blocks"
    return f"{side}_{level}_{kind}_{0 if kind == 'upsamplers' else place}_{_inside(rest)}"


def _inside(rest: str) -> str:
    return _RESNET.get(rest, rest)
