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
        ("t5gemma", "T5GemmaEncoderModel", {}, "is_encoder_decoder must be false"),
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
