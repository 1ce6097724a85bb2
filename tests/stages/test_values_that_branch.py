"""Configs whose fields have the values that transformers' source compares them with: other modules, or none at all."""

from __future__ import annotations

import pytest

from adapterfit.errors import BadInput
from adapterfit.expect import modules
from adapterfit.records import Base


def _tree(model_type, class_name, **config):
    return modules.tree(Base("x", config={"model_type": model_type, **config}), class_name)


@pytest.mark.parametrize(
    ("model_type", "class_name", "config", "said"),
    [
        ("dac", "DacModel", {"codebook_size": 1000}, "codebook_size must be a power of 2, where codebook_size is"),
        ("encodec", "EncodecModel", {"codebook_size": 1000}, "codebook_size must be a power of 2"),
        ("xcodec", "XcodecModel", {"strides": [1]}, "strides and channel_ratios must be equally long"),
        ("t5gemma", "T5GemmaModel", {"is_encoder_decoder": False}, "is_encoder_decoder is false"),
    ],
)
def test_that_a_config_no_model_is_built_from_is_refused_with_its_field_and_what_is_wrong(
    model_type, class_name, config, said
):
    with pytest.raises(BadInput) as caught:
        _tree(model_type, class_name, **config)
    assert said in caught.value.flaw.message
    assert "division" not in caught.value.flaw.message


@pytest.mark.parametrize("task", ["Sequence", "Token"])
def test_that_t5gemma_classifies_with_its_encoder_alone_where_the_config_says_so(task):
    sizes = {"encoder": {"hidden_size": 64, "num_hidden_layers": 2}, "decoder": {"hidden_size": 32}}
    found = _tree("t5gemma", f"T5GemmaFor{task}Classification", is_encoder_decoder=False, **sizes)
    names = {module.name: module for module in found.modules}
    assert names["model"].class_name == "T5GemmaEncoderModel"
    assert not any(name.startswith("model.decoder") for name in names)
    assert names["score.out_proj"].params["weight"] == (2, 64)


def test_that_t5gemma_attends_to_as_many_features_as_its_encoder_has_whatever_the_file_says():
    found = _tree(
        "t5gemma",
        "T5GemmaForConditionalGeneration",
        encoder={"hidden_size": 64, "num_hidden_layers": 2},
        decoder={"num_hidden_layers": 1, "cross_attention_hidden_size": 8},
    )
    names = {module.name: module for module in found.modules}
    assert names["model.decoder.layers.0.cross_attn.k_proj"].params["weight"] == (1024, 64)


@pytest.mark.parametrize("model_type", ["mistral", "ministral3", "mixtral", "minimax", "starcoder2"])
def test_that_a_head_of_no_width_counts_as_none_where_projections_are_made(model_type):
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    name = next(iter(modules.classes(model_type).values()))
    found = {
        m.name: m for m in _tree(model_type, name, head_dim=0, layer_types=["full_attention"] * 2, **sizes).modules
    }
    assert next(m for n, m in found.items() if n.endswith("self_attn.k_proj")).params["weight"] == (32, 64)


def test_that_half_of_mimi_that_a_private_field_leaves_out_is_doubted():
    found = _tree("csm", "CsmForConditionalGeneration", codec_config={"model_type": "mimi", "_has_encoder": False})
    assert any("_has_encoder" in doubt for doubt in found.doubts)


@pytest.mark.parametrize(
    ("model_type", "class_name", "text", "lost"),
    [
        ("llava", "LlavaModel", "gpt2", "language_model.embed_tokens"),
        ("llava", "LlavaForConditionalGeneration", "bloom", "model.language_model.embed_tokens"),
        ("idefics3", "Idefics3ForConditionalGeneration", "opt", "model.text_model.embed_tokens"),
        ("llava", "LlavaForConditionalGeneration", "phi", None),
    ],
)
def test_that_embeddings_of_another_name_than_the_facts_have_are_doubted(model_type, class_name, text, lost):
    found = _tree(model_type, class_name, text_config={"model_type": text}, vision_config={"num_hidden_layers": 1})
    assert [doubt for doubt in found.doubts if lost is None or lost in doubt] == list(found.doubts)
    assert bool(found.doubts) == (lost is not None)


