"""The file beside the expectation: what lands, what is dropped, what stays empty, and what torch would say."""

import pytest

import adapterfit
from adapterfit.testing import make

PREFIX = "base_model.model.model.layers."


def diff(sample):
    return adapterfit.check(sample.adapter, base=sample.case.base).diff


def lists(found):
    return len(found.matched), len(found.overwrites), len(found.misshapen), len(found.extra), len(found.missing)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        pytest.param(make.lora(), (8, 0, 0, 0, 0), id="every tensor lands"),
        pytest.param(
            make.lora().dropped(lambda n: ".0." in n), (4, 0, 0, 0, 4), id="a missing layer leaves slots empty"
        ),
        pytest.param(make.lora().added({"base_model.model.x": (1,)}), (8, 0, 0, 1, 0), id="a stranger is dropped"),
        pytest.param(
            make.lora().added({"base_model.model.model.norm.weight": (64,)}),
            (8, 1, 0, 0, 0),
            id="a tensor of the base overwrites it",
        ),
        pytest.param(
            make.lora().reshaped(lambda n: n.endswith("A.weight"), lambda shape: (9, shape[1])),
            (4, 0, 4, 0, 0),
            id="another rank does not fit",
        ),
        pytest.param(
            make.lora().renamed(lambda n: n.replace("A.weight", "A.default.weight")),
            (8, 0, 0, 0, 0),
            id="the adapter's own name inside is passed through and lands",
        ),
        pytest.param(
            make.lora(use_dora=True).renamed(lambda n: n.replace("magnitude_vector", "magnitude_vector.weight")),
            (12, 0, 0, 0, 0),
            id="DoRA's vector lands with and without its suffix",
        ),
    ],
)
def test_every_tensor_is_in_exactly_one_list(sample, expected):
    found = diff(sample)
    assert lists(found) == expected
    assert sum(lists(found)[:4]) == len(sample.names)


def test_the_mismatch_is_worded_and_ordered_as_torch_does():
    broken = make.lora().reshaped(lambda n: ".1." in n and "v_proj.lora_A" in n, lambda shape: (9, shape[1]))
    assert diff(broken).raised.text == (
        "RuntimeError: Error(s) in loading state_dict for PeftModelForCausalLM:\n"
        f"\tsize mismatch for {PREFIX}1.self_attn.v_proj.lora_A.default.weight: copying a param with shape "
        "torch.Size([9, 64]) from checkpoint, the shape in current model is torch.Size([4, 64])."
    )


def test_a_missing_saved_module_is_a_bare_key_error():
    broken = make.lora(modules_to_save=["lm_head"]).dropped(lambda n: "lm_head" in n)
    assert diff(broken).raised.text == "KeyError: 'base_model.model.lm_head.weight'"


def test_the_warning_lists_parameters_of_the_method_only():
    broken = make.lora(modules_to_save=["lm_head"]).dropped(lambda n: ".0." in n)
    assert diff(broken).warned == tuple(
        f"{PREFIX}0.self_attn.{name}.lora_{factor}.default.weight" for name in ("q_proj", "v_proj") for factor in "AB"
    )


def test_experts_of_the_old_layout_are_fused_on_arrival():
    new = make.lora("mixtral", target_modules=["w1", "w2", "w3"])
    old = {}
    for layer in range(2):
        for expert in range(4):
            at = f"{PREFIX}{layer}.block_sparse_moe.experts.{expert}"
            for leaf, width, height in (("w1", 64, 128), ("w3", 64, 128), ("w2", 128, 64)):
                old[f"{at}.{leaf}.lora_A.weight"] = (4, width)
                old[f"{at}.{leaf}.lora_B.weight"] = (height, 4)
    found = diff(new.dropped(lambda _: True).added(old))
    assert lists(found) == (48, 0, 0, 0, 0)
    assert (
        found.renamed[f"{PREFIX}0.block_sparse_moe.experts.3.w2.lora_A.weight"]
        == f"{PREFIX}0.mlp.experts.lora_A.weight"
    )


def test_the_permutations_that_old_boft_saved_along_are_redundant_and_not_lost():
    sample = make.adapter("llama", peft_type="BOFT", boft_block_size=4, target_modules=["q_proj"])
    layers = [name for name in sample.names if name.endswith("boft_R")]
    old = sample.added({name.replace("boft_R", "boft_P"): (1, 64, 64) for name in layers})
    found = adapterfit.check(old.adapter, base=old.case.base)
    assert found.predicted == "loads"
    assert [finding.severity for finding in found.findings if finding.at[0].endswith("boft_P")] == ["note"]
