"""Files that say something odd: refused with a reason where no two programs read them alike, and read where the number is plain."""

import json
import struct

import numpy as np
import pytest

import adapterfit
from adapterfit.errors import CannotConvert
from adapterfit.testing.bases import CONFIGS
from adapterfit.testing.disk import lay
from convert_samples import numbers, peft_folder, scales, weights_bytes

TO_Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
Q = "model.layers.0.self_attn.q_proj"
KOHYA = ("lora_unet_" + TO_Q.replace(".", "_"), "lora_down.weight", "lora_up.weight")
DIFFUSERS = ("unet." + TO_Q, "lora_A.weight", "lora_B.weight")


def image_file(path, names, a=(4, 8), b=(8, 4), **more):
    stem, down, up = names
    tensors = {f"{stem}.{down}": numbers(a), f"{stem}.{up}": numbers(b, seed=1)}
    return lay(
        path, {"x.safetensors": weights_bytes({**tensors, **{f"{stem}.{key}": value for key, value in more.items()}})}
    )


@pytest.mark.parametrize("names", [KOHYA, DIFFUSERS], ids=["kohya", "diffusers"])
@pytest.mark.parametrize(
    "alpha", [np.zeros((0,), "<f4"), np.array([1, 2], "<f4"), np.array(np.nan, "<f4")], ids=["none", "two", "nan"]
)
def test_an_alpha_that_is_no_number_is_refused(alpha, names, tmp_path):
    with pytest.raises(CannotConvert, match=r"one number is needed|the alpha nan"):
        adapterfit.convert(image_file(tmp_path / "a", names, alpha=alpha), "peft", tmp_path / "p")


@pytest.mark.parametrize("names", [KOHYA, DIFFUSERS], ids=["kohya", "diffusers"])
@pytest.mark.parametrize("dtype", ["<i8", "<i4", "<i2", "<u1"])
def test_an_alpha_that_is_a_whole_number_is_read(dtype, names, tmp_path):
    kind = {"i": "I", "u": "U"}[dtype[1]] + str(8 * int(dtype[2]))
    source = image_file(tmp_path / "a", names, alpha=(kind, np.array(2, dtype)))
    adapterfit.convert(source, "peft", tmp_path / "p")
    assert scales(tmp_path / "p") == {TO_Q: 0.5}


SHAPES = {
    "a convolution beside a matrix": ((4, 8, 3, 3), (8, 4)),
    "a matrix beside a convolution": ((4, 8), (8, 4, 1, 1)),
    "a kernel in both": ((4, 8, 3, 3), (8, 4, 3, 3)),
    "other dimensions": ((4, 8, 3), (8, 4)),
    "other ranks": ((4, 8), (8, 5)),
}


@pytest.mark.parametrize("names", [KOHYA, DIFFUSERS], ids=["kohya", "diffusers"])
@pytest.mark.parametrize(("a", "b"), SHAPES.values(), ids=SHAPES)
def test_factors_that_do_not_go_together_are_refused(a, b, names, tmp_path):
    with pytest.raises(CannotConvert, match="do not go together"):
        adapterfit.convert(image_file(tmp_path / "a", names, a, b), "peft", tmp_path / "p")


def test_a_dora_scale_without_dimensions_is_refused(tmp_path):
    with pytest.raises(CannotConvert, match="not one number per output"):
        adapterfit.convert(image_file(tmp_path / "a", KOHYA, dora_scale=np.array(1, "<f4")), "peft", tmp_path / "p")


# --------------------------------------------------------------------------------------------------- PEFT's

VECTORS = {
    "DoRA without its vector": ({"use_dora": True}, {}, "they have no magnitude"),
    "a vector without DoRA": ({}, {"lora_magnitude_vector": numbers((64,))}, "they have a magnitude"),
    "a vector of another size": ({"use_dora": True}, {"lora_magnitude_vector": numbers((3,))}, "a magnitude of shape"),
    "a bias without lora_bias": ({}, {"lora_B.bias": numbers((64,))}, "lora_bias is off"),
    "a bias of another size": ({"lora_bias": True}, {"lora_B.bias": numbers((3,))}, "a bias of shape"),
    "an alpha that is a text": ({"lora_alpha": "8"}, {}, "is no number"),
}


