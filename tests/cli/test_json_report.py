"""`--format json`: the schema, and what the contract says beyond it."""

import json
from importlib import resources

import jsonschema
import pytest
import reports

from adapterfit.records import Finding, Fix, NotChecked, Raised
from adapterfit.report import json as face

SCHEMA = json.loads(resources.files("adapterfit.report").joinpath("schema/v1.json").read_text("utf-8"))


def parsed(report):
    return json.loads(face.render(report))


@pytest.mark.parametrize("build", reports.ALL.values(), ids=reports.ALL)
def test_every_report_obeys_the_schema(build):
    jsonschema.Draft202012Validator(SCHEMA).validate(parsed(build()))


def test_the_schema_is_itself_valid():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("build", reports.ALL.values(), ids=reports.ALL)
def test_the_schema_describes_every_key_that_is_written(build):
    document = parsed(build())
    assert list(document) == list(SCHEMA["properties"])
    for name in ("tool", "adapter", "base", "consumer", "counts"):
        if document[name] is not None:
            assert list(document[name]) == list(SCHEMA["properties"][name]["properties"])
    for finding in document["findings"]:
        assert list(finding) == list(SCHEMA["$defs"]["finding"]["properties"])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("verdict",), "fine"),
        (("predicted",), "maybe"),
        (("counts", "matched"), -1),
        (("findings", 0, "severity"), "fatal"),
        (("findings", 0, "fix", "safety"), "sure"),
        (("findings", 0, "id"), "Not_An_Id"),
        (("raised",), 3),
    ],
    ids=str,
)
def test_the_schema_refuses_words_that_are_not_in_the_contract(place, value):
    document = parsed(reports.report())
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(document)


def test_the_same_report_gives_the_same_bytes():
    assert face.render(reports.report()) == face.render(reports.report())


def test_the_output_is_ascii_and_ends_in_a_newline():
    text = face.render(reports.report(findings=[reports.finding(message="Größe 模型")]))
    assert text.isascii()
    assert text.endswith("}\n")
    assert json.loads(text)["findings"][0]["message"] == "Größe 模型"


def test_names_are_listed_and_counted():
    document = parsed(reports.report())
    assert document["findings"][0]["at"] == [reports.KEY.format(n) for n in range(5)]
    assert document["findings"][0]["count"] == 5


def test_what_is_left_out_is_said():
    document = parsed(reports.crowded())
    assert len(document["findings"]) + document["findings_left_out"] == 300
    assert document["findings_left_out"] > 0
    assert {finding["count"] for finding in document["findings"]} == {5_000}


def test_the_raised_lines_stay_lines():
    document = parsed(reports.report(raised=Raised("RuntimeError", "Error(s) in loading:\n\tsize mismatch")))
    assert document["raised"] == "RuntimeError: Error(s) in loading:\n    size mismatch"


def test_a_finding_without_a_fix_says_null():
    assert parsed(reports.report(findings=[reports.finding(fix=None)]))["findings"][0]["fix"] is None


def test_the_url_is_the_causes_page():
    assert parsed(reports.report())["findings"][0]["url"] == "docs/causes/wrapper-prefix.md"


def test_the_worst_report_stays_under_ten_megabytes():
    names = ("\u0100" * 5_000,) * 10_000
    wide = "\u0100" * 100_000
    worst = Finding("x", "error", wide, at=names, expected=wide, found=wide, fix=Fix("safe", wide))
    size = len(face.render(reports.report(findings=[worst] * 1_000, not_checked=[NotChecked(wide, wide)] * 1_000)))
    assert size < 10_000_000
