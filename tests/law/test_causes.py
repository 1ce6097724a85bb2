"""Every cause is a whole page, and every page is about one cause."""

import re
import subprocess
import sys

import pytest

from adapterfit.causes.cause import FACTS
from adapterfit.cli._page import HEADINGS, pages
from adapterfit.diagnose.registry import all_causes

FAMILIES = {"files", "names", "shapes", "vocabulary", "config", "versions", "values", "base", "consumers", "loading"}

PAGES = pages()
MODULES = {entry.id: entry.module for entry in all_causes()}

every_cause = pytest.mark.parametrize("cause", PAGES)


@every_cause
def test_a_cause_lies_in_a_known_family(cause):
    assert PAGES[cause].family in FAMILIES


@every_cause
def test_a_page_has_every_heading_in_order_and_none_is_empty(cause):
    sections = PAGES[cause].sections
    assert list(sections) == list(HEADINGS)
    assert all(sections.values())


@every_cause
def test_a_title_is_one_sentence_on_one_line(cause):
    title = PAGES[cause].title
    assert title.endswith(".")
    assert "\n" not in title


@every_cause
def test_the_head_uses_the_words_of_the_contract(cause):
    head = PAGES[cause].cause
    assert head.severity in {"error", "warning", "note"}
    assert head.level in {"beginner", "intermediate", "advanced"}
    assert set(head.needs) <= set(FACTS)
    assert head.minutes > 0


@every_cause
def test_a_page_shows_a_line_that_users_see_or_says_that_there_is_none(cause):
    head = PAGES[cause].cause
    assert head.messages
    assert all(head.messages)
    assert head.versions


@every_cause
def test_a_cause_is_found_in_files_or_in_a_log_or_names_what_a_reader_saw(cause):
    module = MODULES[cause]
    assert hasattr(module, "check") or hasattr(module, "recognise") or PAGES[cause].cause.codes


@every_cause
def test_a_cause_that_recognises_has_logs(cause):
    assert not hasattr(MODULES[cause], "recognise") or hasattr(MODULES[cause], "logs")


@every_cause
def test_a_cause_that_checks_has_examples(cause):
    assert not hasattr(MODULES[cause], "check") or hasattr(MODULES[cause], "examples")


def test_there_are_causes():
    assert PAGES


def test_no_two_causes_claim_the_same_code():
    claimed = [code for page in PAGES.values() for code in page.cause.codes]
    assert sorted(set(claimed)) == sorted(claimed)


def test_no_two_families_hold_the_same_cause():
    ids = [entry.id for entry in all_causes()]
    assert sorted(set(ids)) == sorted(ids)


@pytest.mark.parametrize("cause", MODULES)
def test_a_cause_that_checks_lies_in_its_family_one_that_names_a_flaw_in_read_and_any_other_in_logged(cause):
    module = MODULES[cause]
    folder = "" if hasattr(module, "check") else "read" if module.CAUSE.codes else "logged"
    assert module.__name__.split(".")[3:-1] == [folder] * bool(folder)


def test_a_check_without_a_flaw_imports_no_cause_that_only_names_one():
    script = (
        "import sys; from adapterfit.testing import make; import adapterfit; sample = make.lora('llama');"
        "report = adapterfit.check(sample.adapter, base=sample.case.base); assert report.verdict == 'fits';"
        "print([name for name in sys.modules if name.startswith('adapterfit.causes.') and name.count('.') == 4"
        " and ('.read.' in name or '.logged.' in name)])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


#: Rows of the table of families that are no cause: what could not be told apart.
NO_CAUSE = {"unsettled-misc"}


@pytest.mark.corpus
def test_every_family_of_failures_that_users_met_has_a_page(shared):
    text = (shared / "facts" / "failure_families.md").read_text("utf-8")
    families = set(re.findall(r"^\| \| `([a-z0-9-]+)` \|", text, re.MULTILINE)) - NO_CAUSE
    assert len(families) >= 60
    assert families - set(PAGES) == set()
