"""Lists in a config: parameters that a field counts, entries that are not there, sums, kinds of layers by a word."""

from __future__ import annotations

import pytest

from adapterfit.errors import BadInput
from adapterfit.expect import modules
from adapterfit.expect.formulas import FormulaError, UnknownFieldError, compile_formula
from adapterfit.expect.growth import copies
from adapterfit.records import Base


def tree(model_type, class_name, **config):
    return modules.tree(Base("x", config={"model_type": model_type, **config}), class_name)


def shapes(found, name):
    return dict(next(m.params for m in found.modules if m.name == name))


@pytest.mark.parametrize("count", [0, 3])
def test_that_a_list_of_parameters_is_as_long_as_its_field_says(count):
    found = tree("git", "GitModel", num_image_with_embedding=count)
    assert shapes(found, "img_temporal_embedding") == {str(at): (1, 1, 768) for at in range(count)}


def test_that_a_list_of_parameters_is_not_there_where_its_field_is_null():
    names = [m.name for m in tree("git", "GitModel").modules]
    assert "img_temporal_embedding" not in names
    assert list(copies(("null", (("*", ("1",)),)), None)) == []


def test_that_a_hostile_count_of_parameters_is_refused():
    with pytest.raises(ValueError, match="plausible"):
        copies(("many", (("*", ("1",)),)), 10**12)


@pytest.mark.parametrize("count", [1, 3])
def test_that_parameters_are_numbered_together_layer_by_layer(count):
    found = tree("encodec", "EncodecModel", num_lstm_layers=count, num_filters=4)
    rows = [("weight_ih", (256, 64)), ("weight_hh", (256, 64)), ("bias_ih", (256,)), ("bias_hh", (256,))]
    wanted = [(f"{name}_l{at}", shape) for at in range(count) for name, shape in rows]
    assert list(shapes(found, "decoder.layers.1.lstm").items()) == wanted


@pytest.mark.parametrize(
    ("model_type", "word", "kind"),
    [
        ("resnet", "basic", "ResNetBasicLayer"),
        ("resnet", "bottleneck", "ResNetBottleNeckLayer"),
        ("regnet", "x", "RegNetXLayer"),
    ],
)
def test_that_the_word_for_a_kind_of_layer_decides(model_type, word, kind):
    name = "ResNetModel" if model_type == "resnet" else "RegNetModel"
    found = tree(model_type, name, layer_type=word)
    assert {m.class_name for m in found.modules if m.class_name.endswith("Layer")} >= {kind}
    assert found.doubts == ()


def test_that_an_entry_that_is_not_there_is_not_the_files_fault():
    with pytest.raises(UnknownFieldError, match="entry 3 of a list of 2"):
        compile_formula("many[3]")({"many": [1, 2]})


def test_that_a_sum_is_of_whole_numbers():
    assert compile_formula("2*sum(many)")({"many": [3, 4]}) == 14
    assert compile_formula("isqrt(many)")({"many": 24}) == 4
    assert compile_formula("spread(many, 3)")({"many": 5}) == (5, 5, 5)
    assert compile_formula("spread(many, 3)")({"many": [1, 2]}) == (1, 2)
    with pytest.raises(ValueError, match="whole number"):
        compile_formula("sum(many)")({"many": [True]})


def test_that_an_item_of_a_list_in_groups_knows_its_group():
    sizes = {"sizes": [2, 0, 3]}
    assert [compile_formula(f"group(sizes, {at})")(sizes) for at in range(5)] == [0, 0, 2, 2, 2]
    with pytest.raises(FormulaError, match="groups that have fewer"):
        compile_formula("group(sizes, 5)")(sizes)


def test_that_a_model_may_leave_a_part_of_its_part_out():
    found = tree("sam3_video", "Sam3VideoModel", tracker_config={"model_type": "sam3_tracker_video", "num_maskmem": 9})
    names = {m.name for m in found.modules}
    assert {"tracker_model.memory_attention", "detector_model.vision_encoder.backbone"} <= names
    assert not any(name.startswith("tracker_model.vision_encoder") for name in names)
    assert shapes(found, "tracker_model")["memory_temporal_positional_encoding"] == (9, 1, 1, 64)
    assert found.doubts == ()


def test_that_a_text_with_commas_is_a_list_of_whole_numbers():
    assert compile_formula("numbers(many)")({"many": "3, 4,15,"}) == (3, 4, 15)
    assert compile_formula("4 in numbers(many)")({"many": [4]}) is True
    with pytest.raises(ValueError, match="between commas"):
        compile_formula("numbers(many)")({"many": "3,-4"})


def test_that_primes_are_the_first_ones_above_a_number():
    assert compile_formula("primes(0-5, 5)")({}) == (2, 3, 5, 7, 11)
    assert compile_formula("primes(13, 3)")({}) == (17, 19, 23)
    plain = [n for n in range(19_999_999, 20_000_200) if all(n % d for d in range(2, 4500))]
    assert compile_formula("primes(19999998, 8)")({}) == tuple(plain[:8])
    assert compile_formula("primes(25326000, 3)")({})[0] == 25326023  # 25326001 deceives the bases 2, 3 and 5
    with pytest.raises(ValueError, match="primes above"):
        compile_formula("primes(0, 10**9)")({})


