"""The plain form: what PEFT computes, in numbers alone; and the filled one, with zeros where readers look for pairs."""

import json

import numpy as np
import pytest

import adapterfit
from adapterfit.errors import CannotConvert
from adapterfit.testing.bases import CONFIGS
from adapterfit.testing.disk import lay
from convert_samples import LLAMA, WIDTHS, config, numbers, peft_folder, read, scales

DOWN, Q = "model.layers.1.mlp.down_proj", "model.layers.0.self_attn.q_proj"
VARIANTS = {
    "plain": {},
    "rsLoRA": {"use_rslora": True},
    "alpha per module": {"alpha_pattern": {Q: 20}},
    "rank per module": {"rank_pattern": {DOWN: 2, Q: 8}},
    "all of them": {"use_rslora": True, "rank_pattern": {DOWN: 2, Q: 8}, "alpha_pattern": {DOWN: 3}},
}


def products(folder):
    """Module → scale · B A in float64."""
    found = {
        name: np.frombuffer(data, WIDTHS[kind]).reshape(shape).astype("f8")
        for name, (kind, shape, data) in read(folder / "adapter_model.safetensors").items()
    }
    return {
        module: scale
        * found[f"base_model.model.{module}.lora_B.weight"]
        @ found[f"base_model.model.{module}.lora_A.weight"]
        for module, scale in scales(folder).items()
    }


def base(tmp_path):
    return lay(tmp_path / "base", {"config.json": json.dumps(CONFIGS["llama"]).encode()})


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_every_scale_is_one_and_the_product_is_what_it_was(fields, tmp_path):
    source = peft_folder(tmp_path / "a", LLAMA, fields.get("rank_pattern"), **fields)
    adapterfit.convert(source, "plain", tmp_path / "p")
    found = config(tmp_path / "p")
    assert (found["lora_alpha"], found["use_rslora"]) == (found["r"], False)
    assert not found.get("rank_pattern")
    assert not found.get("alpha_pattern")
    before, after = products(source), products(tmp_path / "p")
    assert before.keys() == after.keys()
    assert all(np.allclose(after[module], before[module], rtol=1e-6, atol=2e-6) for module in before)


def test_a_scale_that_is_a_power_of_two_leaves_the_type_and_every_bit_of_a(tmp_path):
    source = peft_folder(tmp_path / "a", LLAMA, dtype="BF16")  # 8 / 4
    adapterfit.convert(source, "plain", tmp_path / "p")
    before, after = (read(each / "adapter_model.safetensors") for each in (source, tmp_path / "p"))
    assert {kind for kind, _, _ in after.values()} == {"BF16"}
    assert all(after[name] == before[name] for name in before if "lora_A" in name)


def test_zeros_are_added_in_every_layer_and_beside_what_they_are_stacked_on(tmp_path):
    source = peft_folder(tmp_path / "a", {Q: (64, 64)})
    adapterfit.convert(source, "filled", tmp_path / "f", base=base(tmp_path))
    found = products(tmp_path / "f")
    assert set(found) == {f"model.layers.{n}.self_attn.{p}_proj" for n in (0, 1) for p in "qkv"}
    assert all(found[module].any() == (module == Q) for module in found)
    assert config(tmp_path / "f")["target_modules"] == ["k_proj", "q_proj", "v_proj"]
    report = adapterfit.check(str(tmp_path / "f"), base=str(tmp_path / "base"))
    assert (report.verdict, report.predicted) == ("fits", "loads")


def test_what_has_every_pair_already_gets_none(tmp_path):
    modules = {f"model.layers.{n}.mlp.down_proj": (64, 128) for n in (0, 1)}
    adapterfit.convert(peft_folder(tmp_path / "a", modules), "filled", tmp_path / "f", base=base(tmp_path))
    assert set(products(tmp_path / "f")) == set(modules)


@pytest.mark.parametrize(
    ("form", "more", "fields", "said"),
    [
        ("plain", {"base_model.model.lm_head.weight": numbers((256, 64))}, {"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ("plain", {}, {"init_lora_weights": "pissa"}, "init_lora_weights"),
        ("filled", {}, {}, "give it with --base"),
    ],
    ids=["a whole module", "PiSSA", "no base"],
)  # fmt: skip
def test_what_it_cannot_express_is_refused_by_name(form, more, fields, said, tmp_path):
    source = peft_folder(tmp_path / "a", LLAMA, more=more, **fields)
    with pytest.raises(CannotConvert, match=said):
        adapterfit.convert(source, form, tmp_path / "p")
    assert not (tmp_path / "p").exists()
