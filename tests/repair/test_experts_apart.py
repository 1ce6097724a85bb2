"""Fused experts for a base of transformers 4, which has a Linear for each: what every expert's matrix gets is the same."""

import json

import numpy as np
import pytest

import adapterfit
from adapterfit.testing.bases import CONFIGS
from convert_samples import config, numbers, peft_folder, read

OLD = "peft==0.21.2,transformers==4.57.6"
EXPERTS, RANK, HIDDEN = 4, 4, 64
PREFIX = "base_model.model.model.layers.{}."
BOTH = ("gate_up_proj", "down_proj")


def fused(tmp_path, inner, parameters=BOTH, version="0.21.2", *, older=False, **fields):
    """A LoRA on the experts of both layers and on q_proj, as a PEFT before or since 0.19.1 lays it out; its base beside it."""
    shapes = {"gate_up_proj": (2 * inner, HIDDEN), "down_proj": (HIDDEN, inner)}
    tensors = {}
    for layer in (0, 1):
        for at, name in enumerate(parameters):
            out, width = shapes[name][::-1] if older else shapes[name]
            key = PREFIX.format(layer) + "mlp.experts" + ".base_layer" * (len(parameters) - 1 - at)
            tensors[f"{key}.lora_A.weight"] = numbers((EXPERTS * RANK, width), seed=10 * layer + at)
            tensors[f"{key}.lora_B.weight"] = numbers((out, RANK * EXPERTS), seed=10 * layer + at + 5)
    more = {"target_modules": ["q_proj"], "target_parameters": [f"mlp.experts.{name}" for name in parameters], **fields}
    modules = {f"model.layers.{layer}.self_attn.q_proj": (64, 64) for layer in (0, 1)}
    adapter = peft_folder(tmp_path / "a", modules, more=tensors, peft_version=version, r=RANK, **more)
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({**CONFIGS["mixtral"], "intermediate_size": inner}))
    return adapter, base


def held(folder):
    return {
        n: np.frombuffer(raw, "<f4").reshape(s) for n, (_, s, raw) in read(folder / "adapter_model.safetensors").items()
    }


def wanted(tensors, layer, expert, name, parameters, *, older):
    """ΔW of a parameter's expert by PEFT's formula: (d1, d2)."""
    inner = ".base_layer" if name != parameters[-1] else ""
    key = PREFIX.format(layer) + "mlp.experts" + inner
    a, b = tensors[f"{key}.lora_A.weight"], tensors[f"{key}.lora_B.weight"]
    product = b.reshape(b.shape[0], RANK, EXPERTS)[:, :, expert] @ a.reshape(EXPERTS, RANK, -1)[expert]
    return product.T if older else product


def found(tensors, layer, expert, leaf):
    key = PREFIX.format(layer) + f"block_sparse_moe.experts.{expert}.{leaf}"
    return tensors[f"{key}.lora_B.weight"] @ tensors[f"{key}.lora_A.weight"]


@pytest.mark.parametrize(
    ("inner", "parameters", "older"),
    [(96, BOTH, False), (96, BOTH, True), (32, BOTH, True), (32, BOTH[:1], True), (96, BOTH[1:], False)],
    ids=[
        "both",
        "both, of PEFT 0.18",
        "gate and up square, of PEFT 0.18",
        "square alone, release recorded",
        "down alone",
    ],
)
def test_every_expert_gets_its_own_part_of_the_fused_change(inner, parameters, older, tmp_path):
    adapter, base = fused(tmp_path, inner, parameters, "0.18.1" if older else "0.21.2", older=older)
    receipt = adapterfit.fix(adapter, str(base), tmp_path / "good", consumer=OLD)
    assert {step.safety for step in receipt.plan.steps} == {"safe"}
    old, new = held(adapter), held(tmp_path / "good")
    for layer in (0, 1):
        for expert in range(EXPERTS):
            parts = {"gate_up_proj": ("w1", "w3"), "down_proj": ("w2",)}
            for name in parameters:
                made = np.concatenate([found(new, layer, expert, leaf) for leaf in parts[name]])
                whole = wanted(old, layer, expert, name, parameters, older=older)
                np.testing.assert_allclose(made, whole, rtol=1e-5, atol=1e-6)
    assert not config(tmp_path / "good").get("target_parameters")
    again = adapterfit.fix(tmp_path / "good", str(base), tmp_path / "twice", consumer=OLD)
    assert not again.out


def test_square_matrices_of_an_unknown_release_are_refused_with_both_readings(tmp_path):
    adapter, base = fused(tmp_path, 32, BOTH[:1], None)
    receipt = adapterfit.fix(adapter, str(base), tmp_path / "good", consumer=OLD)
    assert not receipt.out
    assert "0.19.1 or later" in str(receipt.plan.refused)
    assert "0.17 to 0.19.0" in str(receipt.plan.refused)


def test_a_rank_that_the_tensors_do_not_have_is_not_taken_apart(tmp_path):
    adapter, base = fused(tmp_path, 96, rank_pattern={"gate_up_proj": 2})
    assert not adapterfit.fix(adapter, str(base), tmp_path / "good", consumer=OLD).out
