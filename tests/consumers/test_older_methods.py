"""What older peft and transformers do with single methods, both sides of each boundary as real ones were seen to do it."""

import pytest

import adapterfit
from adapterfit.consumers.choice import choose
from adapterfit.testing import make

ADALORA = {"peft_type": "ADALORA", "init_r": 3, "total_step": 10, "target_modules": ["q_proj"], "lora_alpha": 4}
PROMPTS = {"peft_type": "ADAPTION_PROMPT", "adapter_len": 4, "adapter_layers": 1}
CPT = {"peft_type": "CPT", "cpt_token_ids": [5, 6, 7]}
VERA = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"]}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["query"]}


def report(sample, peft, transformers):
    who = choose(f"peft=={peft},transformers=={transformers}")
    return adapterfit.check(sample.adapter, base=sample.case.base, consumer=who)


@pytest.mark.parametrize(
    ("peft", "transformers", "line"),
    [
        ("0.9.0", "4.38.2", ""),
        ("0.10.0", "4.39.3", ""),
        ("0.11.0", "4.41.2", "ValueError: PeftType.ADALORA does not support DoRA."),
    ],
)
def test_adalora_takes_no_notice_of_dora_before_0_11(peft, transformers, line):
    known = ("peft_type", "init_r", "total_step", "target_modules", "lora_alpha", "task_type", "use_dora")
    sample = make.adapter("llama", **ADALORA).with_config(use_dora=True)
    found = report(sample.without_config(*(set(sample.case.adapter.config.raw) - set(known))), peft, transformers)
    assert (found.raised.text if found.raised else "") == line
    assert found.predicted == ("raises" if line else "loads")


@pytest.mark.parametrize(
    ("family", "peft", "raises"),
    [
        ("gpt2", "0.4.0", True), ("gpt2", "0.14.0", True), ("gpt2", "0.16.0", True), ("gpt2", "0.17.0", False),
        ("llama", "0.10.0", False), ("llama", "0.14.0", False),
    ],
)  # fmt: skip
def test_adaption_prompts_are_for_gpt2_since_0_17(family, peft, raises):
    sample = make.adapter(family, **PROMPTS)
    keys = set(sample.case.adapter.config.raw) - {"peft_type", "adapter_len", "adapter_layers", "task_type"}
    transformers = "4.31.0" if peft in ("0.4.0", "0.10.0") else "4.45.2" if peft == "0.14.0" else "4.51.3"
    found = report(sample.without_config(*keys), peft, transformers)
    assert (found.predicted == "raises") == raises
    assert not raises or found.raised.text.startswith(
        "ValueError: Unsupported model type for adaption prompt: '{model."
    )


@pytest.mark.parametrize(
    ("peft", "held", "raises"), [("0.4.0", 2, True), ("0.9.0", 2, True), ("0.9.0", 4, False), ("0.10.0", 2, False)]
)
def test_adaption_prompts_of_grouped_heads_run_since_0_10(peft, held, raises):
    sample = make.adapter("llama", **PROMPTS, base=make.base("llama", num_key_value_heads=held))
    keys = set(sample.case.adapter.config.raw) - {"peft_type", "adapter_len", "adapter_layers", "task_type"}
    found = report(sample.without_config(*keys), peft, "4.31.0")
    assert (found.raised is not None and found.raised.stage == "forward") == raises
    assert not raises or found.raised.line == "shape '[1, 4, 4, 16]' is invalid for input of size 128"


@pytest.mark.parametrize(("peft", "raises"), [("0.14.0", False), ("0.17.1", False), ("0.18.0", True)])
def test_a_cpt_takes_any_task_before_0_18(peft, raises):
    sample = make.adapter("llama", **CPT, task_type="CAUSAL_LM").with_config(task_type="SEQ_CLS")
    assert report(sample, peft, "4.48.3").predicted == ("raises" if raises else "loads")


def test_a_cpt_of_0_14_looks_for_its_sizes_in_the_whole_config():
    sample = make.adapter("llama", **CPT, task_type="CAUSAL_LM").on("llava")
    assert report(sample, "0.14.0", "4.48.3").raised.text == "ValueError: Please specify `num_layers` in `peft_config`"
    assert report(sample, "0.20.0", "5.10.0").raised is None


@pytest.mark.parametrize("method", ["VERA", "PVERA"])
def test_projections_that_are_not_read_may_have_any_size(method):
    """With fewer targets the largest is another one: 0.20 draws projections of its size, 0.21 refuses those of the file."""
    whole = make.adapter("llama", **VERA, peft_type=method)
    sample = whole.with_config(target_modules=["q_proj", "v_proj"]).dropped(lambda name: "down_proj" in name)
    then, now = report(sample, "0.20.0", "5.10.0"), report(sample, "0.21.0", "5.10.0")
    assert (then.predicted, now.predicted) == ("loads-differently", "raises")
    assert "seed-dependent" in {found.id for found in then.findings if found.severity == "error"}
    note = [found for found in report(whole, "0.20.0", "5.10.0").findings if found.id == "seed-dependent"]
    assert [found.severity for found in note] == ["note"]
    assert report(whole, "0.20.0", "5.10.0").predicted == "loads"


