"""What PEFT really saved, method by method, beside what we expect it to: without torch."""

import json
from pathlib import Path

import pytest

import adapterfit
from adapterfit.testing import make

GOLD = json.loads(Path(__file__).with_name("saved.json").read_text("utf-8"))
ADAPTERS = {name: one for name, one in GOLD.items() if name != "made"}

#: FRoD's directions are found beside a basis that the machine computes: whether they fit it, no header shows.
OF_THE_MACHINE = {"llama frod"}


@pytest.mark.parametrize("name", ADAPTERS)
def test_we_expect_what_peft_saved(name):
    gold = {key: tuple(shape) for key, shape in ADAPTERS[name]["tensors"].items()}
    sample = make.adapter(ADAPTERS[name]["family"], **ADAPTERS[name]["config"])
    ours = {tensor.name: tensor.shape for tensor in sample.adapter.tensors}
    of_the_base = {key: shape for key, shape in gold.items() if key not in ours}
    assert {**ours, **of_the_base} == gold
    report = adapterfit.check(sample.added(of_the_base).adapter, base=sample.case.base)
    ours = "cannot-tell" if name in OF_THE_MACHINE else "loads"
    assert (report.predicted, report.diff.extra, report.diff.misshapen) == (ours, (), ())
