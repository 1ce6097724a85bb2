"""Ranges of versions: the pairs they stand for, the worst of them, and who can have written and can read a config."""

import json

import pytest

import adapterfit
from adapterfit.consumers.ranges import pairs, spans
from adapterfit.read.config_then import readable_by
from adapterfit.testing import make


def check(sample, consumer, loader=None):
    return adapterfit.check(sample.adapter, base=sample.case.base, consumer=consumer, loader=loader)


def test_a_range_without_transformers_stands_beside_what_can_be_imported():
    found = [(each.peft, each.transformers) for each in pairs("peft>=0.17,<0.18.1")]
    assert found == [("0.17.0", "4.57.6"), ("0.17.1", "4.57.6"), ("0.18.0", "5.23.0")]


def test_a_range_of_transformers_is_tried_at_both_ends():
    found = [(each.peft, each.transformers) for each in pairs("peft==0.21.2,transformers>=4.40,<5.3")]
    assert found == [("0.21.2", "4.43.4"), ("0.21.2", "5.2.0")]


def test_a_range_of_transformers_alone_stands_beside_the_newest_peft_that_can_be_imported():
    found = [(each.peft, each.transformers) for each in pairs("transformers>=4.42,<4.45")]
    assert found == [("0.13.2", "4.42.4"), ("0.21.2", "4.43.4"), ("0.21.2", "4.44.2")]


def test_what_each_transformers_of_a_range_does_is_said():
    found = check(make.lora("llama", kasa_config={"beta": 1.0}), "transformers>=4.42,<4.45")
    assert found.predicted == "raises"
    said = "raises with transformers 4.42.4 beside peft 0.13.2; loads with transformers 4.43.4 to 4.44.2 beside peft 0.21.2"
    assert found.case.consumer.text.endswith(said)


@pytest.mark.parametrize("text", ["peft>=9", "peft", ">=0.18", "peft>=x", "vllm>=0.1"])
def test_what_is_no_range_is_a_clear_error(text):
    with pytest.raises(adapterfit.CannotCheck):
        pairs(text)


def test_the_worst_version_answers_and_is_named():
    found = check(make.lora("llama", use_rslora=True), "peft>=0.13,<0.15")
    assert found.predicted == "raises" or found.predicted == "loads"
    worst = check(make.lora("llama", kasa_config={"beta": 1.0}), "peft>=0.13,<0.22")
    assert worst.predicted == "raises"
    assert worst.case.consumer.peft == "0.13.2"
    assert worst.case.consumer.text.startswith("peft>=0.13,<0.22: of ")
    assert "raises with peft 0.13.0 to 0.13.2; " in worst.case.consumer.text
    assert worst.case.consumer.text.endswith("loads with peft 0.21.0 to 0.21.2")


def test_a_range_of_versions_that_all_load_loads():
    found = check(make.lora("llama"), "peft>=0.18")
    assert (found.predicted, found.verdict) == ("loads", "fits")


@pytest.mark.parametrize(
    ("fields", "oldest", "inside", "outside"),
    [
        ({"use_rslora": True}, "0.8.0", ["0.8.0", "0.13.2", "0.21.2"], ["0.7.1", "0.5.0"]),
        ({"kasa_config": None}, "0.3.0", ["0.5.0", "0.14.0", "0.21.2"], ["0.6.0", "0.13.2"]),
        ({"alora_invocation_tokens": [1, 2]}, "0.18.0", ["0.18.0"], ["0.17.1", "0.14.0", "0.5.0"]),
    ],
    ids=["rslora", "an idle new field", "aLoRA"],
)
def test_who_can_read_a_config_without_losing_a_setting(fields, oldest, inside, outside):
    versions = readable_by(make.lora("llama").with_config(**fields).adapter.config)
    assert set(inside) <= set(versions)
    assert not set(outside) & set(versions)
    assert oldest in versions or oldest == "0.3.0"


def test_releases_in_a_row_are_joined():
    assert spans(["1", "2", "4"], ("1", "2", "3", "4")) == "1 to 2, 4"


def test_json_says_who_can_have_written_and_can_read_it(adapterfit, tmp_path):
    config = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"], "use_rslora": True}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    found = json.loads(adapterfit("check", ".", "--format", "json").stdout)["adapter"]
    assert found["written_by"] == {"oldest": "0.8.0", "newest": "0.21.2"}
    assert found["read_by"] == "0.8.0 to 0.21.2"


def test_what_a_release_does_beside_one_transformers_alone_is_said_of_that_one():
    found = check(make.lora("llama", use_dora=True), "peft>=0.17,transformers>=4.50", "model.load_adapter")
    parts = found.case.consumer.text.split(": ", 2)[2].split("; ")
    assert any(part.startswith("raises ") and part.endswith("0.18.1 beside transformers 5.23.0") for part in parts)
    assert any(part.startswith("loads ") and part.endswith("0.21.2 beside transformers 4.50.3") for part in parts)
