"""Adapters with random numbers in them, laid on disk, and what a conversion made of them. No torch."""

from __future__ import annotations

import json

import numpy as np

from adapterfit.read.formats import safetensors
from adapterfit.read.sources.memory import MemorySource
from adapterfit.testing.disk import lay

WIDTHS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}
#: Modules of a small UNet: linear, convolution 3×3 and 1×1.
UNET = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": (8, 8),
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0": (8, 8),
    "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj": (64, 8),
    "down_blocks.0.attentions.0.proj_in": (8, 8, 1, 1),
    "down_blocks.0.resnets.1.conv1": (8, 4, 3, 3),
    "mid_block.attentions.0.proj_out": (8, 8, 1, 1),
    "up_blocks.1.resnets.0.time_emb_proj": (8, 32),
}
CLIP = {
    "text_model.encoder.layers.0.self_attn.q_proj": (8, 8),
    "text_model.encoder.layers.0.mlp.fc1": (32, 8),
}
LLAMA = {
    **{f"model.layers.{n}.self_attn.{p}": s for n in (0, 1) for p, s in (("q_proj", (64, 64)), ("v_proj", (32, 64)))},
    "model.layers.1.mlp.down_proj": (64, 128),
}


def numbers(shape, dtype="F32", seed=0):
    """Random finite numbers as their carrier; bfloat16 as its bits."""
    drawn = np.random.default_rng([seed, *shape]).standard_normal(shape).astype("<f4")
    if dtype == "BF16":
        return (drawn.view("<u4") >> 16).astype("<u2")
    return drawn.astype(WIDTHS[dtype])


def pair(shape, rank, dtype="F32", seed=0):
    """A and B of a module whose weight has this shape."""
    out, width, *kernel = shape
    return (
        numbers((rank, width, *kernel), dtype, seed),
        numbers((out, rank, *(1 for _ in kernel)), dtype, seed + 1),
    )


def weights_bytes(tensors, dtype="F32", metadata=None):
    """A safetensors file; every tensor of one dtype, or (dtype, array) each."""
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, given in tensors.items():
        kind, array = given if isinstance(given, tuple) else (dtype, given)
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def peft_tensors(modules, ranks=None, rank=4, dtype="F32"):
    """PEFT's tensors for some modules, module → shape of its weight."""
    found = {}
    for at, (module, shape) in enumerate(modules.items()):
        a, b = pair(shape, (ranks or {}).get(module, rank), dtype, seed=at)
        found[f"base_model.model.{module}.lora_A.weight"] = a
        found[f"base_model.model.{module}.lora_B.weight"] = b
    return found


def peft_config(modules, **fields):
    """Its config, with fields overridden."""
    plain = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": sorted(modules), "bias": "none"}
    return {**plain, **fields}


def peft_folder(path, modules, ranks=None, dtype="F32", more=None, **fields):
    """A PEFT adapter on disk."""
    tensors = {**peft_tensors(modules, ranks, fields.get("r", 4), dtype), **(more or {})}
    return lay(
        path,
        {
            "adapter_config.json": json.dumps(peft_config(modules, **fields)).encode(),
            "adapter_model.safetensors": weights_bytes(tensors, dtype),
        },
    )


def read(path):
    """Every tensor of a safetensors file by name, as (dtype, shape, bytes); read by the project's own header reader."""
    data = path.read_bytes()
    found = safetensors.read(MemorySource({path.name: data}), path.name)
    assert not found.refused, found.flaws
    return {each.name: (each.dtype, each.shape, data[slice(*each.span)]) for each in found.tensors}


def metadata(path):
    """The header's own entry."""
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})


def config(path):
    """adapter_config.json of a folder."""
    return json.loads((path / "adapter_config.json").read_bytes())


def scales(path):
    """Scale by module, resolved from a PEFT folder by hand: exact names only, as our own writer makes them."""
    values, found = config(path), {}
    for name, (_, shape, _) in read(path / "adapter_model.safetensors").items():
        if ".lora_A" in name or ".lora_embedding_A" in name:
            module = name[len("base_model.model.") :].split(".lora_")[0]
            alpha = values.get("alpha_pattern", {}).get(module, values["lora_alpha"])
            found[module] = alpha / (shape[0] ** 0.5 if values.get("use_rslora") else shape[0])
    return found
