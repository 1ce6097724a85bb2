"""Every cause that reads logs, against its own texts: those that fire are answered with it first, the others are not."""

from __future__ import annotations

import re

import pytest

import adapterfit
from adapterfit.causes.heard import ALIKE
from adapterfit.diagnose.registry import all_causes
from adapterfit.read.log import read_log

READERS = [entry for entry in all_causes() if hasattr(entry.module, "recognise")]


def texts(kind):
    for entry in READERS:
        for at, text in enumerate(entry.module.logs().get(kind, ())):
            yield pytest.param(entry.id, text, id=f"{entry.id} {kind} log {at + 1}")


def first(text):
    causes = adapterfit.why(text).causes
    return causes[0].id if causes else ""


@pytest.mark.parametrize(("cause", "text"), list(texts("fires")))
def test_a_log_of_a_cause_is_answered_with_it_first_quotes_the_text_and_says_what_to_look_at_if_unsure(cause, text):
    answers = adapterfit.why(text).causes
    answer = answers[0]
    assert answer.id == cause
    assert answer.evidence
    assert answer.message
    assert answer.fix is not None
    unsure = [one for one in answers if one.confidence != "high"]
    assert [one.id for one in unsure if not one.apart] == [], "it does not say what to look at"


@pytest.mark.parametrize(("cause", "text"), list(texts("as likely")))
def test_a_log_that_several_causes_have_is_answered_with_each_as_likely(cause, text):
    causes = adapterfit.why(text).causes
    assert cause in {one.id for one in causes if one.likelihood + ALIKE >= causes[0].likelihood}


@pytest.mark.parametrize(("cause", "text"), list(texts("silent")))
def test_a_look_alike_is_answered_with_something_else(cause, text):
    assert first(text) != cause


@pytest.mark.parametrize(
    "text",
    [
        "size mismatch for base_model.model.model.embed_tokens.modules_to_save.default.weight: copying a param with shape",
        "size mismatch for lora_adapter.weight: copying a param with shape [64, 64] from checkpoint, the shape in current model is [32, 64].",
    ],
    ids=["cut off before the sizes", "one side of one tensor"],
)
def test_a_number_that_the_text_does_not_tell_is_not_given_as_zero(text):
    for answer in adapterfit.why(text).causes:
        assert not re.search(r"\b0 rows|\br to 0\b|r=0\b|rank 0\b", f"{answer.message} {answer.fix.summary}"), answer.id


@pytest.mark.parametrize("entry", READERS, ids=lambda entry: entry.id)
def test_a_cause_has_logs_of_its_own_and_look_alikes(entry):
    assert entry.module.logs().get("fires") or entry.module.logs().get("as likely"), "no log that fires"
    assert entry.module.logs().get("silent"), "no look-alike"


@pytest.mark.parametrize("entry", READERS, ids=lambda entry: entry.id)
@pytest.mark.parametrize("text", ["", "\n", "hello", "x" * 5000, "\x00\x1b[31m", "Traceback (most recent call last):"])
def test_a_text_that_tells_nothing_gives_no_answer(entry, text):
    assert list(entry.module.recognise(read_log(text))) == []
