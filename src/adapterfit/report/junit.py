"""`--format junit`: one test case for the verdict, one for each finding, engine and question that was not checked.

Source: the JUnit XML that CI servers read (`testsuites`, `testsuite`, `testcase`, `failure`, `skipped`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapterfit.report import _engines
from adapterfit.report._words import VERDICTS
from adapterfit.report.json import document

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from adapterfit.records import Report


def render(report: Report, *, width: int = 80, colour: bool = False, quiet: bool = False) -> str:  # noqa: ARG001 - a format's signature
    """An XML document. A finding that is an error fails, the others pass with their text as output."""
    from xml.etree.ElementTree import Element, SubElement, tostring

    found = document(report)
    suite = Element("testsuite", name=f"adapterfit {found['adapter']['label']}")
    _verdict(_case(suite, "verdict", "adapterfit"), found)
    for finding in () if quiet else found["findings"]:
        _finding(_case(suite, finding["id"], "adapterfit.findings"), finding)
    for name, predicted, said, asked in () if quiet else _engines.told(report):
        _engine(_case(suite, name, "adapterfit.engines"), predicted, said, asked=asked)
    for gap in () if quiet else found["not_checked"]:
        SubElement(_case(suite, gap["what"], "adapterfit.not-checked"), "skipped", message=gap["why"])
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    root = Element("testsuites")
    root.append(suite)
    return f"<?xml version='1.0' encoding='UTF-8'?>\n{tostring(root, encoding='unicode')}\n"


def _case(suite: Element, name: str, group: str) -> Element:
    from xml.etree.ElementTree import SubElement

    return SubElement(suite, "testcase", name=name, classname=group, time="0")


def _verdict(case: Element, found: dict[str, Any]) -> None:
    from xml.etree.ElementTree import SubElement

    said = f"{found['verdict']}: {VERDICTS[found['verdict']]}"
    if found["verdict"] == "cannot-tell":
        SubElement(case, "skipped", message=said)
        return
    text = "\n".join(filter(None, (said, found["raised"], found["next_step"])))
    _result(case, found["verdict"], text, fails=found["verdict"] != "fits")


def _finding(case: Element, finding: dict[str, Any]) -> None:
    fix = finding["fix"]
    lines = [finding["message"], *finding["at"], f"by itself: {finding['predicted']}"]
    lines += [f"fix ({fix['safety']}): {fix['summary']}"] if fix is not None else []
    _result(case, finding["id"], "\n".join([*lines, finding["url"]]), fails=finding["severity"] == "error")


def _engine(case: Element, predicted: str, said: str, *, asked: bool) -> None:
    """An engine asked for by name that spoils the adapter fails; the table of all engines only informs."""
    from xml.etree.ElementTree import SubElement

    if predicted == "cannot-tell":
        SubElement(case, "skipped", message=said)
    else:
        _result(case, predicted, said, fails=asked and predicted in _engines.FAULTS)


def _result(case: Element, kind: str, text: str, *, fails: bool) -> None:
    from xml.etree.ElementTree import SubElement

    if fails:
        SubElement(case, "failure", type=kind, message=text.split("\n", 1)[0]).text = text
    else:
        SubElement(case, "system-out").text = text
