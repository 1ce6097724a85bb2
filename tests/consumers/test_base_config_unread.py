"""What transformers 4 does not read of a base's config that transformers 5 saved; measured with 4.57.6 and 4.51.3."""

import json

import pytest

import adapterfit
from adapterfit.testing import make

OLDER = "peft==0.21.2,transformers==4.57.6"


def report(adapter, base, who, folder):
    """The base from a config.json of its own."""
    (folder / "config.json").write_text(json.dumps(base))
    return adapterfit.check(adapter, folder / "config.json", who)


@pytest.mark.parametrize(
    ("who", "rope", "predicted"),
    [
        (OLDER, {"rope_theta": 500_000.0, "rope_type": "default"}, "loads-differently"),
        (OLDER, {"rope_theta": 10_000.0, "rope_type": "llama3"}, "loads-differently"),
        (OLDER, {"rope_theta": 10_000.0, "rope_type": "default"}, "loads"),
        ("peft==0.21.2,transformers==5.12.1", {"rope_theta": 500_000.0, "rope_type": "default"}, "loads"),
    ],
    ids=["another theta", "a scaling", "the default", "transformers 5"],
)
def test_positions_turn_otherwise_where_rope_parameters_are_not_read(who, rope, predicted, tmp_path):
    sample = make.lora("llama", target_modules=["q_proj"])
    config = {**sample.case.base.config, "rope_parameters": rope}
    assert report(sample.adapter, config, who, tmp_path).predicted == predicted
    named = {**config, "rope_theta": rope["rope_theta"], "rope_scaling": rope}
    assert report(sample.adapter, named, who, tmp_path).predicted == "loads"


@pytest.mark.parametrize(("number", "fires"), [(4, True), (128, False)])
def test_experts_are_as_many_as_the_default_says_where_their_number_is_not_read(number, fires, tmp_path):
    sample = make.lora("llama", target_modules=["q_proj"])
    sizes = {key: value for key, value in sample.case.base.config.items() if key not in ("model_type", "architectures")}
    config = {**sizes, "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"], "head_dim": 16}
    found = report(sample.adapter, {**config, "num_local_experts": number}, OLDER, tmp_path)
    assert any(each.id == "base-config-unread" for each in found.findings) == fires
    assert found.predicted == ("raises" if fires else "loads")
    both = {**config, "num_local_experts": number, "num_experts": number}
    assert report(sample.adapter, both, OLDER, tmp_path).predicted == "loads"


@pytest.mark.parametrize(
    ("kind", "full", "sliding", "lost"),
    [
        ("gemma3_text", {"rope_theta": 1_000_000.0, "rope_type": "linear", "factor": 8.0}, 10_000.0, "rope_scaling"),
        ("gemma3_text", {"rope_theta": 1_000_000.0, "rope_type": "default"}, 20_000.0, "rope_local_base_freq"),
        ("gemma3_text", {"rope_theta": 1_000_000.0, "rope_type": "default"}, 10_000.0, ""),
        ("olmo3", {"rope_theta": 500_000.0, "rope_type": "default"}, 500_000.0, "rope_theta"),
    ],
    ids=["a scaling of Gemma 3", "a local theta", "the defaults", "olmo3 as its class makes it"],
)
def test_positions_of_two_kinds_of_attention_are_each_asked_about(kind, full, sliding, lost, tmp_path):
    """Saved by transformers 5.23 and read by 4.57.6: rope_theta 1e6, rope_local_base_freq 1e4 and no scaling for Gemma 3, 1e4 for OLMo 3."""
    sample = make.lora("llama", target_modules=["q_proj"])
    sizes = {key: value for key, value in sample.case.base.config.items() if key not in ("model_type", "architectures")}
    rope = {"full_attention": full, "sliding_attention": {"rope_theta": sliding, "rope_type": "default"}}
    config = {**sizes, "model_type": kind, "head_dim": 16, "rope_parameters": rope}
    found = [
        each for each in report(sample.adapter, config, OLDER, tmp_path).findings if each.id == "base-config-unread"
    ]
    assert [each.found for each in found] == ([f"no {lost} in config.json"] if lost else [])
    old = {"rope_theta": full["rope_theta"], "rope_local_base_freq": sliding, "rope_scaling": full}
    told = report(sample.adapter, {**config, **old}, OLDER, tmp_path).findings
    assert not [each for each in told if each.id == "base-config-unread"]
