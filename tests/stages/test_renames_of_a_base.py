"""The renamings of the part that is the base of a class: transformers limits them to no place, as the base's name is left out."""

import re

import pytest

from adapterfit.expect import modules
from adapterfit.records import Base


@pytest.mark.parametrize(
    ("kind", "name", "old", "new"),
    [
        ("tipsv2_dpt", "Tipsv2DptForDepthEstimation", "blocks.0.mlp.c_fc.x", "encoder.layer.0.mlp.fc1.x"),
        ("tipsv2_dpt", "Tipsv2DptForDepthEstimation", "backbone.norm.x", "backbone.layernorm.x"),
        ("colqwen2", "ColQwen2ForRetrieval", "vlm.model.norm.x", "vlm.norm.x"),
        ("colqwen2", "ColQwen2ForRetrieval", "model.norm.x", "model.language_model.norm.x"),
    ],
)
def test_that_the_renamings_of_the_base_come_once_with_its_name_and_without(kind, name, old, new):
    """Measured on transformers 5.23: `get_model_conversion_mapping` gives these rules the scope `''`."""
    for rule in modules.tree(Base("x", config={"model_type": kind}), name).adapter_renames:
        old = re.sub(rule.pattern, rule.replacement, old, count=1)
    assert old == new
