"""Every cause against its own examples: silent stays silent, firing fires, and the cure cures without new harm."""

from __future__ import annotations

from functools import cache

import pytest

import adapterfit
from adapterfit.diagnose.registry import all_causes
from adapterfit.pipeline import cured
from adapterfit.plan.cures import safe_edits
from adapterfit.testing import make


@cache
def examples(cause_id):
    entry = next(entry for entry in all_causes() if entry.id == cause_id)
    return entry.module.examples(make) if hasattr(entry.module, "examples") else {}


def cases(kind):
    for entry in all_causes():
        for at, _sample in enumerate(examples(entry.id).get(kind, ())):
            yield pytest.param(entry.id, at, id=f"{entry.id} {kind} example {at + 1}")


def report(sample, served=False):
    """The check of a sample; for a cause that only a server minds, with an engine asked for."""
    asked = "vllm" if served else sample.case.consumer if sample.case.consumer.given else None
    return adapterfit.check(sample.adapter, base=sample.case.base, consumer=asked)


def is_for_servers(cause_id):
    return next(entry.cause.served for entry in all_causes() if entry.id == cause_id)


def found(sample, served=False):
    return {finding.id for finding in report(sample, served).findings}


@pytest.mark.parametrize(("cause", "at"), list(cases("fires")))
def test_a_firing_example_fires_and_a_safe_cure_silences_it_and_brings_nothing_new(cause, at):
    before = report(examples(cause)["fires"][at], is_for_servers(cause))
    own = [f for f in before.findings if f.id == cause]
    assert own
    if any(f.fix and f.fix.safety == "safe" and f.fix.edits for f in own):
        after = cured(before, safe_edits(before)).findings
        assert cause not in {f.id for f in after}
        assert {f.id for f in after if f.severity != "note"} <= {f.id for f in before.findings}


@pytest.mark.parametrize(("cause", "at"), list(cases("silent")))
def test_a_silent_example_stays_silent(cause, at):
    assert cause not in found(examples(cause)["silent"][at], is_for_servers(cause))


SERVED = [entry.id for entry in all_causes() if entry.cause.served]


@pytest.mark.parametrize("cause", SERVED)
def test_what_only_a_server_minds_is_not_said_where_none_is_asked_for(cause):
    assert [at for at, sample in enumerate(examples(cause)["fires"]) if cause in found(sample)] == []


SEEN_IN_FILES = [entry for entry in all_causes() if hasattr(entry.module, "check") or entry.cause.codes]


@pytest.mark.parametrize("entry", SEEN_IN_FILES, ids=lambda entry: entry.id)
def test_a_cause_has_examples_that_fire_and_examples_that_do_not(entry):
    both = examples(entry.id)
    assert both.get("fires"), "no firing example"
    assert both.get("silent"), "no silent example"
