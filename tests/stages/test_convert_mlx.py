"""PEFT to mlx-lm's format and back: transposed bit for bit, one scale for all, and back what it was."""

import json
import math

import numpy as np
import pytest

import adapterfit
from adapterfit.errors import CannotConvert
from adapterfit.testing.bases import CONFIGS
from adapterfit.testing.disk import lay
from convert_samples import LLAMA, WIDTHS, config, numbers, peft_config, peft_folder, read, scales, weights_bytes

DOWN, Q = "model.layers.1.mlp.down_proj", "model.layers.0.self_attn.q_proj"
VARIANTS = {
    "plain": {},
    "rsLoRA": {"use_rslora": True},
    "alpha per module": {"alpha_pattern": {"q_proj": 32}},
    "rank per module": {"rank_pattern": {DOWN: 2, Q: 8}},
    "alpha and rank per module": {"rank_pattern": {DOWN: 2, Q: 8}, "alpha_pattern": {DOWN: 1}},
    "rsLoRA and rank per module": {"use_rslora": True, "rank_pattern": {DOWN: 2, Q: 16}},
}


def base(tmp_path, family="llama"):
    return lay(tmp_path / f"base-{family}", {"config.json": json.dumps(CONFIGS[family]).encode()})


def arrays(path, dtype):
    return {name: np.frombuffer(data, WIDTHS[kind]).reshape(shape) for name, (kind, shape, data) in read(path).items()}


#: A scale that is no power of two costs float32 up to one unit in the last place: see the next test.
EXACT = [
    (name, dtype)
    for name in VARIANTS
    for dtype in ("F32", "BF16", "F16")
    if (name[:10], dtype) != ("rsLoRA and", "F32")
]


@pytest.mark.parametrize(("name", "dtype"), EXACT)
def test_a_decoder_comes_back_bit_for_bit_with_its_scales(name, dtype, tmp_path):
    fields = VARIANTS[name]
    source = peft_folder(tmp_path / "a", LLAMA, fields.get("rank_pattern"), dtype, **fields)
    adapterfit.convert(source, "mlx", tmp_path / "m")
    adapterfit.convert(tmp_path / "m", "peft", tmp_path / "back")
    assert read(tmp_path / "back/adapter_model.safetensors") == read(source / "adapter_model.safetensors")
    assert config(tmp_path / "back")["use_rslora"] == fields.get("use_rslora", False)
    values = fields.get("alpha_pattern", {})
    for module, scale in scales(tmp_path / "back").items():
        rank = fields.get("rank_pattern", {}).get(module, 4)
        alpha = next((value for key, value in values.items() if module == key or module.endswith("." + key)), 8)
        assert scale == pytest.approx(alpha / (math.sqrt(rank) if fields.get("use_rslora") else rank), rel=1e-12)


def test_a_scale_that_is_no_power_of_two_costs_at_most_one_unit_in_the_last_place(tmp_path):
    source = peft_folder(tmp_path / "a", LLAMA, {DOWN: 2, Q: 16}, use_rslora=True, rank_pattern={DOWN: 2, Q: 16})
    done = adapterfit.convert(source, "mlx", tmp_path / "m")
    adapterfit.convert(tmp_path / "m", "peft", tmp_path / "back")
    before, after = (arrays(path / "adapter_model.safetensors", "F32") for path in (source, tmp_path / "back"))
    assert before.keys() == after.keys()
    assert all((np.abs(before[name] - after[name]) <= np.spacing(np.abs(before[name]))).all() for name in before)
    assert "at most 6e-8" in " ".join(done.notes)


