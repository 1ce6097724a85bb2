"""Adapters that cross to another implementation of the same model: trained on the one, mended for the other, equal in logits.

The bases are made of the same numbers, so the model of the training tells what is right.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import breaking
import broken
import mending

from adapterfit.testing import make

SIZES = {"rms_norm_eps": 1e-5, "initializer_range": 0.1}
LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 6, "task_type": "CAUSAL_LM"}
_QKV = ["q_proj", "k_proj", "v_proj"]
#: What was trained on the base with fused layers, for the one with separate ones.
FUSED: Mapping[str, Mapping[str, Any]] = {
    "fused: all layers": {"target_modules": ["qkv_proj", "gate_up_proj", "o_proj", "down_proj"]},
    "fused: attention alone": {"target_modules": ["qkv_proj"]},
    "fused: gate and up alone": {"target_modules": ["gate_up_proj", "o_proj"]},
    "fused: DoRA": {"target_modules": ["qkv_proj", "gate_up_proj"], "use_dora": True},
    "fused: rsLoRA": {"target_modules": ["qkv_proj", "o_proj"], "use_rslora": True},
    "fused: lora_bias": {"target_modules": ["qkv_proj"], "lora_bias": True},
    "fused: patterns": {
        "target_modules": ["qkv_proj", "gate_up_proj"],
        "rank_pattern": {"qkv_proj": 2},
        "alpha_pattern": {"layers.1.mlp.gate_up_proj": 9},
    },
    "fused: one layer": {"target_modules": ["qkv_proj"], "layers_to_transform": [1]},
}
#: The other way round.
SEPARATE: Mapping[str, Mapping[str, Any]] = {
    "separate: all layers": {"target_modules": [*_QKV, "gate_proj", "up_proj", "o_proj", "down_proj"]},
    "separate: query, key, value": {"target_modules": _QKV},
    "separate: query and value": {"target_modules": ["q_proj", "v_proj"]},
    "separate: query and key": {"target_modules": ["q_proj", "k_proj", "o_proj"]},
    "separate: key and value": {"target_modules": ["k_proj", "v_proj"]},
    "separate: query": {"target_modules": ["q_proj"]},
    "separate: key": {"target_modules": ["k_proj"]},
    "separate: value": {"target_modules": ["v_proj", "down_proj"]},
    "separate: up": {"target_modules": ["up_proj", "q_proj"]},
    "separate: gate": {"target_modules": ["gate_proj"]},
    "separate: DoRA": {"target_modules": [*_QKV, "gate_proj", "up_proj"], "use_dora": True},
    "separate: rsLoRA": {"target_modules": [*_QKV, "o_proj"], "use_rslora": True},
    "separate: lora_bias": {"target_modules": ["gate_proj", "up_proj"], "lora_bias": True},
    "separate: ranks that differ": {"target_modules": ["q_proj", "v_proj", "o_proj"], "rank_pattern": {"v_proj": 2}},
    "separate: alphas that differ": {"target_modules": ["q_proj", "v_proj"], "alpha_pattern": {"v_proj": 18}},
    "separate: one layer": {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0]},
}
#: Which parts of GPT-2's c_attn PEFT 0.2 trained.
MERGED = {
    "MergedLinear: query and value": [True, False, True],
    "MergedLinear: key and value": [False, True, True],
    "MergedLinear: value": [False, False, True],
    "MergedLinear: all": [True, True, True],
}
_MOE = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
_QWEN = {**_MOE, "model_type": "qwen2_moe", "architectures": ["Qwen2MoeForCausalLM"], "shared_expert_intermediate_size": 80,
         "decoder_sparse_step": 1, "mlp_only_layers": []}  # fmt: skip
_QWEN3 = {**_MOE, "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "head_dim": 16, "decoder_sparse_step": 1,
          "mlp_only_layers": [1]}  # fmt: skip
_PHI = {**_MOE, "model_type": "phimoe", "architectures": ["PhimoeForCausalLM"], "pad_token_id": 0}
_NAMES, _W = ("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2")
_SHARED = tuple(f"mlp.shared_expert.{leaf}" for leaf in _NAMES)
_OLD = "block_sparse_moe"
#: Base's config, its experts' parent in transformers 4, their leaves that were trained, other layers, config of the adapter.
EXPERTS: Mapping[str, tuple[Mapping[str, Any], str, tuple[str, ...], tuple[str, ...], Mapping[str, Any]]] = {
    "experts: mixtral": ({}, _OLD, _W, ("self_attn.q_proj",), {}),
    "experts: mixtral, rsLoRA": ({}, _OLD, _W, ("self_attn.q_proj",), {"use_rslora": True}),
    "experts: mixtral, alphas that differ": ({}, _OLD, _W, (), {"alpha_pattern": {"w1": 12}}),
    "experts: mixtral, ranks that differ": ({}, _OLD, _W, (), {"rank_pattern": {"w2": 2}}),
    "experts: mixtral, gate and up": ({}, _OLD, ("w1", "w3"), ("self_attn.v_proj",), {}),
    "experts: mixtral, gate": ({}, _OLD, ("w1",), ("self_attn.v_proj",), {}),
    "experts: mixtral, up and down": ({}, _OLD, ("w3", "w2"), (), {}),
    "experts: mixtral, down": ({}, _OLD, ("w2",), (), {}),
    "experts: mixtral, dropout": ({}, _OLD, _W, ("self_attn.q_proj",), {"lora_dropout": 0.05}),
    "experts: mixtral, dropout and rsLoRA": ({}, _OLD, _W, (), {"lora_dropout": 0.05, "use_rslora": True}),
    "experts: qwen2_moe": (_QWEN, "mlp", _NAMES, ("self_attn.q_proj",), {}),
    "experts: qwen2_moe, rsLoRA and dropout": (
        _QWEN,
        "mlp",
        _NAMES,
        _SHARED,
        {"use_rslora": True, "lora_dropout": 0.1},
    ),
    "experts: qwen2_moe, shared ones": (
        _QWEN,
        "mlp",
        _NAMES,
        _SHARED,
        {},
    ),
    "experts: qwen2_moe, up": (_QWEN, "mlp", ("up_proj",), _SHARED[1:2], {}),
    "experts: phimoe": (_PHI, _OLD, _W, ("self_attn.k_proj",), {}),
    "experts: qwen3_moe": (_QWEN3, "mlp", _NAMES, ("self_attn.q_proj",), {}),
    "experts: qwen3_moe, dense layer": (_QWEN3, "mlp", _NAMES, ("1.mlp.gate_proj", "1.mlp.down_proj"), {}),
    "experts: qwen3_moe, dense layer alone": (_QWEN3, "mlp", (), ("1.mlp.up_proj", "1.mlp.down_proj"), {}),
}
NAMES = (*FUSED, *SEPARATE, *MERGED, *EXPERTS)


@dataclass(frozen=True)
class Crossing:
    """A folder, the base it is for, the model of that base, and the logits of the training."""

    folder: Path
    base: Any
    fresh: Callable[[], Any]
    logits: Any


def mended(name: str, root: Path) -> mending.Outcome:
    """Make it, mend it, load it, compare."""
    make_it = _merged if name in MERGED else of_experts if name in EXPERTS else _between
    one = make_it(name, root)
    return mending.compared(
        one.folder, one.base, root / "mended", one.fresh, breaking.computed, one.logits, breaking.CLOSE
    )


def _case(family: str) -> Any:
    return make.lora(family, base=make.base(family, **SIZES), target_modules=["o_proj"]).case


@cache
def _twins() -> tuple[Any, Any]:
    """A Phi-3 and the Llama of the same numbers."""
    import torch

    phi, llama = (broken.real_base(_case(family), class_name)
                  for family, class_name in (("phi3", "Phi3ForCausalLM"), ("llama", "LlamaForCausalLM")))  # fmt: skip
    heads = {"q_proj": 64, "k_proj": 32, "v_proj": 32}
    state = {}
    for name, weight in phi.state_dict().items():
        if "qkv_proj" in name:
            state.update(
                {name.replace("qkv_proj", k): w for k, w in zip(heads, torch.split(weight, list(heads.values())))}
            )
        elif "gate_up_proj" in name:
            state.update(
                {name.replace("gate_up_proj", k): w for k, w in zip(("gate_proj", "up_proj"), weight.chunk(2))}
            )
        else:
            state[name] = weight
    llama.load_state_dict(state)
    return phi, llama


def _between(name: str, root: Path) -> Crossing:
    import copy

    phi, llama = _twins()
    trained, other = (phi, llama) if name in FUSED else (llama, phi)
    options = FUSED[name] if name in FUSED else SEPARATE[name]
    folder = root / "trained"
    breaking.save(copy.deepcopy(trained), {**LORA, **options}, folder)
    logits = breaking.computed(mending.loaded(copy.deepcopy(trained), folder))
    if not breaking.moved(logits, breaking.computed(copy.deepcopy(trained))):
        raise ValueError(f"{name} changes nothing, so nothing could be seen of it")
    base = _case("llama" if name in FUSED else "phi3").base
    return Crossing(folder, base, lambda: copy.deepcopy(other), logits)


def _merged(name: str, root: Path) -> Crossing:
    """What loralib's MergedLinear computes: every enabled part has its own A and B; the others stay as they are."""
    import torch
    from safetensors.torch import save_file

    enabled, rank, alpha = MERGED[name], 4, 6
    case = make.lora("gpt2", target_modules=["c_attn", "c_fc"]).case
    model = broken.real_base(case, "GPT2LMHeadModel")
    random = torch.Generator().manual_seed(1)
    tensors = {}
    for layer, block in enumerate(model.transformer.h):
        a = torch.randn(rank * sum(enabled), 64, generator=random) * 0.3
        b = torch.randn(64 * sum(enabled), rank, 1, generator=random) * 0.3
        path = f"base_model.model.transformer.h.{layer}.attn.c_attn"
        tensors[f"{path}.lora_A.weight"], tensors[f"{path}.lora_B.weight"] = a, b
        parts = iter(zip(a.split(rank), b[..., 0].split(64)))
        for at, on in enumerate(enabled):
            if on:
                part_a, part_b = next(parts)
                block.attn.c_attn.weight.data[:, at * 64 : (at + 1) * 64] += (alpha / rank * part_b @ part_a).T
    folder = root / "trained"
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": alpha, "lora_dropout": 0.0,
              "target_modules": ["c_attn"], "fan_in_fan_out": True, "bias": "none", "modules_to_save": None,
              "inference_mode": True, "base_model_name_or_path": "gpt2", "enable_lora": enabled, "merge_weights": False}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logits = breaking.computed(model)
    return Crossing(folder, case.base, lambda: broken.real_base(case, "GPT2LMHeadModel"), logits)


