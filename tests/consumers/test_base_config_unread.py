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
