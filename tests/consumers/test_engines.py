"""`check --for ENGINE`: what one engine does, what is said where nobody knows, and the exit code."""

import json

import pytest

import adapterfit
from adapterfit.errors import CannotCheck
from adapterfit.testing import make
from adapterfit.testing.bases import CONFIGS
from adapterfit.testing.disk import lay


def served(sample, *engines):
    """The report's answers for these engines."""
    return adapterfit.check(sample.adapter, base=sample.case.base, consumer=list(engines)).consumers


def one(sample, engine="vllm==0.33.0"):
    """The answer of one engine."""
    (answer,) = served(sample, engine)
    return answer


def says(answer):
    return [effect.says for effect in answer.effects if effect.kind == "refused"]


@pytest.mark.parametrize(
    ("sample", "line"),
    [
        (make.lora(use_dora=True), "vLLM does not yet support DoRA."),
        (make.lora(bias="all"), "Adapter bias is not supported."),
        (make.lora(lora_bias=True), "vLLM does not support LoRA bias (lora_bias)."),
        (make.lora(r=1024), "LoRA rank 1024 is greater than max_lora_rank 512."),
        (
            make.lora("llama", r=4).on("gpt2", architectures=["GPT2LMHeadModel"]),
            "LoRA is not supported for GPT2LMHeadModel (BASE). Supported models implement the `SupportsLoRA` interface…",
        ),
        (
            make.lora("qwen2", target_modules=["q_proj", "lm_head"]),
            "While loading ADAPTER, expected target modules in {…} but received ['lm_head']. Please verify that the loaded LoRA module is correct",
        ),
        (make.lora().without_config("lora_alpha"), "Missing required configuration fields: {'lora_alpha'}"),
    ],
    ids=["DoRA", "bias", "lora_bias", "rank", "no LoRA for GPT-2", "no LoRA on the output layer of Qwen2", "no alpha"],
)
def test_vllm_refuses_in_its_own_words(sample, line):
    answer = one(sample)
    assert answer.predicted == "raises"
    assert answer.accepted == "no"
    assert line in says(answer)


@pytest.mark.parametrize(
    ("rank", "limit", "accepted"), [(4, 8, "yes"), (16, 16, "yes"), (24, 32, "with-flags"), (64, 64, "with-flags")]
)
def test_vllm_is_started_with_the_next_rank_of_its_list(rank, limit, accepted):
    answer = one(make.lora(r=rank))
    assert answer.accepted == accepted
    assert f"--max-lora-rank {limit} " in answer.launch[0]


@pytest.mark.parametrize("config", [{}, {"use_rslora": True}, {"alpha_pattern": {"q_proj": 32}}], ids=str)
def test_openvino_is_given_one_number_where_one_is_right_for_all_modules(config):
    sample = make.lora(**config)
    answer = one(sample, "openvino-genai")
    scales = {f"{ratio.trained:g}" for ratio in answer.ratios}
    (told,) = [effect.message for effect in answer.effects if effect.claim == "scale-given"]
    if len(scales) == 1:
        assert f"give {scales.pop()} as" in told
        assert "AdapterConfig(adapter, " in answer.launch[-1]
    else:
        assert "none is right" in told
        assert answer.launch == ()
        assert "--to plain" in answer.run


def test_a_wrappers_prefix_is_passed_over_without_a_word():
    answer = one(make.lora().renamed(lambda name: name.replace("model.model.", "model._orig_mod.model.", 1)))
    assert (answer.predicted, answer.applied) == ("loads-without-effect", 0)


def multimodal():
    """A base whose language model is a part of it."""
    return make.base("llava", architectures=["LlavaForConditionalGeneration"])


@pytest.mark.parametrize("old", [False, True], ids=["today's names", "the names of its text model alone"])
def test_names_of_a_language_model_land_in_vllms_multimodal_one(old):
    sample = make.lora(base=multimodal(), target_modules=r".*language_model.*\.(q_proj|v_proj)")
    if old:
        sample = sample.renamed(lambda name: name.replace("model.model.language_model.", "model.model."))
    assert (one(sample).predicted, one(sample).applied) == ("loads", 8)


def test_a_vision_tower_needs_a_flag_and_is_left_out_elsewhere():
    sample = make.lora(base=multimodal(), target_modules=r".*vision_tower.*\.q_proj")
    assert one(sample).accepted == "with-flags"
    assert one(sample, "llama.cpp").predicted == "loads-without-effect"


