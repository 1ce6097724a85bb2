"""A class that keeps its number of labels as a field of its own, as PVT does, does not look at the names of labels."""

from __future__ import annotations

import pytest

from adapterfit.expect import modules
from adapterfit.records import Base


@pytest.mark.parametrize(
    ("model_type", "given", "labels"),
    [
        ("pvt", {"id2label": {"0": "cat", "1": "dog"}}, 1000),
        ("pvt", {"id2label": {"0": "cat", "1": "dog"}, "num_labels": 3}, 3),
        ("swinv2", {"id2label": {"0": "cat", "1": "dog", "2": "cow"}}, 3),
    ],
)
def test_that_the_head_has_as_many_rows_as_transformers_gives_it(model_type, given, labels):
    name = {"pvt": "PvtForImageClassification", "swinv2": "Swinv2ForImageClassification"}[model_type]
    found = modules.tree(Base("x", config={**given, "model_type": model_type}), name)
    assert next(m for m in found.modules if m.name == "classifier").params["bias"] == (labels,)
