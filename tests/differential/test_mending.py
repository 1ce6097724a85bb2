"""Adapters broken as users' are, mended by `adapterfit.fix`, loaded by real PEFT: the logits are those of the whole adapter.

A sample of what `make fix-score` measures in full.
"""

from __future__ import annotations

import breaking
import crossing
import measured
import mending
import pytest

import shared_data

pytestmark = [pytest.mark.exact, pytest.mark.slow]
#: One of each kind of layer, head, prompt and base.
SAMPLE = (
    "llama lora", "llama lora and token rows", "bert biases", "mixtral experts", "llava language", "qwen2 lokr",
    "gpt2 ia3", "llama boft", "llama miss", "gpt2 p-tuning", "vit classifier",
)  # fmt: skip
#: What is mended for every one of them to which it applies.
ALWAYS = ("DDP's prefix", "PEFT's prefix lost", "names of the bare model", "an adapter called 0", "a target forgotten",
          "DDP's prefix and a method in small letters")  # fmt: skip
REFUSED = ("refused", "cannot tell")


@pytest.mark.parametrize("name", SAMPLE)
def test_what_is_mended_computes_what_it_did_before_it_was_broken(name, tmp_path):
    found = {way: breaking.mended(name, way, tmp_path) for way in breaking.WAYS}
    applied = {way: outcome for way, outcome in found.items() if outcome is not None}
    assert {way: outcome.why for way, outcome in applied.items() if outcome.word == "wrong"} == {}
    assert {way: outcome.why for way, outcome in applied.items() if way in ALWAYS and outcome.word in REFUSED} == {}


@pytest.mark.parametrize("name", crossing.NAMES[::4])
def test_an_adapter_mended_for_another_implementation_of_its_base_computes_the_same(name, tmp_path):
    found = crossing.mended(name, tmp_path)
    assert found.word in ("equal", "close", "untouched"), found
    assert bool(found.cures) == (found.word != "untouched")


@pytest.mark.parametrize(
    ("name", "way"),
    [
        pytest.param("on levit", "FSDP around each layer", id="a model with a module called module, wrapped by FSDP"),
        pytest.param("on encodec", "a target forgotten", id="a layer with weight norm that the config forgets"),
    ],
)
def test_of_an_odd_architecture(name, way, tmp_path):
    found = breaking.mended(name, way, tmp_path)
    assert found is not None
    assert found.word == "equal", found


def test_a_cure_that_changes_nothing_is_seen(tmp_path):
    one = breaking.saved("llama lora", tmp_path)
    assert breaking.broke(one, "DDP's prefix", tmp_path / "broken")
    judged = mending.judged(tmp_path / "broken", one.fresh, breaking.computed, one.logits, breaking.CLOSE)
    assert judged.word == "wrong"


@pytest.mark.corpus
def test_adapters_of_the_matrix_that_todays_peft_fails_on_are_mended_or_refused(tmp_path):
    shared_data.need(shared_data.MATRIX)
    found = {str(one): measured.mended(one, tmp_path / str(at)) for at, one in enumerate(list(measured.failing())[::6])}
    assert {name: outcome for name, outcome in found.items() if outcome.word in ("wrong", "untouched")} == {}
    assert sum(outcome.word in ("equal", "close") for outcome in found.values()) > len(found) / 2
