"""PEFT to diffusers' format and back: equal tensors and config; older layouts are read; contradictions are refused."""

import json

import pytest

import adapterfit
from adapterfit.errors import CannotConvert
from adapterfit.testing.disk import lay
from convert_samples import CLIP, UNET, config, metadata, numbers, peft_folder, read, scales, weights_bytes

MID, TIME = "mid_block.attentions.0.proj_out", "up_blocks.1.resnets.0.time_emb_proj"
FILE = "pytorch_lora_weights.safetensors"
VARIANTS = {
    "plain": {},
    "rsLoRA": {"use_rslora": True},
    "alpha and rank per module": {"alpha_pattern": {TIME: 5}, "rank_pattern": {MID: 2, TIME: 6}},
    "all of them": {"use_rslora": True, "alpha_pattern": {TIME: 5}, "rank_pattern": {MID: 2}},
}


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_a_unet_comes_back_bit_for_bit_with_its_scales(fields, dtype, tmp_path):
    source = peft_folder(tmp_path / "a", UNET, fields.get("rank_pattern"), dtype, **fields)
    adapterfit.convert(source, "diffusers", tmp_path / "d")
    adapterfit.convert(tmp_path / "d", "peft", tmp_path / "back")
    assert read(tmp_path / "back/adapter_model.safetensors") == read(source / "adapter_model.safetensors")
    assert scales(tmp_path / "back") == scales(source)
    assert config(tmp_path / "back")["use_rslora"] == fields.get("use_rslora", False)


def test_dora_and_lora_bias_come_back(tmp_path):
    more = {f"base_model.model.{name}.lora_magnitude_vector": numbers((shape[0],)) for name, shape in CLIP.items()}
    source = peft_folder(tmp_path / "a", CLIP, more=more, use_dora=True)
    adapterfit.convert(source, "diffusers", tmp_path / "d", part="text_encoder_2")
    assert all(name.startswith("text_encoder_2.text_model.") for name in read(tmp_path / "d" / FILE))
    adapterfit.convert(tmp_path / "d", "peft", tmp_path / "back")
    assert read(tmp_path / "back/adapter_model.safetensors") == read(source / "adapter_model.safetensors")
    assert config(tmp_path / "back")["use_dora"] is True


def test_the_scale_stands_in_the_header_where_diffusers_looks_for_it(tmp_path):
    adapterfit.convert(peft_folder(tmp_path / "a", UNET, lora_alpha=12), "diffusers", tmp_path / "d")
    table = json.loads(metadata(tmp_path / "d" / FILE)["lora_adapter_metadata"])
    assert (table["unet.r"], table["unet.lora_alpha"]) == (4, 12)


def test_one_adapter_that_covers_dora_in_part_is_refused(tmp_path):
    more = {f"base_model.model.{MID}.lora_magnitude_vector": numbers((8,))}
    source = peft_folder(tmp_path / "a", UNET, more=more, use_dora=True)
    with pytest.raises(CannotConvert, match="DoRA holds for some modules only"):
        adapterfit.convert(source, "diffusers", tmp_path / "d")


OLDER = {
    "attention processors": ("unet.mid_block.attn1.processor.to_q_lora.{}.weight", "mid_block.attn1.to_q"),
    "the output of attention": ("unet.mid_block.attn1.processor.to_out_lora.{}.weight", "mid_block.attn1.to_out.0"),
    "any layer": ("unet.mid_block.ff.net.0.proj.lora.{}.weight", "mid_block.ff.net.0.proj"),
    "a text encoder's projection": (
        "text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora.{}.weight",
        "text_model.encoder.layers.0.self_attn.out_proj",
    ),
    "a text encoder's layer": (
        "text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_linear_layer.{}.weight",
        "text_model.encoder.layers.0.mlp.fc1",
    ),
    "kohya's words behind dots": ("diffusion_model.blocks.0.q.lora_{}.weight", "blocks.0.q"),
}