def test_factors_are_transposed(tmp_path):
    source = peft_folder(tmp_path / "a", LLAMA)
    adapterfit.convert(source, "mlx", tmp_path / "m")
    theirs, ours = (
        arrays(tmp_path / "m/adapters.safetensors", "F32"),
        arrays(source / "adapter_model.safetensors", "F32"),
    )
    assert (theirs[f"{Q}.lora_a"] == ours[f"base_model.model.{Q}.lora_A.weight"].T).all()
    assert (theirs[f"{Q}.lora_b"] == ours[f"base_model.model.{Q}.lora_B.weight"].T).all()


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_scale_times_the_product_is_pefts(fields, tmp_path):
    source = peft_folder(tmp_path / "a", LLAMA, fields.get("rank_pattern"), **fields)
    adapterfit.convert(source, "mlx", tmp_path / "m", base=base(tmp_path))
    theirs, ours = (
        arrays(tmp_path / "m/adapters.safetensors", "F32"),
        arrays(source / "adapter_model.safetensors", "F32"),
    )
    scale = config(tmp_path / "m")["lora_parameters"]["scale"]
    for module in LLAMA:
        rank = fields.get("rank_pattern", {}).get(module, 4)
        alpha = next((v for k, v in fields.get("alpha_pattern", {}).items() if module.endswith(k)), 8)
        wanted = alpha / (math.sqrt(rank) if fields.get("use_rslora") else rank)
        a, b = (ours[f"base_model.model.{module}.lora_{x}.weight"].astype(float) for x in "AB")
        found = scale * (theirs[f"{module}.lora_a"].astype(float) @ theirs[f"{module}.lora_b"].astype(float)).T
        assert np.allclose(found, wanted * b @ a, rtol=1e-6, atol=1e-6 * np.abs(b @ a).max())


def test_the_config_says_what_mlx_lm_asks_for(tmp_path):
    done = adapterfit.convert(peft_folder(tmp_path / "a", LLAMA), "mlx", tmp_path / "m", base=base(tmp_path))
    written = config(tmp_path / "m")
    assert (written["fine_tune_type"], written["num_layers"]) == ("lora", 2)
    assert written["lora_parameters"]["keys"] == ["mlp.down_proj", "self_attn.q_proj", "self_attn.v_proj"]
    assert done.notes == ()


def test_names_that_were_not_compared_are_said_to_be_so(tmp_path):
    done = adapterfit.convert(peft_folder(tmp_path / "a", LLAMA), "mlx", tmp_path / "m", base=base(tmp_path, "gpt2"))
    assert "Not checked" in " ".join(done.notes)


def test_a_scale_changed_by_hand_counts(tmp_path):
    source = peft_folder(tmp_path / "a", LLAMA, {DOWN: 2}, rank_pattern={DOWN: 2})
    adapterfit.convert(source, "mlx", tmp_path / "m")
    path = tmp_path / "m/adapter_config.json"
    changed = config(tmp_path / "m")
    changed["lora_parameters"]["scale"] *= 3
    path.write_text(json.dumps(changed))
    adapterfit.convert(tmp_path / "m", "peft", tmp_path / "back")
    back = arrays(tmp_path / "back/adapter_model.safetensors", "F32")
    ours = arrays(source / "adapter_model.safetensors", "F32")
    for module, scale in scales(tmp_path / "back").items():
        name = f"base_model.model.{module}.lora_{{}}.weight"
        found = scale * back[name.format("B")].astype(float) @ back[name.format("A")]
        wanted = 3 * 8 / (2 if module == DOWN else 4) * ours[name.format("B")].astype(float) @ ours[name.format("A")]
        assert np.allclose(found, wanted, rtol=1e-5)


EMBEDDING = {
    "base_model.model.model.embed_tokens.lora_embedding_A": numbers((4, 64)),
    "base_model.model.model.embed_tokens.lora_embedding_B": numbers((64, 4)),
}
OUTPUT = {
    "base_model.model.lm_head.lora_A.weight": numbers((4, 64)),
    "base_model.model.lm_head.lora_B.weight": numbers((256, 4)),
}
VECTORS = {
    "base_model.model.model.embed_tokens.lora_magnitude_vector": numbers((64,)),
    "base_model.model.lm_head.lora_magnitude_vector": numbers((256,)),
}


def ends(path, tensors, **fields):
    modules = {name.split(".lora_")[0][len("base_model.model.") :]: () for name in tensors}
    files = {
        "adapter_config.json": json.dumps(peft_config(modules, **fields)).encode(),
        "adapter_model.safetensors": weights_bytes(tensors),
    }
    return lay(path, files)


