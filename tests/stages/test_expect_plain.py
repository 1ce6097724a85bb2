"""A plain module known by its weights file alone: every reading of its shapes is tried, and none is believed halfway."""

import pytest

from adapterfit import pipeline
from adapterfit.read.base import read_base
from adapterfit.read.config import parse_config
from adapterfit.read.sources.memory import MemorySource
from adapterfit.records import Adapter, TensorInfo, Weights
from adapterfit.testing import forge, make

OWN = {"base_model_class": "Net", "parent_library": "__main__"}
THEIRS = {"base_model_class": "LlamaModel", "parent_library": "transformers.models.llama.modeling_llama"}


def base(**shapes):
    """A weights file with these tensors (`__` stands for a dot), and nothing beside it."""
    header = {
        name.replace("__", "."): forge.entry("F32", list(shape), [0, 0] if 0 in shape else [4 * at, 4 * at + size])
        for (name, shape), (at, size) in zip(shapes.items(), places(shapes.values()))
    }
    return read_base(
        MemorySource({"model.safetensors": forge.st(header, bytes(sum(s for _, s in places(shapes.values()))))})
    )


def places(shapes):
    """Where each tensor lies, in numbers before it, and its size in bytes."""
    at = 0
    for shape in shapes:
        count = 1
        for size in shape:
            count *= size
        yield at, 4 * count
        at += count


def adapter(shapes, targets=("fc",), auto_mapping=OWN, **more):
    raw = {
        "peft_type": "LORA",
        "r": 2,
        "target_modules": list(targets),
        "auto_mapping": auto_mapping,
        "task_type": None,
        **more,
    }
    tensors = tuple(TensorInfo(f"base_model.model.{name}.weight", "F32", shape) for name, shape in shapes.items())
    weights = Weights("adapter_model.safetensors", "safetensors", 0, tensors)
    return Adapter("a", config=parse_config(make.config_json(**raw)), weights=weights)


LINEAR = {"fc.lora_A": (2, 4), "fc.lora_B": (6, 2)}
CONV1D = {"fc.lora_A": (2, 6), "fc.lora_B": (4, 2)}
CASES = {
    "a Linear": ({"fc__weight": (6, 4)}, adapter(LINEAR), "fits"),
    "a Linear with a bias": ({"fc__weight": (6, 4), "fc__bias": (6,)}, adapter(LINEAR), "fits"),
    "transformers' Conv1D": ({"fc__weight": (6, 4)}, adapter(CONV1D), "fits"),
    "another size": ({"fc__weight": (6, 5)}, adapter(LINEAR), "cannot-tell"),
    "another name": ({"far__weight": (6, 4)}, adapter(LINEAR), "cannot-tell"),
    "a tensor too few": ({"fc__weight": (6, 4)}, adapter({"fc.lora_A": (2, 4)}), "cannot-tell"),
    "a class of transformers": ({"fc__weight": (6, 4)}, adapter(LINEAR, auto_mapping=THEIRS), "cannot-tell"),
    "a class nobody recorded": ({"fc__weight": (6, 4)}, adapter(LINEAR, auto_mapping=None), "cannot-tell"),
    "a task": ({"fc__weight": (6, 4)}, adapter(LINEAR, task_type="CAUSAL_LM"), "cannot-tell"),
    "a number where all are there": (
        {"seq__0__weight": (6, 4), "seq__1__weight": (6, 6)},
        adapter({"seq.0.lora_A": (2, 4), "seq.0.lora_B": (6, 2)}, ["0"]),
        "fits",
    ),
    "a number that another container hides": (
        {"seq__0__weight": (6, 4), "net__1__weight": (6, 6)},
        adapter({"seq.0.lora_A": (2, 4), "seq.0.lora_B": (6, 2)}, ["0"]),
        "cannot-tell",
    ),
}


@pytest.mark.parametrize(("shapes", "given", "verdict"), CASES.values(), ids=CASES)
def test_a_plain_module_is_read_in_every_way(shapes, given, verdict):
    assert pipeline.check(given, base=base(**shapes)).verdict == verdict