@pytest.mark.parametrize(("fields", "more", "said"), VECTORS.values(), ids=VECTORS)
@pytest.mark.parametrize("to", ["plain", "mlx", "diffusers"])
def test_what_peft_would_not_apply_as_it_stands_is_refused(to, fields, more, said, tmp_path):
    more = {f"base_model.model.{Q}.{key}": value for key, value in more.items()}
    with pytest.raises(CannotConvert, match=said):
        adapterfit.convert(peft_folder(tmp_path / "a", {Q: (64, 64)}, more=more, **fields), to, tmp_path / "p")


def base_on_disk(path, weights, **fields):
    return lay(path, {"config.json": json.dumps(fields).encode(), "model.safetensors": weights_bytes(weights)})


@pytest.mark.parametrize("dtype", ["I16", "I32", "I8"])
def test_whole_numbers_are_not_merged(dtype, tmp_path):
    width = {"I16": "<i2", "I32": "<i4", "I8": "i1"}[dtype]
    more = {f"base_model.model.{Q}.lora_B.weight": (dtype, np.ones((64, 4), width))}
    base = base_on_disk(tmp_path / "base", {f"{Q}.weight": numbers((64, 64))}, model_type="unheard_of")
    with pytest.raises(CannotConvert, match=f"the adapter holds numbers of type {dtype}"):
        adapterfit.convert(peft_folder(tmp_path / "a", {Q: (64, 64)}, more=more), "merged", tmp_path / "m", base=base)


def test_of_an_unknown_model_nothing_is_merged_that_only_its_modules_tell(tmp_path):
    """Square weights that stand turned, and an embedding that may be the output as well."""
    square, embedding = "h.0.attn.c_proj", "model.embed_tokens"
    weights = {f"{square}.weight": numbers((8, 8)), f"{embedding}.weight": numbers((16, 8))}
    base = base_on_disk(tmp_path / "base", weights, model_type="unheard_of")
    turned = peft_folder(tmp_path / "a", {square: (8, 8)}, fan_in_fan_out=True)
    with pytest.raises(CannotConvert, match="fan_in_fan_out of square weights"):
        adapterfit.convert(turned, "merged", tmp_path / "m", base=base)
    straight = peft_folder(tmp_path / "b", {square: (8, 8)})
    assert adapterfit.convert(straight, "merged", tmp_path / "n", base=base).modules == 1
    pair = {f"{embedding}.lora_embedding_A": numbers((4, 16)), f"{embedding}.lora_embedding_B": numbers((8, 4))}
    more = {f"base_model.model.{name}": array for name, array in pair.items()}
    rows = peft_folder(tmp_path / "c", {}, more=more, target_modules=["embed_tokens"])
    with pytest.raises(CannotConvert, match="may be tied"):
        adapterfit.convert(rows, "merged", tmp_path / "o", base=base)
    untied = base_on_disk(tmp_path / "untied", weights, model_type="unheard_of", tie_word_embeddings=False)
    assert adapterfit.convert(rows, "merged", tmp_path / "q", base=untied).modules == 1


def test_a_merged_model_is_a_base_again(tmp_path):
    """Its receipt stands in the way of none."""
    base = base_on_disk(tmp_path / "base", {f"{Q}.weight": numbers((64, 64))}, model_type="unheard_of")
    source = peft_folder(tmp_path / "a", {Q: (64, 64)})
    adapterfit.convert(source, "merged", tmp_path / "once", base=base)
    adapterfit.convert(source, "merged", tmp_path / "twice", base=tmp_path / "once")
    assert json.loads((tmp_path / "twice/receipt.json").read_text())["to"] == "merged"


def test_a_base_without_its_weights_says_why(tmp_path):
    base = lay(
        tmp_path / "base",
        {
            "config.json": b'{"model_type": "unheard_of"}',
            "model.safetensors.index.json": json.dumps({"weight_map": {f"{Q}.weight": "../x.safetensors"}}).encode(),
        },
    )
    with pytest.raises(CannotConvert, match=r"--base: .*x\.safetensors"):
        adapterfit.convert(peft_folder(tmp_path / "a", {Q: (64, 64)}), "merged", tmp_path / "m", base=base)


