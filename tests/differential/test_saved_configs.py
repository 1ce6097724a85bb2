"""Files as `save_pretrained` writes them hold lists that the config class derived: the facts must read those lists."""

from __future__ import annotations

import os
import random

import pytest

from adapterfit.expect import modules

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
pytestmark = [pytest.mark.exact, pytest.mark.slow]
THOROUGH = int(os.environ.get("FUZZ", "0"))
#: Each of these decides the kind of every layer's MLP by a list that its config class derives.
LISTED = ("mlp_layer_types",)
POPULAR = ("bert", "gpt2", "llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma2", "phi3", "t5", "whisper", "vit", "llava", "qwen2_vl")  # fmt: skip


def proof():
    from architectures import proof

    return proof


def with_lists():
    """The types whose config class has such a field."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    found = []
    for model_type in sorted(modules.known_types()):
        fields = getattr(CONFIG_MAPPING[model_type], "__dataclass_fields__", {})
        if any(name in fields for name in LISTED):
            found.append(model_type)
    return found


def wrongs(model_type, count, classes):
    """How many saved files were compared, and what was wrong about any, without saying so."""
    compared, wrong = 0, []
    for name in classes:
        for raw, model in proof().as_saved(model_type, name, 0, count, 20):
            state, why = proof().verdict(model_type, name, raw, model)
            compared += 1
            wrong += [f"{model_type} {name}: {why}"] if state == "wrong" else []
    return compared, wrong


def test_that_no_list_of_kinds_of_mlps_in_a_saved_file_is_passed_over():
    pytest.importorskip("transformers")
    answers = [wrongs(t, THOROUGH or 8, sorted(modules.facts(t)["classes"])[-1:]) for t in with_lists()]
    assert [told for _, wrong in answers for told in wrong] == []
    assert sum(compared for compared, _ in answers) >= 100


def test_that_a_sample_of_all_types_is_right_about_saved_files():
    pytest.importorskip("transformers")
    types = sorted(modules.known_types())
    chosen = types if THOROUGH else random.Random("saved").sample(types, 20)
    answers = [wrongs(t, THOROUGH or 3, sorted(modules.facts(t)["classes"])[-1:]) for t in chosen]
    assert [told for _, wrong in answers for told in wrong] == []
    assert sum(compared for compared, _ in answers) >= 50


@pytest.mark.parametrize("model_type", POPULAR)
def test_that_the_default_config_as_it_is_saved_is_known(model_type):
    pytest.importorskip("transformers")
    name = sorted(modules.facts(model_type)["classes"])[-1]
    raw, model = next(proof().as_saved(model_type, name, 0, 1))
    assert proof().verdict(model_type, name, raw, model) == ("exact", "")
