"""A folder whose adapter lies in the state dict of a whole PEFT model; and a file that holds two adapters."""

from __future__ import annotations

import pytest

import adapterfit
from adapterfit.testing import make

WHOLE = make.lora("llama").renamed(lambda name: name.replace(".weight", ".default.weight"))
BASE_TENSORS = {f"base_model.model.model.layers.0.mlp.{name}_proj.weight": (64, 32) for name in ("up", "gate")}
INSIDE = make.as_files(WHOLE.added(BASE_TENSORS))
PLAIN = make.as_files(
    make.lora("llama").renamed(lambda name: name.replace(".lora_A.", ".a.").replace(".lora_B.", ".b."))
)


def finding(files):
    found = adapterfit.check(make.folder(files).adapter, base=make.base("llama"))
    return found.findings[0]


def test_without_a_config_it_is_a_checkpoint_of_a_trainer_and_not_a_merged_model():
    told = finding({"model.safetensors": INSIDE[make.WEIGHTS]})
    assert told.id == "adapter-config-missing"
    assert "whole PEFT model: 8 of its 10 tensors are the adapter's" in told.message
    assert "get_peft_model" in told.fix.summary


def test_beside_a_config_the_repair_is_named():
    config = {name: data for name, data in INSIDE.items() if name != make.WEIGHTS}
    told = finding({**config, "model.safetensors": INSIDE[make.WEIGHTS]})
    assert told.id == "wrong-file-in-folder"
    assert "adapterfit fix sample/model.safetensors --base BASE --out DIR --drop-copies" in told.fix.summary


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.safetensors", "model-00001-of-00002.safetensors"])
def test_a_merged_model_is_still_one(name):
    told = finding({name: PLAIN[make.WEIGHTS], "config.json": b"{}"})
    assert (told.id, told.code) == ("adapter-config-missing", "merged-model-folder")


def test_a_second_adapter_in_the_file_is_called_by_its_name():
    two = make.lora("llama").added({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.ref.weight": (8, 32)})
    found = adapterfit.check(two.adapter, base=two.case.base)
    told = next(each for each in found.findings if each.id == "loader-drops-keys-silently")
    assert 'a second adapter, "ref": 1 tensor of it' in told.message
    assert found.predicted == "loads-partly"