def test_that_a_part_is_of_its_one_type_whatever_the_file_calls_it():
    found = tree("qwen4_exp", "Qwen4ExpModel", vision_config={"model_type": "qwen4_exp", "depth": 1},
                 text_config={"model_type": "llama", "num_hidden_layers": 1})  # fmt: skip
    assert found.doubts == ()
    assert {m.class_name for m in found.modules} >= {"Qwen4ExpTextModel", "Qwen4ExpVisionModel"}
    assert found.config["text_config"]["num_hidden_layers"] == 1


def test_that_a_formula_reads_a_table_of_a_list():
    assert compile_formula("bins[0]['n']")({"bins": [{"n": 7}]}) == 7
    with pytest.raises(FormulaError, match="in a table"):
        compile_formula("bins[0]['n']")({"bins": [{}]})


def test_that_a_part_has_what_the_model_around_it_gives_it():
    """Depth Pro's encoders see patches of its own size, whatever their part of the file says."""
    dinov2 = {"model_type": "dinov2", "num_hidden_layers": 1, "image_size": 112}
    parts = {f"{name}_model_config": dinov2 for name in ("image", "patch", "fov")}
    found = tree("depth_pro", "DepthProModel", patch_size=56, **parts)
    embeddings = shapes(found, "encoder.image_encoder.model.embeddings")
    assert embeddings["position_embeddings"] == (1, 17, 768)
    assert found.doubts == ()


def test_that_norms_of_a_backbone_are_frozen_where_the_model_says_so():
    for frozen, cls in ((True, "RTDetrFrozenBatchNorm2d"), (False, "BatchNorm2d")):
        found = tree("rt_detr", "RTDetrModel", freeze_backbone_batch_norms=frozen)
        norm = next(m for m in found.modules if m.name == "backbone.model.embedder.embedder.0.normalization")
        assert (norm.kind, norm.class_name, bool(norm.params)) == ("norm", cls, not frozen)


@pytest.mark.parametrize("window", [(7, 7), (5, 6, 7)], ids=str)
def test_that_a_size_may_be_a_list_of_as_many_dimensions(window):
    found = tree("sam2_hiera_det_model", "Sam2HieraDetModel", window_positional_embedding_background_size=list(window))
    assert shapes(found, "")["pos_embed"] == (1, 96, *window)


def test_that_a_model_may_take_a_part_for_one_of_another_type():
    """MaskFormer makes its own Swin of any, and takes all its stages."""
    swin = {"model_type": "swin", "embed_dim": 48, "out_features": ["stage4"]}
    found = tree("maskformer", "MaskFormerModel", backbone_config=swin)
    encoder = next(m for m in found.modules if m.name == "pixel_level_module.encoder")
    assert encoder.class_name == "MaskFormerSwinBackbone"
    assert [shapes(found, f"pixel_level_module.decoder.fpn.layers.{at}.proj.0")["weight"][1] for at in range(3)] == [
        192,
        96,
        48,
    ]


@pytest.mark.parametrize(("tied", "asked"), [(None, "RTDetrV2Model"), (True, "RTDetrV2Model"), (False, "")], ids=str)
def test_that_a_model_with_ties_is_asked_for_embeddings_that_it_does_not_have(tied, asked):
    given = {} if tied is None else {"tie_word_embeddings": tied}
    assert tree("rt_detr_v2", "RTDetrV2ForObjectDetection", **given).unembedded == asked
    assert tree("rt_detr_v2", "RTDetrV2Model", **given).unembedded == ""


def test_that_a_flat_file_of_a_part_of_any_type_is_of_the_usual_type():
    found = tree("fuyu", "FuyuModel", hidden_size=128, num_hidden_layers=2, num_attention_heads=4, vocab_size=1000)
    assert shapes(found, "language_model.embed_tokens") == {"weight": (1000, 128)}
    assert found.doubts == ()
    assert "hidden_size" not in found.config


def test_that_blocks_that_come_again_share_what_is_in_them():
    kinds = ["linear_attention", "hybrid", "hybrid", "hybrid"]
    config = {"layers_block_type": kinds, "num_hidden_layers": 4, "num_mem_blocks": 2}
    found = tree("zamba2", "Zamba2Model", **config)
    down = "shared_transformer.feed_forward.down_proj.weight"
    assert (f"layers.1.{down}", f"layers.3.{down}") in found.tied
    assert not any(name.startswith("layers.2") for group in found.tied for name in group)
    assert tree("zamba2", "Zamba2Model", **config, tie_word_embeddings=False).tied == ()


def test_that_a_table_that_the_config_class_makes_is_the_files_own_where_it_has_one():
    made = {"vision": 5, "cross_encoder": 5, "language": 2}
    assert tree("lxmert", "LxmertModel", l_layers=2).config["num_hidden_layers"] == made
    assert tree("lxmert", "LxmertModel", num_hidden_layers=12).config["num_hidden_layers"] == 12


