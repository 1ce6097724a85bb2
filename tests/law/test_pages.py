"""Every page has code that was run as it stands, or says why not; and a note has the form of one."""

import ast
import datetime as dt
import re

import pytest
from source import ROOT

from adapterfit.cli import _notes, _verified
from adapterfit.cli._page import LINT, pages, rules

PAGES = pages()
RULES = rules()
VERIFIED = _verified.read()
NOTES = [note for own in _notes.notes().values() for note in own]

every_page = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


@every_page
def test_a_page_has_broken_and_fixed_code(page):
    """Code that cannot be run where the tests run stands below a heading *Not run* that says why."""
    assert page.code.broken
    assert page.code.fixed
    for code in (page.code.setup, page.code.broken, page.code.fixed):
        ast.parse(code)
        assert [line for line in code.splitlines() if len(line) > 120 and "# raises" not in line] == []


@every_page
def test_code_is_what_was_run_when_the_page_was_verified(page):
    """Run `make pages` (or `python tools/verify_pages.py ID`) after changing a page's code."""
    if page.code.runs:
        assert VERIFIED.pages[page.id]["code"] == _verified.digest(page.code)
    else:
        assert page.id not in VERIFIED.pages


@every_page
def test_a_reason_why_code_is_not_run_is_a_sentence(page):
    reason = page.code.not_run
    assert not reason or (reason.endswith(".") and len(reason.split()) > 4)


@every_page
def test_a_page_says_when_and_with_what_it_was_verified_or_why_not(page):
    first = _verified.lines(page)[0]
    assert first.startswith("Not verified" if not page.code.runs else f"Verified with peft {VERIFIED.versions['peft']}")


def test_a_page_whose_code_changed_says_so():
    page = next(page for page in PAGES.values() if page.code.runs)
    changed = page._replace(code=page.code._replace(fixed=page.code.fixed + "\n1 + 1"))
    assert _verified.lines(changed)[0].startswith("Not verified: the code has changed")


def test_what_the_code_starts_from_is_what_it_was_when_the_pages_were_verified():
    """After a change of the prelude all pages are run again: `make pages`."""
    assert VERIFIED.prelude == _verified.prelude_digest(ROOT / "tools" / "page_prelude.py")


def test_nothing_is_verified_that_is_not_there():
    assert set(VERIFIED.pages) <= set(PAGES)


@every_page
def test_every_line_that_users_see_is_on_its_page_of_the_documentation_as_it_is(page):
    text = (ROOT / "docs" / "causes" / f"{page.id}.md").read_text("utf-8")
    blocks = "".join(re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert [line for line in page.cause.messages if line not in blocks] == []


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_rule_has_a_page_with_code(rule):
    assert rule.family == LINT
    assert rule.title
    assert rule.code.broken
    assert not rule.see or rule.see in PAGES


def test_rules_read_are_the_rules_there_are():
    lint = pytest.importorskip("adapterfit.lint.rule", reason="libcst is not installed")
    imported = lint.all_rules()
    assert list(RULES) == list(imported)
    assert {page.id: (page.cause.severity, page.see) for page in RULES.values()} == {
        entry.id: (entry.rule.severity, entry.rule.cause) for entry in imported.values()
    }


# ------------------------------------------------------------------------------------------------ notes


def faults(note):
    """What keeps a note from being one."""
    text = " ".join(" ".join(block) if isinstance(block, tuple) else block for block in note.blocks)
    prose = " ".join(block for block in note.blocks if isinstance(block, str))
    outside = re.sub(r"`[^`]*`", "", prose)
    rows = (
        (note.page not in {**PAGES, **RULES}, "lies in no page's folder"),
        (dt.date.fromisoformat(note.date) < dt.date(2023, 1, 1), "is older than PEFT"),
        (re.fullmatch(r"https://[\w.-]+/[\w./#?=&%-]+", note.source) is None, "names no https address as its source"),
        (re.search(r"\b[a-z_-]+ [<>=]*=? ?\d", note.versions) is None, "names no library with a version"),
        (not 20 <= len(text) <= 1500, "is a sentence to a screen long"),
        (re.search(r"[<>]|\]\(|!\[|https?:", outside) is not None, "holds HTML, a link or a picture"),
        ("\\x" in text or "\\u" in text, "holds characters that cannot be seen"),
    )
    return [what for bad, what in rows if bad]


@pytest.mark.parametrize("note", NOTES, ids=[f"{note.page}/{note.name}" for note in NOTES])
def test_a_note_is_dated_and_says_where_it_is_from_and_for_which_versions(note):
    assert faults(note) == []


HEAD = "source: https://github.com/huggingface/peft/issues/1\nversions: peft 0.18\n\n"


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("2019-01-01-old", HEAD + "A sentence that says something.", "older"),
        ("2026-01-01-x", HEAD.replace("https", "ftp") + "A sentence that says something.", "https"),
        ("2026-01-01-x", HEAD.replace("peft 0.18", "all") + "A sentence that says something.", "version"),
        ("2026-01-01-x", HEAD + "short", "long"),
        ("2026-01-01-x", HEAD + "See <script>alert(1)</script> for what to do.", "HTML"),
        ("2026-01-01-x", HEAD + "Look at [this page](https://x.y/z) for what to do.", "link"),
        ("2026-01-01-x", HEAD + "Right to left: \u202e turns the line around here.", "seen"),
    ],
)
def test_the_law_of_notes_sees(name, text, what):
    assert what in " ".join(faults(_notes.parse("wrapper-prefix", name, text)))


@pytest.mark.parametrize(
    ("name", "text"),
    [("undated", HEAD + "x"), ("2026-01-01-x", "no head at all"), ("2026-01-01-x", "source: x\n\nno versions")],
)
def test_what_has_not_the_form_of_a_note_is_refused(name, text):
    with pytest.raises(ValueError, match=r"begins with source"):
        _notes.parse("wrapper-prefix", name, text)
