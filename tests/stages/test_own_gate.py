"""A class with a part of the config for its own is another type to PEFT, which may not convert adapters for that."""

import json

import pytest

from adapterfit.expect import modules
from adapterfit.read.base import read_base
from adapterfit.read.sources.memory import MemorySource


@pytest.mark.parametrize(
    ("kind", "name", "converts"),
    [
        ("mllama", "MllamaForCausalLM", False),
        ("mllama", "MllamaForConditionalGeneration", True),
        ("mlcd", "MLCDVisionModel", False),
    ],
)
def test_names_are_converted_only_where_peft_does_so_for_the_type_of_the_class(kind, name, converts):
    base = read_base(MemorySource({"config.json": json.dumps({"model_type": kind}).encode()}))
    assert bool(modules.tree(base, name).adapter_renames) is converts
