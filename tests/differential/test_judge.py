"""`--exact`: the installed PEFT on the meta device, in its own process, beside our prediction."""

import dataclasses
import json
import sys

import pytest

import adapterfit
from adapterfit.judging import beside
from adapterfit.records import Exact
from adapterfit.report import json as json_report
from adapterfit.report import text
from adapterfit.testing import make

pytestmark = pytest.mark.exact

SAMPLES = {
    "a plain LoRA": make.lora(),
    "a wrapper's prefix": make.lora().renamed(lambda n: "module." + n),
    "another rank": make.lora().reshaped(lambda n: "A.weight" in n, lambda shape: (9, shape[1])),
    "another base": make.lora().on("gpt2"),
    "a prefix": make.adapter("llama", peft_type="PREFIX_TUNING", num_virtual_tokens=3),
    "a saved head that is missing": make.lora(modules_to_save=["lm_head"]).dropped(lambda n: "lm_head" in n),
    "mixtral's experts": make.lora("mixtral", target_modules=["w1", "w2", "w3"]),
    "a classifier": make.adapter("bert", peft_type="LORA", r=4, target_modules=["query"], task_type="SEQ_CLS"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_judge_agrees(name):
    sample = SAMPLES[name]
    report = adapterfit.check(sample.adapter, base=sample.case.base, exact=True)
    assert report.exact.cannot == ""
    assert beside(report) == "same"
    if report.predicted == "raises" and "not found" not in report.raised.text:
        assert report.exact.raised == report.raised.text
    assert set(report.exact.versions) == {"peft", "transformers", "torch"}
    assert "agrees" in text.render(report)
    assert json.loads(json_report.render(report))["exact"]["agrees"] is True


@pytest.mark.parametrize(
    ("python", "why"),
    [
        pytest.param("/nowhere/bin/python", "cannot be started", id="a Python that is not there"),
        pytest.param("true", "ended without an answer", id="a program that is no Python"),
        pytest.param("sh", "ended without an answer", id="a shell"),
    ],
)
def test_a_judge_that_cannot_be_asked_says_why_and_changes_nothing(python, why):
    sample = make.lora()
    report = adapterfit.check(sample.adapter, base=sample.case.base, exact=True, python=python)
    assert why in report.exact.cannot
    assert report.verdict == "fits"
    assert "cannot check" in text.render(report)


def test_without_the_libraries_the_judge_says_so(tmp_path):
    import subprocess

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    sample = make.lora()
    report = adapterfit.check(
        sample.adapter, base=sample.case.base, exact=True, python=str(tmp_path / "bare/bin/python")
    )
    assert "torch, transformers and peft are needed" in report.exact.cannot


def test_the_judge_never_runs_code_that_the_base_names():
    sample = make.lora().on("llama", auto_map={"AutoModelForCausalLM": "evil.Model"})
    report = adapterfit.check(sample.adapter, base=sample.case.base, exact=True)
    assert report.exact.outcome == "loads"


def test_a_judge_of_other_versions_is_quoted_and_not_held_against_us():
    sample = make.lora().renamed(lambda n: "module." + n)
    report = adapterfit.check(sample.adapter, base=sample.case.base, exact=True)
    older = dataclasses.replace(report.exact, versions={**report.exact.versions, "peft": "0.10.0"}, outcome="raises")
    report = dataclasses.replace(report, exact=older)
    assert beside(report) == "other versions"
    assert "DISAGREES" not in text.render(report)
    assert "ours is for peft 0.21.2" in text.render(report, width=200)
    assert json.loads(json_report.render(report))["exact"]["agrees"] is True


def test_a_judge_who_answers_where_we_cannot_is_quoted():
    sample = make.lora().on("llama", model_type="unheard-of", architectures=["LlamaForCausalLM"])
    report = adapterfit.check(sample.adapter, base=sample.case.base)
    assert report.predicted == "cannot-tell"
    versions = {"peft": "0.21.2", "transformers": "5.23.0", "torch": "2.13.0"}
    report = dataclasses.replace(report, exact=Exact(outcome="loads", versions=versions))
    assert beside(report) == "undecided"
    assert "please report" not in text.render(report)
