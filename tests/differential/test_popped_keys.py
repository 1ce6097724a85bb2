"""Keys of a config.json that no field keeps: the tree from facts is the model that transformers builds from them."""

from __future__ import annotations

import os
import random
from functools import partial

import pytest

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
pytestmark = pytest.mark.exact

SMALL = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 99,
}
#: Type, class, what a config.json has that no field of the config class keeps; each changes the tree.
LEARNED = [
    ("qwen3_5_text", "Qwen3_5ForCausalLM", {"num_hidden_layers": 6, "full_attention_interval": 3}),
    ("nemotron_h", "NemotronHForCausalLM", {"layers_block_type": ["mamba", "attention", "moe", "mamba", "mlp"]}),
]


@pytest.mark.parametrize(
    ("model_type", "class_name", "keys"), LEARNED, ids=[f"{t}-{sorted(k)[0]}" for t, _, k in LEARNED]
)
def test_that_a_key_that_no_field_keeps_shapes_the_tree_as_in_transformers(model_type, class_name, keys):
    pytest.importorskip("transformers")
    from transformers import AutoConfig

    from architectures import proof

    raw = {**SMALL, **keys}
    model = proof.on_meta(class_name, AutoConfig.for_model(model_type, **raw))
    ours = proof.ours(model_type, class_name, raw)
    assert ours.doubts == ()
    assert proof.differences(ours, model) == []


def test_that_the_keys_and_their_defaults_are_read_from_the_source_of_the_config_class():
    pytest.importorskip("transformers")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from architectures.popped import named

    assert named(CONFIG_MAPPING["axk1"]) == {"first_k_dense_replace": 1, "moe_layer_freq": 1}
    assert named(CONFIG_MAPPING["qwen3_next"])["full_attention_interval"] == 4
    assert "hybrid_override_pattern" in named(CONFIG_MAPPING["nemotron_h"])


@pytest.mark.slow
def test_that_what_a_key_changes_is_measured():
    pytest.importorskip("transformers")
    import transformers

    from architectures.observe import build
    from architectures.popped import Measure
    from architectures.sample import Sampler

    found = {}
    for model_type, name in (("fsmt", "FSMTModel"), ("qwen3_5_text", "Qwen3_5TextModel"), ("clip", "CLIPModel")):
        sampler = Sampler(model_type, random.Random(1))
        Measure(sampler, [partial(build, getattr(transformers, name))]).all()
        found.update({key: (one.where, bool(one.makes)) for key, one in sampler.popped.items()})
    assert found["decoder"][0] == "nothing"
    assert found["full_attention_interval"] == ("fields", True)
    assert found["text_config_dict"] == ("fields", False), "a table: nothing is learned from it, and it must be doubted"


def test_that_edges_know_nothing_of_the_sampler_and_change_one_thing():
    pytest.importorskip("transformers")
    from architectures import edges

    start = edges.base("llama")
    for raw in edges.drawn("llama", 0, 40):
        assert start.items() <= raw.items() or len(raw) == len(start)
        assert sum(raw.get(key, "absent") != start.get(key, "absent") for key in {*raw, *start}) == 1
