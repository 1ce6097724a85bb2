"""Facts about consumers: every file is as the schema says, and the schema refuses what is not."""

import copy

import pytest

from adapterfit.consumers import facts
from adapterfit.consumers.versions import version, version_range

GOOD = {
    "name": "peft",
    "title": "PEFT",
    "newest": "2.0",
    "claim": [
        {
            "id": "a-thing",
            "versions": "<1.5",
            "what": "It raises.",
            "value": "raises",
            "source": "read there",
            "date": facts.dt.date(2026, 1, 1),
            "mark": "read",
        }
    ],
}


def changed(**values):
    document = copy.deepcopy(GOOD)
    document["claim"][0].update(values)
    return document


@pytest.mark.parametrize("name", facts.names())
def test_every_file_of_facts_is_as_the_schema_says(name):
    loaded = facts.load(name)
    assert loaded.name == name
    assert loaded.claims
    assert list(loaded.releases) == sorted(loaded.releases, key=version)


def test_a_good_document_has_no_problem():
    assert list(facts.problems(GOOD, "peft")) == []
    assert list(facts.problems(changed(unrun="It needs a GPU."), "peft")) == []


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (changed(mark="heard"), "mark"),
        (changed(unrun=""), "unrun"),
        (changed(unrun="no GPU"), "unrun"),
        (changed(date="2026-01-01"), "date"),
        (changed(versions="1.5"), "range"),
        (changed(source=" "), "source"),
        (changed(since="1"), "unknown key"),
        (changed(id="A thing"), "kebab"),
        ({**GOOD, "name": "vllm"}, "name is"),
        ({key: value for key, value in GOOD.items() if key != "newest"}, "no newest"),
        ({**GOOD, "claim": [*GOOD["claim"], *changed(versions=">1.4")["claim"]]}, "two things"),
        ({**GOOD, "claim": [*GOOD["claim"], *changed(versions="")["claim"]]}, "two things"),
    ],
    ids=lambda value: value if isinstance(value, str) else "document",
)
def test_what_is_not_as_the_schema_says_is_named(document, said):
    assert any(said in problem for problem in facts.problems(document, "peft"))


def test_a_suspected_claim_is_shown_but_not_known():
    claim = facts.Claim("x", version_range(">=1"), "w", "s", facts.dt.date(2026, 1, 1), "suspected", "raises")
    loaded = facts.Facts("n", "N", "2", (claim,))
    assert loaded.claim("x", "1.2") is claim
    assert loaded.claim("x", "0.9") is None
    assert loaded.known("x", "1.2", "unknown") == "unknown"


@pytest.mark.parametrize(
    "ordered",
    [
        ("0.3.0", "0.14.0.dev0", "0.14", "0.14.1", "0.19.0", "0.19.1"),
        ("b999", "b6500"),
        ("0.18.0.dev0@abc123", "0.18.0"),
    ],
    ids="-".join,
)
def test_versions_are_ordered_by_their_numbers(ordered):
    assert all(version(one) < version(other) for one, other in zip(ordered, ordered[1:]))


def test_zeros_at_the_end_do_not_count():
    assert version("0.14") == version("0.14.0.0")


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [(">=0.14,<0.19.1", ["0.14.0", "0.19.0"], ["0.13.2", "0.19.1"]), ("==5.2", ["5.2.0"], ["5.2.1"]), ("", ["1"], [])],
    ids=["both", "one", "all"],
)
def test_a_range_holds_what_its_parts_say(text, inside, outside):
    found = version_range(text)
    assert [each in found for each in (*inside, *outside)] == [True] * len(inside) + [False] * len(outside)