@pytest.mark.parametrize(
    ("peft", "predicted"), [("0.19.0", "loads-differently"), ("0.19.1", "loads-differently"), ("0.20.0", "loads")]
)
def test_tinyloras_projections_are_drawn_without_a_seed_by_0_19(peft, predicted):
    """Measured: what 0.21.2 saved without its projections gives other outputs with 0.19.1, and the same with 0.20.0."""
    sample = make.adapter(
        "llama", peft_type="TINYLORA", save_projection=False, target_modules=["q_proj"], peft_version="0.21.2"
    )
    assert report(sample, peft, "5.10.0").predicted == predicted


@pytest.mark.parametrize("left", ["vera_A", "vera_B"])
def test_of_projections_that_are_not_read_only_a_is_looked_for(left):
    sample = make.adapter("llama", **VERA, peft_type="VERA").dropped(lambda name: name.endswith(left))
    assert (report(sample, "0.20.0", "5.10.0").predicted == "raises") == (left == "vera_A")


@pytest.mark.parametrize(
    ("transformers", "class_name", "predicted"),
    [
        ("4.31.0", "BertForSequenceClassification", "loads"),
        ("4.51.3", "BertForSequenceClassification", "loads"),
        ("4.52.1", "BertForSequenceClassification", "raises"),
        ("4.51.3", "BertModel", "raises"),
    ],
)
def test_before_transformers_4_52_every_class_can_be_asked_for_generation(transformers, class_name, predicted):
    sample = make.adapter("bert", **LORA, peft_type="LORA", task_type=None).with_config(task_type="CAUSAL_LM")
    if class_name == "BertModel":
        sample = sample.renamed(lambda name: name.replace(".bert.", "."))
    keys = set(sample.case.adapter.config.raw) - {"peft_type", "r", "lora_alpha", "target_modules", "task_type"}
    who = choose(f"peft==0.4.0,transformers=={transformers}")
    found = adapterfit.check(
        sample.without_config(*keys).adapter, base=sample.case.base, consumer=who, base_class=class_name
    )
    assert found.predicted == predicted
    stage = {"4.51.3": "forward", "4.52.1": "inject"}
    assert found.raised is None or found.raised.stage == stage[transformers]


@pytest.mark.parametrize(("transformers", "predicted"), [("4.51.3", "loads"), ("4.57.3", "loads"), ("5.1.0", "raises")])
def test_a_masked_language_model_could_be_asked_for_generation_until_5_1(transformers, predicted):
    """Measured with PEFT 0.18.1 beside 4.57.3 and 0.21.2 beside 5.23.0, loaded and run."""
    sample = make.adapter("bert", **LORA, peft_type="LORA", task_type=None).with_config(task_type="CAUSAL_LM")
    who = choose(f"peft==0.18.1,transformers=={transformers}")
    found = adapterfit.check(sample.adapter, base=sample.case.base, consumer=who, base_class="BertForMaskedLM")
    assert found.predicted == predicted


def test_a_target_of_ia3_needs_its_dot_before_0_5_too():
    """T5's (IA)³ has `k` among its targets, which `encoder.block` ends with."""
    sample = make.adapter("t5", peft_type="IA3", task_type="SEQ_2_SEQ_LM")
    assert report(sample.with_config(target_modules=None), "0.4.0", "4.31.0").raised is None


def test_what_peft_converts_for_transformers_5_may_carry_the_adapters_name():
    """Measured with 0.20.0 beside 5.10.0: the conversion takes the name out again before PEFT puts it in."""
    named = {
        family: make.lora(family).renamed(lambda name: name.replace("A.weight", "A.default.weight"))
        for family in ("mixtral", "llama")
    }
    assert {family: report(sample, "0.20.0", "5.10.0").predicted for family, sample in named.items()} == {
        "mixtral": "loads",
        "llama": "loads-partly",
    }


def test_experts_of_a_file_whose_names_are_known_nowhere_are_no_crash():
    sample = make.adapter(
        "mixtral",
        peft_type="LORA",
        r=4,
        lora_alpha=8,
        target_modules=["q_proj"],
        target_parameters=["experts.gate_up_proj"],
    ).renamed(lambda name: name.replace("base_model.model.", "", 1))
    assert report(sample, "0.14.0", "4.48.3").predicted == "loads-without-effect"
