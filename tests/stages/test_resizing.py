"""One field of the config with another value, for every way in which a field makes a size: it is found, alone, and with its value."""

from __future__ import annotations

import pytest

import adapterfit
from adapterfit.expect.methods._layer import Undecided, divisors
from adapterfit.pipeline import cured
from adapterfit.testing import make

QV = {"target_modules": ["q_proj", "v_proj"]}
WAYS = {
    "as many elements as the rank": ({"peft_type": "VERA", "r": 4, **QV}, "r", 6),
    "twice as many": ({"peft_type": "PVERA", "r": 4, **QV}, "r", 6),
    "r (r - 1) / 2 elements": ({"peft_type": "PSOFT", "r": 4, **QV}, "r", 6),
    "the rank times the width": ({"peft_type": "SHIRA", "r": 2, **QV}, "r", 6),
    "the width divided by the rank": ({"peft_type": "RANDLORA", "r": 4, **QV}, "r", 6),
    "one of three sizes": ({"peft_type": "VBLORA", "r": 4, "num_vectors": 9, "vector_length": 8, **QV}, "r", 6),
    "a number of vectors": ({"peft_type": "VBLORA", "r": 4, "num_vectors": 9, "vector_length": 8, **QV}, "num_vectors", 12),
    "a number of frequencies": ({"peft_type": "FOURIERFT", "n_frequency": 20, **QV}, "n_frequency", 30),
    "the size of a block": ({"peft_type": "C3A", "block_size": 16, **QV}, "block_size", 8),
    "a rank of its own name": ({"peft_type": "ADALORA", "init_r": 3, "total_step": 10, **QV}, "init_r", 5),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_field_and_its_value_are_found(way):
    options, name, other = WAYS[way]
    sample = make.adapter("llama", **options).with_config(**{name: other})
    report = adapterfit.check(sample.adapter, base=sample.case.base)
    found = [finding for finding in report.findings if finding.severity == "error"]
    assert [finding.id for finding in found] == ["rank-mismatch"]
    assert report.diff.resized == ((name, options[name]),)
    if found[0].fix.edits:
        assert cured(report, found[0].fix.edits).predicted == "loads"


def test_another_base_is_no_other_field():
    sample = make.adapter("llama", peft_type="VERA", r=4, **QV).on("llama", hidden_size=96)
    report = adapterfit.check(sample.adapter, base=sample.case.base)
    assert report.diff.resized == ()
    assert [finding.id for finding in report.findings if finding.severity == "error"] == ["wrong-base"]


@pytest.mark.parametrize("number", [2**40, 2**52 + 1], ids=("a power of two", "an odd number"))
@pytest.mark.parametrize("method", ["LORA", "OFT", "PEANUT", "LOKR", "VERA", "VBLORA", "SHIRA"])
def test_a_size_that_no_layer_has_is_not_counted_up_to(method, number):
    """The check ends within the seconds that a test has, and calls nothing fitting."""
    options = {"OFT": {"r": 0, "oft_block_size": 4}, "VBLORA": {"r": 4, "vector_length": 8}}.get(method, {"r": 4})
    sample = make.adapter("llama", peft_type=method, **options, **QV)
    hostile = sample.reshaped(lambda name: True, lambda shape: (number, *shape[1:]))
    report = adapterfit.check(hostile.adapter, base=sample.case.base)
    assert report.verdict == "does-not-fit"


def test_a_width_that_no_layer_has_is_not_divided():
    with pytest.raises(Undecided, match="is not divided"):
        divisors(2**50)


def test_more_layers_inside_a_module_than_anyone_trains_are_not_counted():
    sample = make.adapter("llama", peft_type="PEANUT", r=4, depth=1, **QV).with_config(depth=10**9)
    report = adapterfit.check(sample.adapter, base=sample.case.base)
    assert report.verdict == "cannot-tell"
