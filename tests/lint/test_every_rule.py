"""Every rule against its own snippets: firing ones fire, near-misses stay silent, a fix mends, and mends once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

pytest.importorskip("libcst", reason="libcst is not installed: pip install adapterfit[lint]")

from adapterfit.cli._page import HEADINGS, parse
from adapterfit.diagnose.registry import all_causes
from adapterfit.lint import engine, files
from adapterfit.lint.rule import SAFE, UNSAFE, all_rules

RULES = all_rules()


def snippets(kind):
    for entry in RULES.values():
        for at, snippet in enumerate(getattr(entry.module, kind)):
            yield pytest.param(entry.id, snippet, id=f"{entry.id} {kind.lower()} snippet {at + 1}")


def mendable():
    return [param for param in snippets("FIRES") if param.values[1].fixed]


def place(folder: Path, snippet):
    """The snippet's files, in a folder that is the working folder too."""
    for name, text in snippet.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def found(code, folder, rules=None):
    return engine.findings(code, folder, rules)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mend(code, folder, rule, safeties):
    source = files.Source(folder / "script.py", code.encode())
    result, data = engine.lint(source, {rule} if rule else None, safeties)
    return result, data.decode()


@pytest.mark.parametrize(("rule", "snippet"), list(snippets("FIRES")))
def test_a_firing_snippet_fires_and_no_other_rule_does_unless_it_is_named(rule, snippet, folder):
    place(folder, snippet)
    findings = found(snippet.code, folder)
    assert {finding.rule for finding in findings} == {rule, *snippet.also}
    assert all(finding.message for finding in findings)


@pytest.mark.parametrize(("rule", "snippet"), list(snippets("SILENT")))
def test_a_near_miss_is_silent_for_every_rule_unless_it_is_named(rule, snippet, folder):
    place(folder, snippet)
    ast.parse(snippet.code)
    assert {finding.rule for finding in found(snippet.code, folder)} == set(snippet.also)


@pytest.mark.parametrize(("rule", "snippet"), mendable())
def test_a_fix_gives_exactly_the_mended_snippet_and_the_rule_is_silent_then(rule, snippet, folder):
    place(folder, snippet)
    before = found(snippet.code, folder, {rule})
    assert {finding.fix.safety for finding in before if finding.fix} == {snippet.safety}
    result, text = mend(snippet.code, folder, rule, {snippet.safety})
    assert text == snippet.fixed
    assert result.fixed == {rule: len(before)}
    assert found(text, folder, {rule}) == ()


@pytest.mark.parametrize(("rule", "snippet"), mendable())
def test_a_fix_is_idempotent(rule, snippet, folder):
    place(folder, snippet)
    _, once = mend(snippet.code, folder, rule, {SAFE, UNSAFE})
    _, twice = mend(once, folder, rule, {SAFE, UNSAFE})
    assert twice == once


@pytest.mark.parametrize(("rule", "snippet"), list(snippets("FIRES")))
def test_all_rules_together_mend_to_an_end_that_is_python(rule, snippet, folder):
    place(folder, snippet)
    _, once = mend(snippet.code, folder, None, {SAFE, UNSAFE})
    ast.parse(once)
    assert [finding for finding in found(once, folder) if finding.fix] == []
    assert mend(once, folder, None, {SAFE, UNSAFE})[1] == once


@pytest.mark.parametrize(("rule", "snippet"), mendable())
def test_a_fix_leaves_windows_line_ends_alone(rule, snippet, folder):
    place(folder, snippet)
    _, text = mend(snippet.code.replace("\n", "\r\n"), folder, rule, {snippet.safety})
    assert text == snippet.fixed.replace("\n", "\r\n")


@pytest.mark.parametrize(("rule", "snippet"), [param for param in mendable() if param.values[1].safety == UNSAFE])
def test_an_unsafe_fix_is_not_carried_out_unasked(rule, snippet, folder):
    place(folder, snippet)
    _, text = mend(snippet.code, folder, rule, {SAFE})
    assert text == snippet.code


@pytest.mark.parametrize(("rule", "snippet"), [param for param in snippets("FIRES") if not param.values[1].fixed])
def test_a_snippet_without_a_mended_one_has_no_fix(rule, snippet, folder):
    place(folder, snippet)
    assert [finding.fix for finding in found(snippet.code, folder, {rule}) if finding.fix] == []


@pytest.mark.parametrize("entry", RULES.values(), ids=list(RULES))
def test_a_rule_has_a_whole_page(entry):
    page = parse(entry)
    assert list(page.sections) == list(HEADINGS)
    assert all(page.sections.values())


@pytest.mark.parametrize("entry", RULES.values(), ids=list(RULES))
def test_a_rule_names_a_cause_that_there_is(entry):
    assert not entry.rule.cause or entry.rule.cause in {cause.id for cause in all_causes()}


def test_there_are_enough_snippets():
    assert len(list(snippets("FIRES"))) >= 60
    assert len(list(snippets("SILENT"))) >= 60
