"""One field of the config with another value, for every way in which a field makes a size: it is found, alone, and with its value."""

from __future__ import annotations

import pytest

import adapterfit
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
