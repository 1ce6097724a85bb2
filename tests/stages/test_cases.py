"""Real, settled cases that lie beside the checkout: how often the first answer to their log is the right one."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from shared_data import ROOT, need

TOOL = Path(__file__).resolve().parents[2] / "tools" / "why_score.py"


@pytest.fixture(scope="module")
def score():
    spec = importlib.util.spec_from_file_location(TOOL.stem, TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def outcomes(score):
    cases = need(ROOT / "cases" / "cases.jsonl")
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


def test_a_set_of_ones_own_counts_other_right_answers_and_texts_that_cannot_be_told(
    score, tmp_path, monkeypatch, capsys
):
    lora = "size mismatch for base_model.model.l.{}.q.lora_A.default.weight: copying a param with shape torch.Size([16, 64]) from checkpoint, the shape in current model is torch.Size([8, 64])."
    lines = [
        {"id": 1, "log": "\n".join(map(lora.format, range(2))), "cause": "rank-mismatch"},
        {"id": 2, "log": "\n".join(map(lora.format, range(2))), "cause": "wrong-base", "also": ["rank-mismatch"]},
        {"id": 3, "log": "\n".join(map(lora.format, range(2))), "cause": "wrong-base"},
        {"id": 4, "log": "it does not work", "cause": "none"},
        {"id": 5, "log": "", "cause": "wrong-base"},
    ]
    own = tmp_path / "own.jsonl"
    own.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    monkeypatch.setattr("sys.argv", ["why_score.py", "--cases", str(own), "--verbose"])
    assert score.main() == 0
    shown = capsys.readouterr().out
    assert "4 cases   first   3" in shown
    assert "surely wrong 1   right of those with confidence high 2/3, none 1/1" in shown
    assert "  3: wrong-base, answered rank-mismatch" in shown