@pytest.mark.parametrize("to", ["kohya", "diffusers"])
def test_a_folder_that_is_no_component_is_refused(to, tmp_path):
    for part, modules in (
        ("a b", {"down_blocks.0.attentions.0.proj_in": (8, 8)}),
        ("text_encoder", {"text_model.encoder.layers.0.mlp.fc1": (8, 8)}),
    ):
        peft_folder(tmp_path / "a" / part, modules)
    with pytest.raises(CannotConvert, match="no component of a pipeline"):
        adapterfit.convert(tmp_path / "a", to, tmp_path / "b")


def test_the_original_models_names_are_not_written_as_kohyas(tmp_path):
    source = image_file(
        tmp_path / "a", ("diffusion_model.double_blocks.0.img_attn.proj", "lora_A.weight", "lora_B.weight")
    )
    with pytest.raises(CannotConvert, match="no component of a pipeline"):
        adapterfit.convert(source, "kohya", tmp_path / "k")


def test_ia3_factors_of_the_other_side_are_not_merged(tmp_path):
    base = base_on_disk(tmp_path / "base", {f"{Q}.weight": numbers((8, 8))}, model_type="unheard_of")
    fields = {"peft_type": "IA3", "target_modules": ["q_proj"], "feedforward_modules": []}
    source = lay(
        tmp_path / "a",
        {
            "adapter_config.json": json.dumps(fields).encode(),
            "adapter_model.safetensors": weights_bytes({f"base_model.model.{Q}.ia3_l": numbers((1, 8))}),
        },
    )
    with pytest.raises(CannotConvert, match=r"factors of shape \(1, 8\); \(8, 1\) is needed"):
        adapterfit.convert(source, "merged", tmp_path / "m", base=base)


def test_tensors_of_a_training_are_left_out(tmp_path):
    """MonteCLoRA and VeLoRA differ from a LoRA in a training only (measured: tests/differential/test_merging.py)."""
    more = {
        f"base_model.model.{Q}.lora_velora_embed": numbers((8,)),
        f"base_model.model.{Q}.lora_monteclora_sampler.std_prior": numbers((4,)),
    }
    fields = {"velora_config": {"num_groups": 8}, "monteclora_config": {"num_samples": 8}}
    source = peft_folder(tmp_path / "a", {Q: (64, 64)}, more=more, **fields)
    assert adapterfit.convert(source, "plain", tmp_path / "p").modules == 1


# --------------------------------------------------------------------------------------------------- mlx-lm's


def mlx_folder(path, more=None, record=None, kind="lora", scale=2.0):
    tensors = {f"{Q}.lora_a": numbers((8, 4)), f"{Q}.lora_b": numbers((4, 8)), **(more or {})}
    fields = {"fine_tune_type": kind, "num_layers": 1, "lora_parameters": {"rank": 4, "scale": scale, "dropout": 0.0}}
    text = json.dumps({**fields, **({"peft": record} if record else {})})
    return lay(path, {"adapters.safetensors": weights_bytes(tensors), "adapter_config.json": text.encode()})


def test_mlx_dora_and_its_vectors_belong_together(tmp_path):
    with pytest.raises(CannotConvert, match="dora, and they have no m"):
        adapterfit.convert(mlx_folder(tmp_path / "a", kind="dora"), "peft", tmp_path / "p")
    with pytest.raises(CannotConvert, match="no dora, and they have an m"):
        adapterfit.convert(mlx_folder(tmp_path / "b", {f"{Q}.m": numbers((8,))}), "peft", tmp_path / "p")


def test_an_mlx_scale_of_nothing_is_refused_with_and_without_a_record(tmp_path):
    for at, record in enumerate((None, {"rank": 4, "scale": 0, "lora_alpha": 1})):
        with pytest.raises(CannotConvert, match="has the alpha 0"):
            adapterfit.convert(mlx_folder(tmp_path / f"a{at}", record=record, scale=0), "peft", tmp_path / "p")


def test_an_embedding_without_its_base_is_not_said_to_fit_mlx(tmp_path):
    done = adapterfit.convert(peft_folder(tmp_path / "a", {"lm_head": (64, 8)}), "mlx", tmp_path / "m")
    assert any("ties its embedding to its output" in note for note in done.notes)


# --------------------------------------------------------------------------------------------------- llama.cpp's


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


EIGHT = struct.pack("<If", 6, 8.0)