@pytest.mark.parametrize(("pattern", "module"), OLDER.values(), ids=OLDER)
def test_an_older_layout_is_read(pattern, module, tmp_path):
    tensors = {pattern.format("down"): numbers((4, 8)), pattern.format("up"): numbers((8, 4))}
    lay(tmp_path / "d", {FILE: weights_bytes(tensors)})
    done = adapterfit.convert(tmp_path / "d", "peft", tmp_path / "p")
    assert config(tmp_path / "p")["target_modules"] == [module]
    assert config(tmp_path / "p")["lora_alpha"] == 4
    assert "scale is 1" in " ".join(done.notes)


def plain(**more):
    name = "unet.mid_block.attn1.to_q"
    return {f"{name}.lora_A.weight": numbers((4, 8)), f"{name}.lora_B.weight": numbers((8, 4)), **more}


def test_alphas_beside_the_pairs_are_taken(tmp_path):
    lay(tmp_path / "d", {FILE: weights_bytes(plain(**{"unet.mid_block.attn1.to_q.alpha": numbers(()) * 0 + 2}))})
    adapterfit.convert(tmp_path / "d", "peft", tmp_path / "p")
    assert config(tmp_path / "p")["lora_alpha"] == 2


CONTRADICTIONS = {
    "alphas in both places": (plain(**{"unet.mid_block.attn1.to_q.alpha": numbers(())}), {"unet.r": 4}, "refuses both"),
    "another rank in the header": (plain(), {"unet.r": 8}, "rank 4"),
    "a header that is no JSON": (plain(), "{", "lora_adapter_metadata"),
    "a rank that is a word": (plain(), {"unet.r": "four"}, "rank 4"),
    "half a pair": ({"unet.mid_block.attn1.to_q.lora_A.weight": numbers((4, 8))}, {"unet.r": 4}, "no lora_B"),
}


@pytest.mark.parametrize(("tensors", "header", "said"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_contradiction_is_refused(tensors, header, said, tmp_path):
    text = header if isinstance(header, str) else json.dumps(header)
    lay(tmp_path / "d", {FILE: weights_bytes(tensors, metadata={"lora_adapter_metadata": text})})
    with pytest.raises(CannotConvert, match=said):
        adapterfit.convert(tmp_path / "d", "peft", tmp_path / "p")


def test_kohya_becomes_diffusers_without_a_detour(tmp_path):
    source = peft_folder(tmp_path / "a", UNET, use_rslora=True)
    adapterfit.convert(source, "kohya", tmp_path / "k")
    adapterfit.convert(tmp_path / "k", "diffusers", tmp_path / "d")
    adapterfit.convert(tmp_path / "d", "peft", tmp_path / "back")
    assert read(tmp_path / "back/adapter_model.safetensors") == read(source / "adapter_model.safetensors")


def test_modules_of_no_known_component_are_asked_about(tmp_path):
    source = peft_folder(tmp_path / "a", {"blocks.0.q": (8, 8)})
    with pytest.raises(CannotConvert, match="--part"):
        adapterfit.convert(source, "diffusers", tmp_path / "d")
    adapterfit.convert(source, "diffusers", tmp_path / "d", part="transformer")
    assert set(read(tmp_path / "d" / FILE)) == {f"transformer.blocks.0.q.lora_{x}.weight" for x in "AB"}


def test_a_language_models_adapter_without_its_prefix_is_not_taken_for_a_pipelines(tmp_path):
    name = "transformer.h.0.attn.c_attn"
    tensors = {f"{name}.lora_A.weight": numbers((4, 8)), f"{name}.lora_B.weight": numbers((8, 4))}
    lay(tmp_path / "d", {"adapter_model.safetensors": weights_bytes(tensors)})
    with pytest.raises(CannotConvert, match=r"no adapter_config\.json"):
        adapterfit.convert(tmp_path / "d", "peft", tmp_path / "p")
