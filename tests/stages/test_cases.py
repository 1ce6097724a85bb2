"""Real, settled cases that lie beside the checkout: how often the first answer to their log is the right one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from shared_data import ROOT, need

TOOL = Path(__file__).resolve().parents[2] / "tools" / "why_score.py"


@pytest.fixture(scope="module")
def outcomes():
    cases = need(ROOT / "cases" / "cases.jsonl")
    spec = importlib.util.spec_from_file_location(TOOL.stem, TOOL)
    score = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(score)
    return list(score.outcomes(cases.read_text("utf-8").splitlines()))


def test_the_first_answer_is_right_for_95_in_100(outcomes):
    wrong = [outcome for outcome in outcomes if not outcome.first]
    assert len(wrong) <= 0.05 * len(outcomes), wrong


def test_the_right_answer_is_among_the_first_three_for_99_in_100(outcomes):
    wrong = [outcome for outcome in outcomes if not outcome.among_three]
    assert len(wrong) <= 0.01 * len(outcomes), wrong


def test_no_answer_that_says_it_is_certain_is_wrong(outcomes):
    assert [outcome for outcome in outcomes if outcome.surely_wrong] == []


def test_certainty_is_given_often_enough_to_be_of_use(outcomes):
    assert sum(outcome.confidence == "high" for outcome in outcomes) > len(outcomes) / 3
