"""What an older PEFT does with fields and methods that came after it."""

import pytest

import adapterfit
from adapterfit.testing import make


def found(sample, peft, cause):
    report = adapterfit.check(sample.adapter, consumer=f"peft=={peft},transformers==4.38.2")
    return next((finding for finding in report.findings if finding.id == cause), None)


@pytest.mark.parametrize(
    ("peft", "predicted"), [("0.5.0", "silent"), ("0.6.2", "raises"), ("0.13.2", "raises"), ("0.14.0", "warns")]
)
def test_a_field_that_says_something_is_an_error_whatever_becomes_of_it(peft, predicted):
    finding = found(make.lora("llama").with_config(kasa_config={"beta": 1.0}), peft, "config-key-unknown")
    assert (finding.severity, finding.predicted) == ("error", predicted)
    assert "since PEFT 0.21.0" in finding.message
    assert not finding.fix.edits


def test_a_field_that_says_nothing_stops_only_those_that_refuse_it_and_may_be_deleted():
    sample = make.lora("llama").with_config(kasa_config=None)
    refused, dropped = (found(sample, peft, "config-key-unknown") for peft in ("0.13.2", "0.14.0"))
    assert (refused.severity, refused.predicted, refused.fix.safety) == ("error", "raises", "safe")
    assert (dropped.severity, dropped.predicted, dropped.fix.safety) == ("note", "warns", "safe")


def test_the_field_named_is_the_first_of_the_file():
    sample = make.lora("llama").with_config(use_dora=False, corda_config=None, eva_config=None)
    finding = found(sample, "0.8.2", "config-key-unknown")
    assert "unexpected keyword argument 'use_dora'" in finding.message


def test_a_field_the_consumer_knows_is_not_mentioned():
    assert found(make.lora("llama").with_config(use_dora=True), "0.9.0", "config-key-unknown") is None


@pytest.mark.parametrize(("peft", "fires"), [("0.5.0", True), ("0.6.0", False), ("0.21.2", False)])
def test_a_method_younger_than_the_consumer_is_unknown_to_it(peft, fires):
    finding = found(make.adapter("llama", peft_type="LOHA"), peft, "unknown-peft-type")
    assert (finding is not None) == fires
    assert finding is None or (finding.predicted, finding.fix.summary) == (
        "raises",
        "pip install 'peft>=0.6.0,<0.14.0'",
    )
