"""PEFT to kohya's format and back: equal tensors, equal scales, and a refusal with names for what it cannot express."""

import json
import math

import numpy as np
import pytest

import adapterfit
from adapterfit.conversion.flat_names import flat, from_sgm, unflattened
from adapterfit.errors import CannotConvert, CannotWrite
from adapterfit.testing.disk import lay
from convert_samples import CLIP, LLAMA, UNET, config, metadata, numbers, peft_folder, read, scales, weights_bytes

MID, TIME = "mid_block.attentions.0.proj_out", "up_blocks.1.resnets.0.time_emb_proj"
VARIANTS = {
    "plain": {},
    "rsLoRA": {"use_rslora": True},
    "alpha per module": {"alpha_pattern": {"to_q": 32, "proj_in": 3}},
    "rank per module": {"rank_pattern": {MID: 2, TIME: 6}},
    "all of them": {"use_rslora": True, "alpha_pattern": {TIME: 5}, "rank_pattern": {MID: 2, TIME: 6}},
}


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_a_unet_comes_back_bit_for_bit(fields, dtype, tmp_path):
    source = peft_folder(tmp_path / "a", UNET, fields.get("rank_pattern"), dtype, **fields)
    adapterfit.convert(source, "kohya", tmp_path / "k")
    adapterfit.convert(tmp_path / "k", "peft", tmp_path / "back")
    assert read(tmp_path / "back/adapter_model.safetensors") == read(source / "adapter_model.safetensors")


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_every_module_keeps_its_scale(fields, tmp_path):
    source = peft_folder(tmp_path / "a", UNET, fields.get("rank_pattern"), **fields)
    adapterfit.convert(source, "kohya", tmp_path / "k")
    adapterfit.convert(tmp_path / "k", "peft", tmp_path / "back")
    ranks, alphas = fields.get("rank_pattern", {}), fields.get("alpha_pattern", {})
    for module, scale in scales(tmp_path / "back").items():
        rank = ranks.get(module, 4)
        alpha = next((value for key, value in alphas.items() if module == key or module.endswith("." + key)), 8)
        wanted = alpha / (math.sqrt(rank) if fields.get("use_rslora") else rank)
        assert scale == pytest.approx(wanted, rel=6e-8), module


def test_alpha_is_the_scale_times_the_rank_also_under_rslora(tmp_path):
    source = peft_folder(tmp_path / "a", UNET, use_rslora=True, r=4, lora_alpha=6)
    adapterfit.convert(source, "kohya", tmp_path / "k")
    file = read(tmp_path / "k/pytorch_lora_weights.safetensors")
    alphas = {name: np.frombuffer(data, "<f4") for name, (_, _, data) in file.items() if name.endswith(".alpha")}
    assert len(alphas) == len(UNET)
    assert {float(value[0]) for value in alphas.values()} == {6 * math.sqrt(4)}


def test_names_are_kohyas(tmp_path):
    adapterfit.convert(peft_folder(tmp_path / "a", UNET), "kohya", tmp_path / "k")
    adapterfit.convert(peft_folder(tmp_path / "c", CLIP), "kohya", tmp_path / "t")
    unet, clip = (set(read(tmp_path / each / "pytorch_lora_weights.safetensors")) for each in "kt")
    assert "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_down.weight" in unet
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight" in clip


