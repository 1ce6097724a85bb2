"""Sparse files in the shape of real models: true configs, names, shapes and headers, and nothing but holes behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BYTES = {"BF16": 2, "F32": 4}
PLAIN = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16", "rms_norm_eps": 1e-05}
LLAMA_8B = {
    **PLAIN,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
LLAMA_1B = {
    **PLAIN,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 16,
    "vocab_size": 128256,
    "tie_word_embeddings": True,
}
RANK = 16


def projections(config: dict) -> dict[str, tuple[int, int]]:
    """The linear layers of one decoder layer: name → (out, in)."""
    hidden, inter = config["hidden_size"], config["intermediate_size"]
    narrow = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    return {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (narrow, hidden),
        "self_attn.v_proj": (narrow, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inter, hidden),
        "mlp.up_proj": (inter, hidden),
        "mlp.down_proj": (hidden, inter),
    }


def base_tensors(config: dict) -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint, in its order."""
    hidden, rows = config["hidden_size"], config["vocab_size"]
    found = {"model.embed_tokens.weight": (rows, hidden)}
    for layer in range(config["num_hidden_layers"]):
        start = f"model.layers.{layer}"
        found.update({f"{start}.{name}.weight": shape for name, shape in projections(config).items()})
        found.update({f"{start}.{norm}.weight": (hidden,) for norm in ("input_layernorm", "post_attention_layernorm")})
    found["model.norm.weight"] = (hidden,)
    return found if config["tie_word_embeddings"] else {**found, "lm_head.weight": (rows, hidden)}


def adapter_tensors(config: dict) -> dict[str, tuple[int, ...]]:
    """A LoRA on every linear layer."""
    found = {}
    for layer in range(config["num_hidden_layers"]):
        for name, (rows, columns) in projections(config).items():
            start = f"base_model.model.model.layers.{layer}.{name}"
            found[f"{start}.lora_A.weight"] = (RANK, columns)
            found[f"{start}.lora_B.weight"] = (rows, RANK)
    return found


def safetensors(path: Path, tensors: dict[str, tuple[int, ...]], dtype: str) -> int:
    """Write the header and a hole of the right size; returns the size of the hole."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        size = BYTES[dtype]
        for side in shape:
            size *= side
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)
    return at


def lay(folder: Path, config: dict, shards: int) -> None:
    """Write `folder/base` and `folder/adapter`."""
    base, adapter = folder / "base", folder / "adapter"
    base.mkdir(parents=True)
    adapter.mkdir()
    (base / "config.json").write_text(json.dumps(config, indent=2))
    tensors = list(base_tensors(config).items())
    if shards == 1:
        safetensors(base / "model.safetensors", dict(tensors), "BF16")
    else:
        _sharded(base, tensors, shards)
    safetensors(adapter / "adapter_model.safetensors", adapter_tensors(config), "F32")
    plain = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "example/llama",
        "r": RANK,
        "lora_alpha": 32,
    }
    targets = [name.rpartition(".")[2] for name in projections(config)]
    (adapter / "adapter_config.json").write_text(json.dumps({**plain, "target_modules": targets}, indent=2))


def _sharded(base: Path, tensors: list, shards: int) -> None:
    each, total, where = -(-len(tensors) // shards), 0, {}
    for number in range(shards):
        part = dict(tensors[number * each : (number + 1) * each])
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        total += safetensors(base / name, part, "BF16")
        where.update(dict.fromkeys(part, name))
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (base / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
