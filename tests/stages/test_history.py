"""How modules were called before: trees as older releases of transformers build them."""

import json
import re
from dataclasses import replace

import pytest

from adapterfit.expect import history, modules
from adapterfit.records import Base, Module
from shared_data import ROOT

CHANGES = ROOT / "transformers" / "transformers_runtime_renames.json"


def then(model_type, class_name, transformers, config=None):
    tree = modules.tree(Base("base", config={"model_type": model_type, **(config or {})}), class_name)
    return history.as_built(tree, {"transformers": transformers, "peft": "0.21.2"})


def names(tree):
    return {module.name for module in tree.modules}


@pytest.mark.parametrize(
    ("model_type", "class_name", "newest", "now", "release", "before"),
    [
        ("swin", "SwinModel", "5.9.0", "encoder.layers.0.blocks.0.attention.q_proj", "5.8.1",
         "encoder.layers.0.blocks.0.attention.self.query"),
        ("swin", "SwinForImageClassification", "5.9.0", "swin.encoder.layers.0.blocks.0.mlp.fc1", "5.8.1",
         "swin.encoder.layers.0.blocks.0.intermediate.dense"),
        ("dinov2", "Dinov2Model", "5.18.0", "encoder.layer.0.attention.o_proj", "5.17.0",
         "encoder.layer.0.attention.output.dense"),
        ("qwen2_audio", "Qwen2AudioForConditionalGeneration", "5.10.4", "model.language_model.layers.0.mlp.up_proj",
         "5.9.0", "language_model.model.layers.0.mlp.up_proj"),
    ],
)  # fmt: skip
def test_that_modules_have_the_names_of_the_release_that_loads(model_type, class_name, newest, now, release, before):
    assert now in names(then(model_type, class_name, newest))
    older = names(then(model_type, class_name, release))
    assert before in older
    assert now not in older


def test_that_a_router_was_a_plain_linear_layer():
    kinds = {m.name: m.kind for m in then("jamba", "JambaForCausalLM", "5.20.2").modules}
    assert kinds["model.layers.1.feed_forward.router"] == "Linear"


def test_that_a_change_that_no_step_reproduces_is_a_doubt():
    assert not then("aria_text", "AriaTextModel", "5.18.0").doubts
    assert "not known" in then("aria_text", "AriaTextModel", "5.17.0").doubts[0]


@pytest.mark.parametrize(
    ("model_type", "class_name", "since", "before"),
    [
        ("depth_anything", "DepthAnythingForDepthEstimation", "5.18.0", "5.15.0"),  # its backbone is Dinov2's
        ("siglip_text_model", "SiglipTextModel", "5.6.2", "5.4.0"),  # a tower by itself
        ("gemma3n_text", "Gemma3nTextModel", "5.6.2", "5.4.0"),  # keys and values of layers that share them
        ("grounding-dino", "GroundingDinoForObjectDetection", "5.23.0", "5.20.0"),  # heads that were one module
        ("zamba2", "Zamba2Model", "5.1.0", "4.57.6"),  # layers that were one module
        ("camembert", "CamembertForMultipleChoice", "4.57.6", "5.12.1"),
        ("camembert", "CamembertForMultipleChoice", "5.15.0", "5.12.1"),
    ],
)
def test_that_another_layout_of_a_part_or_of_a_tower_is_a_doubt(model_type, class_name, since, before):
    assert not then(model_type, class_name, since).doubts
    assert then(model_type, class_name, before).doubts


def test_that_a_vit_inside_another_model_is_a_doubt_where_its_names_were_others():
    config = {"encoder": {"model_type": "vit"}, "decoder": {"model_type": "bert", "is_decoder": True}}
    assert not then("vision-encoder-decoder", "VisionEncoderDecoderModel", "5.9.0", config).doubts
    older = then("vision-encoder-decoder", "VisionEncoderDecoderModel", "4.57.6", config)
    assert "ViTModel" in older.doubts[0]


@pytest.mark.parametrize(
    ("model_type", "class_name", "mapped"),
    [
        ("llava_next", "LlavaNextModel", "language_model.layers.0"),
        ("llava_next", "LlavaNextForConditionalGeneration", "model.language_model.layers.0"),
        ("mistral3", "Mistral3ForConditionalGeneration", "model.language_model.layers.0"),
        ("video_llava", "VideoLlavaForConditionalGeneration", "model.language_model.layers.0"),
    ],
)
def test_that_each_class_has_the_mapping_of_its_own(model_type, class_name, mapped):
    mapping = then(model_type, class_name, "4.57.6").key_mapping
    name = "language_model.model.layers.0"
    assert next(re.sub(m.pattern, m.replacement, name) for m in mapping if re.search(m.pattern, name)) == mapped
    assert not then(model_type, class_name, "4.51.3").key_mapping
    assert not then(model_type, class_name, "5.4.0").key_mapping


def test_that_a_module_a_step_was_not_proven_for_is_a_doubt():
    tree = modules.tree(Base("base", config={"model_type": "swin"}), "SwinModel")
    strange = replace(tree, modules=(*tree.modules, Module("encoder.made_up", "Linear", {"weight": (2, 2)}, "Linear")))
    rules = {"transformers": "5.8.1", "peft": "0.21.2"}
    assert not history.as_built(tree, rules).doubts
    assert "made_up" in history.as_built(strange, rules).doubts[0]


def test_that_a_renamed_part_of_another_model_is_a_doubt():
    tree = modules.tree(Base("base", config={"model_type": "swin"}), "SwinForImageClassification")
    whole = replace(tree, model_type="vision-encoder-decoder", class_name="VisionEncoderDecoderModel")
    assert not history.as_built(whole, {"transformers": "5.9.0", "peft": "0.21.2"}).doubts
    assert "SwinModel" in history.as_built(whole, {"transformers": "5.8.1", "peft": "0.21.2"}).doubts[0]


@pytest.mark.slow
def test_that_each_recorded_rename_is_known_or_doubted():
    """Names that 49 releases were seen to have: never one that was not there yet, without a doubt."""
    if not CHANGES.exists():
        pytest.skip(f"no shared data at {CHANGES}")
    agreed = doubted = 0
    for class_name, entry in json.loads(CHANGES.read_text())["classes"].items():
        model_type = entry["model_type"]
        if class_name not in (modules.facts(model_type) or {"classes": {}})["classes"]:
            continue
        for change in entry["changes"]:
            tree = then(model_type, class_name, change["between"][0])
            if tree.known != "facts" or tree.doubts:
                doubted += 1
                continue
            found = {re.sub(r"\.\d+(?=\.|$)", ".*", m.name) for m in tree.modules if m.params}
            gone = {name for name in change["removed"] if not name.rpartition(".")[2].startswith("weight")}
            wrong = found & set(change["added"]) - gone
            assert not wrong, (class_name, change["between"], sorted(wrong)[:3])
            agreed += 1
    assert agreed >= 40, (agreed, doubted)
