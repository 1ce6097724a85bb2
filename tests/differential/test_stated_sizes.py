"""What a layer states to be is what PEFT adapts: the live reader, the generator of facts and real PEFT say the same."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
pytestmark = [pytest.mark.exact, pytest.mark.filterwarnings("ignore")]


def test_that_a_tied_head_of_another_size_is_adapted_with_the_size_that_it_states():
    pytest.importorskip("peft")
    from peft import LoraConfig, get_peft_model
    from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling

    from adapterfit.read.live import base_from_module
    from architectures.observe import observe

    config = ImageGPTConfig(vocab_size=21, n_positions=8, n_embd=8, n_layer=1, n_head=2, tie_word_embeddings=True)
    model = ImageGPTForCausalImageModeling(config)
    assert tuple(model.lm_head.weight.shape) == (21, 8)
    live = next(m for m in base_from_module(model).tree.modules if m.name == "lm_head")
    seen = observe(model).children["lm_head"]
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["lm_head"]))
    rows = adapted.state_dict()["base_model.model.lm_head.lora_B.default.weight"].shape[0]
    assert rows == live.params["weight"][0] == seen.params["weight"][0] == 20


def test_that_a_layer_of_transformers_own_that_only_is_called_like_a_packed_one_is_no_linear():
    pytest.importorskip("peft")
    from peft import LoraConfig, get_peft_model
    from transformers import IBertConfig, IBertModel

    from adapterfit.read.live import base_from_module

    config = IBertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    model = IBertModel(config)
    name = "encoder.layer.0.attention.self.query"
    assert next(m for m in base_from_module(model).tree.modules if m.name == name).kind == "other"
    with pytest.raises(ValueError, match="not supported"):
        get_peft_model(model, LoraConfig(r=2, target_modules=["query"]))
