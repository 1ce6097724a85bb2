"""Quantised bases: which modules are packed, and what becomes of an adapter on them, as it was measured."""

from __future__ import annotations

import pytest

import adapterfit
from adapterfit.expect import modules, packed
from adapterfit.testing import make

FOUR = {"quant_method": "bitsandbytes", "load_in_4bit": True}
EIGHT = {"quant_method": "bitsandbytes", "load_in_8bit": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32}
TWO = {"target_modules": ["q_proj", "v_proj"]}


def packed_names(table, family="llama", **config):
    base = make.base(family, quantization_config=table, **config)
    return [module.name for module in modules.tree(base, base.architecture).modules if module.packing]


def report(sample, consumer=None):
    return adapterfit.check(sample.adapter, base=sample.case.base, consumer=consumer)


def on(sample, table, family="llama", **config):
    return sample.on(family, quantization_config=table, **config)


WHICH = {
    "every projection of both layers, and not the head": (FOUR, 14, "lm_head"),
    "not what llm_int8_skip_modules names": ({**FOUR, "llm_int8_skip_modules": ["down_proj"]}, 13, "down_proj"),
    "a list stands in for the rule that spares the head": ({**FOUR, "llm_int8_skip_modules": ["nothing"]}, 15, "nothing"),
    "AWQ spares the head all the same": ({**AWQ, "modules_to_not_convert": ["nothing"]}, 14, "lm_head"),
    "a pattern spares whole layers, up to the border of a name": (
        {**EIGHT, "llm_int8_skip_modules": [r"model.layers.0", "lm_head"]}, 7, "layers.0.",
    ),
    "GPTQ packs only what it lists": ({**GPTQ, "modules_in_block_to_quantize": [["q_proj", "k_proj"]]}, 4, "v_proj"),
    "a pattern that is none is taken by its letters": ({**FOUR, "llm_int8_skip_modules": ["model.layers.0.(", "lm_head"]}, 14, "lm_head"),
}  # fmt: skip


@pytest.mark.parametrize(("table", "number", "spared"), WHICH.values(), ids=WHICH)
def test_packed_are(table, number, spared):
    found = packed_names(table)
    assert len(found) == number
    assert not [name for name in found if spared in name]


def test_without_a_quantiser_nothing_is_packed():
    assert packed_names({}) == []


def test_t5_keeps_its_wo_in_float32():
    found = packed_names(EIGHT, "t5")
    assert found
    assert not [name for name in found if name.endswith(".wo")]


def test_a_conv1d_of_gpt2_stands_there_as_a_linear_with_its_sizes_the_other_way_round():
    base = make.base("gpt2", quantization_config=FOUR)
    plain = make.base("gpt2")
    name = "transformer.h.0.attn.c_attn"
    found = {m.name: m for m in modules.tree(base, base.architecture).modules}[name]
    before = {m.name: m for m in modules.tree(plain, plain.architecture).modules}[name]
    assert (before.kind, found.kind) == ("Conv1D", "Linear")
    assert found.params["weight"] == before.params["weight"][::-1]


def methods(wanted, packing):
    names = packed.facts()["packings"][packing]["methods"]
    return {name for name, told in names.items() if told.startswith(wanted)}


LOADS = {
    "LoRA on four bits": (make.lora("llama"), FOUR),
    "LoRA on eight bits": (make.lora("llama"), EIGHT),
    "LoRA on GPTQ": (make.lora("llama"), GPTQ),
    "LoRA on AWQ": (make.lora("llama"), AWQ),
    "LoRA on FP8, which was loaded and not run, as it works on every other subclass of nn.Linear": (make.lora("llama"), {"quant_method": "fp8"}),
    "DoRA on four bits": (make.lora("llama", use_dora=True), FOUR),
    "rsLoRA on GPTQ": (make.lora("llama", use_rslora=True), GPTQ),
    "LoRA with the head trained too": (make.lora("llama", modules_to_save=["lm_head"]), FOUR),
    "LoHa on eight bits": (make.adapter("llama", peft_type="LOHA", r=4, **TWO), EIGHT),
    "prompts, which wrap nothing": (make.adapter("llama", peft_type="PROMPT_TUNING", num_virtual_tokens=3, task_type="CAUSAL_LM"), GPTQ),
    "a method that knows no packed module, on those that are left alone": (
        make.adapter("llama", peft_type="LOHA", r=4, **TWO), {**GPTQ, "modules_to_not_convert": ["q_proj", "v_proj"]},
    ),
    "an embedding": (make.lora("llama", target_modules=["embed_tokens"]), GPTQ),
}  # fmt: skip


@pytest.mark.parametrize(("sample", "table"), LOADS.values(), ids=LOADS)
def test_fits(sample, table):
    found = report(on(sample, table))
    assert (found.verdict, found.predicted) == ("fits", "loads"), found.findings


