"""Measured loads of older and newer versions beside our predictions: some rows of every kind of adapter and outcome.

A mistake that is made about one kind, or with one pair of libraries, shows here, however few rows of the shared matrix it
concerns: `make matrix` does all of them. Where the shared data is, its matrix must be there too.
"""

from collections import Counter, defaultdict

import pytest

import shared_data

shared_data.need(shared_data.ROOT)
assert (shared_data.MATRIX / "results.jsonl.gz").is_file()

import matrix  # noqa: E402 - after the path and the skip

pytestmark = [pytest.mark.slow, pytest.mark.corpus]
#: Rows of each kind of adapter and outcome, as far as there are so many.
OF_EACH = 2
#: Kinds of which some loads cannot be told: what decides stands in no file.
UNTOLD = {"adamss", "frod", "lora_gptoss_sq_down", "xlora"}
LOADERS = 15


def groups():
    """The rows of each kind and outcome, each group with its loaders in order."""
    found = defaultdict(list)
    for row in matrix.rows():
        found[row["kind"], matrix.truth(row)].append(row)
    return [sorted(found[key], key=lambda row: (matrix.loader_of(row), row["saver_peft"])) for key in sorted(found)]


def some(group, turn):
    """A few rows as far apart as can be; another `turn` begins at another loader."""
    step = len(group) / OF_EACH
    return [group[place] for place in sorted({int((n + turn % 7 / 7) * step) for n in range(OF_EACH)})]


@pytest.fixture(scope="module")
def outcomes():
    """Each with the number of rows that it stands for."""
    found = [(group, some(group, turn)) for turn, group in enumerate(groups())]
    return [(matrix.outcome(row), len(group) / len(rows)) for group, rows in found for row in rows]


def test_the_sample_has_every_kind_and_outcome_and_many_loads_of_every_pair(outcomes):
    loads = Counter(matrix.loader_of(each.row) for each, _ in outcomes)
    assert len(outcomes) >= 600
    assert len(loads) == LOADERS
    assert min(loads.values()) >= 20
    assert {each.row["kind"] for each, _ in outcomes} == {row["kind"] for row in matrix.rows()}
    assert {each.truth for each, _ in outcomes} == set(matrix.OUTCOMES)


def test_nothing_that_is_told_is_wrong(outcomes):
    told = [each for each, _ in outcomes if each.ours != "cannot tell"]
    wrong = [(each.truth, each.ours, each.row["kind"], matrix.loader_of(each.row)) for each in told if not each.agrees]
    assert wrong == []
    assert {each.row["kind"] for each, _ in outcomes if each.ours == "cannot tell"} <= UNTOLD


def test_at_least_99_of_100_loads_are_told_as_they_were_measured(outcomes):
    assert sum(rows for each, rows in outcomes if each.agrees) >= 0.99 * sum(rows for _, rows in outcomes)


def test_every_silent_difference_is_predicted():
    silent = [row for row in matrix.rows() if row.get("warnclass") == ["SILENT"]]
    assert len(silent) > 500
    missed = {(row["kind"], matrix.outcome(row).ours) for row in silent} - {(row["kind"], "differs") for row in silent}
    assert missed == {("lora_gptoss_sq_down", "cannot tell")}


def test_the_exception_that_is_announced_is_of_the_class_that_was_raised(outcomes):
    both = [each for each, _ in outcomes if each.ours == each.truth == "raises" and each.report.raised is not None]
    same = [(matrix.same_class(each.row, each.report.raised.text), each.row) for each in both]
    assert len([is_so for is_so, _ in same if is_so]) > 100
    assert [(row["loader_peft"], row["kind"], row["detail"][:60]) for is_so, row in same if is_so is False] == []
