"""The facts about engines: every claim is one that a rule can read, and a suspected one never weighs."""

import pytest

from adapterfit import discover
from adapterfit.consumers import cures, engines, facts
from adapterfit.diagnose.registry import all_causes

RULES = discover.members(engines.RULES)
COMMON = {"rule": str, "says": str, "note": str, "cure": str, "page": str, "covers": list}
PAGES = {entry.id for entry in all_causes()}
CLAIMS = [
    pytest.param(claim, id=f"{name}-{claim.id}-{claim.versions.text}")
    for name in engines.engines()
    for claim in facts.load(name).claims
]


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_is_one_that_its_rule_can_read(claim):
    value = claim.value
    rule = RULES[value["rule"].replace("-", "_")]
    fields = {**COMMON, **rule.FIELDS}
    assert set(value) <= set(fields)
    assert [key for key, given in value.items() if not isinstance(given, fields[key])] == []
    assert value.get("cure", "merge") in cures.CURES
    assert value.get("page") is None or value["page"] in PAGES


@pytest.mark.parametrize("name", engines.engines())
def test_every_claim_holds_for_a_version_that_is_known(name):
    known = facts.load(name)
    assert known.newest in engines.releases(known)
    assert [
        claim.id for claim in known.claims if not any(each in claim.versions for each in engines.releases(known))
    ] == []


@pytest.mark.parametrize("name", engines.engines())
def test_an_engine_is_found_by_each_of_its_names(name):
    known = facts.load(name)
    assert [engines.named(each) for each in (name, known.title, *known.aliases)] == [name] * (2 + len(known.aliases))


def test_every_rule_is_used():
    used = {claim.values[0].value["rule"].replace("-", "_") for claim in CLAIMS}
    assert used == set(RULES)
