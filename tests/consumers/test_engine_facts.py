"""The facts about engines: every claim is one that a rule can read, and a suspected one never weighs."""

import pytest

from adapterfit import discover
from adapterfit.consumers import cures, engines, facts
from adapterfit.diagnose.registry import all_causes

RULES = discover.members(engines.RULES)
COMMON = {"rule": str, "says": str, "note": str, "cure": str, "page": str, "covers": list}
PAGES = {entry.id for entry in all_causes()}
every_engine = pytest.mark.parametrize("name", engines.engines())


def problems(claim):
    """What keeps a claim's rule from reading it."""
    value, rule = claim.value, RULES[claim.value["rule"].replace("-", "_")]
    fields = {**COMMON, **rule.FIELDS}
    yield from (f"{claim.id}: unknown {key}" for key in value if key not in fields)
    yield from (f"{claim.id}: {key}" for key in set(value) & set(fields) if not isinstance(value[key], fields[key]))
    if value.get("cure", "merge") not in cures.CURES:
        yield f"{claim.id}: cure"
    if value.get("page", "rank-over-engine-limit") not in PAGES:
        yield f"{claim.id}: page"


@every_engine
def test_every_claim_is_one_that_its_rule_can_read(name):
    assert [problem for claim in facts.load(name).claims for problem in problems(claim)] == []


@every_engine
def test_every_claim_holds_for_a_version_that_is_known(name):
    known = facts.load(name)
    assert known.newest in engines.releases(known)
    assert [
        claim.id for claim in known.claims if not any(each in claim.versions for each in engines.releases(known))
    ] == []


@every_engine
def test_an_engine_is_found_by_each_of_its_names(name):
    known = facts.load(name)
    assert [engines.named(each) for each in (name, known.title, *known.aliases)] == [name] * (2 + len(known.aliases))


def test_every_rule_is_used():
    claims = [claim for name in engines.engines() for claim in facts.load(name).claims]
    used = {claim.value["rule"].replace("-", "_") for claim in claims}
    assert used == set(RULES)
