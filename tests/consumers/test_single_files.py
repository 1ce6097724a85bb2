"""Files of diffusion trainers, which have no adapter_config.json, for the programs that read them."""

import pytest

import adapterfit
from adapterfit.records import Adapter, TensorInfo, Weights

KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_{}_attn1_to_q"
DIFFUSERS = "transformer.transformer_blocks.{}.attn.to_q"
ENDS = {"lora_down.weight": (4, 32), "lora_up.weight": (32, 4), "lora_A.weight": (4, 32), "lora_B.weight": (32, 4)}


def answer(engine, module, *ends, metadata=None):
    names = [f"{module.format(at)}.{end}" for at in range(2) for end in ends]
    tensors = tuple(TensorInfo(n, "F32", next((s for e, s in ENDS.items() if n.endswith(e)), (1,))) for n in names)
    weights = Weights("x.safetensors", "safetensors", 1, tensors, metadata or {})
    (found,) = adapterfit.check(Adapter("x", weights=weights), consumer=engine).consumers
    return found, [effect.message for effect in found.effects]


@pytest.mark.parametrize("engine", ["comfyui", "kohya", "diffusers"])
def test_kohyas_own_file_is_read_with_the_alpha_beside_each_pair(engine):
    found, told = answer(engine, KOHYA, "lora_down.weight", "lora_up.weight", "alpha")
    assert "alpha stands beside each of 2 pairs: scale alpha / r" in told
    assert found.predicted == "cannot-tell"
    assert [gap.why for gap in found.not_checked] == [
        "which of its names fit is a matter of the model that it is put into"
    ]


@pytest.mark.parametrize("engine", ["comfyui", "kohya", "diffusers"])
def test_without_alpha_the_scale_is_one(engine):
    _, told = answer(engine, KOHYA, "lora_down.weight", "lora_up.weight")
    assert any(message.startswith("2 of 2 pairs have no alpha: scale 1") for message in told)


def test_diffusers_drops_the_scales_of_dora_and_comfyui_reads_them():
    ends = ("lora_down.weight", "lora_up.weight", "alpha", "dora_scale")
    dropped, _ = answer("diffusers", KOHYA, *ends)
    assert (dropped.predicted, dropped.applied, dropped.tensors) == ("loads-partly", 6, 8)
    assert answer("comfyui", KOHYA, *ends)[0].predicted == "cannot-tell"


def test_alpha_in_the_header_is_the_scale_for_diffusers_and_unseen_by_comfyui():
    header = {"lora_adapter_metadata": "{}"}
    ends = ("lora_A.weight", "lora_B.weight")
    assert "alpha stands in the file's header" in answer("diffusers", DIFFUSERS, *ends, metadata=header)[1]
    assert any("scale 1" in message for message in answer("comfyui", DIFFUSERS, *ends, metadata=header)[1])


def test_an_end_that_comfyui_does_not_read_falls_away():
    found, _ = answer("comfyui", KOHYA, "lora_down.weight", "lora_up.weight", "strange")
    assert (found.predicted, found.applied) == ("loads-partly", 4)
