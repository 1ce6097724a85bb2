"""What PEFT would create, without torch: slots by name and shape, or the line it would raise."""

import pytest

from adapterfit.expect import candidates, modules
from adapterfit.expect.expectation import expect
from adapterfit.read.config import parse_config
from adapterfit.records import Base
from adapterfit.testing import make

LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def expectation(family="llama", base=None, **config):
    where = base or make.base(family)
    parsed = parse_config(make.config_json(**config), "adapter_config.json")
    return expect(modules.tree(where, where.architecture), parsed)


def slots(found):
    return {slot.key: slot.shape for slot in found.slots}


@pytest.mark.parametrize(
    ("config", "tail", "shape"),
    [
        pytest.param({"r": 4}, ".lora_A.weight", (4, 64), id="lora_A has the rank's rows and the input's columns"),
        pytest.param({"r": 4}, ".lora_B.weight", (64, 4), id="lora_B has the output's rows and the rank's columns"),
        pytest.param({"use_dora": True}, ".lora_magnitude_vector.weight", (64,), id="DoRA adds one number per output"),
        pytest.param({"lora_bias": True}, ".lora_B.bias", (64,), id="lora_bias adds a bias to B"),
        pytest.param({"rank_pattern": {"q_proj": 2}}, ".lora_A.weight", (2, 64), id="rank_pattern wins over r"),
        pytest.param({"kasa_config": {}}, ".lora_diag", (4,), id="KaSA adds a diagonal"),
        pytest.param({"peft_type": "IA3"}, None, None, id="IA3 on its default targets"),
    ],
)
def test_the_tensors_of_one_module(config, tail, shape):
    found = slots(expectation(**config))
    if tail is None:
        assert found["base_model.model.model.layers.0.mlp.down_proj.ia3_l"] == (1, 128)
        assert found["base_model.model.model.layers.0.self_attn.k_proj.ia3_l"] == (32, 1)
    else:
        assert found[LAYER + tail] == shape


@pytest.mark.parametrize(
    ("method", "config", "shape"),
    [
        pytest.param("PREFIX_TUNING", {}, (3, 2 * 2 * 32), id="a prefix has the width of the grouped key heads"),
        pytest.param("PROMPT_TUNING", {}, (3, 64), id="a prompt has the width of the embedding"),
        pytest.param("P_TUNING", {"task_type": "SEQ_2_SEQ_LM"}, (6, 64), id="two submodules have two prompts"),
    ],
)
def test_a_prompt_has_one_tensor(method, config, shape):
    family = "t5" if config else "llama"
    found = expectation(family, peft_type=method, num_virtual_tokens=3, **config)
    assert slots(found) == {"prompt_embeddings": shape}


@pytest.mark.parametrize(
    ("config", "line"),
    [
        pytest.param({"target_modules": ["nope"]}, "NoMatchingPeftModuleError: Target modules {'nope'}", id="no match"),
        pytest.param(
            {"target_modules": "q_proj"}, "NoMatchingPeftModuleError: Target modules q_proj", id="a bare string"
        ),
        pytest.param({"target_modules": ["norm"]}, "ValueError: Target module LlamaRMSNorm", id="a norm is no target"),
        pytest.param(
            {"target_modules": ["self_attn"]}, "ValueError: Target module LlamaAttention", id="nor a container"
        ),
        pytest.param({"r": 0}, "ValueError: `r` should be a positive integer", id="a rank of zero"),
        pytest.param(
            {"target_modules": ".*q_proj", "layers_to_transform": [0]},
            "ValueError: `layers_to_transform` cannot be used",
            id="layers with a regular expression",
        ),
        pytest.param(
            {"trainable_token_indices": [256]},
            "IndexError: index 256 is out of bounds",
            id="a row beyond the vocabulary",
        ),
        pytest.param({"task_type": "CAUSAL_LM"}, None, id="a causal model is fine"),
    ],
)
def test_an_injection_that_fails_says_how(config, line):
    raised = expectation(**config).raised
    assert (raised.text if raised else None) is None if line is None else raised.text.startswith(line)


def test_a_causal_adapter_on_a_classifier_lacks_generation():
    found = expectation("bert", target_modules=["query"])
    assert found.raised.text == (
        "AttributeError: 'BertForSequenceClassification' object has no attribute 'prepare_inputs_for_generation'"
    )


def test_a_method_without_a_file_is_a_doubt_and_never_a_fit():
    found = expectation(peft_type="BONE", target_modules=["q_proj"])
    assert found.doubts
    assert not found.slots


def test_modules_to_save_matches_a_bare_suffix():
    found = slots(expectation(modules_to_save=["head"]))
    assert found["base_model.model.lm_head.weight"] == (256, 64)


def test_saved_modules_are_looked_up_before_anything_is_loaded():
    found = expectation("bert", target_modules=["query"], task_type="SEQ_CLS")
    saved = {slot.key: slot.if_missing for slot in found.slots if slot.role == "saved-module"}
    assert saved == {
        "base_model.model.classifier.weight": "raises",
        "base_model.model.classifier.bias": "raises",
    }


def test_fused_experts_take_the_targets_of_their_old_linears():
    found = slots(expectation("mixtral", target_modules=["w1", "w2", "w3"], r=4))
    experts = "base_model.model.model.layers.0.mlp.experts"
    assert found[f"{experts}.base_layer.lora_A.weight"] == (2 * 4 * 4, 64)
    assert found[f"{experts}.base_layer.lora_B.weight"] == (256, 2 * 4 * 4)
    assert found[f"{experts}.lora_A.weight"] == (4 * 4, 128)


def test_half_of_a_fused_pair_cannot_be_converted():
    raised = expectation("mixtral", target_modules=["w1"]).raised
    assert raised.text.startswith("ValueError: Cannot convert PEFT target(s) w1 without also targeting w3")


def test_replicated_layers_have_slots_of_their_own():
    found = slots(expectation(layer_replication=[[0, 2], [1, 2]]))
    assert "base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight" in found
    assert "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight" not in found


def test_a_replication_of_a_billion_layers_is_not_expanded():
    assert "layer_replication asks for more than" in expectation(layer_replication=[[0, 10**9]]).doubts[-1]


def test_the_state_is_every_parameter_under_the_name_it_has_then():
    state = expectation(modules_to_save=["lm_head"]).state
    assert state[LAYER + ".base_layer.weight"] == (64, 64)
    assert state["base_model.model.lm_head.original_module.weight"] == (256, 64)
    assert state["base_model.model.lm_head.modules_to_save.default.weight"] == (256, 64)
    assert state["base_model.model.model.norm.weight"] == (64,)


def test_a_base_is_taken_as_the_class_it_names_even_where_no_task_leads_there():
    """Every class of every type: an adapter without a task on a base that names the class."""
    parsed = parse_config(make.config_json(task_type=None, auto_mapping=None), "adapter_config.json")
    wrong = []
    for model_type in sorted(modules.known_types()):
        for name in modules.class_names(model_type):
            base = Base("base", config={"model_type": model_type, "architectures": [name]})
            first = next(iter(candidates._names(base, parsed)), "")
            if first != name:
                wrong.append((model_type, name, first))
    assert wrong == []


def test_a_shadow_of_a_decoder_beside_an_encoder_is_left_open():
    found = expectation("whisper", peft_type="SHADOW", task_type="SEQ_2_SEQ_LM", target_modules=["q_proj"])
    assert any("beside an encoder" in doubt for doubt in found.doubts)
    assert not expectation("llama", peft_type="SHADOW", target_modules=["q_proj"]).doubts
