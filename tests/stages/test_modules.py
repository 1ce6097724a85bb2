"""The module tree from a config and from headers, without torch: small cases written out by hand."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import pytest

from adapterfit.errors import BadInput
from adapterfit.expect import modules
from adapterfit.expect.fields import Facts, Fields
from adapterfit.expect.formulas import FormulaError, compile_formula, names_in
from adapterfit.records import Base, TensorInfo

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
}
LAYER = [
    ("", "container", {}),
    (".self_attn", "container", {}),
    (".self_attn.q_proj", "Linear", {"weight": (64, 64)}),
    (".self_attn.k_proj", "Linear", {"weight": (32, 64)}),
    (".self_attn.v_proj", "Linear", {"weight": (32, 64)}),
    (".self_attn.o_proj", "Linear", {"weight": (64, 64)}),
    (".mlp", "container", {}),
    (".mlp.gate_proj", "Linear", {"weight": (128, 64)}),
    (".mlp.up_proj", "Linear", {"weight": (128, 64)}),
    (".mlp.down_proj", "Linear", {"weight": (64, 128)}),
    (".mlp.act_fn", "other", {}),
    (".input_layernorm", "norm", {"weight": (64,)}),
    (".post_attention_layernorm", "norm", {"weight": (64,)}),
]
SHARED_ATTENTION = "layer.0.SelfAttention"


def tree(config, class_name="", **more):
    base = Base("base", config=config, config_file="config.json", **more)
    return modules.tree(base, class_name or base.architecture)


def by_name(found):
    return {module.name: module for module in found.modules}


def tensors(**shapes):
    return {name: TensorInfo(name, "F32", shape) for name, shape in shapes.items()}


# ------------------------------------------------------------------------------------------------ whole trees


def test_that_a_llama_is_written_out_in_the_order_of_named_modules():
    found = tree(LLAMA)
    wanted = [
        ("", "container", {}),
        ("model", "container", {}),
        ("model.embed_tokens", "Embedding", {"weight": (256, 64)}),
        ("model.layers", "container", {}),
        *((f"model.layers.{at}{name}", kind, params) for at in (0, 1) for name, kind, params in LAYER),
        ("model.norm", "norm", {"weight": (64,)}),
        ("model.rotary_emb", "other", {}),
        ("lm_head", "Linear", {"weight": (256, 64)}),
    ]
    assert [(m.name, m.kind, dict(m.params)) for m in found.modules] == wanted
    assert (found.known, found.prefix, found.doubts, found.tied) == ("facts", "model", (), ())
    assert (found.input_embeddings, found.output_embeddings) == ("model.embed_tokens", "lm_head")


def test_that_classes_of_other_tasks_have_their_own_head_and_the_same_trunk():
    causal, classifier = by_name(tree(LLAMA)), by_name(tree(LLAMA, "LlamaForSequenceClassification"))
    assert classifier["score"].params == {"weight": (2, 64)}
    assert {name for name in causal if name.startswith("model")} == {n for n in classifier if n.startswith("model")}
    assert "lm_head" not in classifier


@pytest.mark.parametrize(
    ("labels", "rows"),
    [
        ({}, 2),
        ({"num_labels": 5}, 5),
        ({"id2label": {"0": "no", "1": "yes", "2": "maybe"}}, 3),
        ({"id2label": {"0": "only"}, "num_labels": 9}, 1),
    ],
    ids=["by-default-two", "num_labels", "id2label", "id2label-before-num_labels"],
)
def test_that_the_rows_of_a_classifier_are_the_labels(labels, rows):
    assert by_name(tree({**LLAMA, **labels}, "LlamaForSequenceClassification"))["score"].params["weight"] == (rows, 64)


@pytest.mark.parametrize(
    ("changes", "name", "param", "shape"),
    [
        ({"num_key_value_heads": None}, "model.layers.0.self_attn.k_proj", "weight", (64, 64)),
        ({"head_dim": 10}, "model.layers.1.self_attn.o_proj", "weight", (64, 40)),
        ({"attention_bias": True}, "model.layers.0.self_attn.v_proj", "bias", (32,)),
        ({"mlp_bias": True}, "model.layers.0.mlp.up_proj", "bias", (128,)),
    ],
    ids=["key-value-heads-null", "head-size-given", "attention-bias", "mlp-bias"],
)
def test_that_sizes_and_biases_follow_the_config(changes, name, param, shape):
    assert by_name(tree({**LLAMA, **changes}))[name].params[param] == shape


def test_that_tied_embeddings_are_said():
    assert tree({**LLAMA, "tie_word_embeddings": True}).tied == (("model.embed_tokens.weight", "lm_head.weight"),)


def test_that_gpt2_has_conv1d_and_its_standard_names_are_read_too():
    found = by_name(tree({"model_type": "gpt2", "hidden_size": 32, "n_layer": 1, "n_head": 4}, "GPT2LMHeadModel"))
    assert found["transformer.h.0.attn.c_attn"].kind == "Conv1D"
    assert found["transformer.h.0.attn.c_attn"].params == {"weight": (32, 96), "bias": (96,)}
    assert found["transformer.h.0.mlp.c_fc"].params["weight"] == (32, 128)


@pytest.mark.parametrize("kind", ["swin", "swinv2", "swin2sr", "donut-swin"])
@pytest.mark.parametrize("field", ["num_layers", "num_hidden_layers"])
def test_that_swin_is_as_deep_as_its_list_of_stages_whatever_number_stands_beside_it(kind, field):
    names = {"swin": "SwinModel", "swinv2": "Swinv2Model", "swin2sr": "Swin2SRModel", "donut-swin": "DonutSwinModel"}
    name = names[kind]
    stages = {"model_type": kind, "depths": [1, 1, 2], "num_heads": [3, 6, 12]}
    found = tree({**stages, field: 2}, name)
    assert found.doubts == ()
    assert found.modules == tree(stages, name).modules


def test_that_swins_decoder_of_masked_images_goes_by_the_number_that_the_file_gives():
    found = by_name(tree({"model_type": "swin", "num_layers": 2}, "SwinForMaskedImageModeling"))
    assert found["decoder.0"].params["weight"] == (3072, 192, 1, 1)  # as transformers 5.23 builds it


def test_that_t5_has_its_position_bias_in_the_first_block_only():
    found = by_name(tree({"model_type": "t5", "num_layers": 2, "num_decoder_layers": 3}, "T5ForConditionalGeneration"))
    biased = [name for name in found if name.endswith("relative_attention_bias")]
    assert biased == [f"{side}.block.0.{SHARED_ATTENTION}.relative_attention_bias" for side in ("encoder", "decoder")]
    assert "decoder.block.2.layer.1.EncDecAttention.q" in found
    assert "encoder.block.2" not in found


def test_that_experts_are_one_module_with_three_dimensional_parameters():
    config = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4}
    found = tree(config, "MixtralForCausalLM")
    experts = by_name(found)["model.layers.1.mlp.experts"]
    assert experts.params == {"gate_up_proj": (4, 256, 64), "down_proj": (4, 64, 128)}
    assert (experts.transposed_experts, found.expert_fusion) == (False, "mixtral")
    assert (r".block_sparse_moe.", ".mlp.") in [(r.pattern, r.replacement) for r in found.adapter_renames]


def test_that_experts_of_gpt_oss_are_stored_the_other_way_round():
    found = by_name(tree({"model_type": "gpt_oss", "num_hidden_layers": 1}, "GptOssForCausalLM"))
    experts = found["model.layers.0.mlp.experts"]
    assert experts.transposed_experts
    assert list(experts.params) == ["gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"]
    assert experts.params["gate_up_proj"] == (128, 2880, 5760)


def test_that_dense_and_sparse_layers_are_told_apart():
    config = {"model_type": "qwen3_moe", "num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [3]}
    found = by_name(tree(config, "Qwen3MoeForCausalLM"))
    assert [f"model.layers.{at}.mlp.experts" in found for at in range(4)] == [False, True, False, False]


@pytest.mark.parametrize("sizes", [[], [5], [3, 256, 256, 2]])
def test_that_children_numbered_under_one_word_are_as_many_as_a_list_is_long(sizes):
    tree = modules.tree(Base("x", config={"model_type": "tapas", "type_vocab_sizes": sizes}), "TapasModel")
    found = [m.params["weight"][0] for m in tree.modules if "token_type_embeddings_" in m.name]
    assert found == sizes
    assert not tree.doubts


def test_that_a_million_children_under_one_word_are_refused():
    with pytest.raises(BadInput, match="at most"):
        modules.tree(
            Base("x", config={"model_type": "switch_transformers", "num_experts": 10**6}), "SwitchTransformersModel"
        )


def test_that_what_the_class_gives_a_part_stands_beneath_what_the_file_gives_it():
    def rows(text_config):
        config = {"model_type": "voxtral", "text_config": text_config}
        found = by_name(tree(config, "VoxtralForConditionalGeneration"))
        return found["model.language_model.embed_tokens"].params["weight"]

    assert rows({"hidden_size": 96}) == (131072, 96)
    assert rows({"vocab_size": 500}) == (500, 3072)


def test_that_a_class_that_keeps_one_part_of_the_config_is_asked_for_that_part():
    config = {
        "model_type": "mllama",
        "text_config": {"model_type": "mllama_text_model", "num_hidden_layers": 3, "n_head": 5},
    }
    whole = modules.tree(Base("x", config=config), "MllamaForConditionalGeneration").config
    part = modules.tree(Base("x", config=config), "MllamaForCausalLM").config
    assert whole["text_config"]["num_hidden_layers"] == 3
    assert "num_hidden_layers" not in whole
    assert part == whole["text_config"]
    assert part["n_head"] == 5


def test_that_parts_of_a_vision_language_model_come_from_their_own_types():
    config = {
        "model_type": "llava",
        "text_config": {**LLAMA, "model_type": "mistral"},
        "vision_config": {"model_type": "clip_vision_model", "hidden_size": 32, "num_hidden_layers": 1},
    }
    found = tree(config, "LlavaForConditionalGeneration")
    names = by_name(found)
    assert names["model.language_model.layers.0.self_attn.q_proj"].kind == "Linear"
    assert names["model.vision_tower.encoder.layers.0.self_attn.q_proj"].params["weight"] == (32, 32)
    assert names["model.multi_modal_projector.linear_1"].params["weight"] == (64, 32)
    assert names["lm_head"].params["weight"] == (256, 64)
    assert found.config["text_config"]["hidden_size"] == 64
    assert found.doubts == ()


def rename(found, name):
    for rule in found.adapter_renames:
        name = re.sub(rule.pattern, rule.replacement, name, count=1)
    return name


def test_that_older_names_of_llava_are_renamed_as_peft_renames_them():
    found = tree({"model_type": "llava"}, "LlavaForConditionalGeneration")
    assert rename(found, "language_model.model.layers.0.q") == "model.language_model.layers.0.q"
    assert rename(found, "vision_tower.vision_model.encoder.x") == "model.vision_tower.encoder.x"
    assert rename(found, "model.language_model.layers.0.q") == "model.language_model.layers.0.q"


def test_that_a_flat_config_of_qwen2_vl_is_read():
    flat = {**LLAMA, "model_type": "qwen2_vl", "vision_config": {"depth": 1, "embed_dim": 32, "hidden_size": 64}}
    found = tree(flat, "Qwen2VLForConditionalGeneration")
    assert by_name(found)["model.language_model.layers.1.self_attn.k_proj"].params == {
        "weight": (32, 64),
        "bias": (32,),
    }
    assert found.config == {
        "text_config": {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    }


# ------------------------------------------------------------------------------------------------ doubts


def test_that_a_part_without_facts_is_doubted():
    found = tree({"model_type": "llava", "vision_config": {"model_type": "made_up"}}, "LlavaForConditionalGeneration")
    assert any('"made_up"' in doubt for doubt in found.doubts)


def test_that_an_unknown_activation_is_doubted():
    assert any("hidden_act" in doubt for doubt in tree({**LLAMA, "hidden_act": "made_up"}).doubts)


@pytest.mark.parametrize(("places", "doubted"), [([8, 16, 24], False), ([8, 16], True), ([8, 16, 24, 30], True)])
def test_that_a_list_of_another_length_than_the_facts_were_proven_for_is_doubted(places, doubted):
    known = {"doubts": [], "fields": {}, "fixed": {"len(places)": 3}, "words": {}, "aliases": {}, "configs": {}}
    found = Fields(Facts(known), {"places": places}, lambda _: None).doubts()
    assert [doubt.partition(";")[0] for doubt in found] == ([f"len(places) is {len(places)}"] if doubted else [])


@pytest.mark.parametrize("places", [[8, 16, 24], [8, 16], [8, 16, 24, 30]])
def test_that_qwen3_vl_has_a_merger_for_each_deepstack_layer(places):
    found = tree({"model_type": "qwen3_vl", "vision_config": {"deepstack_visual_indexes": places}}, "Qwen3VLModel")
    assert found.doubts == ()
    mergers = [
        m.name for m in found.modules if m.name.startswith("visual.deepstack_merger_list.") and m.name.count(".") == 2
    ]
    assert len(mergers) == len(places)


GEMMA = {
    "model_type": "gemma4_text", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "head_dim": 8,
    "num_key_value_heads": 2, "layer_types": ["sliding_attention", "full_attention"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "sliding", "full"),
    [
        ({}, 2 * 8, 2 * 512),
        ({"global_head_dim": 16}, 2 * 8, 2 * 16),
        ({"global_head_dim": 16, "num_global_key_value_heads": 1}, 2 * 8, 2 * 16),
        ({"global_head_dim": 16, "num_global_key_value_heads": 1, "attention_k_eq_v": True}, 2 * 8, 16),
        ({"per_layer_config": {"01": {"head_dim": 24, "num_key_value_heads": 1}}}, 2 * 8, 24),
        ({"per_layer_config": {"0": {"head_dim": 24}}, "global_head_dim": 16}, 2 * 24, 2 * 8),
        ({"per_layer_config": None}, 2 * 8, 2 * 8),
    ],
    ids=[
        "all attention has heads of 512 by default",
        "or as many as the config says",
        "fewer of them count only where keys are values",
        "there they do",
        "a layer's own sizes as transformers 5.23 saves them",
        "and then no default is made",
        "none are none",
    ],
)
def test_that_what_single_layers_have_by_themselves_is_read(changes, sliding, full):
    found = tree({**GEMMA, **changes}, "Gemma4ForCausalLM")
    rows = [by_name(found)[f"model.layers.{at}.self_attn.k_proj"].params["weight"][0] for at in (0, 1)]
    assert (rows, found.doubts) == ([sliding, full], ())


@pytest.mark.parametrize("given", [{"0": {"hidden_size": 64}}, {"0": {"skip": ["mlp"]}}, {"9": {"head_dim": 4}}, [1]])
def test_that_a_layer_of_its_own_in_another_way_is_doubted(given):
    with contextlib.suppress(BadInput):
        assert tree({**GEMMA, "per_layer_config": given}, "Gemma4ForCausalLM").doubts
    assert tree({**LLAMA, "per_layer_config": given}).doubts


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**12, "per_layer_config": {"0": {"head_dim": 4}}},
        {"per_layer_config": {"9" * 5_000: {"head_dim": 4}}},
        {"per_layer_config": {"-1": {"head_dim": 4}}},
        {"per_layer_config": {"²": {"head_dim": 4}}},
    ],
    ids=[
        "more layers than any model has",
        "a place of 5,000 digits",
        "a place before the first",
        "a place in no digits",
    ],
)
def test_that_a_hostile_table_of_layers_is_the_files_fault(changes):
    with pytest.raises(BadInput):
        tree({**GEMMA, **changes}, "Gemma4ForCausalLM")


def test_that_a_part_that_is_no_table_is_not_asked_for_its_layers():
    with contextlib.suppress(BadInput):
        tree({"model_type": "gemma4", "vision_config": 5, "text_config": GEMMA}, "Gemma4Model")


def test_that_a_gap_about_a_field_counts_only_where_the_field_is_read_and_is_given_so():
    fields = {"width": "3", "depth": "2"}
    gaps = ["field width absent: why", "field depth given: why"]
    made = Fields(
        Facts({"doubts": gaps, "fields": fields, "fixed": {}, "words": {}, "aliases": {}, "configs": {}}),
        {},
        lambda _: None,
    )
    assert made.doubts() == []
    assert (made["width"], made["depth"]) == (3, 2)
    assert made.doubts() == ["the facts about field width absent: why"]


@pytest.mark.parametrize(
    ("model_type", "config", "field", "value"),
    [
        ("glm_moe_dsa", {"num_experts": None, "n_routed_experts": 3}, "n_routed_experts", 3),
        ("glm_moe_dsa", {"num_experts": 5, "n_routed_experts": 3}, "n_routed_experts", 5),
        ("qwen3_moe", {"num_experts": 5, "num_local_experts": 3}, "num_local_experts", 3),
        ("qwen3_moe", {"num_experts": 5}, "num_local_experts", 5),
        ("mixtral", {"num_experts": 5, "num_local_experts": 3}, "num_local_experts", 5),
    ],
)
def test_that_another_name_of_a_field_is_heard_as_its_config_class_hears_it(model_type, config, field, value):
    assert Fields(modules.facts(model_type), config, modules.facts)[field] == value


@pytest.mark.parametrize(("hidden_size", "doubted"), [(768, False), (770, True)])
def test_that_a_size_that_is_worked_out_from_others_is_doubted_where_the_file_has_another(hidden_size, doubted):
    found = tree({"model_type": "swin", "embed_dim": 96, "hidden_size": hidden_size}, "SwinModel")
    assert any("hidden_size" in doubt for doubt in found.doubts) == doubted


@pytest.mark.parametrize(
    ("given", "stages"),
    [
        ({}, ["stage4"]),
        ({"out_features": None, "out_indices": None}, ["stage4"]),
        ({"out_features": ["stem", "stage2"]}, ["stem", "stage2"]),
        ({"out_indices": [1, -1]}, ["stage1", "stage4"]),
        ({"depths": [2, 2, 2]}, ["stage3"]),
    ],
)
def test_that_a_backbone_hands_out_the_stages_that_the_file_says(given, stages):
    names = by_name(tree({"model_type": "swin", **given}, "SwinBackbone"))
    assert [name.rpartition(".")[2] for name in names if name.startswith("hidden_states_norms.")] == stages


@pytest.mark.parametrize("given", [{"out_features": ["stage9"]}, {"out_indices": [7]}, {"out_indices": ["1"]}])
def test_that_stages_which_a_backbone_does_not_have_are_the_files_fault(given):
    with pytest.raises(BadInput, match="of 5 stages it hands out"):
        tree({"model_type": "swin", **given}, "SwinBackbone")


def test_that_a_list_of_no_layers_is_no_container():
    found = by_name(tree({**LLAMA, "num_hidden_layers": 0}))
    assert found["model.layers"].kind == "other"
    assert by_name(tree(LLAMA))["model.layers"].kind == "container"


@pytest.mark.parametrize("layers", [1, 2, 12])
def test_that_second_paths_are_as_many_as_layers(layers):
    found = tree({"model_type": "openai-gpt", "n_layer": layers}, "OpenAIGPTModel")
    assert dict(found.aliases) == {f"h.{at}.mlp.act": "h.0.mlp.act" for at in range(1, layers)}


def test_that_a_type_transformers_knows_is_built_from_its_own_class_whatever_code_the_folder_names():
    """Without trust_remote_code transformers takes its own class, even where config.json has an auto_map."""
    assert tree(LLAMA, remote_code=True).doubts == ()


@pytest.mark.parametrize(
    ("config", "class_name", "said"),
    [
        ({"model_type": "made_up"}, "MadeUpModel", '"made_up"'),
        ({}, "MadeUpModel", "no config.json"),
        (LLAMA, "LlamaForEverything", '"LlamaForEverything"'),
        ({"model_type": "../../etc/passwd"}, "X", "passwd"),
    ],
    ids=["unknown-type", "no-type", "unknown-class", "a-path-for-a-type"],
)
def test_that_without_facts_the_tree_comes_from_the_headers_and_is_doubted(config, class_name, said):
    found = tree(config, class_name, tensors=tensors(**{"a.b.weight": (3, 4), "a.norm.weight": (4,)}))
    assert [(m.name, m.kind) for m in found.modules] == [
        ("", "container"), ("a", "container"), ("a.b", "Linear"), ("a.norm", "norm"),
    ]  # fmt: skip
    assert found.known == "headers"
    assert said in found.doubts[0]


# ------------------------------------------------------------------------------------------------ headers


def llama_headers(prefix="model."):
    found = tree(LLAMA)
    params = {f"{m.name}.{name}": shape for m in found.modules for name, shape in m.params.items()}
    return tensors(**{name.replace("model.", prefix, 1): shape for name, shape in params.items()})


@pytest.mark.parametrize("prefix", ["model.", ""], ids=["with-the-prefix", "without-the-prefix"])
def test_that_headers_that_agree_leave_no_doubt(prefix):
    assert tree(LLAMA, tensors=llama_headers(prefix), complete=True).doubts == ()


def test_that_a_vocabulary_of_another_size_is_a_contradiction_and_the_config_decides():
    headers = {**llama_headers(), **tensors(**{"model.embed_tokens.weight": (257, 64)})}
    found = tree(LLAMA, tensors=headers, complete=True)
    assert by_name(found)["model.embed_tokens"].params["weight"] == (256, 64)
    assert "model.embed_tokens.weight is [257, 64] in the checkpoint, [256, 64] by the config" in found.doubts[0]
    assert "RuntimeError" in found.doubts[0]


def test_that_packed_weights_are_not_compared():
    headers = {**llama_headers(), **tensors(**{"model.layers.0.self_attn.q_proj.weight": (2048, 1)})}
    assert tree(LLAMA, tensors=headers, complete=True, quantisation="bitsandbytes").doubts == ()


def experts_headers(width=128):
    stem = "model.layers.0.block_sparse_moe.experts"
    return tensors(
        **{f"{stem}.{at}.{w}.weight": (width, 64) for at in range(4) for w in ("w1", "w3")},
        **{f"{stem}.{at}.w2.weight": (64, width) for at in range(4)},
    )


MIXTRAL = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4}


def test_that_experts_stored_one_by_one_are_stacked_before_they_are_compared():
    assert tree(MIXTRAL, "MixtralForCausalLM", tensors=experts_headers(), complete=True).doubts == ()
    doubts = tree(MIXTRAL, "MixtralForCausalLM", tensors=experts_headers(100), complete=True).doubts
    assert "experts.gate_up_proj is [4, 200, 64] in the checkpoint, [4, 256, 64] by the config" in doubts[0]


# ------------------------------------------------------------------------------------------------ bad configs


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": -1},
        {"hidden_size": "64"},
        {"hidden_size": 64.5},
        {"hidden_size": True},
        {"hidden_size": None},
        {"hidden_size": -64},
        {"hidden_size": 10**30},
        {"num_attention_heads": 0, "head_dim": None},
        {"vocab_size": [256]},
        {"num_labels": "many"},
    ],
    ids=str,
)
def test_that_a_config_no_model_can_be_built_from_is_the_files_fault(changes):
    with pytest.raises(BadInput) as caught:
        tree({**LLAMA, **changes}, "LlamaForSequenceClassification")
    assert caught.value.flaw.code == "base-config-implausible"
    assert "config.json" in caught.value.flaw.message


JUNK = [None, "x", "", [], [1], ["x"], {}, {"x": 1}, -1, 0, 2**70, True, 1.5, float("nan")]
DEPTHS = ("num_hidden_layers", "num_layers", "n_layer", "num_decoder_layers", "encoder_layers", "decoder_layers")


@pytest.mark.parametrize(
    "model_type", ["llama", "gpt2", "t5", "llava", "qwen2_vl", "qwen3_moe", "falcon", "deberta-v2"]
)
def test_that_any_value_of_any_field_gives_a_tree_or_a_flaw(model_type):
    found = modules.facts(model_type)
    class_name = next(iter(found["classes"]))
    small = dict.fromkeys(DEPTHS, 1)
    for name in (*found["fields"], *found["aliases"], *found["configs"], *found["fixed"], "num_labels", "id2label"):
        for junk in JUNK:
            config = {"model_type": model_type, **small, "text_config": dict(small), "vision_config": dict(small)}
            *heads, leaf = name.split(".")
            (config[heads[0]] if heads else config)[leaf] = junk
            with contextlib.suppress(BadInput):
                assert modules.tree(Base("base", config=config), class_name).modules


def test_that_more_layers_than_any_model_has_are_refused():
    with pytest.raises(BadInput):
        tree({**LLAMA, "num_hidden_layers": 2001})


# ------------------------------------------------------------------------------------------------ the axis


def test_that_tasks_name_their_classes():
    assert modules.classes("llama")["CAUSAL_LM"] == "LlamaForCausalLM"
    assert modules.classes("t5")["SEQ_2_SEQ_LM"] == "T5ForConditionalGeneration"
    assert modules.classes("bert")["FEATURE_EXTRACTION"] == modules.classes("bert")["bare"] == "BertModel"
    assert modules.classes("made_up") == {}


def every_file():
    return sorted(Path(modules.__file__).with_name("architectures").glob("[a-z]*.json"))


@pytest.mark.slow
@pytest.mark.parametrize("path", every_file(), ids=lambda path: path.stem)
def test_that_every_file_of_facts_holds_only_formulas_of_the_language(path):
    found = json.loads(path.read_text())
    assert found["model_type"] == path.stem
    for spec in found["fields"].values():
        for text in [spec] if isinstance(spec, str) else spec:
            compile_formula(text)
    bodies = [*found["fragments"].values(), *(entry["modules"] for entry in found["classes"].values())]
    for body in bodies:
        for _, kind, cls, *rest in body:
            assert kind != "=" or cls in found["fragments"]
            for dims in (rest[0] if rest else {}).values():
                for dim in dims:
                    compile_formula(dim["if"] if isinstance(dim, dict) else dim.removeprefix("*"))
            for key in {"if", "each", "times", "groups"} & set(rest[1] if rest[1:] else {}):
                compile_formula(rest[1][key])


# ------------------------------------------------------------------------------------------------ formulas


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a*b+2*a", 18),
        ("b-a*2", -2),
        ("7//2*2", 6),
        ("(a+b)%4", 3),
        ("c == null ? 1 : 2", 1),
        ("word == 'x' & !(a in many)", True),
        ("a < b | a > b", True),
        ("many[i]", 2),
        ("pairs[1][0]", 9),
        ("log2(a)", 1),
        ("log2(b)", 2),
        ("pairs[i][i-1]", 9),
        ("len(many)+len(a)", 3),
        ("'y' in split(words)", True),
        ("words[2] == 'Y'", True),
        ("len(words)", 3),
        ("part.size", 5),
        ("[1, 2]", (1, 2)),
        ("int(a*ratio)", 7),
        ("(int(a*ratio*2/3)+7)//8*8", 8),
        ("ceil(a/2)", 2),
        ("floor(a/2)", 1),
        ("round(ratio)", 2),
        ("max(a, b)-min(a, b)", 1),
        ("a*2**(i+1)", 12),
    ],
)
def test_that_formulas_mean_what_they_say(text, value):
    env = {"a": 3, "b": 4, "c": None, "word": "x", "many": [1, 2], "i": 1, "words": "X|Y", "part.size": 5, "ratio": 2.5}
    env["pairs"] = [[7, 8], [9, 6]]
    assert compile_formula(text)(env) == value


def test_that_older_words_for_kinds_of_layers_are_taken_as_transformers_takes_them():
    trees = [
        modules.tree(Base("x", config={"model_type": "nemotron_h", "layers_block_type": words}), "NemotronHModel")
        for words in (["mamba", "attention", "moe"], ["linear_attention", "full_attention", "moe"])
    ]
    assert [m.class_name for m in trees[0].modules if m.name.endswith(".mixer")] == [
        "NemotronHMamba2Mixer", "NemotronHAttention", "NemotronHMoE",
    ]  # fmt: skip
    assert trees[0].modules == trees[1].modules


@pytest.mark.parametrize(
    "text",
    ["", "a +", "(a", "a b", "__import__('os')", "a.b()", "lambda: 1", "a ** ", "a[", "a ? b", "1 if a else 2", "$"],
)
def test_that_anything_else_is_no_formula(text):
    with pytest.raises(ValueError, match="not a formula"):
        compile_formula(text)


@pytest.mark.parametrize(
    "text",
    [
        "a*b",
        "a//z",
        "a/z",
        "a % z",
        "many[9]",
        "a in b",
        "len(c)",
        "b < a",
        "2**b",
        "2**1000",
        "int(b)",
        "ceil(1e300*1e300)",
    ],
)
def test_that_a_formula_refuses_values_it_cannot_work_with(text):
    with pytest.raises(FormulaError):
        compile_formula(text)({"a": 3, "b": "4", "c": {}, "z": 0, "many": [1]})


def test_that_a_formula_says_which_fields_it_reads():
    assert names_in("a*b.c + (len(d) == null ? 1 : e[i])") == {"a", "b.c", "d", "e", "i"}