def test_experts_with_pairs_of_their_own_are_taken_where_all_have_one():
    shapes = {"gate_proj": (32, 64), "up_proj": (32, 64), "down_proj": (64, 32)}
    pairs = {
        f"base_model.model.model.layers.{layer}.mlp.experts.{expert}.{leaf}.lora_{half}.weight": shape
        for layer in range(2)
        for expert in range(4)
        for leaf, (out, width) in shapes.items()
        for half, shape in (("A", (4, width)), ("B", (out, 4)))
    }
    base = make.base("mixtral", moe_intermediate_size=32)
    whole = make.lora(base=base).added(pairs)
    assert one(whole).predicted != "raises"
    short = whole.dropped(lambda name: "experts.3." in name)
    assert any("each of the 4 experts" in effect.message for effect in one(short).effects if effect.kind == "refused")


def test_layers_beyond_the_base_are_dropped():
    answer = one(make.lora().on("llama", num_hidden_layers=1))
    assert (answer.predicted, answer.applied, answer.tensors) == ("loads-partly", 4, 8)


@pytest.mark.parametrize("engine", ["vllm==0.12.0", "vllm>0.33.0", "nobodys-server==1"])
def test_a_version_or_an_engine_without_facts_is_never_guessed(engine):
    answer = one(make.lora(), engine)
    assert (answer.predicted, answer.known) == ("cannot-tell", False)
    assert answer.not_checked


def test_a_range_is_answered_for_the_newest_known_version_in_it_and_the_rest_is_said():
    answer = one(make.lora(), "vllm>=0.20")
    assert (answer.version, answer.predicted) == ("0.33.0", "loads")
    assert [gap.what for gap in answer.not_checked] == ["the rest of vLLM >=0.20"]


@pytest.mark.parametrize(
    "sample",
    [
        make.lora().with_config(r=8),
        make.lora().reshaped(lambda name: "lora_A" in name, lambda shape: (0, shape[1])),
        make.lora().on("llama", hidden_size=32),
        make.lora().on("llama", hidden_size=128),
        make.lora(target_modules=["embed_tokens"]).on("llama", vocab_size=300),
    ],
    ids=["another rank", "empty tensors", "a smaller base", "a larger base", "another vocabulary"],
)
def test_no_engine_is_fine_with_what_does_not_fit_the_base(sample):
    assert [answer.name for answer in served(sample, "all") if answer.predicted == "loads"] == []


def test_without_a_base_nothing_is_called_fine():
    answer = one(make.lora().on_base(None))
    assert answer.predicted == "cannot-tell"
    assert any("no base" in gap.why for gap in answer.not_checked)


def test_without_a_base_a_refusal_of_the_config_is_still_certain():
    assert one(make.lora(use_dora=True).on_base(None)).predicted == "raises"


def test_a_text_that_is_no_consumer_is_refused():
    with pytest.raises(CannotCheck):
        one(make.lora(), "vllm; rm -rf")


def test_the_report_is_about_peft_all_the_same():
    sample = make.lora(use_dora=True)
    report = adapterfit.check(sample.adapter, base=sample.case.base, consumer="vllm==0.33.0")
    assert (report.verdict, report.predicted) == ("fits", "loads")
    assert [(found.code, found.severity, found.predicted) for found in report.findings] == [("vllm", "error", "raises")]


@pytest.fixture
def folders(tmp_path):
    """A DoRA and its base on disk."""
    lay(tmp_path / "dora", make.as_files(make.lora(use_dora=True)))
    lay(tmp_path / "base", {"config.json": json.dumps(CONFIGS["llama"]).encode()})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "code"),
    [(["vllm==0.33.0"], 1), (["all"], 0), (["vllm==0.1"], 2), (["peft==0.21.2", "vllm"], 1), ([], 0)],
    ids=["an engine that refuses is a finding", "the table of all informs", "no facts", "beside PEFT", "nobody asked"],
)
def test_the_exit_code(adapterfit, folders, asked, code):
    options = [part for each in asked for part in ("--for", each)]
    assert adapterfit("check", "dora", "--base", "base", *options).returncode == code


def test_an_engine_without_facts_is_answered_with_those_that_have_some():
    (answer,) = adapterfit.check(make.lora("llama").adapter, consumer="vlm").consumers
    assert answer.effects[0].message == "there are no facts about it"
    assert "did you mean vllm?" in answer.not_checked[0].why
