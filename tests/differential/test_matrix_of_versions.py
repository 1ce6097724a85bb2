"""Measured loads of older and newer versions beside our predictions: every so many rows of the shared matrix.

`make matrix` does all of them.
"""

import sys
from collections import Counter
from pathlib import Path

import pytest

import shared_data

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
shared_data.need(shared_data.MATRIX)

import matrix  # noqa: E402 - after the path and the skip

pytestmark = [pytest.mark.slow, pytest.mark.corpus]
#: Each test takes its own rows.
SAMPLE = 60


@pytest.fixture(scope="module")
def outcomes():
    return [matrix.outcome(row) for row in matrix.rows()[::SAMPLE]]


def test_at_least_98_of_100_predictions_are_what_was_measured(outcomes):
    wrong = Counter((each.truth, each.ours, each.row["kind"]) for each in outcomes if not each.agrees)
    assert sum(wrong.values()) <= 0.02 * len(outcomes), wrong


def test_no_silent_difference_is_called_a_load():
    silent = [row for row in matrix.rows() if row.get("warnclass") == ["SILENT"]]
    assert len(silent) > 500
    called = [row["kind"] for row in silent if matrix.outcome(row).false_fit]
    assert called == []


def test_the_exception_that_is_announced_is_of_the_class_that_was_raised(outcomes):
    both = [each for each in outcomes if each.ours == each.truth == "raises" and each.report.raised is not None]
    same = [(matrix.same_class(each.row, each.report.raised.text), each.row) for each in both]
    assert len([is_so for is_so, _ in same if is_so]) > 100
    assert [(row["loader_peft"], row["kind"], row["detail"][:60]) for is_so, row in same if is_so is False] == []
