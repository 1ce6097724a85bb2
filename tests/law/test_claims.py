"""What was executed is said by a run of the program, never by hand; and no run speaks of a claim that is not there."""

import pytest

from adapterfit.consumers import engines, facts, model_types, runs
from adapterfit.consumers.asked import LIBRARIES
from adapterfit.consumers.versions import version

ROWS = runs.rows()


@pytest.mark.parametrize("name", facts.names())
def test_nobody_writes_executed_by_hand(name):
    assert {claim.mark for claim in facts.load(name).claims} <= {"read", "suspected"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['consumer']} {row['version']} {row['claim']}")
def test_a_run_names_a_claim_as_it_stands_today(row):
    known = facts.load(row["consumer"])
    if known.name == "transformers":  # any of them has a meaning, between those whose model types are known
        first, *_, last = model_types.releases()
        assert version(first) <= version(row["version"]) <= version(last)
    else:
        assert row["version"] in engines.releases(known)
    claims = [claim for claim in known.claims if claim.id == row["claim"] and row["version"] in claim.versions]
    assert claims, "there is no such claim: run `make oracles`, or remove the line"
    assert row["value"] in [runs.digest(claim.value) for claim in claims], (
        "the claim is another one since it was run: run `make oracles`, or remove the line"
    )


def test_there_are_runs_and_none_refuted_its_claim():
    assert len(ROWS) > 50
    assert {row["outcome"] for row in ROWS} == {runs.CONFIRMED}


def test_no_two_lines_speak_of_the_same():
    keys = [(row["consumer"], row["version"], row["claim"], row["value"]) for row in ROWS]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_claim_about_a_library_was_run_or_says_why_it_is_not(name):
    known = facts.load(name)
    ran = {(row["claim"], row["value"]) for row in ROWS if row["consumer"] == name}
    for claim in known.claims:
        was_run = (claim.id, runs.digest(claim.value)) in ran
        assert was_run or claim.unrun, (
            f"{claim.id} {claim.versions.text}: run it (`make claims`), or say why it cannot be"
        )
        assert not (was_run and claim.unrun), f"{claim.id} {claim.versions.text} was run"