def of_experts(name: str, root: Path) -> Crossing:
    """Transformers 4 had a Linear for every expert: what a LoRA on each adds to the one parameter of transformers 5."""
    import math

    import torch
    from safetensors.torch import save_file

    over, parent, leaves, others, options = EXPERTS[name]
    case = make.lora("mixtral", base=make.base("mixtral", **SIZES, **over), target_modules=["o_proj"]).case
    model = broken.real_base(case, case.base.architecture)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 6, "lora_dropout": 0.0, "bias": "none",
              "target_modules": sorted({*leaves, *(other.rpartition(".")[2] for other in others)}), "rank_pattern": {},
              "alpha_pattern": {}, "inference_mode": True, "base_model_name_or_path": "x", **options}  # fmt: skip
    random, tensors = torch.Generator().manual_seed(1), {}

    def delta(path: str, out: int, width: int) -> torch.Tensor:
        leaf = path.rpartition(".")[2]
        rank = config["rank_pattern"].get(leaf, config["r"])
        alpha = config["alpha_pattern"].get(leaf, config["lora_alpha"])
        a, b = torch.randn(rank, width, generator=random) * 0.3, torch.randn(out, rank, generator=random) * 0.3
        tensors[f"base_model.model.{path}.lora_A.weight"], tensors[f"base_model.model.{path}.lora_B.weight"] = a, b
        return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank) * b @ a

    for at, layer in enumerate(model.model.layers):
        held = getattr(layer.mlp, "experts", None)
        for leaf in leaves if held is not None else ():
            whole = held.down_proj if leaf in ("w2", "down_proj") else held.gate_up_proj
            for expert, weight in enumerate(whole.data):
                half = weight.shape[0] // 2
                part = (
                    weight
                    if whole is held.down_proj
                    else weight[:half]
                    if leaf in ("w1", "gate_proj")
                    else weight[half:]
                )
                part += delta(f"model.layers.{at}.{parent}.experts.{expert}.{leaf}", *part.shape)
        for other in others:
            where, _, path = other.partition(".") if other[0].isdigit() else (str(at), "", other)
            if where == str(at):
                weight = layer.get_submodule(path).weight.data
                weight += delta(f"model.layers.{at}.{path}", *weight.shape)
    folder = root / "trained"
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return Crossing(folder, case.base, lambda: broken.real_base(case, case.base.architecture), breaking.computed(model))