def test_dora_on_the_output_and_a_lora_on_the_embedding_come_back(tmp_path):
    of_output = {name: array for name, array in VECTORS.items() if "lm_head" in name}
    for name, tensors, kind in (("d", {**OUTPUT, **of_output}, "dora"), ("l", {**OUTPUT, **EMBEDDING}, "lora")):
        source = ends(tmp_path / name, tensors, use_dora=kind == "dora")
        adapterfit.convert(source, "mlx", tmp_path / f"{name}-m")
        assert config(tmp_path / f"{name}-m")["fine_tune_type"] == kind
        adapterfit.convert(tmp_path / f"{name}-m", "peft", tmp_path / f"{name}-back")
        assert read(tmp_path / f"{name}-back/adapter_model.safetensors") == read(source / "adapter_model.safetensors")


def test_dora_on_an_embedding_is_refused_in_both_directions(tmp_path):
    """mlx-lm has a number for each token, PEFT for each column; in a square embedding the sizes do not show it."""
    with pytest.raises(CannotConvert, match="another one than PEFT's"):
        adapterfit.convert(
            ends(tmp_path / "a", {**EMBEDDING, **OUTPUT, **VECTORS}, use_dora=True), "mlx", tmp_path / "m"
        )
    adapterfit.convert(ends(tmp_path / "b", EMBEDDING), "mlx", tmp_path / "theirs")
    fields = {**config(tmp_path / "theirs"), "fine_tune_type": "dora"}
    tensors = {"model.embed_tokens.lora_a": numbers((64, 4)), "model.embed_tokens.lora_b": numbers((4, 64))}
    vectors = {"model.embed_tokens.m": numbers((64,))}
    files = {
        "adapter_config.json": json.dumps(fields).encode(),
        "adapters.safetensors": weights_bytes({**tensors, **vectors}),
    }
    with pytest.raises(CannotConvert, match="another one than PEFT's"):
        adapterfit.convert(lay(tmp_path / "c", files), "peft", tmp_path / "p")


def test_an_embedding_tied_to_the_output_is_refused(tmp_path):
    tensors = {
        "base_model.model.model.embed_tokens.lora_embedding_A": numbers((4, 256)),
        "base_model.model.model.embed_tokens.lora_embedding_B": numbers((64, 4)),
    }
    files = {
        "adapter_config.json": json.dumps(peft_config({"model.embed_tokens": ()})).encode(),
        "adapter_model.safetensors": weights_bytes(tensors),
    }
    with pytest.raises(CannotConvert, match="tied"):
        adapterfit.convert(lay(tmp_path / "a", files), "mlx", tmp_path / "m", base=base(tmp_path, "llama-tied"))


def mlx_folder(path, tensors, **fields):
    plain = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": {"rank": 4, "scale": 2.5, "dropout": 0.0}}
    files = {
        "adapter_config.json": json.dumps({**plain, **fields}).encode(),
        "adapters.safetensors": weights_bytes(tensors),
    }
    return lay(path, files)


PAIR = {f"{Q}.lora_a": numbers((64, 4)), f"{Q}.lora_b": numbers((4, 64))}


def test_an_adapter_that_mlx_lm_trained_gets_alpha_from_its_scale(tmp_path):
    adapterfit.convert(mlx_folder(tmp_path / "m", PAIR), "peft", tmp_path / "p")
    assert config(tmp_path / "p")["lora_alpha"] == 10
    assert scales(tmp_path / "p") == {Q: 2.5}


REFUSED = {
    "no scale": (PAIR, {"lora_parameters": {"rank": 4, "alpha": 8}}, "no rank and scale"),
    "another rank": (PAIR, {"lora_parameters": {"rank": 8, "scale": 1.0}}, "rank 8"),
    "a full fine-tuning": (PAIR, {"fine_tune_type": "full"}, "full"),
    "half a pair": ({f"{Q}.lora_a": numbers((64, 4))}, {}, "no lora_b"),
    "stacked experts": (
        {**PAIR, "model.layers.0.mlp.switch_mlp.up_proj.lora_a": numbers((2, 4, 8))},
        {},
        "stacked experts",
    ),
}


@pytest.mark.parametrize(("tensors", "fields", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_named(tensors, fields, said, tmp_path):
    with pytest.raises(CannotConvert, match=said):
        adapterfit.convert(mlx_folder(tmp_path / "m", tensors, **fields), "peft", tmp_path / "p")


def test_convolutions_are_refused_by_name(tmp_path):
    source = peft_folder(tmp_path / "a", {"conv": (8, 4, 3, 3)})
    with pytest.raises(CannotConvert, match="convolutions"):
        adapterfit.convert(source, "mlx", tmp_path / "m")
