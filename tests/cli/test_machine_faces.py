"""`--format sarif|junit|github|html|markdown`: read back by a reader of that format, with engines and with hostile text."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
import reports
from test_hostile_text import FORBIDDEN, HOSTILE, everywhere

import adapterfit
import sarif_shape
from adapterfit import discover
from adapterfit.report import _consumers
from adapterfit.testing import make

FACES = ("sarif", "junit", "github", "html", "markdown")
VOID = {"meta"}


def render(face, report):
    return discover.member("adapterfit.report", face).render(report, width=80, colour=False, quiet=False)


@pytest.fixture(scope="module")
def served():
    """A DoRA, for vLLM by name and for all engines."""
    sample = make.lora("llama", use_dora=True)
    return adapterfit.check(sample.adapter, base=sample.case.base, consumer=["vllm", "all"])


class Page(HTMLParser):
    """The texts of an HTML page by tag; fails on a tag that is not closed, or is not ours."""

    OURS = frozenset(["html", "head", "meta", "title", "style", "body", "h1", "h2", "table", "tr", "th", "td"])

    def __init__(self, text):
        super().__init__()
        self.open, self.cells = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag in self.OURS
        assert not {name for name, _ in attrs} - {"lang", "charset", "http-equiv", "content", "class"}
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "h1"):
            self.cells.append(data)


def cells(line):
    """The cells of a Markdown row as they are shown."""
    return [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_sarif_names_a_rule_for_every_result_and_holds_the_engines(served):
    document = json.loads(render("sarif", served))
    assert sarif_shape.faults(document) == []
    run = document["runs"][0]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert [rules[result["ruleIndex"]] for result in run["results"]] == [r["ruleId"] for r in run["results"]]
    assert {r["ruleId"]: r["level"] for r in run["results"]}["weights-refused-by-engine"] == "error"
    assert len(run["properties"]["engines"]) == len(served.consumers)


def test_junit_fails_for_an_engine_asked_for_by_name_and_only_informs_of_the_others(served):
    suite = ET.fromstring(render("junit", served).encode()).find("testsuite")
    engines = [case for case in suite.findall("testcase") if case.get("classname") == "adapterfit.engines"]
    failing = [case.get("name") for case in engines if case.find("failure") is not None]
    assert len(engines) == len(served.consumers)
    assert [name.split()[0] for name in failing] == ["vLLM"]
    assert suite.get("failures") == str(len(suite.findall(".//failure")))


def test_github_gives_one_command_a_line(served):
    lines = render("github", served).splitlines()
    assert all(re.match(r"::(error|warning|notice) title=[^:,]+::", line) for line in lines)
    assert any(line.startswith("::error title=weights-refused-by-engine::") for line in lines)


def test_html_and_markdown_hold_the_rows_of_the_engines(served):
    page = Page(render("html", served)).cells
    rows = [cells(line) for line in render("markdown", served).splitlines() if line.startswith("|")]
    for row in _consumers.rows(served):
        assert row.engine in page
        assert list(row[:5]) in rows


@pytest.mark.parametrize("build", reports.ALL.values(), ids=reports.ALL)
def test_the_verdict_is_in_every_face(build):
    report = build()
    for face in FACES:
        text = render(face, report).lower().replace("\\", "")
        assert report.verdict in text or report.verdict.replace("-", " ") in text, face


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("face", FACES)
def test_hostile_text_stays_text(face, hostile):
    text = render(face, everywhere(hostile))
    assert not FORBIDDEN.search(text)
    if face == "sarif":
        assert sarif_shape.faults(json.loads(text)) == []
    elif face == "junit":
        ET.fromstring(text.encode())
    elif face == "html":
        Page(text)
    elif face == "github":
        assert all(re.match(r"::(error|warning|notice) title=", line) for line in text.splitlines())
    else:
        assert not re.search(r"(?<!\\)[<>@`\[]", text)