@pytest.mark.parametrize("model_type", ["blip-2", "instructblip", "instructblipvideo"])
@pytest.mark.parametrize(
    ("text", "class_name", "embedded"),
    [
        ({"model_type": "t5", "num_layers": 2}, "T5ForConditionalGeneration", "language_model.shared"),
        ({"model_type": "llama", "num_hidden_layers": 2}, "LlamaForCausalLM", "language_model.model.embed_tokens"),
        ({"model_type": "opt", "num_hidden_layers": 2}, "OPTForCausalLM", "language_model.model.decoder.embed_tokens"),
    ],
)
def test_that_the_language_model_of_blip_2_and_its_kin_is_of_its_own_type(model_type, text, class_name, embedded):
    found = _tree(model_type, modules.classes(model_type)["IMAGE_TEXT_TO_TEXT"], text_config=text)
    assert found.doubts == ()
    assert next(m for m in found.modules if m.name == "language_model").class_name == class_name
    assert found.input_embeddings == embedded
    assert found.output_embeddings == "language_model.lm_head"


@pytest.mark.parametrize("width", [768, 8])
def test_that_the_pooler_of_deberta_v2_is_as_wide_as_it_says(width):
    found = _tree("deberta-v2", "DebertaV2ForSequenceClassification", hidden_size=768, pooler_hidden_size=width)
    assert next(m for m in found.modules if m.name == "pooler.dense").params["weight"] == (width, width)


@pytest.mark.parametrize(
    ("model_type", "class_name", "config", "name", "kind"),
    [
        ("electra", "ElectraModel", {"embedding_size": 64, "hidden_size": 64}, "embeddings_project", None),
        ("electra", "ElectraModel", {"embedding_size": 32, "hidden_size": 64}, "embeddings_project", "Linear"),
        (
            "luke",
            "LukeModel",
            {"entity_emb_size": 64, "hidden_size": 64},
            "entity_embeddings.entity_embedding_dense",
            None,
        ),
        ("gte", "GteModel", {"type_vocab_size": 0}, "embeddings.token_type_embeddings", None),
        ("gte", "GteModel", {"type_vocab_size": 2}, "embeddings.token_type_embeddings", "Embedding"),
        ("layoutlmv3", "LayoutLMv3ForTokenClassification", {"num_labels": 9}, "classifier", "Linear"),
        ("layoutlmv3", "LayoutLMv3ForTokenClassification", {"num_labels": 10}, "classifier", "container"),
        ("layoutlmv3", "LayoutLMv3ForTokenClassification", {"num_labels": 10}, "classifier.out_proj", "Linear"),
        ("vit", "ViTForImageClassification", {"num_labels": 0}, "classifier", "other"),
        ("convnextv2", "ConvNextV2ForImageClassification", {"num_labels": 0}, "classifier", "other"),
        ("gpt2", "GPT2DoubleHeadsModel", {"summary_activation": "tanh"}, "multiple_choice_head.activation", "other"),
    ],
)
def test_that_a_module_is_there_only_where_its_field_says_so(model_type, class_name, config, name, kind):
    found = _tree(model_type, class_name, **config)
    assert found.doubts == ()
    assert next((m.kind for m in found.modules if m.name == name), None) == kind


def test_that_a_scale_of_layers_of_nought_is_no_parameter():
    scales = [
        sum(
            "layer_scale_parameter" in m.params
            for m in _tree("convnext", "ConvNextModel", layer_scale_init_value=v).modules
        )
        for v in (0.0, 1e-6)
    ]
    assert scales == [0, 18]


@pytest.mark.parametrize(("width", "channels"), [(0.5, 16), (0.62, 24), (1.0, 32)])
def test_that_a_size_rounded_down_by_more_than_a_tenth_is_rounded_up(width, channels):
    found = {m.name: m for m in _tree("mobilevitv2", "MobileViTV2Model", width_multiplier=width).modules}
    assert found["conv_stem.convolution"].params["weight"][0] == channels
