"""The mark of a claim comes from running it: confirmed, it is executed; refuted, it weighs nothing any more."""

import dataclasses
import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapterfit import serving
from adapterfit.consumers import engines, facts, runs
from adapterfit.pipeline import check
from adapterfit.testing import make

ROOT = Path(__file__).parents[2]
DAY = dt.date(2026, 1, 2)
VLLM = dataclasses.replace(facts.load("vllm"), ran={})
DORA = VLLM.claim("dora", "0.33.0")


def after(confirmed, value=None):
    """What is known of vLLM after a run of its claim about DoRA."""
    digest = runs.digest(DORA.value) if value is None else value
    return dataclasses.replace(VLLM, ran={("0.33.0", "dora", digest): runs.Run(confirmed, DAY)})


def answer(known):
    sample = make.lora(use_dora=True)
    return engines.judge(known, "0.33.0", serving.sight(check(sample.adapter, base=sample.case.base)))


def test_a_claim_that_was_never_run_is_read_at_most():
    assert {claim.mark for claim in VLLM.at("0.33.0")} <= {"read", "suspected"}


def test_a_confirmed_claim_is_executed_on_the_day_of_the_run():
    (effect,) = [effect for effect in answer(after(confirmed=True)).effects if effect.claim == "dora"]
    assert (effect.kind, effect.mark, effect.date) == ("refused", "executed", "2026-01-02")


def test_a_refuted_claim_is_only_a_note_and_refuses_nothing():
    found = answer(after(confirmed=False))
    assert {effect.kind for effect in found.effects if effect.mark == "suspected"} == {"note"}
    assert answer(VLLM).predicted == "raises"
    assert found.predicted == "cannot-tell"
    assert after(confirmed=False).known("dora", "0.33.0") is None
    assert "dora" not in after(confirmed=False).rules("0.33.0")


def test_without_its_claim_about_the_scale_nothing_is_said_of_the_scale():
    ran = {("0.33.0", "scale", runs.digest(VLLM.claim("scale", "0.33.0").value)): runs.Run(False, DAY)}
    sample = make.lora(use_rslora=True)
    sight = serving.sight(check(sample.adapter, base=sample.case.base))
    found = engines.judge(dataclasses.replace(VLLM, ran=ran), "0.33.0", sight)
    assert (found.predicted, found.ratios) == ("cannot-tell", ())


def test_a_run_says_nothing_about_a_claim_that_is_another_one_since():
    assert after(confirmed=True, value="0" * 12).claim("dora", "0.33.0").mark == DORA.mark


def test_a_run_of_one_version_says_nothing_about_another():
    assert after(confirmed=True).claim("dora", "0.28.0").mark == DORA.mark


TESTS = """
import pytest

@pytest.mark.bears("vllm", "0.33.0", "scale", "rank")
def test_as_claimed():
    pass

@pytest.mark.bears("vllm", "0.33.0", "rank", "dora")
def test_otherwise():
    assert False

@pytest.mark.bears("vllm", "0.33.0", "bias")
def test_not_run():
    pytest.skip("it is not installed")
"""


@pytest.mark.slow
def test_a_failing_oracle_is_recorded_as_refuting_its_claims(tmp_path):
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "oracles" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(TESTS)
    file = tmp_path / "verified.jsonl"
    old = {"consumer": "vllm", "version": "0.33.0", "claim": "bias", "outcome": runs.CONFIRMED}
    other = {"consumer": "vllm", "version": "0.28.0", "claim": "bias", "outcome": runs.CONFIRMED}
    file.write_text("".join(json.dumps({**row, "value": "", "date": "2026-01-02"}) + "\n" for row in (old, other)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--record", file, tmp_path]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert "1 failed, 1 passed, 1 skipped" in done.stdout, done.stdout
    found = {(row["version"], row["claim"]): row["outcome"] for row in runs.rows(file)}
    assert found == {
        ("0.28.0", "bias"): "confirmed",
        ("0.33.0", "scale"): "confirmed",
        ("0.33.0", "rank"): "refuted",
        ("0.33.0", "dora"): "refuted",
    }
    known = dataclasses.replace(VLLM, ran=runs.read("vllm", file))
    assert known.claim("dora", "0.33.0").mark == "suspected"
    assert known.claim("scale", "0.33.0").mark == "executed"
    assert known.claim("bias", "0.33.0").mark == "read"