STOPS = {
    "LoHa on four bits, whose matrix it takes for the bytes": (
        make.adapter("llama", peft_type="LOHA", r=4, **TWO), FOUR, "raises", "RuntimeError: Error(s) in loading state_dict",
    ),
    "LoHa on GPTQ": (make.adapter("llama", peft_type="LOHA", r=4, **TWO), GPTQ, "raises", "TypeError: Target module of type <class '…"),
    "DoRA on GPTQ": (make.lora("llama", use_dora=True), GPTQ, "raises", "ValueError: GPTQLoraLinear does not support DoRA"),
    "DoRA on AWQ": (make.lora("llama", use_dora=True), AWQ, "raises", "ValueError: AwqLoraLinear does not support DoRA"),
    "a saved copy of a packed module": (
        make.lora("llama", modules_to_save=["k_proj"]), FOUR, "raises",
        "KeyError: 'base_model.model.model.layers.0.self_attn.k_proj.weight.absmax'",
    ),
    "HRA on four bits, at the first forward pass": (make.adapter("llama", peft_type="HRA", r=4, **TWO), FOUR, "raises", "RuntimeError: mat1"),
    "HRA on eight bits, which reads the packed numbers as weights": (
        make.adapter("llama", peft_type="HRA", r=4, **TWO), EIGHT, "loads-differently", "",
    ),
    "UniLoRA on four bits": (
        make.adapter("llama", peft_type="UNILORA", r=4, save_indices=True, **TWO), FOUR, "loads-without-effect", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sample", "table", "predicted", "line"), STOPS.values(), ids=STOPS)
def test_does_not_fit(sample, table, predicted, line):
    found = report(on(sample, table))
    assert (found.verdict, found.predicted) == ("does-not-fit", predicted)
    assert "quantised-base-unsupported" in {finding.id for finding in found.findings}
    assert (found.raised.text if found.raised else "").startswith(line)


UNKNOWN = {
    "a way of packing that nobody measured": (make.lora("llama"), {"quant_method": "nobody-knows"}, None),
    "an option that was not measured": (make.lora("llama", init_lora_weights="mica"), FOUR, None),
    "a saved copy of a module that nobody measured": (
        make.lora("llama", modules_to_save=["k_proj"]),
        {"quant_method": "nobody-knows", "modules_to_not_convert": ["q_proj", "v_proj"]},
        None,
    ),
    "a saved copy of what packed modules lie in": (make.lora("llama", modules_to_save=["mlp"]), FOUR, None),
    "two options at once": (make.lora("llama", use_dora=True, lora_bias=False, init_lora_weights="olora"), FOUR, None),
    "another method with an older PEFT": (
        make.adapter("llama", peft_type="IA3", feedforward_modules=[], **TWO), FOUR, "peft==0.18.1,transformers==4.57.1",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sample", "table", "consumer"), UNKNOWN.values(), ids=UNKNOWN)
def test_nobody_can_tell(sample, table, consumer):
    found = report(on(sample, table), consumer)
    assert (found.verdict, found.predicted) == ("cannot-tell", "cannot-tell")
    assert any("not measured" in told.why for told in found.not_checked)


def test_what_was_measured_says_with_what():
    assert set(packed.facts()["measured"]) == {"peft", "transformers", "torch", "date"}
    assert all(entry["library"] and entry["methods"]["LORA"] for entry in packed.facts()["packings"].values())


EXPERTS = make.lora("mixtral", target_modules=[], target_parameters=["mlp.experts.down_proj"], peft_version="0.21.2")


def test_target_parameters_of_packed_experts_were_not_measured():
    found = report(on(EXPERTS, FOUR, "mixtral"))
    assert found.verdict == "cannot-tell"
    assert "target_parameters on model.layers.0.mlp.experts" in found.not_checked[0].why


@pytest.mark.parametrize(
    "left_alone", [["mlp.experts"], ["model.layers.*.mlp.experts", "lm_head"]], ids=["a tail", "a pattern"]
)
def test_target_parameters_of_experts_that_are_left_alone_fit(left_alone):
    found = report(on(EXPERTS, {"quant_method": "mxfp4", "modules_to_not_convert": left_alone}, "mixtral"))
    assert found.verdict == "fits", found.not_checked


def test_a_pattern_that_takes_too_long_is_not_taken_by_its_letters():
    found = report(on(make.lora("llama"), {**FOUR, "llm_int8_skip_modules": ["(([a-z._0-9]+)+)+!"]}))
    assert found.verdict == "cannot-tell"


def test_the_judge_with_plain_modules_is_not_asked_about_packed_ones():
    sample = on(make.adapter("llama", peft_type="LOHA", r=4, **TWO), FOUR)
    found = adapterfit.check(sample.adapter, base=sample.case.base, exact=True)
    assert found.predicted == "raises"
    assert "packed" in found.exact.cannot