def gguf_file(path, *more, alpha=EIGHT):
    keys = [
        ("general.architecture", struct.pack("<I", 8) + text("qwen2")),
        ("general.type", struct.pack("<I", 8) + text("adapter")),
    ]
    keys += [("adapter.type", struct.pack("<I", 8) + text("lora")), *more]
    keys += [("adapter.lora.alpha", alpha)] if alpha else []
    data = b"GGUF" + struct.pack("<IQQ", 3, 2, len(keys)) + b"".join(text(key) + value for key, value in keys)
    for at, (role, shape) in enumerate((("a", (4, 64)), ("b", (64, 4)))):
        data += text(f"blk.0.attn_q.weight.lora_{role}") + struct.pack("<IQQIQ", 2, *reversed(shape), 0, at * 1024)
    data += bytes(-len(data) % 32) + numbers((4, 64)).tobytes() + numbers((64, 4)).tobytes()
    return lay(path, {"adapter.gguf": data})


ALPHAS = {
    "text": struct.pack("<I", 8) + text("8"),
    "truth": struct.pack("<IB", 7, 1),
    "list": struct.pack("<IIQf", 9, 6, 1, 8.0),
}


@pytest.mark.parametrize("alpha", ALPHAS.values(), ids=ALPHAS)
def test_a_gguf_alpha_that_is_no_number_is_refused(alpha, tmp_path):
    with pytest.raises(CannotConvert, match="is no number"):
        adapterfit.convert(gguf_file(tmp_path / "a", alpha=alpha), "peft", tmp_path / "p")


def test_a_gguf_without_alpha_has_the_scale_1_and_it_is_said(tmp_path):
    done = adapterfit.convert(gguf_file(tmp_path / "a", alpha=b""), "peft", tmp_path / "p")
    assert scales(tmp_path / "p") == {Q: 1.0}
    assert "has no alpha" in done.notes[0]


def test_a_gguf_that_names_a_key_twice_is_refused(tmp_path):
    again = ("adapter.lora.alpha", struct.pack("<If", 6, 16.0))
    with pytest.raises(CannotConvert, match="twice"):
        adapterfit.convert(gguf_file(tmp_path / "a", again), "peft", tmp_path / "p")


def test_a_gguf_that_acts_behind_certain_tokens_is_refused(tmp_path):
    tokens = ("adapter.alora.invocation_tokens", struct.pack("<IIQII", 9, 4, 2, 1, 2))
    with pytest.raises(CannotConvert, match="aLoRA"):
        adapterfit.convert(gguf_file(tmp_path / "a", tokens), "peft", tmp_path / "p")


HEADS = {"null": {"num_key_value_heads": None}, "left out": {}}


@pytest.mark.parametrize("fields", HEADS.values(), ids=HEADS)
def test_heads_of_k_that_the_config_leaves_out_are_those_of_its_class(fields, tmp_path):
    """A Llama has as many as of q then."""
    modules = {Q: (64, 64), Q.replace("q_proj", "k_proj"): (64, 64)}
    source = peft_folder(tmp_path / "a", modules)
    written = []
    for name, more in (("said", {"num_key_value_heads": 4}), ("odd", fields)):
        said = {key: value for key, value in CONFIGS["llama"].items() if key != "num_key_value_heads"}
        base = lay(tmp_path / name, {"config.json": json.dumps({**said, **more}).encode()})
        adapterfit.convert(source, "gguf", tmp_path / f"g-{name}", base=base)
        written.append((tmp_path / f"g-{name}/adapter.gguf").read_bytes())
    assert written[0] == written[1]


def test_a_record_of_heads_that_are_no_numbers_is_not_believed(tmp_path):
    base = lay(tmp_path / "base", {"config.json": json.dumps(CONFIGS["llama"]).encode()})
    adapterfit.convert(peft_folder(tmp_path / "a", {Q: (64, 64)}), "gguf", tmp_path / "g", base=base)
    data = (tmp_path / "g/adapter.gguf").read_bytes()
    heads = f'"num_attention_heads": {CONFIGS["llama"]["num_attention_heads"]}'.encode()
    assert heads in data
    broken = lay(tmp_path / "h", {"adapter.gguf": data.replace(heads + b",", heads[: -len(b": 4")] + b":{},")})
    with pytest.raises(CannotConvert, match="nothing says how many"):
        adapterfit.convert(broken, "peft", tmp_path / "p")