def without_record(path):
    """The file as other programs write it: the header holds no module paths."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    assert metadata(path) == {}


@pytest.mark.parametrize("modules", [UNET, CLIP, LLAMA], ids=["unet", "clip", "a decoder"])
def test_a_file_of_another_program_gets_its_dots_back(modules, tmp_path):
    source = peft_folder(tmp_path / "a", modules)
    adapterfit.convert(source, "kohya", tmp_path / "k")
    without_record(tmp_path / "k/pytorch_lora_weights.safetensors")
    adapterfit.convert(tmp_path / "k", "peft", tmp_path / "back")
    assert read(tmp_path / "back/adapter_model.safetensors") == read(source / "adapter_model.safetensors")


def test_two_components_become_one_file_and_two_folders_again(tmp_path):
    peft_folder(tmp_path / "a/unet", UNET)
    peft_folder(tmp_path / "a/text_encoder", CLIP, lora_alpha=2)
    adapterfit.convert(tmp_path / "a", "kohya", tmp_path / "k")
    adapterfit.convert(tmp_path / "k", "peft", tmp_path / "back")
    for part in ("unet", "text_encoder"):
        file = f"{part}/adapter_model.safetensors"
        assert read(tmp_path / "back" / file) == read(tmp_path / "a" / file)
    assert config(tmp_path / "back/text_encoder")["lora_alpha"] == 2


def kohya_file(path, **more):
    tensors = {
        "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": numbers((4, 8)),
        "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": numbers((8, 4)),
        **more,
    }
    return lay(path, {"style.safetensors": weights_bytes(tensors)})


def test_a_module_without_alpha_has_scale_1_and_it_is_said(tmp_path):
    done = adapterfit.convert(kohya_file(tmp_path / "k"), "peft", tmp_path / "p")
    assert config(tmp_path / "p")["lora_alpha"] == config(tmp_path / "p")["r"] == 4
    assert "scale is 1" in " ".join(done.notes)


def test_a_name_that_nothing_explains_is_refused_and_base_helps(tmp_path):
    stem = "lora_unet_odd_place_proj"
    tensors = {f"{stem}.lora_down.weight": numbers((4, 8)), f"{stem}.lora_up.weight": numbers((8, 4))}
    lay(tmp_path / "k", {"odd.safetensors": weights_bytes(tensors)})
    lay(tmp_path / "base", {"model.safetensors": weights_bytes({"odd_place.proj.weight": numbers((8, 8))})})
    with pytest.raises(CannotConvert, match=r"--base"):
        adapterfit.convert(tmp_path / "k", "peft", tmp_path / "p")
    adapterfit.convert(tmp_path / "k", "peft", tmp_path / "p", base=tmp_path / "base")
    assert config(tmp_path / "p")["target_modules"] == ["odd_place.proj"]


@pytest.mark.parametrize(
    ("flat_name", "path"),
    [
        (
            "input_blocks_4_1_transformer_blocks_0_attn1_to_q",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
        ),
        ("input_blocks_3_0_op", "down_blocks.0.downsamplers.0.conv"),
        ("input_blocks_7_0_in_layers_2", "down_blocks.2.resnets.0.conv1"),
        (
            "middle_block_1_transformer_blocks_9_ff_net_0_proj",
            "mid_block.attentions.0.transformer_blocks.9.ff.net.0.proj",
        ),
        ("middle_block_2_out_layers_3", "mid_block.resnets.1.conv2"),
        ("output_blocks_2_2_conv", "up_blocks.0.upsamplers.0.conv"),
        ("output_blocks_5_1_proj_in", "up_blocks.1.attentions.2.proj_in"),
        ("label_emb_0_2", "add_embedding.linear_2"),
    ],
)
def test_sdxls_own_numbering_becomes_diffusers(flat_name, path):
    assert unflattened([from_sgm(flat_name)], ()) == {flat(path): path}


def test_a_name_with_two_readings_is_refused():
    with pytest.raises(CannotConvert, match=r'"a\.b_c" or "a_b\.c"'):
        unflattened(["a_b_c"], ["a.b_c", "a_b.c"])


REFUSED = {
    "DoRA": ({"use_dora": True}, {f"{MID}.lora_magnitude_vector": numbers((8,))}, "DoRA"),
    "lora_bias": ({"lora_bias": True}, {f"{MID}.lora_B.bias": numbers((8,))}, "lora_bias"),
    "a module saved whole": (
        {"modules_to_save": ["conv_out"]},
        {"conv_out.weight": numbers((4, 8, 3, 3))},
        "modules_to_save",
    ),
    "biases": ({"bias": "all"}, {f"{MID}.base_layer.bias": numbers((8,))}, "biases"),
    "KaSA": ({"kasa_config": {"beta": 0.1}}, {}, "kasa_config"),
    "PiSSA": ({"init_lora_weights": "pissa"}, {}, "init_lora_weights"),
    "IA3": ({"peft_type": "IA3"}, {}, "IA3"),
    "prompt tuning": ({"peft_type": "PROMPT_TUNING"}, {}, "PROMPT_TUNING"),
    "modules its config leaves out": ({"target_modules": ["to_q"]}, {}, "does not target"),
    "another rank than its config says": ({"r": 8, "rank_pattern": {"conv1": 2}}, {}, "rank"),
}


@pytest.mark.parametrize(("fields", "more", "named"), REFUSED.values(), ids=REFUSED)
def test_what_kohya_cannot_express_is_named_and_nothing_is_written(fields, more, named, tmp_path):
    more = {f"base_model.model.{name}": array for name, array in more.items()}
    source = peft_folder(tmp_path / "a", UNET, more=more, **fields)
    with pytest.raises(CannotConvert, match=named):
        adapterfit.convert(source, "kohya", tmp_path / "k")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def test_a_folder_that_is_there_is_never_written_over(tmp_path):
    source = peft_folder(tmp_path / "a", UNET)
    (tmp_path / "k").mkdir()
    with pytest.raises(CannotWrite, match="there already"):
        adapterfit.convert(source, "kohya", tmp_path / "k")


def test_the_command_says_what_it_wrote_and_exits_with_2_where_it_cannot(tmp_path):
    from click.testing import CliRunner

    from adapterfit.cli.convert import command

    source = peft_folder(tmp_path / "a", UNET)
    done = CliRunner().invoke(command, [str(source), "--to", "kohya", "--out", str(tmp_path / "k")])
    assert done.exit_code == 0
    assert "peft to kohya, 7 modules" in done.output


def test_the_command_exits_with_2_where_it_cannot(adapterfit, tmp_path):
    source = peft_folder(tmp_path / "a", UNET, peft_type="IA3")
    result = adapterfit("convert", source, "--to", "kohya", "--out", tmp_path / "k")
    assert result.returncode == 2
    assert "IA3" in result.stderr


def test_lycoris_dora_is_read_one_number_per_output(tmp_path):
    stem = "lora_unet_mid_block_attentions_0_proj_in"
    adapterfit.convert(kohya_file(tmp_path / "k", **{f"{stem}.dora_scale": numbers((8, 1))}), "peft", tmp_path / "p")
    assert config(tmp_path / "p")["use_dora"] is True
    magnitude = read(tmp_path / "p/adapter_model.safetensors")[
        "base_model.model.mid_block.attentions.0.proj_in.lora_magnitude_vector"
    ]
    assert magnitude == ("F32", (8,), numbers((8, 1)).tobytes())
    with pytest.raises(CannotConvert, match="no such DoRA"):
        adapterfit.convert(
            kohya_file(tmp_path / "i", **{f"{stem}.dora_scale": numbers((1, 8))}), "peft", tmp_path / "q"
        )


@pytest.mark.parametrize("alpha", [math.nan, math.inf])
def test_an_alpha_that_is_no_number_is_refused(alpha, tmp_path):
    stem = "lora_unet_mid_block_attentions_0_proj_in"
    source = kohya_file(tmp_path / "k", **{f"{stem}.alpha": np.array(alpha, dtype="<f4")})
    with pytest.raises(CannotConvert, match="alpha"):
        adapterfit.convert(source, "peft", tmp_path / "p")


@pytest.mark.parametrize("form", ["kohya", "diffusers", "mlx"])
def test_a_scale_of_nothing_is_refused(form, tmp_path):
    source = peft_folder(tmp_path / "a", {"text_model.encoder.layers.0.mlp.fc1": (8, 8)}, lora_alpha=0)
    with pytest.raises(CannotConvert, match="alpha 0"):
        adapterfit.convert(source, form, tmp_path / "b")


def test_fluxs_joined_modules_are_taken_apart_and_every_part_changes_its_rows_the_same(tmp_path):
    qkv, one = "lora_unet_double_blocks_3_img_attn_qkv", "lora_unet_single_blocks_0_linear1"
    shapes = {qkv: (24, 8), one: (56, 8), "lora_unet_double_blocks_3_txt_mlp_2": (8, 32)}
    tensors = {}
    for stem, (rows, width) in shapes.items():
        tensors[f"{stem}.lora_down.weight"], tensors[f"{stem}.lora_up.weight"] = numbers((2, width)), numbers((rows, 2))
        tensors[f"{stem}.alpha"] = np.array(3, dtype="<f4")
    done = adapterfit.convert(lay(tmp_path / "k", {"flux.safetensors": weights_bytes(tensors)}), "peft", tmp_path / "p")
    back = {
        name: np.frombuffer(data, "<f4").reshape(shape)
        for name, (_, shape, data) in read(tmp_path / "p/adapter_model.safetensors").items()
    }
    assert config(tmp_path / "p")["lora_alpha"] == 3
    parts = {
        qkv: [f"transformer_blocks.3.attn.to_{x}" for x in "qkv"],
        one: [*(f"single_transformer_blocks.0.attn.to_{x}" for x in "qkv"), "single_transformer_blocks.0.proj_mlp"],
    }
    for stem, names in parts.items():
        whole = tensors[f"{stem}.lora_up.weight"] @ tensors[f"{stem}.lora_down.weight"]
        found = [
            back[f"base_model.model.{n}.lora_B.weight"] @ back[f"base_model.model.{n}.lora_A.weight"] for n in names
        ]
        assert np.array_equal(np.concatenate(found), whole)
    assert "transformer_blocks.3.ff_context.net.2" in config(tmp_path / "p")["target_modules"]
    assert "taken apart" in " ".join(done.notes)


def test_clip_has_the_names_that_trainers_give_it_whatever_transformers_calls_it(tmp_path):
    """ComfyUI looks for `lora_te_text_model_…`; transformers 5 has no `text_model` in CLIP."""
    for name, modules in (
        ("old", CLIP),
        ("new", {module[len("text_model.") :]: shape for module, shape in CLIP.items()}),
    ):
        source = peft_folder(tmp_path / name, modules)
        adapterfit.convert(source, "kohya", tmp_path / f"{name}-k")
        adapterfit.convert(tmp_path / f"{name}-k", "peft", tmp_path / f"{name}-back")
        assert read(tmp_path / f"{name}-back/adapter_model.safetensors") == read(source / "adapter_model.safetensors")
    old, new = (set(read(tmp_path / f"{each}-k/pytorch_lora_weights.safetensors")) for each in ("old", "new"))
    assert old == new


def test_a_trainers_clip_gets_the_names_of_the_base(tmp_path):
    stem = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    tensors = {f"{stem}.lora_down.weight": numbers((4, 8)), f"{stem}.lora_up.weight": numbers((32, 4))}
    lay(tmp_path / "k", {"x.safetensors": weights_bytes(tensors)})
    base = lay(
        tmp_path / "base", {"model.safetensors": weights_bytes({"encoder.layers.0.mlp.fc1.weight": numbers((32, 8))})}
    )
    for name, given, module in (
        ("a", None, "text_model.encoder.layers.0.mlp.fc1"),
        ("b", base, "encoder.layers.0.mlp.fc1"),
    ):
        adapterfit.convert(tmp_path / "k", "peft", tmp_path / name, base=given)
        assert config(tmp_path / name)["target_modules"] == [module]


def test_two_clips_that_transformers_names_otherwise_come_back_each_with_its_names(tmp_path):
    """CLIPTextModelWithProjection has kept `text_model`."""
    new = {module[len("text_model.") :]: shape for module, shape in CLIP.items()}
    for part, modules in (("text_encoder", new), ("text_encoder_2", CLIP)):
        peft_folder(tmp_path / "a" / part, modules)
    adapterfit.convert(tmp_path / "a", "kohya", tmp_path / "k")
    adapterfit.convert(tmp_path / "k", "peft", tmp_path / "back")
    for part in ("text_encoder", "text_encoder_2"):
        names = [set(read(tmp_path / each / part / "adapter_model.safetensors")) for each in ("a", "back")]
        assert names[0] == names[1], part
