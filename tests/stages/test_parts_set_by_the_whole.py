"""What a model puts into its part's config in any case, whether the file has that part or not; windows that are none."""

from __future__ import annotations

import pytest

from adapterfit.expect import modules
from adapterfit.records import Base


def params(model_type, name, path, **config):
    found = modules.tree(Base("x", config={**config, "model_type": model_type}), name)
    assert found.doubts == ()
    return dict(next(m for m in found.modules if m.name == path).params)


@pytest.mark.parametrize(
    ("config", "rows"),
    [({}, 257152), ({"dit_config": {"model_type": "gemma", "hidden_size": 1024, "vocab_size": 5}}, 257152)],
    ids=["without the part", "with another number in the part"],
)
def test_that_the_action_expert_has_the_words_of_the_language_model(config, rows):
    assert params("pi0", "PI0Model", "dit.embed_tokens", **config)["weight"] == (rows, 1024)


def test_that_a_window_of_nothing_is_the_whole_image():
    bias = params("sam_vision_model", "SamVisionModel", "vision_encoder.layers.0.attn", window_size=0)["rel_pos_h"]
    assert bias == (2 * (1024 // 16) - 1, 768 // 12)