def test_that_a_decoder_of_any_type_is_known_by_its_own_facts():
    parts = {"encoder": {"model_type": "vit", "num_hidden_layers": 1},
             "decoder": {"model_type": "trocr", "decoder_layers": 1, "is_decoder": True}}  # fmt: skip
    found = tree("vision-encoder-decoder", "VisionEncoderDecoderModel", **parts)
    assert found.doubts == ()
    assert "decoder.model.decoder.layers.0.self_attn.q_proj" in {m.name for m in found.modules}
    assert found.input_embeddings == "decoder.model.decoder.embed_tokens"
    assert found.output_embeddings == "decoder.output_projection"
    assert ("decoder.model.decoder.embed_tokens.weight", "decoder.output_projection.weight") in found.tied


def test_that_a_part_of_a_part_is_read_where_it_stands():
    inner = {
        "encoder": {"text_config": {"hidden_size": 64, "vocab_size": 300}},
        "decoder": {"hidden_size": 64, "vocab_size": 300},
    }
    found = tree("t5gemma2", "T5Gemma2Model", **inner)
    assert shapes(found, "encoder.text_model.embed_tokens")["weight"] == (300, 64)


def test_that_a_part_is_found_under_the_name_of_older_files():
    config = {"llm_config": {"model_type": "nemotron_h", "hybrid_override_pattern": "M*-", "num_hidden_layers": 3}}
    found = tree("nemotron_h_omni", "NemotronH_Omni_Reasoning_V3", **config)
    names = {m.name for m in found.modules}
    assert found.doubts == ()
    assert {"language_model.model.layers.0.mixer.conv1d", "language_model.model.layers.1.mixer.q_proj"} <= names
    assert "num_hidden_layers" not in found.config["text_config"]  # the config class does not hear it


@pytest.mark.parametrize(
    ("model_type", "class_name", "kinds", "other"),
    [
        ("granitemoehybrid", "GraniteMoeHybridModel", ["mamba", "attention", "mamba"], "mamba"),
        ("lfm2_moe", "Lfm2MoeModel", ["conv", "full_attention", "conv"], "conv"),
        (
            "deepseek_v4",
            "DeepseekV4Model",
            ["sliding_attention", "compressed_sparse_attention"],
            "self_attn.compressor",
        ),
        ("minimax_m3_vl_text", "MiniMaxM3VLTextModel", ["full_attention", "minimax_m3_sparse"], "self_attn.indexer"),
    ],
)
def test_that_layers_of_several_kinds_are_each_of_its_own(model_type, class_name, kinds, other):
    found = tree(model_type, class_name, num_hidden_layers=len(kinds), layer_types=kinds)
    names = {m.name for m in found.modules}
    special = {"mamba", "conv", "compressed_sparse_attention", "minimax_m3_sparse"}
    assert [f"layers.{at}.{other}" in names for at in range(len(kinds))] == [kind in special for kind in kinds]
    assert found.doubts == ()


@pytest.mark.parametrize(
    ("given", "depths"),
    [
        ({"num_hidden_layers": 3}, (3, 6)),
        ({"num_hidden_layers": 3, "num_layers": 2}, (3, 2)),
        ({"num_layers": 2}, (2, 2)),
    ],
    ids=str,
)
def test_that_a_depth_may_be_worked_out_before_another_name_is_heard(given, depths):
    """T5's decoder is as deep as `num_layers` says, its encoder as `num_hidden_layers` says, which is heard later."""
    names = {m.name for m in tree("t5", "T5Model", **given).modules}
    found = (
        max(int(n.split(".")[2]) for n in names if n.startswith(f"{side}.block.")) for side in ("encoder", "decoder")
    )
    assert tuple(depth + 1 for depth in found) == depths


def test_that_a_list_names_the_modules_of_a_table():
    names = {m.name for m in tree("xmod", "XmodModel", languages=["en_XX", "de_DE", "en_XX"]).modules}
    table = "encoder.layer.3.output.adapter_modules"
    assert {
        n[len(table) + 1 :] for n in names if n.startswith(f"{table}.") and n.count(".") == table.count(".") + 1
    } == {
        "en_XX",
        "de_DE",
    }
    with pytest.raises(BadInput, match="names of modules"):
        tree("xmod", "XmodModel", languages=["a.b"])


def test_that_layers_that_no_feature_is_taken_from_are_not_there_in_older_files():
    vit = {"num_hidden_layers": 27, "image_default_input_size": [224, 140]}
    found = tree("molmo2", "Molmo2Model", vit_config=vit, adapter_config={"vit_layers": [-3, -9]})
    assert {m.name for m in found.modules if m.name.startswith("vision_tower.layers.2") and m.name.count(".") == 2} == {
        f"vision_tower.layers.{at}" for at in (2, 20, 21, 22, 23, 24)
    }
    assert shapes(found, "vision_tower")["positional_embedding"] == (160, 1152)
    assert found.doubts == ()


def test_that_a_list_of_sizes_where_one_was_proven_is_left_open():
    """ViT takes an image of two sides; that its facts know one is not the file's fault."""
    assert "facts know one number" in " ".join(tree("vit", "ViTModel", image_size=[224, 140]).doubts)
